"""The threads that take requests out of an engine's queue, and may execute one themselves.

Owns: ``Receivers``: its threads, and how many of them are free to receive.

Why: to hand a request to another thread costs as much as a third of a whole call between devices. So whoever received
it executes it, as long as another one is left to receive; only when all others are busy it is handed over.

Rules upheld: one thread always receives, so nothing that executes can stop the engine; requests may be taken a little
out of order, which their numbers mend (windows).

Locks: ``_lock`` guards the count of those that receive; nothing is called under it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from typing import Final, Generic, TypeVar

__all__ = ["Job", "Receivers"]

_log = logging.getLogger("binderkit.softbus")
_COUNT: Final = 4
"""Threads; all but one of them may execute at once. More of them do not make calls faster, each looks for signals ten
times a second."""

Job = Callable[[], None]
T = TypeVar("T")


class Receivers(Generic[T]):
    """The threads of one queue.

    Args:
        name: part of their names.
        receive: blocks for the next request; None: there will be no more.
        handle: ``handle(request, may_execute)`` must not block; returns what is to be executed on this thread, which
            it may only when ``may_execute``.
    """

    def __init__(self, name: str, receive: Callable[[], T | None], handle: Callable[[T, bool], Job | None]) -> None:
        self._receive = receive
        self._handle = handle
        self._lock = threading.Lock()
        self._receiving = _COUNT
        self._threads = [
            threading.Thread(target=self._run, name=f"{name}-{number}", daemon=True) for number in range(_COUNT)
        ]

    def start(self) -> None:
        """Begin to receive."""
        for thread in self._threads:
            thread.start()

    @property
    def are_alive(self) -> bool:
        """Whether one of them still receives or executes."""
        return any(thread.is_alive() for thread in self._threads)

    def join(self, wait: float = math.inf) -> None:
        """Wait until all have ended: ``receive`` says that there is no more, and what they execute is done.

        Args:
            wait: seconds for each at most.
        """
        for thread in self._threads:
            if thread is not threading.current_thread() and thread.ident is not None:
                thread.join(None if wait == math.inf else wait)

    def _run(self) -> None:
        receive, handle = self._receive, self._handle
        while (request := receive()) is not None:
            with self._lock:
                self._receiving -= 1
                may_execute = self._receiving > 0
            try:
                job = handle(request, may_execute)
                if job is not None:
                    job()
            except Exception:
                _log.exception("a request of another device failed")
            del request
            job = None
            with self._lock:
                self._receiving += 1
