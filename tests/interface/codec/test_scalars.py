"""Numbers, bools, strings and None."""

from __future__ import annotations

import math
from fractions import Fraction
from struct import pack
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.interface.codec import (
    Char,
    Float32,
    Int8,
    Int16,
    Int32,
    Int64,
    MismatchType,
    MismatchValue,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
    codec_for,
)
from tests.interface.codec.wire import (
    examples,
    hostile,
    malformed,
    read_from,
    refused,
    returned,
    sent,
    string16,
    survives,
)

INTS = [
    (Int8, "int8", "i", -(2**7), 2**7 - 1),
    (Int16, "int16", "i", -(2**15), 2**15 - 1),
    (Int32, "int32", "i", -(2**31), 2**31 - 1),
    (Int64, "int64", "q", -(2**63), 2**63 - 1),
    (int, "int64", "q", -(2**63), 2**63 - 1),
    (UInt8, "uint8", "I", 0, 2**8 - 1),
    (UInt16, "uint16", "I", 0, 2**16 - 1),
    (UInt32, "uint32", "I", 0, 2**32 - 1),
    (UInt64, "uint64", "Q", 0, 2**64 - 1),
    (Char, "char", "I", 0, 255),
]
OTHERS = [bool, float, Float32, str, None]


@pytest.mark.parametrize("hint, name, letter, low, high", INTS)
def test_ints(hint: Any, name: str, letter: str, low: int, high: int) -> None:
    codec = codec_for(hint)
    assert codec.name() == codec.describe({}) == name
    assert codec.fmt == letter
    for value in (low, high, 0, 1, 100):
        assert sent(hint, value) == pack("<" + letter, value)
        assert returned(hint, value) == value
    for value in (low - 1, high + 1, 2**70, -(2**70)):
        error = refused(hint, value)
        assert isinstance(error, MismatchValue)
        assert error.expected == f"{name}, {low} … {high}"
    for wrong in (True, False, 1.0, "1", None, b"1", [1]):
        assert isinstance(refused(hint, wrong), MismatchType)
    assert sent(hint, numpy.int64(7)) == sent(hint, 7)


@pytest.mark.parametrize("hint, name, letter, low, high", [row for row in INTS if row[1] in ("int8", "int16", "uint8")])
def test_a_word_outside_a_small_int_is_malformed(hint: Any, name: str, letter: str, low: int, high: int) -> None:
    assert name in malformed(hint, pack("<" + letter, high + 1))


def test_quick_is_what_struct_checks_by_itself() -> None:
    quick = {row[1]: codec_for(row[0]).quick for row in INTS}
    assert {name: pair and tuple(pair) for name, pair in quick.items()} == {
        "int8": None,
        "int16": None,
        "int32": ("i", "int"),
        "int64": ("q", "int"),
        "uint8": None,
        "uint16": None,
        "uint32": ("I", "int"),
        "uint64": ("Q", "int"),
        "char": None,
    }
    assert codec_for(float).quick == ("d", "float")
    assert codec_for(bool).quick is None
    assert codec_for(str).quick is None


@given(st.integers(-(2**63), 2**63 - 1))
def test_every_int(value: int) -> None:
    assert returned(int, value) == value


def test_bool() -> None:
    assert sent(bool, True) == b"\1\0\0\0"
    assert returned(bool, False) is False
    assert returned(bool, True) is True
    for wrong in (0, 1, None, "True", numpy.True_):
        assert refused(bool, wrong).expected == "bool"
    assert "neither 0 nor 1" in malformed(bool, b"\2\0\0\0")


@given(st.floats())
def test_floats(value: float) -> None:
    assert sent(float, value) == pack("<d", value)
    again = returned(float, value)
    assert again == value or (math.isnan(again) and math.isnan(value))


@given(st.floats(width=32, allow_nan=False))
def test_singles(value: float) -> None:
    assert sent(Float32, value) == pack("<f", value)
    assert returned(Float32, value) == value


def test_what_floats_take() -> None:
    assert returned(float, 3) == 3.0
    assert type(read_from(float, sent(float, 3))) is float
    assert sent(float, Fraction(1, 2)) == sent(float, 0.5)
    assert sent(float, numpy.float32(0.5)) == sent(float, 0.5)
    for wrong in (True, "1", None, 1j):
        assert isinstance(refused(float, wrong), MismatchType)
    assert "fits a float" in refused(float, 10**400).expected
    assert "fits a float32" in refused(Float32, 1e39).expected
    assert returned(Float32, math.inf) == math.inf


@given(
    st.text() | st.text(st.characters(codec="utf-16-le", max_codepoint=0x10FFFF)) | st.sampled_from(["\ud800", "\0"])
)
def test_strings(value: str) -> None:
    assert returned(str, value) == value


def test_string_bytes_and_errors() -> None:
    assert sent(str, "abc") == string16("abc")
    assert sent(str, "") == bytes(8)
    for wrong in (1, None, b"abc", ["a"]):
        assert isinstance(refused(str, wrong), MismatchType)
    error = refused(str, "x" * 40_960)
    assert isinstance(error, MismatchValue)
    assert error.given == "one of 40960 characters"
    assert "null string" in malformed(str, b"\xff\xff\xff\xff\0\0\0\0")


def test_none_takes_nothing() -> None:
    assert sent(None, None) == b""
    assert returned(None, None) is None
    assert refused(type(None), 0).expected == "None"


@pytest.mark.parametrize("hint", [*(row[0] for row in INTS), *OTHERS])
@examples
@given(data=hostile)
def test_hostile_bytes(hint: Any, data: bytes) -> None:
    survives(hint, data)
