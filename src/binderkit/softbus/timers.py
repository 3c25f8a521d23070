"""Things to do later, on one thread.

Owns: ``Timers``, a heap of moments and what is due at them.

Why: time-outs of requests, repeats of one-way messages and the delay before a
device counts as gone all need "later", rarely, and none is worth a thread of
its own. The thread starts with the first thing to do and sleeps exactly until
the next one is due.

Rules upheld: the monotonic clock only (a clock that is set back changes
nothing); things due at the same moment run in the order they were asked for;
what raises is logged and does not stop the others.
"""

from __future__ import annotations

import heapq
import logging
import threading
import time
from collections.abc import Callable
from itertools import count

__all__ = ["Timers"]

_log = logging.getLogger("binderkit.softbus")


class Timers:
    """Calls functions at later moments, one after another, on a thread of its own.

    Args:
        name: part of the thread's name.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._order = count()
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closed = False

    def after(self, seconds: float, task: Callable[[], None]) -> None:
        """Call ``task`` on the thread, ``seconds`` (0 or more) from now; after close: never. It must not block."""
        self.at(time.monotonic() + seconds, task)

    def at(self, moment: float, task: Callable[[], None]) -> None:
        """Call ``task`` at a moment of time.monotonic(): tasks of one moment run in the order they were asked for."""
        with self._changed:
            if self._closed:
                return
            heapq.heappush(self._due, (moment, next(self._order), task))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name=f"{self._name}-timers", daemon=True)
                self._thread.start()
            elif self._due[0][2] is task:
                self._changed.notify()

    def close(self) -> None:
        """Forget what is still to do and end the thread; may be called twice, and from a task."""
        with self._changed:
            self._closed = True
            self._due.clear()
            self._changed.notify()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while (task := self._next()) is not None:
            try:
                task()
            except Exception:
                _log.exception("a task of %s failed", self._name)
            del task  # or what it holds would live until the next one comes

    def _next(self) -> Callable[[], None] | None:
        with self._changed:
            while not self._closed:
                if not self._due:
                    self._changed.wait()
                    continue
                remaining = self._due[0][0] - time.monotonic()
                if remaining <= 0:
                    return heapq.heappop(self._due)[2]
                self._changed.wait(remaining)
            return None
