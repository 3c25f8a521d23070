"""What is more than bytes: remote objects, descriptors, Ashmem, raw data.

Owns: the meeting of data area and object table. Rules upheld: a descriptor is
duplicated when written and again when read (reference 1.1), so every holder
closes its own; a large raw data block is copied once, into pooled shared
memory, and read without a copy; whatever fails takes back all it wrote,
objects included; a Parcelable's own code never leaves a half-written sequence.

Ordinary reads over an object record are not refused (that would cost every
read a look-up): the record holds an index, nothing secret.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from struct import pack, unpack_from
from typing import Any, Protocol, cast

from binderkit import limits
from binderkit.errors import (
    AshmemError,
    DescriptorError,
    InvalidObjectError,
    ParamTypeError,
    ParamValueError,
    ParcelReadError,
    ParcelWriteError,
    TooBigError,
)
from binderkit.memory import pool
from binderkit.memory.ashmem import Ashmem
from binderkit.parcel._arrays import Arrays, buffer_bytes
from binderkit.parcel._base import describe, integer
from binderkit.parcel.objects import (
    BINDER_TYPE_BINDER,
    BINDER_TYPE_FD,
    KIND_BLOB,
    KIND_FD,
    KIND_REMOTE,
    RECORD_SIZE,
    OwnedFd,
    SlotHold,
    Transferable,
    duplicate,
    pack_record,
    release_dropped_slots,
    view_holding,
)

__all__ = ["HasFileno", "Transfers", "object_list"]


class HasFileno(Protocol):
    """A file, socket or anything else with a descriptor."""

    def fileno(self) -> int:
        """Return the descriptor."""
        ...


class Transfers(Arrays):
    """Adds what is more than bytes; use MessageSequence."""

    __slots__ = ()

    # --- remote objects -----------------------------------------------------------------------------

    def write_remote_object(self, value: Transferable) -> None:
        """Write a stub or a proxy (reference 1.2).

        Raises:
            InvalidObjectError: no remote object (1900008).
            ParcelWriteError: received or reclaimed (1900009).
            TooBigError: over the limit of a transaction, or of objects in one (1900009).
        """
        if not isinstance(value, Transferable):
            raise InvalidObjectError(f"write_remote_object takes a RemoteObject or RemoteProxy, got {describe(value)}")
        self._append_record(KIND_REMOTE, BINDER_TYPE_BINDER, value)

    def read_remote_object(self) -> Any:
        """Return the remote object (an IRemoteObject: the stub itself if it is of this process, else a proxy).

        Raises:
            InvalidObjectError: none at the read position (1900008).
            ParcelReadError: reclaimed (1900010).
        """
        pos = self._pos
        objects = self._objects
        kind, value = objects.get(pos, _NO_OBJECT) if objects else _NO_OBJECT
        if kind != KIND_REMOTE:
            self._readable()
            raise InvalidObjectError(f"no remote object at position {pos}; read in the order in which the sender wrote")
        self._pos = pos + RECORD_SIZE
        return value

    def write_remote_object_array(self, values: Iterable[Transferable]) -> None:
        """Write an int32 count and the objects, all or nothing (reference 1.2).

        Raises:
            ParamTypeError: no array (401).
            InvalidObjectError: an element is no remote object (1900008).
            ParcelWriteError, TooBigError: as ``write_remote_object`` (1900009).
        """
        elements = object_list("write_remote_object_array", values)
        for index, value in enumerate(elements):
            if not isinstance(value, Transferable):
                raise InvalidObjectError(f"write_remote_object_array: element {index} is {describe(value)}")
        out = self._room(4 + RECORD_SIZE * len(elements))
        self._check_object_count(len(elements))
        out += pack("<i", len(elements))
        for value in elements:
            self._append_record(KIND_REMOTE, BINDER_TYPE_BINDER, value)

    def read_remote_object_array(self, out: list[Any] | None = None) -> list[Any]:
        """Return the objects; given a list of as many elements, fill that and return it (reference 1.2).

        Raises:
            ParamTypeError, ParamValueError: ``out`` is not a list, or of another length (401).
            InvalidObjectError: the array holds something else (1900008).
            ParcelReadError: end of the data, no such array there, or reclaimed (1900010).
        """
        if out is not None and not isinstance(out, list):
            raise ParamTypeError(f"read_remote_object_array: the array to fill must be a list, got {describe(out)}")
        start = self._pos
        count, begin, _ = self._count("a remote object array", RECORD_SIZE)
        if out is not None and count != len(out):
            raise ParamValueError(f"read_remote_object_array: {count} objects were written, the list has {len(out)}")
        self._pos = begin
        try:
            values = [self.read_remote_object() for _ in range(count)]
        except InvalidObjectError:
            self._pos = start
            raise
        if out is None:
            return values
        out[:] = values
        return out

    # --- descriptors ----------------------------------------------------------------------------------

    @staticmethod
    def close_file_descriptor(fd: int) -> None:
        """Close a descriptor (reference 1.2).

        Raises:
            ParamTypeError: not an int (401).
            DescriptorError: it is not open (1900013).
        """
        fd = integer("close_file_descriptor(fd)", fd)
        try:
            os.close(fd)
        except (OSError, OverflowError) as error:
            raise DescriptorError(f"cannot close descriptor {fd}: {error}") from error

    @staticmethod
    def dup_file_descriptor(fd: int) -> int:
        """Return a duplicate of a descriptor; the caller closes it (reference 1.2).

        Raises:
            ParamTypeError: not an int (401).
            DescriptorError: it is not open, or there are too many (1900013).
        """
        return duplicate(integer("dup_file_descriptor(fd)", fd))

    def contain_file_descriptors(self) -> bool:
        """Return whether a descriptor travels along (Ashmem and large raw data have one too).

        Raises:
            ParcelReadError: reclaimed (1900010).
        """
        self._readable()
        return any(kind != KIND_REMOTE for kind, _ in (self._objects or {}).values())

    def write_file_descriptor(self, fd: int | HasFileno) -> None:
        """Write a duplicate of a descriptor; the caller keeps its own (reference 1.1, 1.2).

        Args:
            fd: a descriptor, or an object with ``fileno()``.

        Raises:
            ParamTypeError: neither (401).
            DescriptorError: it cannot be duplicated (1900013).
            ParcelWriteError, TooBigError: as ``write_remote_object`` (1900009).
        """
        self._writable()
        number = fd.fileno() if hasattr(fd, "fileno") else fd
        self._append_owned(OwnedFd(duplicate(integer("write_file_descriptor(fd)", number))))

    def read_file_descriptor(self) -> int:
        """Return a duplicate of the descriptor; the caller closes it.

        Raises:
            ParcelReadError: none at the read position, or reclaimed (1900010).
            DescriptorError: it cannot be duplicated (1900013).
        """
        fd = self._owned_at("a file descriptor").dup()
        self._pos += RECORD_SIZE
        return fd

    def write_ashmem(self, ashmem: Ashmem) -> None:
        """Write shared memory: a duplicate of its descriptor and its size; the caller keeps the Ashmem (reference 1.2).

        Raises:
            ParamTypeError: no Ashmem (401).
            ParcelWriteError, TooBigError: closed, or as ``write_remote_object`` (1900009).
        """
        if not isinstance(ashmem, Ashmem):
            raise ParamTypeError(f"write_ashmem takes an Ashmem, got {describe(ashmem)}")
        self._room(RECORD_SIZE + 4)
        try:
            owner = OwnedFd(ashmem._dup())
        except AshmemError as error:
            raise ParcelWriteError(f"cannot write {ashmem!r}: {error}") from error
        self._append_owned(owner)
        self.write_int(ashmem.get_ashmem_size())

    def read_ashmem(self) -> Ashmem:
        """Return shared memory; the caller closes it.

        Raises:
            ParcelReadError: none at the read position, its memory could shrink or is smaller than announced, or
                reclaimed (1900010).
            DescriptorError: its descriptor cannot be duplicated (1900013).
        """
        pos = self._pos
        owner = self._owned_at("an Ashmem")
        data = self._readable()
        if pos + RECORD_SIZE + 4 > len(data):
            self._short("an Ashmem", RECORD_SIZE + 4)
        (size,) = unpack_from("<i", data, pos + RECORD_SIZE)
        try:
            ashmem = Ashmem._from_fd(owner.dup(), size)
        except AshmemError as error:
            raise ParcelReadError(f"no usable Ashmem at position {pos}: {error}") from error
        self._pos = pos + RECORD_SIZE + 4
        return ashmem

    # --- raw data ---------------------------------------------------------------------------------------

    def get_raw_data_capacity(self) -> int:
        """Return the largest raw data block in bytes: 134 217 728 (reference 1.2)."""
        return limits.MAX_RAW_DATA

    def write_raw_data_buffer(self, buffer: Any, size: int) -> None:
        """Write a block of raw data: up to 32 KiB with the data, above through shared memory (reference 1.4).

        Args:
            buffer: anything with a C-contiguous buffer; copied once.
            size: bytes of it, 1 … len(buffer), at most limits.MAX_RAW_DATA.

        Raises:
            ParamTypeError, ParamValueError: no buffer, or size below 1 or above the buffer's (401).
            ParcelWriteError: a second block above 32 KiB, received, or reclaimed (1900009).
            TooBigError: above 128 MiB, or over the limit of a transaction (1900009).
            QuotaError, MmapError: no shared memory to be had (29201, 1900001).
        """
        size = integer("write_raw_data_buffer(size)", size)
        view = buffer_bytes("write_raw_data_buffer", buffer)
        if size > limits.MAX_RAW_DATA:
            raise TooBigError(f"{size} bytes of raw data, the limit is {limits.MAX_RAW_DATA}; use an Ashmem")
        if not 0 < size <= len(view):
            raise ParamValueError(f"write_raw_data_buffer: size {size} of a buffer of {len(view)} bytes")
        if size > limits.RAW_DATA_INLINE:
            self._write_blob(view, size)
            return
        out = self._room(4 + (size + 3 & ~3))
        out += pack("<i", size)
        out += view[:size]
        out += bytes(-size & 3)

    def read_raw_data_buffer(self, size: int) -> memoryview:
        """Return a raw data block as a read-only view.

        In a received sequence nothing is copied: the view points into the received data or shared memory, and keeps
        it from being reused as long as it, or anything made from it, lives.

        Args:
            size: exactly what the sender wrote; 0 or less gives an empty view and reads nothing (reference 1.4).

        Raises:
            ParamTypeError: not an int (401).
            ParcelReadError: another size was written, end of the data, or reclaimed (1900010).
        """
        size = integer("read_raw_data_buffer(size)", size)
        data = self._readable()
        if size <= 0:
            return memoryview(b"")
        pos = self._pos
        if pos + 4 > len(data):
            self._short("raw data", size + 4)
        (written,) = unpack_from("<i", data, pos)
        if written != size:
            self._malformed("raw data", f"{written} bytes were written, {size} are asked for")
        if size > limits.RAW_DATA_INLINE:
            view = self._blob_view(pos + 4, size)
            self._pos = pos + 4 + RECORD_SIZE
            return view
        after = pos + 4 + (size + 3 & ~3)
        if after > len(data):
            self._short("raw data", after - pos)
        view = self._slice(pos + 4, pos + 4 + size)
        self._pos = after
        return view

    def _write_blob(self, view: memoryview, size: int) -> None:
        out = self._room(4 + RECORD_SIZE)
        if any(kind == KIND_BLOB for kind, _ in (self._objects or {}).values()):
            raise ParcelWriteError(
                f"a second raw data block above {limits.RAW_DATA_INLINE} bytes; a sequence carries one: use Ashmem"
            )
        self._check_object_count(1)
        release_dropped_slots()
        slot = pool.take(size)
        hold = SlotHold(slot)
        slot.buffer[:size] = view[:size]
        out += pack("<i", size)
        self._append_record(KIND_BLOB, BINDER_TYPE_FD, slot)
        self._blob = hold

    def _blob_view(self, offset: int, size: int) -> memoryview:
        kind, value = (self._objects or {}).get(offset, _NO_OBJECT)
        if kind != KIND_BLOB:
            self._malformed("raw data", "its shared memory is missing")
        if isinstance(value, pool.Slot):
            return view_holding(value, size)
        view = cast(memoryview, value)
        if len(view) < size:
            self._malformed("raw data", f"its shared memory has {len(view)} bytes instead of {size}")
        return view[:size]

    # --- records ----------------------------------------------------------------------------------------

    def _append_record(self, kind: int, record_type: int, value: object) -> None:
        out = self._room(RECORD_SIZE)
        objects = self._objects
        if objects is None:
            objects = self._objects = {}
        if len(objects) >= limits.MAX_OBJECTS_PER_MESSAGE:
            self._check_object_count(1)
        offset = len(out)
        out += pack_record(record_type, 0, len(objects), 0)
        objects[offset] = (kind, value)

    def _append_owned(self, owner: OwnedFd) -> None:
        try:
            self._append_record(KIND_FD, BINDER_TYPE_FD, owner)
        except BaseException:
            owner.close()
            raise

    def _check_object_count(self, more: int) -> None:
        count = len(self._objects or ()) + more
        if count > limits.MAX_OBJECTS_PER_MESSAGE:
            raise TooBigError(
                f"{count} objects in one sequence, the limit is {limits.MAX_OBJECTS_PER_MESSAGE}; "
                "send them in several calls"
            )

    def _owned_at(self, what: str) -> OwnedFd:
        _, value = (self._objects or {}).get(self._pos, _NO_OBJECT)
        if not isinstance(value, OwnedFd):
            self._readable()
            self._malformed(what, "there is no descriptor")
        return value


_NO_OBJECT: tuple[int, object] = (0, None)


def object_list(what: str, values: Iterable[Any]) -> Sequence[Any]:
    """Return the elements of an array of objects; anything that is none is a ParamTypeError (401)."""
    try:
        return list(values)
    except TypeError as error:
        raise ParamTypeError(f"{what} takes an array, got {describe(values)}") from error
