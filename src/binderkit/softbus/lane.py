"""One lane: a stream between two devices that carries one call at a time, and its frames.

Owns: ``Lane``, and the bytes on it:

    request   size u32, kind u8, 0 u8, size of the header u16, target u64, header, payload
    answer    size u32, 0 answered or 1 no room u8, payload

``size`` counts what follows it; everything is little-endian. A lane whose call was given up is closed: an answer that
comes late must not pass for that of the next call.

Rules upheld: sizes are checked before anything is allocated; one send and, for what fits the buffer, one receive.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from struct import Struct
from typing import Final

from binderkit import limits
from binderkit.errors import ProtocolError
from binderkit.softbus.bulk_stream import Stream
from binderkit.softbus.engine import Kind

__all__ = ["ANSWERED", "NO_ROOM", "Lane", "Received"]

ANSWERED: Final = 0
NO_ROOM: Final = 1
_SIZE: Final = Struct("<I")
_REQUEST: Final = Struct("<IBBHQ")
_ANSWER: Final = Struct("<IB")
_REST: Final = Struct("<BBHQ")
_LONGEST: Final = _REST.size + limits.RPC_HEADER + limits.RPC_PAYLOAD
_BUFFER: Final = 16 * 1024
"""Bytes of a TLS record: what a small frame comes in."""
_KINDS: Final = {int(kind): kind for kind in Kind}


@dataclass(frozen=True, slots=True)
class Received:
    """A request as it came: its bytes are hostile until checked."""

    kind: Kind
    target: int
    header: bytes
    payload: bytes


class Lane:
    """A stream with a buffer. One thread at a time uses it; ``stream.abort`` ends it from any other."""

    __slots__ = ("_buffer", "stream")

    def __init__(self, stream: Stream) -> None:
        self.stream = stream
        self._buffer = memoryview(bytearray(_BUFFER))

    def ask(self, kind: Kind, target: int, header: bytes, payload: bytes, deadline: float) -> tuple[int, bytes]:
        """Send a request and wait for its answer.

        Args:
            deadline: time.monotonic() at which to give up; the lane is of no use then.

        Returns:
            ANSWERED and the answer, or NO_ROOM and nothing.

        Raises:
            CallTimeoutError: no answer in time (502). DeadObjectError: the stream broke or was ended (-32).
            ProtocolError: the answer makes no sense; the stream is ended (601).
        """
        size = _REST.size + len(header) + len(payload)
        head = _REQUEST.pack(size, kind, 0, len(header), target)
        self.stream.send(head, header, payload, stall=limits.BULK_STALL, deadline=deadline)
        answer = self._receive(deadline)
        status = answer[0] if answer else -1
        if status not in (ANSWERED, NO_ROOM):
            raise self._nonsense(f"an answer of {len(answer)} bytes with status {status}")
        return status, answer[1:]

    def next_request(self) -> Received:
        """Wait for a request, however long it takes.

        Raises:
            DeadObjectError: the stream ended (-32). CallTimeoutError: in the middle of one (502).
            ProtocolError: it makes no sense; the stream is ended (601).
        """
        frame = self._receive(math.inf)
        if len(frame) < _REST.size:
            raise self._nonsense(f"a request of {len(frame)} bytes")
        kind, _, size, target = _REST.unpack_from(frame)
        at = _REST.size + size
        if kind not in _KINDS or size > limits.RPC_HEADER or at > len(frame) or len(frame) - at > limits.RPC_PAYLOAD:
            raise self._nonsense(f"a request of kind {kind} with a header of {size} bytes in {len(frame)}")
        return Received(_KINDS[kind], target, frame[_REST.size : at], frame[at:])

    def answer(self, status: int, payload: bytes) -> None:
        """Answer the request that came last.

        Raises:
            CallTimeoutError, DeadObjectError: it cannot be told (502, -32).
        """
        self.stream.send(_ANSWER.pack(1 + len(payload), status), payload, stall=limits.BULK_STALL)

    def _receive(self, deadline: float) -> bytes:
        """Return what follows the size of the next frame."""
        stream, buffer = self.stream, self._buffer
        got = stream.receive_some(buffer, deadline=deadline)
        while got < _SIZE.size:
            got += stream.receive_some(buffer[got:], deadline=deadline)
        (size,) = _SIZE.unpack_from(buffer)
        if size > _LONGEST or got - _SIZE.size > size:
            raise self._nonsense(f"a frame of {size} bytes")
        end = _SIZE.size + size
        if end <= len(buffer):
            while got < end:
                got += stream.receive_some(buffer[got:], deadline=deadline)
            return bytes(buffer[_SIZE.size : end])
        whole = bytearray(end)
        whole[:got] = buffer[:got]
        stream.receive_into(memoryview(whole)[got:], stall=limits.BULK_STALL, deadline=deadline)
        return bytes(memoryview(whole)[_SIZE.size :])

    def _nonsense(self, what: str) -> ProtocolError:
        self.stream.abort(what)
        return ProtocolError(f"device {self.stream.peer[:8]}… sent {what}; the lane was closed")
