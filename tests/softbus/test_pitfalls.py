"""What the engine's library would do if it were let: each pitfall that shows in how devices behave."""

from __future__ import annotations

import ast
import logging
import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import zenoh

import binderkit
from binderkit import limits
from binderkit.softbus import messages
from binderkit.softbus.calls import Request
from binderkit.softbus.engine import Busy, Incoming, Kind, NoAnswer, Outcome, PresenceEvent
from binderkit.softbus.zenoh_config import request_key
from tests.softbus.test_zenoh_engine import ask, child, connected, end, open_raw, trusted_pair
from tests.softbus.zenoh_devices import Loopback, warm_up


@pytest.fixture(scope="module", autouse=True)
def runtimes(tmp_path_factory: pytest.TempPathFactory) -> None:
    warm_up(tmp_path_factory.mktemp("warm"))


@pytest.fixture
def loopback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Loopback]:
    monkeypatch.setattr(limits, "RPC_SESSION_AGE", 0.25)
    loopback = Loopback(tmp_path)
    yield loopback
    loopback.close()


def shared_memory() -> list[str]:
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if "/dev/shm/" in line]


def test_large_payloads_never_pass_through_shared_memory(loopback: Loopback) -> None:
    """It would reach past TLS, and leave files after a kill."""
    one, _, _, b, _ = loopback.pair(lambda request: request.payload)
    large = os.urandom(limits.RPC_MAX - 100)
    assert one.call(b.udid, 1, large) == large
    assert shared_memory() == []


def test_the_memory_of_a_call_is_not_kept_for_as_long_as_its_caller_would_have_waited(loopback: Loopback) -> None:
    """About 1 kB of each request is kept until its time-out: no request may have a long one, whatever the call has."""
    one, _, _, b, _ = loopback.pair(lambda request: request.payload)
    asked: list[float] = []
    request = one.engine.request

    def watched(*arguments: Any) -> bytes:
        asked.append(arguments[5])
        return request(*arguments)

    one._engine.request = watched  # type: ignore[assignment, method-assign]
    for wait in (0.5, 8, limits.MAX_WAIT_TIME):
        assert one.call(b.udid, 1, b"x", timeout=wait) == b"x"
    assert max(asked) <= limits.RPC_SLICE


def test_a_session_has_no_thread_per_callback(loopback: Loopback) -> None:
    """A callback that is not direct costs a thread, and keeps the interpreter from ending."""
    before = set(threading.enumerate())
    a, b = loopback.circle.device(), loopback.circle.device()
    engine, watch = loopback.engine(a.trust(b))
    loopback.engine(b.trust(a))
    watch.wait(PresenceEvent.ONLINE, b.udid)
    assert engine.request(b.udid, Kind.CALL, 1, b"", b"x", 5) == b"x"
    engine.post(b.udid, Kind.CALL, 1, b"", b"x", 5, lambda outcome: None)
    new = set(threading.enumerate()) - before
    assert all(thread.daemon for thread in new)
    ours = [thread.name for thread in new if not thread.name.startswith("Dummy")]
    assert all(name.startswith("binderkit-zenoh") for name in ours) and len(ours) <= 16
    answered = threading.Semaphore(0)
    for _ in range(50):
        engine.post(b.udid, Kind.CALL, 1, b"", b"x", 5, lambda outcome: answered.release())
    assert len(set(threading.enumerate()) - before) <= len(new) + 2
    for _ in range(50):
        assert answered.acquire(timeout=5)


def test_both_sides_may_dial_and_still_nothing_is_executed_twice(loopback: Loopback) -> None:
    """With scouting both sides dial and two links may stay; and only one queryable answers for a device."""
    ran: list[bytes] = []
    one, two, a, b, _ = loopback.pair(lambda request: ran.append(request.payload) or request.payload)  # type: ignore[func-returns-value]
    sent = [b"%d" % number for number in range(200)]
    for number in sent:
        assert one.call(b.udid, 1, number) == number
        assert two.call(a.udid, 1, number) == number
    assert sorted(ran) == sorted(2 * sent)


def test_the_environment_does_not_change_the_configuration(loopback: Loopback, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZENOH_CONFIG", "/nowhere/at/all.json5")
    one, _, _, b, _ = loopback.pair(lambda request: request.payload)
    assert one.call(b.udid, 1, b"x") == b"x"


def test_a_device_that_goes_takes_nobody_elses_objects_along(loopback: Loopback) -> None:
    """Others of a mesh have been seen to vanish for seconds when one of its peers was killed."""
    a, b, c = (loopback.circle.device() for _ in range(3))
    one, watch = loopback.calls(a.trust(b, c), lambda request: request.payload)
    two, _ = loopback.calls(b.trust(a, c), lambda request: request.payload)
    process = child(loopback, c, a, b)
    try:
        for udid in (b.udid, c.udid):
            watch.wait(PresenceEvent.ONLINE, udid)
        assert one.call(c.udid, 1, b"x") == one.call(b.udid, 1, b"x") == two.call(a.udid, 1, b"x") == b"x"
        process.kill()
        calls, deadline = 0, time.monotonic() + 20
        while calls < 100 or c.udid in one.devices():
            assert time.monotonic() < deadline
            assert one.engine.request(b.udid, Kind.CONTROL, 1, b"", b"", 5)  # once: nothing is sent again
            assert two.engine.request(a.udid, Kind.CONTROL, 1, b"", b"", 5)
            calls += 1
    finally:
        end(process)
    assert [event.event for event in watch.events if event.device.udid == b.udid] == [PresenceEvent.ONLINE]


def test_a_session_that_does_not_close_in_time_is_left(loopback: Loopback, caplog: pytest.LogCaptureFixture) -> None:
    class Stuck:
        """On a bad link: closes nevertheless, and says otherwise."""

        def __init__(self, session: zenoh.Session) -> None:
            self._session = session

        def close(self) -> None:
            self._session.close()
            raise zenoh.ZError("close operation timed out")

    a, b = loopback.circle.device(), loopback.circle.device()
    engine, _ = loopback.engine(a.trust(b))
    assert engine._open is not None
    engine._open.session = Stuck(engine._open.session)  # type: ignore[assignment]
    engine.close()
    assert "did not close in time" in caplog.text
    engine.close()


def test_a_handler_that_fails_is_logged_and_the_next_request_is_served(
    loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(incoming: Incoming) -> None:
        if incoming.target == 1:
            raise ValueError("not today")
        incoming.answer(b"fine")

    a, b = loopback.circle.device(), loopback.circle.device()
    engine, watch = loopback.engine(a.trust(b))
    loopback.engine(b.trust(a), handler)
    watch.wait(PresenceEvent.ONLINE, b.udid)
    with pytest.raises(NoAnswer):
        engine.request(b.udid, Kind.CALL, 1, b"", b"", 5)
    for _ in range(10):
        assert engine.request(b.udid, Kind.CALL, 2, b"", b"", 5) == b"fine"
    assert "not today" in caplog.text


# --- hostile devices -------------------------------------------------------------------------------------------


def test_a_certificate_without_a_name_opens_nothing(loopback: Loopback) -> None:
    """One of the circle, even; certificates without a common name have broken receivers."""
    _, received, a, b, _, _ = trusted_pair(loopback)
    nameless = loopback.circle.device("")
    nameless = replace(nameless, certificate_pem=loopback.circle.nameless(nameless))
    session = open_raw(nameless.trust(a), loopback.settings())
    try:
        honest, watch = loopback.engine(b.trust(a))
        watch.wait(PresenceEvent.ONLINE, a.udid)  # by now the nameless one, which came earlier, has tried too
        for name in (b.udid, nameless.udid, ""):
            assert ask(session, f"sb/rpc/{a.udid}/{name}/call/1" if name else f"sb/rpc/{a.udid}/**") == []
        assert not received.requests
        assert honest.request(a.udid, Kind.CALL, 1, b"", b"", 5) == b"genuine"
    finally:
        session.close()


def test_a_trusted_device_that_floods_does_not_keep_another_from_being_served(
    loopback: Loopback,
) -> None:
    go_on, entered = threading.Event(), threading.Event()
    a, b, evil = (loopback.circle.device() for _ in range(3))

    def handler(request: Request) -> bytes:
        assert request.source in (b.udid, evil.udid)
        if request.source == evil.udid:
            entered.set()
            assert go_on.wait(20)
        return b"genuine"

    victim, watch = loopback.calls(a.trust(b, evil), handler)
    honest, at_b = loopback.calls(b.trust(a), handler)
    flooding, at_evil = loopback.calls(evil.trust(a), handler)
    for seen, udid in ((watch, b.udid), (watch, evil.udid), (at_b, a.udid), (at_evil, a.udid)):
        seen.wait(PresenceEvent.ONLINE, udid)
    busy, ended = threading.Event(), threading.Semaphore(0)
    boots = bytes.fromhex(flooding.engine.info.boot), bytes.fromhex(victim.engine.info.boot)
    count = limits.RPC_QUEUED + limits.HARD_THREADS + 50

    def done(outcome: Outcome) -> None:
        if isinstance(outcome, Busy):
            busy.set()
        ended.release()

    # Straight at the engine: a device that keeps to no slots and waits for no replies.
    for sequence in range(1, count):
        header = messages.encode_call(0, sequence, *boots, 8.0)
        flooding.engine.post(a.udid, Kind.CALL, 1, header, b"", 8.0, done)
    assert entered.wait(10) and busy.wait(10)
    begin = time.monotonic()
    for _ in range(10):
        assert honest.call(a.udid, 1, b"", timeout=10) == b"genuine"
    assert time.monotonic() - begin < 5
    go_on.set()
    for _ in range(1, count):
        assert ended.acquire(timeout=10)


def test_a_recorded_request_of_another_device_is_worth_nothing_under_ones_own_name(
    loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    """What a device saw of another's calls it can only send as itself, and they name another life."""
    ran: list[str] = []
    a, b, evil = (loopback.circle.device() for _ in range(3))

    def handler(request: Request) -> bytes:
        ran.append(request.source)
        return b"done"

    victim, watch = loopback.calls(a.trust(b, evil), handler)
    honest, at_b = loopback.calls(b.trust(a), handler)
    watch.wait(PresenceEvent.ONLINE, b.udid)
    at_b.wait(PresenceEvent.ONLINE, a.udid)
    assert honest.call(a.udid, 1, b"pay") == b"done"
    recorded = messages.encode_call(
        0, 1, bytes.fromhex(honest.engine.info.boot), bytes.fromhex(victim.engine.info.boot), 8.0
    )
    session = open_raw(evil.trust(a), loopback.settings())
    try:
        token = session.liveliness().declare_token(f"sb/live/{evil.udid}/node/ab/{'e' * 16}/1/61/62")
        watch.wait(PresenceEvent.ONLINE, evil.udid)

        def replay(name: str) -> list[bytes]:
            key = request_key(a.udid, name, Kind.CALL, 1)
            replies = session.get(key, payload=b"pay", attachment=recorded, timeout=1.0)
            return [reply.ok.payload.to_bytes() for reply in replies if reply.ok is not None]

        deadline = time.monotonic() + 10
        while not (refused := replay(evil.udid)):
            assert time.monotonic() < deadline, "the hostile device never got through with its own name"
        assert [answer[0] for answer in refused] == [messages.Status.STALE]
        assert replay(b.udid) == []
        del token
    finally:
        session.close()
    assert ran == [b.udid]
    assert f"refused: a request of device {evil.udid}: of, or for, an earlier life" in caplog.text


def test_what_is_refused_is_logged_and_a_flood_of_it_is_few_lines(
    loopback: Loopback, caplog: pytest.LogCaptureFixture
) -> None:
    """A device that calls under strange keys within what its certificate allows: our own check, behind the list."""
    caplog.set_level(logging.WARNING, "binderkit.softbus")
    _, received, a, _, evil, _ = trusted_pair(loopback)
    session = open_raw(evil.trust(a), loopback.settings())
    try:
        connected(session, request_key(a.udid, evil.udid, Kind.CALL, 1))
        received.requests.clear()
        for number in range(300):
            session.get(f"sb/rpc/{a.udid}/{evil.udid}/call/zz{number}", zenoh.handlers.RingChannel(1), timeout=0.5)
        assert ask(session, f"sb/rpc/{a.udid}/{evil.udid}/call/zz") == []
    finally:
        session.close()
    assert not received.requests
    deadline = time.monotonic() + 10
    while "under the key" not in caplog.text and time.monotonic() < deadline:
        threading.Event().wait(0.01)
    lines = [record for record in caplog.records if "under the key" in record.getMessage()]
    assert 1 <= len(lines) <= 5


# --- clocks ----------------------------------------------------------------------------------------------------

WALL_CLOCK = {"time.time", "time.time_ns", "datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
MAY_ASK = {
    "softbus/pairing.py": "how long pairing is locked is remembered across restarts",
    "softbus/pairing_lock.py": "the same",
    "softbus/trust.py": "certificates end at a date",
    "softbus/acquaintances.py": "when a device was last seen, for people",
    "softbus/service.py": "the same",
}


def test_only_what_outlives_the_process_asks_for_the_date() -> None:
    """Deadlines are of the monotonic clock: a wall clock that is set back or forward ends or lengthens nothing."""
    root = Path(binderkit.__file__).parent
    asking = set()
    for folder in ("softbus", "dbinder", "ipc", "driver"):
        for path in sorted((root / folder).rglob("*.py")):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and ".".join(ast.unparse(node).split(".")[-2:]) in WALL_CLOCK:
                    asking.add(str(path.relative_to(root)))
    assert asking <= set(MAY_ASK)


def test_files_stay_open_for_no_longer_than_their_link(loopback: Loopback) -> None:
    """Sessions that are opened anew with every change of trust give back what they used."""
    a, b, c = (loopback.circle.device() for _ in range(3))
    one, watch = loopback.calls(a.trust(b), lambda request: b"")
    loopback.calls(b.trust(a), lambda request: request.payload)
    watch.wait(PresenceEvent.ONLINE, b.udid)
    open_before = len(os.listdir("/proc/self/fd"))
    for trust in (a.trust(b, c), a.trust(b)):
        one.engine.set_trust(trust)
        assert one.call(b.udid, 1, b"x") == b"x"
    deadline = time.monotonic() + 10
    while len(os.listdir("/proc/self/fd")) > open_before + 4:
        assert time.monotonic() < deadline, "descriptors of earlier sessions stay open"
        time.sleep(0.01)  # between two looks


@pytest.mark.parametrize("leave", [True, False])
def test_a_session_is_closed_at_once_though_a_device_floods(loopback: Loopback, leave: bool) -> None:
    """At the end, and when the device that floods is unpaired for it."""
    a, evil = loopback.circle.device(), loopback.circle.device()
    victim, watch = loopback.calls(a.trust(evil), lambda request: request.payload)
    flooding, at_evil = loopback.engine(evil.trust(a))
    watch.wait(PresenceEvent.ONLINE, evil.udid)
    at_evil.wait(PresenceEvent.ONLINE, a.udid)
    stop = threading.Event()
    boots = bytes.fromhex(flooding.info.boot), bytes.fromhex(victim.engine.info.boot)
    sent = [0]

    def flood() -> None:
        while not stop.is_set():
            sent[0] += 1
            header = messages.encode_call(0, sent[0], *boots, 8.0)
            flooding.post(a.udid, Kind.CALL, 1, header, bytes(2000), 8.0, lambda outcome: None)

    flooder = threading.Thread(target=flood)
    flooder.start()
    try:
        deadline = time.monotonic() + 10
        while sent[0] < 500:
            assert time.monotonic() < deadline
            time.sleep(0.005)  # between two looks
        begin = time.monotonic()
        if leave:
            victim.close()
        else:
            victim.engine.set_trust(a.trust())
        took = time.monotonic() - begin
    finally:
        stop.set()
        flooder.join()
    assert took < 5
