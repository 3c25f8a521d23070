"""session_frames.py: what is encoded is decoded, golden bytes, and any bytes at all."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.errors import ParamValueError, ProtocolError
from binderkit.softbus.reasons import DataType, ShutdownReason
from binderkit.softbus.session_frames import (
    HEADER_SIZE,
    Header,
    Kind,
    Opening,
    StreamFrameInfo,
    decode_code,
    decode_frame,
    decode_header,
    decode_opening,
    decode_reason,
    encode_code,
    encode_frame,
    encode_header,
    encode_opening,
    encode_reason,
)

_texts = st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=64)
_int32 = st.integers(-(2**31), 2**31 - 1)


@given(st.sampled_from(Kind), st.integers(0, 2**32 - 1), st.booleans())
def test_headers_come_back(kind: Kind, number: int, ack: bool) -> None:
    assert decode_header(encode_header(kind, 0, number, ack=ack)) == Header(kind, 0, number, ack)


@given(st.binary(min_size=HEADER_SIZE, max_size=HEADER_SIZE))
def test_any_header_is_in_its_limits_or_refused(header: bytes) -> None:
    try:
        read = decode_header(header)
    except ProtocolError:
        return
    assert read.length <= limits.MAX_SESSION_BYTES
    assert encode_header(read.kind, read.length, read.number, ack=read.ack) == header


@pytest.mark.parametrize(
    ("kind", "most"),
    [(Kind.BYTES, 4 << 20), (Kind.MESSAGE, 4096), (Kind.ACK, 0), (Kind.SHUTDOWN, 1), (Kind.OPENED, 4)],
)
def test_each_kind_has_its_longest(kind: Kind, most: int) -> None:
    assert decode_header(encode_header(kind, most)).length == most
    with pytest.raises(ProtocolError, match=f"at most {most}"):
        decode_header(encode_header(kind, most + 1))


@given(_texts, _texts, st.one_of(st.just(""), _texts), st.sampled_from(DataType))
def test_openings_come_back(wanted: str, name: str, pkg_name: str, data_type: DataType) -> None:
    opening = Opening(wanted, name, pkg_name, data_type)
    encoded = encode_opening(opening)
    assert decode_opening(encoded) == opening
    assert decode_header(encode_header(Kind.OPEN, len(encoded))).length == len(encoded)


def test_the_longest_opening_fits_its_frame() -> None:
    opening = Opening("\U00020000" * 255, "\U00020000" * 255, "\U00020000" * 64, DataType.BYTES)
    assert decode_opening(encode_opening(opening)) == opening
    decode_header(encode_header(Kind.OPEN, len(encode_opening(opening))))


@given(st.binary(max_size=300))
def test_any_bytes_as_opening_give_texts_in_their_limits_or_an_error(data: bytes) -> None:
    try:
        opening = decode_opening(data)
    except ProtocolError:
        return
    assert 0 < len(opening.wanted) <= 255 and 0 < len(opening.name) <= 255 and len(opening.pkg_name) <= 64


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "cut off"),
        (b"\x02\x01\0ab", "cut off"),
        (b"\x02\x01\0a\x01\0b\0\0!", "1 bytes follow"),
        (b"\x63\x01\0a\x01\0b\0\0", "type 99"),
        (b"\x02\0\0\x01\0b\0\0", "without names"),
        (b"\x02\x01\0\xff\x01\0b\0\0", "not UTF-8"),
        (b"\x02\x01\0\n\x01\0b\0\0", "printable"),
    ],
)
def test_broken_openings_are_refused_with_words(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        decode_opening(data)


def test_golden_bytes() -> None:
    assert encode_header(Kind.MESSAGE, 5, 7, ack=True) == b"\x05\0\0\0\x04\x01\0\0\x07\0\0\0"
    assert encode_opening(Opening("a", "bc", "", DataType.BYTES)) == b"\x02\x01\0a\x02\0bc\0\0"
    assert encode_code(-426115007) == bytes.fromhex("41009ae6")
    assert encode_reason(ShutdownReason.LINK_DOWN) == b"\x0c"
    assert encode_frame(StreamFrameInfo(1, 2, 3, 4, 5, 6), b"x") == bytes.fromhex(
        "01000000 0200000000000000 03000000 04000000 05000000 06000000 01000000 78"
    )


@given(
    st.builds(StreamFrameInfo, _int32, st.integers(-(2**63), 2**63 - 1), _int32, _int32, _int32, _int32),
    st.binary(max_size=50),
    st.binary(max_size=50),
)
def test_frames_of_streams_come_back(info: StreamFrameInfo, extension: bytes, data: bytes) -> None:
    assert decode_frame(encode_frame(info, extension) + data) == (info, extension, data)


@given(st.binary(max_size=100))
def test_any_bytes_as_frame_are_taken_apart_or_refused(data: bytes) -> None:
    try:
        info, extension, rest = decode_frame(data)
    except ProtocolError:
        return
    assert encode_frame(info, extension) + rest == data


def test_a_number_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ParamValueError, match="int32"):
        encode_frame(StreamFrameInfo(level=2**31), b"")


@given(st.binary(max_size=6))
def test_any_bytes_as_code_or_reason(data: bytes) -> None:
    if len(data) == 4:
        assert encode_code(decode_code(data)) == data
    else:
        with pytest.raises(ProtocolError):
            decode_code(data)
    if len(data) == 1:
        assert decode_reason(data) == (data[0] if data[0] < 16 else ShutdownReason.UNKNOWN)
    else:
        with pytest.raises(ProtocolError):
            decode_reason(data)
