"""A world: this process and the others it talks to, over one driver.

``LoopbackWorld`` makes "processes" inside this one, ``UnixWorld`` and ``KernelWorld`` real child processes. A case sees
only ``World`` and ``Other``, so that it is written once. Leaving a world checks that nothing is left of the case:
the counts of every process's driver are back where they were.
"""

from __future__ import annotations

import functools
import gc
import os
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import binderkit as bk
from binderkit.driver.kernel import meeting
from binderkit.driver.kernel.node import KernelNode
from binderkit.driver.loopback import LoopbackNetwork, LoopbackProcess
from binderkit.ipc.driver import peek_driver, set_driver
from binderkit.process import binder_device, local_node
from tests.contract import forks
from tests.contract.messages import transact
from tests.contract.service import PATIENCE, STATISTICS, STEP, Code, Service

Counts = dict[str, int]
SETTLE_TIME = 10.0
"""Seconds until what a case no longer holds must be given back everywhere; a loaded machine takes some of them."""


def eventually(condition: Callable[[], object], what: str, patience: float = PATIENCE) -> None:
    """Return when ``condition()`` is true; fail the case if it never is."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"never happened: {what}"
        time.sleep(STEP)  # the interval between two looks, not a wait for it to come true


class Other(ABC):
    """Another process of a world, serving a ``Service``.

    Attributes:
        root: our proxy of its service.
        pid: its process id as everybody sees it.
    """

    root: bk.RemoteProxy
    pid: int

    @abstractmethod
    def kill(self) -> None:
        """End it as SIGKILL does."""

    @abstractmethod
    def close(self) -> None:
        """End it. Idempotent."""

    @abstractmethod
    def is_alive(self) -> bool:
        """Whether it runs."""

    def end_handlers(self) -> None:
        """Let handlers that wait go on in a process that was killed, where killing cannot end them."""
        raise NotImplementedError(f"{self!r} has no handlers after its end")

    def counts(self) -> Counts:
        """Return the counts of its driver."""
        reply = transact(self.root, Code.STATISTICS)
        return {name: reply.read_long() for name in STATISTICS}


class World(ABC):
    """Makes other processes; knows what this process and they hold."""

    name: str
    interrupts_callers: bool
    """Whether a call ends at its deadline, or at a death, even if its handler does not."""
    service_threads: bool
    """Whether handlers of synchronous calls run on threads of the service's process."""
    counts_holders = True
    """Whether the driver knows how many processes hold an object, not only whether any does."""

    def __init__(self) -> None:
        self.others: list[Other] = []
        self._at_start: list[tuple[Other, Counts]] = []
        self._here = self.counts()

    @abstractmethod
    def _start(self) -> Other:
        """Start another process."""

    @abstractmethod
    def flush(self) -> None:
        """Deliver released references now."""

    @abstractmethod
    def all_counts(self) -> Counts:
        """Return all counts of this process's driver."""

    @abstractmethod
    def holders(self, stub: bk.RemoteObject) -> int:
        """Return how many other processes hold an object of this one."""

    @abstractmethod
    def set_max_threads(self, count: int) -> None:
        """Set the number of worker threads of this process."""

    @abstractmethod
    def make_service(self) -> Service:
        """Return a service of this process."""

    @property
    @abstractmethod
    def pid(self) -> int:
        """Our pid as the others see it."""

    def counts(self) -> Counts:
        """Return those counts of this process's driver that a case must not change."""
        counts = self.all_counts()
        return {name: counts.get(name, 0) for name in STATISTICS}

    def start(self, count: int = 1) -> list[Other]:
        """Start other processes; what they hold now is what they must hold at the end."""
        started = [self._start() for _ in range(count)]
        self.others += started
        self._at_start += [(other, other.counts()) for other in started]
        self._here["proxies"] += count
        return started

    def one(self) -> Other:
        """Start one other process."""
        (other,) = self.start()
        return other

    def check_leaks(self) -> None:
        """Fail unless every process holds what it held at the start."""
        _settle(self, self.counts, self._expected, "this process")
        for other, at_start in self._at_start:
            if other.is_alive():
                _settle(self, other.counts, partial(dict, at_start), f"process {other.pid}")

    def _expected(self) -> Counts:
        dead = sum(not other.is_alive() for other in self.others)
        return {**self._here, "proxies": self._here["proxies"] - dead}

    def close(self) -> None:
        """End the other processes."""
        for other in self.others:
            other.close()
        self.others.clear()
        self._at_start.clear()


def _settle(world: World, counts: Callable[[], Counts], expected: Callable[[], Counts], who: str) -> None:
    end = time.monotonic() + SETTLE_TIME
    while True:
        world.flush()
        now, wanted = counts(), expected()
        if now == wanted:
            return
        gc.collect()
        if time.monotonic() > end:
            changed = {name: f"{wanted[name]} -> {now[name]}" for name in now if now[name] != wanted[name]}
            raise AssertionError(f"{who} holds something else than at the start: {changed}")
        time.sleep(STEP)


class _LoopbackOther(Other):
    def __init__(self, process: LoopbackProcess, here: LoopbackProcess) -> None:
        self.process = process
        self.pid = process.identity.pid
        self._service = Service(process, self.pid)
        self.root = process.offer(self._service, here)

    def end_handlers(self) -> None:
        self._service.end_waits()

    def kill(self) -> None:
        self.process.kill()

    def close(self) -> None:
        self.process.close()

    def is_alive(self) -> bool:
        return not self.process.dead


class LoopbackWorld(World):
    """All processes in this one."""

    name = "loopback"
    interrupts_callers = False
    service_threads = False

    def __init__(self) -> None:
        self.network = LoopbackNetwork()
        self.process = self.network.process(pid=os.getpid())
        super().__init__()

    @property
    def pid(self) -> int:
        return self.process.identity.pid

    def _start(self) -> Other:
        return _LoopbackOther(self.network.process(), self.process)

    def flush(self) -> None:
        self.network.flush()

    def all_counts(self) -> Counts:
        return self.process.statistics()

    def holders(self, stub: bk.RemoteObject) -> int:
        return self.process.holders(stub)

    def set_max_threads(self, count: int) -> None:
        self.process.set_max_threads(count)

    def make_service(self) -> Service:
        return Service(self.process, self.pid)

    def close(self) -> None:
        super().close()
        self.network.close()


class _UnixOther(Other):
    def __init__(self) -> None:
        self._child = bk.spawn("tests.contract.service:make")
        self.root = self._child.root
        self.pid = self._child.pid

    def kill(self) -> None:
        self._child.kill()

    def close(self) -> None:
        self._child.close()

    def is_alive(self) -> bool:
        return self._child.is_alive()


class UnixWorld(World):
    """Real child processes over the socket driver."""

    name = "unix"
    interrupts_callers = True
    service_threads = True

    @property
    def pid(self) -> int:
        return os.getpid()

    def _start(self) -> Other:
        return _UnixOther()

    def flush(self) -> None:
        local_node().flush_released()

    def all_counts(self) -> Counts:
        return local_node().statistics()

    def holders(self, stub: bk.RemoteObject) -> int:
        return local_node().holders(stub)

    def set_max_threads(self, count: int) -> None:
        local_node().set_max_threads(count)

    def make_service(self) -> Service:
        return Service()

    def close(self) -> None:
        super().close()
        gc.collect()
        eventually(lambda: self.all_counts()["peers"] == 0, "all connections are gone with the processes", 5.0)


class _KernelOther(Other):
    """A child that was forked, not started: see forks.py. ``binderkit.spawn`` has a test of its own on this driver."""

    def __init__(self, node: KernelNode) -> None:
        token, point = os.urandom(meeting.TOKEN_SIZE), meeting.MeetingPoint()
        meeting.offer(node, token, point)
        root = "tests.contract.service:make"
        self._process = forks.server().start(
            {"root": root, "args": [], "device": node.device.path, "token": token.hex()}
        )
        self.pid = self._process.pid
        end = time.monotonic() + PATIENCE
        while not point.came.wait(STEP):
            if not self._process.is_alive() or time.monotonic() > end:
                self.close()
                raise AssertionError(f"process {self.pid} did not offer its object; see its error output")
        assert point.root is not None
        self.root, point.root = point.root, None
        self.point = weakref.ref(point)
        """lives on after us, until the kernel says that the child holds it no more"""

    def kill(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._process.close()

    def is_alive(self) -> bool:
        return self._process.is_alive()


class KernelWorld(World):
    """Real child processes over a binder device, whose context manager this process is."""

    name = "kernel"
    interrupts_callers = True
    service_threads = True
    counts_holders = False

    def __init__(self) -> None:
        self._before = peek_driver()
        self.node = _kernel_node()
        set_driver(self.node)
        super().__init__()

    @property
    def pid(self) -> int:
        return os.getpid()

    def start(self, count: int = 1) -> list[Other]:
        self._here["exports"] += count  # the meeting point of each child, which it holds for its life
        return super().start(count)

    def _expected(self) -> Counts:
        dead = sum(not other.is_alive() for other in self.others)
        expected = super()._expected()
        return {**expected, "exports": expected["exports"] - dead}

    def _start(self) -> Other:
        return _KernelOther(self.node)

    def flush(self) -> None:
        self.node.flush_released()

    def all_counts(self) -> Counts:
        return self.node.statistics()

    def holders(self, stub: bk.RemoteObject) -> int:
        return self.node.holders(stub)

    def set_max_threads(self, count: int) -> None:
        self.node.set_max_threads(count)

    def make_service(self) -> Service:
        return Service()

    def close(self) -> None:
        points = [other.point for other in self.others if isinstance(other, _KernelOther)]
        super().close()
        gc.collect()
        # Or the next world would count them as what this process holds by itself.
        eventually(
            lambda: all(point() is None for point in points), "the meeting points of ended children are given back"
        )
        set_driver(self._before)


@functools.cache
def _kernel_node() -> KernelNode:
    """Return this process's driver on the device, whose context manager it becomes."""
    node = KernelNode(binder_device())
    node.become_context(bk.RemoteObject("binderkit.tests.IContext"))
    return node


WORLDS: dict[str, type[World]] = {"loopback": LoopbackWorld, "unix": UnixWorld}
if os.path.exists(binder_device()):
    WORLDS["kernel"] = KernelWorld


@contextmanager
def open_world(name: str) -> Iterator[World]:
    """Enter a world; a case that went well is checked for leaks."""
    world = WORLDS[name]()
    try:
        yield world
        world.check_leaks()
    finally:
        world.close()
