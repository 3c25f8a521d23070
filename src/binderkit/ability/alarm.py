"""One thread that calls when a deadline has come.

Owns: the clock of the ability manager. The thread exists while there is something to wait for or has been, until
``close``.

Locks: ``_news`` guards the next time; nothing is called while it is held.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

_log = logging.getLogger("binderkit.ability")


class Alarm:
    """Calls ``ring`` once after each time that was set.

    Args:
        ring: called on the alarm's thread; it may ``set`` the next time.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring = ring
        self._news = threading.Condition(threading.Lock())
        self._at: float | None = None
        self._closed = False
        self._thread: threading.Thread | None = None

    def set(self, at: float | None) -> None:
        """Ring at ``at`` (seconds of time.monotonic()) instead of what was set before; None: not at all."""
        with self._news:
            if self._closed or at == self._at:
                return
            self._at = at
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="binderkit-alarm", daemon=True)
                self._thread.start()
            self._news.notify()

    def close(self) -> None:
        """Ring no more, and wait for a ring that is under way (unless it is what calls this)."""
        with self._news:
            self._closed = True
            thread = self._thread
            self._news.notify()
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while self._wait():
            try:
                self._ring()
            except Exception:
                _log.exception("what an alarm called failed")

    def _wait(self) -> bool:
        with self._news:
            while not self._closed:
                if self._at is None:
                    self._news.wait()
                    continue
                left = self._at - time.monotonic()
                if left <= 0:
                    self._at = None
                    return True
                self._news.wait(left)
            return False
