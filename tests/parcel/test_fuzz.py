"""Any bytes, read in any order: a value or an IpcError, and the read position stays within the data."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from binderkit.errors import IpcError
from binderkit.memory.ashmem import Ashmem
from binderkit.parcel import MessageSequence, TypeCode
from binderkit.parcel.objects import KIND_BLOB, KIND_FD, KIND_REMOTE, OwnedFd, Transferable


class Point:
    def marshalling(self, sequence: MessageSequence) -> bool:
        sequence.write_int(1)
        return True

    def unmarshalling(self, sequence: MessageSequence) -> bool:
        sequence.read_int()
        sequence.read_string()
        return True


def _close(value: Any) -> None:
    if isinstance(value, Ashmem):
        value.close_ashmem()


READS: list[Callable[[MessageSequence], Any]] = [
    lambda s: s.read_byte(),
    lambda s: s.read_short(),
    lambda s: s.read_char(),
    lambda s: s.read_int(),
    lambda s: s.read_long(),
    lambda s: s.read_float(),
    lambda s: s.read_double(),
    lambda s: s.read_boolean(),
    lambda s: s.read_string(),
    lambda s: s.read_interface_token(),
    lambda s: s.read_exception(),
    lambda s: s.read_byte_array(),
    lambda s: s.read_short_array([]),
    lambda s: s.read_char_array(),
    lambda s: s.read_int_array(),
    lambda s: s.read_long_array(),
    lambda s: s.read_float_array(),
    lambda s: s.read_double_array(),
    lambda s: s.read_boolean_array(),
    lambda s: s.read_string_array(),
    lambda s: s.read_parcelable(Point()),
    lambda s: s.read_parcelable_array([Point(), Point()]),
    lambda s: s.read_remote_object(),
    lambda s: s.read_remote_object_array(),
    lambda s: os.close(s.read_file_descriptor()),
    lambda s: s.read_ashmem(),
    lambda s: s.read_raw_data_buffer(4),
    lambda s: s.read_raw_data_buffer(40_000),
    *(lambda s, code=code: s.read_array_buffer(code) for code in TypeCode),
]

words = st.sampled_from(
    [0, 1, 2, 3, 4, 8, 0x100, 0x7FFFFFFF, 0xFFFFFFFF, 0x80000000, 40_000, 0x66642A85, 0xD800D800]
) | st.integers(0, 2**32 - 1)
data_areas = st.lists(words, max_size=40).map(
    lambda numbers: b"".join(number.to_bytes(4, "little") for number in numbers)
) | st.binary(max_size=120)


def _objects(data: bytes, kinds: list[tuple[int, int]]) -> dict[int, tuple[int, object]]:
    """Make an object table as a driver would hand it over, with true values at hostile places."""
    table: dict[int, tuple[int, object]] = {}
    end = 0
    for gap, kind in kinds:
        offset = end + 4 * gap
        if offset + 24 > len(data):
            break
        if kind == KIND_FD:
            table[offset] = (kind, OwnedFd(os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)))
        else:
            table[offset] = (kind, Transferable() if kind == KIND_REMOTE else memoryview(b"short"))
        end = offset + 24
    return table


@settings(max_examples=600, deadline=None)
@given(
    data_areas,
    st.lists(st.tuples(st.integers(0, 3), st.sampled_from([KIND_REMOTE, KIND_FD, KIND_BLOB])), max_size=3),
    st.lists(st.sampled_from(READS), min_size=1, max_size=20),
    st.integers(0, 12),
)
def test_any_bytes_any_reads(
    data: bytes, kinds: list[tuple[int, int]], reads: list[Callable[[MessageSequence], Any]], start: int
) -> None:
    with MessageSequence._received(data, _objects(data, kinds)) as sequence:
        sequence.rewind_read(min(start, len(data)))
        for read in reads:
            before = sequence.get_read_position()
            try:
                _close(read(sequence))
            except IpcError as error:
                if type(error).__name__ != "RemoteError":
                    assert sequence.get_read_position() == before
            assert before <= sequence.get_read_position() <= len(data)


@settings(max_examples=200, deadline=None)
@given(data_areas, st.sampled_from(READS))
def test_a_writable_sequence_reads_the_same(data: bytes, read: Callable[[MessageSequence], Any]) -> None:
    outcomes = []
    for sequence in (MessageSequence.from_bytes(data), MessageSequence._received(memoryview(bytearray(data)), None)):
        try:
            value = read(sequence)
            outcomes.append((repr(value.tobytes() if isinstance(value, memoryview) else value), len(sequence)))
        except IpcError as error:
            outcomes.append((repr(error), error.code))
    assert outcomes[0] == outcomes[1]
