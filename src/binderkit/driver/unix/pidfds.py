"""Waiting for processes to end, and for other descriptors, without a thread for each.

Owns: one thread with one epoll set (DescriptorWatch), and the short waits that code outside the drivers needs. Here
because waiting on descriptors belongs to the drivers.

Rules upheld: an action runs on the watch's thread, once per ``watch``; an action that raises is logged and the others
go on. An action may be called for a descriptor whose number was given to another one meanwhile, so it looks for itself.
"""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from collections.abc import Callable, Iterable

_log = logging.getLogger("binderkit.driver")
Action = Callable[[], None]


class DescriptorWatch:
    """Calls an action on its own thread when a descriptor becomes readable (a pidfd does when its process ends).

    Args:
        name: of the thread, after "binderkit-".
        on_tick: called every ``interval`` seconds while something is watched, and never otherwise.
    """

    def __init__(self, name: str, *, on_tick: Action, interval: float) -> None:
        self._epoll = select.epoll()
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._epoll.register(self._bell, select.EPOLLIN)
        self._actions: dict[int, Action] = {}
        self._lock = threading.Lock()  # of the two above; nothing else is done while it is held
        self._on_tick = on_tick
        self._interval = interval
        self._next_tick = 0.0
        self._closed = False
        self._orphaned = False
        self._thread = threading.Thread(target=self._run, name=f"binderkit-{name}", daemon=True)
        self._thread.start()

    def watch(self, fd: int, action: Action) -> None:
        """Have ``action`` called once when ``fd`` becomes readable; its thread must not have to wait for the caller."""
        if not self._actions:
            self._next_tick = time.monotonic() + self._interval
        with self._lock:
            self._actions[fd] = action
            self._epoll.register(fd, select.EPOLLIN | select.EPOLLONESHOT)
            self._ring()  # it may sleep without a tick

    def forget(self, fd: int) -> None:
        """Stop watching ``fd``; call before closing it. Nothing happens when it is not watched."""
        self._take(fd)

    def _take(self, fd: int) -> Action | None:
        """Return the action of ``fd``, which is not watched any more; None when it was not."""
        with self._lock:
            action = self._actions.pop(fd, None)
            if action is not None:
                self._epoll.unregister(fd)
            return action

    @property
    def is_current(self) -> bool:
        """Whether the calling thread is the watch's."""
        return threading.current_thread() is self._thread

    def close(self) -> None:
        """End the thread and wait for it, unless it is the caller. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._ring()
        if self.is_current:
            self._orphaned = True  # nobody waits for the thread, so it tidies up itself
            return
        self._thread.join()
        self._discard()

    def _ring(self) -> None:
        os.eventfd_write(self._bell, 1)

    def _run(self) -> None:
        while not self._closed:
            for fd, _ in self._epoll.poll(self._patience(), 64):
                if fd == self._bell:
                    os.eventfd_read(fd)
                    continue
                action = self._take(fd)
                if action is not None:
                    _run_safely(action)
            if self._actions and time.monotonic() >= self._next_tick:
                self._next_tick = time.monotonic() + self._interval
                _run_safely(self._on_tick)
        if self._orphaned:
            self._discard()

    def _patience(self) -> float | None:
        return max(0.0, self._next_tick - time.monotonic()) if self._actions else None

    def _discard(self) -> None:
        with self._lock:
            self._epoll.close()
            os.close(self._bell)


def _run_safely(action: Action) -> None:
    try:
        action()
    except Exception:
        _log.exception("an action of a watched descriptor raised; the others go on")


def wait_readable(fd: int, timeout: float) -> bool:
    """Wait at most ``timeout`` seconds until ``fd`` is readable or its other end closed; return whether it is."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(max(0.0, timeout) * 1000))


def wait_all_readable(fds: Iterable[int], timeout: float) -> set[int]:
    """Wait at most ``timeout`` seconds in total until all of ``fds`` are readable; return those that are not."""
    left = set(fds)
    until = time.monotonic() + timeout
    while left:
        poller = select.poll()
        for fd in left:
            poller.register(fd, select.POLLIN)
        ready = poller.poll(max(0.0, until - time.monotonic()) * 1000)
        left -= {fd for fd, _ in ready}
        if not ready:
            return left
    return left
