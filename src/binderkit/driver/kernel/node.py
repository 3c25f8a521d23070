"""This process on a binder device: the kernel driver itself.

Owns: the device, the tables of our objects and of others', the threads; what the kernel tells besides calls and
replies (references, deaths, demand for threads). One per process.

Rules upheld (ARCHITECTURE): identity of objects, re-entrancy and ordering as the kernel has them; a death is told once,
on a worker thread; a forked child uses nothing of its parent's.
"""

from __future__ import annotations

import logging
import os
import queue
import threading
import weakref
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final

from binderkit.driver.kernel import protocol as p
from binderkit.driver.kernel.device import Channel, Device
from binderkit.driver.kernel.meeting import Offers, holders
from binderkit.driver.kernel.nodes import OwnNodes
from binderkit.driver.kernel.reader import events
from binderkit.driver.kernel.refs import Targets
from binderkit.driver.kernel.rendezvous import find_context
from binderkit.driver.kernel.serve import serve
from binderkit.driver.kernel.target import Target
from binderkit.driver.kernel.threads import Loopers
from binderkit.driver.pool import Pool
from binderkit.errors import (
    DeadObjectError,
    IpcError,
    NoServiceManagerError,
    ProtocolError,
    RefusedError,
    TransactionError,
)
from binderkit.ipc.context import CallContext, Caller
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import RemoteObject
from binderkit.limits import HARD_THREADS

if TYPE_CHECKING:
    import asyncio

    from binderkit.driver.kernel.on_loop import LoopHandlers

_log = logging.getLogger("binderkit.driver")
_nodes: weakref.WeakSet[KernelNode] = weakref.WeakSet()
DEFAULT_DEVICE: Final = "/dev/binder"
_KERNEL_MAXIMUM: Final = 0x7FFF
"""Threads the kernel may ask for: out of the way, the limit is kept by ``Loopers``."""
_transaction = p.TRANSACTION.unpack_from
_head = p.HEAD.unpack_from
_after_head = p.WORD.unpack_from
_node_words = p.NODE.unpack_from
_cookie = p.POINTER.unpack_from
_MAIN_RETURNS = frozenset((p.BR_TRANSACTION, p.BR_REPLY))
_OUTCOMES = frozenset((p.BR_DEAD_REPLY, p.BR_FAILED_REPLY, p.BR_FROZEN_REPLY))
_SENT = frozenset((p.BR_TRANSACTION_COMPLETE, p.BR_ONEWAY_SPAM_SUSPECT, p.BR_TRANSACTION_PENDING_FROZEN))


class _Local(threading.local):
    channel: Channel | None = None


class KernelNode:
    """The kernel driver of one process (see ipc/driver.py: Driver)."""

    name = "kernel"

    def __init__(self, path: str = DEFAULT_DEVICE, *, title: str = "ipc") -> None:
        """Open the device and start the first thread that takes requests.

        Args:
            path: the device.
            title: goes into the names of the threads.

        Raises:
            IpcError, RefusedError: see Device.
        """
        self.device = Device(path)
        self.nodes = OwnNodes()
        self.targets = Targets(self)
        self.offers: Offers | None = None
        """what processes leave for each other here, while this process is the context manager"""
        self.admission: Callable[[Caller], str | None] | None = None
        """says why a caller may not use the context manager, if this process is it"""
        self._local = _Local()
        self._context: RemoteProxy | None = None
        self._context_lock = threading.Lock()
        self._loop_handlers: LoopHandlers | None = None
        self._tasks = Pool(f"binderkit-{title}-task")
        self.callers = Pool(f"binderkit-{title}-caller")
        """threads that make calls for others: for coroutines, and with deadlines from inside handlers"""
        self.callers.set_limit(HARD_THREADS)
        self.cancellable: dict[int, CallContext] = {}
        """calls being handled that their callers may give up, by the number only they know"""
        self.loopers = Loopers(title, self._loop)
        self.device.set_max_threads(_KERNEL_MAXIMUM)
        self.device.report_floods()
        _nodes.add(self)
        self._releaser = threading.Thread(target=self._give_back, name=f"binderkit-{title}-release", daemon=True)
        self._releaser.start()
        self.loopers.start()

    # --- Driver ----------------------------------------------------------------------------------

    def context_object(self, *, start: bool) -> RemoteProxy:
        """Return the proxy of the device's context manager (see Driver.context_object); a dead one is looked up anew.

        Raises:
            NoServiceManagerError: there is none and none may be or could be started, it does not answer, or this
                process is it.
            RefusedError: it does not admit us, or the runtime directory, which a start needs, cannot be used.
        """
        self.device.check_usable()
        if 0 in self.nodes.by_number:
            raise NoServiceManagerError(
                f"this process is the context manager of {self.device.path}; it cannot call itself"
            )
        with self._context_lock:
            known = self._context
            if known is not None and not known.is_object_dead():
                return known
            self._context = find_context(self, start)
            return self._context

    def become_context(self, stub: RemoteObject, admission: Callable[[Caller], str | None] | None = None) -> None:
        """Make ``stub`` the context manager of the device (see Driver.become_context).

        Args:
            admission: says why a caller may not use it at all, None if it may; asked for every request (its pid is 0
                for a one-way call). Default: who can open the device may call.
        """
        self.device.check_usable()
        if 0 in self.nodes.by_number:
            raise RefusedError(f"this process already offers {self.nodes.by_number[0].stub!r} as its root object")
        self.admission = admission
        self.offers = Offers(lambda proxy: self.device.strong_references(proxy._handle))
        self.nodes.set_root(stub)
        try:
            self.device.become_manager()  # from here on requests come
        except BaseException:
            self.nodes.clear_root()
            self.offers = None
            raise

    def set_max_threads(self, count: int) -> None:
        """Handle at most ``count`` requests at once."""
        self.loopers.set_limit(count)
        if self.loopers.crowded:
            self.device.wake_all()  # those that are left over and wait for requests

    def submit(self, task: Callable[[], None]) -> None:
        """Run ``task`` soon on a worker thread, or on the event loop that serves."""
        loop = self._loop_handlers
        if loop is None or not loop.submit(task):
            self._tasks.submit(task)

    def attach_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run handlers on ``loop``, the one that runs here, from now on; those that run already end where they are.

        Raises:
            IpcError: another loop serves already.
        """
        from binderkit.driver.kernel.on_loop import LoopHandlers  # asyncio: other programs do without

        self.device.check_usable()
        if self._loop_handlers is not None:
            raise IpcError("another event loop serves this process already; leave its serving() first")
        handlers = self._loop_handlers = LoopHandlers(loop, self.loopers.outgoing)
        self.nodes.wrap_handlers(handlers.wrap)

    def detach_loop(self) -> None:
        """Go back to threads."""
        handlers, self._loop_handlers = self._loop_handlers, None
        if handlers is not None:
            self.nodes.wrap_handlers(None)
            handlers.close()

    def outgoing(self, target: object) -> AbstractContextManager[None]:
        """Return a context in which the calling thread waits for something else (see Driver.outgoing)."""
        return self.loopers.outgoing() if self.loopers.mine() else self._tasks.outgoing()

    def holders(self, stub: RemoteObject) -> int:
        """Return how many other processes hold ``stub`` (see Driver.holders).

        The kernel tells the context manager alone, and only of objects of others; it is asked. For its own objects,
        and on a device whose manager is no program of this package, 1 means that somebody holds it.
        """
        if not self.nodes.is_held(stub):
            return 0
        if 0 in self.nodes.by_number:
            return 1
        try:
            return holders(self, stub)
        except (NoServiceManagerError, TransactionError) as error:
            _log.debug("nobody knows how many processes hold %r: %s", stub, error)
            return 1

    def close(self) -> None:
        """Leave the device and end the threads. Idempotent."""
        if self.device.closed:
            return
        if self.device.pid != os.getpid():
            return
        self.flush_released()
        self.device.mark_closed()
        _nodes.discard(self)
        self.loopers.close()
        self._tasks.close()
        self.callers.close()
        self.targets.dropped.put(None)
        self._releaser.join()
        self.device.wake_all()
        ended = self.loopers.join()
        for target in self.targets.all():
            target.is_dead = True
        self._context = None
        gone = self.nodes.clear()
        if ended:
            self.device.close()
        del gone

    # --- threads ---------------------------------------------------------------------------------

    def channel(self) -> Channel:
        """Return the buffers of the calling thread.

        Raises:
            ForkedError, DeadObjectError: the driver is another process's, or closed.
        """
        channel = self._local.channel
        if channel is None or self.device.closed:
            self.device.check_usable()
            channel = self._local.channel = Channel(self.device)
        return channel

    def _loop(self, first: bool) -> None:
        """Take requests until the driver closes."""
        channel = self._local.channel = Channel(self.device)
        channel.is_looper = True
        channel.out += p.WORD.pack(p.BC_ENTER_LOOPER if first else p.BC_REGISTER_LOOPER)
        while not self.device.closed:
            try:
                if self.loopers.crowded and not channel.staged:
                    channel.flush()
                    self.loopers.park()
                word, transaction = self.read(channel)
                if word == p.BR_TRANSACTION:
                    serve(self, channel, transaction)
                elif word in _OUTCOMES:
                    _log.debug("a reply could not be delivered: %s", p.NAMES[word])
            except DeadObjectError:
                return  # closed meanwhile
            except BaseException:  # nothing may end the thread in here, or requests would find nobody
                _log.exception("taking a request from %s failed; this is a bug in binderkit", self.device.path)

    def serve(self, channel: Channel, transaction: Any) -> None:
        """Handle a call that came back to a thread that waits."""
        serve(self, channel, transaction)

    # --- what the kernel tells ---------------------------------------------------------------------

    def read(self, channel: Channel) -> tuple[int, Any]:
        """Write what waits, read, and do what is to be done beside calls.

        Returns:
            The return that the caller must act on, with the fields of a transaction or reply; (0, None) for nothing.
        """
        size = channel.exchange()
        inbox = channel.inbox
        # Nearly every read is one of three: a request, the reply to a call, the receipt of a reply sent.
        if size == p.REQUEST_SIZE and _head(inbox)[0] == p.REQUEST_HEAD:
            return p.BR_TRANSACTION, _transaction(inbox, 8)
        if size == p.ANSWER_SIZE and _head(inbox)[0] == p.RECEIPT_HEAD and _after_head(inbox, 8)[0] == p.BR_REPLY:
            if channel.sent or channel.held:
                self.settle(channel)
            return p.BR_REPLY, _transaction(inbox, 12)
        if size == p.RECEIPT_SIZE and _head(inbox)[0] == p.RECEIPT_HEAD:
            if channel.sent or channel.held:
                self.settle(channel)
            return p.BR_TRANSACTION_COMPLETE, None
        return self._read_any(channel, size)

    def _read_any(self, channel: Channel, size: int) -> tuple[int, Any]:
        """Do what ``read`` does for any returns in any order."""
        inbox = channel.inbox
        found, transaction = 0, None
        for word, at in events(inbox, size):
            if word == p.BR_NOOP:
                continue
            if word in _MAIN_RETURNS:
                found, transaction = word, _transaction(inbox, at)
            elif word in _SENT:
                if word == p.BR_ONEWAY_SPAM_SUSPECT:
                    _log.warning("the kernel suspects this process of flooding another one with one-way calls")
                found = found or p.BR_TRANSACTION_COMPLETE
            elif word in _OUTCOMES:
                found = word
            else:
                self._told(channel, word, at)
        if channel.out:
            # What the kernel told is acknowledged now: this thread's next command may never come, and until then an
            # object that nobody holds any more would live on.
            channel.flush()
        if found and (channel.sent or channel.held):
            self.settle(channel)
        return found, transaction

    def _told(self, channel: Channel, word: int, at: int) -> None:
        """Act on a return that is no part of a call."""
        inbox = channel.inbox
        if word == p.BR_ACQUIRE:
            self.nodes.acquired(_node_words(inbox, at)[0])
            channel.out += p.COMMAND_NODE.pack(p.BC_ACQUIRE_DONE, *_node_words(inbox, at))
        elif word == p.BR_INCREFS:
            channel.out += p.COMMAND_NODE.pack(p.BC_INCREFS_DONE, *_node_words(inbox, at))
        elif word == p.BR_RELEASE:
            self._let_go(self.nodes.released(_node_words(inbox, at)[0]))
        elif word == p.BR_SPAWN_LOOPER:
            self.loopers.demand()
        elif word == p.BR_DEAD_BINDER:
            (cookie,) = _cookie(inbox, at)
            self.died(cookie)
            channel.out += p.COMMAND_POINTER.pack(p.BC_DEAD_BINDER_DONE, cookie)
        elif word == p.BR_ERROR:
            raise ProtocolError(f"the binder device reports error {p.NUMBER.unpack_from(inbox, at)[0]}")

    def died(self, cookie: int) -> None:
        """The object with this cookie is gone: tell whoever wants to know, once."""
        target = self.targets.died(cookie)
        if target is None:
            return
        target.is_dead = True
        proxy = None if target.proxy is None else target.proxy()
        if proxy is not None and proxy.has_recipients:
            self.submit(proxy.obituary)

    def settle(self, channel: Channel) -> None:
        """The message on its way from this thread was delivered, or failed: what was kept for it may go."""
        sent, held = channel.sent, channel.held
        channel.sent, channel.held = [], []
        for own in sent:
            self._let_go(self.nodes.landed(own))
        held.clear()

    def _let_go(self, stub: RemoteObject | None) -> None:
        """Drop a stub nobody needs any more: on a worker, because its finalizer is user code."""
        if stub is not None:
            gone = [stub]
            del stub
            self.submit(gone.clear)

    # --- references of proxies that are gone -------------------------------------------------------

    def _give_back(self) -> None:
        """Give back the references of proxies that ended, on a thread of its own (finalizers only enqueue)."""
        while True:
            target = self.targets.dropped.get()
            if target is None or self.device.closed:
                return
            self._give_one_back(target)
            del target

    def _give_one_back(self, target: Target) -> None:
        try:
            self.targets.give_back(self.channel(), target)
        except DeadObjectError:
            _log.debug("%r was let go after the driver was closed", target)

    def flush_released(self) -> None:
        """Give back the references of proxies that ended, now."""
        while not self.targets.dropped.empty():
            try:
                target = self.targets.dropped.get_nowait()
            except queue.Empty:  # another thread took the last one
                return
            if target is not None:
                self._give_one_back(target)

    # --- fork and statistics -----------------------------------------------------------------------

    def after_fork(self) -> None:
        """In a forked child: let go of the parent's device."""
        self.device.forked()

    def statistics(self) -> dict[str, int]:
        """Return counts for leak checks and dumps."""
        return {
            "exports": len(self.nodes),
            "proxies": len(self.targets.live()),
            "handling": len(self.cancellable),
            **self.loopers.statistics(),
        }

    def __repr__(self) -> str:
        return f"<KernelNode {self.device.path}>"


def _after_fork_in_child() -> None:
    for node in list(_nodes):
        node.after_fork()
    _nodes.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
