"""The state of a MessageSequence: positions, sizes, capacity, life cycle, and how failures are told.

Owns the fields below; the classes above it in the chain (_scalars -> _arrays
-> _transfers -> _parcelables -> sequence) only add methods. The fields are the
contract with the drivers:

``_out``      bytearray that is written; None when received or reclaimed.
``_in``       what is read: the same bytearray while writing, else the received
              bytes, bytearray or memoryview (format "B"); None when reclaimed.
              A driver must not change a received buffer any more: views that
              were read from it point into it.
``_pos``      read position, always within 0 … len(_in).
``_objects``  offset of a record -> (kind, value), offsets ascending; None
              while there is none. Values: see objects.KIND_*.
``_limit``    bytes a write may reach (limits.MAX_TRANSACTION unless raised).
``_reserved`` capacity asked for or reached, see ``get_capacity``.
``_blob``     the hold on the pooled slot of a large raw data block written
              here. A driver that needs the slot longer than the sequence
              takes its own (pool.Slot.hold).

Rules upheld: nothing half-written stays after a failed write; a failed read
leaves the read position alone; a count from the wire is checked against the
bytes that are left before anything is allocated. One thread at a time.
"""

from __future__ import annotations

from typing import Any, Final, NoReturn, TypeAlias

from binderkit import limits
from binderkit.errors import (
    ParamTypeError,
    ParamValueError,
    ParcelMemoryError,
    ParcelReadError,
    ParcelWriteError,
    TooBigError,
)
from binderkit.parcel.objects import KIND_BLOB, RECORD_SIZE, OwnedFd, SlotHold, release_dropped_slots

__all__ = ["Base", "Objects", "describe", "integer", "whole_number"]

Objects: TypeAlias = dict[int, tuple[int, object]]

_NOT_WRITABLE: Final = "cannot write: this MessageSequence was {state}; write into one made by MessageSequence.create()"
_RECLAIMED: Final = "cannot read: this MessageSequence was reclaimed; read what you need before reclaim()"


class Base:
    """State and bookkeeping; use MessageSequence."""

    __slots__ = ("_blob", "_in", "_limit", "_objects", "_out", "_pos", "_reserved")

    # "| Any" stands for None: the hot path lets the TypeError of a None speak instead of testing for it.
    _out: bytearray | Any
    _in: bytes | bytearray | memoryview | Any
    _pos: int
    _objects: Objects | None
    _limit: int
    _reserved: int
    _blob: SlotHold | None

    def __init__(self) -> None:
        self._out = self._in = bytearray()
        self._pos = self._reserved = 0
        self._objects = self._blob = None
        self._limit = limits.MAX_TRANSACTION

    # --- sizes and positions (reference 1.2) --------------------------------------------------

    def get_size(self) -> int:
        """Return the bytes of data.

        Raises:
            ParcelReadError: reclaimed (1900010).
        """
        return len(self._readable())

    def get_capacity(self) -> int:
        """Return the bytes this sequence has room for before it grows.

        0 before the first write, then 64, doubling up to 4096, then in steps of 4096, never above the limit of a
        transaction unless ``set_capacity`` raised it (reference 1.1, 1.2).

        Raises:
            ParcelReadError: reclaimed (1900010).
        """
        size = len(self._readable())
        if size > self._reserved:
            self._reserved = grown_capacity(size, self._limit)
        return self._reserved

    def get_writable_bytes(self) -> int:
        """Return capacity minus size: the bytes that fit before the capacity grows; 0 in a received sequence.

        Raises:
            ParcelReadError: reclaimed (1900010).
        """
        capacity = self.get_capacity()
        return 0 if self._out is None else capacity - len(self._out)

    def get_readable_bytes(self) -> int:
        """Return the bytes between the read position and the end.

        Raises:
            ParcelReadError: reclaimed (1900010).
        """
        return len(self._readable()) - self._pos

    def get_read_position(self) -> int:
        """Return where the next read starts, in bytes.

        Raises:
            ParcelReadError: reclaimed (1900010).
        """
        self._readable()
        return self._pos

    def get_write_position(self) -> int:
        """Return where the next write starts, in bytes: always the end of the data.

        Raises:
            ParcelReadError: reclaimed (1900010).
        """
        return len(self._readable())

    def set_size(self, size: int) -> None:
        """Cut the data to ``size`` bytes (dropping objects there) or lengthen it with zeros within the capacity.

        Raises:
            ParamTypeError, ParamValueError: not an int, negative, or above the capacity (401). OpenHarmony ignores
                that silently; we say so.
            ParcelWriteError: received or reclaimed (1900009).
        """
        out = self._writable()
        size = whole_number("set_size(size)", size)
        if size > self.get_capacity():
            raise ParamValueError(
                f"set_size({size}) is above the capacity of {self.get_capacity()} bytes; call set_capacity first"
            )
        if size < len(out):
            self._truncate(size)
        else:
            out += bytes(size - len(out))

    def set_capacity(self, size: int) -> None:
        """Reserve ``size`` bytes; above 204 800 this also raises what may be written (reference 1.2).

        Args:
            size: bytes, more than ``get_size()``, at most limits.MAX_CAPACITY. A transaction larger than
                limits.MAX_TRANSACTION may still be refused by the driver.

        Raises:
            ParamTypeError: not an int (401).
            ParcelMemoryError: too small, too large, or the sequence is received or reclaimed (1900011).
        """
        size = integer("set_capacity(size)", size)
        out = self._out
        if out is None:
            raise ParcelMemoryError(f"set_capacity({size}): this MessageSequence was {self._state()}")
        if not len(out) < size <= limits.MAX_CAPACITY:
            raise ParcelMemoryError(
                f"set_capacity({size}): must be above the size, {len(out)} bytes, and at most {limits.MAX_CAPACITY}; "
                "larger data belongs into Ashmem or write_raw_data_buffer"
            )
        self._reserved = size
        self._limit = max(self._limit, size)

    def rewind_read(self, position: int) -> None:
        """Set the read position.

        Args:
            position: bytes from the start, 0 … ``get_size()``.

        Raises:
            ParamTypeError, ParamValueError: not an int, or negative (401).
            ParcelReadError: beyond the end, or reclaimed (1900010).
        """
        size = len(self._readable())
        position = whole_number("rewind_read(position)", position)
        if position > size:
            raise ParcelReadError(f"rewind_read({position}): the data ends at {size}")
        self._pos = position

    def rewind_write(self, position: int) -> None:
        """Cut the data at ``position``; objects at or after it, or cut in half, are dropped (reference 1.1).

        Args:
            position: bytes from the start, 0 … ``get_size()``.

        Raises:
            ParamTypeError, ParamValueError: not an int, or negative (401).
            ParcelWriteError: beyond the end, received, or reclaimed (1900009).
        """
        out = self._writable()
        position = whole_number("rewind_write(position)", position)
        if position > len(out):
            raise ParcelWriteError(f"rewind_write({position}): the data ends at {len(out)}")
        self._truncate(position)

    def reclaim(self) -> None:
        """Give up data, objects and descriptors; every later read or write fails. A second call does nothing."""
        self._drop_objects(0)
        self._objects = self._out = self._in = None
        self._pos = 0
        release_dropped_slots()

    # --- for the classes above and the drivers ------------------------------------------------

    def _load(self, data: bytes | bytearray | memoryview, objects: Objects | None) -> None:
        """Turn this sequence into a received one: readable from the start, not writable.

        Args:
            data: the data area; kept, not copied. A memoryview must have the format "B".
            objects: offset of each record -> (kind, value), as in ``_objects``; the values are now this sequence's.

        Raises:
            ParcelReadError: an offset lies outside the data, or two records overlap (1900010); nothing was changed.
        """
        if objects:
            check_offsets(objects, len(data))
        self._drop_objects(0)
        self._out = None
        self._in = data
        self._pos = self._reserved = 0
        self._objects = objects

    def _state(self) -> str:
        if self._in is None:
            return "reclaimed"
        return "received" if self._out is None else "writable"

    def _readable(self) -> bytes | bytearray | memoryview:
        data = self._in
        if data is None:
            raise ParcelReadError(_RECLAIMED)
        return data

    def _writable(self) -> bytearray:
        out: bytearray | None = self._out
        if out is None:
            raise ParcelWriteError(_NOT_WRITABLE.format(state=self._state()))
        return out

    def _room(self, size: int) -> bytearray:
        """Return the data to append ``size`` bytes to, after checking that they may be written."""
        out: bytearray | None = self._out
        if out is None:
            raise ParcelWriteError(_NOT_WRITABLE.format(state=self._state()))
        if len(out) + size > self._limit:
            self._too_big(len(out) + size)
        return out

    def _overflow(self, start: int) -> NoReturn:
        """Take back plain data that was written from ``start`` on and say that it was too much."""
        size = len(self._out)
        del self._out[start:]
        self._too_big(size)

    def _too_big(self, size: int) -> NoReturn:
        raise TooBigError(
            f"the write would make the data {size} bytes, the limit of a transaction is {self._limit}; "
            "send large data as Ashmem (write_ashmem) or with write_raw_data_buffer"
        )

    def _truncate(self, size: int) -> None:
        """Cut the data at ``size``, with the objects there; the capacity stays what it was."""
        out = self._out
        self._drop_objects(size)
        self._reserved = self.get_capacity()
        del out[size:]
        self._pos = min(self._pos, size)

    def _drop_objects(self, size: int) -> None:
        """Forget the objects whose records do not end within the first ``size`` bytes."""
        objects = self._objects
        if not objects:
            return
        for offset in [offset for offset in objects if offset + RECORD_SIZE > size]:
            kind, value = objects.pop(offset)
            if isinstance(value, OwnedFd):
                value.close()
            elif kind == KIND_BLOB and self._blob is not None:
                self._blob.release()
                self._blob = None

    def _bad_integer(self, what: str, value: object, low: int, high: int, error: Exception | None) -> NoReturn:
        """Say why an integer could not be written."""
        self._writable()
        if isinstance(value, bool) or not hasattr(value, "__index__"):
            raise ParamTypeError(f"{what} takes an int, got {describe(value)}") from error
        raise ParamValueError(f"{what} takes {low} … {high}, got {describe(value)}") from error

    def _short(self, what: str, size: int, error: Exception | None = None) -> NoReturn:
        """Say that the data ends before ``size`` bytes of ``what``."""
        total = len(self._readable())
        raise ParcelReadError(
            f"cannot read {what} ({size} bytes) at position {self._pos}: {total - self._pos} of {total} bytes are "
            "left; read in the order in which the sender wrote"
        ) from error

    def _malformed(self, what: str, why: str) -> NoReturn:
        raise ParcelReadError(
            f"cannot read {what} at position {self._pos}: {why}; read in the order in which the sender wrote"
        )


def grown_capacity(size: int, limit: int) -> int:
    """Return the capacity a sequence of ``size`` bytes has grown to (reference 1.1)."""
    if size == 0:
        return 0
    if size > limits.CAPACITY_STEP:
        steps = -(-size // limits.CAPACITY_STEP)
        return max(size, min(steps * limits.CAPACITY_STEP, limit))
    capacity = limits.MIN_CAPACITY
    while capacity < size:
        capacity *= 2
    return max(size, min(capacity, limit))


def check_offsets(objects: Objects, size: int) -> None:
    """Check the offsets of received object records: ascending, whole, without overlap.

    Raises:
        ParcelReadError: one is not (1900010).
    """
    free = 0
    for offset in objects:
        if offset < free or offset + RECORD_SIZE > size:
            raise ParcelReadError(
                f"object record at {offset}: records are {RECORD_SIZE} bytes, ascending, within {size} bytes of data"
            )
        free = offset + RECORD_SIZE


def describe(value: object) -> str:
    """Return type and a short form of a value for an error text."""
    try:
        text = repr(value)
    except Exception as error:  # a broken repr must not hide the error that is being told
        text = f"<repr failed: {error!r}>"
    return f"{type(value).__name__} {text if len(text) <= 60 else text[:57] + '...'}"


def integer(what: str, value: object) -> int:
    """Return ``value`` as an int; anything without ``__index__``, and a bool, is a ParamTypeError (401)."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise ParamTypeError(f"{what} takes an int, got {describe(value)}")
    return int(value.__index__())


def whole_number(what: str, value: object) -> int:
    """As ``integer``, and a negative value is a ParamValueError (401)."""
    number = integer(what, value)
    if number < 0:
        raise ParamValueError(f"{what} must not be negative, got {number}")
    return number
