"""The simulated network: reproducible, and honest about who is there."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from binderkit.errors import ParamValueError
from binderkit.softbus.engine import (
    Busy,
    EngineTimeout,
    Incoming,
    Kind,
    NoAnswer,
    Outcome,
    Presence,
    PresenceEvent,
    TrustSnapshot,
)
from binderkit.softbus.memory import MemoryEngine, Network

A, B, C = "a" * 64, "b" * 64, "c" * 64


def trust(own: str, *others: str) -> TrustSnapshot:
    return TrustSnapshot(own, frozenset(others), b"", b"", Path())


def device(
    network: Network, udid: str, *trusted: str, handler: Callable[[Incoming], None] | None = None
) -> tuple[MemoryEngine, list[Presence]]:
    engine, events = network.engine(udid), list[Presence]()
    engine.set_trust(trust(udid, *trusted))
    engine.open(handler or (lambda incoming: incoming.answer(incoming.payload)), events.append)
    return engine, events


@pytest.fixture
def network() -> Iterator[Network]:
    network = Network(seed=7)
    yield network
    network.close()


def ask(engine: MemoryEngine, udid: str, payload: bytes = b"x", timeout: float = 5.0) -> bytes:
    return engine.request(udid, Kind.CALL, 1, b"header", payload, timeout)


def test_requests_and_answers(network: Network) -> None:
    got: list[Incoming] = []

    def handler(incoming: Incoming) -> None:
        got.append(incoming)
        incoming.answer(b"answer")
        incoming.answer(b"a second one is dropped")

    a, _ = device(network, A, B)
    device(network, B, A, handler=handler)
    assert ask(a, B) == b"answer"
    assert (got[0].source, got[0].kind, got[0].target, got[0].header, got[0].payload) == (
        A,
        Kind.CALL,
        1,
        b"header",
        b"x",
    )


def test_how_requests_end_without_an_answer(network: Network) -> None:
    a, _ = device(network, A, B, C)
    device(network, B, A, handler=lambda incoming: incoming.busy() if incoming.payload == b"busy" else None)
    with pytest.raises(Busy):
        ask(a, B, b"busy")
    with pytest.raises(EngineTimeout):
        ask(a, B, timeout=0.05)
    with pytest.raises(NoAnswer):
        ask(a, C)
    with pytest.raises(ParamValueError):
        ask(a, B, timeout=0)


def test_both_sides_must_trust_each_other(network: Network) -> None:
    a, seen = device(network, A, B)
    b, _ = device(network, B)
    with pytest.raises(NoAnswer):
        ask(a, B)
    with pytest.raises(NoAnswer):
        ask(b, A)
    assert not a.devices() and not seen
    b.set_trust(trust(B, A))
    assert ask(a, B) == b"x"
    assert a.devices() == {B: b.info}


def test_the_same_seed_loses_the_same_messages() -> None:
    def run(seed: int) -> set[bytes]:
        arrived: set[bytes] = set()
        network, ended = Network(seed, loss=0.4), threading.Semaphore(0)
        a, _ = device(network, A, B)
        device(network, B, A, handler=lambda incoming: arrived.add(incoming.payload))  # no answer: it might be lost too
        for number in range(40):
            a.post(B, Kind.CALL, 1, b"", b"%d" % number, 0.05, lambda outcome: ended.release())
        for _ in range(40):
            assert ended.acquire(timeout=5)
        network.close()
        return arrived

    first = run(3)
    assert first == run(3) and first != run(4)
    assert 15 < len(first) < 33


def test_latency_delays_and_jitter_keeps_the_order(network: Network) -> None:
    got: list[int] = []
    last = threading.Event()

    def handler(incoming: Incoming) -> None:
        got.append(int(incoming.payload))
        if len(got) == 50:
            last.set()

    a, _ = device(network, A, B)
    device(network, B, A, handler=handler)
    network.set_quality(A, B, latency=0.02, jitter=0.02)
    begin = time.monotonic()
    for number in range(50):
        a.post(B, Kind.ONEWAY, 1, b"", b"%d" % number, 5.0, lambda outcome: None)
    assert last.wait(10)
    assert time.monotonic() - begin >= 0.02
    assert got == list(range(50))


def test_a_cut_is_noticed_by_both_and_healed(network: Network) -> None:
    arrived, ended = threading.Event(), threading.Event()
    outcomes: list[Outcome] = []

    def done(outcome: Outcome) -> None:
        outcomes.append(outcome)
        ended.set()

    a, _ = device(network, A, B, C)
    b, at_b = device(network, B, A, handler=lambda incoming: arrived.set())
    device(network, C, A)
    a.post(B, Kind.CALL, 1, b"", b"", 8.0, done)
    assert arrived.wait(10)
    network.cut(A, B)
    assert ended.wait(10)
    assert isinstance(outcomes[0], NoAnswer)
    assert B not in a.devices() and A not in b.devices()
    assert ask(a, C) == b"x"
    network.heal(A, B)
    assert a.devices()[B] == b.info
    ask(a, C)  # events are told on the same thread as answers
    assert [event.event for event in at_b] == [PresenceEvent.ONLINE, PresenceEvent.OFFLINE, PresenceEvent.ONLINE]


def test_one_device_against_all(network: Network) -> None:
    a, _ = device(network, A, B, C)
    b, _ = device(network, B, A, C)
    device(network, C, A, B)
    network.cut(C)
    with pytest.raises((NoAnswer, EngineTimeout)):
        ask(a, C, timeout=1)
    assert ask(a, B) == b"x"
    network.heal(C)
    assert ask(b, C) == b"x"


def test_a_device_started_anew_is_another_boot(network: Network) -> None:
    a, events = device(network, A, B)
    old, _ = device(network, B, A)
    new, _ = device(network, B, A)
    assert ask(a, B) == b"x"
    assert old.info.boot != new.info.boot and old.info.network_id != new.info.network_id
    with pytest.raises(NoAnswer):
        ask(old, A)
    assert [(event.event, event.device.boot) for event in events] == [
        (PresenceEvent.ONLINE, old.info.boot),
        (PresenceEvent.OFFLINE, old.info.boot),
        (PresenceEvent.ONLINE, new.info.boot),
    ]


def test_a_change_of_trust_ends_what_is_under_way(network: Network) -> None:
    arrived = threading.Event()
    a, _ = device(network, A, B)
    device(network, B, A, handler=lambda incoming: arrived.set())

    def change() -> None:
        assert arrived.wait(10)
        a.set_trust(trust(A, B))

    changer = threading.Thread(target=change)
    changer.start()
    with pytest.raises(NoAnswer):
        ask(a, B)
    changer.join()


def test_many_devices() -> None:
    network = Network()
    udids = [f"{number:064x}" for number in range(20)]
    engines = [device(network, udid, *udids)[0] for udid in udids]
    for engine in engines:
        assert set(engine.devices()) == set(udids) - {engine.udid}
        assert ask(engine, udids[0] if engine.udid != udids[0] else udids[1]) == b"x"
    network.close()
    for engine in engines:
        with pytest.raises(NoAnswer):
            ask(engine, udids[0])
