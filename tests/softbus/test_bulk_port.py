"""bulk_port.py: who may open a stream: real certificates, real TLS; strangers, impostors, floods, changes of trust."""

from __future__ import annotations

import logging
import os
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue

import pytest

from binderkit import limits
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    NotTrustedError,
    ParamValueError,
    QuotaError,
    RefusedError,
)
from binderkit.softbus.bulk_port import Purpose, StreamPort
from binderkit.softbus.bulk_stream import Address, Stream, secured
from binderkit.softbus.bulk_tls import credentials
from tests.softbus import stores
from tests.softbus.certificates import Circle
from tests.softbus.ports import Devices, devices


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Devices]:
    with devices(tmp_path) as made:
        yield made


def _echo(stream: Stream) -> None:
    try:
        while True:
            stream.send(stream.receive(1, stall=30), stall=5)
    except DeadObjectError:
        return


def _eventually(true: Callable[[], bool]) -> None:
    """Wait for something that another thread does; fails after ten seconds."""
    deadline = time.monotonic() + 10
    while not true():
        assert time.monotonic() < deadline
        os.sched_yield()


def test_a_stream_tells_each_side_who_the_other_is(network: Devices) -> None:
    one, two = network.pair(start=False)
    seen: SimpleQueue[str] = SimpleQueue()

    def handler(stream: Stream) -> None:
        seen.put(stream.peer)
        _echo(stream)

    two.port.serve(Purpose.SESSION, handler)
    one.port.start()
    two.port.start()
    stream = one.port.dial(two.udid, Purpose.SESSION, timeout=5)
    stream.send(b"x", stall=5)

    assert stream.receive(1, stall=5) == b"x"
    assert (stream.peer, seen.get(timeout=5)) == (two.udid, one.udid)
    stream.close()


def test_a_device_that_is_not_in_our_list_is_not_dialled(network: Devices) -> None:
    one, two = network.circle.device(), network.circle.device()
    side = network.add(one, [])
    network.add(two, [one])

    with pytest.raises(NotTrustedError, match="pair the two devices first"):
        side.port.dial(two.udid, Purpose.SESSION, timeout=5)


def test_a_device_that_is_not_in_their_list_is_refused_though_its_certificate_is_good(
    network: Devices, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = network.circle.device(), network.circle.device()
    side = network.add(one, [two])
    other = network.add(two, [], start=False)
    other.port.serve(Purpose.SESSION, _never)
    other.port.start()

    with caplog.at_level(logging.WARNING), pytest.raises(NotTrustedError, match="does not trust this device"):
        side.port.dial(two.udid, Purpose.SESSION, timeout=5)
    _eventually(lambda: f"device {one.udid}: not trusted" in caplog.text)


def _never(stream: Stream) -> None:
    pytest.fail(f"a stream of {stream.peer} reached a handler")


def test_a_device_of_another_circle_is_refused_both_ways(network: Devices, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    stranger = Circle(tmp_path / "other").device()
    one = network.circle.device()
    home = network.add(one, [stranger], start=False)
    home.port.serve(Purpose.SESSION, _never)
    home.port.start()
    away = network.add(stranger, [one])

    with pytest.raises(NotTrustedError, match="no certificate of this circle"):
        away.port.dial(one.udid, Purpose.SESSION, timeout=5)
    with pytest.raises(NotTrustedError, match="no certificate of this circle"):
        home.port.dial(stranger.udid, Purpose.SESSION, timeout=5)


def test_a_stranger_who_looks_away_from_our_certificate_is_refused_for_his(network: Devices, tmp_path: Path) -> None:
    """The dialler of another circle who does not check ours: the listener's own check has to stop it."""
    (tmp_path / "other").mkdir()
    stranger = Circle(tmp_path / "other").device()
    one = network.circle.device()
    home = network.add(one, [stranger], start=False)
    home.port.serve(Purpose.SESSION, _never)
    home.port.start()
    context = credentials(stranger.trust(one)).dialling
    context.verify_mode = ssl.CERT_NONE

    raw = socket.create_connection(home.port.addresses()[0])
    tls = secured(raw, context, accepting=False, deadline=time.monotonic() + 5, wake=-1)
    stream = Stream(tls, one.udid, home.port.addresses()[0])
    with pytest.raises(DeadObjectError):
        stream.receive(1, stall=5)
    stream.close()


def test_a_trusted_device_that_answers_in_place_of_another_is_refused(network: Devices) -> None:
    one, two = network.pair()
    third = network.circle.device()
    one.port.set_trust(one.device.trust(two.device, third))
    network.where[third.udid] = two.port.addresses()

    with pytest.raises(NotTrustedError, match=f"{two.udid} answered where {third.udid} was expected"):
        one.port.dial(third.udid, Purpose.SESSION, timeout=5)


def test_a_certificate_with_the_name_of_a_trusted_device_but_another_key_is_refused(
    network: Devices, caplog: pytest.LogCaptureFixture
) -> None:
    one, victim = network.pair(start=False)
    impostor = network.circle.device(victim.udid)
    one.port.serve(Purpose.SESSION, _never)
    one.port.start()
    side = network.add(impostor, [one.device])

    with caplog.at_level(logging.WARNING), pytest.raises((NotTrustedError, DeadObjectError)):
        side.port.dial(one.udid, Purpose.SESSION, timeout=5)
    _eventually(lambda: f"belongs to the key of device {impostor.key_file.stem}" in caplog.text)


def test_nobody_there_is_a_dead_object_and_an_unknown_place_too(network: Devices) -> None:
    one, two = network.pair()
    with socket.create_server(("127.0.0.1", 0)) as free:
        network.where[two.udid] = (free.getsockname(),)
    with pytest.raises(DeadObjectError, match="cannot be reached"):
        one.port.dial(two.udid, Purpose.SESSION, timeout=5)
    network.where[two.udid] = ()
    with pytest.raises(DeadObjectError, match="not in the network"):
        one.port.dial(two.udid, Purpose.SESSION, timeout=5)


def test_names_instead_of_addresses_are_never_looked_up(network: Devices) -> None:
    one, two = network.pair()
    network.where[two.udid] = (("evil.example.com", 1),)

    with pytest.raises(DeadObjectError, match="offers no port"):
        one.port.dial(two.udid, Purpose.SESSION, timeout=5)


def test_the_next_address_is_tried(network: Devices) -> None:
    one, two = network.pair(start=False)
    two.port.serve(Purpose.SESSION, _echo)
    two.port.start()
    with socket.create_server(("127.0.0.1", 0)) as free:
        network.where[two.udid] = (free.getsockname(), *two.port.addresses())

    one.port.dial(two.udid, Purpose.SESSION, timeout=5).close()


def test_somebody_who_takes_connections_and_says_nothing_ends_in_a_timeout(network: Devices) -> None:
    one, two = network.pair()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        network.where[two.udid] = (silent.getsockname(),)
        with pytest.raises(CallTimeoutError):
            one.port.dial(two.udid, Purpose.SESSION, timeout=0.2)


def test_what_nobody_serves_is_refused(network: Devices) -> None:
    one, two = network.pair()
    with pytest.raises(RefusedError, match="does not serve streams for SESSION"):
        one.port.dial(two.udid, Purpose.SESSION, timeout=5)


def test_a_flood_of_streams_ends_with_an_answer_and_harms_no_other_device(
    network: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_STREAMS_PER_DEVICE", 3)
    one, two = network.pair(start=False)
    third = network.add(network.circle.device(), [two.device])
    two.port.set_trust(two.device.trust(one.device, third.device))
    two.port.serve(Purpose.SESSION, _echo)
    two.port.start()

    streams = [one.port.dial(two.udid, Purpose.SESSION, timeout=5) for _ in range(3)]
    with pytest.raises(QuotaError, match="close sessions first"):
        one.port.dial(two.udid, Purpose.SESSION, timeout=5)
    third.port.dial(two.udid, Purpose.SESSION, timeout=5).close()
    for stream in streams:
        stream.close()

    def again() -> bool:
        try:
            one.port.dial(two.udid, Purpose.SESSION, timeout=5).close()
        except QuotaError:
            return False
        return True

    _eventually(again)


def test_connections_that_prove_nothing_are_few_and_end(
    network: Devices, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(limits, "MAX_HANDSHAKES_PER_ADDRESS", 4)
    monkeypatch.setattr(limits, "STREAM_HANDSHAKE_WAIT", 0.3)
    one, two = network.pair(start=False)
    two.port.serve(Purpose.SESSION, _echo)
    two.port.start()
    with caplog.at_level(logging.WARNING):
        idle = [socket.create_connection(two.port.addresses()[0]) for _ in range(40)]
        _eventually(lambda: "too many connections that have not yet shown who they are" in caplog.text)
        for connection in idle:
            assert _closed_by_the_other_side(connection)  # at once, or at the end of its time
            connection.close()
    assert len(caplog.records) <= 11  # nobody fills the log

    one.port.dial(two.udid, Purpose.SESSION, timeout=5).close()


def _closed_by_the_other_side(connection: socket.socket) -> bool:
    connection.settimeout(10)
    try:
        while connection.recv(4096):
            pass
    except ConnectionResetError:
        return True  # closed with bytes of ours unread
    return True


@pytest.mark.parametrize(
    "garbage", [b"", b"\x16\x03\x01" + b"\xff" * 200, b"GET / HTTP/1.1\r\n\r\n", b"BKSB\x01\x02\0\0"]
)
def test_garbage_does_not_stop_the_port(network: Devices, garbage: bytes) -> None:
    one, two = network.pair(start=False)
    two.port.serve(Purpose.SESSION, _echo)
    two.port.start()
    with socket.create_connection(two.port.addresses()[0]) as connection:
        connection.sendall(garbage)
        connection.shutdown(socket.SHUT_WR)
        assert _closed_by_the_other_side(connection)

    one.port.dial(two.udid, Purpose.SESSION, timeout=5).close()


@pytest.mark.parametrize("hello", [b"XXXX\x01\x02\0\0", b"BKSB\x09\x02\0\0", b"\0" * 8])
def test_a_trusted_device_with_a_wrong_hello_reaches_no_handler(network: Devices, hello: bytes) -> None:
    one, two = network.pair(start=False)
    two.port.serve(Purpose.SESSION, _never)
    two.port.start()
    raw = socket.create_connection(two.port.addresses()[0])
    context = credentials(one.device.trust(two.device)).dialling
    tls = secured(raw, context, accepting=False, deadline=time.monotonic() + 5, wake=-1)
    stream = Stream(tls, two.udid, two.port.addresses()[0])
    stream.send(hello, stall=5)
    with pytest.raises(DeadObjectError):
        stream.receive(1, stall=5)
    stream.close()


def test_a_change_of_trust_ends_the_streams_of_who_was_removed_and_no_others(network: Devices) -> None:
    one, two = network.pair(start=False)
    third = network.add(network.circle.device(), [two.device])
    two.port.set_trust(two.device.trust(one.device, third.device))
    two.port.serve(Purpose.SESSION, _echo)
    two.port.start()
    removed = one.port.dial(two.udid, Purpose.SESSION, timeout=5)
    kept = third.port.dial(two.udid, Purpose.SESSION, timeout=5)

    two.port.set_trust(two.device.trust(third.device))

    with pytest.raises(DeadObjectError):
        removed.receive(1, stall=10)
    kept.send(b"x", stall=5)
    assert kept.receive(1, stall=5) == b"x"
    with pytest.raises(NotTrustedError, match="does not trust"):
        one.port.dial(two.udid, Purpose.SESSION, timeout=5)
    removed.close()
    kept.close()


def test_a_device_that_left_loses_its_streams(network: Devices) -> None:
    one, two = network.pair(start=False)
    two.port.serve(Purpose.SESSION, _echo)
    two.port.start()
    stream = one.port.dial(two.udid, Purpose.SESSION, timeout=5)
    one.port.drop(two.udid, "it left")
    with pytest.raises(DeadObjectError, match="it left"):
        stream.receive(1, stall=5)
    stream.close()


def test_closing_ends_streams_and_handshakes_at_once(network: Devices) -> None:
    one, two = network.pair(start=False)
    two.port.serve(Purpose.SESSION, _echo)
    two.port.start()
    stream = one.port.dial(two.udid, Purpose.SESSION, timeout=5)
    with socket.create_connection(two.port.addresses()[0]):
        _eventually(lambda: two.port._unproven.total() == 1)
        begun = time.monotonic()
        two.port.close()
        two.port.close()
        assert time.monotonic() - begun < limits.STREAM_HANDSHAKE_WAIT / 2
    with pytest.raises(DeadObjectError):
        stream.receive(1, stall=5)
    stream.close()
    with pytest.raises(DeadObjectError):
        one.port.dial(two.udid, Purpose.SESSION, timeout=5)


def test_many_dial_at_once(network: Devices) -> None:
    one, two = network.pair(start=False)
    two.port.serve(Purpose.SESSION, _echo)
    two.port.start()

    def ask(number: int) -> bool:
        stream = one.port.dial(two.udid, Purpose.SESSION, timeout=10)
        try:
            stream.send(bytes([number]), stall=5)
            return stream.receive(1, stall=5) == bytes([number])
        finally:
            stream.close()

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(ask, range(24)))


def test_an_address_that_cannot_be_listened_at_is_named_and_nothing_stays_open(tmp_path: Path) -> None:
    device = Circle(tmp_path).device()
    with pytest.raises(ParamValueError, match=r"192\.0\.2\.1"):
        StreamPort(device.trust(), lambda _: (), hosts=("127.0.0.1", "192.0.2.1"))


def test_a_port_that_was_never_started_closes(tmp_path: Path) -> None:
    port = StreamPort(Circle(tmp_path).device().trust(), lambda _: (), hosts=("127.0.0.1", "::1"))
    assert [address[0] for address in port.addresses()] == ["127.0.0.1", "::1"]
    port.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("softbus-stream")]


def test_closing_wakes_who_dials(network: Devices) -> None:
    one, two = network.pair()
    with socket.create_server(("127.0.0.1", 0)) as silent, ThreadPoolExecutor(1) as pool:
        network.where[two.udid] = (silent.getsockname(),)
        dialling = pool.submit(one.port.dial, two.udid, Purpose.SESSION, timeout=30)
        _eventually(lambda: one.port._dials == 1)
        begun = time.monotonic()
        one.port.close()
        with pytest.raises(DeadObjectError):
            dialling.result(10)
        assert time.monotonic() - begun < 5
    with pytest.raises(DeadObjectError, match="closed"):
        one.port.dial(two.udid, Purpose.SESSION, timeout=5)


def test_devices_of_a_real_circle_talk_until_one_is_removed(tmp_path: Path) -> None:
    one, two = (stores.make(tmp_path, name, time.time) for name in ("one", "two"))
    stores.admit(one, two)
    where: dict[str, tuple[Address, ...]] = {}
    here, there = (StreamPort(store.snapshot(), lambda udid: where[udid]) for store in (one, two))
    try:
        here.serve(Purpose.SESSION, _echo)
        where[here.own] = here.addresses()
        here.start()
        stream = there.dial(here.own, Purpose.SESSION, timeout=5)
        stream.send(b"x", stall=5)
        assert stream.receive(1, stall=5) == b"x"

        one.remove(there.own)
        here.set_trust(one.snapshot())
        with pytest.raises(DeadObjectError):
            stream.receive(1, stall=10)
        stream.close()
        with pytest.raises(NotTrustedError):
            there.dial(here.own, Purpose.SESSION, timeout=5)
    finally:
        here.close()
        there.close()


def test_a_system_without_threads_refuses_one_stream_and_takes_the_next(
    network: Devices, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    one, two = network.pair(start=False)
    two.port.serve(Purpose.SESSION, _echo)
    two.port.start()

    def none_left(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", none_left)
        with pytest.raises(DeadObjectError):
            one.port.dial(two.udid, Purpose.SESSION, timeout=5)
    _eventually(lambda: "can't start new thread" in caplog.text)
    one.port.dial(two.udid, Purpose.SESSION, timeout=5).close()


def test_other_addresses_are_listened_at_without_ending_a_stream(network: Devices) -> None:
    one, two = network.pair(start=False)
    two.port.serve(Purpose.SESSION, _echo)
    (before,) = two.port.addresses()
    two.port.set_hosts(["127.0.0.1", "127.0.0.2"])  # before anybody accepts
    one.port.start()
    two.port.start()
    stream = one.port.dial(two.udid, Purpose.SESSION, timeout=5)

    two.port.set_hosts(["127.0.0.2", "127.0.0.3"])
    kept = dict(two.port.addresses())
    assert set(kept) == {"127.0.0.2", "127.0.0.3"}
    stream.send(b"x", stall=5)
    assert stream.receive(1, stall=5) == b"x"
    stream.close()
    for place in kept.items():
        network.where[two.udid] = (place,)
        one.port.dial(two.udid, Purpose.SESSION, timeout=5).close()
    network.where[two.udid] = (before,)
    _eventually(lambda: not _listens(before))
    with pytest.raises(DeadObjectError):
        one.port.dial(two.udid, Purpose.SESSION, timeout=5)

    two.port.set_hosts(["127.0.0.1", "127.0.0.2"])
    assert dict(two.port.addresses())["127.0.0.2"] == kept["127.0.0.2"]
    with pytest.raises(ParamValueError, match=r"192\.0\.2\.1"):
        two.port.set_hosts(["127.0.0.4", "192.0.2.1"])
    assert {host for host, _ in two.port.addresses()} == {"127.0.0.1", "127.0.0.2"}
    two.port.close()
    two.port.set_hosts(["127.0.0.1"])  # too late: nothing is opened


def _listens(address: Address) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(address) == 0


def test_whoever_is_not_where_it_should_be_is_reported(tmp_path: Path) -> None:
    circle = Circle(tmp_path)
    one, two = circle.device(), circle.device()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound, but nobody listens
        place: Address = taken.getsockname()
        missing: list[str] = []
        port = StreamPort(one.trust(two), lambda _: [place], unreached=missing.append)
        try:
            with pytest.raises(DeadObjectError):
                port.dial(two.udid, Purpose.SESSION, timeout=5)
        finally:
            port.close()
    assert missing == [two.udid]
