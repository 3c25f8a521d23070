"""What makes calls between devices execute at most once, and one-way messages in order. Pure.

Owns, for one other device:

- ``Slots``: the caller's side of calls. A call takes a slot and the slot's next
  sequence number, and keeps both however often it is sent.
- ``Replies``: the callee's side. One entry per slot: a higher sequence is a new
  call (and says that the earlier reply arrived or is no longer wanted), the same
  one is a repeat that joins the running call or gets the stored reply, a lower
  one is a straggler.
- ``OnewaySender`` and ``OnewayReceiver``: a numbered stream with a window.
- ``Boots``: which life of the other device a request comes from.

Why slots and not one window of sequence numbers: a call may take 3000 s while
thousands of others come and go. With slots each of them acknowledges only its
own predecessor, so what is kept is bounded by the number of slots.

Rules upheld (reference: softbus-engine 7): a (slot, sequence) is executed at
most once whatever arrives, however often, in whatever order; everything kept is
bounded in number and in bytes, whatever the other device sends.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final, Generic, TypeVar

from binderkit import limits

__all__ = ["Boots", "OnewayReceiver", "OnewaySender", "Place", "Replies", "Slots", "Verdict"]

T = TypeVar("T")
_MAX_WAITERS: Final = 4
"""Repeats of one call that are answered together; the oldest has surely timed out."""


class Slots:
    """The slots for calls to one device (the caller's side)."""

    def __init__(self, count: int = limits.RPC_CALLS_PER_DEVICE) -> None:
        # The last one given back is the next one used: few slots are used, so few replies are kept for us.
        self._free = list(range(count - 1, -1, -1))
        self._sequences = [0] * count

    def take(self) -> tuple[int, int] | None:
        """Return a free slot and the sequence of the call that takes it; None when all are taken."""
        if not self._free:
            return None
        slot = self._free.pop()
        self._sequences[slot] += 1
        return slot, self._sequences[slot]

    def give_back(self, slot: int) -> None:
        """The call in ``slot`` ended, however."""
        self._free.append(slot)


class Verdict(Enum):
    """What is to be done with a call that arrived."""

    NEW = auto()
    """Execute it."""
    JOINED = auto()
    """It is running; its answer will go to this request too."""
    STORED = auto()
    """It was executed; here is its reply."""
    LOST = auto()
    """It was executed; its reply is no longer kept."""
    STALE = auto()
    """A later call has used the slot: nobody waits for this one."""


@dataclass(slots=True)
class _Entry(Generic[T]):
    sequence: int
    keep_until: float
    waiters: deque[T] = field(default_factory=lambda: deque(maxlen=_MAX_WAITERS))
    done: bool = False
    forgotten: bool = False
    reply: bytes | None = None


class Replies(Generic[T]):
    """The calls of one boot of one device, running or answered (the callee's side).

    Args:
        max_bytes: bytes of replies kept; beyond it the oldest go and their repeats get LOST.
    """

    def __init__(self, max_bytes: int = limits.RPC_STORED_REPLIES) -> None:
        self._max_bytes = max_bytes
        self._entries: dict[int, _Entry[T]] = {}
        self._stored: OrderedDict[int, float] = OrderedDict()
        self.stored_bytes = 0

    def begin(self, slot: int, sequence: int, waiter: T, keep_until: float) -> tuple[Verdict, bytes]:
        """Take note of a call that arrived.

        Args:
            slot, sequence: which call (slot checked by the decoder).
            waiter: what its answer goes to.
            keep_until: when nobody can ask for the reply any more (same clock as ``expire``).

        Returns:
            What is to be done, and the reply when it is STORED.
        """
        entry = self._entries.get(slot)
        if entry is None or sequence > entry.sequence:
            self._drop_reply(slot)
            self._entries[slot] = entry = _Entry(sequence, keep_until)
            entry.waiters.append(waiter)
            return Verdict.NEW, b""
        if sequence < entry.sequence or entry.forgotten:
            return Verdict.STALE, b""
        entry.keep_until = max(entry.keep_until, keep_until)
        if not entry.done:
            entry.waiters.append(waiter)
            return Verdict.JOINED, b""
        if entry.reply is None:
            return Verdict.LOST, b""
        return Verdict.STORED, entry.reply

    def forget(self, slot: int, sequence: int) -> None:
        """A NEW call was not executed after all (no room): its repeat may be."""
        entry = self._entries.get(slot)
        if entry is not None and entry.sequence == sequence and not entry.done:
            # A lower sequence must stay a straggler, so the slot remembers the one before.
            self._entries[slot] = _Entry(sequence - 1, entry.keep_until, done=True, forgotten=True)

    def finish(self, slot: int, sequence: int, reply: bytes) -> list[T]:
        """Store the reply of a call; returns what it goes to, nobody if a later call has used the slot."""
        entry = self._entries.get(slot)
        if entry is None or entry.sequence != sequence or entry.done:
            return []
        entry.done = True
        waiters = list(entry.waiters)
        entry.waiters.clear()
        if len(reply) <= self._max_bytes:
            entry.reply = reply
            self._stored[slot] = entry.keep_until
            self.stored_bytes += len(reply)
        while self.stored_bytes > self._max_bytes:
            self._drop_reply(next(iter(self._stored)))
        return waiters

    def expire(self, now: float) -> None:
        """Let go of replies that nobody can ask for any more; their sequences are remembered."""
        for slot in [slot for slot in self._stored if self._entries[slot].keep_until <= now]:
            self._drop_reply(slot)

    def _drop_reply(self, slot: int) -> None:
        if self._stored.pop(slot, None) is None:
            return
        entry = self._entries[slot]
        if entry.reply is not None:
            self.stored_bytes -= len(entry.reply)
            entry.reply = None


class OnewaySender(Generic[T]):
    """One stream of one-way messages to one boot of one device (the sender's side).

    A stream that lost messages for good (its device was away) is never continued; a new one with a higher number is.
    """

    def __init__(
        self, stream: int, max_count: int = limits.RPC_ONEWAY_MESSAGES, max_bytes: int = limits.RPC_ONEWAY_BYTES
    ) -> None:
        self.stream = stream
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._sequence = 0
        self._bytes = 0
        self._unacked: dict[int, tuple[T, int]] = {}

    def has_room(self, size: int) -> bool:
        """Whether a message of ``size`` bytes can be sent now; one of any size can when nothing is on its way.

        The span counts, not the number: the receiver holds what comes after a gap.
        """
        if not self._unacked:
            return True
        span = self._sequence - next(iter(self._unacked)) + 1
        return span < self._max_count and self._bytes + size <= self._max_bytes

    def add(self, message: T, size: int) -> int:
        """Number a message; it counts until ``acked``."""
        self._sequence += 1
        self._unacked[self._sequence] = (message, size)
        self._bytes += size
        return self._sequence

    def acked(self, sequence: int) -> bool:
        """The other side has taken a message; returns False when that was known."""
        taken = self._unacked.pop(sequence, None)
        if taken is None:
            return False
        self._bytes -= taken[1]
        return True

    def message(self, sequence: int) -> T | None:
        """Return a message that is still on its way, None otherwise."""
        found = self._unacked.get(sequence)
        return None if found is None else found[0]

    def __len__(self) -> int:
        """Messages on their way."""
        return len(self._unacked)


class Place(Enum):
    """What is to be done with a one-way message that arrived."""

    TAKEN = auto()
    """It has its place; more messages than this one may be due now."""
    REPEATED = auto()
    """It is here already and waits; its acknowledgement goes to this request too."""
    DONE = auto()
    """It was started long ago: acknowledge it again."""
    STALE = auto()
    """Of a stream that was given up."""
    FULL = auto()
    """Beyond the window: the sender does not keep to the rules, or the bytes are used up."""


class OnewayReceiver(Generic[T]):
    """The one-way messages of one boot of one device: in order, each once (the receiver's side).

    A message is *held* until all before it have come, then *waiting* until it is started, then done. The
    acknowledgement goes out when it is started, so the sender's window bounds what is here.
    """

    def __init__(
        self,
        max_count: int = limits.RPC_ONEWAY_MESSAGES,
        max_bytes: int = limits.RPC_ONEWAY_BYTES + limits.RPC_PAYLOAD,
    ) -> None:
        self._max_count = max_count
        self._max_bytes = max_bytes
        self._stream = -1
        self._next = 1
        self._bytes = 0
        self._held: dict[int, tuple[T, int]] = {}
        self._waiting: dict[tuple[int, int], tuple[T, int]] = {}

    def accept(self, stream: int, sequence: int, message: T, size: int) -> tuple[Place, list[T]]:
        """Take note of a message that arrived; returns what to do, and the messages that are due now, in order."""
        if stream < self._stream:
            return Place.STALE, []
        if stream > self._stream:
            self._start(stream)
        if sequence < self._next:
            return (Place.REPEATED if (stream, sequence) in self._waiting else Place.DONE), []
        if sequence in self._held:
            return Place.REPEATED, []
        beyond = sequence >= self._next + self._max_count or len(self._waiting) + len(self._held) >= self._max_count
        if beyond or self._bytes + size > self._max_bytes:
            return Place.FULL, []
        self._held[sequence] = (message, size)
        self._bytes += size
        return Place.TAKEN, self._due()

    def find(self, stream: int, sequence: int) -> T | None:
        """Return a message that is held or waits, None when it was started."""
        found = self._waiting.get((stream, sequence))
        if found is None and stream == self._stream:
            found = self._held.get(sequence)
        return None if found is None else found[0]

    def started(self, stream: int, sequence: int) -> None:
        """A due message is being executed: it no longer counts."""
        _, size = self._waiting.pop((stream, sequence))
        self._bytes -= size

    def _start(self, stream: int) -> None:
        # What is waiting was due before the sender gave up: it stays.
        self._bytes -= sum(size for _, size in self._held.values())
        self._held.clear()
        self._stream = stream
        self._next = 1

    def _due(self) -> list[T]:
        due: list[T] = []
        while (found := self._held.pop(self._next, None)) is not None:
            self._waiting[self._stream, self._next] = found
            due.append(found[0])
            self._next += 1
        return due


class Boots:
    """Which life of a device is the present one, and which are over."""

    def __init__(self) -> None:
        self.current: bytes | None = None
        self._old: OrderedDict[bytes, None] = OrderedDict()

    def accepts(self, boot: bytes, announced: bytes | None) -> bool:
        """Whether a request of life ``boot`` is of the present one, which it may begin.

        Args:
            announced: the life that the network says is the present one, None when it has not said yet.
        """
        if boot == self.current:
            return True
        if boot != announced and (announced is not None or boot in self._old):
            return False
        self.begin(boot)
        return True

    def begin(self, boot: bytes) -> bool:
        """``boot`` is the present life; returns whether that is new."""
        if boot == self.current:
            return False
        self._old.pop(boot, None)
        if self.current is not None:
            self._old[self.current] = None
        while len(self._old) > limits.RPC_OLD_BOOTS:
            self._old.popitem(last=False)
        self.current = boot
        return True
