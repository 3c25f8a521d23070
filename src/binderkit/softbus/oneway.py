"""One-way messages between devices: the queue towards one device, and the one from it.

Owns: ``Outbox`` (numbers, sends, sends again, slows its senders down) and
``Inbox`` (order, one at a time per target, acknowledgements). The windows
themselves are pure and stand in ``windows``.

Rules upheld: see ``calls``. An acknowledgement goes out when the execution of a
message begins, so a sender's window bounds what gathers at the receiver.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Final

from binderkit import limits
from binderkit.errors import DeadObjectError, QuotaError
from binderkit.softbus import messages
from binderkit.softbus.engine import Engine, Incoming, Kind, Outcome
from binderkit.softbus.messages import OnewayHeader, Status
from binderkit.softbus.timers import Timers
from binderkit.softbus.windows import OnewayReceiver, OnewaySender, Place
from binderkit.softbus.workers import Queue

__all__ = ["Inbox", "Outbox"]

_log = logging.getLogger("binderkit.softbus")
_FIRST_PAUSE: Final = 0.01
_LONGEST_PAUSE: Final = 0.5
"""Seconds between two tries of a message that was not acknowledged."""
_streams: Final = count(1)
"""Numbers of streams: rising, so that a receiver knows the later of two; a boot of ours is one process."""


class Outbox:
    """The one-way messages to one boot of one device.

    Args:
        engine, timers: what carries and what reminds.
        udid: the device; own, target: the boots of the two ends.
        changed: the device's condition; notified when there is room again.
    """

    def __init__(
        self, engine: Engine, timers: Timers, udid: str, own: bytes, target: bytes, changed: threading.Condition
    ) -> None:
        self._engine = engine
        self._timers = timers
        self._udid = udid
        self._boots = (own, target)
        self._changed = changed
        self._stream: OnewaySender[tuple[int, bytes]] = OnewaySender(next(_streams))
        self.ended = False

    def send(self, target: int, payload: bytes) -> None:
        """Give a message its number and send it; see ``Calls.send`` for what is raised."""
        size = len(payload)
        with self._changed:
            if not self._stream.has_room(size):
                self._wait_for_room(size)
            self._check_alive()
            sequence = self._stream.add((target, payload), size)
        self._post(sequence, _FIRST_PAUSE, limits.RPC_FIRST_SLICE)

    def give_up(self) -> None:
        """The device is gone: what was not acknowledged is lost, and whoever waits for room is told."""
        with self._changed:
            if self.ended:
                return
            self.ended = True
            lost = len(self._stream)
            self._changed.notify_all()
        if lost:
            # Not here: this may be the engine's thread, and a log may block.
            text = "device %s went away; %d one-way messages may not have reached it"
            self._timers.after(0, partial(_log.warning, text, self._udid, lost))

    def _check_alive(self) -> None:
        if self.ended:
            raise DeadObjectError(f"device {self._udid[:8]}… went away; the message was not sent")

    def _wait_for_room(self, size: int) -> None:
        until = time.monotonic() + limits.ONEWAY_SEND_WAIT
        while not self.ended and not self._stream.has_room(size):
            remaining = until - time.monotonic()
            if remaining <= 0:
                raise QuotaError(
                    f"{len(self._stream)} one-way messages to device {self._udid[:8]}… have not been taken for "
                    f"{limits.ONEWAY_SEND_WAIT} s (at most {limits.RPC_ONEWAY_MESSAGES}, or {limits.RPC_ONEWAY_BYTES} "
                    "bytes, may be on their way): it is too slow; send less, or make a call that waits"
                )
            self._changed.wait(remaining)

    def _post(self, sequence: int, pause: float, longest: float) -> None:
        with self._changed:
            message = None if self.ended else self._stream.message(sequence)
        if message is None:
            return
        target, payload = message
        header = messages.encode_oneway(self._stream.stream, sequence, *self._boots)
        done = partial(self._ended_with, sequence, pause, longest)
        self._engine.post(self._udid, Kind.ONEWAY, target, header, payload, longest, done)

    def _ended_with(self, sequence: int, pause: float, longest: float, outcome: Outcome) -> None:
        """On the engine's thread: the message was taken, or is sent again, or the stream is over."""
        if not isinstance(outcome, bytes):
            there = self._engine.devices().get(self._udid)
            if there is None or bytes.fromhex(there.boot) != self._boots[1]:
                self.give_up()
                return
            again = partial(self._post, sequence, min(2 * pause, _LONGEST_PAUSE), min(2 * longest, limits.RPC_SLICE))
            self._timers.after(pause, again)
            return
        if outcome[:1] != b"\x00":
            # Refused for good: the other side is another boot, or this stream is over there.
            self.give_up()
            return
        with self._changed:
            if self._stream.acked(sequence):
                self._changed.notify_all()


class Inbox:
    """The one-way messages of one boot of one device."""

    def __init__(self, window: OnewayReceiver[_Message], queue: Queue) -> None:
        self._lock = threading.Lock()
        self._window = window
        self._queue = queue
        self._targets: dict[int, deque[_Message]] = {}

    def accept(
        self, incoming: Incoming, header: OnewayHeader, execute: Callable[[Incoming], None]
    ) -> Callable[[], None] | None:
        """Take a message that arrived, and have ``execute`` called for it in its turn.

        Returns:
            What is to be answered at once, on a thread that may wait; None when the answer follows.
        """
        with self._lock:
            window = self._window
            message = _Message(incoming, header, window, execute)
            place, due = window.accept(header.stream, header.sequence, message, len(incoming.payload))
            if place is Place.REPEATED:
                known = window.find(header.stream, header.sequence)
                if known is not None:
                    # The sender has stopped waiting for the earlier one.
                    known.incoming = incoming
            idle = [found for found in due if self._enqueue(found)]
        for found in idle:
            self._queue.add(partial(self._run, found.incoming.target))
        if place is Place.DONE:
            return partial(incoming.answer, _ACK)
        if place is Place.STALE:
            return partial(incoming.answer, messages.encode_status(Status.STALE))
        return incoming.busy if place is Place.FULL else None

    def _enqueue(self, message: _Message) -> bool:
        """Under the lock: put a message that is due behind the others to its target; whether it is the first."""
        waiting = self._targets.get(message.incoming.target)
        if waiting is not None:
            waiting.append(message)
            return False
        self._targets[message.incoming.target] = deque((message,))
        return True

    def _run(self, target: int) -> None:
        """On a worker: execute the next message to a target, then come again if there are more."""
        with self._lock:
            message = self._targets[target][0]
            message.window.started(message.header.stream, message.header.sequence)
            incoming = message.incoming
        incoming.answer(_ACK)
        try:
            message.execute(incoming)
        finally:
            with self._lock:
                waiting = self._targets[target]
                waiting.popleft()
                more = bool(waiting)
                if not more:
                    del self._targets[target]
            if more:
                self._queue.add(partial(self._run, target))


class _Message:
    """A message that has its place."""

    __slots__ = ("execute", "header", "incoming", "window")

    def __init__(
        self,
        incoming: Incoming,
        header: OnewayHeader,
        window: OnewayReceiver[_Message],
        execute: Callable[[Incoming], None],
    ) -> None:
        self.incoming = incoming
        self.header = header
        self.window = window
        self.execute = execute


_ACK: Final = messages.encode_status(Status.TAKEN)
