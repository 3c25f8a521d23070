"""A request from the device to the handler and back, on the thread that read it.

Rules upheld (ARCHITECTURE): Errors (what a handler raises crosses as code, type name and text), Re-entrancy (each
request has a context of its own), Ordering (the buffer of a one-way call is freed after it was executed: only then
the kernel delivers the object's next one).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from binderkit import limits
from binderkit.driver.kernel import objects
from binderkit.driver.kernel import protocol as p
from binderkit.errors import ERR_UNKNOWN_TRANSACTION, IpcError, RefusedError
from binderkit.ipc.context import CallContext, Caller, current, new_chain
from binderkit.ipc.dispatch import Failure, check_handled, failure_of, handle_reserved, settle
from binderkit.ipc.option import RECEIVED_ASYNC, RECEIVED_SYNC
from binderkit.parcel import MessageSequence

if TYPE_CHECKING:
    from binderkit.driver.kernel.device import Channel
    from binderkit.driver.kernel.node import KernelNode
    from binderkit.driver.kernel.nodes import OwnNode
    from binderkit.driver.kernel.target import Target

_log = logging.getLogger("binderkit.driver")
_command = p.COMMAND_TRANSACTION.pack
_free = p.COMMAND_POINTER.pack
_get_ident = threading.get_ident
_MAIN = threading.main_thread().ident
_SHARED_FROM = 64 * limits.KIB
"""Bytes of a reply that goes through shared memory. A request that finds no room can be sent again, a reply cannot: the
kernel drops it and fails the call. Sixteen threads' replies of this size fit into the caller's mapping together."""
_LARGE = 16 * limits.KIB
"""Bytes of a request whose buffer is freed before its handler runs; smaller ones leave with the reply."""


def serve(node: KernelNode, channel: Channel, transaction: Any) -> None:
    """Handle one BR_TRANSACTION; a reply is in ``channel.out`` afterwards and leaves with the next exchange."""
    if transaction[3] & p.TF_ONE_WAY:
        try:
            _serve_oneway(node, channel, transaction)
        finally:
            channel.out += _free(p.BC_FREE_BUFFER, transaction[8])
        return
    own = node.nodes.by_number.get(transaction[0])
    reply = MessageSequence()
    failure: Failure | None = None
    channel.depth += 1
    try:
        try:
            accepted = objects.accept(node, channel, transaction)
        finally:
            channel.out += _free(p.BC_FREE_BUFFER, transaction[8])
        if transaction[6] > _LARGE or transaction[7]:
            channel.flush()
        failure = _answer(node, channel, own, transaction, accepted, reply)
    except BaseException as error:
        failure = failure_of(None if own is None else own.stub, error)
        if not isinstance(error, Exception) and _get_ident() == _MAIN:
            raise  # an interrupt of the program; the caller gets an answer all the same
    finally:
        channel.depth -= 1
        _send_reply(node, channel, reply, failure, transaction)


def _answer(
    node: KernelNode, channel: Channel, own: OwnNode | None, transaction: Any, accepted: Any, reply: MessageSequence
) -> Failure | None:
    """Run the handler; return why it failed."""
    code = transaction[2]
    if own is None:
        return Failure(ERR_UNKNOWN_TRANSACTION, "binderkit.errors.InvalidObjectError", "no such object", "")
    if own.number == 0 and (refusal := _refusal(node, transaction)) is not None:
        raise RefusedError(refusal)
    body, received, trailer = accepted
    data = MessageSequence()
    data._load(body, received)
    if code in p.OWN_TRANSACTIONS:
        _answer_own(node, own, transaction, data, reply)
        return None
    context = _context(transaction, trailer, channel.waits_for, current.get())
    cancellable = trailer[2] if trailer is not None else 0
    if cancellable:
        node.cancellable[cancellable] = context
    token = current.set(context)
    try:
        if 0 < code <= limits.MAX_TRANSACTION_ID:
            result: Any = own.handler(code, data, reply, RECEIVED_SYNC)
        else:
            result = handle_reserved(own.stub, code, data, reply)
        if result is not True:
            if isinstance(result, Awaitable):
                # The kernel takes the answer from this very thread only, which waits and does not count meanwhile.
                with node.loopers.outgoing():
                    settle(own.stub, code, result, context)
            else:
                check_handled(own.stub, code, result)
    except BaseException:
        # The error's traceback may keep our frames alive in a cycle; what came with the request goes now.
        if received:
            received.clear()
        data._objects = None
        raise
    finally:
        if cancellable:
            node.cancellable.pop(cancellable, None)
        current.reset(token)
    return None


def _refusal(node: KernelNode, transaction: Any) -> str | None:
    """Return why a caller may not use the context manager, None if it may."""
    return None if node.admission is None else node.admission(Caller(transaction[4], transaction[5], -1))


def _answer_own(
    node: KernelNode, own: OwnNode, transaction: Any, data: MessageSequence, reply: MessageSequence
) -> None:
    """Handle a code that drivers of this kind use among themselves."""
    code = transaction[2]
    if code == p.OWNER_TRANSACTION:
        reply.write_long(os.getpid())
        return
    if own.number or node.offers is None:
        raise RefusedError("meeting points are left at the context manager alone")
    node.offers.answer(code, data, reply, transaction[4])


def _context(
    transaction: Any, trailer: p.Trailer | None, peer: Target | None, parent: CallContext | None
) -> CallContext:
    chain, remaining, _ = (new_chain(), 0, 0) if trailer is None else trailer
    # More than any caller may ask for is a lie, and more than the system can wait for.
    deadline = None if remaining == 0 else time.monotonic() + min(remaining / 1e6, limits.MAX_WAIT_TIME)
    caller = Caller(transaction[4], transaction[5], -1)
    return CallContext(caller, peer, None, _get_ident(), 0, chain, deadline, parent)


def _serve_oneway(node: KernelNode, channel: Channel, transaction: Any) -> None:
    own = node.nodes.by_number.get(transaction[0])
    code = transaction[2]
    data = MessageSequence()
    try:
        body, received, trailer = objects.accept(node, channel, transaction)
        data._load(body, received)
        number = data.read_long() if code == p.CANCEL_TRANSACTION else 0
    except IpcError as error:
        _log.warning("a one-way call could not be taken in: %s", error)
        return
    if own is None:
        _log.debug("a one-way call to object %d, which is gone", transaction[0])
        return
    if own.number == 0 and (refusal := _refusal(node, transaction)) is not None:
        _log.debug("a one-way call to the context manager is dropped: %s", refusal)
        return
    if code == p.CANCEL_TRANSACTION:
        cancelled = node.cancellable.get(number)
        if cancelled is not None:
            cancelled.cancel()
        return
    context = _context(transaction, trailer, None, None)
    token = current.set(context)
    try:
        if 0 < code <= limits.MAX_TRANSACTION_ID:
            result: Any = own.handler(code, data, MessageSequence(), RECEIVED_ASYNC)
        else:
            result = handle_reserved(own.stub, code, data, MessageSequence())
        if isinstance(result, Awaitable):
            with node.loopers.outgoing():
                settle(own.stub, code, result, context)
        else:
            check_handled(own.stub, code, result)
    except BaseException as error:
        failure_of(own.stub, error)  # logs it: nobody waits for the outcome
        if not isinstance(error, Exception) and _get_ident() == _MAIN:
            raise
    finally:
        current.reset(token)


def _send_reply(
    node: KernelNode, channel: Channel, reply: MessageSequence, failure: Failure | None, transaction: Any
) -> None:
    """Put the reply to a request, or the failure, into ``channel.out``."""
    if failure is None:
        try:
            flags, placed = p.TF_ACCEPT_FDS, objects.place
            if transaction[3] & p.TF_OURS and objects.size_of(reply) > _SHARED_FROM:
                flags, placed = flags | p.TF_SHARED_BODY, objects.place_shared
            size, address, offsets_size, offsets = placed(node, channel, reply, None, transaction[4])
        except IpcError as error:
            failure = failure_of(None, error)
        else:
            channel.staged = True
            channel.out += _command(p.BC_REPLY, 0, 0, 0, flags, 0, 0, size, offsets_size, address, offsets)
            return
    told = MessageSequence()
    told.write_int(failure.status)
    told.write_string(failure.type_name)
    told.write_string(failure.text)
    told.write_string(failure.remote_traceback)
    size, address, _, _ = objects.place(node, channel, told, None, transaction[4])
    channel.staged = True
    channel.out += _command(p.BC_REPLY, 0, 0, 0, p.TF_STATUS_CODE, 0, 0, size, 0, address, 0)
