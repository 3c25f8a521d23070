"""How the main thread of a service process waits for its end: a signal, or somebody who says so.

It also answers other signals there, such as SIGHUP, that do not mean the end.

Owns: the signal handlers and the wake-up descriptor of the process while it is entered. Why not threading.Event: a
signal that comes right before the thread blocks runs no Python code then, and nobody wakes the thread. The descriptor
is written by the interpreter's C code as the signal arrives, so it cannot be missed.
"""

from __future__ import annotations

import logging
import os
import select
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

_log = logging.getLogger("binderkit.driver")


class Ending:
    """The end of this process, as its main thread waits for it. A context manager, for the main thread only."""

    def __init__(self, signals: Iterable[int] = (signal.SIGTERM,)) -> None:
        """``signals``: those that mean the end."""
        self._signals = tuple(signals)
        self._bell = self._woken = self._waker = self._former_fd = -1
        self._former: dict[int, Any] = {}
        self._actions: dict[int, Callable[[], None]] = {}
        self._arrived: deque[int] = deque()

    def __enter__(self) -> Ending:
        self._bell = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._woken, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._former_fd = signal.set_wakeup_fd(self._waker, warn_on_full_buffer=False)
        self._former = {number: signal.signal(number, self._on_signal) for number in self._signals}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._former_fd)
        bell, self._bell = self._bell, -1
        for fd in (bell, self._woken, self._waker):
            os.close(fd)

    def _on_signal(self, number: int, frame: object) -> None:
        self.come()

    def on(self, number: int, action: Callable[[], None]) -> None:
        """Have ``action`` called, by the main thread in its wait, whenever another signal arrives.

        In the wait and not in the handler: a handler interrupts whatever the thread does, with whatever lock it holds.
        Signals that arrive before the wait are answered when it begins. Call it while this is entered.
        """
        self._actions[number] = action
        former = signal.signal(number, self._on_other_signal)
        self._former.setdefault(number, former)

    def _on_other_signal(self, number: int, frame: object) -> None:
        self._arrived.append(number)

    def come(self) -> None:
        """The end is here (any thread)."""
        try:
            os.eventfd_write(self._bell, 1)
        except (OSError, ValueError) as error:
            _log.debug("nobody waits for the end any more: %s", error)

    def wait(self, seconds: float | None = None) -> bool:
        """Wait until the end comes, at most ``seconds`` (None: for ever); return whether it came."""
        until = None if seconds is None else time.monotonic() + seconds
        poller = select.poll()
        for fd in (self._bell, self._woken):
            poller.register(fd, select.POLLIN)
        while True:
            while self._arrived:
                self._actions[self._arrived.popleft()]()
            left = None if until is None else max(0.0, until - time.monotonic()) * 1000
            ready = [fd for fd, _ in poller.poll(left)]
            # Between this line and the next look the handler of whatever signal woke us has run.
            if self._bell in ready:
                return True
            if self._woken in ready:
                os.read(self._woken, 4096)
            elif until is not None and time.monotonic() >= until:
                return False
