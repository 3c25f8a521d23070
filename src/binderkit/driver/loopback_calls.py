"""Calls between loopback "processes": from the copied arguments to the handler and back, and what is copied.

Owns: ``Request`` (a call somebody waits for), ``Oneway`` (one that waits at its object), and ``carry``, which turns
a sequence into what another process receives.

Rules upheld (ARCHITECTURE): nothing is shared between processes but what descriptors share; a reply nobody waits
for is never carried over; one-way calls to one object run one at a time, in the order sent.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from binderkit import limits
from binderkit.driver.tables import Held
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    InvalidObjectError,
    IpcError,
    ParcelWriteError,
    TooBigError,
)
from binderkit.ipc import loop as handler_loop
from binderkit.ipc.context import CallContext, current
from binderkit.ipc.dispatch import check_handled, failure_of, handle_reserved, settle
from binderkit.ipc.option import RECEIVED_ASYNC, RECEIVED_SYNC
from binderkit.ipc.proxy import RemoteProxy, passed_on
from binderkit.ipc.remote import RemoteObject
from binderkit.memory.pool import Slot
from binderkit.parcel import MessageSequence
from binderkit.parcel.objects import KIND_BLOB, KIND_FD, KIND_REMOTE, RECORD_SIZE, OwnedFd

if TYPE_CHECKING:
    from binderkit.driver.loopback import Link, LoopbackProcess

Objects = dict[int, tuple[int, object]]
_HEADER = 48
"""Bytes a one-way call is charged beside its data, as over a socket."""


class Request:
    """A call that is being handled in ``link.origin``; ``link`` leads back to the caller."""

    def __init__(
        self, link: Link, held: Held, code: int, data: MessageSequence, chain: int, deadline: float | None
    ) -> None:
        self.link = link
        self.context = CallContext(link.caller, link, None, 0, 0, chain, deadline, current.get())
        self._held = held
        self._code = code
        self._data = data
        self._reply = MessageSequence()
        self._done: Callable[[Any, BaseException | None], None] | None = None
        link.origin.handling.add(self)

    def answer(self) -> tuple[bytes, Objects | None]:
        """Run the handler on this thread; return the reply as the caller gets it, or raise what it gets."""
        refusal = None
        try:
            result = self._invoke()
            if result is not True:
                settle(self._held.stub, self._code, _awaitable_elsewhere(result), self.context)
        except Exception as error:
            refusal = self._refusal(error)
        finally:
            self._end()
        if refusal is not None:
            # Out here, so that it does not carry the handler's frames, and what they hold, to the caller.
            raise refusal
        return self._outcome()

    def answer_to(self, future: asyncio.Future[Any]) -> None:
        """Have ``run`` and ``given_up`` answer to a future of the running loop."""
        running = future.get_loop()

        def tell(answer: Any, error: BaseException | None) -> None:
            if future.done():
                return  # a late reply: what it carries goes with it
            if error is not None:
                future.set_exception(error)
            else:
                future.set_result(answer)

        def done(answer: Any, error: BaseException | None) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                running.call_soon_threadsafe(tell, answer, error)

        self._done = done

    def run(self) -> None:
        """Run the handler on a worker thread; a coroutine goes on without one."""
        try:
            result = self._invoke()
        except Exception as error:
            self._conclude(error)
            return
        if isinstance(result, Awaitable):
            token = current.set(self.context)
            handler_loop.start(result, self.context, self._coroutine_done)
            current.reset(token)
            return
        self._coroutine_done(result, None)

    def _coroutine_done(self, result: Any, error: BaseException | None) -> None:
        try:
            if error is None and result is not True:
                check_handled(self._held.stub, self._code, result)
        except Exception as refused:
            error = refused
        self._conclude(error)

    def _end(self) -> None:
        """The handler is done: its arguments go now, even if an exception keeps its frames alive."""
        self.link.origin.handling.discard(self)
        self._data._objects = None

    def _conclude(self, error: BaseException | None) -> None:
        self._end()
        assert self._done is not None
        try:
            if error is not None:
                raise self._refusal(error)
            self._done(self._outcome(), None)
        except Exception as failure:
            self._done(None, failure)

    def _invoke(self) -> Any:
        context = self.context
        context.thread = threading.get_ident()
        token = current.set(context)
        try:
            if self._code <= limits.MAX_TRANSACTION_ID:
                return self._held.handler(self._code, self._data, self._reply, RECEIVED_SYNC)
            return handle_reserved(self._held.stub, self._code, self._data, self._reply)
        finally:
            current.reset(token)

    def _refusal(self, error: BaseException) -> IpcError:
        """Return what the caller gets for what the handler raised."""
        if self.link.is_dead:
            return self.link.target.link(self.link.origin).dead_error()
        deadline = self.context.deadline
        if deadline is not None and time.monotonic() >= deadline:
            return timed_out()
        return failure_of(self._held.stub, error).error()

    def _outcome(self) -> tuple[bytes, Objects | None]:
        """Return the reply as the caller gets it; nothing of it if nobody waits any more."""
        if self.context.cancelled:
            raise self._refusal(CallTimeoutError("nobody waits for this reply any more"))
        try:
            return carry(self._reply, self.link.origin, self.link.target)
        except IpcError as error:
            raise failure_of(None, error).error() from None

    def given_up(self) -> None:
        """The caller gave up, or an end died: tell the handler, and at a death whoever waits."""
        self.context.cancel()
        if self._done is not None and self.link.is_dead:
            self._done(None, self.link.target.link(self.link.origin).dead_error())


class Oneway:
    """A one-way call that waits at its object or is being executed."""

    def __init__(self, link: Link, held: Held, code: int, data: MessageSequence, chain: int, charge: int) -> None:
        self._link = link
        self._held = held
        self._code = code
        self._data = data
        self._chain = chain
        self._charge = charge

    def run(self) -> None:
        """Execute this call and those queued behind it at the same object."""
        job: Oneway | None = self
        while job is not None:
            if job._link.target.dead or job._execute():
                return
            job = job._next()

    def _execute(self) -> bool:
        """Run the handler; return whether a coroutine will go on with the queue."""
        back = self._link.target.link(self._link.origin)
        context = CallContext(back.caller, back, None, threading.get_ident(), 0, self._chain, None, None)
        token = current.set(context)
        stub = self._held.stub
        try:
            if self._code <= limits.MAX_TRANSACTION_ID:
                result: Any = self._held.handler(self._code, self._data, MessageSequence(), RECEIVED_ASYNC)
            else:
                result = handle_reserved(stub, self._code, self._data, MessageSequence())
            if isinstance(result, Awaitable):
                handler_loop.start(result, context, self._coroutine_done)
                return True
            check_handled(stub, self._code, result)
        except Exception as error:
            failure_of(stub, error)  # logs it: nobody waits for the outcome
        finally:
            current.reset(token)
        return False

    def _coroutine_done(self, result: Any, error: BaseException | None) -> None:
        try:
            if error is None:
                check_handled(self._held.stub, self._code, result)
        except Exception as refused:
            error = refused
        if error is not None:
            failure_of(self._held.stub, error)
        following = self._next()
        if following is not None:
            self._link.target.submit(following.run)

    def _next(self) -> Oneway | None:
        """Count this call as executed; return the next one of its object."""
        export = self._held.export
        with self._link.origin.network.lock:
            self._link.outstanding -= self._charge
            if export.queue:
                return export.queue.popleft()  # type: ignore[no-any-return]
            export.running = False
        return None


def _awaitable_elsewhere(result: Any) -> Any:
    """Return ``result``, unless it is a coroutine that this very thread would have to run while it waits for it.

    Raises:
        IpcError: a coroutine made a blocking call to a coroutine handler on the same event loop.
    """
    if isinstance(result, Awaitable) and asyncio._get_running_loop() is handler_loop.handler_loop():
        if asyncio.iscoroutine(result):
            result.close()
        raise IpcError("the event loop would wait for itself; await send_message_request instead of send_request")
    return result


def carry(
    sequence: MessageSequence, sender: LoopbackProcess, receiver: LoopbackProcess
) -> tuple[bytes, Objects | None]:
    """Return copies of the data area and the objects as ``receiver`` gets them.

    Raises:
        DeadObjectError, QuotaError, TooBigError, InvalidObjectError, ParcelWriteError: see their texts; nothing
            stays behind.
    """
    data = sequence._in if sequence._out is None else sequence._out
    if data is None:
        raise ParcelWriteError("the sequence was reclaimed and cannot be sent; create a new one")
    body = bytes(data)
    objects: Objects = {}
    source = sequence._objects or {}
    _check_counts(source)
    try:
        for offset, (kind, value) in source.items():
            objects[offset] = kind, _carry_one(kind, value, body, offset, sender, receiver)
    except BaseException:
        for _, value in objects.values():
            if isinstance(value, OwnedFd):
                value.close()
        objects.clear()
        raise
    return body, objects or None


def _check_counts(objects: Objects) -> None:
    if len(objects) >= limits.MAX_OBJECTS_PER_MESSAGE:
        raise TooBigError(
            f"{len(objects)} objects in one message, the limit is {limits.MAX_OBJECTS_PER_MESSAGE - 1}; "
            "send them in several calls"
        )
    if sum(kind == KIND_FD for kind, _ in objects.values()) > limits.MAX_FDS_PER_MESSAGE:
        raise TooBigError(
            f"more than {limits.MAX_FDS_PER_MESSAGE} descriptors in one message; send them in several calls"
        )


def _carry_one(
    kind: int, value: object, body: bytes, offset: int, sender: LoopbackProcess, receiver: LoopbackProcess
) -> object:
    if kind == KIND_REMOTE:
        return _carry_remote(value, sender, receiver)
    if isinstance(value, OwnedFd):
        return OwnedFd(value.dup())
    if isinstance(value, Slot):
        (size,) = struct.unpack_from("<i", body, offset - 4)
        value = value.view(size)
    assert isinstance(value, memoryview)
    return memoryview(value.tobytes())


def _carry_remote(value: object, sender: LoopbackProcess, receiver: LoopbackProcess) -> RemoteObject | RemoteProxy:
    """Return what ``receiver`` gets for a stub or proxy of ``sender``."""
    if isinstance(value, RemoteObject):
        return value if sender is receiver else receiver.link(sender).receive(value)
    link: Any = value._connection if isinstance(value, RemoteProxy) else None
    if not isinstance(value, RemoteProxy) or getattr(link, "origin", None) is not sender:
        raise InvalidObjectError(f"{value!r} is not an object of {sender!r} and cannot be passed on from there")
    owner = link.target
    if owner.dead:
        raise DeadObjectError(f"{value!r} is dead and cannot be passed on")
    if value._handle >= limits.RPC_HANDLE_BASE and owner is not receiver:
        raise passed_on(value)
    with sender.network.lock:
        export = owner.held_by(sender)[value._handle].export
    return export.stub if owner is receiver else receiver.link(owner).receive(export)


def charge_of(body: bytes, objects: Objects | None) -> int:
    """Return the bytes a one-way call takes of the budget."""
    blobs = sum(
        value.nbytes for kind, value in (objects or {}).values() if kind == KIND_BLOB and isinstance(value, memoryview)
    )
    return _HEADER + len(body) + RECORD_SIZE * len(objects or ()) + blobs


def timed_out() -> CallTimeoutError:
    return CallTimeoutError("no reply before the deadline; the call may still be executed, its reply will be dropped")
