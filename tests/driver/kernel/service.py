"""A process that serves an object as the context manager of a device: ``python -m tests.driver.kernel.service DEVICE``.

It says "ready" on its output, then does what its input says (see ``Order``), with no thread of the driver's; it ends
with its input. Owns: ``Code``, what the object can be asked for, and
``Served``, such a process as tests use it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import subprocess
import sys
import threading
from enum import IntEnum, StrEnum
from pathlib import Path
from typing import Any, NamedTuple

from binderkit.driver.kernel.node import KernelNode
from binderkit.errors import CallTimeoutError, IpcError
from binderkit.ipc.driver import set_driver
from binderkit.ipc.option import MessageOption
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence
from tests.driver.kernel.state import WAIT

ROOT = Path(__file__).parents[3]
MODULE = "tests.driver.kernel.service"


class Code(IntEnum):
    """What the object does; numbers are int32."""

    ADD_ONE = 1
    """number -> number + 1"""
    KEEP = 2
    """object: hold on to it"""
    DROP = 3
    """let go of what is held"""
    GIVE = 4
    """-> the object that is held"""
    MAKE = 5
    """-> a new object"""
    READ_FD = 6
    """descriptor -> what can be read from it, a string"""
    GIVE_FD = 7
    """-> a descriptor"""
    RAW = 8
    """size, raw data -> size"""
    BIG = 9
    """size -> a string of that many bytes"""
    WAIT = 10
    """wait until the test lets all who wait go"""
    COUNTED = 13
    """count this call"""
    CALL = 14
    """number: have the object that is held add one -> the result"""
    ANYTHING = 15
    """whatever is in the message, read as everything there is"""
    KEEP_MANY = 17
    """count, objects: hold on to them"""
    DIE = 18
    """end the process in mid-call"""
    EXIT_THREAD = 19
    """end the thread in mid-call, as far as the device knows"""
    CALL_BRIEFLY = 20
    """number: the same as CALL, but only for a moment; that it is over is counted"""


class Order(StrEnum):
    """What the process does at a word of its input; it answers with a line."""

    OPEN = "open"
    COMPLAINTS = "complaints"
    COUNTS = "counts"
    THREADS = "threads"


class Counts(NamedTuple):
    """What the object counted.

    Attributes:
        waiting: calls of WAIT that wait now.
        most: that waited at once at most.
        counted: calls of COUNTED, and of CALL_BRIEFLY whose time was over.
    """

    waiting: int
    most: int
    counted: int


class Service(RemoteObject):
    """The object."""

    def __init__(self, node: KernelNode) -> None:
        super().__init__("binderkit.tests.IKernelService")
        self._node = node
        self._held: list[Any] = []
        self._changed = threading.Condition()
        self._gate = 0
        self._waiting = self._most = self._counted = 0

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> bool:
        """Do what ``Code`` says."""
        if code == Code.ADD_ONE:
            reply.write_int(data.read_int() + 1)
        elif code == Code.KEEP:
            self._held = [data.read_remote_object()]
        elif code == Code.KEEP_MANY:
            self._held = [data.read_remote_object() for _ in range(data.read_int())]
        elif code == Code.DROP:
            self._held = []
        elif code == Code.GIVE:
            reply.write_remote_object(self._held[0])
        elif code == Code.MAKE:
            reply.write_remote_object(RemoteObject("binderkit.tests.IMade"))
        elif code == Code.READ_FD:
            self._read_fd(data, reply)
        elif code == Code.GIVE_FD:
            reply.write_file_descriptor(0)
        elif code == Code.RAW:
            size = data.read_int()
            reply.write_int(len(data.read_raw_data_buffer(size)))
        elif code == Code.BIG:
            reply.write_string("x" * data.read_int())
        elif code == Code.CALL:
            reply.write_int(add_one(self._held[0], data.read_int()))
        elif code == Code.CALL_BRIEFLY:
            self._call_briefly(data.read_int())
        elif code == Code.ANYTHING:
            self._read_anything(data)
        elif code == Code.DIE:
            os._exit(7)
        elif code == Code.EXIT_THREAD:
            self._node.device.exit_thread()
        else:
            return self._wait_or_count(code, reply)
        return True

    def _wait_or_count(self, code: int, reply: MessageSequence) -> bool:
        with self._changed:
            if code == Code.WAIT:
                gate = self._gate
                self._waiting += 1
                self._most = max(self._most, self._waiting)
                opened = self._changed.wait_for(lambda: self._gate != gate, WAIT)
                self._waiting -= 1
                return opened
            if code != Code.COUNTED:
                return False
            self._counted += 1
        return True

    def open(self) -> None:
        """Let all who wait go."""
        with self._changed:
            self._gate += 1
            self._changed.notify_all()

    def counts(self) -> Counts:
        """Return what was counted."""
        with self._changed:
            return Counts(self._waiting, self._most, self._counted)

    def _call_briefly(self, number: int) -> None:
        try:
            add_one(self._held[0], number, MessageOption(timeout=0.05))
        except CallTimeoutError:
            with self._changed:
                self._counted += 1

    @staticmethod
    def _read_fd(data: MessageSequence, reply: MessageSequence) -> None:
        fd = data.read_file_descriptor()
        try:
            reply.write_string(os.read(fd, 100).decode())
        finally:
            os.close(fd)

    @staticmethod
    def _read_anything(data: MessageSequence) -> None:
        """Nothing that is read may do more than raise an error of ours."""
        readers = (
            data.read_remote_object, data.read_string, data.read_int_array, data.read_remote_object_array,
            data.read_exception, data.read_interface_token, data.read_double, data.read_boolean,
        )  # fmt: skip
        for read in readers:
            with contextlib.suppress(IpcError):
                read()
        with contextlib.suppress(IpcError):
            os.close(data.read_file_descriptor())
        with contextlib.suppress(IpcError):
            data.read_ashmem().close_ashmem()
        with contextlib.suppress(IpcError):
            data.read_raw_data_buffer(data.read_int())


def add_one(proxy: Any, number: int = 1, option: MessageOption | None = None) -> int:
    """Return what an object makes of ``number``."""
    data, reply = MessageSequence(), MessageSequence()
    data.write_int(number)
    proxy.send_request(Code.ADD_ONE, data, reply, option)
    return reply.read_int()


def ask(proxy: Any, code: int, *numbers: int, option: MessageOption | None = None) -> MessageSequence:
    """Make a call with int32 values."""
    data, reply = MessageSequence(), MessageSequence()
    for number in numbers:
        data.write_int(number)
    proxy.send_request(code, data, reply, option)
    return reply


class Program:
    """A module that runs in a process of its own, until its input ends at the latest."""

    def __init__(self, module: str, *arguments: str, uid: int | None = None) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, user=uid, text=True, bufsize=1,
        )  # fmt: skip
        self.pid = self._process.pid
        self.said = self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().rstrip("\n")

    def _order(self, *words: object) -> str:
        assert self._process.stdin is not None
        print(*words, file=self._process.stdin, flush=True)
        return self._answer()

    def last_words(self) -> str:
        """End its input; return what it says to that."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return self._answer()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()
        self._process.wait()

    def wait(self) -> int:
        """Wait for its end; return its exit status."""
        return self._process.wait(WAIT)

    def close(self) -> None:
        """End it. Idempotent."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        if self._process.poll() is None:
            self.kill()
        self._process.stdin.close()
        self._process.stdout.close()


class Served(Program):
    """The process of this module."""

    def __init__(self, device: str, *, uid: int | None = None) -> None:
        self.device = device
        super().__init__(MODULE, device, uid=uid)

    def open(self) -> None:
        """Let all calls of WAIT go that wait now."""
        self._order(Order.OPEN)

    def counts(self) -> Counts:
        """Return what its object counted."""
        return Counts(*map(int, self._order(Order.COUNTS).split()))

    def complaints(self) -> int:
        """Return how many errors its driver logged; what others send is none."""
        return int(self._order(Order.COMPLAINTS))

    def set_max_threads(self, count: int) -> None:
        """Have it handle at most ``count`` calls at once."""
        self._order(Order.THREADS, count)

    def __enter__(self) -> Served:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Complaints(logging.Handler):
    """Counts errors that are logged, and shows the first."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.count = 0

    def emit(self, record: logging.LogRecord) -> None:
        """Count one."""
        self.count += 1
        if self.count == 1:
            print(self.format(record), file=sys.stderr, flush=True)


def main(device: str) -> int:
    """Serve until the input ends."""
    complaints = Complaints()
    logging.getLogger("binderkit").addHandler(complaints)
    try:
        node = KernelNode(device)
        set_driver(node)
        service = Service(node)
        node.become_context(service)
    except IpcError as error:
        print(f"{type(error).__name__}: {error}", flush=True)
        return 1
    print("ready", flush=True)
    for line in sys.stdin:
        _obey(line.split(), node, service, complaints)
    return 0


def _obey(words: list[str], node: KernelNode, service: Service, complaints: Complaints) -> None:
    if words[0] == Order.COUNTS:
        print(*service.counts(), flush=True)
        return
    if words[0] == Order.COMPLAINTS:
        print(complaints.count, flush=True)
        return
    if words[0] == Order.OPEN:
        service.open()
    else:
        node.set_max_threads(int(words[1]))
    print("done", flush=True)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
