"""samgr/lifecycle_records.py: what follows from one record alone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.samgr.lifecycle_records import AbilityRecord, ProcessRecord, Waiting
from binderkit.samgr.profile import AbilityProfile, StopEvents
from binderkit.samgr.reason import OnDemandReason
from binderkit.samgr.states import AbilityState, ProcessState


def record(stop: StopEvents | None = None, name: str = "") -> AbilityRecord:
    profile = AbilityProfile(5, "m:C", name=name, stop_on_demand=stop or StopEvents())
    return AbilityRecord(profile, ProcessRecord("p"))


@given(st.lists(st.floats(0, 100), max_size=40))
def test_never_more_than_four_restarts_within_twenty_seconds(pauses: list[float]) -> None:
    process, now, granted = ProcessRecord("p"), 0.0, list[float]()
    for pause in pauses:
        now += pause
        if process.may_restart(now):
            granted.append(now)
        else:
            assert sum(now - moment <= limits.RESTART_WINDOW for moment in granted) >= limits.MAX_RESTARTS
    for first, fifth in zip(granted, granted[limits.MAX_RESTARTS :], strict=False):
        assert fifth - first > limits.RESTART_WINDOW


def test_the_delay_of_an_unload_grows_after_a_quick_return() -> None:
    one = record(StopEvents(recycle_delay=3.0))
    assert one.unload_delay() == 3.0
    one.ended, one.loaded = 0.0, 599.0
    assert one.unload_delay() == 3.0 + limits.RECYCLE_DELAY_ADDED
    one.loaded = 600.0
    assert one.unload_delay() == 3.0


def test_deadlines_are_all_there() -> None:
    one = record(StopEvents(long_unused=60.0))
    assert list(one.deadlines()) == []
    one.state, one.used = AbilityState.LOADED, 1.0
    one.waiting = {"a": Waiting(7, 3.0), "b": Waiting(7, None)}
    one.look_at, one.give_up_at = 5.0, 6.0
    assert sorted(one.deadlines()) == [3.0, 5.0, 6.0, 61.0]
    one.unload, one.unload_at = OnDemandReason(), 7.0
    assert sorted(one.deadlines()) == [3.0, 5.0, 6.0, 7.0]
    process = ProcessRecord("p", stop_by=1.0, register_by=2.0)
    assert list(process.deadlines()) == [1.0, 2.0]


def test_what_is_kept_and_what_is_reset() -> None:
    one = record(name="five")
    assert one.title == "system ability 5 'five'" and record().title == "system ability 5"
    one.agreed, one.unload, one.unload_at = True, OnDemandReason(), 1.0
    assert [one.keep(), one.keep()] == [True, False]
    assert [one.unload, one.unload_at] == [None, None]
    one.waiting["a"] = Waiting(7, None)
    one.state = AbilityState.LOADED
    one.reset(9.0)
    assert (one.state, one.ended) == (AbilityState.NOT_LOADED, 9.0)
    assert one.take_waiting() == ("a",) and one.take_waiting() == ()
    process = ProcessRecord("p", abilities=[one], state=ProcessState.STARTED, pid=7, managed=True)
    assert process.is_idle()
    process.reset()
    assert (process.state, process.pid, process.managed) == (ProcessState.NOT_STARTED, 0, False)
