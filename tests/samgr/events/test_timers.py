"""samgr/events/timers.py: when timers are due, with clocks of the test's own."""

from __future__ import annotations

from datetime import datetime

from hypothesis import given
from hypothesis import strategies as st

from binderkit.samgr.conditions import EventRule
from binderkit.samgr.events.timers import FIRED, TimerTable, timers_of
from binderkit.samgr.reason import ReasonId

LOOP = ("loopevent", "60")
AT = ("timedevent", "2030-1-31-8:00:00")
MOMENT = datetime(2030, 1, 31, 8).timestamp()


def made(
    wanted: dict[tuple[str, str], bool], steady: float, wall: float, kept: dict[str, float] | None = None
) -> TimerTable:
    table = TimerTable(kept)
    table.update(wanted, steady, wall)
    return table


def due(table: TimerTable, steady: float, wall: float) -> list[tuple[str, str]]:
    return [(event.name, event.value) for event in table.take_due(steady, wall)]


def test_which_timers_rules_want() -> None:
    rules = [
        EventRule(ReasonId.PARAM, "a"),
        EventRule(ReasonId.TIMED_EVENT, *LOOP),
        EventRule(ReasonId.TIMED_EVENT, *LOOP, persistence=True),
        EventRule(ReasonId.TIMED_EVENT, *AT),
    ]
    assert timers_of(rules) == {LOOP: True, AT: False}


def test_a_loop_comes_every_period_whatever_the_wall_clock_does() -> None:
    table = made({LOOP: False}, 1000, MOMENT)
    assert table.wait(1000, MOMENT) == 60 and due(table, 1059, MOMENT) == []
    assert due(table, 1060, 0) == [LOOP] and due(table, 1060, 0) == []
    assert table.wait(1061, 10**12) == 59 and due(table, 1120, 10**12) == [LOOP]


def test_missed_periods_are_not_made_up_for() -> None:
    table = made({LOOP: False}, 0, 0)
    assert due(table, 1000, 0) == [LOOP]
    assert due(table, 1059, 0) == [] and due(table, 1060, 0) == [LOOP]


def test_a_clock_event_comes_once_by_the_wall_clock() -> None:
    table = made({AT: False}, 0, MOMENT - 100)
    assert table.wait(0, MOMENT - 100) == 100
    assert due(table, 10**6, MOMENT - 1) == [] and due(table, 1, MOMENT + 5) == [AT]
    assert table.wait(1, MOMENT + 5) is None and due(table, 1, MOMENT + 10**6) == []
    assert made({AT: False}, 0, MOMENT).wait(0, MOMENT) is None


def test_a_kept_clock_event_is_made_up_for_once() -> None:
    first = made({AT: True}, 0, MOMENT - 100)
    kept = first.kept(0, MOMENT - 100)
    second = made({AT: True}, 5, MOMENT + 100, kept)
    assert due(second, 5, MOMENT + 100) == [AT]
    kept = second.kept(5, MOMENT + 100)
    assert list(kept.values()) == [FIRED]
    assert due(made({AT: True}, 0, MOMENT + 200, kept), 0, MOMENT + 200) == []


def test_a_kept_loop_goes_on_where_it_was() -> None:
    kept = made({LOOP: True}, 0, 5000).kept(20, 5020)
    assert made({LOOP: True}, 900, 5030, kept).wait(900, 5030) == 30
    late = made({LOOP: True}, 900, 9999, kept)
    assert late.wait(900, 9999) == 0 and due(late, 900, 9999) == [LOOP]
    assert made({LOOP: True}, 900, 10, kept).wait(900, 10) == 60
    assert made({LOOP: False}, 900, 5030, kept).wait(900, 5030) == 60
    assert made({LOOP: False}, 0, 0).kept(0, 0) == {}


def test_an_update_keeps_what_goes_on() -> None:
    table = made({LOOP: False}, 0, 0)
    table.update({LOOP: True, ("loopevent", "90"): False}, 30, 30)
    assert table.wait(30, 30) == 30 and list(table.kept(30, 30).values()) == [60]
    table.update({}, 40, 40)
    assert table.wait(40, 40) is None and due(table, 10**6, 10**6) == []


@given(st.lists(st.floats(0, 200), max_size=30))
def test_a_loop_never_comes_faster_than_its_period(steps: list[float]) -> None:
    table, now = made({LOOP: False}, 0, 0), 0.0
    for step in steps:
        now += step
        wait = table.wait(now, 0)
        fired = due(table, now, 0)
        assert wait is not None and bool(fired) is (wait == 0) and len(fired) <= 1
        again = table.wait(now, 0)
        assert again is not None and 0 < again < 60.001
