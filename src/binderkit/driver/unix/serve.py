"""A request from its packet to the handler and back, on the thread that read it.

Owns: nothing; lanes.py and oneway_lane.py read the packets.

Rules upheld (ARCHITECTURE): Errors (what a handler raises crosses as code, type name and text; only the
lane's own send and receive break it), Re-entrancy (each request has a context of its own), Deadlines.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from binderkit import limits
from binderkit.driver.tables import Held
from binderkit.driver.unix import frame, translate
from binderkit.driver.unix.frame import HEADER, HEADER_SIZE
from binderkit.driver.unix.undelivered import Undelivered
from binderkit.errors import ERR_UNKNOWN_TRANSACTION, DescriptorError, ProtocolError
from binderkit.ipc.context import CallContext, current
from binderkit.ipc.dispatch import Failure, check_handled, failure_of, handle_reserved
from binderkit.ipc.option import RECEIVED_SYNC
from binderkit.parcel import MessageSequence

if TYPE_CHECKING:
    from binderkit.driver.unix.peer import Peer

_log = logging.getLogger("binderkit.driver")
_pack = HEADER.pack
_unpack = HEADER.unpack_from
_INLINE = limits.INLINE_BODY
_get_ident = threading.get_ident
_MAIN = threading.main_thread().ident
_NOSIGNAL = socket.MSG_NOSIGNAL


def answer(peer: Peer, lane: Any, packet: bytes, loaded: MessageSequence | None = None) -> bool:
    """Handle the CALL in ``packet`` on this thread and send its reply on ``lane``.

    Args:
        loaded: the request's data if it was taken in already (shared lanes do that under their lock).

    Returns:
        Whether the reply comes later, because the handler is a coroutine.

    Raises:
        ProtocolError: the packet is no proper call.
        OSError: the reply could not be sent, the caller is gone.
    """
    if len(packet) < HEADER_SIZE:
        raise ProtocolError(f"a frame of {len(packet)} bytes; the header alone has {HEADER_SIZE}")
    version, kind, flags, seq, handle, code, remaining, chain, size, objects, _, freed, _ = _unpack(packet)
    if loaded is not None:
        data = loaded
    else:
        data = MessageSequence()
        if version == 1 and kind == 1 and not flags and not objects and len(packet) == HEADER_SIZE + size:
            data._out = None
            data._in = packet[HEADER_SIZE:]
            if freed:
                peer.slots.given_back(freed - 1)
        else:
            if kind == frame.REPLY and seq in lane.late:
                _drop_late(peer, lane, packet)
                return False
            try:
                accept_request(peer, lane, packet, data, frame.CALL)
            except DescriptorError as error:
                refuse(peer, lane, packet, error)
                return False
    held = peer.held.get(handle)
    if held is None:
        _reply_failure(peer, lane, seq, unknown_handle(handle))
        return False
    return _handle(peer, lane, held, seq, code, remaining, chain, data)


def _handle(
    peer: Peer, lane: Any, held: Held, seq: int, code: int, remaining: int, chain: int, data: MessageSequence
) -> bool:
    """Run the handler in its context and reply; see ``answer``."""
    parent = current.get()
    deadline = None if remaining == 0 else time.monotonic() + remaining / 1e6
    context = CallContext(peer._caller, peer, lane, _get_ident(), seq, chain, deadline, parent)
    reply = MessageSequence()
    token = current.set(context)
    pending = lane.pending
    if pending is None:
        lane.context = context
    else:
        pending[seq] = context
    later = False
    try:
        if 0 < code <= 0x00FFFFFF:
            result: Any = held.handler(code, data, reply, RECEIVED_SYNC)
        else:
            result = handle_reserved(held.stub, code, data, reply)
        if result is not True:
            if isinstance(result, Awaitable):
                _answer_later(peer, lane, context, held, code, data, reply, result)
                later = True
                return True
            check_handled(held.stub, code, result)
    except Exception as error:
        # The error's traceback may keep ``data`` alive in a cycle; what came with it goes now.
        data._objects = None
        _reply_failure(peer, lane, seq, failure_of(held.stub, error))
        return False
    except BaseException as error:
        # An interrupt in a handler on the main thread: the caller must not wait for ever.
        data._objects = None
        _reply_failure(peer, lane, seq, failure_of(held.stub, error))
        if _get_ident() == _MAIN:
            raise
        return False  # sys.exit in a handler ends the call, not the worker that others wait for
    finally:
        current.reset(token)
        if not later:  # a coroutine's end does this, perhaps before we get here
            if pending is None:
                lane.context = parent
            else:
                pending.pop(seq, None)
    send_reply(peer, lane, seq, reply, data)
    return False


def _answer_later(
    peer: Peer,
    lane: Any,
    context: CallContext,
    held: Held,
    code: int,
    data: MessageSequence,
    reply: MessageSequence,
    awaitable: Awaitable[Any],
) -> None:
    """Run a coroutine handler on the event loop; its reply is sent there, no thread waits."""

    def done(result: Any, error: BaseException | None) -> None:
        try:
            if error is None:
                try:
                    check_handled(held.stub, code, result)
                except Exception as refused:
                    error = refused
            if error is None:
                send_reply(peer, lane, context.seq, reply, data)
            else:
                data._objects = None
                _reply_failure(peer, lane, context.seq, failure_of(held.stub, error))
        except OSError as broken:
            _log.debug("the reply of a coroutine could not be sent to %r: %s", peer, broken)
        finally:
            lane.later_done(context)  # whatever happened: this is what has the lane read again

    from binderkit.ipc import loop  # asyncio: only services with coroutine handlers pay for it

    loop.start(awaitable, context, done)


def accept_request(peer: Peer, lane: Any, packet: bytes, data: MessageSequence, kind: int) -> frame.Frame:
    """Load a request with objects or a large body into ``data``; return its frame.

    Raises:
        ProtocolError: the packet is no proper request of this kind.
        DescriptorError: this process has no descriptors left for those of the request, which is lost.
    """
    got = frame.decode(packet)
    if got.kind != kind or got.flags & frame.FLAG_FAILED:
        raise ProtocolError(f"a frame of kind {got.kind} where kind {kind} was expected")
    try:
        fds = translate.receive_fds(lane.sock, got)
    except DescriptorError:
        # Ours is the shortage: the lane goes on, and what came without a descriptor is given back.
        if got.freed:
            peer.slots.given_back(got.freed - 1)
        translate.dispose_lost(peer, got)
        raise
    if got.freed:
        peer.slots.given_back(got.freed - 1)
    body, objects = translate.accept(peer, got, fds)
    data._load(body, objects)
    return got


def _drop_late(peer: Peer, lane: Any, packet: bytes) -> None:
    """The reply to a call back that a handler here gave up (its deadline passed) comes behind that handler's own."""
    got = frame.decode(packet)
    try:
        fds = translate.receive_fds(lane.sock, got)
    except DescriptorError:
        translate.dispose_lost(peer, got)
    else:
        translate.dispose(peer, got, fds)
    del lane.late[got.seq]
    if got.freed:
        peer.slots.given_back(got.freed - 1)


def refuse(peer: Peer, lane: Any, packet: bytes, error: Exception) -> None:
    """Answer the call in ``packet``, which could not be taken in, with the reason."""
    _log.warning("a call of %r could not be taken in: %s", peer, error)
    _reply_failure(peer, lane, _unpack(packet)[3], failure_of(None, error))


def unknown_handle(handle: int) -> Failure:
    """Return what a caller gets who names an object it does not hold."""
    return Failure(
        ERR_UNKNOWN_TRANSACTION, "binderkit.errors.InvalidObjectError", f"no object {handle} for this caller", ""
    )


def send_reply(peer: Peer, lane: Any, seq: int, reply: MessageSequence, data: MessageSequence) -> None:
    """Send what the handler wrote; ``data`` is let go first, so that its shared memory goes back along."""
    if data._objects is not None or type(data._in) is not bytes:
        # Only our own hold: a view the handler kept stays valid.
        data._in = data._out = data._objects = None
    out = reply._out
    if reply._objects is None and out is not None and len(out) <= _INLINE:
        freed = peer.next_freed() if peer.freed else 0
        lane.send(_pack(1, 3, 0, seq, 0, 0, 0, 0, len(out), 0, 0, freed, 0) + out, _NOSIGNAL)
        return
    try:
        with lane.send_lock:
            peer.send_general(lane, frame.REPLY, 0, seq, 0, 0, 0, 0, reply)
    except Undelivered as undelivered:
        _reply_failure(peer, lane, seq, failure_of(None, undelivered.error))


def _reply_failure(peer: Peer, lane: Any, seq: int, failure: Failure) -> None:
    """Tell the caller why its call failed."""
    told = MessageSequence()
    told.write_string(failure.type_name)
    told.write_string(failure.text)
    told.write_string(failure.remote_traceback)
    freed = peer.next_freed() if peer.freed else 0
    out = told._out
    flags = frame.FLAG_FAILED
    lane.send(_pack(1, 3, flags, seq, 0, failure.status, 0, 0, len(out), 0, 0, freed, 0) + out, _NOSIGNAL)
