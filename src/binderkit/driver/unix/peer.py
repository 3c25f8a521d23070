"""One other process: the calls to it, the proxies of its objects, what it holds of ours.

Owns: the free lanes, the import table, and the parts that are files of their own: the control
connection's outbox, one-way calls, shared slots. A synchronous call owns a lane
until its reply: one send, one receive, on the caller's own thread.

Rules upheld (ARCHITECTURE):
* Identity: one proxy per remote object for as long as somebody holds it.
* Re-entrancy: a call that comes back while a thread waits here runs on that thread.
* Interrupts: a lane whose reply was not read is never used again (orphans.py).
* Ordering: a release never overtakes what was sent before it (``_fence``).

Lock: ``_lanes_lock`` for the set of lanes, and for dying; held for a few statements, never while calling out.
"""

from __future__ import annotations

import errno
import itertools
import logging
import os
import socket
import threading
import time
import weakref
from collections import deque
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from binderkit import limits
from binderkit.driver.tables import Held, Imports
from binderkit.driver.unix import frame, handshake, outbox, translate
from binderkit.driver.unix.credit import Receiving
from binderkit.driver.unix.frame import HEADER, HEADER_SIZE, PACKET_MAX
from binderkit.driver.unix.oneway import OnewaySender
from binderkit.driver.unix.serve import answer
from binderkit.driver.unix.slots import SharedSlots
from binderkit.driver.unix.undelivered import Answered, Undelivered
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    DescriptorError,
    ParcelReadError,
    ProtocolError,
    QuotaError,
    error_from_status,
)
from binderkit.ipc.context import CallContext, Caller, current, new_chain
from binderkit.ipc.proxy import RemoteProxy
from binderkit.parcel import MessageSequence

if TYPE_CHECKING:
    import asyncio

    from binderkit.driver.unix.lanes import ServedLane
    from binderkit.driver.unix.mux import MuxLane
    from binderkit.driver.unix.node import Node
    from binderkit.ipc.option import MessageOption
    from binderkit.ipc.remote import RemoteObject

_log = logging.getLogger("binderkit.driver")
_pack = HEADER.pack
_unpack = HEADER.unpack_from
_INLINE = limits.INLINE_BODY
_MASK = 0xFFFFFFFF
_NOSIGNAL = socket.MSG_NOSIGNAL
MAX_OUTBOX = 4096
"""Control messages that may wait for a peer that does not read; then it is given up."""


class Lane:
    """Our end of a lane: what a synchronous call owns until its reply."""

    __slots__ = (
        "__weakref__",
        "context",
        "early",
        "kept",
        "late",
        "number",
        "outer",
        "recv",
        "send",
        "seq",
        "sock",
        "unsure",
    )
    pending = None
    nests = True
    """Whether a call that comes back from the other side may use it."""
    send_lock = nullcontext()

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.send = sock.send
        self.recv = sock.recv
        self.number = number
        self.seq = 0
        self.context: CallContext | None = None
        self.late: dict[int, MessageSequence] = {}
        """calls of handlers given up on this lane: their arguments live until the reply comes"""
        self.outer: list[int] = []
        """calls of this thread that wait while it is in an inner one"""
        self.early: dict[int, tuple[frame.Frame, list[int]]] = {}
        """replies to those that came all the same: the other side gave the inner one up"""
        self.unsure: translate.Outgoing | None = None
        """a message that left or did not: an interrupt came right behind the system call"""
        self.kept: object = None
        """arguments of a call that was given up: they live until its reply comes"""

    def __del__(self) -> None:
        # A lane that an interrupt made nobody's own.
        self.sock.close()

    def drained(self, *, answered: bool) -> None:
        """The lane of a call that was given up is at its end: settle what was open."""
        unsure, self.unsure, self.kept = self.unsure, None, None
        if unsure is None:
            return
        if answered:
            unsure.sent()
        else:
            unsure.undo()

    def later_done(self, context: CallContext) -> None:
        """The coroutine has replied."""
        self.context = None


class _NoMore(list[Lane]):
    """The free lanes of a dead peer: none, and one that comes back is closed.

    Left to the garbage collector, its socket could be finalized before the lane, which would be a ResourceWarning.
    """

    def append(self, lane: Lane) -> None:
        """Close a lane whose call ended just when its peer died."""
        lane.sock.close()


class Peer:
    """Another process, as a Connection of its proxies (see ipc/driver.py)."""

    def __init__(self, node: Node, control: socket.socket, node_id: bytes, caller: Caller) -> None:
        self.node = node
        self.node_id = node_id
        self._caller = caller
        self.control = control
        self.pidfd = -1
        self.is_dead = False
        self.expelled = False
        """whether we hung up on it: nothing more it sent is executed"""
        self.death_reason = "its process ended"
        self.free: list[Lane] = []
        # Weak: a lane that an interrupt made nobody's own is closed by the garbage collector.
        self._lanes: weakref.WeakSet[Lane] = weakref.WeakSet()
        self._next_lane = 1
        self._lanes_lock = threading.Lock()
        self.outbox = outbox.Outbox(control)
        self._imports = Imports(self, self._released)
        self.held: dict[int, Held] = {}
        self.served: dict[int, ServedLane] = {}
        self.muxes: dict[asyncio.AbstractEventLoop, MuxLane] = {}
        self.oneway = OnewaySender(self)
        self.incoming = Receiving()
        self.oneway_read = 0
        self.deferred: deque[tuple[int, list[tuple[int, int]]]] = deque()
        self.deferred_count = 0
        self.slots = SharedSlots(self)
        self.freed = self.slots.freed
        self.next_freed = self.slots.next_freed
        self._home: dict[int, list[RemoteProxy]] = {}
        self._home_tokens = itertools.count(1)

    @property
    def caller(self) -> Caller:
        """Identity the kernel vouched for in the handshake."""
        return self._caller

    def __repr__(self) -> str:
        return f"<Peer {self._caller!r}{' dead' if self.is_dead else ''}>"

    # --- calls -------------------------------------------------------------------------------------

    def transact(
        self,
        handle: int,
        code: int,
        data: MessageSequence,
        reply: MessageSequence,
        option: MessageOption | None,
    ) -> int:
        """Make a call (see Connection.transact)."""
        context = current.get()
        if option is None and context is None:
            deadline = None
            remaining = 0
            chain = new_chain()
        else:
            if option is not None and option._flags & 1:
                return self.oneway.send(handle, code, data, context)
            deadline = _deadline(option, context)
            remaining = 0 if deadline is None else _remaining(deadline)
            chain = new_chain() if context is None else context.chain
            if context is not None:
                waiting = self._lane_of_chain(context)
                return self._transact_in_handler(waiting, handle, code, data, reply, deadline, remaining, chain)
        try:
            lane = self.free.pop()
        except IndexError:
            lane = self._new_lane()
        try:
            self._exchange(lane, handle, code, data, reply, deadline, remaining, chain)
        except Undelivered as undelivered:
            self.free.append(lane)
            raise undelivered.error from None
        except Answered as answered:
            self.free.append(lane)
            raise answered.error from None
        except BaseException as error:
            raise self._give_up(lane, data, error) from None
        self.free.append(lane)
        return 0

    def _exchange(
        self,
        lane: Any,
        handle: int,
        code: int,
        data: MessageSequence,
        reply: MessageSequence,
        deadline: float | None,
        remaining: int,
        chain: int,
    ) -> None:
        """Send a call on ``lane`` and wait for its reply there, serving what comes back meanwhile."""
        seq = lane.seq = lane.seq + 1 & _MASK
        out = data._out
        if data._objects is None and out is not None and len(out) <= _INLINE:
            freed = self.next_freed() if self.freed else 0
            try:
                lane.send(
                    _pack(1, 1, 0, seq, handle, code, remaining, chain, len(out), 0, 0, freed, 0) + out, _NOSIGNAL
                )
            except OSError as error:
                raise self.broken(error) from None
        else:
            self.send_general(lane, frame.CALL, 0, seq, handle, code, remaining, chain, data)
        while True:
            if deadline is not None:
                translate.wait_readable(lane.sock, deadline)
            try:
                packet = lane.recv(PACKET_MAX)
            except BlockingIOError:
                continue  # our end of a served lane wakes up every PARK_TIME
            except OSError as error:
                raise self.broken(error) from None
            if not packet:
                raise self.broken(None)
            if len(packet) >= HEADER_SIZE:
                version, kind, flags, answers, _, _, _, _, size, objects, fds, freed, _ = _unpack(packet)
                if (
                    kind == 3
                    and answers == seq
                    and not flags
                    and not objects
                    and version == 1
                    and len(packet) == HEADER_SIZE + size
                ):
                    if freed:
                        self.slots.given_back(freed - 1)
                    if reply._objects is None and reply._in is not None:
                        reply._out = None
                        reply._in = packet[HEADER_SIZE:]
                        reply._pos = reply._reserved = 0
                    else:
                        reply._load(packet[HEADER_SIZE:], None)
                    return
                if kind == 1:
                    if self._answer_nested(lane, packet, seq, fds, reply):
                        return
                    continue
            if self._other_packet(lane, packet, seq, reply):
                return

    def _answer_nested(self, lane: Any, packet: bytes, seq: int, fds: int, reply: MessageSequence) -> bool:
        """Handle a call that came back, with ``fds`` descriptors, while this thread waits for the reply to ``seq``.

        Returns:
            Whether that reply came meanwhile, and was taken in.
        """
        if fds:
            try:
                translate.await_announced(lane.sock)
            except ProtocolError as error:
                self.node.disconnect(self, str(error))
                raise
        lane.outer.append(seq)
        try:
            answer(self, lane, packet)
        except OSError as error:
            raise self.broken(error) from None
        finally:
            lane.outer.pop()
        if seq not in lane.early:
            return False
        early, received = lane.early.pop(seq)
        self._take_in(early, received, reply)
        return True

    def _other_packet(self, lane: Any, packet: bytes, seq: int, reply: MessageSequence) -> bool:
        """Handle what is not a plain reply to ``seq``; return whether the wait is over.

        Raises:
            Answered: the call failed at the other side.
        """
        got = frame.decode(packet)
        try:
            fds = translate.await_fds(lane.sock, got)
        except ConnectionError as error:
            raise self.broken(error) from None
        except DescriptorError as error:
            if got.freed:
                self.slots.given_back(got.freed - 1)
            translate.dispose_lost(self, got)
            if got.kind != frame.REPLY or got.seq != seq:
                return False
            raise Answered(error) from None
        except ProtocolError as error:
            self.node.disconnect(self, str(error))
            raise
        except BaseException:
            # An interrupt: the lane must not be left between a frame and its descriptors, nor the frame's references.
            translate.dispose(self, got, translate.await_fds(lane.sock, got))
            raise
        if got.freed:
            self.slots.given_back(got.freed - 1)
        if got.kind == frame.REPLY and got.seq in lane.outer and got.seq not in lane.early:
            # The other side gave up the call this thread is handling and went on: kept for when we are back there.
            lane.early[got.seq] = got, fds
            return False
        if got.kind != frame.REPLY or got.seq != seq:
            # The late reply of a nested call that timed out on this lane.
            lane.late.pop(got.seq, None)
            translate.dispose(self, got, fds)
            return False
        self._take_in(got, fds, reply)
        return True

    def _take_in(self, got: frame.Frame, fds: list[int], reply: MessageSequence) -> None:
        """Load the reply that was waited for.

        Raises:
            Answered: the call failed at the other side.
        """
        if got.flags & frame.FLAG_FAILED:
            translate.dispose(self, got, fds)
            raise Answered(failure(got))
        data, objects = translate.accept(self, got, fds)
        reply._load(data, objects)

    def dispose_early(self, lane: Any, seq: int | None) -> bool:
        """The call ``seq`` (None: each) was given up though its reply is there; return whether it is."""
        unread = [lane.early.pop(number) for number in list(lane.early) if seq in (None, number)]
        for got, fds in unread:
            translate.dispose(self, got, fds)
        return bool(unread)

    def send_general(
        self,
        lane: Any,
        kind: int,
        flags: int,
        seq: int,
        handle: int,
        code: int,
        remaining: int,
        chain: int,
        data: MessageSequence,
    ) -> translate.Outgoing:
        """Send a message with objects or a large body; return it.

        Raises:
            Undelivered: nothing was sent and nothing stays behind.
        """
        try:
            message = translate.Outgoing(self, data, kind)
        except Exception as error:
            raise Undelivered(error) from None
        freed = self.next_freed() if self.freed else 0
        try:
            packet = frame.encode(
                kind, flags, seq, handle, code, remaining, chain, freed, message.body, message.entries, len(message.fds)
            )
            lane.send(packet, _NOSIGNAL)
        except OSError as error:
            message.undo()
            if freed:
                self.freed.append(freed - 1)
            raise self.broken(error) from None
        except Exception:
            message.undo()
            raise
        except BaseException:
            # An interrupt right behind the system call: whether the message left shows when the lane is drained.
            lane.unsure = message
            raise
        try:
            if message.fds:
                translate.send_fds(lane.sock, message.fds)
        except OSError as error:
            # Half a message is out: the lane is closed, which the receiver sees as such.
            lane.sock.shutdown(socket.SHUT_RDWR)
            message.undo()
            raise self.broken(error) from None
        except BaseException:
            lane.unsure = message
            raise
        message.sent()
        return message

    def _transact_in_handler(
        self,
        lane: ServedLane | Lane | None,
        handle: int,
        code: int,
        data: MessageSequence,
        reply: MessageSequence,
        deadline: float | None,
        remaining: int,
        chain: int,
    ) -> int:
        """A call made by a handler: on the lane of the process that waits for us, or on a lane of its own.

        Another worker waits for requests meanwhile, and lanes that several calls share go to another reader.
        """
        if deadline is not None and deadline <= time.monotonic():
            raise CallTimeoutError("the deadline of the call being handled has passed; nothing was sent")
        own = None
        seq = 0
        worker = self.node.workers.enter_outgoing(self)
        try:
            if lane is None:
                try:
                    own = self.free.pop()
                except IndexError:
                    own = self._new_lane()
            used: Any = own or lane
            seq = used.seq + 1 & _MASK
            self._exchange(used, handle, code, data, reply, deadline, remaining, chain)
        except (Undelivered, Answered) as failed:
            if own is not None:
                self.free.append(own)
            raise failed.error from None
        except BaseException as error:
            if own is None:
                if lane is not None and seq and not self.dispose_early(lane, seq):
                    lane.late[seq] = data
                    if len(lane.late) > limits.MAX_LANES_PER_PEER:
                        del lane.late[next(iter(lane.late))]
                raise
            raise self._give_up(own, data, error) from None
        finally:
            if worker is not None:
                worker.blocked = None
        if own is not None:
            self.free.append(own)
        return 0

    def _lane_of_chain(self, context: CallContext) -> Any:
        """Return the lane on which this process's thread waits for us, None when it does not."""
        me = threading.get_ident()
        level: CallContext | None = context
        while level is not None and level.thread == me:
            if level.peer is self and level.lane is not None and level.lane.nests:
                return level.lane
            level = level.parent
        return None

    def _give_up(self, lane: Lane, data: MessageSequence, error: BaseException) -> BaseException:
        """A call ended without its reply (timeout, interrupt, broken lane): the lane is not used again."""
        self.dispose_early(lane, None)
        if isinstance(error, DeadObjectError):
            lane.sock.close()
        else:
            lane.kept = data
            self.node.orphans.give_up(self, lane)
        self.lane_closed(lane)
        if isinstance(error, ProtocolError):
            self.node.disconnect(self, str(error))
        return error

    def broken(self, error: OSError | None) -> Exception:
        """Return what a call raises whose lane broke: the other process is gone, or hung up on us."""
        if error is not None and error.errno in (errno.EMSGSIZE, errno.ENOBUFS, errno.EMFILE, errno.ETOOMANYREFS):
            return Undelivered(
                QuotaError(f"the system cannot take this message now: {error}; send less, or raise its limits")
            )
        self.node.suspect(self)
        return self.dead_error()

    def dead_error(self) -> DeadObjectError:
        """Return the error of a call to a dead peer, or of one whose lane the peer closed."""
        if not self.is_dead:
            return DeadObjectError(
                f"process {self._caller.pid} closed the lane of this call; it ends, or has no descriptors left"
            )
        return DeadObjectError(f"process {self._caller.pid} cannot be reached any more: {self.death_reason}")

    def check_alive(self) -> None:
        """Raise DeadObjectError or ForkedError when the peer cannot be used."""
        self.node.check_usable()
        if self.is_dead:
            raise self.dead_error()

    def _new_lane(self) -> Lane:
        """Open another lane.

        Raises:
            DeadObjectError, ForkedError: the peer cannot be used.
            QuotaError: too many calls to this peer at once.
        """
        self.check_alive()
        lanes = len(self._lanes) + (self.node.orphans.of(self) if len(self.node.orphans) else 0)
        if lanes >= limits.MAX_LANES_PER_PEER:
            raise QuotaError(
                f"{lanes} calls to process {self._caller.pid} wait for their replies or were given up and are still "
                f"being handled, the limit is {limits.MAX_LANES_PER_PEER}; wait for some, or use "
                "send_message_request, whose calls share one lane"
            )
        return self.open_lane(frame.LANE_SYNC)

    def open_lane(self, kind: int) -> Lane:
        """Give the peer one end of a new socket pair; return ours."""
        try:
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise QuotaError(f"no descriptors left for a connection: {error}; raise ulimit -n") from error
        with self._lanes_lock:
            number = self._next_lane
            self._next_lane += 1
            lane = Lane(ours, number)
            self._lanes.add(lane)
        self.post(frame.encode_pairs(frame.LANE, [(number, kind)]), [theirs.detach()])
        if self.is_dead:
            ours.close()
            raise self.dead_error()
        return lane

    def lane_closed(self, lane: Lane) -> None:
        """One of our lanes is used no more."""
        with self._lanes_lock:
            self._lanes.discard(lane)

    def report_credit(self) -> None:
        """Tell the peer how much of its one-way calls we executed."""
        with self.node.oneway_lock:
            total = self.incoming.report()
        self.post(frame.encode_pairs(frame.CREDIT, [(total, 0)]))

    # --- asyncio -----------------------------------------------------------------------------------

    async def transact_async(
        self,
        handle: int,
        code: int,
        data: MessageSequence,
        reply: MessageSequence,
        option: MessageOption | None,
    ) -> int:
        """Make a call from a coroutine (see Connection.transact_async)."""
        context = current.get()
        if option is not None and option._flags & 1:
            return self.oneway.send(handle, code, data, context)
        import asyncio  # only programs that use it pay for it

        loop = asyncio.get_running_loop()
        mux = self.muxes.get(loop)
        if mux is None or mux.closed:
            from binderkit.driver.unix.mux import MuxLane

            self.check_alive()
            self.check_loops()
            mux = self.muxes[loop] = MuxLane(self, loop)
        deadline = _deadline(option, context) if option is not None or context is not None else None
        chain = new_chain() if context is None else context.chain
        await mux.call(handle, code, data, reply, deadline, chain)
        return 0

    def check_loops(self) -> bool:
        """Give up the lanes of closed event loops; return whether late replies are still to come on others."""
        late = False
        for loop, mux in list(self.muxes.items()):
            if loop.is_closed():
                self.muxes.pop(loop, None)
                mux.loop_closed()
            late = late or mux.given_up
        return late

    # --- the control connection ----------------------------------------------------------------------

    def post(self, packet: bytes, fds: list[int] | None = None) -> None:
        """Send a control message without ever blocking; takes ownership of ``fds``."""
        left = self.outbox.post(packet, fds or [])
        if left:
            self.node.wants_to_write(self, left > outbox.MOST)

    def begin(self) -> None:
        """The handshake is over: control messages leave."""
        left = self.outbox.begin()
        if left:
            self.node.wants_to_write(self, left > outbox.MOST)

    # --- objects of the peer -----------------------------------------------------------------------

    def proxy(self, handle: int) -> RemoteProxy:
        """Return the proxy of the peer's object ``handle``, which it just sent us once more."""
        return self._imports.receive(handle)

    def _released(self, handle: int, count: int) -> None:
        """A proxy died (finalizer: enqueue only)."""
        self.node.note_released(self, handle, count)

    def forget_proxies(self, released: list[tuple[int, int]]) -> None:
        """Tell the peer about proxies that died (monitor, flush)."""
        for handle, _ in released:
            self._imports.forget(handle)
        for at in range(0, len(released), frame.MAX_PAIRS - 1):
            # The first pair is the fence: releases wait at the receiver until it has read that one-way call.
            part = [(self.oneway.fence, 0), *released[at : at + frame.MAX_PAIRS - 1]]
            self.post(frame.encode_pairs(frame.RELEASE, part))

    def live_proxies(self) -> list[RemoteProxy]:
        """Return the proxies somebody holds."""
        return self._imports.live()

    def flush(self) -> None:
        """Send queued releases now."""
        self.node.flush_released()

    def introduce(self, handle: int) -> socket.socket:
        """Have the peer expect a third process for its object; return the end to pass on."""
        ours, theirs = handshake.pair()
        self.post(frame.encode_pairs(frame.INTRODUCE, [(handle, 0)]), [theirs.detach()])
        if self.is_dead:
            ours.close()
            raise self.dead_error()
        return ours

    # --- our objects at the peer -----------------------------------------------------------------------

    def held_stub(self, handle: int) -> RemoteObject:
        """Return our object that the peer sent home.

        Raises:
            ProtocolError: the peer does not hold it.
            DeadObjectError: the peer is gone.
        """
        held = self.held.get(handle)
        if held is None:
            if self.is_dead:  # its references went with it, this message was still on its way
                raise self.dead_error()
            raise ProtocolError(f"the peer sent handle {handle} home, which it does not hold")
        return held.stub

    def new_home_token(self) -> int:
        """Return a number for the homecoming objects of one reply."""
        return next(self._home_tokens)

    def keep_home(self, token: int, proxies: list[RemoteProxy]) -> None:
        """Keep proxies alive until the peer confirms that it resolved them."""
        self._home[token] = proxies

    def home_received(self, token: int) -> None:
        """The peer resolved what a reply brought home."""
        self._home.pop(token, None)

    # --- the end ---------------------------------------------------------------------------------------

    def close(self, reason: str) -> None:
        """Mark the peer dead and wake everybody who waits for it (node: once)."""
        with self._lanes_lock:
            self.is_dead = True
            self.death_reason = reason
            lanes, self._lanes = list(self._lanes), weakref.WeakSet()
        self.outbox.close()
        # First: a lane that comes back from now on is closed.
        former, self.free = self.free, _NoMore()
        idle = set(former)
        former.clear()
        for lane in lanes:
            if lane in idle:
                lane.sock.close()
            else:
                # Whoever waits on it must wake up even if a stray process holds the other end open, and closes it.
                _shut(lane.sock)
        self.oneway.peer_died()
        for mux in list(self.muxes.values()):
            mux.peer_died()
        self.slots.peer_died()
        self._home.clear()

    @property
    def lane_count(self) -> int:
        """How many lanes we opened to the peer."""
        return len(self._lanes)

    def forked(self) -> None:
        """In a forked child: close the parent's descriptors without telling anybody."""
        self.is_dead = True
        self.death_reason = "this is a forked child"
        self.control.close()
        if self.pidfd >= 0:
            os.close(self.pidfd)
        for lane in self._lanes:
            lane.sock.close()
        for served in self.served.values():
            served.sock.close()
        for mux in self.muxes.values():
            mux.lane.sock.close()
        self.free = []
        # The parent's threads may have held locks at the moment of the fork: nothing of them is used again.
        self._lanes_lock = threading.Lock()
        self._imports = Imports(self, self._released)
        self.outbox = outbox.Outbox(self.control)
        self.outbox.close()
        self.oneway = OnewaySender(self)

    def __hash__(self) -> int:
        return id(self)


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError as error:
        _log.debug("shutting down a lane: %s", error)


def failure(got: frame.Frame) -> Exception:
    """Return the error a failed reply tells about."""
    told = MessageSequence._received(got.data, None)
    try:
        return error_from_status(got.code, told.read_string(), told.read_string(), told.read_string())
    except ParcelReadError as error:
        return ProtocolError(f"a failed reply (status {got.code}) whose text cannot be read: {error}")


def _deadline(option: MessageOption | None, context: CallContext | None) -> float | None:
    """Return when a call must be over: its own timeout or the caller's deadline, whichever comes first."""
    deadline = None if context is None else context.deadline
    if option is not None and option._timeout is not None:
        own = time.monotonic() + option._timeout
        return own if deadline is None else min(own, deadline)
    return deadline


def _remaining(deadline: float) -> int:
    """Return the time left in µs as it travels: 0 would mean no deadline, so at least 1."""
    return max(1, min(_MASK, int((deadline - time.monotonic()) * 1e6)))
