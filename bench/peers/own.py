"""binderkit itself, as its users use it: a child process started by ``spawn``, plain calls on its root object."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path
from threading import Event
from time import monotonic_ns, perf_counter, perf_counter_ns

import binderkit as bk
from bench import device, idle, measure, services
from bench.peers.base import Peer
from bench.services import Echo, Obituary, Workbench, call_echo
from bench.typed import TypedClient

SPECIAL_WAIT = 10.0
"""Seconds a death notice may take before the measurement fails."""
_ASHMEM_FROM = 128 * 1024 * 1024
"""Raw data ends here; above, a body travels as Ashmem."""


class Own(Peer):
    """The client; see the module head."""

    name = "binderkit"
    offers = Peer.offers | {
        "oneway",
        "nested",
        "inflight",
        "introduction",
        "again",
        "death",
        "footprint",
        "idle",
        "typed-echo",
        "typed-record",
        "typed-list",
        "typed-array",
        *device.ACTIONS,
    }

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        os.environ["BINDERKIT_RUNTIME_DIR"] = str(folder)
        os.environ["BINDERKIT_NO_AUTOSTART"] = "1"
        self._oneway = bk.MessageOption(bk.MessageOption.TF_ASYNC)
        self._ashmem: bk.Ashmem | None = None
        self._callback = Echo()

    def start(self) -> None:
        """Start the server process and leave it an object that it can call back."""
        self._child = bk.spawn(Workbench)
        self._root = self._child.root
        _give(self._root, services.SET_PARTNER, self._callback)

    def connect(self) -> None:
        """Not used: clients are child processes that are handed the server's proxy."""
        raise NotImplementedError("binderkit's clients get the proxy as an argument")

    def pids(self) -> list[int]:
        """Return the server's pid."""
        return [self._child.pid]

    def close(self) -> None:
        """End the server and release the shared memory."""
        if self._ashmem is not None:
            self._ashmem.close_ashmem()
        self._child.close()

    def echo(self, value: int) -> int:
        """Send an int and get it back."""
        data = bk.MessageSequence()
        reply = bk.MessageSequence()
        data.write_int(value)
        self._root.send_request(services.ECHO, data, reply)
        return reply.read_int()

    def put(self, data: bytes) -> int:
        """Send bytes: as raw data, above 128 MiB through Ashmem."""
        size = len(data)
        request = bk.MessageSequence()
        reply = bk.MessageSequence()
        if size > _ASHMEM_FROM:
            memory = self._shared(size)
            memory.write_data_to_ashmem(data, size, 0)
            request.write_ashmem(memory)
            self._root.send_request(services.PUT_ASHMEM, request, reply)
        else:
            request.write_int(size)
            request.write_raw_data_buffer(data, size)
            self._root.send_request(services.PUT, request, reply)
        request.reclaim()
        return reply.read_int()

    def _shared(self, size: int) -> bk.Ashmem:
        if self._ashmem is None or self._ashmem.get_ashmem_size() != size:
            self._ashmem = bk.Ashmem.create("bench", size)
            self._ashmem.map_read_write_ashmem()
        return self._ashmem

    def notify(self, value: int) -> None:
        """Make a one-way call; where the target's buffer is full, wait until it has handled what it has."""
        data = bk.MessageSequence()
        reply = bk.MessageSequence()
        data.write_int(value)
        while True:
            try:
                self._root.send_request(services.NOTIFY, data, reply, self._oneway)
                return
            except bk.QuotaError:
                self.count()

    def count(self) -> int:
        """Return how many one-way calls the server has handled."""
        return _ask(self._root, services.COUNT)

    def load(self, clients: int, seconds: float) -> float:
        """Let ``clients`` child processes call the server at the same time; return calls per second of all."""
        with ExitStack() as stack:
            roots = []
            for _ in range(clients):
                child = stack.enter_context(bk.spawn(Workbench))
                _give(child.root, services.SET_PARTNER, self._root)
                roots.append(child.root)
            with ThreadPoolExecutor(clients) as threads:
                return sum(threads.map(lambda root: _ask_load(root, seconds), roots)) / seconds

    def special(self, action: str, seconds: float, number: int) -> dict[str, float]:
        """Measure what the other packages do not offer."""
        specials: dict[str, Callable[[float, int], dict[str, float]]] = {
            "nested": self._nested,
            "inflight": self._inflight,
            "introduction": self._introduction,
            "again": self._again,
            "death": self._death,
            "footprint": self._footprint,
            "idle": idle.cost_of_idle_clients,
        }
        typed: dict[str, Callable[[TypedClient, float], dict[str, float]]] = {
            "typed-echo": TypedClient.echo,
            "typed-record": TypedClient.record,
            "typed-list": TypedClient.numbers,
            "pickled-list": TypedClient.numbers_pickled,
            "typed-array": TypedClient.array,
            "ashmem": TypedClient.ashmem,
        }
        if action in typed:
            # A server for each measurement: it inherits where this process runs now.
            with closing(TypedClient(self.folder)) as client:
                return typed[action](client, seconds)
        if action in device.ACTIONS:
            return device.ACTIONS[action](self.folder, seconds, number)
        return specials[action](seconds, number)

    def _nested(self, seconds: float, number: int) -> dict[str, float]:
        """A call during which the server calls an object of ours."""
        root = self._root

        def call() -> int:
            data = bk.MessageSequence()
            reply = bk.MessageSequence()
            data.write_int(7)
            root.send_request(services.NESTED, data, reply)
            return reply.read_int()

        if call() != 7:
            raise AssertionError("the nested call answered something else")
        return measure.timed(call, seconds)

    def _inflight(self, seconds: float, number: int) -> dict[str, float]:
        """``number`` coroutines that call at the same time."""
        return asyncio.run(self._run_inflight(seconds, number))

    async def _run_inflight(self, seconds: float, number: int) -> dict[str, float]:
        root = self._root
        calls = 0

        async def caller(end: float) -> None:
            nonlocal calls
            option = bk.MessageOption()
            while perf_counter() < end:
                data = bk.MessageSequence()
                reply = bk.MessageSequence()
                data.write_int(7)
                await root.send_message_request(services.ECHO, data, reply, option)
                if reply.read_int() != 7:
                    raise AssertionError("a reply went to the wrong call")
                calls += 1

        begin = perf_counter()
        await asyncio.gather(*(caller(begin + seconds) for _ in range(number)))
        return {"per_second": calls / (perf_counter() - begin)}

    def _introduction(self, seconds: float, number: int) -> dict[str, float]:
        """We hand a process an object of another process it has never met; it calls it. A new process each time."""
        samples = []
        for _ in range(number):
            with bk.spawn(Workbench) as stranger:
                for _ in range(20):
                    call_echo(stranger.root, 1)
                call_echo(self._root, 1)
                samples.append(_time_ns(partial(_give, stranger.root, services.CALL_GIVEN, self._root)))
        return measure.summary(samples)

    def _again(self, seconds: float, number: int) -> dict[str, float]:
        """The same between two processes that know each other: each time a new object."""
        with bk.spawn(Workbench) as stranger:
            _give(stranger.root, services.CALL_GIVEN, self._root)
            samples = []
            for _ in range(number * 20):
                reply = bk.MessageSequence()
                self._root.send_request(services.MAKE, bk.MessageSequence(), reply)
                fresh = reply.read_remote_object()
                samples.append(_time_ns(partial(_give, stranger.root, services.CALL_GIVEN, fresh)))
        return measure.summary(samples)

    def _death(self, seconds: float, number: int) -> dict[str, float]:
        """From kill -9 to the recipient's first line."""
        samples = []
        for _ in range(number):
            with bk.spawn(Workbench) as victim:
                told = Event()
                recipient = Obituary(told.set)
                victim.root.register_death_recipient(recipient)
                call_echo(victim.root, 1)
                killed_ns = monotonic_ns()
                os.kill(victim.pid, signal.SIGKILL)
                if not told.wait(SPECIAL_WAIT):
                    raise AssertionError(f"no death notice within {SPECIAL_WAIT} s")
                samples.append(recipient.at_ns - killed_ns)
        return measure.summary(samples)

    def _footprint(self, seconds: float, number: int) -> dict[str, float]:
        """Resident memory of a client process after its first call."""
        with bk.spawn(Workbench) as client:
            _give(client.root, services.SET_PARTNER, self._root)
            return {"megabytes": _ask(client.root, services.FOOTPRINT) * 1024 / 1e6}


def _time_ns(call: Callable[[], object]) -> int:
    before = perf_counter_ns()
    call()
    return perf_counter_ns() - before


def _give(target: bk.IRemoteObject, code: int, given: bk.IRemoteObject) -> None:
    data = bk.MessageSequence()
    data.write_remote_object(given)
    target.send_request(code, data, bk.MessageSequence())


def _ask(target: bk.IRemoteObject, code: int) -> int:
    reply = bk.MessageSequence()
    target.send_request(code, bk.MessageSequence(), reply)
    return reply.read_int()


def _ask_load(target: bk.IRemoteObject, seconds: float) -> int:
    data = bk.MessageSequence()
    reply = bk.MessageSequence()
    data.write_double(seconds)
    target.send_request(services.LOAD, data, reply)
    return reply.read_int()
