"""Calls and one-way messages between devices, over the simulated network."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binderkit import limits
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    ParamValueError,
    QuotaError,
    RefusedError,
    RemoteError,
    TooBigError,
    UnknownTransactionError,
)
from binderkit.softbus import messages
from binderkit.softbus.calls import Calls, Request
from binderkit.softbus.engine import Busy, EngineTimeout, Kind, Presence, PresenceEvent, TrustSnapshot
from binderkit.softbus.memory import MemoryEngine, Network

A, B, C = "a" * 64, "b" * 64, "c" * 64
EVERYONE = frozenset((A, B, C))


def trust(own: str, *others: str) -> TrustSnapshot:
    return TrustSnapshot(own, frozenset(others or EVERYONE), b"", b"", Path())


class World:
    """A network, its devices, and what each of them executed."""

    def __init__(self, network: Network) -> None:
        self.network = network
        self.calls: list[Calls] = []
        self.executed: Counter[bytes] = Counter()

    def device(self, udid: str, handler: Callable[[Request], bytes] | None = None) -> Calls:
        engine = self.network.engine(udid)
        engine.set_trust(trust(udid))
        calls = Calls(engine)
        calls.serve(handler or self.echo)
        self.calls.append(calls)
        return calls

    def echo(self, request: Request) -> bytes:
        self.executed[request.payload] += 1
        return request.payload


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network(seed=1)
    yield network
    network.close()


@pytest.fixture
def world(network: Network) -> Iterator[World]:
    world = World(network)
    yield world
    for calls in world.calls:
        calls.close()


class Seen:
    """Presence events, and waiting for one of them."""

    def __init__(self) -> None:
        self.events: list[Presence] = []
        self._changed = threading.Condition()

    def __call__(self, event: Presence) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, event: PresenceEvent, udid: str, count: int = 1) -> Presence:
        def found() -> list[Presence]:
            return [seen for seen in self.events if seen.event is event and seen.device.udid == udid]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, 10), f"no {event} of {udid[:8]}"
            return found()[-1]


def test_a_call_brings_its_result_and_the_handler_knows_who_called(world: World) -> None:
    seen: list[Request] = []

    def handler(request: Request) -> bytes:
        seen.append(request)
        return b"result"

    a = world.device(A)
    world.device(B, handler)
    assert a.call(B, 7, b"argument", timeout=5) == b"result"
    assert (seen[0].source, seen[0].target, seen[0].payload, seen[0].oneway) == (A, 7, b"argument", False)
    assert seen[0].deadline is not None


def test_what_the_handler_raises_reaches_the_caller_as_its_kind(world: World) -> None:
    def handler(request: Request) -> bytes:
        if request.target == 1:
            raise RefusedError("not you")
        raise KeyError("no such picture")

    a = world.device(A)
    world.device(B, handler)
    with pytest.raises(RefusedError, match="not you"):
        a.call(B, 1, b"")
    with pytest.raises(RemoteError) as caught:
        a.call(B, 2, b"")
    assert caught.value.type_name == "KeyError"


def test_control_has_a_handler_of_its_own(world: World) -> None:
    a, b = world.device(A), world.device(B)
    with pytest.raises(UnknownTransactionError):
        a.control(B, 1, b"")
    b.serve_control(lambda request: b"control " + request.payload)
    assert a.control(B, 1, b"x") == b"control x"
    assert a.call(B, 1, b"x") == b"x"


def test_limits_are_told_before_anything_is_sent(world: World) -> None:
    a = world.device(A)
    world.device(B, lambda request: bytes(limits.RPC_PAYLOAD))
    with pytest.raises(TooBigError, match="raw_data"):
        a.call(B, 1, bytes(limits.RPC_PAYLOAD))
    with pytest.raises(TooBigError):
        a.send(B, 1, bytes(limits.RPC_PAYLOAD))
    for timeout in (0, -1, limits.MAX_WAIT_TIME + 1):
        with pytest.raises(ParamValueError):
            a.call(B, 1, b"", timeout=timeout)
    with pytest.raises(ParamValueError):
        a.call(B, 2**64, b"")
    # A result too big fails at the caller with words, and nothing hangs.
    with pytest.raises(RemoteError, match="raw_data"):
        a.call(B, 1, b"")


def test_a_device_that_is_not_there_is_told_at_once(world: World) -> None:
    a = world.device(A)
    with pytest.raises(DeadObjectError, match="not executed"):
        a.call(B, 1, b"", timeout=100)
    with pytest.raises(DeadObjectError):
        a.send(B, 1, b"")


def test_losses_are_repaired_and_nothing_is_executed_twice(
    network: Network, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    a = world.device(A)
    world.device(B)
    network.set_quality(A, B, loss=0.3, latency=0.001)
    # A lost message is noticed by time-out only, so the slices are made short.
    monkeypatch.setattr(limits, "RPC_FIRST_SLICE", 0.01)
    monkeypatch.setattr(limits, "RPC_SLICE", 0.02)
    for number in range(40):
        assert a.call(B, 1, b"%d" % number, timeout=30) == b"%d" % number
    assert world.executed == Counter({b"%d" % number: 1 for number in range(40)})


def test_a_call_longer_than_a_slice_is_executed_once(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RPC_FIRST_SLICE", 0.02)
    tries = threading.Semaphore(0)
    go_on = threading.Event()
    executed: list[bytes] = []

    def slow(request: Request) -> bytes:
        executed.append(request.payload)
        assert go_on.wait(10)
        return b"late"

    a, b = world.device(A), world.device(B, slow)
    arrived = b._incoming

    def count(incoming: object) -> None:
        tries.release()
        arrived(incoming)  # type: ignore[arg-type]

    engine = b.engine
    assert isinstance(engine, MemoryEngine)
    engine._handler = count

    def wait_for_tries() -> None:
        for _ in range(4):
            assert tries.acquire(timeout=10)
        go_on.set()

    waiter = threading.Thread(target=wait_for_tries)
    waiter.start()
    assert a.call(B, 1, b"x", timeout=20) == b"late"
    waiter.join()
    assert executed == [b"x"]


def test_a_timeout_says_that_the_outcome_is_unknown(world: World) -> None:
    go_on = threading.Event()

    def slow(request: Request) -> bytes:
        assert go_on.wait(10)
        return b""

    a = world.device(A)
    world.device(B, slow)
    with pytest.raises(CallTimeoutError, match="outcome is unknown") as caught:
        a.call(B, 1, b"", timeout=0.05)
    assert caught.value.code == 502
    go_on.set()


def test_cutting_the_cable_ends_calls_and_they_work_again_after(network: Network, world: World) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(request: Request) -> bytes:
        world.executed[request.payload] += 1
        if request.payload == b"first":
            started.set()
            assert go_on.wait(10)
        return request.payload

    a, seen = world.device(A), Seen()
    world.device(B, slow)
    a.on_device(seen)
    seen.wait(PresenceEvent.ONLINE, B)

    def cut() -> None:
        assert started.wait(10)
        network.cut(A, B)

    cutter = threading.Thread(target=cut)
    cutter.start()
    with pytest.raises(DeadObjectError, match="outcome is unknown"):
        a.call(B, 1, b"first", timeout=60)
    cutter.join()
    go_on.set()
    seen.wait(PresenceEvent.OFFLINE, B)
    network.heal(A, B)
    seen.wait(PresenceEvent.ONLINE, B, 2)
    assert a.call(B, 1, b"second") == b"second"
    assert world.executed == Counter({b"first": 1, b"second": 1})


def test_a_short_cut_is_survived_by_calls_under_way(network: Network, world: World) -> None:
    """Not noticed: the request is lost, and sent again under its number."""
    a = world.device(A)
    world.device(B)
    engine = a.engine
    assert isinstance(engine, MemoryEngine)
    for _ in range(5):
        engine.set_trust(trust(A))  # ends what is under way in NoAnswer
        assert a.call(B, 1, b"x", timeout=10) == b"x"


def test_calls_survive_a_change_of_trust_in_their_middle(world: World) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(request: Request) -> bytes:
        world.executed[request.payload] += 1
        started.set()
        assert go_on.wait(10)
        return b"done"

    a = world.device(A)
    world.device(B, slow)

    def change() -> None:
        assert started.wait(10)
        a.engine.set_trust(trust(A, B))
        go_on.set()

    changer = threading.Thread(target=change)
    changer.start()
    assert a.call(B, 1, b"x", timeout=20) == b"done"
    changer.join()
    assert world.executed[b"x"] == 1


def test_a_device_started_anew_never_executes_calls_to_its_predecessor(network: Network, world: World) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(request: Request) -> bytes:
        started.set()
        go_on.wait(10)
        return b""

    a, seen = world.device(A), Seen()
    a.on_device(seen)
    world.device(B, slow)
    old = seen.wait(PresenceEvent.ONLINE, B)

    def restart() -> None:
        assert started.wait(10)
        world.device(B)

    restarter = threading.Thread(target=restart)
    restarter.start()
    with pytest.raises(DeadObjectError, match="may have been executed"):
        a.call(B, 1, b"x", timeout=60)
    go_on.set()
    restarter.join()
    new = seen.wait(PresenceEvent.ONLINE, B, 2)
    assert new.device.boot != old.device.boot and new.device.network_id != old.device.network_id
    assert world.executed[b"x"] == 0
    assert a.call(B, 1, b"y") == b"y"


def test_a_caller_started_anew_is_not_taken_for_its_predecessor(network: Network, world: World) -> None:
    b, seen = world.device(B), Seen()
    b.on_device(seen)
    for life in range(3):
        a = world.device(A)
        seen.wait(PresenceEvent.ONLINE, A, life + 1)
        # The same slot and sequence each time: another call all the same.
        assert a.call(B, 1, b"life %d" % life) == b"life %d" % life
    assert world.executed == Counter({b"life %d" % life: 1 for life in range(3)})


def test_one_way_messages_are_executed_in_order_despite_losses(
    network: Network, world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RPC_FIRST_SLICE", 0.02)
    got: list[int] = []
    everything = threading.Event()

    def handler(request: Request) -> bytes:
        assert request.oneway and request.deadline is None
        got.append(int(request.payload))
        if len(got) == 150:
            everything.set()
        return b""

    a = world.device(A)
    world.device(B, handler)
    network.set_quality(A, B, loss=0.2, latency=0.001, jitter=0.002)
    for number in range(150):
        a.send(B, 1, b"%d" % number)
    assert everything.wait(20)
    assert got == list(range(150))


def test_one_way_messages_to_different_targets_run_concurrently(world: World) -> None:
    both = threading.Barrier(2, timeout=10)
    passed = threading.Semaphore(0)

    def handler(request: Request) -> bytes:
        both.wait()
        passed.release()
        return b""

    a = world.device(A)
    world.device(B, handler)
    a.send(B, 1, b"")
    a.send(B, 2, b"")
    assert passed.acquire(timeout=10) and passed.acquire(timeout=10)


def test_a_slow_receiver_slows_the_sender_down_and_then_it_is_told(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ONEWAY_SEND_WAIT", 0.05)
    go_on = threading.Event()

    def handler(request: Request) -> bytes:
        assert go_on.wait(20)
        return b""

    a = world.device(A)
    world.device(B, handler)
    sent = 0
    with pytest.raises(QuotaError, match="too slow"):
        for _ in range(limits.RPC_ONEWAY_MESSAGES + 10):
            a.send(B, 1, b"x")
            sent += 1
    assert limits.RPC_ONEWAY_MESSAGES - 1 <= sent <= limits.RPC_ONEWAY_MESSAGES + 1
    go_on.set()
    monkeypatch.setattr(limits, "ONEWAY_SEND_WAIT", 10.0)
    a.send(B, 1, b"x")


def test_a_sender_that_waits_for_room_is_told_when_the_device_goes(network: Network, world: World) -> None:
    go_on = threading.Event()

    def handler(request: Request) -> bytes:
        assert go_on.wait(20)
        return b""

    a = world.device(A)
    world.device(B, handler)
    cutter = threading.Timer(0.05, network.cut, (A, B))
    cutter.start()
    with pytest.raises(DeadObjectError):
        for _ in range(limits.RPC_ONEWAY_MESSAGES + 10):
            a.send(B, 1, b"x")
    cutter.join()
    go_on.set()


def test_one_way_messages_flow_again_after_a_cut(network: Network, world: World) -> None:
    got: list[bytes] = []
    last = threading.Event()

    def handler(request: Request) -> bytes:
        got.append(request.payload)
        if request.payload == b"last":
            last.set()
        return b""

    a, seen = world.device(A), Seen()
    world.device(B, handler)
    a.on_device(seen)
    a.send(B, 1, b"first")
    network.cut(A, B)
    a.send(B, 1, b"lost")
    seen.wait(PresenceEvent.OFFLINE, B)
    network.heal(A, B)
    seen.wait(PresenceEvent.ONLINE, B, 2)
    a.send(B, 1, b"last")
    assert last.wait(10)
    # Lost messages stay lost, in order, and none comes twice.
    assert got in ([b"first", b"last"], [b"last"])


def test_nested_calls_deeper_than_there_are_threads(world: World) -> None:
    devices: dict[str, Calls] = {}

    def handler(request: Request) -> bytes:
        depth = int(request.payload)
        if depth == 0:
            return b"bottom"
        here = B if request.source == A else A
        return devices[here].call(request.source, 1, b"%d" % (depth - 1), timeout=20)

    for udid in (A, B):
        devices[udid] = world.device(udid, handler)
    assert devices[A].call(B, 1, b"40", timeout=20) == b"bottom"


def test_a_flood_is_refused_and_does_not_starve_others(world: World) -> None:
    go_on = threading.Event()

    def handler(request: Request) -> bytes:
        if request.source == A:
            assert go_on.wait(20)
        return b"fine"

    a, c = world.device(A), world.device(C)
    b = world.device(B, handler)
    refused = threading.Event()
    engine = a.engine
    boots = (bytes.fromhex(engine.info.boot), bytes.fromhex(b.engine.info.boot))

    def done(outcome: object) -> None:
        if isinstance(outcome, Busy):
            refused.set()

    # Straight at the engine: a device that does not keep to its slots.
    for sequence in range(1, limits.RPC_QUEUED + limits.HARD_THREADS + 50):
        header = messages.encode_call(0, sequence, *boots, 8.0)
        engine.post(B, Kind.CALL, 1, header, b"", 8.0, done)
    assert refused.wait(10)
    assert c.call(B, 1, b"", timeout=10) == b"fine"
    go_on.set()


def test_replayed_and_malformed_requests_reach_no_handler(world: World) -> None:
    a, b = world.device(A), world.device(B)
    own, other = bytes.fromhex(a.engine.info.boot), bytes.fromhex(b.engine.info.boot)

    def send(kind: Kind, header: bytes) -> int:
        return a.engine.request(B, kind, 1, header, b"evil", 8.0)[0]

    assert a.call(B, 1, b"one") == b"one" and a.call(B, 1, b"two") == b"two"
    assert send(Kind.CALL, messages.encode_call(0, 1, own, other, 1.0)) == messages.Status.STALE
    assert send(Kind.CALL, messages.encode_call(0, 9, b"12345678", other, 1.0)) == messages.Status.STALE
    assert send(Kind.CALL, messages.encode_call(0, 9, own, b"12345678", 1.0)) == messages.Status.OTHER_BOOT
    assert send(Kind.ONEWAY, messages.encode_oneway(1, 1, own, b"12345678")) == messages.Status.OTHER_BOOT
    for kind in Kind:
        assert send(kind, b"rubbish") == messages.Status.MALFORMED
    assert world.executed == Counter({b"one": 1, b"two": 1})
    # A repeat of the last one gets its stored reply.
    assert a.engine.request(B, Kind.CALL, 1, messages.encode_call(0, 2, own, other, 1.0), b"evil", 8.0) == b"\x00two"


def test_presence_is_told_in_order_and_to_late_listeners(network: Network, world: World) -> None:
    a, seen = world.device(A), Seen()
    a.on_device(seen)
    b = world.device(B)
    seen.wait(PresenceEvent.ONLINE, B)
    b.engine.set_name("kitchen")
    assert seen.wait(PresenceEvent.CHANGED, B).device.name == "kitchen"
    late = Seen()
    a.on_device(late)
    assert late.wait(PresenceEvent.ONLINE, B).device.name == "kitchen"
    b.close()
    seen.wait(PresenceEvent.OFFLINE, B)
    assert [event.event for event in seen.events] == [
        PresenceEvent.ONLINE,
        PresenceEvent.CHANGED,
        PresenceEvent.OFFLINE,
    ]


def test_closing_ends_calls_under_way(world: World) -> None:
    started, go_on = threading.Event(), threading.Event()

    def slow(request: Request) -> bytes:
        started.set()
        assert go_on.wait(10)
        return b""

    a = world.device(A)
    world.device(B, slow)

    def close() -> None:
        assert started.wait(10)
        a.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(DeadObjectError):
        a.call(B, 1, b"", timeout=60)
    closer.join()
    go_on.set()


def test_any_header_is_survived_and_reaches_no_handler(world: World) -> None:
    """Fuzzed control messages; nothing but a header that is right in every part is executed."""
    a, b = world.device(A), world.device(B)
    own, other = bytes.fromhex(a.engine.info.boot), bytes.fromhex(b.engine.info.boot)
    good = messages.encode_call(200, 5, own, other, 1.0), messages.encode_oneway(1 << 40, 7, own, other)

    @settings(max_examples=150, deadline=None)
    @given(st.sampled_from(Kind), st.sampled_from(good), st.data())
    def fuzz(kind: Kind, header: bytes, data: st.DataObject) -> None:
        at = data.draw(st.integers(0, len(header)))
        cut = data.draw(st.integers(at, len(header)))
        hostile = header[:at] + data.draw(st.binary(max_size=12)) + header[cut:]
        try:
            assert a.engine.request(B, kind, 1, hostile, b"evil", 0.05)[0] <= max(messages.Status)
        except (Busy, EngineTimeout):
            pass  # no room in the window, or a one-way message that waits for those before it

    fuzz()
    assert set(world.executed) <= {b"evil"}
    # It may have used up its own numbers; nobody else's.
    assert world.device(C).call(B, 1, b"fine") == b"fine"


def test_a_clock_that_is_set_back_changes_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    def set_back(request: Request) -> bytes:
        monkeypatch.setattr(time, "time", lambda: 0.0)
        monkeypatch.setattr(time, "time_ns", lambda: 0)
        return b"done"

    a = world.device(A)
    world.device(B, set_back)
    assert a.call(B, 1, b"", timeout=5) == b"done"
    with pytest.raises(CallTimeoutError):
        a.call(B, 1, b"", timeout=1e-6)
    assert a.call(B, 1, b"", timeout=5) == b"done"
