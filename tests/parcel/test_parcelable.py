"""What counts as a Parcelable, and how it travels (_parcelables.py)."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import (
    ParamTypeError,
    ParamValueError,
    ParcelableError,
    ParcelReadError,
    ParcelWriteError,
    TooBigError,
)
from binderkit.memory import pool
from binderkit.parcel import MessageSequence, Parcelable
from binderkit.parcel.objects import Transferable


class Point:
    def __init__(self, x: int = 0, name: str = "") -> None:
        self.x = x
        self.name = name

    def marshalling(self, sequence: MessageSequence) -> bool:
        sequence.write_int(self.x)
        sequence.write_string(self.name)
        return True

    def unmarshalling(self, sequence: MessageSequence) -> bool:
        self.x = sequence.read_int()
        self.name = sequence.read_string()
        return True


class Odd(Point):
    """Does with the sequence whatever the test says."""

    def __init__(self, act: Callable[[MessageSequence], Any]) -> None:
        super().__init__()
        self.act = act

    def marshalling(self, sequence: MessageSequence) -> bool:
        sequence.write_int(1)
        sequence.write_remote_object(Transferable())
        sequence.write_raw_data_buffer(bytes(40_000), 40_000)
        with open("/dev/null") as file:
            sequence.write_file_descriptor(file)
        return self.act(sequence)  # type: ignore[no-any-return]

    def unmarshalling(self, sequence: MessageSequence) -> bool:
        sequence.read_int()
        return self.act(sequence)  # type: ignore[no-any-return]


def fail(sequence: MessageSequence) -> bool:
    raise ZeroDivisionError("no")


def overflow(sequence: MessageSequence) -> bool:
    sequence.write_byte_array([1] * 60_000)
    return True


def interrupt(sequence: MessageSequence) -> bool:
    raise KeyboardInterrupt


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_a_parcelable_needs_only_its_two_methods() -> None:
    class Half:
        def marshalling(self, sequence: MessageSequence) -> bool:
            return True

    assert isinstance(Point(), Parcelable)
    assert not isinstance(Half(), Parcelable)
    sequence = MessageSequence()
    for wrong in (Half(), object(), 5, "x"):
        with pytest.raises(ParamTypeError, match="write_parcelable takes a Parcelable"):
            sequence.write_parcelable(wrong)  # type: ignore[arg-type]
        with pytest.raises(ParamTypeError):
            sequence.write_parcelable_array([Point(), wrong])  # type: ignore[list-item]
        with pytest.raises(ParamTypeError):
            sequence.read_parcelable(wrong)  # type: ignore[arg-type]
        with pytest.raises(ParamTypeError):
            sequence.read_parcelable_array([wrong])
    for no_array in (None, 5):
        with pytest.raises(ParamTypeError):
            sequence.write_parcelable_array(no_array)  # type: ignore[arg-type]
        with pytest.raises(ParamTypeError):
            sequence.read_parcelable_array(no_array)  # type: ignore[arg-type]
    assert len(sequence) == 0


@given(st.integers(-5, 5), st.text(max_size=5), st.lists(st.none() | st.integers(0, 9), max_size=5))
def test_round_trip(x: int, name: str, array: list[int | None]) -> None:
    sequence = MessageSequence()
    sequence.write_parcelable(Point(x, name))
    sequence.write_parcelable_array([None if number is None else Point(number) for number in array])
    point = Point()
    sequence.read_parcelable(point)
    assert (point.x, point.name) == (x, name)
    out = [Point(99) for _ in array]
    sequence.read_parcelable_array(out)
    assert [item and item.x for item in out] == array
    assert sequence.get_readable_bytes() == 0


def test_layout() -> None:
    sequence = MessageSequence()
    sequence.write_parcelable(Point(5))
    sequence.write_parcelable(None)
    assert bytes(sequence).hex() == "0100000005000000000000000000000000000000"


@pytest.mark.parametrize("array", [False, True])
@pytest.mark.parametrize(
    ("act", "error"),
    [
        (lambda s: False, ParcelWriteError),
        (lambda s: None, ParcelWriteError),
        (lambda s: s.write_int("x"), ParcelWriteError),
        (fail, ParcelWriteError),
        (overflow, TooBigError),
        (interrupt, KeyboardInterrupt),
        (lambda s: s.rewind_write(0), ParcelWriteError),
        (lambda s: s.reclaim(), ParcelWriteError),
    ],
)
def test_a_failed_write_leaves_nothing(
    array: bool, act: Callable[[MessageSequence], Any], error: type[BaseException]
) -> None:
    sequence = MessageSequence()
    sequence.write_raw_data_buffer(bytes(40_000), 40_000)  # warm the pool: its slots are kept
    sequence.reclaim()
    before, idle = descriptors(), pool.statistics()["idle"]
    sequence = MessageSequence()
    sequence.write_int(7)
    with pytest.raises(error):
        if array:
            sequence.write_parcelable_array([Point(1), Odd(act)])
        else:
            sequence.write_parcelable(Odd(act))
    assert "objects=0" in repr(sequence)
    assert (descriptors(), pool.statistics()["idle"]) == (before, idle)
    if "writable" in repr(sequence):
        assert len(sequence) in (0, 4)
        sequence.write_raw_data_buffer(bytes(40_000), 40_000)
    sequence.reclaim()


def test_the_text_of_a_failed_write() -> None:
    sequence = MessageSequence()
    with pytest.raises(ParcelWriteError, match=r"marshalling of Odd raised ZeroDivisionError\('no'\)") as caught:
        sequence.write_parcelable(Odd(fail))
    assert (caught.value.code, type(caught.value.__cause__)) == (1900009, ZeroDivisionError)
    with pytest.raises(ParcelWriteError, match="returned None; it must return True"):
        sequence.write_parcelable(Odd(lambda s: None))


@pytest.mark.parametrize("act", [lambda s: False, lambda s: None, lambda s: s.read_string(), fail])
def test_a_failed_read_puts_the_position_back(act: Callable[[MessageSequence], Any]) -> None:
    sequence = MessageSequence()
    sequence.write_parcelable_array([Point(1, "a")])
    with pytest.raises(ParcelableError, match="unmarshalling of Odd") as caught:
        sequence.read_parcelable_array([Odd(act)])
    assert (caught.value.code, sequence.get_read_position()) == (1900012, 0)
    sequence.rewind_read(4)
    sequence.rewind_write(12)
    with pytest.raises(ParcelableError, match="unmarshalling of Odd"):
        sequence.read_parcelable(Odd(act))
    assert sequence.get_read_position() == 4


@pytest.mark.parametrize("marker", [0, -1, 2])
def test_no_parcelable_there(marker: int) -> None:
    sequence = MessageSequence()
    sequence.write_int(marker)
    with pytest.raises(ParcelableError, match="no Parcelable at position 0") as caught:
        sequence.read_parcelable(Point())
    assert (caught.value.code, sequence.get_read_position()) == (1900012, 0)


def test_the_length_of_an_array_must_match() -> None:
    sequence = MessageSequence()
    sequence.write_parcelable_array([Point(), Point()])
    for out in ([], [Point()], [Point()] * 3):
        with pytest.raises(ParamValueError, match="2 elements were written") as caught:
            sequence.read_parcelable_array(out)
        assert (caught.value.code, sequence.get_read_position()) == (401, 0)


def test_the_end_of_the_data() -> None:
    reads: list[Callable[[MessageSequence], None]] = [
        lambda s: s.read_parcelable(Point()),
        lambda s: s.read_parcelable_array([Point()]),
    ]
    for read in reads:
        with pytest.raises(ParcelReadError):
            read(MessageSequence())
        sequence = MessageSequence()
        sequence.reclaim()
        with pytest.raises(ParcelReadError, match="reclaimed"):
            read(sequence)
        with pytest.raises(ParcelWriteError, match="reclaimed"):
            sequence.write_parcelable(Point())
