"""binderkit.softbus.fields: lists of byte strings as one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import ProtocolError
from binderkit.softbus.fields import pack, read_text, unpack, unpack_all


def test_golden_bytes() -> None:
    assert pack(b"ab", b"", b"c") == b"\x02\0\0\0ab\0\0\0\0\x01\0\0\0c"


@given(st.lists(st.binary(max_size=50), max_size=10))
def test_what_is_packed_is_unpacked(fields: list[bytes]) -> None:
    assert unpack(pack(*fields), len(fields)) == tuple(fields)


@given(st.binary(max_size=200), st.integers(0, 8))
def test_any_bytes_are_fields_or_refused_and_have_one_spelling(data: bytes, limit: int) -> None:
    try:
        fields = unpack_all(data, limit)
    except ProtocolError:
        return
    assert len(fields) <= limit
    assert pack(*fields) == data


def test_another_number_of_fields_is_refused() -> None:
    for count in (0, 1, 3):
        with pytest.raises(ProtocolError):
            unpack(pack(b"a", b"b"), count)


def test_a_length_past_the_end_is_refused_before_anything_is_taken() -> None:
    with pytest.raises(ProtocolError, match="4294967295 bytes, 1 are there"):
        unpack(b"\xff\xff\xff\xff.", 1)
    with pytest.raises(ProtocolError, match="cut off"):
        unpack(b"\x01\0\0", 1)


@pytest.mark.parametrize("field", [b"", b"12345", b"\xff", b"a\nb", "a\u202eb".encode(), b"\x1b[2J"])
def test_a_text_that_is_too_long_or_deceives_is_refused(field: bytes) -> None:
    with pytest.raises(ProtocolError):
        read_text(field, 4)


def test_a_text_is_counted_in_characters() -> None:
    assert read_text("四个字符".encode(), 4) == "四个字符"
