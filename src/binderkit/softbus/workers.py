"""The threads that execute requests of other devices, shared fairly between these devices.

Owns: ``Workers`` and, for each device, a ``Queue`` of jobs.

Why: an engine hands requests over on a thread that must never block, and one
device that floods us, or whose calls are slow, must not starve the others. So
each device has a queue of its own, the threads take one job from each queue in
turn, and no device may occupy more than a share of all threads.

Rules upheld:

- Bounded: ``Queue.submit`` refuses beyond limits.RPC_QUEUED; threads never exceed limits.HARD_THREADS.
- No deadlock of our own making: a handler may wait for a call that comes back
  to this device. When a job waits for a thread and all of them are busy for
  ``_STARVING`` seconds, one more is started.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from queue import Empty, SimpleQueue
from typing import Final

from binderkit import limits
from binderkit.softbus.timers import Timers

__all__ = ["Queue", "Workers"]

_log = logging.getLogger("binderkit.softbus")
_STARVING: Final = 0.05
"""Seconds a job finds no free thread before one more is started."""
_IDLE: Final = 5.0
"""Seconds after which a thread beyond the normal number ends."""


class Queue:
    """The jobs of one device, or of one sort of one device; at most ``share`` of them run at once."""

    def __init__(self, workers: Workers, share: int) -> None:
        self._workers = workers
        self.share = share
        self.jobs: deque[Callable[[], None]] = deque()
        self.running = 0
        self.offered = False

    def submit(self, job: Callable[[], None]) -> bool:
        """Have ``job`` executed on a thread, begun after those submitted before it; False: no room, it never will."""
        return self._workers.submit(self, job, limits.RPC_QUEUED)

    def add(self, job: Callable[[], None]) -> None:
        """The same without a limit: for jobs whose number is bounded by who adds them."""
        self._workers.submit(self, job, sys.maxsize)


class Workers:
    """Threads for the jobs of many queues.

    Args:
        name: prefix of the threads' names.
        count: threads in normal operation, started on demand.
        timers: what watches for jobs that find no thread.
    """

    def __init__(self, name: str, count: int, timers: Timers) -> None:
        self._name = name
        self._count = count
        self._timers = timers
        self._share = max(count, limits.HARD_THREADS // 4)
        # Holds a queue once while it has jobs and may run one more; None ends a thread.
        self._ready: SimpleQueue[Queue | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._idle = 0
        self._offers = 0
        self._numbered = 0
        self._watching = False
        self._paused = True
        self._closed = False

    def queue(self, share: int = 0) -> Queue:
        """Return a new queue; ``share`` of its jobs may run at once (0: a quarter of all threads there can be)."""
        return Queue(self, share or self._share)

    def start(self) -> None:
        """Begin to execute; until then jobs only gather."""
        with self._lock:
            self._paused = False
            for _ in range(min(self._offers, self._count)):
                self._need_thread()

    @property
    def is_started(self) -> bool:
        """Whether jobs are executed by now."""
        return not self._paused

    def submit(self, queue: Queue, job: Callable[[], None], most: int) -> bool:
        """See ``Queue``; ``most``: how many may wait in the queue."""
        with self._lock:
            if self._closed or len(queue.jobs) >= most:
                return False
            queue.jobs.append(job)
            self._offer(queue)
        return True

    def close(self) -> None:
        """End the threads; a job that runs is waited for, those that wait are dropped. Not from a job."""
        with self._lock:
            self._closed = True
            threads = list(self._threads)
            for _ in threads:
                self._ready.put(None)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()

    # --- under the lock ------------------------------------------------------------------------

    def _offer(self, queue: Queue) -> None:
        if queue.offered or not queue.jobs or queue.running >= queue.share:
            return
        queue.offered = True
        self._offers += 1
        self._ready.put(queue)
        self._need_thread()

    def _need_thread(self) -> None:
        # An offer counts until a thread has taken it under the lock, so none relies on a thread that took another.
        if self._offers <= self._idle or self._paused or self._closed:
            return
        if len(self._threads) < self._count:
            self._start_thread()
        elif not self._watching and len(self._threads) < limits.HARD_THREADS:
            self._watching = True
            self._timers.after(_STARVING, self._check_starving)

    def _start_thread(self) -> None:
        self._numbered += 1
        thread = threading.Thread(target=self._run, name=f"{self._name}-{self._numbered}", daemon=True)
        self._threads.add(thread)
        # It waits for its first queue from now on, although it has yet to get there.
        self._idle += 1
        thread.start()

    # --- on the timers' thread -------------------------------------------------------------------

    def _check_starving(self) -> None:
        with self._lock:
            self._watching = False
            if self._offers <= self._idle or self._closed:
                return
            if len(self._threads) == self._count:
                _log.warning("all %d threads are busy with requests of other devices; more are started", self._count)
            if len(self._threads) < limits.HARD_THREADS:
                self._start_thread()
            self._need_thread()

    # --- on the workers --------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            try:
                queue = self._ready.get(timeout=_IDLE)
            except Empty:
                if self._may_end():
                    return
                continue
            if queue is None:
                with self._lock:
                    self._idle -= 1
                    self._threads.discard(threading.current_thread())
                return
            job = self._begin(queue)
            try:
                job()
            except Exception:
                _log.exception("a job for another device failed")
            del job  # or a thread without work would keep what the last one held
            with self._lock:
                self._idle += 1
                queue.running -= 1
                self._offer(queue)

    def _may_end(self) -> bool:
        with self._lock:
            if len(self._threads) <= self._count or self._offers >= self._idle:
                return False
            self._idle -= 1
            self._threads.discard(threading.current_thread())
            return True

    def _begin(self, queue: Queue) -> Callable[[], None]:
        with self._lock:
            self._idle -= 1
            self._offers -= 1
            queue.offered = False
            job = queue.jobs.popleft()
            queue.running += 1
            self._offer(queue)
        return _nothing if self._closed else job


def _nothing() -> None:
    """What takes the place of a job that came too late."""
