"""Helpers of the codecs' tests: send, receive, refuse; and hostile bytes."""

from __future__ import annotations

import os
from struct import pack
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st

from binderkit.errors import ParcelReadError
from binderkit.interface.codec import Mismatch, closing_on_error, codec_for
from binderkit.parcel import MessageSequence

EXAMPLES_VARIABLE = "BINDERKIT_TEST_EXAMPLES"
examples = settings(max_examples=int(os.environ.get(EXAMPLES_VARIABLE, "25")), deadline=None)
"""For tests that run once per type: a few examples of each in the quick run, many in that of test_many_examples.py."""


def sent(hint: Any, value: Any) -> bytes:
    """The bytes of a value without objects."""
    with MessageSequence() as sequence:
        codec_for(hint).write(sequence, value)
        return bytes(sequence)


def read_from(hint: Any, data: bytes) -> Any:
    """The value in received bytes, all of which it must take."""
    with MessageSequence._received(data, None) as sequence:
        value = codec_for(hint).read(sequence)
        assert sequence.get_readable_bytes() == 0
        return value


def returned(hint: Any, value: Any) -> Any:
    """The value after a trip, as a received one and as one read where it was written."""
    codec = codec_for(hint)
    data = sent(hint, value)
    assert len(data) >= codec.minimum
    assert len(data) % 4 == 0
    with MessageSequence.from_bytes(data) as sequence:
        again = codec.read(sequence)
    first = read_from(hint, data)
    # The same bytes, but a set may have another order.
    assert sorted(sent(hint, first)) == sorted(sent(hint, again)) == sorted(data)
    return first


def refused(hint: Any, value: Any) -> Mismatch:
    """The error for a value that does not fit."""
    with MessageSequence() as sequence, pytest.raises(Mismatch) as caught:
        codec_for(hint).write(sequence, value)
    assert caught.value.code == 401
    return caught.value


def malformed(hint: Any, data: bytes) -> str:
    """The text of the error for bytes that are no value."""
    with MessageSequence._received(data, None) as sequence, pytest.raises(ParcelReadError) as caught:
        codec_for(hint).read(sequence)
    return str(caught.value)


def survives(hint: Any, data: bytes) -> None:
    """Bytes are a value, which can then be sent, or a ParcelReadError; every end that is cut off is an error."""
    codec = codec_for(hint)
    with MessageSequence._received(data, None) as sequence:
        try:
            with closing_on_error():
                value = codec.read(sequence)
        except ParcelReadError:
            return
        assert sequence._pos <= len(data)
    with MessageSequence() as again:
        codec.write(again, value)


def int32(*numbers: int) -> bytes:
    """Words."""
    return pack(f"<{len(numbers)}i", *numbers)


def int64(*numbers: int) -> bytes:
    """Double words."""
    return pack(f"<{len(numbers)}q", *numbers)


def string16(text: str) -> bytes:
    """A string by hand: units, text, NUL, padding."""
    data = text.encode("utf-16-le") + b"\0\0"
    return int32(len(data) // 2 - 1) + data + bytes(-len(data) % 4)


_words = st.sampled_from([-2, -1, 0, 1, 2, 3, 4, 8, 16, 24, 0x7FFFFFFF, -0x80000000, 102_400, 102_401, 40_000, 7])
hostile: st.SearchStrategy[bytes] = st.lists(
    _words.map(int32) | st.integers(-(2**31), 2**31 - 1).map(int32) | st.text(max_size=3).map(string16), max_size=24
).map(b"".join) | st.binary(max_size=100)
"""Bytes that are often almost right."""


@st.composite
def mutated(draw: st.DrawFn, data: bytes) -> bytes:
    """Right bytes with a word changed, or with the end cut off."""
    if not data:
        return draw(st.binary(max_size=8))
    changed = bytearray(data)
    at = draw(st.integers(0, len(data) - 1)) & ~3
    changed[at : at + 4] = draw(_words.map(int32) | st.binary(min_size=4, max_size=4))
    return bytes(changed[: draw(st.integers(0, len(changed)) | st.just(len(changed)))])
