"""The monitor thread: everything of a node that is not a call.

Owns: one epoll set with all control connections, process descriptors (pidfd),
listening sockets, connections being introduced, and lanes whose call was given up. It
never blocks on a peer and never runs user code: deaths and listeners go to the workers.

It sleeps until something happens. While there is housekeeping (released proxies, shared slots to
give back, shared lanes with a busy reader) it ticks every 5 ms, and stops ticking after
200 ms without work; ``stir`` starts it again, safe from any finalizer because it takes no lock.
"""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Callable
from typing import Final

_log = logging.getLogger("binderkit.driver")
TICK: Final = 0.005
_QUIET_TICKS: Final = 40
Handler = Callable[[int], None]
"""Called with the epoll events of its descriptor."""


class Monitor:
    """The thread and its epoll set."""

    def __init__(self, name: str, housekeeping: Callable[[], bool]) -> None:
        """``housekeeping`` is called on every tick and returns whether there was something to do."""
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._housekeeping = housekeeping
        self._stirred = False
        self._closed = False
        self._thread = threading.Thread(target=self._run, name=f"binderkit-{name}-monitor", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def watch(self, fd: int, handler: Handler, events: int = select.EPOLLIN) -> None:
        """Have ``handler`` called on the monitor thread whenever ``fd`` is ready."""
        self._handlers[fd] = handler
        self._epoll.register(fd, events)

    def change(self, fd: int, events: int) -> None:
        """Wait for other events of ``fd``."""
        try:
            self._epoll.modify(fd, events)
        except (OSError, ValueError):
            _log.debug("descriptor %d is no longer watched", fd)

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``; call before closing it."""
        if self._handlers.pop(fd, None) is None:
            return
        try:
            self._epoll.unregister(fd)
        except (OSError, ValueError):
            _log.debug("descriptor %d was gone from the monitor already", fd)

    def stir(self) -> None:
        """There is housekeeping to do (finalizers call this: no lock, at most one system call)."""
        if not self._stirred:
            self._stirred = True
            self.ring()

    def ring(self) -> None:
        """Wake the thread."""
        try:
            os.eventfd_write(self._bell, 1)
        except (OSError, ValueError):
            _log.debug("the monitor is closed")

    def _run(self) -> None:
        quiet = 0
        while not self._closed:
            try:
                events = self._epoll.poll(TICK if self._stirred else None, 64)
            except (OSError, ValueError):
                break
            for fd, mask in events:
                self._handle(fd, mask)
            if not self._stirred:
                continue
            if self._housekeeping():
                quiet = 0
                continue
            quiet += 1
            if quiet >= _QUIET_TICKS:
                quiet = 0
                # In this order: what is enqueued after the flag fell rings the bell again.
                self._stirred = False
                self._housekeeping()

    def _handle(self, fd: int, mask: int) -> None:
        if fd == self._bell:
            try:
                os.eventfd_read(fd)
            except (BlockingIOError, OSError):
                _log.debug("the bell was silent")
            return
        handler = self._handlers.get(fd)
        if handler is None:
            return
        try:
            handler(mask)
        except Exception:
            _log.exception("the monitor failed on descriptor %d; this is a bug in binderkit", fd)

    @property
    def is_current(self) -> bool:
        """Whether the calling thread is the monitor."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """End the thread and wait for it."""
        self._closed = True
        self.ring()
        if self._thread.is_alive() and not self.is_current:
            self._thread.join()
        self.discard()

    def discard(self) -> None:
        """Close the descriptors (also in a forked child, whose thread does not exist)."""
        self._closed = True
        self._epoll.close()
        # -1 first: a finalizer that still rings must not write into whatever gets the number next.
        bell, self._bell = self._bell, -1
        os.close(bell)
