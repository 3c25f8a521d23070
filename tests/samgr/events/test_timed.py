"""samgr/events/timed.py: the thread and its file; the clocks are the test's."""

from __future__ import annotations

import json
import queue
from datetime import datetime
from pathlib import Path

import pytest

from binderkit.samgr.conditions import EventRule, OnDemandEvent
from binderkit.samgr.events.timed import TimedEvents, system_clocks
from binderkit.samgr.reason import ReasonId

WAIT = 10.0
LOOP = EventRule(ReasonId.TIMED_EVENT, "loopevent", "60", persistence=True)
AT = EventRule(ReasonId.TIMED_EVENT, "timedevent", "2030-1-31-8:00:00", persistence=True)
MOMENT = datetime(2030, 1, 31, 8).timestamp()


class Clocks:
    def __init__(self) -> None:
        self.steady, self.wall = 0.0, MOMENT - 30

    def __call__(self) -> tuple[float, float]:
        return self.steady, self.wall

    def advance(self, seconds: float) -> None:
        self.steady += seconds
        self.wall += seconds


def test_events_are_posted_when_the_clocks_say_so() -> None:
    clocks, posted = Clocks(), queue.Queue[OnDemandEvent]()
    timed = TimedEvents([LOOP, AT], clocks=clocks)
    timed.start(posted.put)
    try:
        clocks.advance(30)
        timed.look()
        assert posted.get(timeout=WAIT).name == "timedevent"
        clocks.advance(30)
        timed.look()
        assert posted.get(timeout=WAIT) == OnDemandEvent(ReasonId.TIMED_EVENT, "loopevent", "60")
        timed.update([EventRule(ReasonId.TIMED_EVENT, "loopevent", "30")])
        clocks.advance(30)
        timed.look()
        assert posted.get(timeout=WAIT).value == "30"
    finally:
        timed.close()
        timed.close()
    assert posted.empty()


def test_the_thread_wakes_by_itself() -> None:
    start, posted = system_clocks()[0], queue.Queue[OnDemandEvent]()
    # The loop began almost a period ago; from the second look on the clock really runs.
    looks = iter((0.0,))

    def clocks() -> tuple[float, float]:
        return next(looks, 59.9 + system_clocks()[0] - start), MOMENT

    timed = TimedEvents([EventRule(ReasonId.TIMED_EVENT, "loopevent", "60")], clocks=clocks)
    timed.start(posted.put)
    try:
        assert posted.get(timeout=WAIT).name == "loopevent"
    finally:
        timed.close()


def test_kept_timers_survive_a_restart(tmp_path: Path) -> None:
    file, clocks, posted = tmp_path / "timers.json", Clocks(), queue.Queue[OnDemandEvent]()
    first = TimedEvents([LOOP, AT], file, clocks=clocks)
    first.start(posted.put)
    clocks.advance(30)
    first.look()
    assert posted.get(timeout=WAIT).name == "timedevent"
    first.close()
    assert file.stat().st_mode & 0o777 == 0o600
    clocks.advance(20)
    clocks.steady = 7.0
    second = TimedEvents([LOOP, AT], file, clocks=clocks)
    second.start(posted.put)
    clocks.advance(10)
    second.look()
    assert posted.get(timeout=WAIT).name == "loopevent"
    second.close()
    assert posted.empty()


def test_nothing_is_written_when_nothing_is_kept(tmp_path: Path) -> None:
    timed = TimedEvents([], tmp_path / "timers.json")
    timed.start(lambda event: None)
    timed.close()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("content", [b"", b"[1]", b'{"a": "b"}', b'{"a": null}', b"\xff", b"[" * 50_000])
def test_a_damaged_file_means_starting_anew(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "timers.json"
    file.write_bytes(content)
    timed = TimedEvents([LOOP], file, clocks=Clocks())
    timed.start(lambda event: None)
    timed.close()
    assert json.loads(file.read_bytes()) == {"loopevent 60": MOMENT + 30}


def test_a_file_that_cannot_be_written_is_told(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    timed = TimedEvents([LOOP], tmp_path / "none" / "timers.json", clocks=Clocks())
    timed.close()
    assert "cannot be kept" in caplog.text
