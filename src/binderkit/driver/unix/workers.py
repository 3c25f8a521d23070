"""The pool of threads that handle requests, on one shared epoll set.

Owns: the epoll set of idle served lanes, the threads, and the queue of tasks
(death recipients, listeners). Threads are started on demand; the thread that
reads a request handles it (a hand-over would cost more than the whole call).

Rules upheld (ARCHITECTURE, Threads):
* At most ``limit`` requests are handled at once. A thread that waits in an outgoing call
  does not count: ``outgoing`` starts another one if nobody waits for requests, so that
  exhaustion never deadlocks. HARD_THREADS bounds everything.
* The last waiting thread never parks on a lane (``waiting`` is 0 then).
* An event loop may take the pool's place (``attach_loop``): it reads the lanes itself, no thread hand-over.
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
from typing import TYPE_CHECKING, Any, Protocol

from binderkit import limits
from binderkit.errors import IpcError

if TYPE_CHECKING:
    import asyncio

_log = logging.getLogger("binderkit.driver")
_IDLE = 30.0
"""Seconds after which a thread that is not the last one waiting ends."""
_LOOP_BATCH = 32
"""Lanes an event loop serves before its other callbacks get their turn."""
_ARMED = select.EPOLLIN | select.EPOLLONESHOT


class Worker:
    """One thread of a pool.

    Attributes:
        pool: the Workers it belongs to.
        lane: the shared lane it is the reader of.
        blocked: the process it waits for in an outgoing call (it does not count then), else None.
    """

    __slots__ = ("blocked", "lane", "pool", "thread")

    def __init__(self, pool: Workers) -> None:
        self.pool = pool
        self.lane: HandsOver | None = None
        self.blocked: object | None = None
        self.thread: threading.Thread | None = None


class _ThreadState(threading.local):
    worker: Worker | None = None


_this_thread = _ThreadState()


def reading(lane: HandsOver | None) -> None:
    """Note which shared lane the calling worker is the reader of."""
    worker = _this_thread.worker
    if worker is not None:
        worker.lane = lane


class HandsOver(Protocol):
    """A lane whose reading can go to another thread."""

    def hand_over(self) -> None:
        """Let another worker read on."""


class Source(Protocol):
    """Something in the epoll set: a lane, or the task queue."""

    def serve(self) -> None:
        """Handle what is readable; re-arm with ``Workers.arm`` unless finished."""

    def serve_now(self) -> None:
        """The same on an event loop: handle what is there without waiting for more."""


class Workers:
    """The pool of one node."""

    def __init__(self, name: str, on_starving: Callable[[], None]) -> None:
        """``on_starving`` is called when a request may find no thread; ``starving_since`` tells since when."""
        self._name = name
        self._on_starving = on_starving
        self._epoll = select.epoll()
        self._sources: dict[int, Source] = {}
        self._lock = threading.Lock()
        self._workers: set[Worker] = set()
        self.limit = limits.DEFAULT_WORK_THREADS
        self._numbered = 0
        self.waiting = 0
        self.starving_since: float | None = None
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
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
        if not self._workers and self._loop is None:
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

    def lanes(self) -> list[Any]:
        """Return the lanes of the epoll set, also those of peers that are gone (for the end)."""
        return [source for source in self._sources.values() if not isinstance(source, _TaskSource)]

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
        except (OSError, ValueError):
            _log.debug("a task was submitted to a closed pool")

    # --- threads -----------------------------------------------------------------------------

    def _grow(self) -> None:
        """Start a thread if the limits allow it."""
        with self._lock:
            if self._closed or self._loop is not None:
                return
            active = sum(worker.blocked is None for worker in self._workers)
            full = active >= self.limit or len(self._workers) >= limits.HARD_THREADS
            starving = full and self.waiting == 0 and self.starving_since is None
            if starving:
                self.starving_since = time.monotonic()
            elif not full:
                worker = Worker(self)
                self._workers.add(worker)
                # Counted as waiting from now on, or two callers would each start one.
                self.waiting += 1
        if starving:
            self._on_starving()
        if full:
            return
        self._numbered += 1
        name = f"binderkit-{self._name}-{self._numbered}"
        worker.thread = threading.Thread(target=self._run, args=(worker,), name=name, daemon=True)
        try:
            worker.thread.start()
        except RuntimeError:
            _log.exception("the system refused another worker thread")
            self._ended(worker)

    def enter_outgoing(self, target: object) -> Worker | None:
        """The calling thread is about to wait for another process, ``target``.

        If it is a worker of this pool, somebody else must wait for requests meanwhile,
        and a shared lane it reads goes to another reader.

        Returns:
            The worker, whose ``blocked`` the caller resets when it has its reply; None for other threads.
        """
        worker = _this_thread.worker
        if worker is None or worker.pool is not self:
            return None
        if worker.lane is not None:
            worker.lane.hand_over()
        worker.blocked = target
        if self.waiting == 0:
            self._grow()
        return worker

    def _run(self, worker: Worker) -> None:
        poll = self._epoll.poll
        _this_thread.worker = worker
        while True:
            try:
                events = poll(_IDLE, 1)
            except (ValueError, OSError):
                break
            if self._closed or self._loop is not None:
                if events and events[0][0] != self._end_bell:
                    self.arm(events[0][0])  # a lane that became ready right now: the loop's
                break
            if not events:
                if self._may_retire(worker):
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
                except BaseException:  # nothing may end the thread in here, or the counts would be wrong for ever
                    _log.exception("serving %r failed; this is a bug in binderkit", source)
            with self._lock:
                self.waiting += 1
                self.starving_since = None
        self._ended(worker)

    def _may_retire(self, worker: Worker) -> bool:
        with self._lock:
            if self.waiting <= 1:
                return False
            self.waiting -= 1
            self._workers.discard(worker)
            return True

    def _ended(self, worker: Worker) -> None:
        with self._lock:
            self.waiting -= 1
            self._workers.discard(worker)

    # --- an event loop instead of threads --------------------------------------------------------

    def reserve_for(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the threads, because ``loop`` will read the lanes; blocks while they finish their handlers.

        Raises:
            IpcError: another loop does so already.
        """
        with self._lock:
            if self._loop is not None:
                raise IpcError("another event loop serves this process already; leave its serving() first")
            self._loop = loop
        self._end_threads()
        os.eventfd_read(self._end_bell)

    def attach_loop(self, loop: asyncio.AbstractEventLoop) -> None:
        """Read the lanes on ``loop`` (the running one) from now on; ``reserve_for`` comes first."""
        loop.add_reader(self._epoll.fileno(), self._serve_ready)

    def detach_loop(self) -> None:
        """Go back to threads."""
        with self._lock:
            loop, self._loop = self._loop, None
        if loop is not None and not self._closed:
            loop.remove_reader(self._epoll.fileno())
            self._grow()

    def _serve_ready(self) -> None:
        """Serve what is ready, on the loop's thread."""
        ready = deque(fd for fd, _ in self._epoll.poll(0, _LOOP_BATCH))
        try:
            while ready:
                source = self._sources.get(ready.popleft())
                if source is not None:
                    source.serve_now()
        finally:
            # An interrupt ended the batch: the rest was taken out of the set by the poll.
            for fd in ready:
                self.arm(fd)

    def _end_threads(self) -> None:
        """Wake all threads so that they see they are to end; wait for them (not for the calling one)."""
        with self._lock:
            threads = [worker.thread for worker in self._workers]
        os.eventfd_write(self._end_bell, 1)
        for thread in threads:
            # One that is only about to start sees by itself that it is to end.
            if thread is not None and thread.ident is not None and thread is not threading.current_thread():
                thread.join(limits.HANDSHAKE_WAIT)

    def set_limit(self, count: int) -> None:
        """Handle at most ``count`` requests at once."""
        self.limit = count

    def waits_for(self) -> list[object]:
        """Return the processes that workers wait for in outgoing calls."""
        with self._lock:
            return [worker.blocked for worker in self._workers if worker.blocked is not None]

    def statistics(self) -> dict[str, int]:
        """Return counts of threads: started, waiting for requests, blocked in outgoing calls."""
        with self._lock:
            return {
                "threads": len(self._workers),
                "waiting": self.waiting,
                "blocked": sum(worker.blocked is not None for worker in self._workers),
                "limit": self.limit,
            }

    def close(self) -> None:
        """End the threads and wait for them (not for the calling one)."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._end_threads()
        self.discard()

    def discard(self) -> None:
        """Close the descriptors (also in a forked child, whose threads do not exist)."""
        self._closed = True
        self._epoll.close()
        # -1 first: a finalizer that still rings must not write into whatever gets the number next.
        bells = (self._task_bell, self._end_bell)
        self._task_bell = self._end_bell = -1
        for bell in bells:
            os.close(bell)


class _TaskSource:
    """The queue of tasks as a member of the epoll set: one task per wake-up."""

    def __init__(self, workers: Workers) -> None:
        self._workers = workers

    def serve_now(self) -> None:
        self.serve()

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
        except BaseException as error:
            if threading.current_thread() is threading.main_thread() and not isinstance(error, Exception):
                raise  # an interrupt of the program's own event loop
            _log.exception("a task on a worker thread raised")
