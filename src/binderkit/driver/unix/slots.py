"""Shared memory between this process and one peer: our slots there, its slots here.

Owns: which slot has which number, which of ours the peer may still look at, which of the
peer's we no longer look at. A slot given back travels in the header of the next frame,
or in a control message if there is no next frame soon.

Rules upheld: a slot is shared with one peer only; one whose message did not leave is not used
again; the peer can give back only what it has.

Lock: ``_lock``, for a few statements.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING

from binderkit import limits
from binderkit.driver.unix import frame
from binderkit.driver.unix.frame import Entry
from binderkit.errors import ProtocolError, QuotaError
from binderkit.memory import pool
from binderkit.parcel.objects import OwnedFd

if TYPE_CHECKING:
    from binderkit.driver.unix.peer import Peer

_NOBODY = object()
"""shared_with of a slot that nobody may get any more."""


class SharedSlots:
    """The shared memory of one pair of processes."""

    __slots__ = ("_flying", "_lock", "_mappings", "_next", "_ours", "_peer", "freed")

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._lock = threading.Lock()
        self._ours: dict[int, pool.Slot] = {}
        self._flying: set[int] = set()
        self._next = 0
        self._mappings: dict[int, pool.Mapping] = {}
        self.freed: deque[int] = deque()

    # --- ours, at the peer -----------------------------------------------------------------------

    def flies(self, slot: pool.Slot) -> bool:
        """Whether the peer may still look at ``slot``."""
        return slot.shared_with is self._peer and slot.index in self._flying

    def take_off(self, slot: pool.Slot) -> bool:
        """``slot`` is about to be sent; return whether the peer has it mapped already.

        From now on it is the receiver's until it gives it back.

        Raises:
            QuotaError: the peer keeps too many slots.
        """
        with self._lock:
            known = slot.shared_with is self._peer
            if not known:
                if len(self._ours) >= limits.MAX_SLOTS_PER_PEER:
                    raise QuotaError(
                        f"{len(self._ours)} shared blocks are in use at process {self._peer.caller.pid}; "
                        "it must drop views of large data it received"
                    )
                slot.index = self._next
                slot.shared_with = self._peer
                self._next += 1
                self._ours[slot.index] = slot
            self._flying.add(slot.index)
        return known

    def landed_nowhere(self, slot: pool.Slot) -> None:
        """A message with ``slot`` did not leave: the peer may not know it, so nobody gets it again."""
        with self._lock:
            if slot.shared_with is self._peer:
                self._ours.pop(slot.index, None)
                self._flying.discard(slot.index)
                slot.shared_with = _NOBODY
        slot.release()

    def given_back(self, index: int) -> None:
        """The peer no longer looks at our slot ``index``.

        Raises:
            ProtocolError: it does not have it.
        """
        with self._lock:
            slot = self._ours.get(index) if index in self._flying else None
            self._flying.discard(index)
        if slot is None:
            if self._peer.is_dead:
                return  # its end took all slots back, this frame was still on its way
            raise ProtocolError(f"the peer gives back shared slot {index}, which it does not have")
        slot.release()

    # --- the peer's, here ------------------------------------------------------------------------

    def view(self, entry: Entry, fd: OwnedFd | None, most: int) -> memoryview:
        """Return the read-only view of a shared block that arrived.

        Raises:
            ProtocolError: the peer lies about size or number.
            DeadObjectError: the peer is gone, and with it the memory this message was the last to name.
        """
        size = entry.argument & 0xFFFFFFFF
        if size > most:
            raise ProtocolError(f"a shared block of {size} bytes, at most {most} are allowed here")
        mapping = self._mapping(entry, fd)
        index = entry.id
        return mapping.view(size, lambda: self._done(index))

    def _mapping(self, entry: Entry, fd: OwnedFd | None) -> pool.Mapping:
        if entry.kind == frame.OBJ_SLOT:
            mapping = self._mappings.get(entry.id)
            if mapping is None:
                if self._peer.is_dead:
                    raise self._peer.dead_error()
                raise ProtocolError(f"the peer sent shared slot {entry.id} without its memory")
            return mapping
        assert fd is not None
        with self._lock:
            if entry.id in self._mappings or len(self._mappings) >= limits.MAX_SLOTS_PER_PEER:
                raise ProtocolError("the peer shares too many slots, or one twice")
            mapping = self._mappings[entry.id] = pool.Mapping(fd.fileno(), entry.argument >> 32)
        fd.close()
        return mapping

    def unseen(self, entry: Entry, fd: OwnedFd | None) -> None:
        """A message with a shared block is dropped unread: keep its mapping for later, give the block back now."""
        self._mapping(entry, fd)
        self._done(entry.id)

    def _done(self, index: int) -> None:
        """Nobody looks at the peer's slot any more (finalizer: enqueue only)."""
        self.freed.append(index)
        self._peer.node.stir()

    def next_freed(self) -> int:
        """Return number + 1 of a slot to give back in a header, 0 if another thread took the last."""
        try:
            return self.freed.popleft() + 1
        except IndexError:
            return 0

    def report(self) -> None:
        """Give back by control messages what no frame took along (monitor)."""
        pairs: list[tuple[int, int]] = []
        while len(pairs) < frame.MAX_PAIRS:
            number = self.next_freed()
            if not number:
                break
            pairs.append((number - 1, 0))
        if pairs:
            self._peer.post(frame.encode_pairs(frame.SLOTS_FREED, pairs))

    # --- the end ---------------------------------------------------------------------------------

    def peer_died(self) -> None:
        """Take back what the peer had; nobody else ever gets it."""
        with self._lock:
            ours, self._ours = self._ours, {}
            flying, self._flying = self._flying, set()
        for slot in ours.values():
            slot.shared_with = _NOBODY
        for index in flying:
            ours[index].release()
        pool.forget_peer(_NOBODY)

    def drained(self) -> None:
        """Nothing the dead peer sent is read any more: its memory stays only where somebody still looks at it."""
        with self._lock:
            self._mappings = {}
