"""Parcelables: objects that write themselves into a sequence and read themselves from it.

Owns: the marker in front of each (1 present, 0 None; reference 1.1) and the
border to foreign code. Rule upheld: whatever a Parcelable's method does, a
failed write leaves nothing behind (bytes, objects, descriptors) and a failed
read leaves the read position where it was.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

from binderkit.errors import ParamTypeError, ParamValueError, ParcelableError, ParcelWriteError
from binderkit.parcel._base import describe
from binderkit.parcel._transfers import Transfers, object_list
from binderkit.parcel.parcelable import Parcelable

if TYPE_CHECKING:
    from binderkit.parcel.sequence import MessageSequence

__all__ = ["Parcelables"]


class Parcelables(Transfers):
    """Adds Parcelables; use MessageSequence."""

    __slots__ = ()

    def write_parcelable(self, value: Parcelable | None) -> None:
        """Write int32 1 and what ``value.marshalling`` writes; None as int32 0 (reference 1.1, 1.2).

        Raises:
            ParamTypeError: no Parcelable (401).
            ParcelWriteError: marshalling raised or did not return True (nothing of it stays), received, or
                reclaimed (1900009). TooBigError when the limit was crossed.
        """
        if value is not None:
            _check_parcelable("write_parcelable", value)
        start = len(self._writable())
        try:
            self._marshal(value)
        except BaseException:
            self._take_back(start)
            raise

    def read_parcelable(self, value: Parcelable) -> None:
        """Fill ``value`` with its ``unmarshalling``.

        Raises:
            ParamTypeError: no Parcelable (401).
            ParcelReadError: end of the data, or reclaimed (1900010).
            ParcelableError: no Parcelable there, or unmarshalling raised or did not return True (1900012). The read
                position is put back; ``value`` may have changed.
        """
        _check_parcelable("read_parcelable", value)
        start = self._pos
        try:
            if not self._unmarshal(value):
                raise ParcelableError(f"no Parcelable at position {start}; the sender wrote None, or something else")
        except BaseException:
            self._pos = start
            raise

    def write_parcelable_array(self, values: Iterable[Parcelable | None]) -> None:
        """Write an int32 count and each element as ``write_parcelable`` does, all or nothing (reference 1.2).

        Raises:
            As ``write_parcelable``.
        """
        elements = object_list("write_parcelable_array", values)
        for value in elements:
            if value is not None:
                _check_parcelable("write_parcelable_array", value)
        start = len(self._writable())
        try:
            self.write_int(len(elements))
            for value in elements:
                self._marshal(value)
        except BaseException:
            self._take_back(start)
            raise

    def read_parcelable_array(self, out: list[Any]) -> None:
        """Fill the Parcelables in ``out``; where None was written, the element becomes None (reference 1.2).

        Raises:
            ParamTypeError, ParamValueError: not a list of Parcelables, or its length is not the array's (401).
            ParcelReadError: end of the data, or reclaimed (1900010).
            ParcelableError: unmarshalling raised or did not return True (1900012). The read position is put back.
        """
        if not isinstance(out, list):
            raise ParamTypeError(f"read_parcelable_array takes a list of Parcelables, got {describe(out)}")
        for value in out:
            _check_parcelable("read_parcelable_array", value)
        start = self._pos
        try:
            count, self._pos, _ = self._count("a parcelable array", 4)
            if count != len(out):
                raise ParamValueError(f"read_parcelable_array: {count} elements were written, the list has {len(out)}")
            present = [self._unmarshal(value) for value in out]
        except BaseException:
            self._pos = start
            raise
        out[:] = [value if there else None for value, there in zip(out, present, strict=True)]

    def _marshal(self, value: Parcelable | None) -> None:
        if value is None:
            self.write_int(0)
            return
        self.write_int(1)
        try:
            done = value.marshalling(cast("MessageSequence", self))
        except ParcelWriteError:
            raise
        except Exception as error:
            raise ParcelWriteError(f"marshalling of {type(value).__qualname__} raised {error!r}") from error
        if done is not True:
            raise ParcelWriteError(f"marshalling of {type(value).__qualname__} returned {done!r}; it must return True")

    def _unmarshal(self, value: Parcelable) -> bool:
        """Fill ``value``; False when the sender wrote None."""
        at = self._pos
        marker = self.read_int()
        if marker == 0:
            return False
        if marker != 1:
            raise ParcelableError(f"no Parcelable at position {at}: its marker is {marker}, neither 0 nor 1")
        name = type(value).__qualname__
        try:
            done = value.unmarshalling(cast("MessageSequence", self))
        except Exception as error:
            raise ParcelableError(f"unmarshalling of {name} raised {error!r}") from error
        if done is not True:
            raise ParcelableError(f"unmarshalling of {name} returned {done!r}; it must return True")
        return True

    def _take_back(self, start: int) -> None:
        """Cut a failed write off; marshalling may itself have rewound or reclaimed the sequence."""
        if self._out is not None and len(self._out) > start:
            self._truncate(start)


def _check_parcelable(what: str, value: object) -> None:
    if not isinstance(value, Parcelable):
        raise ParamTypeError(f"{what} takes a Parcelable (marshalling and unmarshalling), got {describe(value)}")
