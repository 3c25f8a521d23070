"""An open session on its stream: sending, receiving, acknowledgements, and how it ends.

Owns: the stream of one session, the numbers of what waits for its acknowledgement, and the reason of the end.

Rules upheld here:

- Packets arrive whole, once, in order. What wants an acknowledgement gets one when it has arrived on the other device
  and has its place in the queue of the listener; after limits.SESSION_ACK_WAIT seconds without it the session ends,
  for then nobody knows any more what has arrived.
- A session has one end with one reason. A connection that breaks is LINK_DOWN, never taken for a good-bye; a good-bye
  is a frame.
- Everything sent before a good-bye arrives: the side that ends goes on reading until the other one has closed.
- A frame that breaks the rules ends its session (RECV_DATA_ERR) and nothing else.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Protocol

from binderkit import limits
from binderkit.errors import ERR_DEAD_OBJECT, CallTimeoutError, DeadObjectError, ProtocolError, QuotaError
from binderkit.softbus import reasons
from binderkit.softbus.bulk_stream import Stream
from binderkit.softbus.reasons import DataType, ShutdownReason
from binderkit.softbus.session_delivery import Deliveries
from binderkit.softbus.session_frames import (
    HEADER_SIZE,
    Header,
    Kind,
    StreamFrameInfo,
    decode_frame,
    decode_header,
    decode_reason,
    encode_header,
    encode_reason,
)

__all__ = ["Acknowledgement", "Link", "Sink"]

_log = logging.getLogger("binderkit.softbus")

_GOODBYE_WAIT: Final = 1.0
"""Seconds a good-bye may take, and then the other side to close."""
_NEVER: Final = float("inf")
_CODES: Final = {
    ShutdownReason.TIMEOUT: reasons.TIMEOUT,
    ShutdownReason.LNN_OFFLINE: reasons.NODE_OFFLINE,
    ShutdownReason.LINK_DOWN: reasons.NODE_OFFLINE,
}
"""What is told about packets that were not acknowledged when the session ended; ERR_DEAD_OBJECT for the others."""

Sent = Callable[[int], None]
"""Is told how it ended: 0, or a SoftBus code."""


class Acknowledgement:
    """Waits for one acknowledgement; give it as ``sent``."""

    def __init__(self) -> None:
        self._done = threading.Event()
        self._code = reasons.TIMEOUT

    def __call__(self, code: int) -> None:
        """Take the code."""
        self._code = code
        self._done.set()

    def wait(self) -> bool:
        """Return whether it came in time. The session itself ends it after limits.SESSION_ACK_WAIT."""
        return self._done.wait(2 * limits.SESSION_ACK_WAIT)

    def check(self) -> None:
        """Raise unless it arrived.

        Raises:
            CallTimeoutError: nobody said so in time (-426442750). DeadObjectError: the session ended before (-32, or
                -426049520). In both cases it may have arrived.
        """
        if self._code == reasons.TIMEOUT:
            raise CallTimeoutError("the message was not acknowledged in time; it may have arrived", code=self._code)
        if self._code != reasons.OK:
            raise DeadObjectError(
                "the session ended before the message was acknowledged; it may have arrived", code=self._code
            )


class Sink(Protocol):
    """Who gets what arrives; called one at a time, on the thread of the deliveries."""

    def got_bytes(self, data: bytes) -> None:
        """A packet came."""

    def got_message(self, data: bytes) -> None:
        """A message came."""

    def got_frame(self, info: StreamFrameInfo, extension: bytes, data: bytes) -> None:
        """A stream's frame came."""

    def ended(self, reason: ShutdownReason) -> None:
        """The session ended, not by our own shutdown; nothing comes after this."""


@dataclass(slots=True)
class _Pending:
    until: float
    sent: Sent


class Link:
    """An open session. ``run`` receives until it ends; everything else is for any thread."""

    def __init__(
        self,
        stream: Stream,
        data_type: DataType,
        sink: Sink,
        *,
        broken: Callable[[], ShutdownReason],
        max_idle: float | None = None,
    ) -> None:
        """Take over an open stream, whose owner still closes it after ``run``.

        Args:
            broken: returns the reason for a connection that broke.
            max_idle: seconds without data after which the session ends; None: never.
        """
        self._stream = stream
        self._carries = _carried(data_type)
        self._sink = sink
        self._broken = broken
        self._max_idle = _NEVER if max_idle is None else max_idle
        self._used = time.monotonic()
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._pending: dict[int, _Pending] = {}
        self._reason: ShutdownReason | None = None
        self._drained = 0.0
        self._deliveries = Deliveries("softbus-listener")

    @property
    def reason(self) -> ShutdownReason | None:
        """Why the session ended; None while it is open."""
        return self._reason

    # --- Sending ------------------------------------------------------------------------------------

    def send(self, kind: Kind, *buffers: bytes | bytearray | memoryview) -> None:
        """Send a packet; returns when the kernel has it.

        Raises:
            DeadObjectError: the session has ended (-32). CallTimeoutError: the other side takes nothing (-426442750).
        """
        self._send(encode_header(kind, sum(map(len, buffers))), *buffers)

    def send_acknowledged(self, kind: Kind, *buffers: bytes | bytearray | memoryview, sent: Sent) -> None:
        """Send a packet; ``sent`` is called once: with 0 when it has arrived, else with a SoftBus code.

        Raises:
            QuotaError: limits.MAX_SESSION_UNACKED wait already (-426115065). Else as ``send``, and then ``sent`` is
                not called.
        """
        number = next(self._numbers) & 0xFFFFFFFF
        with self._lock:
            self._check()
            if len(self._pending) >= limits.MAX_SESSION_UNACKED:
                raise QuotaError(
                    f"{limits.MAX_SESSION_UNACKED} packets of this session wait for their acknowledgement; "
                    "wait for some of them",
                    code=reasons.COUNT_LIMIT,
                )
            self._pending[number] = _Pending(time.monotonic() + limits.SESSION_ACK_WAIT, sent)
        try:
            self._send(encode_header(kind, sum(map(len, buffers)), number, ack=True), *buffers)
        except BaseException:
            with self._lock:
                still_ours = self._pending.pop(number, None) is not None
            if still_ours:
                raise
            # The end of the session has told ``sent`` already: once is enough.

    def send_message(self, data: bytes | bytearray | memoryview) -> None:
        """Send a message and wait until it has arrived; not for the thread that receives.

        Raises: see ``send_acknowledged``; CallTimeoutError after limits.SESSION_ACK_WAIT seconds, also when the session
            ends before the acknowledgement came: it may have arrived.
        """
        acknowledgement = Acknowledgement()
        self.send_acknowledged(Kind.MESSAGE, data, sent=acknowledgement)
        if not acknowledgement.wait():
            self.end(ShutdownReason.TIMEOUT)
        acknowledgement.check()

    def _send(self, *buffers: bytes | bytearray | memoryview) -> None:
        self._check()
        try:
            self._stream.send(*buffers, stall=limits.SESSION_ACK_WAIT)
        except CallTimeoutError as error:
            self._end(ShutdownReason.TIMEOUT)
            raise CallTimeoutError(
                f"the other device took nothing for {limits.SESSION_ACK_WAIT:g} s; the session has ended",
                code=reasons.TIMEOUT,
            ) from error
        except DeadObjectError as error:
            raise DeadObjectError(f"the session has ended: {error}") from error
        self._used = time.monotonic()

    def _check(self) -> None:
        if self._reason is not None:
            raise DeadObjectError(f"the session has ended ({self._said()}); bind a new socket")

    def _said(self) -> str:
        return "connection lost" if self._reason is None else self._reason.name.lower().replace("_", " ")

    # --- Receiving ----------------------------------------------------------------------------------

    def run(self) -> None:
        """Receive until the session has ended and its stream is not needed any more."""
        try:
            while self._reason is None:
                if self._stream.readable(self._patience()):
                    self._receive_one()
                else:
                    self._look_at_times()
        except ProtocolError as error:
            _log.warning("device %s broke the protocol of sessions: %s", self._stream.peer, error)
            self.end(ShutdownReason.RECV_DATA_ERR)
        except (DeadObjectError, CallTimeoutError) as error:
            if self._reason is None:
                _log.info("a session with device %s lost its connection: %s", self._stream.peer, error)
            self._end(self._broken())
        except Exception:
            _log.exception("a session with device %s failed", self._stream.peer)
            self.end(ShutdownReason.UNEXPECTED)
        self._stream.drain(self._drained)

    def _patience(self) -> float:
        """Return the seconds after which the times have to be looked at though nothing came."""
        idle = self._used + self._max_idle - time.monotonic()
        return max(0.0, min(limits.SESSION_ACK_WAIT / 4, idle))

    def _look_at_times(self) -> None:
        now = time.monotonic()
        with self._lock:
            late = any(pending.until <= now for pending in self._pending.values())
        if late or self._used + self._max_idle <= now:
            self.end(ShutdownReason.TIMEOUT)

    def _receive_one(self) -> None:
        wait = limits.SESSION_ACK_WAIT
        header = decode_header(self._stream.receive(HEADER_SIZE, stall=wait))
        if header.kind not in self._carries:
            raise ProtocolError(f"a frame of kind {header.kind.name} in a session that does not carry it")
        deadline = time.monotonic() + wait + header.length / limits.BULK_MIN_RATE
        data = self._stream.receive(header.length, stall=wait, deadline=deadline)
        if self._reason is not None:
            return  # we have said good-bye already
        if header.kind is Kind.ACK:
            self._acknowledged(header.number)
        elif header.kind is Kind.SHUTDOWN:
            self._other_side_ended(decode_reason(data))
        else:
            self._used = time.monotonic()
            self._take(header, data)

    def _take(self, header: Header, data: bytearray) -> None:
        """Queue what came for the listener, and acknowledge it when that is wanted."""

        def acknowledge() -> None:
            if header.ack:
                self._acknowledge(header.number)

        sink, size = self._sink, len(data)
        if header.kind is Kind.MESSAGE:
            self._deliveries.put_message(size, lambda: sink.got_message(bytes(data)), acknowledge)
            return
        if header.kind is Kind.BYTES:
            self._deliveries.put(size, lambda: sink.got_bytes(bytes(data)))
        else:
            info, extension, rest = decode_frame(data)
            self._deliveries.put(size, lambda: sink.got_frame(info, extension, rest))
        acknowledge()

    def _acknowledge(self, number: int) -> None:
        try:
            self._stream.send(encode_header(Kind.ACK, 0, number), stall=limits.SESSION_ACK_WAIT)
        except (DeadObjectError, CallTimeoutError) as error:
            _log.info("an acknowledgement to device %s was not sent: %s", self._stream.peer, error)

    def _acknowledged(self, number: int) -> None:
        with self._lock:
            pending = self._pending.pop(number, None)
        if pending is None:
            raise ProtocolError(f"an acknowledgement for {number}, which is not waited for")
        pending.sent(reasons.OK)

    def _other_side_ended(self, reason: ShutdownReason) -> None:
        """Take the other side's good-bye; LOCAL there is PEER here."""
        self._end(ShutdownReason.PEER if reason in (ShutdownReason.LOCAL, ShutdownReason.UNKNOWN) else reason)

    def queue(self, call: Callable[[], None]) -> None:
        """Have something else called in line with what arrives, on the listener's thread; never waits."""
        self._deliveries.push(call)

    # --- The end ------------------------------------------------------------------------------------

    def end(self, reason: ShutdownReason) -> None:
        """End the session and say good-bye. LOCAL is not reported to the listener; what waits for it is dropped."""
        if self._end(reason, drain=True):
            said = encode_reason(reason)
            self._stream.finish(encode_header(Kind.SHUTDOWN, len(said)) + said, wait=_GOODBYE_WAIT)

    def _end(self, reason: ShutdownReason, *, drain: bool = False) -> bool:
        """Enter the reason and tell everybody here; returns False when the session had ended before."""
        with self._lock:
            if self._reason is not None:
                return False
            self._reason = reason
            if drain:
                self._drained = time.monotonic() + 2 * _GOODBYE_WAIT
            pending, self._pending = self._pending, {}
        code = _CODES.get(reason, ERR_DEAD_OBJECT)
        for waiting in pending.values():
            waiting.sent(code)
        self._deliveries.close(None if reason is ShutdownReason.LOCAL else lambda: self._sink.ended(reason))
        return True

    def join(self) -> None:
        """Wait for the listener's last call, unless this is it."""
        self._deliveries.join()


def _carried(data_type: DataType) -> frozenset[Kind]:
    """Return the kinds of frames that a session may carry once it is open."""
    if data_type is DataType.MESSAGE:
        return frozenset((Kind.MESSAGE, Kind.ACK, Kind.SHUTDOWN))
    if data_type is DataType.BYTES:
        return frozenset((Kind.BYTES, Kind.ACK, Kind.SHUTDOWN))
    return frozenset((Kind.STREAM, Kind.SHUTDOWN))
