"""Worker threads that run tasks of a driver, started on demand.

Owns: the threads, and the tasks that wait for one: calls of coroutines, death recipients, in the loopback driver
one-way calls too.

Rules upheld (ARCHITECTURE, Threads): at most ``set_limit`` tasks run at once; a thread that waits in an outgoing
call does not count, so that exhaustion is never a deadlock.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator

from binderkit import limits

_log = logging.getLogger("binderkit.driver")
_worker = threading.local()
"""pool: the pool the current thread is a worker of."""


class Pool:
    """Worker threads of one process, started on demand."""

    def __init__(self, title: str) -> None:
        self._title = title
        self._changed = threading.Condition()
        self._tasks: deque[Callable[[], None]] = deque()
        self._threads: list[threading.Thread] = []
        self._idle = 0
        self._blocked = 0
        self._limit = limits.DEFAULT_WORK_THREADS
        self._closed = False

    def submit(self, task: Callable[[], None]) -> None:
        """Run ``task`` on a worker; nothing happens in a process that ended."""
        with self._changed:
            if self._closed:
                return
            self._tasks.append(task)
            self._grow_locked()
            self._changed.notify()

    def set_limit(self, count: int) -> None:
        """Run at most ``count`` tasks at once, not counting those that wait in an outgoing call."""
        with self._changed:
            self._limit = count
            self._grow_locked()

    def _grow_locked(self) -> None:
        started = len(self._threads)
        if len(self._tasks) <= self._idle or started - self._blocked >= self._limit or started >= limits.HARD_THREADS:
            return
        thread = threading.Thread(target=self._run, name=f"{self._title}-{started}", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self) -> None:
        _worker.pool = self
        while True:
            with self._changed:
                self._idle += 1
                while not self._closed and (not self._tasks or self._busy_locked() >= self._limit):
                    self._changed.wait()
                self._idle -= 1
                if self._closed:
                    return
                task = self._tasks.popleft()
            try:
                task()
            except Exception:
                _log.exception("a task on a worker thread raised")
            del task

    def _busy_locked(self) -> int:
        return len(self._threads) - self._idle - self._blocked

    @contextlib.contextmanager
    def outgoing(self) -> Iterator[None]:
        """The calling thread waits for another process: a worker of ours does not count meanwhile."""
        if getattr(_worker, "pool", None) is not self:
            yield
            return
        with self._changed:
            self._blocked += 1
            self._grow_locked()
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._blocked -= 1

    def close(self) -> None:
        """Take no more tasks; threads end after the task they are in."""
        with self._changed:
            self._closed = True
            self._tasks.clear()
            self._changed.notify_all()

    def join(self) -> None:
        """Wait until the threads have ended."""
        for thread in self._threads:
            if thread is threading.current_thread():
                continue
            thread.join(limits.HANDSHAKE_WAIT)
            if thread.is_alive():
                _log.warning("%s is still in a handler that does not end; its call was cancelled", thread.name)
