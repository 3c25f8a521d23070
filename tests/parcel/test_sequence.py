"""MessageSequence as a whole: making one, positions, sizes, capacity, life cycle (also _base.py)."""

from __future__ import annotations

import copy
import os
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.errors import (
    ParamTypeError,
    ParamValueError,
    ParcelMemoryError,
    ParcelReadError,
    ParcelWriteError,
    TooBigError,
)
from binderkit.parcel import MessageSequence
from binderkit.parcel.objects import KIND_FD, KIND_REMOTE, OwnedFd, Transferable


def sized(size: int) -> MessageSequence:
    return MessageSequence.from_bytes(bytes(size))


def test_create_and_the_constructor() -> None:
    for sequence in (MessageSequence.create(), MessageSequence()):
        assert isinstance(sequence, MessageSequence)
        assert (len(sequence), bytes(sequence)) == (0, b"")


def test_from_bytes_copies_and_appends() -> None:
    source = bytearray(b"\1\0\0\0")
    sequence = MessageSequence.from_bytes(source)
    source[0] = 9
    sequence.write_int(2)
    assert (sequence.read_int(), sequence.read_int()) == (1, 2)
    assert bytes(sequence) == b"\1\0\0\0\2\0\0\0"
    with pytest.raises(ParamTypeError):
        MessageSequence.from_bytes("text")  # type: ignore[arg-type]
    with pytest.raises(TooBigError):
        sized(limits.MAX_CAPACITY + 1)
    assert len(sized(limits.MAX_CAPACITY)) == limits.MAX_CAPACITY


def test_repr_tells_the_state() -> None:
    sequence = MessageSequence()
    sequence.write_remote_object(Transferable())
    sequence.rewind_read(8)
    assert repr(sequence) == "<MessageSequence writable size=24 read_position=8 objects=1>"
    sequence._load(b"1234", None)
    assert repr(sequence) == "<MessageSequence received size=4 read_position=0 objects=0>"
    sequence.reclaim()
    assert repr(sequence) == "<MessageSequence reclaimed size=0 read_position=0 objects=0>"


# --- sizes and capacity ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "capacity"),
    [(0, 0), (1, 64), (4, 64), (64, 64), (65, 128), (128, 128), (129, 256), (2048, 2048), (2049, 4096), (4096, 4096),
     (4097, 8192), (8192, 8192), (8193, 12_288), (200_000, 200_704), (204_800, 204_800)],
)  # fmt: skip
def test_capacity_growth(size: int, capacity: int) -> None:
    sequence = sized(size)
    assert sequence.get_capacity() == capacity
    assert sequence.get_writable_bytes() == capacity - size


def test_writable_bytes_of_openharmonys_examples() -> None:
    sequence = MessageSequence()
    assert (sequence.get_capacity(), sequence.get_writable_bytes()) == (0, 0)
    sequence.write_int(1)
    assert (sequence.get_capacity(), sequence.get_writable_bytes()) == (64, 60)


def test_the_capacity_does_not_shrink() -> None:
    sequence = sized(5000)
    sequence.rewind_write(0)
    assert sequence.get_capacity() == 8192


def test_set_capacity() -> None:
    sequence = sized(8)
    for wrong in (8, 0, -1, limits.MAX_CAPACITY + 1, 2**31):
        with pytest.raises(ParcelMemoryError) as caught:
            sequence.set_capacity(wrong)
        assert caught.value.code == 1900011
    for no_int in (None, "100", 1.5, True):
        with pytest.raises(ParamTypeError):
            sequence.set_capacity(no_int)  # type: ignore[arg-type]
    sequence.set_capacity(100)
    assert sequence.get_capacity() == 100
    sequence.write_byte_array([0] * 30)
    assert sequence.get_capacity() == 256


def test_set_capacity_lifts_the_limit() -> None:
    sequence = MessageSequence()
    sequence.set_capacity(limits.MAX_CAPACITY)
    sequence.write_array_buffer(bytes(limits.MAX_CAPACITY - 4), 0)
    assert len(sequence) == limits.MAX_CAPACITY
    with pytest.raises(TooBigError, match=str(limits.MAX_CAPACITY)):
        sequence.write_int(1)


def test_set_size() -> None:
    sequence = MessageSequence()
    sequence.write_int(-1)
    sequence.set_size(10)
    assert bytes(sequence) == b"\xff" * 4 + bytes(6)
    sequence.rewind_read(10)
    sequence.set_size(2)
    assert (bytes(sequence), sequence.get_read_position()) == (b"\xff\xff", 2)
    sequence.set_size(64)
    with pytest.raises(ParamValueError, match="above the capacity of 64"):
        sequence.set_size(65)
    for wrong in (-1, 2**40):
        with pytest.raises(ParamValueError):
            sequence.set_size(wrong)
    with pytest.raises(ParamTypeError):
        sequence.set_size(None)  # type: ignore[arg-type]
    assert len(sequence) == 64


# --- positions ---------------------------------------------------------------------------------------


def test_positions() -> None:
    sequence = MessageSequence()
    sequence.write_int(1)
    sequence.write_long(2)
    sequence.read_int()
    assert (sequence.get_size(), sequence.get_write_position()) == (12, 12)
    assert (sequence.get_read_position(), sequence.get_readable_bytes()) == (4, 8)
    sequence.rewind_read(0)
    assert sequence.read_int() == 1
    sequence.rewind_write(4)
    assert (len(sequence), sequence.get_readable_bytes()) == (4, 0)
    sequence.write_int(9)
    assert sequence.read_int() == 9


def test_bad_positions() -> None:
    sequence = sized(8)
    with pytest.raises(ParcelReadError, match="the data ends at 8"):
        sequence.rewind_read(9)
    with pytest.raises(ParcelWriteError, match="the data ends at 8"):
        sequence.rewind_write(9)
    for rewind in (sequence.rewind_read, sequence.rewind_write):
        with pytest.raises(ParamValueError):
            rewind(-1)
        for wrong in (None, "1", 1.0, True):
            with pytest.raises(ParamTypeError):
                rewind(wrong)  # type: ignore[arg-type]
    assert (len(sequence), sequence.get_read_position()) == (8, 0)


@given(st.integers(0, 76))
def test_rewind_write_drops_the_objects_it_cuts(position: int) -> None:
    sequence = MessageSequence()
    sequence.write_int(1)
    first, last = Transferable(), Transferable()
    for value in (first, Transferable(), last):
        sequence.write_remote_object(value)
    sequence.rewind_write(position)
    whole = max(0, (position - 4) // 24)
    assert len(sequence._objects or {}) == whole
    sequence.write_remote_object(last)
    sequence.rewind_read(position)
    assert sequence.read_remote_object() is last


def test_rewind_write_closes_descriptors() -> None:
    sequence = MessageSequence()
    before = len(os.listdir("/proc/self/fd"))
    with open("/dev/null") as file:
        sequence.write_file_descriptor(file.fileno())
        sequence.rewind_write(0)
    assert len(os.listdir("/proc/self/fd")) == before


# --- reclaimed and received ---------------------------------------------------------------------------


def test_reclaim() -> None:
    before = len(os.listdir("/proc/self/fd"))
    with MessageSequence() as sequence:
        with open("/dev/null") as file:
            sequence.write_file_descriptor(file)
        assert len(os.listdir("/proc/self/fd")) == before + 1
    assert len(os.listdir("/proc/self/fd")) == before
    sequence.reclaim()
    asked: list[Any] = [
        sequence.get_size, sequence.get_capacity, sequence.get_writable_bytes, sequence.get_readable_bytes,
        sequence.get_read_position, sequence.get_write_position, lambda: sequence.rewind_read(0),
        lambda: bytes(sequence), lambda: len(sequence),
    ]  # fmt: skip
    for question in asked:
        with pytest.raises(ParcelReadError, match="reclaimed") as caught:
            question()
        assert caught.value.code == 1900010
    for change in (sequence.rewind_write, sequence.set_size):
        with pytest.raises(ParcelWriteError, match="reclaimed"):
            change(0)
    with pytest.raises(ParcelMemoryError, match="reclaimed"):
        sequence.set_capacity(100)


def test_a_received_sequence_is_not_writable() -> None:
    sequence = MessageSequence._received(memoryview(b"\5\0\0\0"), None)
    assert (sequence.get_size(), sequence.get_writable_bytes(), bytes(sequence)) == (4, 0, b"\5\0\0\0")
    for change in (sequence.rewind_write, sequence.set_size, sequence.write_int):
        with pytest.raises(ParcelWriteError, match="received"):
            change(0)
    with pytest.raises(ParcelMemoryError, match="received"):
        sequence.set_capacity(100)
    assert sequence.read_int() == 5


def test_loading_replaces_what_was_there() -> None:
    before = len(os.listdir("/proc/self/fd"))
    sequence = MessageSequence()
    with open("/dev/null") as file:
        sequence.write_file_descriptor(file)
    value = Transferable()
    sequence._load(bytes(28), {4: (KIND_REMOTE, value)})
    assert len(os.listdir("/proc/self/fd")) == before
    sequence.rewind_read(4)
    assert sequence.read_remote_object() is value


@pytest.mark.parametrize("offsets", [[-1], [1000], [41], [0, 23], [24, 0]])
def test_offsets_that_lie(offsets: list[int]) -> None:
    with OwnedFd(os.open("/dev/null", os.O_RDONLY)) as owner:
        sequence = sized(4)
        with pytest.raises(ParcelReadError, match="object record at"):
            sequence._load(bytes(64), dict.fromkeys(offsets, (KIND_FD, owner)))
        assert sequence.get_size() == 4
        owner.fileno()


def test_no_copies_that_would_share_descriptors() -> None:
    sequence = MessageSequence()
    for use in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="cannot be pickled"):
            use(sequence)
