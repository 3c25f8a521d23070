"""What a trusted device that means harm may say on a stream, and what anybody may write into a token: any bytes."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from binderkit import limits
from binderkit.errors import IpcError
from binderkit.softbus.bulk_port import Purpose
from binderkit.softbus.bulk_stream import Stream, secured
from binderkit.softbus.bulk_tls import credentials
from binderkit.softbus.engine import DeviceInfo
from binderkit.softbus.zenoh_config import node_token, parse_back_token, parse_node_token, parse_request_key
from tests.softbus.ports import Side, devices

few = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
REQUEST, ANSWER, HELLO = 32, 16, 8
"""Bytes of what is said on a stream of raw data, and at the beginning of each."""
TOKEN = node_token(DeviceInfo("a" * 64, "ab" * 16, "0" * 16, "Küche", "linux"), 3)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[tuple[Side, Side]]:
    with devices(tmp_path) as made:
        yield made.pair()


def unharmed(one: Side, two: Side) -> None:
    assert bytes(two.bulk.take(one.udid, one.bulk.put(two.udid, memoryview(b"x")))) == b"x"


@few
@given(requests=st.lists(st.binary(min_size=REQUEST, max_size=REQUEST), min_size=1, max_size=3), cut=st.integers(0, 31))
def test_any_requests_for_raw_data_bring_nothing(pair: tuple[Side, Side], requests: list[bytes], cut: int) -> None:
    one, two = pair
    ticket = one.bulk.put(two.udid, memoryview(b"secret"))
    stream = two.port.dial(one.udid, Purpose.RAW_DATA, timeout=5)
    try:
        for request in requests:
            stream.send(request, stall=5)
            assert stream.receive(ANSWER, stall=5)[0] != 0
        stream.send(requests[0][:cut], stall=5)
    except IpcError:
        pass  # the other side hung up: that is an answer too
    finally:
        stream.close()
    assert bytes(two.bulk.take(one.udid, ticket)) == b"secret"


@settings(few, max_examples=10)
@given(hello=st.binary(min_size=HELLO, max_size=HELLO).filter(lambda hello: not hello.startswith(b"BKSB\x01")))
def test_any_beginning_of_a_stream_reaches_no_handler(pair: tuple[Side, Side], hello: bytes) -> None:
    one, two = pair
    raw = socket.create_connection(two.port.addresses()[0])
    context = credentials(one.device.trust(two.device)).dialling
    tls = secured(raw, context, accepting=False, deadline=time.monotonic() + 5, wake=-1)
    stream = Stream(tls, two.udid, two.port.addresses()[0])
    try:
        stream.send(hello, stall=5)
        with pytest.raises(IpcError):
            stream.receive(HELLO + 1, stall=5)
    finally:
        stream.close()
    unharmed(one, two)


@given(at=st.integers(0, len(TOKEN) - 1), removed=st.integers(0, 40), put=st.text(max_size=40))
def test_a_token_that_was_tampered_with_is_within_the_limits_or_none(at: int, removed: int, put: str) -> None:
    key = TOKEN[:at] + put + TOKEN[at + removed :]
    assert parse_request_key(key) is None
    assert parse_back_token(key) is None or key.count("/") == 3
    info = parse_node_token(key)
    if info is None:
        return
    assert len(info.udid) == 64 and len(info.boot) == 16 and 0 < len(info.network_id) <= 64
    for text in (info.name, info.device_type):
        assert 0 < len(text) <= limits.MAX_DEVICE_NAME and text.isprintable()
