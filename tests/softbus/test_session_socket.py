"""session_socket.py: the states of a socket, why a bind fails, and what it refuses to send."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from binderkit.errors import (
    CallCancelledError,
    CallTimeoutError,
    DeadObjectError,
    InvalidObjectError,
    IpcError,
    ParamTypeError,
    ParamValueError,
    RefusedError,
    TooBigError,
)
from binderkit.softbus import reasons
from binderkit.softbus.reasons import DataType, QosType
from binderkit.softbus.session_socket import PeerSocketInfo, Socket, SocketListener
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


def test_wrong_arguments_are_refused_with_words(pair: tuple[Station, Station]) -> None:
    client, _, _, _ = open_pair(pair, DataType.BYTES)
    with pytest.raises(ParamValueError, match="at least one byte"):
        client.send_bytes(b"")
    with pytest.raises(ParamTypeError, match="not str"):
        client.send_bytes("text")  # type: ignore[arg-type]
    with pytest.raises(ParamTypeError, match="contiguous"):
        client.send_bytes(memoryview(b"abcd")[::2])
    for send in (client.send_message, client.send_stream):
        with pytest.raises(ParamValueError, match="carries BYTES"):
            send(b"x")


@pytest.mark.parametrize(
    ("data_type", "method", "longest"),
    [
        (DataType.BYTES, "send_bytes", 4 << 20),
        (DataType.MESSAGE, "send_message", 4096),
        (DataType.RAW_STREAM, "send_stream", 2 << 20),
    ],
)
def test_too_long_is_refused_before_anything_is_sent(
    pair: tuple[Station, Station], data_type: DataType, method: str, longest: int
) -> None:
    client, _, _, there = open_pair(pair, data_type)
    assert client.get_mtu_size() == longest
    with pytest.raises(TooBigError, match=f"at most {longest}") as caught:
        getattr(client, method)(bytes(longest + 1))
    assert caught.value.code == -426115018
    getattr(client, method)(b"fits")
    assert there.events.get(timeout=WAIT)[2] == b"fits"


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"name": ""}, -426115069),
        ({"name": "x" * 256}, -426115069),
        ({"name": "a\nb"}, -426115069),
        ({"name": "x", "peer_name": "x" * 256}, -426115069),
        ({"name": "x", "peer_network_id": "x" * 65}, -426442749),
        ({"name": "x", "pkg_name": "x" * 65}, -426442749),
        ({"name": "x", "data_type": DataType.FILE}, -426442749),
        ({"name": 7}, -426115069),
    ],
)
def test_names_have_their_limits(pair: tuple[Station, Station], arguments: dict[str, object], code: int) -> None:
    with pytest.raises((ParamValueError, ParamTypeError)) as caught:
        pair[0].sessions.socket(**arguments)  # type: ignore[arg-type]
    assert caught.value.code == code
    pair[0].sessions.socket("x" * 255, peer_name="y" * 255, peer_network_id="z" * 64, pkg_name="p" * 64).shutdown()


def _code_of(call: object, *arguments: object) -> tuple[type[BaseException], int]:
    with pytest.raises(IpcError) as caught:
        call(*arguments)  # type: ignore[operator]
    return type(caught.value), caught.value.code


def test_why_a_bind_fails_is_told_with_type_and_code(pair: tuple[Station, Station]) -> None:
    one, two = pair
    two.listen(Heard(), name="server")
    two.listen(Heard(takes=False), name="choosy")

    assert _code_of(one.to(two, name="nobody").bind, Heard()) == (InvalidObjectError, -426115007)
    assert _code_of(one.to(two, name="choosy").bind, Heard()) == (RefusedError, -426114923)
    assert _code_of(one.to(two, DataType.MESSAGE).bind, Heard()) == (ParamValueError, reasons.INVALID_PARAM)
    assert _code_of(one.sessions.socket("x").bind, Heard()) == (ParamValueError, reasons.INVALID_PARAM)
    two.names.hidden.add(two.udid)
    assert _code_of(one.to(two).bind, Heard()) == (DeadObjectError, reasons.NODE_OFFLINE)


def test_a_listener_whose_negotiation_fails_has_rejected(
    pair: tuple[Station, Station], caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(SocketListener):
        def on_negotiate(self, socket: Socket, peer: PeerSocketInfo) -> bool:
            raise RuntimeError("no")

    pair[1].listen(Broken())
    with pytest.raises(RefusedError, match="rejected"):
        pair[0].to(pair[1]).bind(Heard())
    assert "on_negotiate failed" in caplog.text


def test_bind_async_tells_the_listener(pair: tuple[Station, Station]) -> None:
    one, two = pair
    there, here = Heard(), Heard()
    two.listen(there)
    good, bad = one.to(two), one.to(two, name="nobody")
    good.bind_async(here)
    assert here.socket() is good
    bad.bind_async(here)
    assert here.next("error") == (bad, -426115007)


class _Slow(SocketListener):
    """Negotiates for as long as the test wants."""

    def __init__(self) -> None:
        self.asked, self.go = threading.Event(), threading.Event()

    def on_negotiate(self, socket: Socket, peer: PeerSocketInfo) -> bool:
        self.asked.set()
        return self.go.wait(WAIT)


def test_a_bind_ends_in_time(pair: tuple[Station, Station]) -> None:
    slow = _Slow()
    pair[1].listen(slow)
    socket = pair[0].to(pair[1])
    with pytest.raises(CallTimeoutError) as caught:
        socket.bind(Heard(), {QosType.MAX_WAIT_TIMEOUT: 100})
    assert caught.value.code == -426114940
    slow.go.set()
    with pytest.raises(DeadObjectError):
        socket.send_bytes(b"x")


def test_a_bind_can_be_cancelled(pair: tuple[Station, Station]) -> None:
    slow = _Slow()
    pair[1].listen(slow)
    socket = pair[0].to(pair[1])
    with ThreadPoolExecutor(1) as pool:
        binding = pool.submit(socket.bind, Heard())
        assert slow.asked.wait(WAIT)
        socket.shutdown()
        with pytest.raises(CallCancelledError) as caught:
            binding.result(WAIT)
    assert caught.value.code == -426114956
    slow.go.set()


def test_a_socket_is_used_once(pair: tuple[Station, Station]) -> None:
    client, _, server, _ = open_pair(pair, DataType.BYTES)
    for socket in (client, server):
        with pytest.raises(InvalidObjectError, match="is open"):
            socket.listen(Heard())
    with pytest.raises(InvalidObjectError, match="is open"):
        client.bind(Heard())
    fresh = pair[0].to(pair[1])
    with pytest.raises(InvalidObjectError, match="was not bound yet"):
        fresh.send_bytes(b"x")
    with fresh:
        fresh.bind(Heard())
    with pytest.raises(DeadObjectError):
        fresh.send_bytes(b"x")


@pytest.mark.parametrize("value", [0, -1, 1 << 31])
def test_a_time_of_zero_is_refused_and_the_socket_stays_new(pair: tuple[Station, Station], value: int) -> None:
    pair[1].listen(Heard())
    socket = pair[0].to(pair[1])
    for kind in (QosType.MAX_WAIT_TIMEOUT, QosType.MAX_IDLE_TIMEOUT):
        with pytest.raises(ParamValueError, match=kind.name):
            socket.bind(Heard(), {kind: value})
    socket.bind(Heard())
