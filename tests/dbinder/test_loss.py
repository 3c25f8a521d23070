"""A network that loses messages and breaks: no call twice, every call ends, and no reference is lost or kept."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest

import binderkit as bk
from binderkit import limits
from binderkit.errors import CallTimeoutError, DeadObjectError, IpcError
from tests.dbinder.devices import Devices, eventually, running
from tests.dbinder.service import Code, Service, call

ABILITY = 5000
THREADS = 4
CALLS = 12


class Counting(Service):
    """Notes which calls were executed; KEEP keeps what it is given and gives something of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.executed: list[int] = []

    def keep(self, data: Any, reply: Any) -> None:
        self.executed.append(data.read_int())
        self.kept.append(data.read_remote_object())
        reply.write_remote_object(Service("test.IGiven"))


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 8))])
def test_references_agree_whatever_the_network_loses(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RPC_FIRST_SLICE", 0.1)  # what is lost is sent again soon
    with running("a", "b", loss=0.0, latency=0.001) as devices:
        a, b = devices.all
        service = Counting()
        b.offer(ABILITY, service, b.app())
        proxy = a.get(b, ABILITY, a.app())
        devices.network.set_quality(a.udid, b.udid, loss=0.15)
        outcomes = _call_a_lot(proxy, seed)
        devices.network.set_quality(a.udid, b.udid, loss=0.0)
        ended = {number for numbers in outcomes.values() for number in numbers}
        assert ended == set(range(THREADS * CALLS))
        assert len(service.executed) == len(set(service.executed)), "a call was executed twice"
        assert set(outcomes["done"]) <= set(service.executed)
        service.kept.clear()
        del proxy
        devices.nothing_held()


def _call_a_lot(proxy: Any, seed: int) -> dict[str, list[int]]:
    outcomes: dict[str, list[int]] = {"done": [], "unknown": []}

    def run(thread: int) -> None:
        chance = random.Random(seed * 100 + thread)
        for turn in range(CALLS):
            number = thread * CALLS + turn

            def write(data: Any, number: int = number) -> None:
                data.write_int(number)
                data.write_remote_object(Service("test.IMine"))

            option = bk.MessageOption(timeout=chance.choice([0.02, 0.1, 0.8]))
            try:
                call(proxy, Code.KEEP, write, option)
                outcomes["done"].append(number)
            except (CallTimeoutError, DeadObjectError):
                outcomes["unknown"].append(number)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    return outcomes


def test_cuts_in_the_middle_of_calls() -> None:
    with running("a", "b") as devices:
        a, b = devices.all
        service = Counting()
        b.offer(ABILITY, service, b.app())
        app = a.app()
        sent: list[int] = []
        done: list[int] = []
        for turn in range(4):
            proxy = a.get(b, ABILITY, app)
            threads = [threading.Thread(target=_until_it_fails, args=(proxy, sent, done)) for _ in range(3)]
            for thread in threads:
                thread.start()
            eventually(lambda turn=turn: len(done) > 5 * (turn + 1), "calls are made")  # type: ignore[misc]
            devices.network.cut(a.udid, b.udid)
            for thread in threads:
                thread.join(20)
            eventually(lambda: not a.dbinder._devices and not b.dbinder._devices, "both saw the other leave")
            devices.network.heal(a.udid, b.udid)
            devices.pair()
            del proxy
        assert len(service.executed) == len(set(service.executed))
        assert set(done) <= set(service.executed)
        service.kept.clear()
        devices.nothing_held()


_lock = threading.Lock()


def _until_it_fails(proxy: Any, sent: list[int], done: list[int]) -> None:
    while True:
        with _lock:
            number = len(sent)
            sent.append(number)

        def write(data: Any, number: int = number) -> None:
            data.write_int(number)
            data.write_remote_object(Service("test.IMine"))

        try:
            call(proxy, Code.KEEP, write)
        except IpcError:
            return
        done.append(number)


def test_softbus_restarts_while_objects_are_held() -> None:
    with running("a", "b") as devices:
        a, b = devices.all
        _hold_and_restart(devices)
        assert a.dbinder.statistics() == {"exports": 0, "imports": 0}
        assert b.dbinder.statistics() == {"exports": 0, "imports": 0}


def _hold_and_restart(devices: Devices) -> None:
    a, b = devices.all
    service = Counting()
    b.offer(ABILITY, service, b.app())
    proxy = a.get(b, ABILITY, a.app())

    def write(data: Any) -> None:
        data.write_int(1)
        data.write_remote_object(Service("test.IMine"))

    given = call(proxy, Code.KEEP, write).read_remote_object()
    a.stop()
    a.start()
    devices.pair()
    for held in (proxy, given, service.kept[0]):
        with pytest.raises(DeadObjectError):
            held.ping()
    service.kept.clear()
    del proxy, given, held
    devices.nothing_held()
