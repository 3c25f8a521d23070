"""Headers and answers: what is encoded is decoded, and any other bytes raise our error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.errors import ProtocolError
from binderkit.ipc.dispatch import Failure
from binderkit.softbus import messages
from binderkit.softbus.messages import Answer, CallHeader, OnewayHeader, Status

boots = st.binary(min_size=8, max_size=8)
words = st.integers(0, 2**64 - 1)


@given(st.integers(0, limits.RPC_CALLS_PER_DEVICE - 1), words, boots, boots, st.floats(1e-6, limits.MAX_WAIT_TIME))
def test_call_headers(slot: int, sequence: int, source: bytes, target: bytes, remaining: float) -> None:
    header = messages.encode_call(slot, sequence, source, target, remaining)
    assert len(header) <= limits.RPC_HEADER
    decoded = messages.decode_call(header)
    assert decoded == CallHeader(slot, sequence, source, target, decoded.remaining)
    assert abs(decoded.remaining - remaining) <= 2e-6


@given(words, st.integers(1, 2**64 - 1), boots, boots)
def test_oneway_headers(stream: int, sequence: int, source: bytes, target: bytes) -> None:
    header = messages.encode_oneway(stream, sequence, source, target)
    assert messages.decode_oneway(header) == OnewayHeader(stream, sequence, source, target)


@given(st.binary(max_size=100))
def test_results(result: bytes) -> None:
    assert messages.decode_answer(messages.encode_result(result)) == Answer(Status.TAKEN, result)


texts = st.text(max_size=50)


@given(st.integers(-(2**31), 2**31 - 1), texts, texts, texts)
def test_failures(code: int, type_name: str, text: str, traceback: str) -> None:
    failure = Failure(code, type_name, text, traceback)
    decoded = messages.decode_answer(messages.encode_failure(failure))
    assert decoded.status is Status.FAILED and decoded.failure == failure


def test_a_text_that_cannot_be_encoded_does_not_lose_the_answer() -> None:
    decoded = messages.decode_answer(messages.encode_failure(Failure(4, "", "\ud800", "")))
    assert decoded.failure is not None and decoded.failure.text == "?"


@given(st.binary(max_size=80))
def test_any_bytes_decode_or_raise_our_error(data: bytes) -> None:
    for decode in (messages.decode_call, messages.decode_oneway, messages.decode_answer):
        try:
            decode(data)
        except ProtocolError:
            continue


@given(st.data())
def test_a_cut_failure_raises_our_error(data: st.DataObject) -> None:
    whole = messages.encode_failure(Failure(4, "KeyError", "no such thing", "trace"))
    with pytest.raises(ProtocolError):
        messages.decode_answer(whole[: data.draw(st.integers(1, len(whole) - 1))])


def test_what_is_refused() -> None:
    boot = bytes(8)
    good = messages.encode_call(1, 1, boot, boot, 1.0)
    with pytest.raises(ProtocolError, match="version 9"):
        messages.decode_call(b"\x09" + good[1:])
    with pytest.raises(ProtocolError, match="slot"):
        messages.decode_call(messages.encode_call(limits.RPC_CALLS_PER_DEVICE, 1, boot, boot, 1.0))
    with pytest.raises(ProtocolError, match="µs"):
        messages.decode_call(good[:-4] + b"\xff\xff\xff\xff")
    with pytest.raises(ProtocolError, match="µs"):
        messages.decode_call(good[:-4] + bytes(4))
    with pytest.raises(ProtocolError, match="sequence 0"):
        messages.decode_oneway(messages.encode_oneway(1, 0, boot, boot))
    with pytest.raises(ProtocolError, match="empty"):
        messages.decode_answer(b"")
    with pytest.raises(ProtocolError, match="status 77"):
        messages.decode_answer(b"\x4d")
    with pytest.raises(ProtocolError, match="allowed"):
        messages.decode_answer(b"\x01" + bytes(4) + b"\xff\xff\xff\xff")
    for status in (Status.STALE, Status.OTHER_BOOT, Status.LOST, Status.MALFORMED):
        assert messages.decode_answer(messages.encode_status(status)) == Answer(status)
