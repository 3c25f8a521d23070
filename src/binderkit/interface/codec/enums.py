"""Enums and flags.

Owns: their wire form. Whole numbers travel as int32, or int64 if a member needs it; any other Enum as its members'
values, which must all be of one type. Rule upheld: what is no member, and bits no member has, are refused on both
sides.
"""

from __future__ import annotations

from enum import Enum, Flag
from typing import Any

from binderkit.interface.codec.base import Codec, Fixed, MismatchType, MismatchValue
from binderkit.interface.codec.buffers import BufferCodec
from binderkit.interface.codec.scalars import FloatCodec, FloatSize, StrCodec
from binderkit.parcel import MessageSequence

__all__ = ["NumberEnumCodec", "ValueEnumCodec", "enum_codec"]


def enum_codec(cls: type[Enum]) -> Codec:
    """Return the codec of an enum class.

    Raises:
        TypeError: it has no members, values of several types, of another type, or beyond 64 bits.
    """
    values = [member.value for member in cls.__members__.values()]
    if not values:
        raise TypeError(f"{cls.__qualname__} has no members")
    if all(isinstance(value, int) and not isinstance(value, bool) for value in values):
        return NumberEnumCodec(cls, values)
    by_kind: dict[type, Codec] = {
        str: StrCodec(),
        float: FloatCodec(FloatSize(64)),
        bytes: BufferCodec(bytes),
    }
    for kind, codec in by_kind.items():
        if all(isinstance(value, kind) for value in values):
            return ValueEnumCodec(cls, codec)
    raise TypeError(f"{cls.__qualname__}: the values of its members must all be int, str, float or bytes")


class _Described:
    cls: type[Enum]

    def _describe(self, types: dict[str, Any], form: str) -> Any:
        name, number = self.cls.__qualname__.rpartition("<locals>.")[2], 1
        title = name
        definition = {
            "enum": form,
            "flag": issubclass(self.cls, Flag),
            "members": {
                key: member.value if isinstance(member.value, (int, str, float)) else repr(member.value)
                for key, member in self.cls.__members__.items()
            },
        }
        while types.setdefault(name, definition) != definition:
            number += 1
            name = f"{title}#{number}"
        return {"enum": name}


class NumberEnumCodec(Fixed, _Described):
    """An Enum, IntEnum, Flag or IntFlag whose values are ints."""

    def __init__(self, cls: type[Enum], values: list[int]) -> None:
        mask = 0
        for value in values:
            mask |= value
        low, high = min(values), max(*values, mask if issubclass(cls, Flag) else 0)
        if not -(1 << 63) <= low <= high < 1 << 63:
            raise TypeError(f"{cls.__qualname__}: its values need more than 64 bits")
        super().__init__("i" if -(1 << 31) <= low and high < 1 << 31 else "q")
        self.cls = cls
        self.kinds = (cls,)
        self._mask = mask if issubclass(cls, Flag) else None
        self._members: dict[int, Enum] = {member.value: member for member in cls}
        self.from_word = self._member

    def to_word(self, value: Any) -> int:
        """Return the number of a member; see Fixed."""
        if not isinstance(value, self.cls):
            raise MismatchType.of(self.name(), value)
        word: int = value.value
        if self._mask is not None and word & ~self._mask:
            raise MismatchValue(f"{self.name()} with known bits only", f"{value!r}")
        return word

    def _member(self, word: int) -> Enum:
        member = self._members.get(word)
        if member is not None:
            return member
        if self._mask is None or word & ~self._mask:
            raise ValueError(f"{word} is no value of it")
        return self.cls(word)

    def name(self) -> str:
        """Return the class's name."""
        return self.cls.__qualname__.rpartition("<locals>.")[2]

    def describe(self, types: dict[str, Any]) -> Any:
        """Return ``{"enum": name}``; see Codec."""
        return self._describe(types, "int32" if self.fmt == "i" else "int64")


class ValueEnumCodec(Codec, _Described):
    """An Enum whose values are all of one type, but no ints."""

    def __init__(self, cls: type[Enum], value: Codec) -> None:
        self.cls = cls
        self.kinds = (cls,)
        self.minimum = value.minimum
        self._value = value
        self._members = {member.value: member for member in cls}

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append the value of a member; see Codec."""
        if not isinstance(value, self.cls):
            raise MismatchType.of(self.name(), value)
        self._value.write(out, value.value)

    def read(self, data: MessageSequence) -> Any:
        """Return a member; see Codec."""
        value = self._value.read(data)
        member = self._members.get(value)
        if member is None:
            data._malformed(self.name(), f"{value!r:.60} is no value of it")
        return member

    def name(self) -> str:
        """Return the class's name."""
        return self.cls.__qualname__.rpartition("<locals>.")[2]

    def describe(self, types: dict[str, Any]) -> Any:
        """Return ``{"enum": name}``; see Codec."""
        return self._describe(types, self._value.name())
