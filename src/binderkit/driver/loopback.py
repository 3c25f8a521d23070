"""Two or more "processes" in one: a driver for tests, without sockets and nearly without threads.

Owns: ``LoopbackNetwork`` (one device), its ``LoopbackProcess``es (each a ``Driver`` with tables of its own) and the
``Link`` from one to another (the ``Connection`` of its proxies). A call copies the data area and translates the
objects exactly as between real processes, so what works here works over a socket; a debugger shows client and
service in one stack, because a synchronous handler runs on the calling thread.

What that choice means: a handler on the caller's thread cannot be interrupted. A call whose deadline passed, or
whose service was killed, raises as soon as its handler returns (handlers that ask
``IPCSkeleton.is_call_cancelled``, and coroutines, end at once); and the limit of worker threads counts
one-way calls, calls of coroutines and death recipients, which run on worker threads.

Rules upheld (ARCHITECTURE, Rules of behaviour): identity of objects, ordering, re-entrancy, death, deadlines,
errors. A reference is counted before its message is delivered and given back by the proxy that received it, so a
message that fails half way needs no undo: dropping the proxies is the undo.

Locks: ``LoopbackNetwork.lock`` guards all tables for a few statements and nothing is called while it is held.
"""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Final

from binderkit import limits
from binderkit.driver.loopback_calls import Oneway, Request, carry, charge_of, timed_out
from binderkit.driver.pool import Pool
from binderkit.driver.tables import Export, Exports, Held, Imports
from binderkit.errors import (
    ERR_UNKNOWN_TRANSACTION,
    CallTimeoutError,
    DeadObjectError,
    InvalidObjectError,
    IpcError,
    NoServiceManagerError,
    QuotaError,
    RefusedError,
)
from binderkit.ipc.context import CallContext, Caller, current, new_chain
from binderkit.ipc.dispatch import Failure
from binderkit.ipc.option import MessageOption
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence

__all__ = ["Link", "LoopbackNetwork", "LoopbackProcess"]

_FIRST_PID: Final = 100_001


class LoopbackNetwork:
    """One device: the processes that can reach each other. Usable in a ``with`` block."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self._processes: list[LoopbackProcess] = []
        self._context: LoopbackProcess | None = None

    def process(self, *, pid: int | None = None, uid: int | None = None, gid: int | None = None) -> LoopbackProcess:
        """Start a "process".

        Args:
            pid, uid, gid: what others see as its identity; by default an unused number and our own user.
        """
        with self.lock:
            number = len(self._processes)
            identity = Caller(
                _FIRST_PID + number if pid is None else pid,
                os.getuid() if uid is None else uid,
                os.getgid() if gid is None else gid,
            )
            process = LoopbackProcess(self, identity, f"binderkit-loopback-{number}")
            self._processes.append(process)
        return process

    def flush(self) -> None:
        """Deliver the released references of every process now."""
        for process in list(self._processes):
            process.flush_released()

    def close(self) -> None:
        """End all processes and wait for their threads. Idempotent."""
        for process in list(self._processes):
            process.close()

    def become_context(self, process: LoopbackProcess, stub: RemoteObject) -> None:
        """Make ``stub`` of ``process`` handle 0 of this network (see Driver.become_context)."""
        with self.lock:
            if self._context is not None and not self._context.dead:
                raise RefusedError(f"{self._context!r} is the context of this network already; end it first")
            process.exports.set_root(stub)
            self._context = process

    def context_of(self) -> tuple[LoopbackProcess, Export]:
        """Return the process that owns handle 0 and the object.

        Raises:
            NoServiceManagerError: there is none.
        """
        owner = self._context
        root = None if owner is None or owner.dead else owner.exports.root
        if owner is None or root is None:
            raise NoServiceManagerError("nobody became the context of this network; call become_context first")
        return owner, root

    def mourners(self, dead: LoopbackProcess) -> tuple[list[LoopbackProcess], list[object]]:
        """Drop all references from and to ``dead``; return who is left and what held stubs.

        The lock is held by the caller, who drops the latter after it.
        """
        gone: list[object] = [dead.exports]
        others = [process for process in self._processes if process is not dead and not process.dead]
        for other in others:
            gone += other.exports.release_all(other.held_by(dead))
        dead.exports = Exports()
        return others, gone

    def __enter__(self) -> LoopbackNetwork:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class LoopbackProcess:
    """One "process" of a network (see ipc/driver.py: Driver). Made by ``LoopbackNetwork.process``."""

    name = "loopback"

    def __init__(self, network: LoopbackNetwork, identity: Caller, title: str) -> None:
        self.network = network
        self.identity = identity
        self.dead = False
        self.exports = Exports()
        self.handling: set[Request] = set()
        self.pool = Pool(title)
        self._held: dict[LoopbackProcess, dict[int, Held]] = {}
        self._links: dict[LoopbackProcess, Link] = {}
        self._released: deque[tuple[Link, int, int]] = deque()

    # --- Driver ------------------------------------------------------------------------------

    def context_object(self, *, start: bool) -> RemoteProxy:
        """Return a proxy of the network's context object; ``start`` has nothing to start here.

        Raises:
            NoServiceManagerError: there is none.
        """
        self.check_alive()
        owner, root = self.network.context_of()
        return self.link(owner).receive(root)

    def become_context(self, stub: RemoteObject) -> None:
        """Make ``stub`` handle 0 of the network (see Driver.become_context)."""
        self.check_alive()
        self.network.become_context(self, stub)

    def set_max_threads(self, count: int) -> None:
        """Run at most ``count`` one-way calls, calls of coroutines and tasks at once."""
        self.pool.set_limit(count)

    def submit(self, task: Callable[[], None]) -> None:
        """Run ``task`` soon on a worker thread."""
        self.pool.submit(task)

    def outgoing(self, target: object) -> AbstractContextManager[None]:
        """Return a context in which the calling thread waits for something else (see Driver.outgoing)."""
        return self.pool.outgoing()

    def holders(self, stub: RemoteObject) -> int:
        """Return how many other processes hold ``stub`` (see Driver.holders); releases are delivered first."""
        self.network.flush()
        with self.network.lock:
            handle = self.exports.handle_of(stub)
            return 0 if handle is None else sum(handle in held for held in self._held.values())

    def close(self) -> None:
        """End this process as ``kill`` does and wait for its threads. Idempotent."""
        self.kill()
        self.pool.join()

    # --- beyond Driver -----------------------------------------------------------------------

    def offer(self, stub: RemoteObject, to: LoopbackProcess) -> RemoteProxy:
        """Give the process ``to`` a proxy of our ``stub``, as if it had been handed over in a call.

        Raises:
            DeadObjectError: either process has ended.
            InvalidObjectError: ``to`` is this process, which uses the stub itself.
        """
        if to is self:
            raise InvalidObjectError(f"{stub!r} lives in {self!r}; a process calls its own objects directly")
        self.check_alive()
        to.check_alive()
        return to.link(self).receive(stub)

    def kill(self) -> None:
        """End the process as SIGKILL does: holders are told, references dropped, calls in flight raise.

        Handlers that are running cannot be stopped in the middle, but their calls are cancelled and nobody gets
        their results. Idempotent.
        """
        with self.network.lock:
            if self.dead:
                return
            self.dead = True
            others, gone = self.network.mourners(self)
            requests = [request for process in (self, *others) for request in process.handling]
            links = [(other, other._links[self]) for other in others if self in other._links]
        self.pool.close()
        gone.clear()  # outside the lock: finalizers of stubs are user code
        for request in requests:
            if request.link.is_dead:
                request.given_up()
        for other, link in links:
            for proxy in link.live_proxies():
                if proxy.has_recipients:
                    other.submit(proxy.obituary)

    def statistics(self) -> dict[str, int]:
        """Return counts for leak checks (of what concerns living processes); releases are delivered first."""
        self.network.flush()
        with self.network.lock:
            links = [link for link in self._links.values() if not link.is_dead]
            return {
                "exports": len(self.exports),
                "proxies": sum(len(link.live_proxies()) for link in links),
                "held": sum(held.count for table in self._held.values() for held in table.values()),
                "handling": len(self.handling),
                "oneway_bytes": sum(link.outstanding for link in links),
            }

    def link(self, other: LoopbackProcess) -> Link:
        """Return the connection from here to ``other``, always the same."""
        with self.network.lock:
            link = self._links.get(other)
            if link is None:
                link = self._links[other] = Link(self, other)
        return link

    def held_by(self, other: LoopbackProcess) -> dict[int, Held]:
        """Return the table of what ``other`` holds of ours (lock held)."""
        return self._held.setdefault(other, {})

    def check_alive(self) -> None:
        """Raise DeadObjectError if this process has ended."""
        if self.dead:
            raise DeadObjectError(f"{self!r} has ended; nothing can be done from there or with it")

    def note_released(self, link: Link, handle: int, count: int) -> None:
        """A proxy died (finalizer: enqueue only)."""
        self._released.append((link, handle, count))

    def flush_released(self) -> None:
        """Give back the references of proxies that died."""
        while self._released:
            try:
                link, handle, count = self._released.popleft()
            except IndexError:  # another thread took the last one
                return
            link.give_back(handle, count)

    def __repr__(self) -> str:
        return f"<LoopbackProcess {self.identity.pid}{' dead' if self.dead else ''}>"


class Link:
    """From one process to another: the Connection of the proxies that ``origin`` holds of ``target``'s objects."""

    def __init__(self, origin: LoopbackProcess, target: LoopbackProcess) -> None:
        self.origin = origin
        self.target = target
        self.outstanding = 0
        self._imports = Imports(self, self._released)

    @property
    def caller(self) -> Caller:
        """Identity of the process at the other end."""
        return self.target.identity

    @property
    def is_dead(self) -> bool:
        """Whether either end is gone."""
        return self.target.dead or self.origin.dead

    # --- calls -------------------------------------------------------------------------------

    def transact(
        self, handle: int, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None
    ) -> int:
        """Make a call; a synchronous handler runs on this thread (see Connection.transact)."""
        context = current.get()
        if option is not None and option.is_async():
            return self._send_oneway(handle, code, data, context)
        request = self._request(handle, code, data, _deadline(option, context), context)
        with self.origin.pool.outgoing():
            answer = request.answer()
        reply._load(*answer)
        return 0

    async def transact_async(
        self, handle: int, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None
    ) -> int:
        """The same for a coroutine: the handler runs on a worker thread (see Connection.transact_async)."""
        context = current.get()
        if option is not None and option.is_async():
            return self._send_oneway(handle, code, data, context)
        request = self._request(handle, code, data, _deadline(option, context), context)
        answer = asyncio.get_running_loop().create_future()
        request.answer_to(answer)
        self.target.submit(request.run)
        try:
            reply._load(*await asyncio.wait_for(answer, request.context.remaining()))
        except TimeoutError as error:
            request.given_up()
            raise (error if isinstance(error, IpcError) else timed_out()) from None
        except asyncio.CancelledError:
            request.given_up()
            raise
        return 0

    def _request(
        self, handle: int, code: int, data: MessageSequence, deadline: float | None, context: CallContext | None
    ) -> Request:
        """Check that the call can be made and copy its arguments over."""
        self.origin.flush_released()
        if deadline is not None and time.monotonic() >= deadline:
            raise CallTimeoutError("the deadline of the call being handled has passed; nothing was sent")
        held = self._held(handle)
        arguments = carry(data, self.origin, self.target)
        back = self.target.link(self.origin)
        chain = new_chain() if context is None else context.chain
        return Request(back, held, code, MessageSequence._received(*arguments), chain, deadline)

    def _held(self, handle: int) -> Held:
        with self.origin.network.lock:
            held = self.target.held_by(self.origin).get(handle)
        if self.is_dead:
            raise self.dead_error()
        if held is None:
            name = "binderkit.errors.InvalidObjectError"
            raise Failure(ERR_UNKNOWN_TRANSACTION, name, f"no object {handle} for this caller", "").error()
        return held

    def _send_oneway(self, handle: int, code: int, data: MessageSequence, context: CallContext | None) -> int:
        """Queue a call nobody waits for at its object; within the budget."""
        self.origin.flush_released()
        held = self._held(handle)
        body, objects = carry(data, self.origin, self.target)
        charge = charge_of(body, objects)
        arguments = MessageSequence._received(body, objects)
        chain = new_chain() if context is None else context.chain
        job = Oneway(self, held, code, arguments, chain, charge)
        export = held.export
        with self.origin.network.lock:
            if self.outstanding + charge > limits.ONEWAY_BUDGET:
                raise QuotaError(
                    f"{self.outstanding} bytes of one-way calls wait at process {self.caller.pid}, {charge} more cross "
                    f"the budget of {limits.ONEWAY_BUDGET}; this call was not sent: slow down"
                )
            self.outstanding += charge
            waits = export.running
            export.running = True
            if waits:
                export.queue.append(job)
        if not waits:
            self.target.submit(job.run)
        return 0

    def dead_error(self) -> DeadObjectError:
        """Return the error of a call over this link when an end is gone."""
        return DeadObjectError(f"process {self.caller.pid} cannot be reached any more: a process of this link ended")

    # --- references --------------------------------------------------------------------------

    def receive(self, thing: RemoteObject | Export) -> RemoteProxy:
        """Count one more reference of ``origin`` to an object of ``target``; return its one proxy.

        Raises:
            DeadObjectError: an end is gone. QuotaError: too many references.
        """
        with self.origin.network.lock:
            if self.is_dead:
                raise self.dead_error()
            held, exports = self.target.held_by(self.origin), self.target.exports
            known_export = isinstance(thing, Export)
            handle = exports.grant_export(thing, held) if known_export else exports.grant(thing, held)  # type: ignore[arg-type]
            return self._imports.receive(handle)

    def live_proxies(self) -> list[RemoteProxy]:
        """Return the proxies somebody holds."""
        return self._imports.live()

    def _released(self, handle: int, count: int) -> None:
        """A proxy died (finalizer: enqueue only)."""
        self.origin.note_released(self, handle, count)

    def give_back(self, handle: int, count: int) -> None:
        """Deliver a release: the stub goes when nobody holds it any more."""
        with self.origin.network.lock:
            self._imports.forget(handle)
            stub = (
                None if self.is_dead else self.target.exports.release(self.target.held_by(self.origin), handle, count)
            )
        del stub  # outside the lock: its finalizer is user code

    def flush(self) -> None:
        """Deliver queued releases now."""
        self.origin.flush_released()

    def __repr__(self) -> str:
        return f"<Link {self.origin!r} -> {self.target!r}>"


def _deadline(option: MessageOption | None, context: CallContext | None) -> float | None:
    """Return when a call must be over: its own timeout or the caller's deadline, whichever comes first."""
    deadline = None if context is None else context.deadline
    if option is None or option.timeout is None:
        return deadline
    own = time.monotonic() + option.timeout
    return own if deadline is None else min(own, deadline)
