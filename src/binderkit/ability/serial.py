"""Doing things in order, per key, and never two of one key at once.

Owns: the queues between a state machine, which says under its lock what is to be done, and the calls that do it
without the lock. Whoever brings work does it, unless somebody is at that key already: no thread is needed, and a
target that is slow holds up its own queue only.

Locks: ``_lock`` guards the queues; nothing is called while it is held.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Hashable, Iterable

_log = logging.getLogger("binderkit.ability")
Work = Callable[[], None]


class Serial:
    """Ordered work."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._queues: dict[Hashable, deque[Work]] = {}
        self._busy: set[Hashable] = set()

    def put(self, key: Hashable, work: Work) -> None:
        """Queue ``work`` behind everything of the same key; it is done by the next ``drain``."""
        with self._lock:
            self._queues.setdefault(key, deque()).append(work)

    def drain(self, keys: Iterable[Hashable]) -> None:
        """Do what is queued for ``keys``, but for those that another thread is at: it will do it."""
        for key in keys:
            work = self._next(key, begin=True)
            while work is not None:
                try:
                    work()
                except Exception:
                    _log.exception("work for %r failed; what is queued behind it goes on", key)
                work = self._next(key, begin=False)

    def _next(self, key: Hashable, *, begin: bool) -> Work | None:
        with self._lock:
            if begin and key in self._busy:
                return None
            queue = self._queues.get(key)
            if queue is None:
                self._busy.discard(key)
                return None
            self._busy.add(key)
            work = queue.popleft()
            if not queue:
                del self._queues[key]
            return work

    def __len__(self) -> int:
        """How many keys have something queued or under way."""
        with self._lock:
            return len(self._queues.keys() | self._busy)
