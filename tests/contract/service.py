"""The object every process of a contract test serves: it does what a case asks of the other side.

One class for all drivers. ``make`` is what ``binderkit.spawn`` calls in a child; a loopback "process" gives
``Service`` its driver and pid.
"""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import threading
import time
import weakref
from collections.abc import Callable
from enum import IntEnum, auto
from typing import Any

import binderkit as bk
from binderkit.ipc.driver import current_driver
from binderkit.ipc.remote import ForeignObject
from tests.contract.messages import open_descriptors, put, tell, transact

PATIENCE = 30.0
"""Seconds after which something that never comes is a failure instead of a hang."""
STEP = 0.002
"""Seconds between two looks at a condition."""


class Code(IntEnum):
    """What a service can be asked to do; the method of the same name, in lower case, says what it is."""

    VALUES = 1
    ECHO = auto()
    RAW = auto()
    WHO = auto()
    NEST = auto()
    KEEP = auto()
    GIVE = auto()
    DROP = auto()
    IS_KEPT = auto()
    IS_ME = auto()
    OBJECTS = auto()
    MAKE = auto()
    MADE = auto()
    PASS_ON = auto()
    FETCH = auto()
    RECORD = auto()
    RECORDED = auto()
    WAIT = auto()
    WAITING = auto()
    OPEN = auto()
    WAIT_FD = auto()
    WAIT_CANCELLED = auto()
    CANCELLATIONS = auto()
    FAIL = auto()
    TAKE_FD = auto()
    GIVE_FD = auto()
    GIVE_LATE = auto()
    ASHMEM = auto()
    STATISTICS = auto()
    DESCRIPTORS = auto()
    DIE = auto()
    THREADS = auto()
    IDENTITY = auto()
    REMAINING = auto()
    RELAY_WAIT = auto()
    SEND_ONEWAY = auto()
    CALL = auto()
    MOURN = auto()
    MOURNED = auto()
    TURNED = auto()


class CustomError(Exception):
    """An exception type the caller does not know."""


class NastyError(Exception):
    """An exception whose text cannot be made."""

    def __str__(self) -> str:
        raise RuntimeError("no text")


FAILURES: dict[str, Callable[[], object]] = {
    "value": lambda: ValueError("three is not four"),
    "custom": lambda: CustomError("made here"),
    "nasty": lambda: NastyError(),
    "refused": lambda: bk.RefusedError("not for you"),
    "dead": lambda: bk.DeadObjectError("somebody else died"),
    "timeout": lambda: bk.CallTimeoutError("somebody else was slow"),
    "coded": lambda: bk.IpcError("my own code", code=777),
    "long": lambda: ValueError("x" * 100_000),
    "false": lambda: False,
    "none": lambda: None,
}


class Recipient(bk.DeathRecipient):
    """Counts how often it was told, and by which thread."""

    def __init__(self) -> None:
        self.threads: list[int] = []

    def on_remote_died(self) -> None:
        """Note the call."""
        self.threads.append(threading.get_ident())


class Service(bk.RemoteObject):
    """Does what the code says; arguments and results as each method documents."""

    def __init__(self, driver: Any = None, pid: int | None = None) -> None:
        super().__init__("binderkit.tests.IService")
        self._driver = driver
        self._pid = os.getpid() if pid is None else pid
        self._lock = threading.Lock()
        self._kept: dict[str, bk.IRemoteObject] = {}
        self._made: list[weakref.ref[bk.RemoteObject]] = []
        self._records: list[tuple[int, int]] = []
        self._gate = threading.Event()
        self._waiting = 0
        self._most_waiting = 0
        self._cancellations: list[str] = []
        self._recipients: list[Recipient] = []

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        """Find the method of the code."""
        method = METHODS.get(code)
        if method is None:
            return False
        result = method(self, data, reply)
        return result if isinstance(result, bool) else True

    # --- values --------------------------------------------------------------------------------

    def values(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Read one value of every kind and write it back."""
        for kind in KINDS:
            getattr(reply, f"write_{kind}")(getattr(data, f"read_{kind}")())
        reply.write_array_buffer(data.read_array_buffer(bk.TypeCode.FLOAT64_ARRAY), bk.TypeCode.FLOAT64_ARRAY)

    def echo(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Bytes -> the same bytes."""
        reply.write_array_buffer(data.read_array_buffer(bk.TypeCode.UINT8_ARRAY), bk.TypeCode.UINT8_ARRAY)

    def turned(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Bytes, object -> the object, the bytes."""
        body = data.read_array_buffer(bk.TypeCode.UINT8_ARRAY)
        put(reply, data.read_remote_object(), bytes(body))

    def raw(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Size, raw data -> the same raw data."""
        size = data.read_long()
        reply.write_raw_data_buffer(data.read_raw_data_buffer(size), size)

    # --- who and where -------------------------------------------------------------------------

    def who(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """-> caller's pid, uid, device; our pid; thread; chain; whether a local call is being handled."""
        skeleton = bk.IPCSkeleton
        put(reply, skeleton.get_calling_pid(), skeleton.get_calling_uid(), skeleton.get_calling_device_id())
        put(reply, self._pid, threading.get_ident(), chain_id())
        put(reply, skeleton.is_local_calling(), skeleton.is_handling_transaction())

    def nest(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Objects -> the levels below, then ours: caller before and after calling on, pid, thread, chain.

        The first object is called with the rest.
        """
        path = data.read_remote_object_array()
        before = bk.IPCSkeleton.get_calling_pid()
        levels = []
        if path:
            below = transact(path[0], Code.NEST, path[1:])
            levels = read_levels(below)
        after = bk.IPCSkeleton.get_calling_pid()
        levels.append((before, after, self._pid, threading.get_ident(), chain_id()))
        put(reply, len(levels))
        for level in levels:
            put(reply, *level)

    def identity(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """-> the caller's pid, the pid while the identity is reset, the pid after, the identity."""
        before = bk.IPCSkeleton.get_calling_pid()
        identity = bk.IPCSkeleton.reset_calling_identity()
        during = bk.IPCSkeleton.get_calling_pid()
        bk.IPCSkeleton.restore_calling_identity(identity)
        put(reply, before, during == os.getpid(), bk.IPCSkeleton.get_calling_pid(), identity)

    # --- objects -------------------------------------------------------------------------------

    def keep(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Name, object: hold on to it."""
        name = data.read_string()
        self._kept[name] = data.read_remote_object()

    def give(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Name -> the object kept."""
        reply.write_remote_object(self._kept[data.read_string()])

    def drop(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Name: let the object go."""
        del self._kept[data.read_string()]

    def is_kept(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Name, object -> whether it is the very object kept."""
        name = data.read_string()
        reply.write_boolean(self._kept[name] is data.read_remote_object())

    def is_me(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Object -> whether it is this stub itself."""
        reply.write_boolean(data.read_remote_object() is self)

    def objects(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Array of objects -> the same in reverse order."""
        reply.write_remote_object_array(data.read_remote_object_array()[::-1])

    def make(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Kind -> a new object that nobody holds here: one of MAKERS."""
        made = MAKERS[data.read_string()](self._driver, self._pid)
        self._made.append(weakref.ref(made))
        reply.write_remote_object(made)

    def made(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Generation -> how many of the objects made still live, after collecting garbage up to that generation."""
        gc.collect(data.read_long())
        reply.write_long(sum(ref() is not None for ref in self._made))

    def pass_on(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Target, name, object: have the target keep it."""
        target, name = data.read_remote_object(), data.read_string()
        transact(target, Code.KEEP, name, data.read_remote_object())

    def fetch(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Target, name -> the object the target keeps."""
        reply.write_remote_object(
            transact(data.read_remote_object(), Code.GIVE, data.read_string()).read_remote_object()
        )

    def call(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Object -> its pid, found out by calling it."""
        seen = transact(data.read_remote_object(), Code.WHO)
        seen.read_long(), seen.read_long(), seen.read_string()
        reply.write_long(seen.read_long())

    # --- one-way -------------------------------------------------------------------------------

    def record(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Number: note it with the caller."""
        self._records.append((bk.IPCSkeleton.get_calling_pid(), data.read_long()))

    def recorded(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """From -> how many were recorded, and those from that index on."""
        records = list(self._records)
        first = data.read_long()
        reply.write_long(len(records))
        reply.write_long_array([number for _, number in records[first : first + 20_000]])

    def send_oneway(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Target, count: send it that many one-way calls."""
        target = data.read_remote_object()
        for number in range(data.read_long()):
            tell(target, Code.RECORD, number)

    # --- waiting -------------------------------------------------------------------------------

    def wait(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> bool:
        """Wait for OPEN, whatever the caller does."""
        with self._lock:
            self._waiting += 1
            self._most_waiting = max(self._most_waiting, self._waiting)
        opened = self._gate.wait(PATIENCE)
        with self._lock:
            self._waiting -= 1
        return opened

    def waiting(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """-> how many wait, how many waited at most."""
        put(reply, self._waiting, self._most_waiting)

    def open(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Let all who wait go, now and in future."""
        self.end_waits()

    def end_waits(self) -> None:
        """Open the gate."""
        self._gate.set()

    def wait_fd(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Descriptor: wait until a byte can be read from it."""
        with self._lock:
            self._waiting += 1
            self._most_waiting = max(self._most_waiting, self._waiting)
        fd = data.read_file_descriptor()
        os.read(fd, 1)
        os.close(fd)
        with self._lock:
            self._waiting -= 1

    def wait_cancelled(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> bool:
        """Work until nobody waits for the result."""
        with self._lock:
            self._waiting += 1
        end = time.monotonic() + PATIENCE
        try:
            while time.monotonic() < end:
                bk.IPCSkeleton.check_call_cancelled()
                if self._gate.wait(STEP):
                    return True
        except bk.CallCancelledError:
            self._cancellations.append("checked")
            raise
        finally:
            with self._lock:
                self._waiting -= 1
        return False

    def cancellations(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """-> how often a handler was cancelled."""
        reply.write_string_array(self._cancellations)

    def remaining(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Objects -> the remaining seconds at the last object of the path, -1 without a deadline."""
        path = data.read_remote_object_array()
        if path:
            reply.write_double(transact(path[0], Code.REMAINING, path[1:]).read_double())
            return
        left = bk.IPCSkeleton.get_remaining_time()
        reply.write_double(-1.0 if left is None else left)

    def relay_wait(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Object: have it work until nobody waits for us."""
        transact(data.read_remote_object(), Code.WAIT_CANCELLED)

    # --- failures, descriptors, memory -----------------------------------------------------------

    def fail(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> bool:
        """Kind: fail in that way (see FAILURES)."""
        outcome = FAILURES[data.read_string()]()
        if isinstance(outcome, BaseException):
            raise outcome
        return bool(outcome)

    def take_fd(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Descriptors, text each: write the text to the descriptor."""
        for _ in range(data.read_long()):
            fd = data.read_file_descriptor()
            os.write(fd, data.read_string().encode())
            os.close(fd)

    def give_fd(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Text -> a pipe with the text in it."""
        reading, writing = os.pipe()
        os.write(writing, data.read_string().encode())
        reply.write_file_descriptor(reading)
        os.close(reading)
        os.close(writing)

    def give_late(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Object -> after OPEN: a new object, the object, ten descriptors, a large block."""
        came = data.read_remote_object()
        self.wait(data, reply)
        made = Service(self._driver, self._pid)
        self._made.append(weakref.ref(made))
        put(reply, made, came)
        for _ in range(10):
            reply.write_file_descriptor(1)
        reply.write_raw_data_buffer(bytes(100_000), 100_000)

    def ashmem(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Ashmem, text -> what was in it; the text is written there if it may be, else the error's code is told."""
        text = data.read_string().encode()
        with data.read_ashmem() as ashmem:
            ashmem.map_readonly_ashmem()
            reply.write_string(ashmem.read_data_from_ashmem(len(text), 0).decode())
            try:
                ashmem.map_read_write_ashmem()
                ashmem.write_data_to_ashmem(text, len(text), 0)
            except bk.errors.AshmemError as error:
                reply.write_long(error.code)
            else:
                reply.write_long(0)

    # --- the process -----------------------------------------------------------------------------

    def statistics(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """-> the counts of STATISTICS of this process's driver."""
        if self._driver is None:
            gc.collect()  # an exception and its frames are a cycle, which is no leak
        driver: Any = self._driver or current_driver()
        counts = driver.statistics()
        put(reply, *[int(counts.get(name, 0)) for name in STATISTICS])

    def descriptors(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """-> how many descriptors are open."""
        reply.write_long(open_descriptors())

    def die(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """End at once, in the middle of the call."""
        if self._driver is None:
            os.kill(os.getpid(), signal.SIGKILL)
        self._driver.kill()

    def threads(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Count: handle at most that many requests at once."""
        (self._driver or current_driver()).set_max_threads(data.read_long())

    def mourn(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """Name: want to be told of the death of the object kept."""
        recipient = Recipient()
        self._kept[data.read_string()].register_death_recipient(recipient)
        self._recipients.append(recipient)

    def mourned(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> None:
        """-> how many times a recipient was told."""
        reply.write_long(sum(len(recipient.threads) for recipient in self._recipients))


class AsyncService(bk.RemoteObject):
    """The same idea as a coroutine: ECHO, WAIT_CANCELLED, FAIL, WHO, RECORD."""

    def __init__(self, driver: Any = None, pid: int | None = None) -> None:
        super().__init__("binderkit.tests.IAsyncService")
        self._pid = os.getpid() if pid is None else pid
        self._cancellations: list[str] = []
        self._records: list[int] = []
        self._waiting = 0

    async def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        """Handle a request on the event loop."""
        await asyncio.sleep(0)
        if code == Code.ECHO:
            reply.write_array_buffer(data.read_array_buffer(bk.TypeCode.UINT8_ARRAY), bk.TypeCode.UINT8_ARRAY)
        elif code == Code.WHO:
            put(reply, bk.IPCSkeleton.get_calling_pid(), self._pid)
        elif code == Code.FAIL:
            raise ValueError(data.read_string())
        elif code == Code.RECORD:
            await asyncio.sleep(0)
            self._records.append(data.read_long())
        elif code == Code.RECORDED:
            reply.write_long_array(self._records)
        elif code == Code.WAITING:
            reply.write_long(self._waiting)
        elif code == Code.CANCELLATIONS:
            reply.write_string_array(self._cancellations)
        elif code == Code.WAIT_CANCELLED:
            await self._wait_cancelled()
        else:
            return False
        return True

    async def _wait_cancelled(self) -> None:
        self._waiting += 1
        try:
            await asyncio.wait_for(asyncio.Event().wait(), PATIENCE)
        except asyncio.CancelledError:
            self._cancellations.append("CancelledError")
            raise
        finally:
            self._waiting -= 1


class Foreign(ForeignObject):
    """Stands for an object of another device; ECHO."""

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        """Send bytes back."""
        reply.write_array_buffer(data.read_array_buffer(bk.TypeCode.UINT8_ARRAY), bk.TypeCode.UINT8_ARRAY)
        return True

    def on_reserved(self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence) -> bool:
        """Answer nothing."""
        return True


class Talkative(bk.RemoteObject):
    """Sends its tracebacks to callers."""

    send_tracebacks = True

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        """Fail."""
        raise CustomError("look at my traceback")


METHODS: dict[int, Callable[..., object]] = {code: getattr(Service, code.name.lower()) for code in Code}
KINDS = (
    "byte", "short", "int", "long", "float", "double", "boolean", "char", "string", "interface_token",
    "byte_array", "short_array", "int_array", "long_array", "float_array", "double_array", "boolean_array",
    "char_array", "string_array",
)  # fmt: skip
"""Every pair write_X/read_X of plain values, in the order of VALUES."""
STATISTICS = ("exports", "proxies", "orphans", "introductions", "oneway_bytes", "handling")
"""What must be back where it was when a case ends."""
MAKERS: dict[str, Callable[[Any, int], bk.RemoteObject]] = {
    "service": Service,
    "async": AsyncService,
    "bare": lambda driver, pid: bk.RemoteObject("bare"),
    "foreign": lambda driver, pid: Foreign("foreign"),
    "tracebacks": lambda driver, pid: Talkative("talkative"),
}


def chain_id() -> int:
    """Return the chain id, shortened to what write_long takes."""
    return bk.IPCSkeleton.get_call_chain_id() & 0x7FFFFFFFFFFFFFFF


def read_levels(reply: bk.MessageSequence) -> list[tuple[int, int, int, int, int]]:
    """Return the levels NEST wrote, innermost first."""
    read = reply.read_long
    return [(read(), read(), read(), read(), read()) for _ in range(read())]


def make() -> Service:
    """Return the root object of a child process."""
    return Service()
