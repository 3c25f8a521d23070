"""Messages and replies as bytes: round trips, limits, and bytes nobody meant well."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.dbinder.wire import (
    Action,
    Memory,
    Message,
    ObjectRef,
    Reply,
    decode_message,
    decode_reply,
    encode_message,
    encode_reply,
)
from binderkit.errors import ProtocolError
from binderkit.ipc.dispatch import MAX_ERROR_TEXT, Failure

OWNER = "ab" * 32
U64 = st.integers(0, 2**64 - 1)
GOLDEN = Message(
    Action.CALL,
    own=1,
    known=2,
    number=3,
    object_id=4,
    code=5,
    pid=6,
    uid=7,
    token=8,
    chain=9,
    data=b"data" + bytes(24),
    objects={4: ObjectRef(OWNER, 10, True, "I")},
)


@st.composite
def bodies(draw: Any) -> tuple[bytes, dict[int, Any]]:
    """Return a data area and objects whose sizes agree with it."""
    data = bytearray()
    objects: dict[int, Any] = {}
    for _ in range(draw(st.integers(0, 4))):
        data += bytes(draw(st.integers(0, 8)))
        kind = draw(st.sampled_from(["object", "raw", "ashmem"]))
        content = draw(st.binary(min_size=1, max_size=50))
        is_ticket = draw(st.booleans())
        size = draw(st.integers(1, limits.MAX_RAW_DATA)) if is_ticket else len(content)
        if kind == "raw":
            data += size.to_bytes(4, "little")
        offset = len(data)
        data += bytes(24)
        if kind == "ashmem":
            data += size.to_bytes(4, "little")
        if kind == "object":
            objects[offset] = ObjectRef(OWNER, draw(U64), draw(st.booleans()), draw(st.text(max_size=20)))
        else:
            objects[offset] = Memory(size, content, is_ticket, kind == "ashmem", draw(st.booleans()))
    return bytes(data), objects


@given(bodies(), st.sampled_from(list(Action)), st.lists(U64, min_size=6, max_size=6), st.integers(-(2**31), 2**31 - 1))
def test_a_message_comes_back(body: tuple[bytes, Any], action: Action, numbers: list[int], pid: int) -> None:
    own, known, number, object_id, token, chain = numbers
    message = Message(action, own, known, number, object_id, 7, pid, pid, token, chain, *body)
    got = decode_message(encode_message(message))
    got.data = bytes(got.data)
    assert got == message


@given(bodies(), U64)
def test_a_reply_comes_back(body: tuple[bytes, Any], own: int) -> None:
    reply = Reply(own, None, *body)
    got = decode_reply(encode_reply(reply))
    got.data = bytes(got.data)
    assert got == reply


@given(st.integers(-(2**31), 2**31 - 1).filter(bool), st.text(), st.text(), st.text())
def test_a_failure_comes_back(status: int, name: str, text: str, trace: str) -> None:
    failure = Failure(status, name, text, trace)
    assert decode_reply(encode_reply(Reply(1, failure))).failure == failure


def test_texts_that_cannot_be_encoded_or_are_too_long_still_arrive() -> None:
    failure = Failure(4, "T", "\ud800" + "x" * 10_000, "")
    got = decode_reply(encode_reply(Reply(1, failure))).failure
    assert got is not None
    assert got.text == "?" + "x" * (MAX_ERROR_TEXT - 1)


@given(st.binary(max_size=400))
def test_any_bytes_are_a_message_or_refused(packet: bytes) -> None:
    for decode in (decode_message, decode_reply):
        with contextlib.suppress(ProtocolError):
            decode(packet)


@given(bodies(), st.data())
def test_a_damaged_message_is_decoded_or_refused(body: tuple[bytes, Any], data: Any) -> None:
    packet = bytearray(encode_message(Message(Action.CALL, 1, 2, 3, 4, 5, 6, 7, 8, 9, *body)))
    for _ in range(data.draw(st.integers(1, 4))):
        packet[data.draw(st.integers(0, len(packet) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.integers(0, len(packet)))
    with contextlib.suppress(ProtocolError):
        decode_message(bytes(packet[:cut]))


@given(bodies())
def test_a_message_that_was_cut_is_refused(body: tuple[bytes, Any]) -> None:
    packet = encode_message(Message(Action.CALL, 1, 2, 3, 4, 5, 6, 7, 8, 9, *body))
    for end in range(len(packet)):
        with pytest.raises(ProtocolError):
            decode_message(packet[:end])


def test_the_bytes_of_a_message_stay() -> None:
    """Golden: a change here means another version."""
    assert encode_message(GOLDEN).hex() == (
        "01010000" + "0100000000000000" + "0200000000000000" + "0300000000000000" + "0400000000000000"
        "05000000" + "06000000" + "0700000000000000" + "0800000000000000" + "0900000000000000"
        "1c000000"
        + "0100"
        + "0000"
        + "64617461"
        + "00" * 24
        + "04000000"
        + "01"
        + "ab" * 32
        + "0a00000000000000"
        + "01"
        + "01000000"
        + "49"
    )


def test_another_version_is_refused_with_words() -> None:
    packet = bytearray(encode_message(GOLDEN))
    packet[0] = 2
    with pytest.raises(ProtocolError, match="update the older device"):
        decode_message(bytes(packet))


def test_memory_must_have_the_size_the_data_area_says() -> None:
    data = (5).to_bytes(4, "little") + bytes(24)
    good = Message(Action.CALL, 1, 2, 3, data=data, objects={4: Memory(5, b"12345", False, False)})
    decode_message(encode_message(good))
    good.objects = {4: Memory(4, b"1234", False, False)}
    with pytest.raises(ProtocolError, match="says otherwise"):
        decode_message(encode_message(good))


def test_records_may_not_overlap() -> None:
    reference = ObjectRef(OWNER, 1, False, "")
    message = Message(Action.CALL, 1, 2, 3, data=bytes(60), objects={0: reference, 20: reference})
    with pytest.raises(ProtocolError, match="over another one"):
        decode_message(encode_message(message))
