"""The parser of a read buffer: every return, and any bytes at all."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.driver.kernel import protocol as p
from binderkit.driver.kernel.reader import events
from binderkit.errors import ProtocolError


def written(word: int, fill: int) -> bytes:
    return p.WORD.pack(word) + bytes([fill]) * (word >> 16 & 0x3FFF)


@given(st.lists(st.tuples(st.sampled_from(sorted(p.NAMES)), st.integers(0, 255)), max_size=40))
def test_whatever_the_kernel_may_say_is_read_back(said: list[tuple[int, int]]) -> None:
    buffer = b"".join(written(word, fill) for word, fill in said)
    read = list(events(buffer + b"\xff" * 100, len(buffer)))
    assert [word for word, _ in read] == [word for word, _ in said]
    for (word, at), (_, fill) in zip(read, said, strict=True):
        size = word >> 16 & 0x3FFF
        assert buffer[at : at + size] == bytes([fill]) * size


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_refused(buffer: bytes) -> None:
    try:
        for word, at in events(buffer, len(buffer)):
            assert word in p.NAMES
            assert at + (word >> 16 & 0x3FFF) <= len(buffer)
    except ProtocolError:
        return


@pytest.mark.parametrize("size", [1, 2, 3, 5, 20, 67])
def test_a_return_that_is_cut_off_is_refused(size: int) -> None:
    with pytest.raises(ProtocolError):
        list(events(written(p.BR_TRANSACTION, 1), size))


def test_a_size_behind_the_buffer_is_refused() -> None:
    with pytest.raises(ProtocolError, match="into a buffer of 8"):
        list(events(bytes(8), 12))


def test_an_unknown_word_is_named() -> None:
    with pytest.raises(ProtocolError, match="0x12345678 at byte 4"):
        list(events(written(p.BR_NOOP, 0) + struct.pack("=I", 0x12345678), 8))
