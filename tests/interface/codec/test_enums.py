"""Enums and flags."""

from __future__ import annotations

from enum import Enum, Flag, IntEnum, IntFlag, StrEnum, auto
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.interface.codec import MismatchType, MismatchValue, codec_for
from tests.interface.codec.wire import (
    examples,
    hostile,
    int32,
    int64,
    malformed,
    mutated,
    refused,
    returned,
    sent,
    string16,
    survives,
)


class Color(IntEnum):
    RED = 1
    GREEN = 2
    ROUGE = 1


class Plain(Enum):
    ONE = 1
    MINUS = -5


class Wide(IntEnum):
    SMALL = 1
    LARGE = 2**40


class Rights(Flag):
    READ = auto()
    WRITE = auto()
    ALL = READ | WRITE


class Bits(IntFlag):
    A = 1
    D = 8


class Far(Flag):
    TOP = 1 << 31


class Word(StrEnum):
    HELLO = "hello"
    BYE = "bye"


class Ratio(Enum):
    HALF = 0.5
    ALL = 1.0


class Raw(Enum):
    A = b"a"


class Empty(Enum):
    pass


class Mixed(Enum):
    A = 1
    B = "b"


class Bool(Enum):
    YES = True


class Huge(IntEnum):
    A = 2**64


ALL: list[Any] = [Color, Plain, Wide, Rights, Bits, Far, Word, Ratio, Raw]


@pytest.mark.parametrize("cls", ALL)
def test_every_member(cls: Any) -> None:
    for member in cls:
        assert returned(cls, member) is member
    assert returned(list[cls], list(cls)) == list(cls)


@pytest.mark.parametrize(
    "value, data",
    [
        (Color.RED, int32(1)),
        (Color.ROUGE, int32(1)),
        (Plain.MINUS, int32(-5)),
        (Wide.SMALL, int64(1)),
        (Rights.READ | Rights.WRITE, int32(3)),
        (Rights(0), int32(0)),
        (Bits.A | Bits.D, int32(9)),
        (Far.TOP, int64(1 << 31)),
        (Word.HELLO, string16("hello")),
        (Raw.A, int32(1) + b"a\0\0\0"),
    ],
)
def test_the_bytes(value: Enum, data: bytes) -> None:
    assert sent(type(value), value) == data
    assert returned(type(value), value) == value


@pytest.mark.parametrize(
    "cls, data",
    [
        (Color, int32(3)),
        (Color, int32(-1)),
        (Plain, int32(0)),
        (Wide, int64(2)),
        (Rights, int32(4)),
        (Rights, int32(-1)),
        (Bits, int32(2)),
        (Word, string16("Hello")),
        (Ratio, int64(0)),
        (Raw, int32(1) + b"b\0\0\0"),
        (list[Color], int32(2, 1, 3)),
    ],
)
def test_unknown_values_and_bits_are_malformed(cls: Any, data: bytes) -> None:
    assert "is no value of it" in malformed(cls, data)


def test_what_does_not_fit() -> None:
    for cls, wrong in [(Color, 1), (Color, Plain.ONE), (Plain, 1), (Word, "hello"), (Rights, 1), (Ratio, 0.5)]:
        assert isinstance(refused(cls, wrong), MismatchType)
    assert isinstance(refused(Bits, Bits(1 | 2)), MismatchValue)
    assert refused(list[Color], [Color.RED, 2]).path == ["[1]"]


@pytest.mark.parametrize(
    "cls, why", [(Empty, "no members"), (Mixed, "must all be"), (Bool, "must all be"), (Huge, "64 bits")]
)
def test_enums_that_cannot_travel(cls: Any, why: str) -> None:
    with pytest.raises(TypeError, match=why):
        codec_for(cls)


def test_descriptions() -> None:
    types: dict[str, Any] = {}
    assert codec_for(Color).describe(types) == codec_for(Color).describe(types) == {"enum": "Color"}
    codec_for(Rights).describe(types)
    codec_for(Word).describe(types)
    codec_for(Far).describe(types)
    assert types == {
        "Color": {"enum": "int32", "flag": False, "members": {"RED": 1, "GREEN": 2, "ROUGE": 1}},
        "Rights": {"enum": "int32", "flag": True, "members": {"READ": 1, "WRITE": 2, "ALL": 3}},
        "Word": {"enum": "str", "flag": False, "members": {"HELLO": "hello", "BYE": "bye"}},
        "Far": {"enum": "int64", "flag": True, "members": {"TOP": 2147483648}},
    }


@pytest.mark.parametrize("cls", ALL)
@examples
@given(data=st.data())
def test_hostile_bytes(cls: Any, data: st.DataObject) -> None:
    survives(cls, data.draw(hostile | mutated(sent(cls, next(iter(cls))))))
