"""session_client.py: the sockets of an application behave as those of the softbus process."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from binderkit import limits
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    InvalidObjectError,
    IpcError,
    ParamValueError,
    QuotaError,
    RefusedError,
    TooBigError,
)
from binderkit.softbus.reasons import DataType, QosType, ShutdownReason
from binderkit.softbus.session_client import RemoteSessions
from binderkit.softbus.session_frames import StreamFrameInfo
from binderkit.softbus.session_service import SessionService
from binderkit.softbus.session_socket import Socket
from tests.softbus.session_pairs import WAIT, Heard, Station, stations

Pair = tuple[RemoteSessions, RemoteSessions, Station, Station]


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    with stations(tmp_path) as (_, (one, two)):
        here, there = (RemoteSessions(SessionService(station.sessions).as_object()) for station in (one, two))
        yield here, there, one, two
        here.close()
        there.close()


def _client(pair: Pair, data_type: DataType = DataType.BYTES, name: str = "server") -> Socket:
    return pair[0].socket("client", peer_name=name, peer_network_id=pair[3].network_id, data_type=data_type)


def _open(pair: Pair, data_type: DataType) -> tuple[Socket, Heard, Socket, Heard]:
    here, there = Heard(), Heard()
    pair[1].socket("server", data_type=data_type).listen(there)
    client = _client(pair, data_type)
    client.bind(here)
    assert here.socket() is client
    return client, here, there.socket(), there


def test_bytes_go_both_ways_and_each_knows_the_other(pair: Pair) -> None:
    client, here, server, there = _open(pair, DataType.BYTES)
    client.send_bytes(b"there")
    assert there.next("bytes") == (server, b"there")
    server.send_bytes(memoryview(b"back"))
    assert here.next("bytes") == (client, b"back")
    assert server.peer is not None and client.peer is not None
    assert (server.peer.udid, client.peer.udid) == (pair[2].udid, pair[3].udid)


def test_messages_wait_for_their_acknowledgement_also_in_a_listener(pair: Pair) -> None:
    class Echo(Heard):
        def on_message(self, socket: Socket, data: bytes) -> None:
            socket.send_message(data + b"!")

    here = Heard()
    pair[1].socket("server", data_type=DataType.MESSAGE).listen(Echo())
    client = _client(pair, DataType.MESSAGE)
    client.bind(here)
    here.socket()
    for number in range(20):
        client.send_message(b"%d" % number)
    assert [here.next("message")[1] for _ in range(20)] == [b"%d!" % number for number in range(20)]


def test_numbers_come_back_and_the_window_is_kept(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    client, here, _, there = _open(pair, DataType.BYTES)
    client.send_bytes_async(b"x", 41)
    assert there.next("bytes")[1] == b"x"
    assert here.next("bytes_sent") == (client, 41, 0)
    monkeypatch.setattr(limits, "MAX_SESSION_UNACKED", 0)
    with pytest.raises(QuotaError, match="wait for their acknowledgement"):
        client.send_bytes_async(b"x", 42)


def test_frames_of_a_stream_bring_their_description(pair: Pair) -> None:
    client, _, server, there = _open(pair, DataType.RAW_STREAM)
    info = StreamFrameInfo(frame_type=1, time_stamp=2, seq_num=3)
    client.send_stream(b"data", b"ext", info)
    assert there.next("stream") == (server, b"data", b"ext", info)


def test_shutdown_is_heard_as_peer_after_everything_that_was_sent(pair: Pair) -> None:
    client, here, server, there = _open(pair, DataType.BYTES)
    for number in range(30):
        client.send_bytes(bytes([number]) * 100_000)
    client.shutdown()
    for number in range(30):
        assert there.next("bytes")[1][0] == number
    assert there.next("shutdown") == (server, ShutdownReason.PEER)
    assert here.events.empty()
    for socket in (client, server):
        with pytest.raises(DeadObjectError):
            socket.send_bytes(b"x")


def test_a_broken_connection_is_heard_with_its_reason(pair: Pair) -> None:
    _, here, _, there = _open(pair, DataType.BYTES)
    pair[2].sessions.device_offline(pair[3].udid)
    assert here.next("shutdown")[1] is ShutdownReason.LNN_OFFLINE
    assert there.next("shutdown")[1] is ShutdownReason.LNN_OFFLINE


def _raised(call: object, *arguments: object) -> tuple[type[BaseException], int]:
    with pytest.raises(IpcError) as caught:
        call(*arguments)  # type: ignore[operator]
    return type(caught.value), caught.value.code


def test_refusals_are_the_same_errors_as_in_the_softbus_process(pair: Pair) -> None:
    here, there, _, _ = pair
    there.socket("choosy").listen(Heard(takes=False))
    there.socket("server").listen(Heard())

    assert _raised(_client(pair, name="nobody").bind, Heard()) == (InvalidObjectError, -426115007)
    assert _raised(_client(pair, name="choosy").bind, Heard()) == (RefusedError, -426114923)
    assert _raised(there.socket("server").listen, Heard()) == (QuotaError, -426115066)
    assert _raised(here.socket, "") == (ParamValueError, -426115069)
    assert _raised(_client(pair).send_bytes, bytes((4 << 20) + 1)) == (TooBigError, -426115018)
    away = here.socket("client", peer_name="server", peer_network_id="nowhere")
    assert _raised(away.bind, Heard()) == (DeadObjectError, -426049520)


def test_a_bind_ends_in_time_and_async_binds_tell(pair: Pair) -> None:
    go = threading.Event()

    class Slow(Heard):
        def on_negotiate(self, socket: Socket, peer: object) -> bool:
            return go.wait(WAIT)

    pair[1].socket("server").listen(Slow())
    assert _raised(_client(pair).bind, Heard(), {QosType.MAX_WAIT_TIMEOUT: 100}) == (CallTimeoutError, -426114940)
    go.set()
    heard = Heard()
    client = _client(pair)
    client.bind_async(heard)
    assert heard.socket() is client
    missing = _client(pair, name="nobody")
    missing.bind_async(heard)
    assert heard.next("error") == (missing, -426115007)


def test_a_slow_listener_slows_the_sender_and_loses_nothing(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_QUEUE", 1_000_000)
    go = threading.Event()

    class Slow(Heard):
        def on_bytes(self, socket: Socket, data: bytes) -> None:
            assert go.wait(WAIT)
            super().on_bytes(socket, data)

    slow = Slow()
    pair[1].socket("server").listen(slow)
    client = _client(pair)
    client.bind(Heard())
    slow.socket()

    def send() -> None:
        for number in range(50):
            client.send_bytes(bytes([number]) * 1_000_000)

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(send)
        with pytest.raises(TimeoutError):
            sending.result(0.5)
        go.set()
        sending.result(30)
    assert [slow.next("bytes")[1][0] for _ in range(50)] == list(range(50))


def test_when_the_softbus_process_ends_every_session_says_so(pair: Pair) -> None:
    client, here, _, _ = _open(pair, DataType.BYTES)
    listening = pair[0].socket("mine")
    listening.listen(Heard())
    pair[0]._service_died()  # what its death notice calls
    assert here.next("shutdown") == (client, ShutdownReason.SERVICE_DIED)
    assert "was shut down" in repr(listening)
