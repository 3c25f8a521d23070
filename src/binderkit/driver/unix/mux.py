"""Calls of coroutines: many at a time on one lane per peer and event loop.

Owns: the lane's calls in flight by sequence number. Everything happens on the loop's
thread; no locks. What the socket does not take at once is queued and sent when it is writable.

Rules upheld: replies are matched by sequence number, so a late one can never answer another
call; a cancelled call tells the other side and its late reply is released.
"""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from binderkit import limits
from binderkit.driver.unix import frame, translate
from binderkit.driver.unix.frame import HEADER, HEADER_SIZE, PACKET_MAX
from binderkit.driver.unix.undelivered import Incomplete, Undelivered
from binderkit.errors import CallTimeoutError, IpcError, ProtocolError, QuotaError

if TYPE_CHECKING:
    from binderkit.driver.unix.peer import Peer
    from binderkit.parcel import MessageSequence

_log = logging.getLogger("binderkit.driver")
_pack = HEADER.pack
_unpack = HEADER.unpack_from
_INLINE = limits.INLINE_BODY
_BATCH = 64
"""Replies read before other callbacks of the loop get their turn."""
MAX_QUEUED = 10_000
"""Calls that may wait for a peer that does not read."""


class MuxLane:
    """The lane of one event loop to one peer."""

    nests = False

    def __init__(self, peer: Peer, loop: asyncio.AbstractEventLoop) -> None:
        """Open the lane and read it from ``loop``, which must be the running one."""
        self.peer = peer
        self.loop = loop
        self.lane = peer.open_lane(frame.LANE_MUX)
        self.lane.sock.setblocking(False)
        self.closed = False
        self._waiting: dict[int, tuple[asyncio.Future[None], MessageSequence]] = {}
        self._begun: bytes | None = None
        """a frame whose descriptors have not arrived yet"""
        self._given_up: set[int] = set()
        """calls nobody waits for whose replies have not come yet"""
        self._queue: deque[tuple[bytes, Any]] = deque()
        """frames the socket has no room for, with their messages; no bytes = the frame is out, not its descriptors"""
        loop.add_reader(self.lane.sock.fileno(), self._readable)

    async def call(
        self,
        handle: int,
        code: int,
        data: MessageSequence,
        reply: MessageSequence,
        deadline: float | None,
        chain: int,
    ) -> None:
        """Make one call; see Connection.transact_async."""
        remaining = 0
        if deadline is not None:
            left = deadline - time.monotonic()
            if left <= 0:
                raise CallTimeoutError("the deadline of the call being handled has passed; nothing was sent")
            remaining = max(1, min(0xFFFFFFFF, int(left * 1e6)))
        lane = self.lane
        seq = lane.seq = lane.seq + 1 & 0xFFFFFFFF
        out = data._out
        if data._objects is None and out is not None and len(out) <= _INLINE and not self._queue:
            freed = self.peer.next_freed() if self.peer.freed else 0
            self._send(_pack(1, 1, 0, seq, handle, code, remaining, chain, len(out), 0, 0, freed, 0) + out, None)
        else:
            self._send_general(seq, handle, code, remaining, chain, data)
        future: asyncio.Future[None] = self.loop.create_future()
        self._waiting[seq] = (future, reply)
        if deadline is None:
            try:
                await future
            except asyncio.CancelledError:
                self._cancel(seq)
                raise
            return
        timer = self.loop.call_later(deadline - time.monotonic(), self._expire, seq)
        try:
            await future
        except asyncio.CancelledError:
            self._cancel(seq)
            raise
        finally:
            timer.cancel()

    def _send_general(
        self, seq: int, handle: int, code: int, remaining: int, chain: int, data: MessageSequence
    ) -> None:
        message = translate.Outgoing(self.peer, data, frame.CALL)
        packet = frame.encode(
            frame.CALL,
            0,
            seq,
            handle,
            code,
            remaining,
            chain,
            0,
            message.body,
            message.entries,
            len(message.fds),
        )
        try:
            self._send(packet, message)
        except BaseException:
            message.undo()
            raise

    def _send(self, packet: bytes, message: Any) -> None:
        if self._queue:
            self._enqueue(packet, message)
            return
        try:
            self.lane.send(packet, socket.MSG_NOSIGNAL)
        except BlockingIOError:
            self._enqueue(packet, message)
            return
        except OSError as error:
            raise _unwrapped(self.peer.broken(error)) from None
        if message is not None:
            self._send_rest(message)

    def _enqueue(self, packet: bytes, message: Any) -> None:
        if len(self._queue) >= MAX_QUEUED:
            raise QuotaError(
                f"{MAX_QUEUED} calls wait because process {self.peer.caller.pid} does not read; this one was not sent"
            )
        if not self._queue:
            self.loop.add_writer(self.lane.sock.fileno(), self._writable)
        self._queue.append((packet, message))

    def _send_rest(self, message: Any) -> None:
        """Send the descriptors of a frame that is out: they must be next, so without room they head the queue."""
        try:
            if message.fds:
                translate.send_fds(self.lane.sock, message.fds)
        except BlockingIOError:
            self._enqueue(b"", message)
            return
        except OSError as error:
            # Half a message is out: the lane ends, which the other side sees.
            self._fail(self.peer.dead_error())
            raise _unwrapped(self.peer.broken(error)) from None
        message.sent()

    def _writable(self) -> None:
        try:
            while self._queue:
                packet, message = self._queue[0]
                if packet:
                    self.lane.send(packet, socket.MSG_NOSIGNAL)
                if message is not None:
                    self._queue[0] = (b"", message)  # only its descriptors are left
                    if message.fds:
                        translate.send_fds(self.lane.sock, message.fds)
                    message.sent()
                self._queue.popleft()
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(_unwrapped(self.peer.broken(error)))
            return
        self.loop.remove_writer(self.lane.sock.fileno())

    def _readable(self) -> None:
        recv = self.lane.recv
        waiting = self._waiting
        try:
            for _ in range(_BATCH):
                if self._begun is not None:
                    packet, self._begun = self._begun, None
                    self._general(packet)
                    continue
                packet = recv(PACKET_MAX)
                if len(packet) < HEADER_SIZE:
                    self._fail(_unwrapped(self.peer.broken(None)))
                    return
                version, kind, flags, seq, _, _, _, _, size, objects, _, freed, _ = _unpack(packet)
                if kind != 3 or flags or objects or version != 1 or len(packet) != HEADER_SIZE + size:
                    self._general(packet)
                    continue
                if freed:
                    self.peer.slots.given_back(freed - 1)
                call = waiting.pop(seq, None)
                if call is None:
                    self._given_up.discard(seq)
                    continue
                future, reply = call
                if not future.done():
                    reply._load(packet[HEADER_SIZE:], None)
                    future.set_result(None)
        except BlockingIOError:
            return
        except OSError as error:
            self._fail(_unwrapped(self.peer.broken(error)))
        except ProtocolError as error:
            self.peer.node.disconnect(self.peer, str(error))
            self._fail(error)

    def _general(self, packet: bytes) -> None:
        """Take in a reply with objects, or one that tells of a failure."""
        from binderkit.driver.unix.peer import failure

        got = frame.decode(packet)
        if got.kind != frame.REPLY:
            raise ProtocolError("a call on the lane of an asyncio client")
        try:
            fds = translate.receive_fds(self.lane.sock, got)
        except Incomplete:
            self._begun = packet  # its descriptors are a moment away
            raise BlockingIOError from None
        if got.freed:
            self.peer.slots.given_back(got.freed - 1)
        call = self._waiting.pop(got.seq, None)
        self._given_up.discard(got.seq)
        if call is None or call[0].done():
            translate.dispose(self.peer, got, fds)
            return
        future, reply = call
        if got.flags & frame.FLAG_FAILED:
            translate.dispose(self.peer, got, fds)
            future.set_exception(failure(got))
            return
        try:
            data, objects = translate.accept(self.peer, got, fds)
            reply._load(data, objects)
        except ProtocolError as error:
            future.set_exception(error)
            raise
        except IpcError as error:
            future.set_exception(error)
            return
        future.set_result(None)

    def _cancel(self, seq: int) -> None:
        """The task that waits was cancelled: tell the other side."""
        if self._waiting.pop(seq, None) is not None:
            self._tell_given_up(seq)

    def _tell_given_up(self, seq: int) -> None:
        self._given_up.add(seq)
        self.peer.post(frame.encode_pairs(frame.CANCEL, [(self.lane.number, seq)]))
        self.peer.node.stir()  # the loop may end before the late reply comes; the monitor looks after it then

    def _expire(self, seq: int) -> None:
        call = self._waiting.pop(seq, None)
        if call is None:
            return
        self._tell_given_up(seq)
        if not call[0].done():
            call[0].set_exception(
                CallTimeoutError(
                    "no reply before the deadline; the call may still be executed, its reply will be dropped"
                )
            )

    def peer_died(self) -> None:
        """The peer is gone (any thread)."""
        try:
            self.loop.call_soon_threadsafe(self._fail, self.peer.dead_error())
        except RuntimeError:
            self.loop_closed()

    def loop_closed(self) -> None:
        """The loop is closed, nobody waits any more: late replies are drained like those of any given-up lane."""
        if self.closed:
            return
        self.closed = True
        self._drop_queue()
        self.peer.lane_closed(self.lane)
        self.peer.node.orphans.give_up(self.peer, self.lane)

    @property
    def given_up(self) -> bool:
        """Whether the reply of a call nobody waits for may still come."""
        return bool(self._given_up)

    def _drop_queue(self) -> None:
        for _, message in self._queue:
            if message is not None:
                message.undo()
        self._queue.clear()

    def _fail(self, error: Exception) -> None:
        """End the lane: everybody who waits gets ``error``."""
        if self.closed:
            return
        self.closed = True
        self.loop.remove_reader(self.lane.sock.fileno())
        self.loop.remove_writer(self.lane.sock.fileno())
        self.peer.lane_closed(self.lane)
        self.lane.sock.close()
        self._drop_queue()
        self._given_up.clear()
        waiting, self._waiting = self._waiting, {}
        for future, _ in waiting.values():
            if not future.done():
                future.set_exception(error)


def _unwrapped(error: Exception) -> Exception:
    return error.error if isinstance(error, Undelivered) else error
