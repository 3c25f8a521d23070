"""session_link.py: order, acknowledgements, slow listeners, times, and frames that break the rules."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from binderkit import limits
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
)
from binderkit.softbus import reasons
from binderkit.softbus.bulk_port import Purpose
from binderkit.softbus.reasons import DataType, QosType, ShutdownReason
from binderkit.softbus.session_socket import Socket
from tests.softbus.ports import Devices
from tests.softbus.session_pairs import WAIT, Heard, Station, open_pair, stations


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Devices, list[Station]]]:
    with stations(tmp_path) as made:
        yield made


@pytest.fixture
def pair(world: tuple[Devices, list[Station]]) -> tuple[Station, Station]:
    one, two = world[1]
    return one, two


def test_nothing_for_the_agreed_time_is_a_timeout_and_traffic_is_not(pair: tuple[Station, Station]) -> None:
    one, two = pair
    here, there = Heard(), Heard()
    two.listen(there)
    client = one.to(two)
    client.bind(here, {QosType.MAX_IDLE_TIMEOUT: 300})
    here.socket()
    begun = time.monotonic()
    server = there.socket()
    for _ in range(20):
        server.send_bytes(b"x")
        here.next("bytes")
    assert here.next("shutdown")[1] is ShutdownReason.TIMEOUT
    assert time.monotonic() - begun >= 0.3
    assert there.next("shutdown")[1] is ShutdownReason.TIMEOUT


def test_the_last_word_arrives_though_the_other_side_sends_too(
    pair: tuple[Station, Station],
) -> None:
    """Closing a socket with unread bytes would make the kernel throw away our last ones."""
    client, _, server, there = open_pair(pair, DataType.BYTES)
    server.send_bytes(bytes(1_000_000))
    client.send_bytes(b"the last word")
    client.shutdown()
    assert there.next("bytes")[1] == b"the last word"
    assert there.next("shutdown")[1] is ShutdownReason.PEER


def test_a_broken_connection_is_link_down_on_both_sides(pair: tuple[Station, Station]) -> None:
    _, here, _, there = open_pair(pair, DataType.BYTES)
    for stream in list(pair[0].side.port._streams):
        stream.abort("the link went")
    assert here.next("shutdown")[1] is ShutdownReason.LINK_DOWN
    assert there.next("shutdown")[1] is ShutdownReason.LINK_DOWN


def test_a_listener_may_answer_on_its_own_session_and_wait(pair: tuple[Station, Station]) -> None:
    class Echo(Heard):
        def on_message(self, socket: Socket, data: bytes) -> None:
            socket.send_message(data + b"!")

    one, two = pair
    here = Heard()
    two.listen(Echo(), DataType.MESSAGE)
    client = one.to(two, DataType.MESSAGE)
    client.bind(here)
    here.socket()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(client.send_message, [b"%d" % number for number in range(100)]))
    assert sorted(here.next("message")[1] for _ in range(100)) == sorted(b"%d!" % number for number in range(100))


def test_a_slow_listener_slows_the_sender_and_loses_nothing(
    pair: tuple[Station, Station], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SESSION_QUEUE", 100_000)

    class Slow(Heard):
        def on_bytes(self, socket: Socket, data: bytes) -> None:
            assert go.wait(WAIT)
            super().on_bytes(socket, data)

    go = threading.Event()
    slow = Slow()
    pair[1].listen(slow)
    client = pair[0].to(pair[1])
    client.bind(Heard())
    sent = []

    def send() -> None:
        for number in range(40):
            client.send_bytes(bytes([number]) * 1_000_000)
            sent.append(number)

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        with pytest.raises(TimeoutError):
            sending.result(0.5)
        assert len(sent) < 40
        go.set()
        sending.result(WAIT)
    slow.socket()
    assert [slow.next("bytes")[1][0] for _ in range(40)] == list(range(40))


def test_what_is_not_acknowledged_ends_the_session(
    pair: tuple[Station, Station], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, here, _, _ = open_pair(pair, DataType.MESSAGE)
    monkeypatch.setattr(limits, "SESSION_ACK_WAIT", 0.2)
    monkeypatch.setattr("binderkit.softbus.session_link.Link._acknowledge", lambda self, number: None)
    client.send_message_async(b"a", 5)
    with pytest.raises((CallTimeoutError, DeadObjectError), match="it may have arrived"):
        client.send_message(b"b")
    assert here.next("message_sent") == (client, 5, reasons.TIMEOUT)
    assert here.next("shutdown")[1] is ShutdownReason.TIMEOUT


@pytest.mark.parametrize(
    "frame",
    [
        b"\xff\xff\xff\xff\x03\0\0\0\0\0\0\0",  # longer than anything
        b"\0\0\0\0\x63\0\0\0\0\0\0\0",  # a kind that does not exist
        b"\x01\0\0\0\x04\0\0\0\0\0\0\0x",  # a message in a session for bytes
        b"\0\0\0\0\x06\0\0\0\x09\0\0\0",  # an acknowledgement of nothing
        b"\0\0\0\0\x01\0\0\0\0\0\0\0",  # a second opening
        b"\0\0\0\0\x07\0\0\0\0\0\0\0",  # a shutdown without a reason
    ],
)
def test_a_frame_against_the_rules_ends_its_session_only(pair: tuple[Station, Station], frame: bytes) -> None:
    one, two = pair
    _, here, _, there = open_pair(pair, DataType.BYTES)
    (stream,) = one.side.port._streams
    other = one.to(two)
    other.bind(Heard())
    there.socket()
    stream.send(frame, stall=5)
    assert there.next("shutdown")[1] is ShutdownReason.RECV_DATA_ERR
    assert here.next("shutdown")[1] is ShutdownReason.RECV_DATA_ERR
    other.send_bytes(b"unharmed")
    assert there.next("bytes")[1] == b"unharmed"


@pytest.mark.parametrize(
    "first", [b"\0" * 12, b"\0\0\0\0\x03\0\0\0\0\0\0\0", b"\x03\0\0\0\x01\0\0\0\0\0\0\0abc", b"\xff" * 12]
)
def test_a_session_that_begins_against_the_rules_reaches_nobody(pair: tuple[Station, Station], first: bytes) -> None:
    one, two = pair
    there = Heard()
    two.listen(there)
    stream = one.side.port.dial(two.udid, Purpose.SESSION, timeout=5)
    stream.send(first, stall=5)
    with pytest.raises(DeadObjectError):
        stream.receive(1, stall=5)
    stream.close()
    one.to(two).bind(Heard())
    there.socket()
    assert there.events.empty()


def test_sessions_wait_for_nobody_elses(pair: tuple[Station, Station]) -> None:
    """One whose listener does not go on holds up its own sender only."""
    one, two = pair
    go = threading.Event()

    class Stuck(Heard):
        def on_bytes(self, socket: Socket, data: bytes) -> None:
            assert go.wait(WAIT)

    two.listen(Stuck(), name="stuck")
    there = Heard()
    two.listen(there, name="free")
    stuck, free = one.to(two, name="stuck"), one.to(two, name="free")
    stuck.bind(Heard())
    free.bind(Heard())
    there.socket()
    stuck.send_bytes(bytes(4 << 20))
    free.send_bytes(b"at once")
    assert there.next("bytes")[1] == b"at once"
    go.set()
