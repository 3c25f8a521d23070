"""When timed events are due (reference 2.6).

Owns: the table of timers. Pure: both clocks are arguments.

    loopevent, awakeloopevent   every N seconds, by a clock that counts the time the machine sleeps and never jumps
    timedevent                  once, when the wall clock of this time zone shows that time

Rules upheld: loops do not fire several times for periods that were missed; a kept (persistent) loop goes on where it
was after a restart, and a kept timedevent that came due meanwhile fires once, then never again; without persistence a
time that is over when the timer is made never fires.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from binderkit.samgr.conditions import CLOCK_EVENT, EventRule, OnDemandEvent, clock_time
from binderkit.samgr.reason import ReasonId

FIRED: Final = -1.0
"""In the place of a time: this timedevent fired, and never will again."""


@dataclass
class _Timer:
    """One timer: ``due`` by the wall clock for a timedevent, by the steady one for loops; None: never again."""

    name: str
    value: str
    keep: bool
    period: float | None
    due: float | None


def timers_of(rules: Iterable[EventRule]) -> dict[tuple[str, str], bool]:
    """Return (name, value) of the timed events in ``rules``, and whether one of their rules wants it kept."""
    found: dict[tuple[str, str], bool] = {}
    for rule in rules:
        if rule.id == ReasonId.TIMED_EVENT:
            key = rule.name, rule.value
            found[key] = found.get(key, False) or rule.persistence
    return found


class TimerTable:
    """Timers and when they are due.

    Args:
        kept: what ``kept`` returned before a restart.
    """

    def __init__(self, kept: Mapping[str, float] | None = None) -> None:
        self._before = dict(kept or {})
        self._timers: dict[tuple[str, str], _Timer] = {}

    def update(self, wanted: Mapping[tuple[str, str], bool], steady: float, wall: float) -> None:
        """Have exactly these timers; those that are there go on as they are.

        Args:
            wanted: as ``timers_of`` returns them. steady, wall: seconds of the two clocks, now.
        """
        for key in self._timers.keys() - wanted.keys():
            del self._timers[key]
        for key, keep in wanted.items():
            timer = self._timers.get(key)
            if timer is None:
                self._timers[key] = self._new(key, keep, steady, wall)
            else:
                timer.keep = keep

    def _new(self, key: tuple[str, str], keep: bool, steady: float, wall: float) -> _Timer:
        name, value = key
        before = self._before.pop(_key(name, value), None) if keep else None
        if name == CLOCK_EVENT:
            moment = clock_time(value)
            due = None if moment is None or before == FIRED else moment.timestamp()
            if due is not None and due <= wall and not keep:
                due = None
            return _Timer(name, value, keep, None, due)
        period = float(value)
        # A kept time is by the wall clock, which may have been set meanwhile: never wait for more than a period.
        wait = period if before is None else min(max(before - wall, 0.0), period)
        return _Timer(name, value, keep, period, steady + wait)

    def take_due(self, steady: float, wall: float) -> list[OnDemandEvent]:
        """Return the events that are due now, and set their timers for the next time."""
        events = []
        for timer in self._timers.values():
            now = wall if timer.period is None else steady
            if timer.due is None or timer.due > now:
                continue
            events.append(OnDemandEvent(ReasonId.TIMED_EVENT, timer.name, timer.value))
            timer.due = None if timer.period is None else _next(timer.due, timer.period, now)
        return events

    def wait(self, steady: float, wall: float) -> float | None:
        """Return the seconds until the next event is due, None when there is none."""
        waits = [
            timer.due - (wall if timer.period is None else steady)
            for timer in self._timers.values()
            if timer.due is not None
        ]
        return max(0.0, min(waits)) if waits else None

    def kept(self, steady: float, wall: float) -> dict[str, float]:
        """Return what has to be known after a restart: when kept timers are due, by the wall clock."""
        kept: dict[str, float] = {}
        for timer in self._timers.values():
            if not timer.keep:
                continue
            if timer.due is None:
                kept[_key(timer.name, timer.value)] = FIRED
            elif timer.period is not None:
                kept[_key(timer.name, timer.value)] = wall + timer.due - steady
        return kept


def _next(due: float, period: float, now: float) -> float:
    return due + period if due + period > now else now + period


def _key(name: str, value: str) -> str:
    return f"{name} {value}"
