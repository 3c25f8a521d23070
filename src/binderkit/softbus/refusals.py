"""Telling the log what was refused, without letting the refused fill it.

Owns: ``Refusals``.

Why: what is refused comes from devices that may be hostile, on the engine's
threads, which must never wait for a log file. So a refusal is noted, and a thread
of ours writes at most one line a second: the latest, and how many there were.
"""

from __future__ import annotations

import logging
import threading
from typing import Final

from binderkit.softbus.timers import Timers

__all__ = ["Refusals"]

_log = logging.getLogger("binderkit.softbus")
_INTERVAL: Final = 1.0
"""Seconds between two lines."""


class Refusals:
    """What was refused since the last line.

    Args:
        timers: what writes.
    """

    def __init__(self, timers: Timers) -> None:
        self._timers = timers
        self._lock = threading.Lock()
        self._latest = ""
        self._count = 0
        self._waiting = False
        self.total = 0

    def note(self, text: str) -> None:
        """Something was refused; ``text`` says what, and of whom. From any thread, never waits."""
        with self._lock:
            self.total += 1
            self._count += 1
            self._latest = text
            if self._waiting:
                return
            self._waiting = True
        self._timers.after(0, self._write)

    def _write(self) -> None:
        with self._lock:
            count, self._count = self._count, 0
            latest = self._latest
            if not count:
                self._waiting = False
                return
        more = f" (and {count - 1} more within a second)" if count > 1 else ""
        _log.warning("refused: %s%s", latest, more)
        self._timers.after(_INTERVAL, self._write)
