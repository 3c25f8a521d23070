"""Numbers, bools, strings and None.

Owns: the sizes users annotate (Int8 … UInt64, Char, Float32) and their wire forms (reference 5.5): up to 32 bits one
word, above two; a float is a double, a Float32 an IEEE single. Rules upheld: a bool is no int, a float is no int, an
int out of range is refused; an int is taken where a float is declared.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from operator import index
from struct import error as StructError
from struct import pack
from typing import Annotated, Any, Final

from binderkit.errors import ParamValueError
from binderkit.interface.codec.base import Codec, Fixed, MismatchType, MismatchValue, Quick
from binderkit.limits import MAX_STRING_UNITS
from binderkit.parcel import MessageSequence
from binderkit.parcel._scalars import encode_string

__all__ = [
    "BoolCodec",
    "Char",
    "Float32",
    "FloatCodec",
    "FloatSize",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "IntCodec",
    "IntSize",
    "NoneCodec",
    "StrCodec",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
]


@dataclass(frozen=True, slots=True)
class IntSize:
    """How an annotated int travels: ``Annotated[int, IntSize(16, True)]`` is Int16.

    Attributes:
        bits: 8, 16, 32 or 64. signed: whether negative numbers are allowed. title: name, if not the usual one.
    """

    bits: int
    signed: bool
    title: str = ""


@dataclass(frozen=True, slots=True)
class FloatSize:
    """How an annotated float travels: 32 or 64 bits."""

    bits: int


Int8 = Annotated[int, IntSize(8, True)]
Int16 = Annotated[int, IntSize(16, True)]
Int32 = Annotated[int, IntSize(32, True)]
Int64 = Annotated[int, IntSize(64, True)]
UInt8 = Annotated[int, IntSize(8, False)]
UInt16 = Annotated[int, IntSize(16, False)]
UInt32 = Annotated[int, IntSize(32, False)]
UInt64 = Annotated[int, IntSize(64, False)]
Char = Annotated[int, IntSize(8, False, "char")]
"""0 … 255 in a word, as MessageSequence.write_char."""
Float32 = Annotated[float, FloatSize(32)]

_LETTERS: Final = {
    (8, True): "i",
    (16, True): "i",
    (32, True): "i",
    (64, True): "q",
    (8, False): "I",
    (16, False): "I",
    (32, False): "I",
    (64, False): "Q",
}


class BoolCodec(Fixed):
    """bool: int32 0 or 1."""

    exact = bool
    kinds = (bool,)

    def __init__(self) -> None:
        super().__init__("i")
        self.from_word = _bool

    def name(self) -> str:
        """Return "bool"."""
        return "bool"

    def to_word(self, value: Any) -> Any:
        """Return the word of a bool; see Fixed."""
        if value is True or value is False:
            return value
        raise MismatchType.of("bool", value)


def _bool(word: int) -> bool:
    if word == 1:
        return True
    if word == 0:
        return False
    raise ValueError(f"{word} is neither 0 nor 1")


class IntCodec(Fixed):
    """int of a size."""

    kinds = (int,)

    def __init__(self, size: IntSize) -> None:
        letter = _LETTERS.get((size.bits, size.signed))
        if letter is None:
            raise TypeError(f"{size} is no size of an int; use 8, 16, 32 or 64 bits")
        super().__init__(letter)
        self._low = -(1 << size.bits - 1) if size.signed else 0
        self._high = (1 << size.bits - size.signed) - 1
        self._name = size.title or f"{'' if size.signed else 'u'}int{size.bits}"
        if size.bits >= 32:
            self.exact = int
            self.quick = Quick(letter, "int")
        else:
            self.from_word = self._in_range

    def name(self) -> str:
        """Return e.g. "int32"."""
        return self._name

    def to_word(self, value: Any) -> int:
        """Return the number of an int, or of anything with ``__index__`` but a bool; see Fixed."""
        if value.__class__ is not int:
            if isinstance(value, bool) or not hasattr(value, "__index__"):
                raise MismatchType.of(self._name, value)
            value = index(value)
        if not self._low <= value <= self._high:
            raise MismatchValue.of(f"{self._name}, {self._low} … {self._high}", value)
        return value  # type: ignore[no-any-return]

    def _in_range(self, word: int) -> int:
        if not self._low <= word <= self._high:
            raise ValueError(f"{word} is outside {self._low} … {self._high}")
        return word


class FloatCodec(Fixed):
    """float: a double, or a single for Float32."""

    exact = float
    kinds = (float,)

    def __init__(self, size: FloatSize) -> None:
        if size.bits not in (32, 64):
            raise TypeError(f"{size} is no size of a float; use 32 or 64 bits")
        super().__init__("d" if size.bits == 64 else "f")
        self._name = "float" if size.bits == 64 else "float32"
        self.quick = Quick(self.fmt, "float")

    def name(self) -> str:
        """Return "float" or "float32"."""
        return self._name

    def to_word(self, value: Any) -> float:
        """Return the number of a float, int or other real number, but not of a bool; see Fixed."""
        if isinstance(value, bool) or not isinstance(value, Real):
            raise MismatchType.of(self._name, value)
        try:
            number = float(value)
            pack(f"<{self.fmt}", number)
        except (OverflowError, StructError):
            raise MismatchValue.of(f"a number that fits a {self._name}", value) from None
        return number


class StrCodec(Codec):
    """str: String16."""

    minimum = 8
    kinds = (str,)
    # One call less in the hottest of all reads.
    read = staticmethod(MessageSequence.read_string)  # type: ignore[assignment]

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append a string; see Codec."""
        try:
            packed = encode_string(value)
        except TypeError:
            raise MismatchType.of("str", value) from None
        except ParamValueError:
            raise MismatchValue(
                f"a str of fewer than {MAX_STRING_UNITS} UTF-16 units", f"one of {len(value)} characters"
            ) from None
        target = out._out
        try:
            target += packed
        except TypeError:
            out._writable()
            raise
        if len(target) > out._limit:
            out._too_big(len(target))

    def name(self) -> str:
        """Return "str"."""
        return "str"


class NoneCodec(Codec):
    """None: nothing."""

    minimum = 0
    kinds = (type(None),)

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append nothing; see Codec."""
        if value is not None:
            raise MismatchType.of("None", value)

    def read(self, data: MessageSequence) -> None:
        """Return None."""

    def name(self) -> str:
        """Return "None"."""
        return "None"
