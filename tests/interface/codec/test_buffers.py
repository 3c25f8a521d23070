"""bytes, bytearray, memoryview: inline, in shared memory, in Ashmem."""

from __future__ import annotations

from array import array
from struct import pack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import ParcelReadError
from binderkit.interface.codec import MismatchType, MismatchValue, codec_for
from binderkit.interface.codec.buffers import write_block
from binderkit.parcel import MessageSequence
from tests.interface.codec.wire import examples, hostile, int32, malformed, mutated, refused, returned, sent, survives

KINDS = [bytes, bytearray, memoryview]
LARGE = bytes(range(256)) * 200


@pytest.mark.parametrize("kind", KINDS)
@examples
@given(value=st.binary(max_size=70))
def test_small_blocks(kind: Any, value: bytes) -> None:
    again = returned(kind, kind(value))
    assert type(again) is kind
    assert again == value


def test_the_bytes() -> None:
    assert sent(bytes, b"") == int32(0)
    assert sent(bytes, b"abcde") == int32(5) + b"abcde\0\0\0"
    assert sent(bytes, bytes(32_768)) == int32(32_768) + bytes(32_768)
    assert sent(bytes, memoryview(array("H", [1, 2]))) == int32(4) + pack("<HH", 1, 2)


@pytest.mark.parametrize("kind", KINDS)
def test_large_blocks_leave_the_data_area(kind: Any) -> None:
    codec = codec_for(kind)
    with MessageSequence() as sequence:
        codec.write(sequence, LARGE)
        assert sequence.get_size() == 28
        value = codec.read(sequence)
        assert type(value) is kind
        assert value == LARGE
        del value


@pytest.mark.parametrize("kind", KINDS)
def test_further_large_blocks_are_ashmem(kind: Any) -> None:
    codec = codec_for(list[kind])
    with MessageSequence() as sequence:
        codec.write(sequence, [LARGE, LARGE[1:], b"small", LARGE[2:]])
        assert bytes(sequence)[32:36] == int32(-1)
        values = codec.read(sequence)
        assert [bytes(value) for value in values] == [LARGE, LARGE[1:], b"small", LARGE[2:]]
        del values


def test_a_view_is_read_only_and_a_copy_is_ones_own() -> None:
    view = returned(memoryview, b"abc")
    assert view.readonly
    with MessageSequence() as sequence:
        codec_for(memoryview).write(sequence, LARGE)
        codec_for(memoryview).write(sequence, LARGE)
        first, second = codec_for(memoryview).read(sequence), codec_for(memoryview).read(sequence)
        assert first.readonly and second.readonly
        del first, second
    own = returned(bytearray, b"abc")
    own[0] = 0
    assert own == b"\0bc"


def test_what_does_not_fit() -> None:
    for wrong in ("abc", 3, None, [1], memoryview(b"abcdef")[::2]):
        assert isinstance(refused(bytes, wrong), MismatchType)


def test_a_block_above_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("binderkit.interface.codec.buffers.MAX_RAW_DATA", 10)
    with MessageSequence() as sequence, pytest.raises(MismatchValue, match="send an Ashmem"):
        write_block(sequence, memoryview(bytes(11)))
    assert "above 10" in malformed(bytes, int32(11) + bytes(12))


def test_malformed() -> None:
    assert "its size is -2" in malformed(bytes, int32(-2))
    assert "no descriptor" in malformed(bytes, int32(-1) + bytes(28))
    assert "shared memory is missing" in malformed(bytes, int32(40_000) + bytes(24))
    malformed(bytes, int32(5) + b"abcd")
    malformed(bytes, b"\0\0\0")


def test_a_reclaimed_sequence_gives_nothing() -> None:
    sequence = MessageSequence()
    sequence.reclaim()
    with pytest.raises(ParcelReadError, match="reclaimed"):
        codec_for(bytes).read(sequence)


@pytest.mark.parametrize("kind", KINDS)
@examples
@given(data=hostile | mutated(sent(bytes, b"abcdefg")))
def test_hostile_bytes(kind: Any, data: bytes) -> None:
    survives(kind, data)
