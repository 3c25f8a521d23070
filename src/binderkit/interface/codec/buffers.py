"""Bytes and other buffers.

Owns: the form of a block of bytes: int32 size, then the bytes inline up to 32 KiB, in shared memory above (reference
1.4, as write_raw_data_buffer); 0 for none. A sequence carries one raw data block in shared memory; a further large one
is int32 -1 and an Ashmem.

Rules upheld: a size is checked against the data and the limits before anything is made; bytes and bytearray are copies
nobody else can change; a memoryview is read-only and shares the received memory, so nothing is copied, and its sender
could still change it while it is looked at.
"""

from __future__ import annotations

from struct import error as StructError
from struct import pack, unpack_from
from typing import Any, Final

from binderkit.errors import AshmemError, ParamTypeError
from binderkit.interface.codec.base import Codec, MismatchType, MismatchValue
from binderkit.limits import MAX_RAW_DATA, RAW_DATA_INLINE
from binderkit.memory.ashmem import Ashmem
from binderkit.parcel import MessageSequence
from binderkit.parcel._arrays import buffer_bytes
from binderkit.parcel.objects import KIND_BLOB

__all__ = ["BufferCodec", "read_block", "write_block"]

_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")
_IN_ASHMEM: Final = -1


class BufferCodec(Codec):
    """bytes, bytearray or memoryview; takes every C-contiguous buffer.

    Args:
        kind: what a read returns.
    """

    def __init__(self, kind: type[bytes] | type[bytearray] | type[memoryview]) -> None:
        self._kind = kind
        self.kinds = (kind,)

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append the bytes of a buffer; see Codec."""
        if value.__class__ is bytes and len(value) <= RAW_DATA_INLINE:
            size = len(value)
            target = out._writable()
            target += pack("<i", size)
            target += value
            target += _PADDING[size & 3]
            if len(target) > out._limit:
                out._too_big(len(target))
            return
        try:
            view = buffer_bytes(self.name(), value)
        except ParamTypeError:
            raise MismatchType.of(f"{self.name()} or another C-contiguous buffer", value) from None
        write_block(out, view)

    def read(self, data: MessageSequence) -> Any:
        """Return the bytes; see Codec."""
        view = read_block(data)
        return view if self._kind is memoryview else self._kind(view)

    def name(self) -> str:
        """Return "bytes", "bytearray" or "memoryview"."""
        return self._kind.__name__


def write_block(out: MessageSequence, view: memoryview) -> None:
    """Append a block.

    Args:
        view: single bytes.

    Raises:
        MismatchValue: above limits.MAX_RAW_DATA (401).
        TooBigError, QuotaError, MmapError: as write_raw_data_buffer.
    """
    size = len(view)
    if size > MAX_RAW_DATA:
        raise MismatchValue(f"at most {MAX_RAW_DATA} bytes (send an Ashmem instead)", f"{size} bytes")
    if size == 0:
        out.write_int(0)
        return
    if size > RAW_DATA_INLINE and any(kind == KIND_BLOB for kind, _ in (out._objects or {}).values()):
        _write_in_ashmem(out, view)
        return
    out.write_raw_data_buffer(view, size)


def _write_in_ashmem(out: MessageSequence, view: memoryview) -> None:
    size = len(view)
    with Ashmem.create("binderkit-block", size) as ashmem:
        ashmem.map_read_write_ashmem()
        ashmem.write_data_to_ashmem(view, size, 0)
        out.write_int(_IN_ASHMEM)
        out.write_ashmem(ashmem)


def read_block(data: MessageSequence) -> memoryview:
    """Return a block as a read-only view of single bytes, without copying received data.

    Raises:
        ParcelReadError: there is none (1900010).
    """
    pos = data._pos
    try:
        (size,) = unpack_from("<i", data._in, pos)
    except (StructError, TypeError) as error:
        data._short("a block of bytes", 4, error)
    if size > 0:
        if size > MAX_RAW_DATA:
            data._malformed("a block of bytes", f"a size of {size} is above {MAX_RAW_DATA}")
        return data.read_raw_data_buffer(size)
    data._pos = pos + 4
    if size == 0:
        return memoryview(b"")
    if size != _IN_ASHMEM:
        data._malformed("a block of bytes", f"its size is {size}")
    ashmem = data.read_ashmem()
    try:
        ashmem.map_readonly_ashmem()
        return ashmem.view()
    except AshmemError as error:
        data._malformed("a block of bytes", f"its shared memory cannot be used: {error}")
    finally:
        ashmem.close_ashmem()
