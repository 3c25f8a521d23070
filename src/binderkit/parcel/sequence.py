"""MessageSequence: the data of a call or of its reply.

Owns: how a sequence comes to be (written here, from bytes, received) and its
Python manners. Everything else stands in the classes it is made of, each
adding to the one before: _base (state, sizes, positions), _scalars, _arrays,
_transfers, _parcelables. The data area is OpenHarmony's Parcel, byte for byte.

Why a chain of classes and not a writer and a reader: OpenHarmony's sequence is
both, and a method call without a detour is what keeps a call fast.
"""

from __future__ import annotations

from types import TracebackType
from typing import Any

from binderkit import limits
from binderkit.errors import ParamTypeError, TooBigError
from binderkit.parcel._base import Objects, describe
from binderkit.parcel._parcelables import Parcelables

__all__ = ["MessageSequence"]


class MessageSequence(Parcelables):
    """Values on their way to or from another process (reference 1.2).

    Write with ``write_…`` and read with ``read_…`` in the same order. One made
    with ``create()`` (or the constructor) can be written and read back; a received
    one can only be read. ``bytes(sequence)`` is the data area, ``len(sequence)`` its
    size; leaving a ``with`` block reclaims it. Not for use by several threads at once.
    """

    __slots__ = ()

    @classmethod
    def create(cls) -> MessageSequence:
        """Return an empty sequence to write into (reference 1.2)."""
        return cls()

    @classmethod
    def from_bytes(cls, data: bytes | bytearray | memoryview) -> MessageSequence:
        """Return a sequence with a copy of ``data``, readable from the start; further writes append.

        Bytes carry no objects: where a record stands, reading the object raises.

        Raises:
            ParamTypeError: no buffer (401).
            TooBigError: above limits.MAX_CAPACITY (1900009).
        """
        try:
            view = memoryview(data)
        except TypeError as error:
            raise ParamTypeError(f"from_bytes takes bytes, got {describe(data)}") from error
        if view.nbytes > limits.MAX_CAPACITY:
            raise TooBigError(f"{view.nbytes} bytes; a sequence holds at most {limits.MAX_CAPACITY}")
        sequence = cls()
        sequence._out += view.tobytes()
        return sequence

    @classmethod
    def _received(cls, data: bytes | bytearray | memoryview, objects: Objects | None) -> MessageSequence:
        """Return a sequence as it came from another process; see ``_load``."""
        sequence = cls()
        sequence._load(data, objects)
        return sequence

    def __bytes__(self) -> bytes:
        return bytes(self._readable())

    def __len__(self) -> int:
        return len(self._readable())

    def __enter__(self) -> MessageSequence:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.reclaim()

    def __reduce__(self) -> Any:
        raise TypeError("a MessageSequence cannot be pickled; send bytes(sequence), or pass it in a call")

    def __repr__(self) -> str:
        size = 0 if self._in is None else len(self._in)
        objects = len(self._objects or ())
        return f"<MessageSequence {self._state()} size={size} read_position={self._pos} objects={objects}>"
