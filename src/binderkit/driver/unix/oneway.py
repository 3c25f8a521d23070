"""One-way calls to one peer: the lane they all share, its order and its budget.

Owns: the sending side. All one-way calls to a process travel on one lane, numbered, so that
they are executed in the order sent; a release of a reference names the last number it must
not overtake (``fence``).

Locks: ``_lock`` is held while a call is numbered and sent, for as long as the socket takes (at most
ONEWAY_SEND_WAIT). ``_news`` guards the budget only, so that the monitor never waits for a sender.
"""

from __future__ import annotations

import socket
import struct
import threading
from typing import TYPE_CHECKING

from binderkit import limits
from binderkit.driver.unix import frame, translate
from binderkit.driver.unix.credit import Sending
from binderkit.driver.unix.frame import HEADER, HEADER_SIZE
from binderkit.driver.unix.undelivered import Undelivered
from binderkit.errors import QuotaError
from binderkit.ipc.context import CallContext, new_chain
from binderkit.parcel.objects import KIND_BLOB

if TYPE_CHECKING:
    from binderkit.driver.unix.peer import Lane, Peer
    from binderkit.parcel import MessageSequence

_pack = HEADER.pack
_INLINE = limits.INLINE_BODY
_BUDGET = limits.ONEWAY_BUDGET
_NOSIGNAL = socket.MSG_NOSIGNAL


class OnewaySender:
    """One-way calls of this process to one peer."""

    __slots__ = ("_answers", "_credit", "_lane", "_lock", "_news", "_peer")

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._lane: Lane | None = None
        self._lock = threading.Lock()
        self._credit = Sending()
        self._news = threading.Condition(threading.Lock())
        self._answers = 0

    def send(self, handle: int, code: int, data: MessageSequence, context: CallContext | None) -> int:
        """Send a call nobody waits for; return 0 once the peer's socket has it.

        Raises:
            DeadObjectError: the peer is gone.
            QuotaError: too much waits there already; nothing was sent.
        """
        chain = new_chain() if context is None else context.chain
        peer = self._peer
        credit = self._credit
        out = data._out
        with self._lock:
            lane = self._lane or self._open()
            if data._objects is not None or out is None or len(out) > _INLINE:
                self._send_general(lane, handle, code, chain, data)
            else:
                charge = HEADER_SIZE + len(out)
                if credit.sent - credit.acknowledged + charge > _BUDGET:
                    self._await_credit(charge)
                # Counted before it is sent: an interrupt right behind the system call must not leave a call
                # uncounted, or the peer's honest report would look like a lie.
                seq = lane.seq = lane.seq + 1 & 0xFFFFFFFF
                credit.sent += charge
                freed = peer.next_freed() if peer.freed else 0
                try:
                    lane.send(
                        _pack(1, 2, 0, seq, handle, code, 0, chain, len(out), 0, 0, freed, 0) + out, socket.MSG_NOSIGNAL
                    )
                except OSError as error:
                    self._take_back(lane, charge)
                    if freed:
                        peer.freed.append(freed - 1)
                    raise self._failed(error) from None
        return 0

    def _open(self) -> Lane:
        self._peer.check_alive()
        lane = self._peer.open_lane(frame.LANE_ONEWAY)
        lane.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval(limits.ONEWAY_SEND_WAIT))
        self._lane = lane
        return lane

    def _send_general(self, lane: Lane, handle: int, code: int, chain: int, data: MessageSequence) -> None:
        """Send a call with objects or a large body."""
        most = _size_of(data)
        self._await_credit(most)
        seq = lane.seq = lane.seq + 1 & 0xFFFFFFFF
        self._credit.sent += most
        try:
            message = self._peer.send_general(lane, frame.ONEWAY, 0, seq, handle, code, 0, chain, data)
        except Undelivered as failed:
            self._take_back(lane, most)
            raise failed.error from None
        self._credit.sent += message.charge - most

    def _take_back(self, lane: Lane, charge: int) -> None:
        """A call that was counted did not leave."""
        lane.seq = lane.seq - 1 & 0xFFFFFFFF
        self._credit.sent -= charge

    def _failed(self, error: OSError) -> Exception:
        if isinstance(error, BlockingIOError):
            return QuotaError(
                f"process {self._peer.caller.pid} has not read its one-way calls for {limits.ONEWAY_SEND_WAIT} s; "
                "it is stopped or overloaded, this call was not sent"
            )
        broken = self._peer.broken(error)
        return broken.error if isinstance(broken, Undelivered) else broken

    def _await_credit(self, size: int) -> None:
        """Return when ``size`` fits into the budget; ask the peer once before refusing.

        Raises:
            QuotaError: the peer has not executed enough of what it has.
        """
        credit = self._credit
        if credit.fits(size):
            return
        answers = self._answers
        self._peer.post(frame.encode_control(frame.CREDIT_QUERY))
        with self._news:
            self._news.wait_for(lambda: self._answers != answers or self._peer.is_dead, timeout=limits.ONEWAY_SEND_WAIT)
        self._peer.check_alive()
        if not credit.fits(size):
            raise QuotaError(
                f"{credit.sent - credit.acknowledged} bytes of one-way calls wait at process "
                f"{self._peer.caller.pid}, {size} more cross the budget of {_BUDGET}; "
                "this call was not sent: slow down, or make a synchronous call now and then"
            )

    def acknowledged(self, total: int) -> None:
        """The peer reports how much it executed (monitor).

        Raises:
            ProtocolError: more than was sent.
        """
        with self._news:
            self._credit.acknowledge(total)
            self._answers += 1
            self._news.notify_all()

    def peer_died(self) -> None:
        """Wake senders; close the lane, which is shut already, once none of them uses it."""
        with self._news:
            self._news.notify_all()
        with self._lock:
            if self._lane is not None:
                self._lane.sock.close()

    @property
    def fence(self) -> int:
        """Number of the last one-way call: what is released now must not overtake it."""
        lane = self._lane
        return 0 if lane is None else lane.seq


def _size_of(data: MessageSequence) -> int:
    """Return what a message will be charged, before it is translated."""
    body = translate.readable(data)
    size = HEADER_SIZE + len(body) + frame.ENTRY.size  # a large body has an entry of its own
    for offset, (kind, _) in (data._objects or {}).items():
        size += frame.ENTRY.size
        if kind == KIND_BLOB:
            size += struct.unpack_from("<i", body, offset - 4)[0]
    return size


def timeval(seconds: float) -> bytes:
    """Return ``seconds`` as the struct timeval that SO_SNDTIMEO and SO_RCVTIMEO take."""
    return struct.pack("ll", int(seconds), int(seconds % 1 * 1e6))
