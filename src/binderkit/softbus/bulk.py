"""Raw data between devices: what is too large for a message, over streams of its own.

Owns: the transfers. The sender puts data and gets a ticket; the ticket travels in an ordinary message; the receiver
takes the data with it.

Why the receiver fetches it: nothing large arrives that nobody asked for, so a device that floods fills its own memory
only; data lands where the receiver wants it; and it may fetch again when a transfer broke. RPC messages have another
connection and never wait behind a transfer.

On the wire, after the stream's hello: taker: ``TAKE`` and the ticket; holder: status and the size, then the data;
taker, when it has all: ``DONE``, or the next ``TAKE``, which says the same. Streams are kept for the next transfer.

Rules upheld here:

- Sizes are checked before memory is allocated, against the ticket, the limit and what is being received already.
- A transfer ends: after limits.BULK_STALL seconds without a byte, or when it is slower than limits.BULK_MIN_RATE.
- What arrives is complete, or an error is raised.
"""

from __future__ import annotations

import logging
import mmap
import struct
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from binderkit import limits
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    InvalidObjectError,
    NotTrustedError,
    ParamTypeError,
    ParamValueError,
    ProtocolError,
    QuotaError,
)
from binderkit.softbus.bulk_offers import TICKET_SIZE, Offer, Offers, ticket_size
from binderkit.softbus.bulk_port import Purpose, StreamPort

if TYPE_CHECKING:
    from collections.abc import Iterator

    from binderkit.softbus.bulk_stream import Stream

__all__ = ["TICKET_SIZE", "BulkPort", "ticket_size"]

_log = logging.getLogger("binderkit.softbus")

_REQUEST: Final = struct.Struct(f"<B7x{TICKET_SIZE}s")
_ANSWER: Final = struct.Struct("<B7xQ")
_SMALL: Final = 256 * limits.KIB
"""Bytes up to which a bytearray is filled; above, mapped memory, which costs nothing until it is filled."""


class _Operation(IntEnum):
    TAKE = 1
    DONE = 2


class _Status(IntEnum):
    HERE = 0
    NO_SUCH_TICKET = 1


class BulkPort:
    """Puts and takes raw data; any thread. Made before its port is started; close it before the port."""

    def __init__(self, port: StreamPort, *, clock: Callable[[], float] = time.monotonic) -> None:
        """Serve raw data at ``port``; ``clock`` decides when what was not taken is forgotten."""
        self._port = port
        self._clock = clock
        self._offers = Offers()
        self._lock = threading.Lock()
        self._idle: defaultdict[str, list[tuple[float, Stream]]] = defaultdict(list)
        self._receiving = 0
        self._closed = False
        self._sweeper: threading.Timer | None = None
        port.serve(Purpose.RAW_DATA, self._serve)

    # --- The sender ---------------------------------------------------------------------------------

    def put(self, udid: str, data: memoryview) -> bytes:
        """Keep data for a device, and return the ticket to send it.

        The data is not copied: it must stay as it is until the device took it, the ticket was dropped, or
        limits.BULK_KEPT seconds have passed.

        Args:
            data: 1 … limits.MAX_RAW_DATA bytes, C-contiguous.

        Raises:
            NotTrustedError: the device is not trusted (-425983984).
            TooBigError (1900009), ParamValueError (401), QuotaError (29201): see ``Offers.put``.
        """
        if not self._port.trusts(udid):
            raise NotTrustedError(f"device {udid} is not trusted; pair the two devices first")
        try:
            flat = memoryview(data).cast("B")
        except TypeError as error:
            raise ParamTypeError(f"raw data must be C-contiguous bytes: {error}") from error
        ticket = self._offers.put(udid, flat, self._clock())
        self._sweep_later()
        return ticket

    def drop(self, ticket: bytes) -> bool:
        """Forget data that nobody will take, because its message was not sent; returns whether it was there."""
        return self._offers.drop(ticket)

    def _serve(self, stream: Stream) -> None:
        """Answer the requests of one stream until it ends."""
        held: Offer | None = None
        try:
            while stream.readable(2 * limits.BULK_IDLE):
                request = stream.receive(_REQUEST.size, stall=limits.BULK_STALL)
                operation, ticket = _REQUEST.unpack(request)
                if operation not in (_Operation.TAKE, _Operation.DONE):
                    raise ProtocolError(f"device {stream.peer} sent operation {operation} for raw data; 1 and 2 exist")
                self._ended(held, taken=True)
                held = None
                if operation == _Operation.TAKE:
                    held = self._give(stream, ticket)
        except DeadObjectError as error:
            if held is not None:
                _log.info("device %s broke off a transfer of raw data: %s", stream.peer, error)
        finally:
            self._ended(held, taken=False)

    def _ended(self, held: Offer | None, *, taken: bool) -> None:
        if held is not None:
            self._offers.end(held, self._clock(), taken=taken)

    def _give(self, stream: Stream, ticket: bytes) -> Offer | None:
        offer = self._offers.begin(stream.peer, ticket, self._clock())
        if offer is None:
            self._port.refused(stream, "a ticket for raw data that is not its own, or too old")
            stream.send(_ANSWER.pack(_Status.NO_SUCH_TICKET, 0), stall=limits.BULK_STALL)
            return None
        try:
            answer = _ANSWER.pack(_Status.HERE, len(offer.data))
            deadline = time.monotonic() + _longest(len(offer.data))
            stream.send(answer, offer.data, stall=limits.BULK_STALL, deadline=deadline)
        except BaseException:
            self._ended(offer, taken=False)
            raise
        return offer

    def _sweep_later(self) -> None:
        """See to it that what nobody takes goes even when nothing else happens."""
        with self._lock:
            if self._sweeper is not None or self._closed:
                return
            self._sweeper = threading.Timer(limits.BULK_KEPT, self._sweep)
            self._sweeper.name = "softbus-bulk-sweeper"
            self._sweeper.daemon = True
            self._sweeper.start()

    def _sweep(self) -> None:
        now = self._clock()
        self._offers.sweep(now)
        self._close_idle(time.monotonic() - limits.BULK_IDLE)
        with self._lock:
            self._sweeper = None
            again = bool(self._idle)
        if again or len(self._offers):
            self._sweep_later()

    # --- The receiver -------------------------------------------------------------------------------

    def take(
        self,
        source: str,
        ticket: bytes,
        *,
        timeout: float | None = None,
        into: Callable[[int], memoryview] | None = None,
    ) -> memoryview:
        """Fetch the data behind a ticket from the device that gave it.

        Args:
            source: the device's UDID, proven by what carried the ticket.
            timeout: seconds for everything; None: as long as it goes on, and not slower than limits.BULK_MIN_RATE.
            into: is given the size and returns the writable memory to fill; None: memory of its own.

        Returns:
            The filled memory, all of it received.

        Raises:
            ProtocolError: no ticket, or the device answers with something else than it announced (601).
            InvalidObjectError: the device has nothing under this ticket (any more) (1900008).
            DeadObjectError: it cannot be reached or left meanwhile (-32). CallTimeoutError: too slow (502).
            NotTrustedError: not trusted (-425983984). QuotaError: too much is being received already (29201).
        """
        size = ticket_size(ticket)
        deadline = time.monotonic() + (_longest(size) if timeout is None else timeout)
        with self._budget(size):
            target = (into or _memory)(size)
            view = target.cast("B")
            if len(view) != size or view.readonly:
                raise ParamValueError(f"into() must return {size} writable bytes, it returned {len(view)}")
            self._fetch(source, ticket, view, deadline)
        return target

    @contextmanager
    def _budget(self, size: int) -> Iterator[None]:
        with self._lock:
            if self._receiving + size > limits.MAX_BULK_RECEIVING:
                raise QuotaError(
                    f"{self._receiving} bytes of raw data are being received already, {size} more would exceed "
                    f"{limits.MAX_BULK_RECEIVING}; try again later"
                )
            self._receiving += size
        try:
            yield
        finally:
            with self._lock:
                self._receiving -= size

    def _fetch(self, source: str, ticket: bytes, view: memoryview, deadline: float) -> None:
        """Fetch over a kept stream, or a new one when that turns out to be dead; a ticket may be used again."""
        kept = self._kept(source)
        if kept is not None:
            try:
                self._transfer(kept, ticket, view, deadline)
            except DeadObjectError as error:
                _log.debug("a kept stream to %s had ended: %s; opening another", source, error)
            else:
                return
        wait = deadline - time.monotonic()
        if wait <= 0:
            raise CallTimeoutError(f"device {source} did not give the raw data in time")
        self._transfer(self._port.dial(source, Purpose.RAW_DATA, timeout=wait), ticket, view, deadline)

    def _transfer(self, stream: Stream, ticket: bytes, view: memoryview, deadline: float) -> None:
        """Fetch over one stream, and keep or close it."""
        good = False
        try:
            stream.send(_REQUEST.pack(_Operation.TAKE, ticket), stall=limits.BULK_STALL, deadline=deadline)
            answer = stream.receive(_ANSWER.size, stall=limits.BULK_STALL, deadline=deadline)
            status, size = _ANSWER.unpack(answer)
            if status == _Status.NO_SUCH_TICKET:
                good = True
                raise InvalidObjectError(
                    f"device {stream.peer} has no raw data under this ticket; it waits {limits.BULK_KEPT:g} s only"
                )
            if status != _Status.HERE or size != len(view):
                raise ProtocolError(
                    f"device {stream.peer} answered status {status} and {size} bytes where {len(view)} were announced"
                )
            stream.receive_into(view, stall=limits.BULK_STALL, deadline=deadline)
            stream.send(_REQUEST.pack(_Operation.DONE, ticket), stall=limits.BULK_STALL, deadline=deadline)
            good = True
        finally:
            if not good or not self._keep(stream):
                stream.close()

    def _kept(self, udid: str) -> Stream | None:
        self._close_idle(time.monotonic() - limits.BULK_IDLE)
        with self._lock:
            streams = self._idle.get(udid)
            if not streams:
                return None
            stream = streams.pop()[1]
            if not streams:
                del self._idle[udid]
            return stream

    def _keep(self, stream: Stream) -> bool:
        with self._lock:
            if self._closed or stream.ended or len(self._idle.get(stream.peer, ())) >= limits.BULK_IDLE_STREAMS:
                return False
            self._idle[stream.peer].append((time.monotonic(), stream))
        self._sweep_later()
        return True

    def _close_idle(self, before: float) -> None:
        """Close kept streams that were last used before a moment, or have ended."""
        old: list[Stream] = []
        with self._lock:
            for udid, streams in list(self._idle.items()):
                old += [stream for since, stream in streams if since < before or stream.ended]
                self._idle[udid] = [kept for kept in streams if kept[0] >= before and not kept[1].ended]
                if not self._idle[udid]:
                    del self._idle[udid]
        for stream in old:
            stream.close()

    # --- Changes and the end ------------------------------------------------------------------------

    def forget(self, udid: str) -> None:
        """Forget what waits for a device, because it left (or was started anew: its calls are gone)."""
        self._offers.forget(udid)
        with self._lock:
            streams = self._idle.pop(udid, [])
        for _, stream in streams:
            stream.close()

    def close(self) -> None:
        """Forget everything and close kept streams; may be called twice."""
        with self._lock:
            self._closed = True
            sweeper, self._sweeper = self._sweeper, None
        if sweeper is not None:
            sweeper.cancel()
            sweeper.join()
        self._close_idle(float("inf"))


def _longest(size: int) -> float:
    """Return the seconds a transfer may take at most."""
    return limits.BULK_STALL + size / limits.BULK_MIN_RATE


def _memory(size: int) -> memoryview:
    if size <= _SMALL:
        return memoryview(bytearray(size))
    return memoryview(mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
