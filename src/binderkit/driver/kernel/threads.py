"""Threads that take requests from the device: started when the kernel asks for one, never more than the limit.

Owns: the loopers. The first enters by itself, so that deaths and references are heard even in a process that serves
nobody; the kernel asks for each further one (BR_SPAWN_LOOPER) when it hands a request to the last that waited, so a
call needs no book-keeping of ours. The kernel's own maximum is set out of the way: it counts threads that wait in
outgoing calls, which would make exhaustion a deadlock.

Rules upheld (ARCHITECTURE, Threads): at most ``limit`` requests at once, not counting threads that wait in an outgoing
call; HARD_THREADS bounds everything; a demand that the limit refused is met as soon as a thread begins to wait. A
thread that has its reply while others were started in its place, or that a lower limit leaves over, parks.

Locks: ``_lock`` guards the counts; no thread is started while it is held.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator

from binderkit import limits

_log = logging.getLogger("binderkit.driver")


class _ThreadState(threading.local):
    looper: Loopers | None = None


_this_thread = _ThreadState()


class Loopers:
    """The threads of one driver."""

    def __init__(self, title: str, run: Callable[[bool], None]) -> None:
        """``run(first)`` takes requests until the driver closes."""
        self._title = title
        self._run = run
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._blocked = 0
        self._wanted = False
        self._closed = False
        self._room = threading.Condition(self._lock)
        self._parked = 0
        self.crowded = False
        """whether more threads take requests than the limit says"""
        self.limit = limits.DEFAULT_WORK_THREADS

    def start(self) -> None:
        """Start the first looper."""
        self._wanted = True
        self._grow()

    def demand(self) -> None:
        """The kernel asks for one more (BR_SPAWN_LOOPER)."""
        self._wanted = True
        self._grow()

    def set_limit(self, count: int) -> None:
        """Handle at most ``count`` requests at once."""
        with self._lock:
            self.limit = count
            self._look()
            self._room.notify_all()
        self._grow()

    def _grow(self) -> None:
        with self._lock:
            started = len(self._threads)
            if not self._wanted or self._closed:
                return
            if self._taking() >= self.limit or started >= limits.HARD_THREADS:
                return
            if self._parked:
                self._room.notify()
                return
            self._wanted = False
            thread = threading.Thread(
                target=self._loop, args=(started == 0,), name=f"binderkit-{self._title}-{started + 1}", daemon=True
            )
            self._threads.append(thread)
        try:
            thread.start()
        except RuntimeError:
            _log.exception("the system refused another thread")
            with self._lock:
                self._threads.remove(thread)
                self._wanted = True  # the kernel does not ask again before its demand is met

    def _loop(self, first: bool) -> None:
        _this_thread.looper = self
        self._run(first)

    @contextlib.contextmanager
    def outgoing(self) -> Iterator[None]:
        """The calling thread waits for another process: a looper of ours does not count meanwhile."""
        if _this_thread.looper is not self:
            yield
            return
        self.enter()
        try:
            yield
        finally:
            self.leave()

    def mine(self) -> bool:
        """Whether the calling thread is one of these."""
        return _this_thread.looper is self

    def enter(self) -> None:
        """A looper begins to wait in an outgoing call."""
        with self._lock:
            self._blocked += 1
            self._look()
            if self._parked:
                self._room.notify()
        if self._wanted:
            self._grow()

    def leave(self) -> None:
        """It has its reply."""
        with self._lock:
            self._blocked -= 1
            self._look()

    def park(self) -> None:
        """Keep the calling looper, which handles nothing now, from taking requests while there are enough of them."""
        with self._room:
            if self._taking() <= self.limit:
                return
            self._parked += 1
            self._look()
            while not self._closed and self._taking() >= self.limit:
                self._room.wait()
            self._parked -= 1
            self._look()

    def _taking(self) -> int:
        """Return how many threads take requests, or handle one; with the lock."""
        return len(self._threads) - self._blocked - self._parked

    def _look(self) -> None:
        self.crowded = self._taking() > self.limit and not self._closed

    def close(self) -> None:
        """Start no more threads."""
        with self._lock:
            self._closed = True
            self._look()
            self._room.notify_all()

    def join(self) -> bool:
        """Wait until the threads have ended (not for the calling one); return whether all have."""
        ended = True
        for thread in self._threads:
            if thread is threading.current_thread():
                ended = False
                continue
            thread.join(limits.HANDSHAKE_WAIT)
            if thread.is_alive():
                ended = False
                _log.warning("%s is still in a handler that does not end", thread.name)
        return ended

    def statistics(self) -> dict[str, int]:
        """Return counts of threads: started, blocked in outgoing calls."""
        with self._lock:
            return {"threads": len(self._threads), "blocked": self._blocked, "limit": self.limit}
