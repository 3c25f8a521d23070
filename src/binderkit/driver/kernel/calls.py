"""Calls to objects of other processes, and the wait for their replies.

Owns: what is written for a call, what the kernel's answers mean, deadlines. While a thread waits, the kernel hands it
the calls that come back from the processes it waits for (at any distance), and it serves them (serve.py).

Deadlines: the driver has none of its own. A thread outside any handler waits with poll and, when the time is over,
tells the kernel that it is gone (THREAD_EXIT): the kernel then drops the late reply with all it carries. A thread
inside a handler cannot do that, it still owes an answer of its own; its calls with a deadline are made on a thread
apart. So are the calls of coroutines.

Rules upheld: no reply is ever taken for another call's; every failure the kernel reports becomes an error of ours,
with words.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import os
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from binderkit import limits
from binderkit.driver.kernel import objects
from binderkit.driver.kernel import protocol as p
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    DescriptorError,
    InvalidObjectError,
    IpcError,
    ProtocolError,
    QuotaError,
    RefusedError,
    TransactionError,
    error_from_status,
)
from binderkit.ipc.context import CallContext, Caller, current, new_chain
from binderkit.parcel import MessageSequence

if TYPE_CHECKING:
    from binderkit.driver.kernel.device import Channel
    from binderkit.driver.kernel.node import KernelNode
    from binderkit.driver.kernel.target import Target
    from binderkit.ipc.option import MessageOption

_command = p.COMMAND_TRANSACTION.pack
_free = p.COMMAND_POINTER.pack
_SMALL = 4096
"""Bytes of a reply whose buffer may stay taken until the thread's next command; larger ones are freed at once."""


def transact(
    target: Target, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None
) -> int:
    """Make a call; see Connection.transact."""
    node = target.node
    channel = node.channel()
    if target.is_dead:
        node.device.check_usable()
        raise target.dead_error()
    context = current.get()
    if option is not None and option.is_async():
        _send_oneway(node, channel, target, code, data, context)
        return 0
    if context is None and (option is None or option.timeout is None):
        _call(node, channel, target, code, data, reply, None, None)
        return 0
    _call_with_trailer(target, code, data, reply, option, 0)
    return 0


def _call_with_trailer(
    target: Target,
    code: int,
    data: MessageSequence,
    reply: MessageSequence,
    option: MessageOption | None,
    number: int,
) -> None:
    """Make a synchronous call with what travels beside the data; ``number`` is for cancelling it."""
    node = target.node
    channel = node.channel()
    context = current.get()
    chain = new_chain() if context is None else context.chain
    deadline = _deadline(option, context)
    if deadline is None:
        _call(node, channel, target, code, data, reply, (chain, 0, number), None)
        return
    left = deadline - time.monotonic()
    if left <= 0:
        raise CallTimeoutError("the deadline of the call being handled has passed; nothing was sent")
    trailer = (chain, max(1, int(left * 1e6)), number)
    if channel.depth:
        _call_apart(node, target, code, data, reply, trailer, deadline)
    else:
        _call(node, channel, target, code, data, reply, trailer, deadline)


async def transact_async(
    target: Target, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None
) -> int:
    """Make a call from a coroutine; see Connection.transact_async."""
    node = target.node
    if option is not None and option.is_async():
        return transact(target, code, data, reply, option)
    node.device.check_usable()
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[int] = loop.create_future()
    result = MessageSequence()
    number = int.from_bytes(os.urandom(8), "little") >> 1 | 1
    run = contextvars.copy_context().run

    def tell(error: BaseException | None) -> None:
        if answer.done():
            return  # nobody waits any more; what came goes with ``result``
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(0)

    def work() -> None:
        error: BaseException | None = None
        try:
            run(_call_with_trailer, target, code, data, result, option, number)
        except BaseException as failure:
            error = failure
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, error)

    node.callers.submit(work)
    try:
        await answer
    except asyncio.CancelledError:
        _cancel(target, number)
        raise
    reply._load(result._in, result._objects)
    result._objects = None
    return 0


def _cancel(target: Target, number: int) -> None:
    """Tell the handler that nobody waits for its call any more."""
    with MessageSequence() as told, contextlib.suppress(IpcError):  # gone, or flooded: it cannot be told
        told.write_long(number)
        _send_oneway(target.node, target.node.channel(), target, p.CANCEL_TRANSACTION, told, None)


def ask_owner(target: Target) -> Caller:
    """Return who owns an object: the user as the kernel says, the pid as its process says; (0, -1) if it does not."""
    node = target.node
    reply = MessageSequence()
    try:
        uid = _call(node, node.channel(), target, p.OWNER_TRANSACTION, MessageSequence(), reply, None, None)
        return Caller(reply.read_long(), uid, -1)
    except IpcError:  # no object of this package: it has no way to tell
        return Caller(0, -1, -1)


def _deadline(option: MessageOption | None, context: CallContext | None) -> float | None:
    deadline = None if context is None else context.deadline
    if option is None or option.timeout is None:
        return deadline
    own = time.monotonic() + option.timeout
    return own if deadline is None else min(own, deadline)


def _call_apart(
    node: KernelNode,
    target: Target,
    code: int,
    data: MessageSequence,
    reply: MessageSequence,
    trailer: p.Trailer,
    deadline: float,
) -> None:
    """Make a call with a deadline on another thread: this one owes an answer and could not leave in time."""
    done = threading.Event()
    failures: list[BaseException] = []
    run = contextvars.copy_context().run

    def work() -> None:
        try:
            run(_call, node, node.channel(), target, code, data, reply, trailer, deadline)
        except BaseException as error:
            failures.append(error)
        finally:
            done.set()

    node.callers.submit(work)
    with node.loopers.outgoing():
        done.wait()
    if failures:
        raise failures.pop()


def _send_oneway(
    node: KernelNode, channel: Channel, target: Target, code: int, data: MessageSequence, context: CallContext | None
) -> None:
    trailer = None if context is None else (context.chain, 0, 0)
    _write(node, channel, target.handle, code, p.TF_ONE_WAY | p.TF_ACCEPT_FDS, data, trailer)
    while True:
        word, _ = node.read(channel)
        if word == p.BR_TRANSACTION_COMPLETE:
            return
        if word:
            raise _failure(target, word, oneway=True)


def _call(
    node: KernelNode,
    channel: Channel,
    target: Target,
    code: int,
    data: MessageSequence,
    reply: MessageSequence,
    trailer: p.Trailer | None,
    deadline: float | None,
) -> int:
    """Make a synchronous call; return the user who answered."""
    _write(node, channel, target.handle, code, p.TF_ACCEPT_FDS, data, trailer)
    outer, channel.waits_for = channel.waits_for, target
    counts = node.loopers.mine()
    if counts:
        node.loopers.enter()
    try:
        if deadline is not None:
            channel.flush()
        while True:
            if deadline is not None and not node.device.wait(deadline - time.monotonic()):
                answer = _leave(node, channel)
                if answer is None:
                    raise _timed_out()
            else:
                answer = node.read(channel)
            word, transaction = answer
            if word == p.BR_REPLY:
                return _load(node, channel, transaction, reply)
            if word == p.BR_TRANSACTION:
                node.serve(channel, transaction)
                if deadline is not None:
                    channel.flush()
            elif word and word != p.BR_TRANSACTION_COMPLETE:
                raise _failure(target, word, oneway=False)
    except (KeyboardInterrupt, SystemExit):
        # The reply must never meet this thread's next call. Whoever waits for this thread is told that it left.
        _leave(node, channel)
        raise
    finally:
        channel.waits_for = outer
        if counts:
            node.loopers.leave()


def _write(
    node: KernelNode,
    channel: Channel,
    handle: int,
    code: int,
    flags: int,
    data: MessageSequence,
    trailer: p.Trailer | None,
) -> None:
    size, address, offsets_size, offsets = objects.place(node, channel, data, trailer)
    if trailer is not None:
        flags |= p.TF_TRAILER
    channel.staged = True
    channel.out += _command(p.BC_TRANSACTION, handle, 0, code, flags, 0, 0, size, offsets_size, address, offsets)


def _load(node: KernelNode, channel: Channel, transaction: Any, reply: MessageSequence) -> int:
    """Fill ``reply`` from what the kernel brought, or raise what the other side says."""
    flags, uid, size, offsets_size, address = (transaction[at] for at in (3, 5, 6, 7, 8))
    try:
        body, received, _ = objects.accept(node, channel, transaction)
    finally:
        channel.out += _free(p.BC_FREE_BUFFER, address)
        if offsets_size or size > _SMALL:
            channel.flush()
    if flags & p.TF_STATUS_CODE:
        raise _told(body)
    reply._load(body, received)
    return uid  # type: ignore[no-any-return]


def _told(body: bytes) -> TransactionError:
    """Return the error in a reply that carries a status; other users of the device send the number alone."""
    told = MessageSequence.from_bytes(body)
    status = told.read_int()
    if len(body) == 4:
        return error_from_status(status, "", "", "")
    return error_from_status(status, told.read_string(), told.read_string(), told.read_string())


def _leave(node: KernelNode, channel: Channel) -> tuple[int, Any] | None:
    """The time of a call is over: leave the device as this thread, so that the late reply is dropped by the kernel.

    Returns:
        What came at the very last moment, None if nothing did.
    """
    if channel.sent:
        # References the kernel takes to our objects are announced to this thread and would be lost with it.
        # The next read returns with them, although nothing else comes.
        node.device.wake_all()
        word, transaction = node.read(channel)
        if word and word != p.BR_TRANSACTION_COMPLETE:
            return word, transaction
    node.device.exit_thread()
    node.settle(channel)
    return None


def _timed_out() -> CallTimeoutError:
    return CallTimeoutError("no reply before the deadline; the call may still be executed, its reply will be dropped")


def _failure(target: Target, word: int, *, oneway: bool) -> IpcError:
    """Return the error for what the kernel answered instead of a reply."""
    if word == p.BR_DEAD_REPLY:
        return target.dead_error()
    if word == p.BR_FROZEN_REPLY:
        return RefusedError("the process of the object is frozen and takes no calls; thaw it, or send one-way calls")
    if word != p.BR_FAILED_REPLY:
        return ProtocolError(f"the binder device answered a call with {p.NAMES.get(word, hex(word))}")
    number = target.node.device.last_error()
    make = _ERRORS.get(number)
    if number == errno.ENOSPC:
        return _no_room(oneway)
    if make is not None:
        return make()
    reason = os.strerror(number) if number else "its reply could not be delivered, or the kernel does not say why"
    return TransactionError(f"the kernel refused the call: {reason}", code=29201)


def _no_room(oneway: bool) -> QuotaError:
    if oneway:
        return QuotaError(
            f"one-way calls wait at the target process and this one crosses the budget of {limits.ONEWAY_BUDGET} "
            "bytes; it was not sent: slow down"
        )
    return QuotaError("the target's buffer of 1 MiB is full of calls it has not finished; send less at once, or retry")


_ERRORS: dict[int, Callable[[], IpcError]] = {
    errno.ESRCH: lambda: DeadObjectError("the process of the object has closed its binder device"),
    errno.EINVAL: lambda: InvalidObjectError("the kernel found an object or handle in the call that is not valid"),
    errno.EPERM: lambda: RefusedError("the object does not accept descriptors, or a security policy forbids the call"),
    errno.EBADF: lambda: DescriptorError("a descriptor of the call is not open"),
    errno.EMFILE: lambda: QuotaError("the target has no descriptor left for those of the call"),
}
