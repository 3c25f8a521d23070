"""What a driver must offer: the narrow interface between the object model and the wire.

Owns: ``Driver``, ``Connection`` and ``Incoming``, and which driver this process uses. A new
driver (a kernel device, another device on the network) implements the first
two and calls the third; nothing above this file knows sockets, devices or threads.

How the parts fit
-----------------
A **Connection** stands for "where a proxy's calls go". The socket driver has
one for each other process; a kernel driver has a single one for its device. A
proxy is (connection, handle); the handle is whatever number the driver uses
for the object on that connection.

A call goes down as ``connection.transact(handle, code, data, reply, option)``.
The driver

1. moves the data area of ``data`` as it is, and translates the objects listed
   in ``data._objects`` (see parcel/sequence.py): a RemoteObject of this process becomes
   a reference the receiver can call; a RemoteProxy becomes the original object
   when it goes home, a handle of the receiver otherwise; descriptors are
   duplicated into the receiver; large raw data goes through shared memory;
2. either delivers all of a message or nothing: a failure leaves no reference,
   descriptor or credit behind;
3. fills ``reply`` by ``reply._load(data, objects)`` or raises a TransactionError.

A request comes up by ``Incoming.handle`` (ipc/dispatch.py) in a context
(ipc/context.py) that the driver has made current, on the thread that read it.

Rules a driver must keep (ARCHITECTURE.md, "Rules of behaviour"; the contract
suite in tests/contract checks each): one proxy per remote object and process;
an object that comes home is the original; one-way calls of one process to one object
run one at a time in order, to different objects concurrently; a call back to the
process that waits runs on the waiting thread; each death recipient is called once,
in a worker thread, and calls in flight raise DeadObjectError; a late reply is
dropped and what it carried is released; identity comes from the kernel or a certificate.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from binderkit.errors import IpcError, NoServiceManagerError
from binderkit.ipc.context import Caller

if TYPE_CHECKING:
    from binderkit.ipc.option import MessageOption
    from binderkit.ipc.proxy import RemoteProxy
    from binderkit.ipc.remote import RemoteObject
    from binderkit.parcel import MessageSequence


@runtime_checkable
class Connection(Protocol):
    """Where the calls of some proxies go."""

    @property
    def caller(self) -> Caller:
        """Identity of the other side as the kernel or a certificate vouches for it."""

    @property
    def is_dead(self) -> bool:
        """Whether the other side is known to be gone."""

    def transact(
        self,
        handle: int,
        code: int,
        data: MessageSequence,
        reply: MessageSequence,
        option: MessageOption | None,
    ) -> int:
        """Make a synchronous or one-way call; return 0.

        A thread that waits serves calls which come back from the process it waits for.

        Raises:
            DeadObjectError, CallTimeoutError, QuotaError, RefusedError, RemoteError,
            UnknownTransactionError, TooBigError: see errors.py.
        """

    async def transact_async(
        self,
        handle: int,
        code: int,
        data: MessageSequence,
        reply: MessageSequence,
        option: MessageOption | None,
    ) -> int:
        """The same for a coroutine: never blocks the event loop."""

    def flush(self) -> None:
        """Send what is queued (released references) now."""


@runtime_checkable
class Driver(Protocol):
    """One way to reach other processes. A process uses one (``current_driver``)."""

    @property
    def name(self) -> str:
        """Short name, e.g. "unix"."""

    def context_object(self, *, start: bool) -> RemoteProxy:
        """Return the proxy of SAMgr (handle 0).

        Args:
            start: start SAMgr when none runs.

        Raises:
            NoServiceManagerError: none runs (and none may be or could be started).
        """

    def become_context(self, stub: RemoteObject) -> None:
        """Make ``stub`` handle 0 for everybody who asks from now on.

        Raises:
            RefusedError: there is one already.
        """

    def set_max_threads(self, count: int) -> None:
        """Handle at most ``count`` requests at once (1–32)."""

    def submit(self, task: Callable[[], None]) -> None:
        """Run ``task`` soon on a worker thread (death recipients, listeners)."""

    def outgoing(self, target: object) -> AbstractContextManager[None]:
        """Return a context in which the calling thread waits for something outside this driver, ``target``.

        If it is a worker, another one takes requests meanwhile, as during a call of the driver's own.
        """

    def holders(self, stub: RemoteObject) -> int:
        """Return how many other processes hold ``stub``, an object of this one.

        A process counts once, however often it was given the object and however many proxies it passed on; one that
        dropped its proxy counts until its note of that has arrived, one that an object is on its way to counts
        already. References within this process are not counted.

        Returns:
            0 when nobody else holds it, or it never left this process.
        """

    def close(self) -> None:
        """Disconnect from everybody, end the threads, give everything back. Idempotent."""


_lock = threading.Lock()
_driver: Driver | None = None
_factory: Callable[[], Driver] | None = None


def current_driver() -> Driver:
    """Return the driver of this process, made on first use: one, however many threads ask at once."""
    global _driver
    driver = _driver
    if driver is not None:
        return driver
    with _lock:
        if _driver is None:
            if _factory is None:
                raise IpcError("no driver is configured; import binderkit, or call set_driver first")
            _driver = _factory()
        return _driver


def submit_to_driver(task: Callable[[], None]) -> None:
    """Run ``task`` soon on a worker thread of this process's driver, whichever that is by then."""
    current_driver().submit(task)


def set_driver(driver: Driver | None) -> None:
    """Use ``driver`` in this process (None: make the default one again on next use). Closes nothing."""
    global _driver
    _driver = driver


def set_default_factory(factory: Callable[[], Driver]) -> None:
    """Say how the default driver is made; called by the package itself."""
    global _factory
    _factory = factory


def _after_fork() -> None:
    """A forked child makes a driver of its own when it needs one."""
    global _lock, _driver
    _lock = threading.Lock()
    _driver = None


os.register_at_fork(after_in_child=_after_fork)


def peek_driver() -> Driver | None:
    """Return the driver of this process if one was made."""
    return _driver


__all__ = [
    "Connection",
    "Driver",
    "NoServiceManagerError",
    "current_driver",
    "peek_driver",
    "set_default_factory",
    "set_driver",
]
