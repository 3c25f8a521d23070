"""Telling many processes many things without waiting for any of them.

Owns: one queue per process that is told, and who empties it. Locks: ``_lock`` guards the queues; nothing is called
while it is held.

Rules upheld: a process is told in the order in which things were posted; one that does not read delays nobody else;
a subscriber that cannot be told is given up (``gone`` says so), never told half.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable
from typing import Final

from binderkit.errors import IpcError
from binderkit.ipc.driver import submit_to_driver

_log = logging.getLogger("binderkit.samgr")
MAX_PENDING: Final = 4096
"""Things one process may leave unread before its subscribers are given up."""

Task = Callable[[], None]


class Deliveries:
    """Queues of what processes are to be told.

    Args:
        gone: called with a subscriber that cannot be told any more.
        submit: how a task is run on another thread; default: the driver's workers.
    """

    def __init__(self, gone: Callable[[Hashable], object], submit: Callable[[Task], object] | None = None) -> None:
        self._gone = gone
        self._submit = submit or submit_to_driver
        self._lock = threading.Lock()
        self._queues: dict[int, deque[tuple[Hashable, Callable[[], object]]]] = {}

    def post(self, pid: int, subscriber: Hashable, tell: Callable[[], object]) -> None:
        """Queue ``tell``, which makes the one-way call; ``pid`` is the process it goes to."""
        with self._lock:
            queue = self._queues.get(pid)
            starts = queue is None
            if queue is None:
                queue = self._queues[pid] = deque()
            full = len(queue) >= MAX_PENDING
            if not full:
                queue.append((subscriber, tell))
        if full:
            _log.warning("process %d leaves %d events unread; %r is told no more", pid, MAX_PENDING, subscriber)
            self._give_up(pid, subscriber)
        elif starts:
            self._submit(lambda: self._empty(pid))

    def forget(self, pid: int, subscriber: Hashable) -> None:
        """Drop what a subscriber was still to be told."""
        with self._lock:
            queue = self._queues.get(pid)
            if queue is not None:
                kept = [entry for entry in queue if entry[0] is not subscriber]
                queue.clear()
                queue.extend(kept)

    def _empty(self, pid: int) -> None:
        while True:
            with self._lock:
                queue = self._queues[pid]
                if not queue:
                    del self._queues[pid]
                    return
                subscriber, tell = queue.popleft()
            try:
                tell()
            except IpcError as error:
                _log.info("%r of process %d is told no more: %s", subscriber, pid, error)
                self._give_up(pid, subscriber)

    def _give_up(self, pid: int, subscriber: Hashable) -> None:
        self.forget(pid, subscriber)
        self._gone(subscriber)
