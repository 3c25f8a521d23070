"""sessions.py: sessions between two devices over real TLS; names, limits, owners, and every way they end."""

from __future__ import annotations

import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from socket import create_server

import pytest

from binderkit import limits
from binderkit.errors import (
    CallCancelledError,
    DeadObjectError,
    NotTrustedError,
    QuotaError,
    RefusedError,
    TooBigError,
)
from binderkit.softbus.reasons import DataType, ShutdownReason
from binderkit.softbus.session_frames import StreamFrameInfo
from binderkit.softbus.session_socket import PeerSocketInfo, Socket
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


def test_bytes_go_both_ways_and_each_knows_the_other(pair: tuple[Station, Station]) -> None:
    one, two = pair
    here, there = Heard(), Heard()
    two.listen(there)
    client = one.to(two)
    client.bind(here)

    server, peer = there.next("bind")
    assert peer == PeerSocketInfo("client", "com.example.client", one.network_id, one.udid, DataType.BYTES)
    _, seen = here.next("bind")
    assert (seen.name, seen.network_id, seen.udid) == ("server", two.network_id, two.udid)
    client.send_bytes(b"there")
    assert there.next("bytes") == (server, b"there")
    server.send_bytes(bytearray(b"back"))
    assert here.next("bytes") == (client, b"back")


def test_packets_arrive_whole_and_in_order_up_to_4_mib(pair: tuple[Station, Station]) -> None:
    client, _, _, there = open_pair(pair, DataType.BYTES)
    sizes = [1, 16_384, 16_385, 1_000_000, limits.MAX_SESSION_BYTES, 3]
    for number, size in enumerate(sizes):
        client.send_bytes(memoryview(bytes([number]) * size))
    for number, size in enumerate(sizes):
        assert there.next("bytes")[1] == bytes([number]) * size


def test_messages_are_acknowledged_and_come_in_order(pair: tuple[Station, Station]) -> None:
    client, here, server, there = open_pair(pair, DataType.MESSAGE)
    for number in range(20):
        client.send_message(b"%d" % number)
    assert [there.next("message")[1] for _ in range(20)] == [b"%d" % number for number in range(20)]
    server.send_message(bytes(limits.MAX_SESSION_MESSAGE))
    assert here.next("message")[1] == bytes(4096)


def test_frames_of_a_stream_bring_their_description(pair: tuple[Station, Station]) -> None:
    client, _, server, there = open_pair(pair, DataType.VIDEO_STREAM)
    info = StreamFrameInfo(frame_type=1, time_stamp=1 << 40, seq_num=7)
    client.send_stream(b"picture", b"exif", info)
    assert there.next("stream") == (server, b"picture", b"exif", info)
    client.send_stream(bytes(limits.MAX_STREAM_FRAME - 4), b"exif")
    assert len(there.next("stream")[1]) == limits.MAX_STREAM_FRAME - 4
    with pytest.raises(TooBigError):
        client.send_stream(bytes(limits.MAX_STREAM_FRAME - 3), b"exif")


def test_what_is_sent_without_waiting_is_reported_with_its_number(pair: tuple[Station, Station]) -> None:
    client, here, _, there = open_pair(pair, DataType.BYTES)
    client.send_bytes_async(b"x", 41)
    assert there.next("bytes")[1] == b"x"
    assert here.next("bytes_sent") == (client, 41, 0)


def test_messages_without_waiting_too_and_the_window_is_kept(
    pair: tuple[Station, Station], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, here, _, there = open_pair(pair, DataType.MESSAGE)
    client.send_message_async(b"m", 1)
    assert here.next("message_sent") == (client, 1, 0)
    assert there.next("message")[1] == b"m"
    monkeypatch.setattr(limits, "MAX_SESSION_UNACKED", 0)
    with pytest.raises(QuotaError, match="wait for their acknowledgement"):
        client.send_message_async(b"m", 2)


def test_shutdown_is_heard_as_peer_after_everything_that_was_sent(pair: tuple[Station, Station]) -> None:
    client, here, server, there = open_pair(pair, DataType.BYTES)
    for number in range(50):
        client.send_bytes(bytes([number]) * 50_000)
    client.shutdown()
    client.shutdown()
    for number in range(50):
        assert there.next("bytes")[1][0] == number
    assert there.next("shutdown") == (server, ShutdownReason.PEER)
    assert here.events.empty()  # who shuts down is not told
    for socket in (client, server):
        with pytest.raises(DeadObjectError):
            socket.send_bytes(b"x")


def test_a_listener_may_shut_its_socket_down(pair: tuple[Station, Station]) -> None:
    class Once(Heard):
        def on_bytes(self, socket: Socket, data: bytes) -> None:
            socket.shutdown()

    one, two = pair
    two.listen(Once())
    here = Heard()
    client = one.to(two)
    client.bind(here)
    here.socket()
    client.send_bytes(b"x")
    assert here.next("shutdown") == (client, ShutdownReason.PEER)


def test_a_device_that_leaves_ends_its_sessions(pair: tuple[Station, Station]) -> None:
    _, here, _, there = open_pair(pair, DataType.BYTES)
    pair[0].sessions.device_offline(pair[1].udid)
    assert here.next("shutdown")[1] is ShutdownReason.LNN_OFFLINE
    assert there.next("shutdown")[1] is ShutdownReason.LNN_OFFLINE


def test_a_device_that_is_trusted_no_more_loses_its_sessions(pair: tuple[Station, Station]) -> None:
    one, two = pair
    client, here, _, there = open_pair(pair, DataType.BYTES)
    two.side.port.set_trust(two.side.device.trust())
    assert there.next("shutdown")[1] is ShutdownReason.LNN_OFFLINE
    assert here.next("shutdown")[1] is ShutdownReason.LINK_DOWN
    again = one.to(two)
    with pytest.raises(NotTrustedError, match="does not trust"):
        again.bind(Heard())
    assert "was shut down" in repr(again) and "was shut down" in repr(client)


def test_a_softbus_that_ends_in_order_says_so(pair: tuple[Station, Station]) -> None:
    _, here, _, there = open_pair(pair, DataType.BYTES)
    pair[0].sessions.close()
    assert here.next("shutdown")[1] is ShutdownReason.SERVICE_DIED
    assert there.next("shutdown")[1] is ShutdownReason.SERVICE_DIED
    with pytest.raises(DeadObjectError, match="were closed"):
        pair[0].to(pair[1])


def test_closing_does_not_wait_for_a_bind_that_gets_no_answer(world: tuple[Devices, list[Station]]) -> None:
    made, (one, two) = world
    with create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as pool:
        made.where[two.udid] = (silent.getsockname(),)
        socket = one.to(two)
        binding = pool.submit(socket.bind, Heard())
        accepted, _ = silent.accept()
        begun = time.monotonic()
        one.sessions.close()
        one.side.port.close()
        with pytest.raises((CallCancelledError, DeadObjectError)):
            binding.result(WAIT)
        assert time.monotonic() - begun < 5
        accepted.close()


def test_an_application_that_ends_takes_its_sockets_with_it(pair: tuple[Station, Station]) -> None:
    one, two = pair
    there = Heard()
    two.listen(there)
    mine = one.sessions.socket("mine", peer_name="server", peer_network_id=two.network_id, owner=17)
    other = one.to(two)
    for socket in (mine, other):
        socket.bind(Heard())
        there.socket()
    one.sessions.end_owner(17)
    assert there.next("shutdown")[1] is ShutdownReason.PEER
    other.send_bytes(b"still here")
    assert there.next("bytes")[1] == b"still here"
    with pytest.raises(DeadObjectError):
        mine.send_bytes(b"x")


def test_a_name_is_listened_at_once_and_free_after_shutdown(pair: tuple[Station, Station]) -> None:
    first = pair[0].listen(Heard())
    second = pair[0].sessions.socket("server")
    with pytest.raises(QuotaError, match="take another name") as caught:
        second.listen(Heard())
    assert caught.value.code == -426115066
    first.shutdown()
    second.listen(Heard())


def test_an_application_listens_at_32_sockets_and_another_one_at_its_own(pair: tuple[Station, Station]) -> None:
    sessions = pair[0].sessions
    for number in range(limits.MAX_SESSION_SERVERS):
        sessions.socket(f"s{number}", owner="app").listen(Heard())
    with pytest.raises(QuotaError, match="32 listening sockets") as caught:
        sessions.socket("one more", owner="app").listen(Heard())
    assert caught.value.code == -426115065
    sessions.socket("one more", owner="other").listen(Heard())


def test_an_application_has_52_sockets(pair: tuple[Station, Station]) -> None:
    for _ in range(52):
        pair[0].sessions.socket("x", owner="app")
    with pytest.raises(QuotaError, match="52 sockets"):
        pair[0].sessions.socket("x", owner="app")


def test_an_application_opens_20_sessions_on_both_sides(pair: tuple[Station, Station]) -> None:
    one, two = pair
    there = Heard()
    two.listen(there)
    opened = []
    for _ in range(limits.MAX_SESSIONS_PER_CLIENT):
        opened.append(one.to(two))
        opened[-1].bind(Heard())
    with pytest.raises(QuotaError, match="20 sessions of this application"):
        one.to(two).bind(Heard())
    other = one.sessions.socket("other", peer_name="server", peer_network_id=two.network_id, owner="other")
    with pytest.raises(QuotaError, match="did not open a session") as caught:
        other.bind(Heard())  # there, the listener's application has its 20
    assert caught.value.code == -426115065
    opened[0].shutdown()
    # Each session has a thread of its own: the first one's end may be heard before the last one's beginning.
    heard = [there.events.get(timeout=WAIT)[0] for _ in range(limits.MAX_SESSIONS_PER_CLIENT + 1)]
    assert sorted(heard) == ["bind"] * limits.MAX_SESSIONS_PER_CLIENT + ["shutdown"]
    again = one.to(two)
    again.bind(Heard())


def test_a_refused_session_does_not_count(pair: tuple[Station, Station], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SESSIONS_PER_CLIENT", 1)
    choosy = Heard(takes=False)
    pair[1].listen(choosy)
    for _ in range(3):
        with pytest.raises(RefusedError):
            pair[0].to(pair[1]).bind(Heard())
    choosy.takes = True
    pair[0].to(pair[1]).bind(Heard())
