"""The objects that binderkit's measurements call, served by child processes.

Imports nothing but binderkit and two small modules, so that the memory of a
child process is what a user's own small service or client would take.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from time import monotonic_ns, perf_counter

import binderkit as bk

ECHO, PUT, PUT_ASHMEM, NOTIFY, COUNT, SET_PARTNER = range(1, 7)
NESTED, CALL_GIVEN, LOAD, FOOTPRINT, THREADS, MAKE, RESIDENT = range(7, 14)

PAGE = 4096

Request = Callable[[bk.MessageSequence, bk.MessageSequence], None]


def resident_kb() -> int:
    """Return the memory of this process that is resident, in KiB."""
    with open("/proc/self/status") as lines:
        return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def call_echo(target: bk.IRemoteObject, value: int) -> int:
    """One plain call as a user writes it: fresh sequences, an int each way."""
    data = bk.MessageSequence()
    reply = bk.MessageSequence()
    data.write_int(value)
    target.send_request(ECHO, data, reply)
    return reply.read_int()


class Echo(bk.RemoteObject):
    """Answers the int it is sent; the smallest service there is."""

    def __init__(self) -> None:
        super().__init__("bench.IEcho")

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        """Answer ECHO."""
        if code != ECHO:
            return False
        reply.write_int(data.read_int())
        return True


class Workbench(bk.RemoteObject):
    """Everything the measurements ask of a server, and of a client process that is told what to do."""

    def __init__(self) -> None:
        super().__init__("bench.IWorkbench")
        self._count = 0
        self._partner: bk.IRemoteObject | None = None
        self._requests: dict[int, Request] = {
            PUT: self._put,
            PUT_ASHMEM: self._put_ashmem,
            COUNT: self._answer_count,
            SET_PARTNER: self._set_partner,
            NESTED: self._nested,
            CALL_GIVEN: self._call_given,
            LOAD: self._load_partner,
            FOOTPRINT: self._footprint,
            THREADS: self._threads,
            MAKE: self._make,
            RESIDENT: self._resident,
        }

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        """Dispatch by code; the two that are measured by the microsecond come first."""
        if code == ECHO:
            reply.write_int(data.read_int())
            return True
        if code == NOTIFY:
            self._count += 1  # one-way calls to one object never overlap
            return True
        request = self._requests.get(code)
        if request is None:
            return False
        request(data, reply)
        return True

    def _put(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        view = data.read_raw_data_buffer(data.read_int())
        view[::PAGE].tobytes()
        reply.write_int(len(view))

    def _put_ashmem(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        with data.read_ashmem() as memory:
            memory.map_readonly_ashmem()
            with memory.view() as view:
                view[::PAGE].tobytes()
            reply.write_int(memory.get_ashmem_size())

    def _answer_count(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        reply.write_int(self._count)

    def _set_partner(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        self._partner = data.read_remote_object()

    def _known_partner(self) -> bk.IRemoteObject:
        if self._partner is None:
            raise RuntimeError("SET_PARTNER first")
        return self._partner

    def _nested(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        reply.write_int(call_echo(self._known_partner(), data.read_int()))

    def _call_given(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        reply.write_int(call_echo(data.read_remote_object(), 7))

    def _load_partner(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        partner = self._known_partner()
        end = perf_counter() + data.read_double()
        calls = 0
        while perf_counter() < end:
            call_echo(partner, calls)
            calls += 1
        reply.write_int(calls)

    def _footprint(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        call_echo(self._known_partner(), 1)
        reply.write_int(resident_kb())

    def _threads(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        reply.write_int(len(os.listdir("/proc/self/task")))

    def _resident(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        reply.write_int(resident_kb())

    def _make(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        reply.write_remote_object(Echo())


class Obituary(bk.DeathRecipient):
    """Notes when it was told of a death, and calls ``told``."""

    def __init__(self, told: Callable[[], None]) -> None:
        self.at_ns = 0
        self._told = told

    def on_remote_died(self) -> None:
        """Note the time."""
        self.at_ns = monotonic_ns()
        self._told()
