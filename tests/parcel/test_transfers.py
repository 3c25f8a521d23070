"""Remote objects, descriptors, Ashmem, raw data."""

from __future__ import annotations

import fcntl
import gc
import os
import struct
from typing import Any

import numpy
import pytest

from binderkit import limits
from binderkit.errors import (
    DescriptorError,
    InvalidObjectError,
    ParamTypeError,
    ParamValueError,
    ParcelReadError,
    ParcelWriteError,
    TooBigError,
)
from binderkit.memory import pool
from binderkit.memory.ashmem import Ashmem
from binderkit.parcel import MessageSequence
from binderkit.parcel.objects import KIND_BLOB, KIND_REMOTE, OwnedFd, Transferable, release_dropped_slots


def full(room: int) -> MessageSequence:
    """Return a sequence with ``room`` bytes left below the limit."""
    return MessageSequence.from_bytes(bytes(limits.MAX_TRANSACTION - room))


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- remote objects ---------------------------------------------------------------------------------


def test_remote_objects_round_trip() -> None:
    sequence = MessageSequence()
    one, two, three = Transferable(), Transferable(), Transferable()
    sequence.write_int(1)
    sequence.write_remote_object(one)
    sequence.write_remote_object_array([two, three])
    sequence.write_remote_object_array([])
    assert bytes(sequence)[4:28] == struct.pack("<IIQQ", 0x73622A85, 0, 0, 0)
    assert bytes(sequence)[32:56] == struct.pack("<IIQQ", 0x73622A85, 0, 1, 0)
    sequence.read_int()
    assert sequence.read_remote_object() is one
    position = sequence.get_read_position()
    assert sequence.read_remote_object_array() == [two, three]
    sequence.rewind_read(position)
    out: list[Any] = [None, None]
    assert sequence.read_remote_object_array(out) is out
    assert out == [two, three]
    assert sequence.read_remote_object_array() == []
    assert not sequence.contain_file_descriptors()


@pytest.mark.parametrize("wrong", [None, {}, 5, "x", object()])
def test_what_is_no_remote_object(wrong: Any) -> None:
    sequence = MessageSequence()
    with pytest.raises(InvalidObjectError) as caught:
        sequence.write_remote_object(wrong)
    assert caught.value.code == 1900008
    with pytest.raises(InvalidObjectError, match="element 1"):
        sequence.write_remote_object_array([Transferable(), wrong])
    assert len(sequence) == 0


def test_no_remote_object_there() -> None:
    sequence = MessageSequence()
    with pytest.raises(InvalidObjectError, match="no remote object at position 0"):
        sequence.read_remote_object()
    sequence.write_int_array([0] * 12)
    with pytest.raises(InvalidObjectError):
        sequence.read_remote_object()
    bare = MessageSequence.from_bytes(struct.pack("<i24x", 1))  # a record without its object
    with pytest.raises(InvalidObjectError):
        bare.read_remote_object_array()
    assert (sequence.get_read_position(), bare.get_read_position()) == (0, 0)


def test_remote_object_array_refusals() -> None:
    sequence = MessageSequence()
    with pytest.raises(ParamTypeError):
        sequence.write_remote_object_array(None)  # type: ignore[arg-type]
    sequence.write_remote_object_array([Transferable()])
    with pytest.raises(ParamValueError, match="1 objects were written, the list has 2"):
        sequence.read_remote_object_array([None, None])
    with pytest.raises(ParamTypeError):
        sequence.read_remote_object_array((None,))  # type: ignore[arg-type]
    assert sequence.get_read_position() == 0


def test_the_limits_of_remote_objects() -> None:
    sequence = full(24)
    with pytest.raises(TooBigError):
        sequence.write_remote_object_array([Transferable()])
    assert len(sequence) == limits.MAX_TRANSACTION - 24
    sequence.write_remote_object(Transferable())
    assert len(sequence) == limits.MAX_TRANSACTION
    many = MessageSequence()
    many.write_remote_object_array([Transferable()] * limits.MAX_OBJECTS_PER_MESSAGE)
    size = len(many)
    with pytest.raises(TooBigError, match="1025 objects in one sequence"):
        many.write_remote_object(Transferable())
    with pytest.raises(TooBigError, match="1025 objects in one sequence"):
        many.write_remote_object_array([Transferable()])
    assert len(many) == size


def test_reclaimed_objects() -> None:
    sequence = MessageSequence()
    sequence.write_remote_object(Transferable())
    sequence.reclaim()
    reads: list[Any] = [
        sequence.read_remote_object, sequence.read_remote_object_array, sequence.read_file_descriptor,
        sequence.read_ashmem, sequence.contain_file_descriptors, lambda: sequence.read_raw_data_buffer(4),
    ]  # fmt: skip
    for read in reads:
        with pytest.raises(ParcelReadError, match="reclaimed"):
            read()
    with Ashmem.create("x", 4) as ashmem:
        writes: list[Any] = [
            lambda: sequence.write_remote_object(Transferable()),
            lambda: sequence.write_remote_object_array([]),
            lambda: sequence.write_file_descriptor(0),
            lambda: sequence.write_ashmem(ashmem),
            lambda: sequence.write_raw_data_buffer(b"1234", 4),
            lambda: sequence.write_raw_data_buffer(bytes(40_000), 40_000),
        ]
        for write in writes:
            with pytest.raises(ParcelWriteError, match="reclaimed"):
                write()


# --- descriptors ----------------------------------------------------------------------------------------


def test_a_descriptor_is_duplicated_on_write_and_on_read() -> None:
    reader, writer = os.pipe()
    with MessageSequence() as sequence:
        sequence.write_file_descriptor(writer)
        os.close(writer)
        assert sequence.contain_file_descriptors()
        first = sequence.read_file_descriptor()
        sequence.rewind_read(0)
        second = sequence.read_file_descriptor()
    assert len({reader, first, second}) == 3
    assert fcntl.fcntl(first, fcntl.F_GETFD) & fcntl.FD_CLOEXEC
    os.close(first)
    os.write(second, b"still open")
    os.close(second)
    assert os.read(reader, 100) == b"still open"
    assert os.read(reader, 100) == b""  # no writer is left anywhere
    os.close(reader)


def test_whatever_has_a_descriptor() -> None:
    with open("/dev/null") as file, MessageSequence() as sequence:
        sequence.write_file_descriptor(file)
        fd = sequence.read_file_descriptor()
        assert os.path.sameopenfile(fd, file.fileno())
        os.close(fd)


def test_bad_descriptors() -> None:
    before = descriptors()
    with MessageSequence() as sequence:
        for fd in (-1, 999_999, 2**40):
            for use in (sequence.write_file_descriptor, sequence.dup_file_descriptor, sequence.close_file_descriptor):
                with pytest.raises(DescriptorError) as caught:
                    use(fd)
                assert caught.value.code == 1900013
        for wrong in (None, "1", 1.0, True):
            for use in (sequence.write_file_descriptor, sequence.dup_file_descriptor, sequence.close_file_descriptor):
                with pytest.raises(ParamTypeError):
                    use(wrong)  # type: ignore[arg-type]
        assert len(sequence) == 0
        sequence.write_int_array([0] * 8)
        sequence.write_remote_object(Transferable())
        for position in (0, 36):
            sequence.rewind_read(position)
            with pytest.raises(ParcelReadError, match="there is no descriptor"):
                sequence.read_file_descriptor()
            assert sequence.get_read_position() == position
    with full(23) as sequence, open("/dev/null") as file:
        # The error is kept, and with it every frame: nothing is closed merely because it was forgotten.
        with pytest.raises(TooBigError) as kept:
            sequence.write_file_descriptor(file)
        assert descriptors() == before + 1
    del kept


def test_the_static_helpers() -> None:
    copy = MessageSequence.dup_file_descriptor(0)
    assert copy > 0
    MessageSequence.close_file_descriptor(copy)
    with pytest.raises(DescriptorError):
        MessageSequence.close_file_descriptor(copy)


def test_a_forgotten_sequence_closes_its_descriptors() -> None:
    before = descriptors()
    sequence = MessageSequence()
    with open("/dev/null") as file:
        sequence.write_file_descriptor(file)
    del sequence
    gc.collect()
    assert descriptors() == before


# --- Ashmem -----------------------------------------------------------------------------------------------


def test_ashmem_round_trip() -> None:
    with Ashmem.create("photo", 5000) as mine, MessageSequence() as sequence:
        mine.map_read_write_ashmem()
        sequence.write_ashmem(mine)
        assert bytes(sequence)[24:] == struct.pack("<i", 5000)
        assert sequence.contain_file_descriptors()
        with sequence.read_ashmem() as theirs:
            assert theirs.get_ashmem_size() == 5000
            theirs.map_read_write_ashmem()
            theirs.write_data_to_ashmem(b"hello", 5, 4995)
            assert mine.read_data_from_ashmem(5, 4995) == b"hello"
        assert sequence.get_readable_bytes() == 0
        mine.write_data_to_ashmem(b"!", 1, 0)  # writing it gave nothing away


def test_a_narrowed_protection_travels() -> None:
    with Ashmem.create("photo", 100) as mine, MessageSequence() as sequence:
        mine.set_protection_type(Ashmem.PROT_READ)
        sequence.write_ashmem(mine)
        with sequence.read_ashmem() as theirs, pytest.raises(Exception, match="only 5 is allowed"):
            theirs.map_read_write_ashmem()


def test_ashmem_refusals() -> None:
    sequence = MessageSequence()
    for wrong in (None, 5, b"x"):
        with pytest.raises(ParamTypeError, match="takes an Ashmem"):
            sequence.write_ashmem(wrong)  # type: ignore[arg-type]
    closed = Ashmem.create("x", 10)
    closed.close_ashmem()
    with pytest.raises(ParcelWriteError, match="was closed"):
        sequence.write_ashmem(closed)
    before = descriptors()
    with Ashmem.create("x", 10) as ashmem, full(27) as tight, pytest.raises(TooBigError):
        tight.write_ashmem(ashmem)
    assert (len(sequence), descriptors()) == (0, before)


@pytest.mark.parametrize("size", [0, -1, 101, 2**31 - 1])
def test_an_ashmem_whose_sender_lies_about_its_size(size: int) -> None:
    before = descriptors()
    with Ashmem.create("x", 100) as ashmem, MessageSequence() as sequence:
        sequence.write_ashmem(ashmem)
        sequence.rewind_write(24)
        with pytest.raises(ParcelReadError, match="28 bytes"):
            sequence.read_ashmem()
        sequence.write_int(size)
        with pytest.raises(ParcelReadError, match="no usable Ashmem"):
            sequence.read_ashmem()
        assert sequence.get_read_position() == 0
    assert descriptors() == before


def test_an_ashmem_that_could_shrink_is_refused() -> None:
    fd = os.memfd_create("evil", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 100)
    with OwnedFd(fd), MessageSequence() as sequence:
        sequence.write_file_descriptor(fd)
        sequence.write_int(100)
        with pytest.raises(ParcelReadError, match="not sealed against shrinking"):
            sequence.read_ashmem()


# --- raw data -----------------------------------------------------------------------------------------------


def idle() -> int:
    release_dropped_slots()
    return pool.statistics()["idle"]


@pytest.mark.parametrize("size", [1, 3, 4, 32 * 1024 - 1, 32 * 1024, 32 * 1024 + 1, 1_000_000])
def test_raw_data_round_trip(size: int) -> None:
    data = numpy.random.default_rng(size).bytes(size)
    with MessageSequence() as sequence:
        sequence.write_raw_data_buffer(data + b"more", size)
        sequence.write_int(7)
        inline = size <= 32 * 1024
        assert len(sequence) == 4 + ((size + 3) // 4 * 4 if inline else 24) + 4
        assert sequence.contain_file_descriptors() is not inline
        view = sequence.read_raw_data_buffer(size)
        assert (view.readonly, view == data, sequence.read_int()) == (True, True, 7)
        sequence.write_int(8)


def test_raw_data_of_any_buffer() -> None:
    numbers = numpy.arange(20_000, dtype="i").reshape(100, 200)
    with MessageSequence() as sequence:
        sequence.write_raw_data_buffer(numbers, numbers.nbytes)
        view = sequence.read_raw_data_buffer(80_000)
        assert numpy.array_equal(numpy.frombuffer(view, dtype="i").reshape(100, 200), numbers)


def test_raw_data_refusals() -> None:
    sequence = MessageSequence()
    for size in (0, -1, 5):
        with pytest.raises(ParamValueError, match=f"size {size} of a buffer of 4 bytes"):
            sequence.write_raw_data_buffer(b"1234", size)
    no_buffers: list[Any] = [None, [1], "1234", numpy.zeros((9, 9)).T]
    for buffer in no_buffers:
        with pytest.raises(ParamTypeError):
            sequence.write_raw_data_buffer(buffer, 1)
    no_sizes: list[Any] = [None, True, "4", 4.0]
    for wrong in no_sizes:
        with pytest.raises(ParamTypeError):
            sequence.write_raw_data_buffer(b"1234", wrong)
    with pytest.raises(TooBigError, match="the limit is 134217728") as caught:
        sequence.write_raw_data_buffer(b"1234", limits.MAX_RAW_DATA + 1)
    assert caught.value.code == 1900009
    assert sequence.get_raw_data_capacity() == 128 * 1024 * 1024
    assert len(sequence) == 0
    for room, size in ((7, 4), (27, 40_000)):
        with full(room) as tight, pytest.raises(TooBigError):
            tight.write_raw_data_buffer(bytes(size), size)


def test_one_large_block_per_sequence() -> None:
    with MessageSequence() as sequence:
        sequence.write_raw_data_buffer(bytes(40_000), 40_000)
        with pytest.raises(ParcelWriteError, match="a sequence carries one"):
            sequence.write_raw_data_buffer(bytes(40_000), 40_000)
        sequence.write_raw_data_buffer(bytes(100), 100)
        assert len(sequence) == 28 + 104
        sequence.rewind_write(0)
        sequence.write_raw_data_buffer(bytes(40_000), 40_000)


def test_the_size_must_match_exactly() -> None:
    for size in (100, 40_000):
        with MessageSequence() as sequence:
            sequence.write_raw_data_buffer(bytes(size), size)
            for wrong in (size - 1, size + 1, 1):
                with pytest.raises(ParcelReadError, match=f"{size} bytes were written, {wrong} are asked for"):
                    sequence.read_raw_data_buffer(wrong)
            for nothing in (0, -1):
                assert bytes(sequence.read_raw_data_buffer(nothing)) == b""
            assert sequence.get_read_position() == 0


def test_received_raw_data_is_not_copied() -> None:
    data = struct.pack("<i4s", 4, b"abcd")
    assert MessageSequence._received(data, None).read_raw_data_buffer(4).obj is data
    block = bytes(range(256)) * 200
    record = struct.pack("<i24x", len(block))
    sequence = MessageSequence._received(record, {4: (KIND_BLOB, memoryview(block))})
    view = sequence.read_raw_data_buffer(len(block))
    assert (view.obj, view.readonly, sequence.get_readable_bytes()) == (block, True, 0)


@pytest.mark.parametrize(
    ("data", "objects"),
    [
        (b"", None),
        (struct.pack("<i", 40_000), None),
        (struct.pack("<i24x", 40_000), None),
        (struct.pack("<i24x", 40_000), {4: (KIND_REMOTE, Transferable())}),
        (struct.pack("<i24x", 40_000), {4: (KIND_BLOB, memoryview(bytes(39_999)))}),
    ],
)
def test_large_blocks_that_are_not_there(data: bytes, objects: Any) -> None:
    sequence = MessageSequence._received(data, objects)
    with pytest.raises(ParcelReadError):
        sequence.read_raw_data_buffer(40_000)
    assert sequence.get_read_position() == 0


def test_a_slot_goes_back_when_nobody_looks_any_more() -> None:
    sequence = MessageSequence()
    sequence.write_raw_data_buffer(b"x" * 40_000, 40_000)
    before = idle()
    view = sequence.read_raw_data_buffer(40_000)
    sequence.reclaim()
    assert idle() == before
    other = MessageSequence()
    other.write_raw_data_buffer(b"y" * 40_000, 40_000)
    assert view[0] == ord("x")  # the slot was not reused under the view
    before = idle()
    del view
    assert idle() == before + 1
    other.rewind_write(4)
    assert idle() == before + 2
    forgotten = MessageSequence()
    forgotten.write_raw_data_buffer(b"z" * 40_000, 40_000)
    before = idle()
    del forgotten
    assert idle() == before + 1
