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

import contextvars
import errno
import os
import time
from collections.abc import Callable
from concurrent.futures import Future
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
_SYNC = p.TF_ACCEPT_FDS | p.TF_OURS
_ONE_WAY = p.TF_ACCEPT_FDS | p.TF_ONE_WAY
_NOBODY = Caller(0, -1, -1)
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
        send_oneway(node, channel, target, code, data, context)
        return 0
    if context is None and (option is None or option.timeout is None):
        _call(node, channel, target, code, data, reply, None, None)
        return 0
    call_with_trailer(target, code, data, reply, option, 0)
    return 0


def call_with_trailer(
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


def ask_owner(target: Target) -> Caller:
    """Return who owns an object: the user as the kernel says, the pid as its process says; (0, -1) if it does not.

    Objects of other programs are not asked: some end when they get a code they do not know.
    """
    if target.handle and not target.flags & p.NODE_OURS:
        return _NOBODY
    reply = MessageSequence()
    try:
        uid = _call_within(target, p.OWNER_TRANSACTION, MessageSequence(), reply, limits.HANDSHAKE_WAIT)
        return Caller(reply.read_long(), uid, -1)
    except IpcError:  # it ended, hangs, or is a context manager of another kind
        return _NOBODY


def _call_within(target: Target, code: int, data: MessageSequence, reply: MessageSequence, seconds: float) -> int:
    """Make a call of the driver's own, which no context belongs to; return the user who answered."""
    node = target.node
    channel = node.channel()
    deadline = time.monotonic() + seconds
    if channel.depth:
        return _call_apart(node, target, code, data, reply, None, deadline)
    return _call(node, channel, target, code, data, reply, None, deadline)


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
    trailer: p.Trailer | None,
    deadline: float,
) -> int:
    """Make a call with a deadline on another thread: this one owes an answer and could not leave in time."""
    answer: Future[int] = Future()
    run = contextvars.copy_context().run

    def work() -> None:
        try:
            channel = node.channel()
            uid = run(_call, node, channel, target, code, data, reply, trailer, deadline)
            channel.flush()  # the reply's buffer: this thread's next command may never come
            answer.set_result(uid)
        except BaseException as error:
            answer.set_exception(error)

    node.callers.submit(work)
    with node.loopers.outgoing():
        return answer.result()


def send_oneway(
    node: KernelNode, channel: Channel, target: Target, code: int, data: MessageSequence, context: CallContext | None
) -> None:
    trailer = None if context is None else (context.chain, 0, 0)
    flags = _ONE_WAY if trailer is None else _ONE_WAY | p.TF_TRAILER
    _write(channel, target, code, flags, objects.place(node, channel, data, trailer, target))
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
    flags = _SYNC if trailer is None else _SYNC | p.TF_TRAILER
    try:
        placed = objects.place(node, channel, data, trailer, target)
        return _exchange(node, channel, target, code, flags, placed, reply, deadline)
    except NoRoomError:
        if not target.flags & p.NODE_OURS or not objects.size_of(data):
            raise
    # Nothing was delivered: the target's mapping has no room for the data. It goes beside the mapping.
    placed = objects.place_shared(node, channel, data, trailer, target)
    return _exchange(node, channel, target, code, flags | p.TF_SHARED_BODY, placed, reply, deadline)


def _exchange(
    node: KernelNode,
    channel: Channel,
    target: Target,
    code: int,
    flags: int,
    placed: objects.Placed,
    reply: MessageSequence,
    deadline: float | None,
) -> int:
    """Send a request and wait for its reply; return the user who answered."""
    _write(channel, target, code, flags, placed)
    outer, channel.waits_for = channel.waits_for, target
    counts = channel.is_looper
    if counts:
        node.loopers.enter()
    try:
        word, transaction = _answer(node, channel) if deadline is None else _answer_within(node, channel, deadline)
    except BaseException:
        # An interrupt, mostly. The reply must never meet this thread's next call.
        _leave(node, channel)
        raise
    finally:
        channel.waits_for = outer
        if counts:
            node.loopers.leave()
    if word == p.BR_REPLY:
        return _load(node, channel, transaction, reply)
    raise _failure(target, word, oneway=False)


def _answer(node: KernelNode, channel: Channel) -> tuple[int, Any]:
    """Return what ends the call of this thread; serve the calls that come back until then."""
    while True:
        word, transaction = node.read(channel)
        if word == p.BR_TRANSACTION:
            node.serve(channel, transaction)
        elif word and word != p.BR_TRANSACTION_COMPLETE:
            return word, transaction


def _answer_within(node: KernelNode, channel: Channel, deadline: float) -> tuple[int, Any]:
    """Do the same until ``deadline``.

    Raises:
        CallTimeoutError: nothing came; this thread waits for nothing any more.
    """
    while True:
        channel.flush()  # the device says that there is something to read only after it has what we write
        if node.device.wait(deadline - time.monotonic()):
            word, transaction = node.read(channel)
        else:
            word, transaction = _last_word(node, channel)
            if not word:
                raise _timed_out()
        if word == p.BR_TRANSACTION:
            node.serve(channel, transaction)
        elif word and word != p.BR_TRANSACTION_COMPLETE:
            return word, transaction


def _write(channel: Channel, target: Target, code: int, flags: int, placed: objects.Placed) -> None:
    size, address, offsets_size, offsets = placed
    channel.staged = True
    channel.out += _command(p.BC_TRANSACTION, target.handle, 0, code, flags, 0, 0, size, offsets_size, address, offsets)


def _load(node: KernelNode, channel: Channel, transaction: Any, reply: MessageSequence) -> int:
    """Fill ``reply`` from what the kernel brought, or raise what the other side says."""
    _, _, _, flags, _, uid, size, offsets_size, address, _ = transaction
    try:
        body, received, _ = objects.accept(node, channel, transaction)
    finally:
        channel.out += _free(p.BC_FREE_BUFFER, address)
        if offsets_size or size > _SMALL:
            channel.flush()
    if flags & p.TF_STATUS_CODE:
        raise _told(body)
    reply._load(body, received)
    return int(uid)


def _told(body: bytes) -> TransactionError:
    """Return the error in a reply that carries a status; other users of the device send the number alone."""
    told = MessageSequence.from_bytes(body)
    status = told.read_int()
    if len(body) == 4:
        return error_from_status(status, "", "", "")
    return error_from_status(status, told.read_string(), told.read_string(), told.read_string())


def _last_word(node: KernelNode, channel: Channel) -> tuple[int, Any]:
    """The time of a call is over: return what came at the very last moment, 0 if nothing did."""
    if not channel.sent:
        return 0, None
    # References the kernel takes to our objects are announced to this thread and would be lost with it.
    # The next read returns with them, although nothing else comes.
    node.device.wake_all()
    word, transaction = node.read(channel)
    return (0, None) if word == p.BR_TRANSACTION_COMPLETE else (word, transaction)


def _leave(node: KernelNode, channel: Channel) -> None:
    """Leave the device as this thread: the kernel drops the reply that is on its way, with all it carries.

    Whoever waits for an answer of this thread is told that it left.
    """
    if not node.device.closed:
        channel.flush()
        node.device.exit_thread()
        if channel.is_looper:
            # To the kernel it is a new thread from now on, and only of takers it asks for further ones.
            channel.out += p.WORD.pack(p.BC_ENTER_LOOPER)
    node.settle(channel)


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


class NoRoomError(QuotaError):
    """The target's mapping has no room for a call, which was not delivered."""


def _no_room(oneway: bool) -> QuotaError:
    if oneway:
        return QuotaError(
            f"one-way calls wait at the target process and this one crosses the budget of {limits.ONEWAY_BUDGET} "
            "bytes; it was not sent: slow down"
        )
    return NoRoomError("the target's buffer of 1 MiB is full of calls it has not finished; send less at once, or retry")


_ERRORS: dict[int, Callable[[], IpcError]] = {
    errno.ESRCH: lambda: DeadObjectError("the process of the object has closed its binder device"),
    errno.EINVAL: lambda: InvalidObjectError(
        "the kernel found an object or handle in the call, or in its reply, that is not valid"
    ),
    errno.EPERM: lambda: RefusedError("the object does not accept descriptors, or a security policy forbids the call"),
    errno.EBADF: lambda: DescriptorError("a descriptor of the call, or of its reply, is not open"),
    errno.EMFILE: lambda: QuotaError("the target has no descriptor left for those of the call"),
}
