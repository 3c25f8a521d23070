"""The pool of threads that handle requests, on one shared epoll set.

Owns: the epoll set of idle served lanes, the threads, and the queue of tasks
(death recipients, listeners). Threads are started on demand; the thread that
reads a request handles it (a hand-over would cost more than the whole call).

Rules upheld (ARCHITECTURE, Threads):
* At most ``limit`` requests are handled at once. A thread that waits in an outgoing call
  does not count: ``outgoing`` starts another one if nobody waits for requests, so that
  exhaustion never deadlocks. HARD_THREADS bounds everything.
* The last waiting thread never parks on a lane (``waiting`` is 0 then).
* Exhaustion is visible: ``starving_since`` for the monitor's warning.

Locks: ``_lock`` guards the counters; nothing is called and no thread is started while it is held.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Protocol

from binderkit import limits

_log = logging.getLogger("binderkit.driver")
_IDLE = 30.0
"""Seconds after which a thread that is not the last one waiting ends."""
_ARMED = select.EPOLLIN | select.EPOLLONESHOT


class _ThreadState(threading.local):
    """What the current thread is to the pool."""

    pool: Workers | None = None
    """the Workers it belongs to"""
    lane: HandsOver | None = None
    """the shared lane it is the reader of"""


_this_thread = _ThreadState()


def reading(lane: HandsOver | None) -> None:
    """Note which shared lane the calling worker is the reader of."""
    _this_thread.lane = lane


def _nothing() -> None:
    """What a thread that is no worker does after an outgoing call."""


class HandsOver(Protocol):
    """A lane whose reading can go to another thread."""

    def hand_over(self) -> None:
        """Let another worker read on."""


class Source(Protocol):
    """Something in the epoll set: a lane, or the task queue."""

    def serve(self) -> None:
        """Handle what is readable; re-arm with ``Workers.arm`` unless finished."""


class Workers:
    """The pool of one node."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._epoll = select.epoll()
        self._sources: dict[int, Source] = {}
        self._lock = threading.Lock()
        self._threads: set[threading.Thread] = set()
        self._started = 0
        self._blocked = 0
        self.limit = limits.DEFAULT_WORK_THREADS
        self.waiting = 0
        self.starving_since: float | None = None
        self._closed = False
        self._tasks: deque[Callable[[], None]] = deque()
        self._task_bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._end_bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._end_bell, select.EPOLLIN)
        self.add(self._task_bell, _TaskSource(self))

    # --- the epoll set -----------------------------------------------------------------------

    def add(self, fd: int, source: Source) -> None:
        """Have ``source.serve()`` called on a worker when ``fd`` is readable."""
        self._sources[fd] = source
        self._epoll.register(fd, _ARMED)
        if not self._started:
            self._grow()

    def arm(self, fd: int) -> None:
        """Watch ``fd`` again (after its source was served)."""
        try:
            self._epoll.modify(fd, _ARMED)
        except (FileNotFoundError, ValueError, OSError):
            # Removed or closed by its owner in the meantime: nothing to watch.
            _log.debug("descriptor %d left the pool before it was armed", fd)

    def remove(self, fd: int) -> None:
        """Forget ``fd``; call before closing it."""
        if self._sources.pop(fd, None) is not None:
            try:
                self._epoll.unregister(fd)
            except (FileNotFoundError, ValueError, OSError):
                _log.debug("descriptor %d was gone from the pool already", fd)

    def pending(self) -> bool:
        """Whether a lane is ready that no thread has taken yet."""
        if self._closed:
            return False
        poller = select.poll()
        poller.register(self._epoll.fileno(), select.POLLIN)
        return bool(poller.poll(0))

    # --- tasks -------------------------------------------------------------------------------

    def submit(self, task: Callable[[], None]) -> None:
        """Run ``task`` soon on a worker thread."""
        self._tasks.append(task)
        try:
            os.eventfd_write(self._task_bell, 1)
        except OSError:
            _log.debug("a task was submitted to a closed pool")

    # --- threads -----------------------------------------------------------------------------

    def _grow(self) -> None:
        """Start a thread if the limits allow it."""
        with self._lock:
            active = self._started - self._blocked
            if self._closed or active >= self.limit or self._started >= limits.HARD_THREADS:
                if self.waiting == 0 and self.starving_since is None:
                    self.starving_since = time.monotonic()
                return
            self._started += 1
            # Counted as waiting from now on, or two callers would each start one.
            self.waiting += 1
        thread = threading.Thread(target=self._run, name=f"binderkit-{self._name}-{self._started}", daemon=True)
        with self._lock:
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError:
            _log.exception("the system refused another worker thread")
            with self._lock:
                self._started -= 1
                self.waiting -= 1
                self._threads.discard(thread)

    def enter_outgoing(self) -> Callable[[], None]:
        """The calling thread is about to wait for another process; return what to call when it is done.

        If it is a worker of this pool, somebody else must wait for requests meanwhile,
        and a shared lane it reads goes to another reader.
        """
        if _this_thread.pool is not self:
            return _nothing
        if _this_thread.lane is not None:
            _this_thread.lane.hand_over()
        with self._lock:
            self._blocked += 1
            alone = self.waiting == 0
        if alone:
            self._grow()
        return self._leave_outgoing

    def _leave_outgoing(self) -> None:
        with self._lock:
            self._blocked -= 1

    def _run(self) -> None:
        poll = self._epoll.poll
        _this_thread.pool = self
        while True:
            try:
                events = poll(_IDLE, 1)
            except (ValueError, OSError):
                break
            if self._closed:
                break
            if not events:
                if self._may_retire():
                    return
                continue
            with self._lock:
                self.waiting -= 1
                alone = self.waiting == 0
            if alone:
                self._grow()
            source = self._sources.get(events[0][0])
            if source is not None:
                try:
                    source.serve()
                except Exception:
                    _log.exception("serving %r failed; this is a bug in binderkit", source)
            with self._lock:
                self.waiting += 1
                self.starving_since = None
        self._ended()

    def _may_retire(self) -> bool:
        with self._lock:
            if self.waiting <= 1:
                return False
            self.waiting -= 1
            self._started -= 1
            self._threads.discard(threading.current_thread())
            return True

    def _ended(self) -> None:
        with self._lock:
            self.waiting -= 1
            self._started -= 1
            self._threads.discard(threading.current_thread())

    def set_limit(self, count: int) -> None:
        """Handle at most ``count`` requests at once."""
        self.limit = count

    def statistics(self) -> dict[str, int]:
        """Return counts of threads: started, waiting for requests, blocked in outgoing calls."""
        with self._lock:
            return {"threads": self._started, "waiting": self.waiting, "blocked": self._blocked, "limit": self.limit}

    def close(self) -> None:
        """End the threads and wait for them (not for the calling one)."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            threads = list(self._threads)
        os.eventfd_write(self._end_bell, 1)
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join(limits.HANDSHAKE_WAIT)
        self.discard()

    def discard(self) -> None:
        """Close the descriptors (also in a forked child, whose threads do not exist)."""
        self._closed = True
        self._epoll.close()
        os.close(self._task_bell)
        os.close(self._end_bell)


class _TaskSource:
    """The queue of tasks as a member of the epoll set: one task per wake-up."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def serve(self) -> None:
        workers = self._workers
        try:
            os.eventfd_read(workers._task_bell)
            task = workers._tasks.popleft()
        except (BlockingIOError, IndexError):
            workers.arm(workers._task_bell)
            return
        if workers._tasks:
            os.eventfd_write(workers._task_bell, 1)
        workers.arm(workers._task_bell)
        try:
            task()
        except Exception:
            _log.exception("a task on a worker thread raised")
