"""samgr/states.py: OpenHarmony's numbers, which travel and so never change."""

from __future__ import annotations

from binderkit.samgr.states import AbilityState, ProcessChange, ProcessState


def test_the_numbers_are_those_of_the_reference() -> None:
    assert [one.name for one in AbilityState] == ["NOT_LOADED", "LOADING", "LOADED", "UNLOADABLE", "UNLOADING"]
    assert list(AbilityState) == [0, 1, 2, 3, 4]
    assert {one.name: one.value for one in ProcessState} == {
        "NOT_STARTED": 0,
        "STARTED": 1,
        "STOPPING": 2,
        "STARTING": 3,
    }
    assert {one.name: one.value for one in ProcessChange} == {"STARTED": 1, "STOPPED": 2, "ACTIVATED": 3, "IDLED": 4}
