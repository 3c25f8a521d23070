"""Timed events: a thread that posts what timers.py says is due.

Owns: the thread, and the file in which kept timers survive a restart of the daemon. Locks: ``_changed`` (a condition)
guards the table; nothing is posted while it is held.

Rules upheld: the thread sleeps until something is due, and without timers for ever; it looks at the clocks every 30 s,
because somebody can set one, and the other goes on while the machine sleeps, which the thread's own waiting does not.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

from binderkit.samgr.conditions import EventRule, OnDemandEvent
from binderkit.samgr.events.timers import TimerTable, timers_of
from binderkit.samgr.profile_dir import write_private

_log = logging.getLogger("binderkit.samgr")
FILE: Final = "timers.json"
MAX_FILE: Final = 1024 * 1024
CLOCK_LOOK: Final = 30.0
"""Seconds between two looks at the clocks, at most."""
_END_WAIT: Final = 5.0

Clocks = Callable[[], tuple[float, float]]


def system_clocks() -> tuple[float, float]:
    """Return the steady clock, which counts time asleep and never jumps, and the wall clock, in seconds."""
    return time.clock_gettime(time.CLOCK_BOOTTIME), time.time()


class TimedEvents:
    """Posts timed events.

    Args:
        rules: the profiles' rules; those about timed events are taken.
        file: where kept timers are written; None: nowhere.
        clocks: the two clocks.
    """

    def __init__(
        self, rules: Iterable[EventRule] = (), file: Path | None = None, *, clocks: Clocks = system_clocks
    ) -> None:
        self._file = file
        self._clocks = clocks
        self._changed = threading.Condition()
        self._table = TimerTable({} if file is None else _read(file))
        self._table.update(timers_of(rules), *clocks())
        self._closed = False
        self._thread: threading.Thread | None = None
        self._written: dict[str, float] | None = None

    def start(self, post: Callable[[OnDemandEvent], object]) -> None:
        """Post events from now on, on a thread of its own."""
        self._thread = threading.Thread(target=self._run, args=(post,), name="binderkit-timers", daemon=True)
        self._thread.start()

    def update(self, rules: Iterable[EventRule]) -> None:
        """Use other rules; timers that both have go on."""
        wanted = timers_of(rules)
        with self._changed:
            self._table.update(wanted, *self._clocks())
            self._changed.notify()

    def look(self) -> None:
        """Look at the clocks now (they were set)."""
        with self._changed:
            self._changed.notify()

    def close(self) -> None:
        """End the thread and keep what is to be kept. Idempotent."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None and self._thread is not threading.current_thread():
            self._thread.join(_END_WAIT)
        self._keep()

    def _run(self, post: Callable[[OnDemandEvent], object]) -> None:
        while True:
            with self._changed:
                events = [] if self._closed else self._table.take_due(*self._clocks())
                if not events:
                    if self._closed:
                        return
                    self._keep()
                    self._changed.wait(self._pause())
                    continue
            self._keep()  # before they are posted: a crash in between must not make them fire twice
            for event in events:
                post(event)

    def _pause(self) -> float | None:
        wait = self._table.wait(*self._clocks())
        return None if wait is None else min(wait, CLOCK_LOOK)

    def _keep(self) -> None:
        """Write the file if the timers in it are other ones, or came due; their times do not move by themselves."""
        if self._file is None:
            return
        kept = self._table.kept(*self._clocks())
        written = self._written
        if written is not None and written.keys() == kept.keys():
            if all(abs(written[key] - kept[key]) < 1.0 for key in kept):
                return
        elif written is None and not kept and not self._file.exists():
            return
        try:
            write_private(self._file, json.dumps(kept).encode())
        except OSError as error:
            _log.error("timed events cannot be kept in %s: %s", self._file, error)
        self._written = kept


def _read(file: Path) -> dict[str, float]:
    """Return what is kept; a damaged file means that timers start anew."""
    try:
        with file.open("rb") as kept:
            content = kept.read(MAX_FILE + 1)
    except FileNotFoundError:
        return {}
    try:
        values = json.loads(content)
        return {str(key): float(value) for key, value in values.items()}
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        _log.error("the kept timed events in %s cannot be used, all timers start anew: %s", file, error)
        return {}
