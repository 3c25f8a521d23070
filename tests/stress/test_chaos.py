"""Everything at once, with timeouts and kills: no call hangs, nothing is left, no bug is logged."""

from __future__ import annotations

import faulthandler
import gc
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Callable, Iterator

import pytest

import binderkit as bk
from binderkit import process
from binderkit.errors import DescriptorError
from binderkit.memory import pool
from tests.driver.unix.hostile import until
from tests.stress import service
from tests.stress.service import Service, counted, nest, ping, raw, slow, tell

SECONDS = 4.0
pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]
EXPECTED = (bk.CallTimeoutError, bk.DeadObjectError, bk.CallCancelledError, bk.QuotaError, DescriptorError)
"""What a call may end with when calls are timed out and processes killed."""


@pytest.fixture(params=["all cpus", "one cpu", "one cpu, hasty threads", "all cpus, hasty threads"])
def machine(request: pytest.FixtureRequest) -> Iterator[None]:
    """The machine as it is, with one cpu only, with threads that are switched very often."""
    cpus, interval = os.sched_getaffinity(0), sys.getswitchinterval()
    if "one cpu" in request.param:
        os.sched_setaffinity(0, {min(cpus)})
    if "hasty" in request.param:
        sys.setswitchinterval(1e-5)
    try:
        yield
    finally:
        os.sched_setaffinity(0, cpus)
        sys.setswitchinterval(interval)


@pytest.fixture
def driver(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The process's driver, closed at the end; a logged bug fails the test, a hang prints all stacks."""
    caplog.set_level(logging.WARNING, logger="binderkit")
    faulthandler.dump_traceback_later(SECONDS + 35, exit=False)
    try:
        yield
        bugs = [text for text in caplog.messages if "bug in binderkit" in text]
        assert not bugs
    finally:
        faulthandler.cancel_dump_traceback_later()
        process.shutdown()
        pool.trim()


class Children:
    """Some child processes, of which any may be killed at any time."""

    def __init__(self, count: int) -> None:
        self._lock = threading.Lock()
        self._children = [bk.spawn(Service) for _ in range(count)]

    def root(self, dice: random.Random) -> bk.IRemoteObject:
        """Return the root object of one of them."""
        with self._lock:
            return dice.choice(self._children).root

    def replace(self, dice: random.Random) -> None:
        """Kill one and start another in its place."""
        at = dice.randrange(len(self._children))
        self._children[at].kill()
        fresh = bk.spawn(Service)
        with self._lock:
            self._children[at] = fresh

    def all(self) -> list[bk.Child]:
        """Return them."""
        return list(self._children)

    def close(self) -> None:
        """End them."""
        for child in self._children:
            child.close()
        self._children.clear()


class Load(threading.Thread):
    """One thread's random calls until the end; ``errors`` are those that must not be, ``last`` the call under way."""

    def __init__(self, children: Children, mine: Service, seed: int, end: float) -> None:
        super().__init__(name=f"load-{seed}")
        self._children = children
        self._mine = mine
        self._dice = random.Random(seed)
        self._end = end
        self.made = 0
        self.last = ""
        self.errors: list[BaseException] = []

    def run(self) -> None:
        """Make calls."""
        while time.monotonic() < self._end:
            self.step()

    def step(self) -> None:
        """Make one random call."""
        kind = self._dice.choice((self._ping, self._tell, self._nest, self._raw, self._late, self._made))
        self.last = kind.__name__
        try:
            kind(self._children.root(self._dice))
        except EXPECTED:
            pass  # timeouts are part of the load, and so are killed processes; what must not be is told below
        except bk.RemoteError as error:
            if "DeadObject" not in str(error) and "Timeout" not in str(error):
                self.errors.append(error)
        except BaseException as error:
            self.errors.append(error)
        self.made += 1

    def _brief(self) -> float:
        return self._dice.choice((0.0001, 0.0005, 0.002, 0.005, service.WAIT))

    def _ping(self, target: bk.IRemoteObject) -> None:
        ping(target, timeout=self._brief())

    def _tell(self, target: bk.IRemoteObject) -> None:
        for _ in range(self._dice.randrange(300)):
            tell(target)

    def _nest(self, target: bk.IRemoteObject) -> None:
        path = [self._children.root(self._dice) for _ in range(3)]
        nest([target, self._mine, *path, self._mine], timeout=self._brief())

    def _raw(self, target: bk.IRemoteObject) -> None:
        raw(target, self._dice.choice((1000, 40_000, 400_000)), timeout=self._brief())

    def _late(self, target: bk.IRemoteObject) -> None:
        slow(target, self._dice.randrange(5), timeout=0.002)

    def _made(self, target: bk.IRemoteObject) -> None:
        reply = bk.MessageSequence()
        option = bk.MessageOption(timeout=self._dice.choice((0.001, service.WAIT)))
        target.send_request(service.MAKE, bk.MessageSequence(), reply, option)
        ping(reply.read_remote_object())


def run_load(children: Children, threads: int, meanwhile: Callable[[float, Load], None]) -> None:
    """Load ``children`` from several threads, then check that all is as before."""
    end = time.monotonic() + SECONDS
    mine = Service()
    loads = [Load(children, mine, seed, end) for seed in range(threads)]
    for load in loads:
        load.start()
    meanwhile(end, Load(children, mine, 99, end))
    for load in loads:
        load.join(service.WAIT + 10)
    hanging = [f"{load.name} in {load.last}" for load in loads if load.is_alive()]
    if hanging:
        faulthandler.dump_traceback()
    assert not hanging
    assert [error for load in loads for error in load.errors] == []
    assert all(load.made for load in loads)
    del loads, mine
    for child in children.all():
        ping(child.root)
        before = counted(child.root)
        for _ in range(1000):
            tell(child.root)
        until(lambda proxy=child.root, least=before + 1000: counted(proxy) >= least, "one-way calls arrive")


def settled(children: Children) -> bool:
    """Whether nothing but the connections to the children is left.

    The children collect garbage each time: a handler whose caller gave up may still be running, and the traceback it
    ends with keeps its arguments in a reference cycle.
    """
    for child in children.all():
        child.root.send_request(service.COLLECT, bk.MessageSequence(), bk.MessageSequence())
    gc.collect()
    node = process.local_node()
    node.flush_released()
    now = node.statistics()
    return all(now[name] == 0 for name in ("exports", "held", "orphans", "introductions", "blocked"))


def check_settled(children: Children) -> None:
    """Fail unless everything is given back."""
    try:
        until(lambda: settled(children), "all is given back")
    except AssertionError as error:
        reply = bk.MessageSequence()
        theirs = []
        for child in children.all():
            child.root.send_request(service.COLLECT, bk.MessageSequence(), reply)
            theirs.append(reply.read_string())
        raise AssertionError(f"{error}: {process.local_node().statistics()}, in the children: {theirs}") from None


def test_calls_of_all_kinds_with_timeouts(machine: None, driver: None) -> None:
    children = Children(2)
    try:
        run_load(children, 5, lambda end, load: None)
        check_settled(children)
    finally:
        children.close()


def test_with_processes_killed_at_any_time(machine: None, driver: None) -> None:
    def kill(end: float, load: Load) -> None:
        dice = random.Random(7)
        kills = 0
        while time.monotonic() < end:
            children.replace(dice)
            kills += 1
            load.step()
        assert kills, "the test kills nobody"

    children = Children(3)
    try:
        run_load(children, 4, kill)
        check_settled(children)
    finally:
        children.close()


def test_handlers_that_exit_end_their_call_only(driver: None) -> None:
    """sys.exit in a handler, synchronous and one-way: the worker lives, the lane is served on."""
    with bk.spawn(Service) as child:
        for _ in range(100):
            with pytest.raises(bk.RemoteError, match="a handler calls"):
                child.root.send_request(service.EXIT, bk.MessageSequence(), bk.MessageSequence())
            child.root.send_request(
                service.EXIT, bk.MessageSequence(), bk.MessageSequence(), bk.MessageOption(bk.MessageOption.TF_ASYNC)
            )
            ping(child.root)
        tell(child.root)
        until(lambda: counted(child.root) == 1, "one-way calls are executed on")
