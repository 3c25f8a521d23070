"""Work that is done on a thread of its own, once for all that asked for it meanwhile.

Owns: ``Latest``. Why: what follows a change (a session opened anew, a file written) takes long, and whoever made the
change must not wait for it; three changes in a row need it once, with the last state.

Rules upheld: whatever asks after the work began has it done once more; what the work raises is logged, and the thread
goes on.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

__all__ = ["Latest"]

_log: Final = logging.getLogger("binderkit.softbus")


class Latest:
    """Does ``work`` soon after ``due``, on a thread called ``name``."""

    def __init__(self, work: Callable[[], None], name: str) -> None:
        self._work = work
        self._changed = threading.Condition()
        self._due = self._closed = False
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def due(self) -> None:
        """Have the work done; never blocks."""
        with self._changed:
            self._due = True
            self._changed.notify()

    def close(self, *, last: bool = False) -> None:
        """End; waits for work under way. ``last``: do what is still due first. May be called twice."""
        with self._changed:
            self._closed = True
            self._due = self._due and last
            self._changed.notify()
        self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._due or self._closed)
                if not self._due:
                    return
                self._due = False
            try:
                self._work()
            except Exception:
                _log.exception("%s failed", threading.current_thread().name)
