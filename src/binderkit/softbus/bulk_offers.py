"""Raw data that waits for another device to take it: a table. Pure.

Owns: tickets, to whom each belongs, until when it is good, and how much may wait.

A ticket is 16 random bytes and the size. It opens the data for one device only, so a ticket that another device
learns is worth nothing to it. It stays good until the taker said that it has everything, so that a transfer that broke
can be begun again.
"""

from __future__ import annotations

import os
import struct
import threading
from collections import Counter
from dataclasses import dataclass
from typing import Final

from binderkit import limits
from binderkit.errors import ParamValueError, ProtocolError, QuotaError, TooBigError

__all__ = ["TICKET_SIZE", "Offer", "Offers", "ticket_size"]

_TICKET: Final = struct.Struct("<16sQ")
TICKET_SIZE: Final = _TICKET.size


def ticket_size(ticket: bytes) -> int:
    """Return the bytes a received ticket stands for, before anything is fetched.

    Raises:
        ProtocolError: no ticket, or it claims more than limits.MAX_RAW_DATA (601).
    """
    if len(ticket) != TICKET_SIZE:
        raise ProtocolError(f"a ticket for raw data has {TICKET_SIZE} bytes, not {len(ticket)}")
    size: int = _TICKET.unpack(ticket)[1]
    if not 0 < size <= limits.MAX_RAW_DATA:
        raise ProtocolError(f"a ticket for {size} bytes; raw data has 1 to {limits.MAX_RAW_DATA}")
    return size


@dataclass(slots=True)
class Offer:
    """Data for one device; ``transfers`` count those under way, which an expiry does not interrupt."""

    udid: str
    ticket: bytes
    data: memoryview
    expires: float
    transfers: int = 0


class Offers:
    """The table; any thread. Times are those of one clock that never goes back."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._offers: dict[bytes, Offer] = {}
        self._count: Counter[str] = Counter()
        self._bytes: Counter[str] = Counter()

    def put(self, udid: str, data: memoryview, now: float) -> bytes:
        """Enter data for a device and return its ticket.

        Raises:
            ParamValueError: no data (401). TooBigError: over limits.MAX_RAW_DATA (1900009).
            QuotaError: too much waits for this device (29201).
        """
        size = len(data)
        if not size:
            raise ParamValueError("empty raw data cannot be sent; leave it out")
        if size > limits.MAX_RAW_DATA:
            raise TooBigError(
                f"raw data of {size} bytes; at most {limits.MAX_RAW_DATA} travel at once: send it in parts"
            )
        with self._lock:
            self._sweep(now)
            if self._count[udid] >= limits.MAX_BULK_OFFERS or self._bytes[udid] + size > limits.MAX_BULK_OFFERED:
                raise QuotaError(
                    f"{self._count[udid]} blocks with {self._bytes[udid]} bytes already wait for device {udid} "
                    f"(at most {limits.MAX_BULK_OFFERS} and {limits.MAX_BULK_OFFERED}); send again when calls returned"
                )
            offer = Offer(udid, _TICKET.pack(os.urandom(16), size), data, now + limits.BULK_KEPT)
            self._offers[offer.ticket] = offer
            self._count[udid] += 1
            self._bytes[udid] += size
            return offer.ticket

    def begin(self, udid: str, ticket: bytes, now: float) -> Offer | None:
        """Return the data behind a ticket, marked as under way; None when that device has no such ticket."""
        with self._lock:
            self._sweep(now)
            offer = self._offers.get(ticket)
            if offer is None or offer.udid != udid:
                return None
            offer.transfers += 1
            return offer

    def end(self, offer: Offer, now: float, *, taken: bool) -> None:
        """Close a transfer: the data goes when it was taken, else it waits anew."""
        with self._lock:
            offer.transfers -= 1
            offer.expires = now + limits.BULK_KEPT
            if taken:
                self._remove(offer)

    def drop(self, ticket: bytes) -> bool:
        """Forget one ticket; returns whether it was there. A transfer under way goes on."""
        with self._lock:
            offer = self._offers.get(ticket)
            if offer is None:
                return False
            self._remove(offer)
            return True

    def forget(self, udid: str) -> None:
        """Forget all tickets of a device."""
        with self._lock:
            for offer in [offer for offer in self._offers.values() if offer.udid == udid]:
                self._remove(offer)

    def sweep(self, now: float) -> None:
        """Forget what was not taken in time."""
        with self._lock:
            self._sweep(now)

    def __len__(self) -> int:
        return len(self._offers)

    def waiting(self, udid: str) -> tuple[int, int]:
        """Return how many blocks, and bytes, wait for a device."""
        with self._lock:
            return self._count[udid], self._bytes[udid]

    def _sweep(self, now: float) -> None:
        for offer in [offer for offer in self._offers.values() if offer.expires <= now and not offer.transfers]:
            self._remove(offer)

    def _remove(self, offer: Offer) -> None:
        if self._offers.pop(offer.ticket, None) is None:
            return
        self._count[offer.udid] -= 1
        self._bytes[offer.udid] -= len(offer.data)
        if not self._count[offer.udid]:
            del self._count[offer.udid], self._bytes[offer.udid]
