"""Scalars, strings, interface token, exception header."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.errors import (
    ParamTypeError,
    ParamValueError,
    ParcelReadError,
    ParcelWriteError,
    RemoteError,
    TooBigError,
)
from binderkit.parcel import MessageSequence

any_text = st.text(st.characters(exclude_categories=()), max_size=60)

INTEGERS = {"byte": (-128, 127), "short": (-32768, 32767), "char": (0, 255), "int": (-(2**31), 2**31 - 1),
            "long": (-(2**63), 2**63 - 1)}  # fmt: skip
VALUES: dict[str, st.SearchStrategy[Any]] = {
    **{name: st.integers(*bounds) for name, bounds in INTEGERS.items()},
    "float": st.floats(),
    "double": st.floats(),
    "boolean": st.booleans(),
    "string": any_text,
    "interface_token": any_text,
}
GOOD = {"byte": 1, "short": 1, "char": 1, "int": 1, "long": 1, "float": 1.5, "double": 1.5, "boolean": True,
        "string": "a", "interface_token": "a"}  # fmt: skip


@given(st.data(), st.lists(st.sampled_from(sorted(VALUES)), max_size=12))
def test_round_trip(data: st.DataObject, names: list[str]) -> None:
    written = [(name, data.draw(VALUES[name])) for name in names]
    sequence = MessageSequence()
    for name, value in written:
        getattr(sequence, f"write_{name}")(value)
    assert len(sequence) % 4 == 0
    for received in (sequence, MessageSequence._received(bytes(sequence), None)):
        for name, value in written:
            assert repr(getattr(received, f"read_{name}")()) == repr(value)
        assert received.get_readable_bytes() == 0


@pytest.mark.parametrize("name", INTEGERS)
def test_numbers_do_not_wrap(name: str) -> None:
    sequence = MessageSequence()
    low, high = INTEGERS[name]
    for value in (low - 1, high + 1, 2**70, -(2**70)):
        with pytest.raises(ParamValueError, match=f"write_{name} takes {low} … {high}") as caught:
            getattr(sequence, f"write_{name}")(value)
        assert caught.value.code == 401
    assert len(sequence) == 0


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", [True, False, 1.0, "1", None, b"1", [1], numpy.True_], ids=repr)
def test_only_integers_are_integers(name: str, value: object) -> None:
    sequence = MessageSequence()
    with pytest.raises(ParamTypeError, match=f"write_{name} takes an int"):
        getattr(sequence, f"write_{name}")(value)
    assert len(sequence) == 0


@pytest.mark.parametrize("name", INTEGERS)
def test_whatever_is_an_index_is_an_integer(name: str) -> None:
    class Index:
        def __index__(self) -> int:
            return 7

    sequence = MessageSequence()
    for value in (numpy.int64(7), numpy.uint8(7), Index()):
        getattr(sequence, f"write_{name}")(value)
        assert getattr(sequence, f"read_{name}")() == 7


@pytest.mark.parametrize("name", ["float", "double"])
def test_numbers_for_doubles(name: str) -> None:
    sequence = MessageSequence()
    for value in (3, numpy.float32(0.5), Fraction(1, 4)):
        getattr(sequence, f"write_{name}")(value)
        assert getattr(sequence, f"read_{name}")() == value
    for wrong in (True, "1", None, 1j):
        with pytest.raises(ParamTypeError, match="takes a number"):
            getattr(sequence, f"write_{name}")(wrong)
    with pytest.raises(ParamValueError, match="too large"):
        getattr(sequence, f"write_{name}")(10**400)
    assert len(sequence) == 24


def test_a_float_keeps_what_a_double_keeps() -> None:
    sequence = MessageSequence()
    sequence.write_float(3.4028235e38 * 10)
    assert bytes(sequence) == struct.pack("<d", 3.4028235e38 * 10)


@pytest.mark.parametrize("value", [1, 0, None, "True", 1.0])
def test_only_bools_are_booleans(value: Any) -> None:
    sequence = MessageSequence()
    with pytest.raises(ParamTypeError, match="write_boolean takes a bool"):
        sequence.write_boolean(value)
    assert len(sequence) == 0


@pytest.mark.parametrize(
    ("name", "word"), [("byte", 128), ("byte", -129), ("short", 32768), ("char", -1), ("char", 256), ("boolean", 2)]
)
def test_a_word_that_is_no_such_value(name: str, word: int) -> None:
    sequence = MessageSequence()
    sequence.write_int(word)
    with pytest.raises(ParcelReadError):
        getattr(sequence, f"read_{name}")()
    assert sequence.read_int() == word


@pytest.mark.parametrize("name", GOOD)
def test_the_end_of_the_data(name: str) -> None:
    whole = MessageSequence()
    getattr(whole, f"write_{name}")(GOOD[name])
    for size in range(len(whole)):
        sequence = MessageSequence._received(bytes(whole)[:size], None)
        with pytest.raises(ParcelReadError, match=r"at position \d+") as caught:
            getattr(sequence, f"read_{name}")()
        assert caught.value.code == 1900010
        assert sequence.get_read_position() == 0


@pytest.mark.parametrize("name", GOOD)
def test_the_limit_of_a_transaction(name: str) -> None:
    sequence = MessageSequence()
    sequence.set_capacity(limits.MAX_TRANSACTION)
    sequence.set_size(limits.MAX_TRANSACTION)
    with pytest.raises(TooBigError, match=r"limit of a transaction is 204800; send large data as Ashmem") as caught:
        getattr(sequence, f"write_{name}")(GOOD[name])
    assert caught.value.code == 1900009
    assert isinstance(caught.value, ValueError)
    assert len(sequence) == limits.MAX_TRANSACTION
    one = MessageSequence()
    getattr(one, f"write_{name}")(GOOD[name])
    sequence.rewind_write(limits.MAX_TRANSACTION - len(one))
    getattr(sequence, f"write_{name}")(GOOD[name])  # reaches the limit exactly
    assert len(sequence) == limits.MAX_TRANSACTION


@pytest.mark.parametrize("name", GOOD)
def test_reclaimed_and_received(name: str) -> None:
    sequence = MessageSequence()
    sequence.reclaim()
    with pytest.raises(ParcelReadError, match="reclaimed"):
        getattr(sequence, f"read_{name}")()
    for unwritable, state in ((sequence, "reclaimed"), (MessageSequence._received(b"", None), "received")):
        for value in (GOOD[name], object()):  # the state is told before a wrong argument
            with pytest.raises(ParcelWriteError, match=state) as caught:
                getattr(unwritable, f"write_{name}")(value)
            assert caught.value.code == 1900009


@pytest.mark.parametrize("name", ["string", "interface_token"])
def test_string_limits(name: str) -> None:
    sequence = MessageSequence()
    for text in ("a" * 40_959, "🙂" * 20_479 + "a"):
        getattr(sequence, f"write_{name}")(text)
        assert getattr(sequence, f"read_{name}")() == text
        sequence.rewind_write(0)
    for text in ("a" * 40_960, "🙂" * 20_480):
        with pytest.raises(ParamValueError, match="40960 UTF-16 units; it must be shorter than 40960") as caught:
            getattr(sequence, f"write_{name}")(text)
        assert caught.value.code == 401
    for wrong in (None, 1, b"a", ["a"]):
        with pytest.raises(ParamTypeError, match=f"write_{name} takes a str"):
            getattr(sequence, f"write_{name}")(wrong)
    assert len(sequence) == 0


def test_the_size_of_a_string() -> None:
    sequence = MessageSequence()
    sequence.write_string("constant")
    assert len(sequence) == 24  # 2 * 8 + 8 (reference 1.1)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (struct.pack("<iI", -1, 0), "null string"),
        (struct.pack("<iI", -2, 0), "length -2"),
        (struct.pack("<i4s", 1, b"a\0b\0"), "no NUL"),
        (struct.pack("<i4s", 0, b"\0\1\0\0"), "no NUL"),
        (struct.pack("<iI", 2**31 - 1, 0), "are left"),
        (struct.pack("<iI", 2, 0), "are left"),
    ],
)
def test_malformed_strings(data: bytes, why: str) -> None:
    sequence = MessageSequence._received(data, None)
    with pytest.raises(ParcelReadError, match=why):
        sequence.read_string()
    assert sequence.get_read_position() == 0


def test_a_request_for_something_else_has_no_interface_token() -> None:
    sequence = MessageSequence()
    sequence.write_string("IFoo")
    with pytest.raises(ParcelReadError, match="interface token"):
        sequence.read_interface_token()
    assert sequence.read_string() == "IFoo"


def test_exceptions_of_a_service() -> None:
    sequence = MessageSequence()
    sequence.write_no_exception()
    sequence.write_exception(-7, "no film in the camera")
    sequence.read_exception()
    with pytest.raises(RemoteError, match="no film in the camera") as caught:
        sequence.read_exception()
    assert caught.value.code == -7
    assert caught.value.text == "no film in the camera"
    assert sequence.get_readable_bytes() == 0


def test_a_failed_write_exception_leaves_nothing() -> None:
    sequence = MessageSequence()
    sequence.write_int(5)
    for code, text in ((0, "x"), (1, "x" * 40_960), (1, None), (2**31, "x")):
        with pytest.raises((ParamValueError, ParamTypeError)):
            sequence.write_exception(code, text)  # type: ignore[arg-type]
    assert len(sequence) == 4


def test_an_exception_without_its_text() -> None:
    sequence = MessageSequence()
    sequence.write_int(3)
    with pytest.raises(ParcelReadError):
        sequence.read_exception()
    assert sequence.get_read_position() == 0
