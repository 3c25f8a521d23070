"""The engine on real Zenoh sessions with real mutual TLS, and what hostile devices can do: nothing."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import zenoh

from binderkit import limits
from binderkit.errors import DeadObjectError, ForkedError, IpcError, ParamValueError
from binderkit.softbus import zenoh_config
from binderkit.softbus.calls import Request
from binderkit.softbus.engine import Busy, EngineTimeout, Incoming, Kind, NoAnswer, Outcome, PresenceEvent
from binderkit.softbus.zenoh_config import ZenohSettings, request_key, requests_of, session_id
from binderkit.softbus.zenoh_engine import ZenohEngine
from tests.softbus.certificates import Circle, Device
from tests.softbus.zenoh_devices import Loopback, Watch, free_port, warm_up


@pytest.fixture(scope="module", autouse=True)
def runtimes(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Warm: set up before the leak check of each test looks for the first time."""
    warm_up(tmp_path_factory.mktemp("warm"))


@pytest.fixture
def loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setattr(limits, "RPC_SESSION_AGE", 0.25)
    loopback = Loopback(tmp_path)
    yield loopback
    loopback.close()


def echo(request: Request) -> bytes:
    return request.payload


def open_raw(trust: Any, settings: ZenohSettings, **changes: Any) -> zenoh.Session:
    """Open a session as a hostile device would: its own list of rules is off."""
    config = json.loads(zenoh_config.zenoh_config(trust, settings, session_id(trust.own, "0" * 16, 1)))
    config["access_control"] = {"enabled": False}
    config.update(changes)
    return zenoh.open(zenoh.Config.from_json5(json.dumps(config)))


def ask(session: zenoh.Session, key: str, payload: bytes = b"", timeout: float = 1.0) -> list[bytes]:
    replies = session.get(key, payload=payload, attachment=b"header", timeout=timeout)
    return [reply.ok.payload.to_bytes() for reply in replies if reply.ok is not None]


class Received:
    """A handler that keeps what it is given."""

    def __init__(self) -> None:
        self.requests: list[Incoming] = []

    def __call__(self, incoming: Incoming) -> None:
        self.requests.append(incoming)
        incoming.answer(b"genuine")


def test_requests_come_with_their_source_and_bring_answers(loopback: Loopback) -> None:
    received = Received()
    a, b = loopback.circle.device(), loopback.circle.device()
    one, watch = loopback.engine(a.trust(b), name="one")
    two, other = loopback.engine(b.trust(a), received, name="two")
    assert watch.wait(PresenceEvent.ONLINE, b.udid).device == two.info
    other.wait(PresenceEvent.ONLINE, a.udid)
    assert one.request(b.udid, Kind.CALL, 2**64 - 1, b"head", b"body", 5) == b"genuine"
    request = received.requests[0]
    assert (request.source, request.kind, request.target) == (a.udid, Kind.CALL, 2**64 - 1)
    assert (request.header, request.payload) == (b"head", b"body")
    assert one.devices() == {b.udid: two.info} and two.devices() == {a.udid: one.info}


def test_the_largest_payload_arrives_whole_and_a_larger_one_is_refused_here(loopback: Loopback) -> None:
    a, b = loopback.circle.device(), loopback.circle.device()
    one, watch = loopback.engine(a.trust(b))
    loopback.engine(b.trust(a))
    watch.wait(PresenceEvent.ONLINE, b.udid)
    big = os.urandom(limits.RPC_PAYLOAD)
    assert one.request(b.udid, Kind.CALL, 1, b"", big, 5) == big
    for arguments in ((1, b"", big + b"x", 5), (1, bytes(limits.RPC_HEADER + 1), b"", 5), (-1, b"", b"", 5)):
        with pytest.raises(ParamValueError):
            one.request(b.udid, Kind.CALL, *arguments)
    for timeout in (0, limits.RPC_SLICE + 1):
        with pytest.raises(ParamValueError):
            one.request(b.udid, Kind.CALL, 1, b"", b"", timeout)


def test_how_requests_end_without_an_answer(loopback: Loopback) -> None:
    kept: list[Incoming] = []

    def handler(incoming: Incoming) -> None:
        if incoming.target == 1:
            incoming.busy()
        else:
            kept.append(incoming)

    a, b, absent = (loopback.circle.device() for _ in range(3))
    one, watch = loopback.engine(a.trust(b, absent))
    loopback.engine(b.trust(a), handler)
    watch.wait(PresenceEvent.ONLINE, b.udid)
    with pytest.raises(Busy):
        one.request(b.udid, Kind.CALL, 1, b"", b"", 5)
    # Both ends watch the time: if the other one is first, it ends the request without any reply.
    with pytest.raises((EngineTimeout, NoAnswer)):
        one.request(b.udid, Kind.CALL, 2, b"", b"", 0.1)
    start = time.monotonic()
    with pytest.raises(NoAnswer):
        one.request(absent.udid, Kind.CALL, 1, b"", b"", 5)
    assert time.monotonic() - start < 2  # at once, not after the time-out
    kept[0].answer(b"too late")  # dropped without a word
    outcomes: list[Outcome] = []
    ended = threading.Semaphore(0)

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        ended.release()

    for udid, target in ((b.udid, 1), (b.udid, 2), (absent.udid, 1)):
        one.post(udid, Kind.CALL, target, b"", b"", 0.1, done)
        assert ended.acquire(timeout=5)
    assert [type(outcome) for outcome in outcomes] == [Busy, EngineTimeout, NoAnswer]


def test_a_handler_that_blocks_a_worker_blocks_nobody_else(loopback: Loopback) -> None:
    go_on = threading.Event()
    running = threading.Semaphore(0)

    def handler(request: Request) -> bytes:
        if request.target == 1:
            running.release()
            assert go_on.wait(20)
        return b"fine"

    one, _, _, b, _ = loopback.pair(handler)
    slow = [threading.Thread(target=one.call, args=(b.udid, 1, b"")) for _ in range(8)]
    for thread in slow:
        thread.start()
    for _ in slow:
        assert running.acquire(timeout=5)  # all eight at once
    assert one.call(b.udid, 2, b"", timeout=5) == b"fine"
    go_on.set()
    for thread in slow:
        thread.join()


def test_one_way_messages_keep_their_order(loopback: Loopback) -> None:
    got: list[int] = []
    last = threading.Event()

    def handler(request: Request) -> bytes:
        got.append(int(request.payload))
        if len(got) == 1000:
            last.set()
        return b""

    one, _, _, b, _ = loopback.pair(handler)
    for number in range(1000):
        one.send(b.udid, 1, b"%d" % number)
    assert last.wait(20)
    assert got == list(range(1000))


def test_a_device_that_is_not_trusted_is_neither_seen_nor_heard(
    loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    """Its certificate is of the circle: it may connect, and can do nothing."""
    received = Received()
    a, b, stranger = (loopback.circle.device() for _ in range(3))
    one, watch = loopback.engine(a.trust(b), received)
    _, other = loopback.engine(b.trust(a))
    with caplog.at_level(logging.WARNING, "binderkit.softbus"):
        third, third_watch = loopback.engine(stranger.trust(a, b))
        watch.wait(PresenceEvent.ONLINE, b.udid)
        other.wait(PresenceEvent.ONLINE, a.udid)
        deadline = time.monotonic() + 10
        while stranger.udid not in caplog.text and time.monotonic() < deadline:
            threading.Event().wait(0.01)
    assert f"refused: the device {stranger.udid}" in caplog.text
    with pytest.raises(NoAnswer):
        third.request(a.udid, Kind.CALL, 1, b"", b"", 1)
    assert not received.requests
    assert stranger.udid not in one.devices() and not third_watch.events


def test_a_certificate_of_another_circle_opens_no_link(loopback: Loopback, tmp_path: Path) -> None:
    received = Received()
    a, b = loopback.circle.device(), loopback.circle.device()
    (tmp_path / "rogue").mkdir()
    # It even has the UDID of a trusted device.
    rogue = Circle(tmp_path / "rogue").device(b.udid)
    one, watch = loopback.engine(a.trust(b), received)
    session = open_raw(rogue.trust(a), loopback.settings())
    loopback.engine(b.trust(a))
    watch.wait(PresenceEvent.ONLINE, b.udid)  # by now the rogue, which came earlier, has tried too
    try:
        assert ask(session, request_key(a.udid, b.udid, Kind.CALL, 1)) == []
        assert not list(session.info.links())
    finally:
        session.close()
    assert not received.requests
    assert set(one.devices()) == {b.udid}


def test_plain_tcp_is_refused(tmp_path: Path) -> None:
    circle = Circle(tmp_path)
    a, b = circle.device(), circle.device()
    port = free_port()
    settings = ZenohSettings(listen=(f"tls/127.0.0.1:{port}",), multicast=False)
    received = Received()
    with ZenohEngine(a.trust(b), settings, name="a") as engine:
        engine.open(received, Watch())
        config = {
            "mode": "peer",
            "listen": {"endpoints": []},
            "connect": {"endpoints": [f"tcp/127.0.0.1:{port}"], "timeout_ms": 200, "exit_on_failure": True},
            "scouting": {"multicast": {"enabled": False}},
        }
        with pytest.raises(zenoh.ZError):
            zenoh.open(zenoh.Config.from_json5(json.dumps(config))).close()
    assert not received.requests


def trusted_pair(loopback: Loopback) -> tuple[ZenohEngine, Received, Device, Device, Device, Watch]:
    """A device, what it receives, itself, one it trusts and one more it trusts that is up to no good."""
    received = Received()
    a, b, evil = (loopback.circle.device() for _ in range(3))
    engine, watch = loopback.engine(a.trust(b, evil), received)
    return engine, received, a, b, evil, watch


def connected(session: zenoh.Session, key: str) -> None:
    """Wait until a request of a hostile session comes through where it may."""
    deadline = time.monotonic() + 10
    while ask(session, key) != [b"genuine"]:
        assert time.monotonic() < deadline, "the hostile device never got through with its own name"


def test_a_trusted_device_cannot_call_as_another_nor_as_everybody(loopback: Loopback) -> None:
    _, received, a, b, evil, _ = trusted_pair(loopback)
    session = open_raw(evil.trust(a), loopback.settings())
    try:
        connected(session, request_key(a.udid, evil.udid, Kind.CALL, 1))
        received.requests.clear()
        assert ask(session, request_key(a.udid, b.udid, Kind.CALL, 1)) == []
        assert ask(session, f"sb/rpc/{a.udid}/*/call/1") == []
        assert ask(session, f"sb/rpc/{a.udid}/**") == []
        assert ask(session, f"sb/rpc/*/{evil.udid}/call/1") == []
        assert ask(session, f"sb/rpc/{a.udid}/{evil.udid}/*/1") == []
        assert ask(session, f"sb/rpc/{a.udid}/{evil.udid}/call/zz") == []
    finally:
        session.close()
    assert not received.requests


def test_a_trusted_device_cannot_be_announced_by_another(loopback: Loopback) -> None:
    engine, _, a, b, evil, watch = trusted_pair(loopback)
    session = open_raw(evil.trust(a), loopback.settings())
    try:
        connected(session, request_key(a.udid, evil.udid, Kind.CALL, 1))
        forged = session.liveliness().declare_token(f"sb/live/{b.udid}/node/ab/{'0' * 16}/1/61/62")
        own = session.liveliness().declare_token(f"sb/live/{evil.udid}/node/ab/{'0' * 16}/1/61/62")
        watch.wait(PresenceEvent.ONLINE, evil.udid)  # declared after the forged one
        assert set(engine.devices()) == {evil.udid}
        del forged, own
    finally:
        session.close()


def test_calls_cannot_be_stolen(loopback: Loopback) -> None:
    engine, _, a, b, evil, watch = trusted_pair(loopback)
    stolen: list[str] = []

    def steal(query: zenoh.Query) -> None:
        stolen.append(str(query.key_expr))
        query.reply(str(query.key_expr), b"stolen")
        query.drop()

    session = open_raw(evil.trust(a), loopback.settings())
    try:
        connected(session, request_key(a.udid, evil.udid, Kind.CALL, 1))
        callback = zenoh.handlers.Callback(steal, indirect=False)
        session.declare_queryable(requests_of(b.udid), callback, complete=True)
        session.declare_queryable("sb/**", callback, complete=True)
        loopback.engine(b.trust(a, evil), Received())
        watch.wait(PresenceEvent.ONLINE, b.udid)
        for _ in range(20):
            assert engine.request(b.udid, Kind.CALL, 1, b"", b"secret", 5) == b"genuine"
    finally:
        session.close()
    assert not stolen


def test_a_change_of_trust_lets_a_device_in_and_out_and_disturbs_no_call(loopback: Loopback) -> None:
    a, b, c = (loopback.circle.device() for _ in range(3))
    one, watch = loopback.calls(a.trust(b), echo)
    two, at_b = loopback.calls(b.trust(a), echo)
    three, at_c = loopback.calls(c.trust(a), echo)
    watch.wait(PresenceEvent.ONLINE, b.udid)
    at_b.wait(PresenceEvent.ONLINE, a.udid)
    stop = threading.Event()
    failures: list[BaseException] = []
    done = [0]

    def keep_calling(calls: Any, udid: str) -> None:
        while not stop.is_set():
            try:
                assert calls.call(udid, 1, b"x", timeout=8) == b"x"
                done[0] += 1
            except BaseException as error:
                failures.append(error)
                return

    callers = [threading.Thread(target=keep_calling, args=pair) for pair in ((one, b.udid), (two, a.udid))]
    for caller in callers:
        caller.start()
    one.engine.set_trust(a.trust(b, c))
    watch.wait(PresenceEvent.ONLINE, c.udid)
    at_c.wait(PresenceEvent.ONLINE, a.udid)
    assert three.call(a.udid, 1, b"in") == b"in"
    one.engine.set_trust(a.trust(b))
    watch.wait(PresenceEvent.OFFLINE, c.udid)
    with pytest.raises(DeadObjectError):
        one.call(c.udid, 1, b"")
    before = done[0]
    while done[0] < before + 20 and not failures:
        threading.Event().wait(0.01)
    stop.set()
    for caller in callers:
        caller.join()
    assert not failures
    # For the other device nothing happened: no offline, no second online.
    assert [event.event for event in watch.events if event.device.udid == b.udid] == [PresenceEvent.ONLINE]
    assert [event.event for event in at_b.events] == [PresenceEvent.ONLINE]
    with pytest.raises((DeadObjectError, IpcError)):
        three.call(a.udid, 1, b"out", timeout=1)


def test_trust_of_another_device_and_a_bad_key_are_refused_with_words(loopback: Loopback, tmp_path: Path) -> None:
    a, b = loopback.circle.device(), loopback.circle.device()
    one, _ = loopback.engine(a.trust(b))
    with pytest.raises(ParamValueError, match="was given to the engine of"):
        one.set_trust(b.trust(a))
    bad = Device(a.udid, a.certificate_pem, tmp_path / "missing.key", a.ca_pem)
    with pytest.raises(IpcError, match="key and certificate"):
        one.set_trust(bad.trust(b))
    # What was allowed before is no longer wanted, so nothing is allowed now; a good one brings it back.
    with pytest.raises(NoAnswer):
        one.request(b.udid, Kind.CALL, 1, b"", b"", 1)
    _, watch = loopback.engine(b.trust(a))
    one.set_trust(a.trust(b))
    watch.wait(PresenceEvent.ONLINE, a.udid)


def test_a_new_name_is_a_change_and_not_a_new_device(loopback: Loopback) -> None:
    a, b = loopback.circle.device(), loopback.circle.device()
    _, watch = loopback.engine(a.trust(b))
    two, _ = loopback.engine(b.trust(a), name="before")
    watch.wait(PresenceEvent.ONLINE, b.udid)
    two.set_name("Küche 7")
    assert watch.wait(PresenceEvent.CHANGED, b.udid).device.name == "Küche 7"
    assert len(watch.events) == 2
    for name in ("", "x" * 65, "a\nb"):
        with pytest.raises(ParamValueError):
            two.set_name(name)


def test_use_before_opening_and_after_closing(loopback: Loopback) -> None:
    a, b = loopback.circle.device(), loopback.circle.device()
    engine = ZenohEngine(a.trust(b), loopback.settings(), name="a")
    with pytest.raises(NoAnswer):
        engine.request(b.udid, Kind.CALL, 1, b"", b"", 1)
    engine.open(Received(), Watch())
    with pytest.raises(IpcError, match="opened before"):
        engine.open(Received(), Watch())
    engine.close()
    engine.close()
    with pytest.raises(NoAnswer):
        engine.request(b.udid, Kind.CALL, 1, b"", b"", 1)
    outcomes: list[Outcome] = []
    engine.post(b.udid, Kind.CALL, 1, b"", b"", 1, outcomes.append)
    assert isinstance(outcomes[0], NoAnswer)


def test_closing_ends_requests_under_way(loopback: Loopback) -> None:
    arrived = threading.Event()
    kept: list[Incoming] = []

    def handler(incoming: Incoming) -> None:
        kept.append(incoming)
        arrived.set()

    a, b = loopback.circle.device(), loopback.circle.device()
    one, watch = loopback.engine(a.trust(b))
    loopback.engine(b.trust(a), handler)
    watch.wait(PresenceEvent.ONLINE, b.udid)

    def close() -> None:
        assert arrived.wait(10)
        one.close()

    closer = threading.Thread(target=close)
    closer.start()
    start = time.monotonic()
    with pytest.raises(NoAnswer):
        one.request(b.udid, Kind.CALL, 1, b"", b"", 8)
    assert time.monotonic() - start < 5
    closer.join()


CHILD = """
    import sys, pathlib
    sys.path.insert(0, {root!r})
    from binderkit.softbus.calls import Calls
    from binderkit.softbus.engine import TrustSnapshot
    from binderkit.softbus.zenoh_config import ZenohSettings
    from binderkit.softbus.zenoh_engine import ZenohEngine
    trust = TrustSnapshot({own!r}, frozenset({trusted!r}), {ca!r}, {certificate!r}, pathlib.Path({key!r}))
    engine = ZenohEngine(trust, ZenohSettings(**{settings!r}), name="child")
"""
"""A device in a process of its own."""
SERVE = """
    calls = Calls(engine)
    def serve(request):
        print("got", request.payload[:8].decode(), flush=True)
        if request.target == 2:
            import signal, os
            os.kill(os.getpid(), signal.SIGKILL)
        return request.payload
    calls.serve(serve)
"""


def child(
    loopback: Loopback, device: Device, *trusted: Device, body: str = SERVE, then: str = "sys.stdin.read()"
) -> Any:
    settings = loopback.settings()
    text = textwrap.dedent(CHILD).format(
        root=str(Path(__file__).parents[2]),
        own=device.udid,
        trusted=[other.udid for other in trusted],
        ca=device.ca_pem,
        certificate=device.certificate_pem,
        key=str(device.key_file),
        settings={name: getattr(settings, name) for name in settings.__dataclass_fields__},
    )
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", text + textwrap.dedent(body) + then + "\n"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: Any) -> None:
    process.kill()
    process.communicate()


def test_a_killed_softbus_is_noticed_and_its_calls_end(loopback: Loopback) -> None:
    a, b = loopback.circle.device(), loopback.circle.device()
    one, watch = loopback.calls(a.trust(b), echo)
    first = child(loopback, b, a)
    try:
        old = watch.wait(PresenceEvent.ONLINE, b.udid)
        assert one.call(b.udid, 1, b"hello") == b"hello"
        start = time.monotonic()
        with pytest.raises(DeadObjectError, match="may have been executed"):
            one.call(b.udid, 2, b"die", timeout=60)
        assert time.monotonic() - start < 3
        watch.wait(PresenceEvent.OFFLINE, b.udid)
    finally:
        end(first)
    second = child(loopback, b, a)
    try:
        new = watch.wait(PresenceEvent.ONLINE, b.udid, 2)
        assert new.device.boot != old.device.boot and new.device.network_id != old.device.network_id
        assert one.call(b.udid, 1, b"again") == b"again"
    finally:
        end(second)


@pytest.mark.slow
def test_a_device_that_falls_silent_is_noticed_within_five_seconds(loopback: Loopback) -> None:
    a, b = loopback.circle.device(), loopback.circle.device()
    one, watch = loopback.calls(a.trust(b), echo)
    process = child(loopback, b, a)
    try:
        watch.wait(PresenceEvent.ONLINE, b.udid)
        assert one.call(b.udid, 1, b"hello") == b"hello"
        os.kill(process.pid, signal.SIGSTOP)
        start = time.monotonic()
        with pytest.raises(DeadObjectError):
            one.call(b.udid, 1, b"anybody?", timeout=60)
        watch.wait(PresenceEvent.OFFLINE, b.udid)
        assert time.monotonic() - start < 5
        os.kill(process.pid, signal.SIGCONT)
        watch.wait(PresenceEvent.ONLINE, b.udid, 2)
        assert one.call(b.udid, 1, b"back") == b"back"
    finally:
        end(process)


@pytest.mark.parametrize("ending", ["", "sys.exit(3)", "raise SystemError('crash')"])
def test_a_program_that_forgets_to_close_ends_all_the_same(loopback: Loopback, ending: str) -> None:
    a, b = loopback.circle.device(), loopback.circle.device()
    _, watch = loopback.engine(a.trust(b))
    process = child(loopback, b, a, then="sys.stdin.readline()\n" + ending)
    try:
        watch.wait(PresenceEvent.ONLINE, b.udid)
        _, error = process.communicate("\n", timeout=20)
    finally:
        end(process)
    assert process.returncode == (0 if not ending else 3 if "exit" in ending else 1), error


def test_a_forked_child_is_refused(loopback: Loopback) -> None:
    a, b = loopback.circle.device(), loopback.circle.device()
    engine, _ = loopback.engine(a.trust(b))
    pid = engine._pid
    try:
        engine._pid = pid + 1  # as a child would see it; a real fork of a process with Zenoh's threads is not safe here
        for use in (
            lambda: engine.request(b.udid, Kind.CALL, 1, b"", b"", 1),
            lambda: engine.post(b.udid, Kind.CALL, 1, b"", b"", 1, print),
            lambda: engine.set_trust(a.trust()),
            lambda: engine.set_name("x"),
        ):
            with pytest.raises(ForkedError):
                use()
    finally:
        engine._pid = pid


def test_trust_that_changes_quickly_leaves_no_links_behind(loopback: Loopback) -> None:
    """A session closed while it is connecting would leave links that nobody owns, with rules of the past."""
    a, b, c = (loopback.circle.device() for _ in range(3))
    one, _ = loopback.calls(a.trust(b), echo)
    two, at_b = loopback.calls(b.trust(a), echo)
    at_b.wait(PresenceEvent.ONLINE, a.udid)
    for trust in (a.trust(b, c), a.trust(b)):
        one.engine.set_trust(trust)
    assert two.call(a.udid, 1, b"x") == b"x" and one.call(b.udid, 1, b"x") == b"x"
    engine = one.engine
    assert isinstance(engine, ZenohEngine) and engine._session is not None
    assert a.udid not in [link.auth_identifier for link in engine._session.info.links()]


def test_whom_we_no_longer_trust_is_refused_at_once(loopback: Loopback) -> None:
    received = Received()
    a, b = loopback.circle.device(), loopback.circle.device()
    one, watch = loopback.engine(a.trust(b), received)
    two, at_b = loopback.engine(b.trust(a))
    watch.wait(PresenceEvent.ONLINE, b.udid)
    at_b.wait(PresenceEvent.ONLINE, a.udid)
    changer = threading.Thread(target=one.set_trust, args=(a.trust(),))
    changer.start()
    watch.wait(PresenceEvent.OFFLINE, b.udid)  # told before the session is opened anew
    with pytest.raises(NoAnswer):
        two.request(a.udid, Kind.CALL, 1, b"", b"", 1)
    changer.join()
    assert not received.requests


def test_a_session_poisoned_by_a_panic_is_replaced(loopback: Loopback, caplog: pytest.LogCaptureFixture) -> None:
    class PanicException(BaseException):
        """As the engine's own, which has no public name."""

    a, b = loopback.circle.device(), loopback.circle.device()
    one, watch = loopback.calls(a.trust(b), echo)
    loopback.calls(b.trust(a), echo)
    watch.wait(PresenceEvent.ONLINE, b.udid)
    engine = one.engine
    assert isinstance(engine, ZenohEngine)
    broken = engine._session
    with pytest.raises(NoAnswer, match="broke down"):
        engine._check_panic(PanicException("overflow when adding duration to instant"))
    engine._check_panic(KeyboardInterrupt())  # anything else is left alone
    deadline = time.monotonic() + 10
    while engine._session in (broken, None) and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    assert engine._session is not broken and "panicked" in caplog.text
    assert one.call(b.udid, 1, b"again") == b"again"
    assert len(watch.events) == 1


def test_a_receiver_that_stalls_loses_nothing(loopback: Loopback) -> None:
    """Longer than the links can buffer, shorter than the lease: every message comes, once, in order."""
    a, b = loopback.circle.device(), loopback.circle.device()
    one, watch = loopback.calls(a.trust(b), echo)
    process = child(loopback, b, a)
    try:
        watch.wait(PresenceEvent.ONLINE, b.udid)
        os.kill(process.pid, signal.SIGSTOP)
        resume = threading.Timer(0.7, os.kill, (process.pid, signal.SIGCONT))  # the length of the stall
        resume.start()
        begin = time.monotonic()
        for number in range(60):
            one.send(b.udid, 1, b"%08d" % number + bytes(100_000))
        assert time.monotonic() - begin > 0.5, "the sender was not held up"
        resume.join()
        assert one.call(b.udid, 1, b"the end ") == b"the end "
        got: list[str] = []
        while len(got) < 60:
            line = process.stdout.readline()
            assert line, "the device ended"
            if line.startswith("got 0"):
                got.append(line.split()[1])
        assert got == [f"{number:08}" for number in range(60)]
        assert len(watch.events) == 1
    finally:
        end(process)
