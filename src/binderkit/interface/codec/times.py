"""Dates, times, durations, UUIDs, decimal numbers and paths.

Owns: their wire forms. What has a usual text travels as that (String16): datetime, date and time in ISO 8601, Decimal,
paths. timedelta is an int64 of microseconds, a UUID its 16 bytes.

A time zone travels as its offset from UTC in whole seconds: a received datetime has a ``timezone``, not a ``ZoneInfo``,
and no ``fold``.
Rules upheld: a datetime is no date; text that is not of the type is malformed. A received Decimal can have an exponent
so large that turning it into an int takes all memory: compare it first.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Context, Decimal, InvalidOperation
from pathlib import Path, PurePath, PurePosixPath
from typing import Any, Final
from uuid import UUID

from binderkit.interface.codec.base import Codec, Fixed, MismatchType, MismatchValue
from binderkit.interface.codec.scalars import StrCodec
from binderkit.parcel import MessageSequence

__all__ = ["TextCodec", "TimedeltaCodec", "UuidCodec", "times_codec"]

_MICROSECOND: Final = timedelta(microseconds=1)
_LIMIT: Final = 1 << 63


class TextCodec(Codec):
    """A type whose values have a text.

    Args:
        cls: the type. title: its name. to_text: its text. from_text: the value of a text; ValueError, OverflowError or
            ArithmeticError if there is none. refused: classes that are instances of ``cls`` but something else.
    """

    minimum = 8

    def __init__(
        self,
        cls: type[Any],
        title: str,
        to_text: Callable[[Any], str],
        from_text: Callable[[str], Any],
        refused: tuple[type[Any], ...] = (),
    ) -> None:
        self.kinds = (cls,)
        self._cls = cls
        self._title = title
        self._to_text = to_text
        self._from_text = from_text
        self._refused = refused
        self._text = StrCodec()

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append the text of a value; see Codec."""
        if not isinstance(value, self._cls) or isinstance(value, self._refused):
            raise MismatchType.of(self._title, value)
        self._text.write(out, self._to_text(value))

    def read(self, data: MessageSequence) -> Any:
        """Return the value; see Codec."""
        text = data.read_string()
        try:
            return self._from_text(text)
        except (ValueError, OverflowError, ArithmeticError) as error:
            data._malformed(self._title, f"{text!r:.60}: {error!r:.120}")

    def name(self) -> str:
        """Return the type's name."""
        return self._title


def _odd_zone(value: datetime | time) -> bool:
    """Return whether the offset has a fraction of a second: Python reads some of them back as UTC."""
    offset = value.utcoffset()
    return offset is not None and offset.microseconds != 0


def _iso(value: datetime | time) -> str:
    if _odd_zone(value):
        raise MismatchValue.of("a time zone whose offset is of whole seconds", value)
    return value.isoformat()


def _from_iso(cls: type[datetime] | type[time]) -> Callable[[str], datetime | time]:
    def from_iso(text: str) -> datetime | time:
        value = cls.fromisoformat(text)
        if _odd_zone(value):
            raise ValueError("its time zone has a fraction of a second")
        return value

    return from_iso


def _decimal(text: str) -> Decimal:
    # A context of its own: with the caller's, nonsense could become NaN.
    return Decimal(text, Context(traps=[InvalidOperation]))


_PATHS: Final = (Path, PurePath, PurePosixPath)


def times_codec(cls: type[Any]) -> Codec | None:
    """Return the codec of one of the types that this module knows, None for any other."""
    if cls is timedelta:
        return TimedeltaCodec()
    if cls is UUID:
        return UuidCodec()
    if cls is datetime:
        return TextCodec(datetime, "datetime", _iso, _from_iso(datetime))
    if cls is date:
        return TextCodec(date, "date", date.isoformat, date.fromisoformat, refused=(datetime,))
    if cls is time:
        return TextCodec(time, "time", _iso, _from_iso(time))
    if cls is Decimal:
        return TextCodec(Decimal, "decimal", str, _decimal)
    return TextCodec(cls, "path", str, cls) if cls in _PATHS else None


class TimedeltaCodec(Fixed):
    """timedelta: int64 of microseconds."""

    kinds = (timedelta,)

    def __init__(self) -> None:
        super().__init__("q")
        self.from_word = _timedelta

    def to_word(self, value: Any) -> int:
        """Return microseconds; see Fixed."""
        if not isinstance(value, timedelta):
            raise MismatchType.of("timedelta", value)
        word = value // _MICROSECOND
        if not -_LIMIT <= word < _LIMIT:
            raise MismatchValue.of("timedelta of less than 2**63 microseconds", value)
        return word

    def name(self) -> str:
        """Return "timedelta"."""
        return "timedelta"


class UuidCodec(Fixed):
    """UUID: 16 bytes, most significant first."""

    kinds = (UUID,)

    def __init__(self) -> None:
        super().__init__("16s")
        self.from_word = _uuid

    def to_word(self, value: Any) -> bytes:
        """Return the bytes; see Fixed."""
        if not isinstance(value, UUID):
            raise MismatchType.of("uuid", value)
        return value.bytes

    def name(self) -> str:
        """Return "uuid"."""
        return "uuid"


def _timedelta(word: int) -> timedelta:
    return timedelta(microseconds=word)


def _uuid(word: bytes) -> UUID:
    return UUID(bytes=word)
