"""Lanes of a peer on which its calls arrive, and who reads them.

Owns: reading. A worker that got a lane from the epoll set stays parked on it for PARK_TIME, so a
busy client costs no epoll round per call; an idle lane goes back, so thousands of idle clients cost no thread.

A *shared* lane (the calls of an event loop; one-way calls, see oneway_lane.py) is read by one thread at
a time. A handler that takes long, or calls out, gives the reading away (``hand_over``); replies
then leave in the order they are ready.

Rules upheld (ARCHITECTURE): Threads (never park the last waiting thread), Bounded (a peer that announces
descriptors and does not send them holds no thread: the frame waits in ``begun``).

Locks: ``SharedLane.lock`` is held while reading (it may park there for PARK_TIME); ``_sending`` keeps a
frame and its descriptors together.
"""

from __future__ import annotations

import logging
import socket
import threading
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from binderkit import limits
from binderkit.driver.unix import frame, translate
from binderkit.driver.unix.frame import HEADER_SIZE, PACKET_MAX
from binderkit.driver.unix.serve import accept_request, answer, refuse
from binderkit.driver.unix.undelivered import Incomplete
from binderkit.driver.unix.workers import reading
from binderkit.errors import DescriptorError, IpcError, ProtocolError
from binderkit.ipc.context import CallContext
from binderkit.parcel import MessageSequence

if TYPE_CHECKING:
    from binderkit.driver.unix.peer import Peer

_log = logging.getLogger("binderkit.driver")
_LOOP_BATCH = 64
"""Packets of one lane an event loop handles before the other lanes get their turn."""
_NO_LOCK = nullcontext()


class ServedLane:
    """A lane of a peer on which one synchronous call at a time arrives."""

    __slots__ = (
        "begun",
        "context",
        "early",
        "fd",
        "late",
        "number",
        "outer",
        "peer",
        "pending",
        "recv",
        "send",
        "seq",
        "sock",
        "unsure",
        "workers",
    )

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
        self.late: dict[int, MessageSequence] = {}
        """calls back that handlers gave up on this lane: their arguments live until the reply comes, or their
        release would overtake the call"""
        self.outer: list[int] = []
        """calls back of the handling thread that wait while it is in an inner one"""
        self.early: dict[int, tuple[frame.Frame, list[int]]] = {}
        """replies to those that came all the same: the other side gave the inner one up"""
        self.unsure: translate.Outgoing | None = None
        self.begun: bytes | None = None
        """a frame whose descriptors have not arrived yet"""

    def serve(self) -> None:
        """Serve calls until the lane has been quiet for PARK_TIME."""
        recv = self.recv
        workers = self.workers
        peer = self.peer
        while True:
            try:
                packet = recv(PACKET_MAX) if self.begun is None else self.go_on()
            except BlockingIOError:
                workers.arm(self.fd)
                return
            except OSError as error:
                self.fail(error)
                return
            try:
                if not packet:
                    self.close()
                    return
                if answer(peer, self, packet):
                    return  # armed again when the coroutine has replied
            except Incomplete:
                self.begun = packet
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
        for _ in range(_LOOP_BATCH):
            try:
                packet = self.recv(PACKET_MAX, socket.MSG_DONTWAIT) if self.begun is None else self.go_on()
            except BlockingIOError:
                break
            except OSError as error:
                self.fail(error)
                return
            try:
                if not packet:
                    self.close()
                    return
                if self.handle(packet):
                    return
            except Incomplete:
                self.begun = packet
                break
            except Exception as error:
                self.fail(error)
                return
            except BaseException:
                self.workers.arm(self.fd)  # an interrupt ends the loop; whoever serves next goes on here
                raise
        self.workers.arm(self.fd)

    def go_on(self) -> bytes:
        """Return the frame whose descriptors had not arrived."""
        packet, self.begun = self.begun, None
        assert packet is not None
        return packet

    def handle(self, packet: bytes) -> bool:
        """Handle one packet (event loop); return whether the lane rests until a coroutine has replied."""
        return answer(self.peer, self, packet)

    def fail(self, error: Exception) -> None:
        """The lane cannot go on: close it; a peer that broke the protocol is disconnected."""
        if isinstance(error, OSError) and not isinstance(error, IpcError):
            if isinstance(error, BlockingIOError):
                _log.warning("%r is closed: its client has not read replies for %s s", self, limits.ONEWAY_SEND_WAIT)
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
        """The caller gave up its call here, and with it all that are nested in it, whatever ``seq`` is (monitor)."""
        context = self.context
        while context is not None:
            if context.lane is self:
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
        self.hang_up()

    def hang_up(self) -> None:
        """Let whoever reads the lane find its end; what is queued is still read before it (any thread)."""
        try:
            # A stray process may hold the other end open; what is queued can still be read after this.
            self.sock.shutdown(socket.SHUT_RDWR)
        except OSError as error:
            _log.debug("%r is closed already: %s", self, error)

    def close(self) -> None:
        """Stop serving the lane. Once: by the second time another lane may have its descriptor's number."""
        if self.peer.served.pop(self.number, None) is not self:
            return
        self.workers.remove(self.fd)
        self.sock.close()
        self.late.clear()  # an idle worker may keep this object in a variable for a long time
        if self.peer.is_dead:
            self.peer.node.drained(self.peer)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.number} of {self.peer!r}>"


class Reader:
    """One thread's turn at reading a shared lane.

    Attributes:
        busy: whether it is in a handler. Each has its own, because the one that gave the reading away
            ends its handler while the next is in another.
    """

    __slots__ = ("busy",)

    def __init__(self) -> None:
        self.busy = False


class SharedLane(ServedLane):
    """A lane on which many calls may be under way: those of an asyncio client, answered as they are ready."""

    __slots__ = ("_sending", "lock", "progress", "reader", "seen")

    nests = False

    def __init__(self, peer: Peer, sock: socket.socket, number: int) -> None:
        super().__init__(peer, sock, number)
        self.lock = threading.Lock()
        self._sending = threading.RLock()
        self.send = self._send_locked
        self.reader: Reader | None = None
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
        me = Reader()
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
            with self.lock:
                reads = self.reader is me
            if reads or isinstance(error, ProtocolError):
                self.fail(error)
            else:
                # Another thread may be reading: it sees the end and closes. Closed under its feet, it would read
                # from, or arm, whatever gets the descriptor's number next.
                _log.debug("%r broke while a call was handled: %s", self, error)
                self.hang_up()
        finally:
            reading(None)

    def _serve_one(self, me: Reader) -> bool:
        """Read and handle one packet; return whether to go on."""
        with self.lock:
            if self.reader is not me:
                return False
            try:
                packet = self.recv(PACKET_MAX) if self.begun is None else self.go_on()
            except BlockingIOError:
                self.rest()
                return False
            if not packet:
                self.close()
                return False
            self.progress += 1
            me.busy = True
            try:
                job = self.take(packet)
            except Incomplete:
                self.begun = packet
                self.rest()
                return False
        self.run(job)
        me.busy = False
        if self.workers.waiting:
            return True
        with self.lock:
            if self.reader is me:
                self.rest()
        return False

    def rest(self) -> None:
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
        reader = self.reader
        if reader is not None and reader.busy and self.seen == self.progress:
            self.hand_over()
        self.seen = self.progress

    def take(self, packet: bytes) -> Any:
        """Turn a packet into a job, None if it was refused; under the lane's lock, with the descriptors that follow."""
        if has_more(packet):
            data = MessageSequence()
            try:
                accept_request(self.peer, self, packet, data, frame.CALL)
            except DescriptorError as error:
                refuse(self.peer, self, packet, error)
                return None
            return packet, data
        return packet, None

    def handle(self, packet: bytes) -> bool:
        """Handle one packet (event loop: the only reader)."""
        self.run(self.take(packet))
        return False

    def run(self, job: Any) -> None:
        """Handle a job, outside the lock."""
        if job is None:
            return
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
