"""Requests that arrive: from a packet to the handler and back, on the thread that read it.

Owns: served lanes of the three kinds. A worker that got a lane from the epoll set stays
parked on it for PARK_TIME, so a busy client costs no epoll round per call; an
idle lane goes back, so thousands of idle clients cost no thread.

A *shared* lane (one-way calls, or the calls of an asyncio client) is read by one thread
at a time. A handler that takes long, or calls out, gives the reading away
(``hand_over``); results then leave in the order they are ready.

Rules upheld (ARCHITECTURE): Ordering (one-way calls of one process to one object, in the order
sent, one at a time: reading and queueing happen under the lane's lock), Threads
(never park the last waiting thread), Errors (only the lane's own send and receive break it).

Locks: ``SharedLane.lock`` is held while reading and queueing (it may park there for PARK_TIME);
the node's ``oneway_lock`` guards every object's queue and is held for a few statements.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Awaitable
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from binderkit import limits
from binderkit.driver.unix import frame, translate
from binderkit.driver.unix.frame import HEADER, HEADER_SIZE, PACKET_MAX
from binderkit.driver.unix.tables import Export, Held
from binderkit.driver.unix.undelivered import Undelivered
from binderkit.driver.unix.workers import reading
from binderkit.errors import ERR_UNKNOWN_TRANSACTION, IpcError, ProtocolError
from binderkit.ipc.context import CallContext, current
from binderkit.ipc.dispatch import Failure, check_handled, failure_of, handle_reserved
from binderkit.ipc.option import RECEIVED_ASYNC, RECEIVED_SYNC
from binderkit.parcel import MessageSequence

if TYPE_CHECKING:
    from binderkit.driver.unix.peer import Peer

_log = logging.getLogger("binderkit.driver")
_pack = HEADER.pack
_unpack = HEADER.unpack_from
_INLINE = limits.INLINE_BODY
_get_ident = threading.get_ident
_NOSIGNAL = socket.MSG_NOSIGNAL
_DONTWAIT = socket.MSG_DONTWAIT
_COUNT_EVERY = 16 * limits.KIB
"""Bytes of one-way calls a reader executes before it counts them at the peer (under a lock)."""
_LOOP_BATCH = 64
"""Packets of one lane an event loop handles before the other lanes get their turn."""


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
            accept_request(peer, lane, packet, data, frame.CALL)
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
        if code <= 0x00FFFFFF:
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
        _reply_failure(peer, lane, seq, failure_of(held.stub, error))
        return False
    except BaseException as error:
        # An interrupt in a nested handler of the main thread: the caller must not wait for ever.
        _reply_failure(peer, lane, seq, failure_of(held.stub, error))
        raise
    finally:
        current.reset(token)
        if pending is None:
            lane.context = context if later else parent
        elif not later:
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
                _reply_failure(peer, lane, context.seq, failure_of(held.stub, error))
        except OSError as broken:
            _log.debug("the reply of a coroutine could not be sent to %r: %s", peer, broken)
        lane.later_done(context)

    from binderkit.ipc import loop  # asyncio: only services with coroutine handlers pay for it

    loop.start(awaitable, context, done)


def accept_request(peer: Peer, lane: Any, packet: bytes, data: MessageSequence, kind: int) -> frame.Frame:
    """Load a request with objects or a large body into ``data``; return its frame.

    Raises:
        ProtocolError: the packet is no proper request of this kind.
    """
    got = frame.decode(packet)
    if got.kind != kind or got.flags & frame.FLAG_FAILED:
        raise ProtocolError(f"a frame of kind {got.kind} where kind {kind} was expected")
    fds = translate.receive_fds(lane.sock, got)
    if got.freed:
        peer.slots.given_back(got.freed - 1)
    body, objects = translate.accept(peer, got, fds)
    data._load(body, objects)
    return got


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


_NO_LOCK = nullcontext()


class ServedLane:
    """A lane of a peer on which one synchronous call at a time arrives."""

    __slots__ = ("context", "fd", "number", "peer", "pending", "recv", "send", "seq", "sock", "unsure", "workers")

    @property
    def send_lock(self) -> Any:
        """What to hold while a frame and its descriptors are sent: nothing, one thread owns the lane."""
        return _NO_LOCK

    nests = True
    """Whether the other side's thread waits here, so that a call back to it uses this lane."""

    def __init__(self, peer: Peer, sock: socket.socket, number: int) -> None:
        self.peer = peer
        self.sock = sock
        self.fd = sock.fileno()
        self.recv = sock.recv
        self.send: Any = sock.send
        self.number = number
        self.seq = 0
        self.workers = peer.node.workers
        self.context: CallContext | None = None
        """the innermost call being handled on this lane"""
        self.pending: Any = None
        """calls being handled by sequence number, where there can be several"""
        self.unsure: translate.Outgoing | None = None

    def serve(self) -> None:
        """Serve calls until the lane has been quiet for PARK_TIME."""
        recv = self.recv
        workers = self.workers
        peer = self.peer
        while True:
            try:
                packet = recv(PACKET_MAX)
                if not packet:
                    self.close()
                    return
                if answer(peer, self, packet):
                    return  # armed again when the coroutine has replied
            except BlockingIOError:
                workers.arm(self.fd)
                return
            except Exception as error:
                self.fail(error)
                return
            if not workers.waiting:
                workers.arm(self.fd)
                return

    def serve_now(self) -> None:
        """Serve the calls that are there (event loop)."""
        try:
            for _ in range(_LOOP_BATCH):
                packet = self.recv(PACKET_MAX, socket.MSG_DONTWAIT)
                if not packet:
                    self.close()
                    return
                if self.handle(packet):
                    return
        except BlockingIOError:
            _log.debug("%r is drained", self)
        except Exception as error:
            self.fail(error)
            return
        self.workers.arm(self.fd)

    def handle(self, packet: bytes) -> bool:
        """Handle one packet (event loop); return whether the lane rests until a coroutine has replied."""
        return answer(self.peer, self, packet)

    def fail(self, error: Exception) -> None:
        """The lane cannot go on: close it; a peer that broke the protocol is disconnected."""
        if isinstance(error, OSError) and not isinstance(error, IpcError):
            _log.debug("%r broke: %s", self, error)
            self.close()
            return
        if isinstance(error, ProtocolError):
            self.close()
            self.peer.node.disconnect(self.peer, str(error))
            return
        # Our own shortage (descriptors, memory) while taking a request in: the caller sees its lane close.
        _log.warning("a request on %r could not be taken in: %s", self, error, exc_info=error)
        self.close()

    def later_done(self, context: CallContext) -> None:
        """The coroutine has replied."""
        self.context = None
        self.workers.arm(self.fd)

    def cancel(self, seq: int) -> None:
        """The caller gave up call ``seq`` (monitor)."""
        context = self.context
        while context is not None:
            if context.lane is self and context.seq == seq:
                context.cancel()
            context = context.parent

    def contexts(self) -> list[CallContext]:
        """Return the calls being handled (any thread)."""
        found = list((self.pending or {}).values())
        return found if self.context is None else [self.context, *found]

    def peer_died(self) -> None:
        """The other side is gone: tell the handlers, read what is left, then the end (monitor)."""
        for context in self.contexts():
            context.cancel()
        try:
            # A stray process may hold the other end open; what is queued can still be read after this.
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            _log.debug("%r is closed already: %s", self, error)

    def close(self) -> None:
        """Stop serving the lane."""
        self.workers.remove(self.fd)
        self.peer.served.pop(self.number, None)
        self.sock.close()
        if self.peer.is_dead:
            self.peer.node.drained(self.peer)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number} of {self.peer!r}>"


class SharedLane(ServedLane):
    """A lane on which many calls may be under way: those of an asyncio client, answered as they are ready."""

    __slots__ = ("_sending", "busy", "lock", "progress", "reader", "seen")

    nests = False

    def __init__(self, peer: Peer, sock: socket.socket, number: int) -> None:
        super().__init__(peer, sock, number)
        self.lock = threading.Lock()
        self._sending = threading.RLock()
        self.send = self._send_locked
        self.reader: object | None = None
        self.busy = False
        self.progress = 0
        self.seen = -1
        self.pending = {}

    @property
    def send_lock(self) -> Any:
        """Held while a frame and its descriptors are sent."""
        return self._sending

    def _send_locked(self, packet: bytes, flags: int) -> int:
        """Send a packet; never between a frame and its descriptors."""
        with self._sending:
            return self.sock.send(packet, flags)

    def serve(self) -> None:
        """Be the reader until the lane is quiet, or another thread takes over."""
        me = object()
        with self.lock:
            self.reader = me
        node = self.peer.node
        node.held_lanes.add(self)
        node.stir()
        reading(self)
        try:
            while self._serve_one(me):
                pass
        except Exception as error:
            self.fail(error)
        finally:
            reading(None)

    def _serve_one(self, me: object) -> bool:
        """Read and handle one packet; return whether to go on."""
        with self.lock:
            if self.reader is not me:
                return False
            try:
                packet = self.recv(PACKET_MAX)
            except BlockingIOError:
                self._rest()
                return False
            if not packet:
                self.close()
                return False
            self.progress += 1
            self.busy = True
            job = self.take(packet)
        if job is not None:
            self.run(job)
        self.busy = False
        if self.workers.waiting:
            return True
        with self.lock:
            if self.reader is me:
                self._rest()
        return False

    def _rest(self) -> None:
        """Go back to the epoll set."""
        self.reader = None
        self.peer.node.held_lanes.discard(self)
        self.workers.arm(self.fd)

    def hand_over(self) -> None:
        """Let another worker read on: the handler of the last call takes long, or calls out."""
        if self.reader is not None:
            self.reader = None
            self.workers.arm(self.fd)

    def check_progress(self) -> None:
        """Hand over if the reader has been in one handler since the last check (monitor)."""
        if self.busy and self.seen == self.progress:
            self.hand_over()
        self.seen = self.progress

    def take(self, packet: bytes) -> Any:
        """Turn a packet into a job, under the lane's lock: descriptors that follow are read here too."""
        if has_more(packet):
            data = MessageSequence()
            accept_request(self.peer, self, packet, data, frame.CALL)
            return packet, data
        return packet, None

    def handle(self, packet: bytes) -> bool:
        """Handle one packet (event loop: the only reader)."""
        job = self.take(packet)
        if job is not None:
            self.run(job)
        return False

    def run(self, job: Any) -> None:
        """Handle a job, outside the lock."""
        packet, data = job
        answer(self.peer, self, packet, data)

    def later_done(self, context: CallContext) -> None:
        """The coroutine has replied."""
        self.pending.pop(context.seq, None)

    def cancel(self, seq: int) -> None:
        """The caller gave up call ``seq`` (monitor)."""
        context = self.pending.get(seq)
        if context is not None:
            context.cancel()

    def close(self) -> None:
        """Stop serving the lane."""
        self.reader = None
        self.peer.node.held_lanes.discard(self)
        super().close()


def has_more(packet: bytes) -> bool:
    """Whether a packet has flags or objects and so is more than header and data."""
    return len(packet) < HEADER_SIZE or bool(packet[2] or packet[3] or packet[36] or packet[37])


class OnewayLane(SharedLane):
    """The lane on which all one-way calls of a peer arrive, in the order sent.

    The reader keeps the object it is executing calls of (``mine``) from packet to packet, so that a
    stream of calls to one object costs no more locking than reading it does.
    """

    __slots__ = ("_executed",)

    def __init__(self, peer: Peer, sock: socket.socket, number: int) -> None:
        super().__init__(peer, sock, number)
        self._executed = 0
        """bytes executed by the reader and not counted at the peer yet"""

    def _serve_one(self, me: object) -> bool:
        """Read and execute calls until the lane is quiet or another thread is the reader."""
        mine: Export | None = None
        try:
            while True:
                with self.lock:
                    if self.reader is not me:
                        return False
                    try:
                        # With calls of an object at hand: only what is there. Without: wait for PARK_TIME.
                        packet = self.recv(PACKET_MAX, 0 if mine is None else _DONTWAIT)
                    except BlockingIOError:
                        if mine is None:
                            self._rest()
                            return False
                        packet = None
                    else:
                        if not packet:
                            self.close()
                            return False
                        self.progress += 1
                        self.busy = True
                        job = self.take(packet, mine)
                if packet is None:
                    self._let_go(mine)
                    mine = None
                    continue
                if job is not None:
                    if job[1].export is not mine:
                        self._let_go(mine)
                        mine = job[1].export
                    if _execute_oneway(job):
                        mine = None
                    else:
                        self._executed += job[5]
                        if self._executed > _COUNT_EVERY:
                            self._count()
                self.busy = False
                if not self.workers.waiting:
                    self._let_go(mine)
                    mine = None
                    with self.lock:
                        if self.reader is me:
                            self._rest()
                    return False
        finally:
            self._let_go(mine)

    def take(self, packet: bytes, mine: Export | None = None) -> Any:
        """Return the call to execute next, None if another thread executes that object's calls.

        Under the lane's lock, which is what keeps the order.
        """
        peer = self.peer
        if len(packet) < HEADER_SIZE:
            raise ProtocolError(f"a frame of {len(packet)} bytes; the header alone has {HEADER_SIZE}")
        version, kind, flags, seq, handle, code, _, chain, size, objects, _, freed, _ = _unpack(packet)
        data = MessageSequence()
        charge = len(packet)
        if version == 1 and kind == 2 and not flags and not objects and charge == HEADER_SIZE + size:
            data._out = None
            data._in = packet[HEADER_SIZE:]
            if freed:
                peer.slots.given_back(freed - 1)
        else:
            got = accept_request(peer, self, packet, data, frame.ONEWAY)
            charge += got.shared_bytes()
        held = peer.held.get(handle)
        peer.incoming.receive(charge)
        peer.oneway_read = seq
        if peer.deferred:
            peer.node.apply_deferred(peer)
        if held is None:
            self._executed += charge
            level = logging.DEBUG if peer.is_dead else logging.WARNING
            _log.log(level, "a one-way call of %r names object %d, which it does not hold", peer, handle)
            return None
        job = (peer, held, code, data, chain, charge)
        export = held.export
        if export is mine and not export.queue:
            return job
        return self._claim(export, mine, job)

    def _claim(self, export: Export, mine: Export | None, job: Any) -> Any:
        """Queue ``job`` at its object; return the object's next call if this thread is to execute it."""
        with self.peer.node.oneway_lock:
            if export is mine:
                export.queue.append(job)
                return export.queue.popleft()
            if export.running:
                export.queue.append(job)
                return None
            export.running = True
            return job

    def _let_go(self, mine: Export | None) -> None:
        """Execute what others queued at ``mine`` meanwhile, then let others execute its calls."""
        self._count()
        if mine is None:
            return
        with self.peer.node.oneway_lock:
            if not mine.queue:
                mine.running = False
                return
            job = mine.queue.popleft()
        run_queue(job)

    def _count(self) -> None:
        """Count at the peer what the reader executed."""
        executed, self._executed = self._executed, 0
        if not executed:
            return
        peer = self.peer
        with peer.node.oneway_lock:
            report = peer.incoming.execute(executed)
        if report:
            peer.report_credit()

    def handle(self, packet: bytes) -> bool:
        """Handle one packet (event loop: the only reader)."""
        job = self.take(packet)
        if job is not None:
            run_queue(job)
        self._count()
        return False


def run_queue(job: Any) -> None:
    """Execute a one-way call, then those of the same object that arrived meanwhile.

    A coroutine handler goes on by itself: the next call of its object starts when it is done.
    """
    while job is not None:
        if _execute_oneway(job):
            return
        job = _next_oneway(job)


def _next_oneway(job: Any) -> Any:
    """Count ``job`` as executed; return the next one of its object, None when there is none."""
    peer, held, _, _, _, charge = job
    export: Export = held.export
    with peer.node.oneway_lock:
        report = peer.incoming.execute(charge)
        if export.queue:
            following = export.queue.popleft()
        else:
            export.running = False
            following = None
    if report:
        peer.report_credit()
    return following


def _execute_oneway(job: Any) -> bool:
    """Run the handler of a one-way call; return whether a coroutine will go on with the queue."""
    peer, held, code, data, chain, _ = job
    context = CallContext(peer._caller, peer, None, _get_ident(), 0, chain, None, None)
    token = current.set(context)
    try:
        if code <= 0x00FFFFFF:
            result: Any = held.handler(code, data, MessageSequence(), RECEIVED_ASYNC)
        else:
            result = handle_reserved(held.stub, code, data, MessageSequence())
        if result is not True:
            if isinstance(result, Awaitable):
                from binderkit.ipc import loop

                loop.start(result, context, lambda value, error: _oneway_done(job, value, error))
                return True
            check_handled(held.stub, code, result)
    except Exception as error:
        # Nobody waits for the outcome; the log is where it can be seen.
        failure_of(held.stub, error)
    finally:
        current.reset(token)
    return False


def _oneway_done(job: Any, value: Any, error: BaseException | None) -> None:
    """A coroutine handler of a one-way call ended."""
    peer, held, code, _, _, _ = job
    try:
        if error is None:
            check_handled(held.stub, code, value)
    except Exception as refused:
        error = refused
    if error is not None:
        failure_of(held.stub, error)
    following = _next_oneway(job)
    if following is not None:
        peer.node.submit(lambda: run_queue(following))
