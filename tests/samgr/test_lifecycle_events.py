"""samgr/lifecycle_events.py: rules that match, policies that change, payloads that are kept."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.errors import ServiceError
from binderkit.samgr import codes
from binderkit.samgr.conditions import Condition, EventRule, LoadPriority, OnDemandEvent
from binderkit.samgr.lifecycle_events import EventPolicies, Payload, PolicyKind
from binderkit.samgr.profile import AbilityProfile, OnDemandEvents, StopEvents
from binderkit.samgr.reason import ReasonId

PARAM = ReasonId.PARAM


def rule(name: str = "a.b", value: str = "", **more: Any) -> EventRule:
    return EventRule(PARAM, name, value, **more)


def ability(id: int, *start: EventRule, stop: tuple[EventRule, ...] = (), allow: bool = False) -> AbilityProfile:
    return AbilityProfile(
        id, "m:C", start_on_demand=OnDemandEvents(allow, start), stop_on_demand=StopEvents(allow, stop)
    )


def event(name: str = "a.b", value: str = "1", **more: Any) -> OnDemandEvent:
    return OnDemandEvent(PARAM, name, value, **more)


def test_an_event_starts_and_stops_what_waits_for_it_with_a_reason() -> None:
    policies = EventPolicies([ability(1, rule(value="1")), ability(2, stop=(rule(value="=1"),)), ability(3, rule("c"))])
    starts, stops, reason = policies.matching(event(extra={"k": "v"}))
    assert (starts, stops) == ([1], [2])
    assert (reason.id, reason.name, reason.value, reason.extra, reason.extra_data_id) == (
        PARAM,
        "a.b",
        "1",
        {"k": "v"},
        0,
    )
    assert policies.matching(event(value="2"))[:2] == ([], [])


def test_urgent_abilities_come_first() -> None:
    policies = EventPolicies(
        [
            ability(1, rule(load_priority=LoadPriority.LOW)),
            ability(2, rule(load_priority=LoadPriority.HIGH)),
            ability(3, rule()),
        ]
    )
    assert policies.matching(event())[0] == [2, 3, 1]


def test_a_rule_that_counts_once_counts_once_and_anew_after_an_update() -> None:
    once = rule(enable_once=True)
    policies = EventPolicies([ability(1, once, allow=True)])
    assert [policies.matching(event())[0] for _ in range(3)] == [[1], [], []]
    policies.update(1, PolicyKind.START, (once,))
    assert policies.matching(event())[0] == [1]


def test_conditions_look_at_what_earlier_events_told() -> None:
    waits = rule(conditions=(Condition(PARAM, "other", ">5"),))
    policies = EventPolicies([ability(1, waits)])
    assert policies.matching(event())[0] == []
    policies.matching(event("other", "6"))
    assert policies.matching(event())[0] == [1]
    policies.matching(event("other", "5"))
    assert policies.matching(event())[0] == []


def test_what_is_known_is_bounded() -> None:
    policies = EventPolicies([])
    for number in range(limits.MAX_KNOWN_VALUES + 10):
        policies.matching(event(f"n{number}"))
    assert len(policies._known[PARAM]) == limits.MAX_KNOWN_VALUES
    policies.matching(event("n0", "new"))
    assert policies._known[PARAM]["n0"] == "new"


def test_the_payload_of_a_common_event_that_starts_something_is_kept_for_a_while() -> None:
    policies = EventPolicies([ability(1, EventRule(ReasonId.COMMON_EVENT, "usual.event.X"))])
    told = OnDemandEvent(ReasonId.COMMON_EVENT, "usual.event.X", "7", {"k": "v"}, "data")
    first = policies.matching(told)[2].extra_data_id
    assert policies.payload(first) == Payload("7", "data", {"k": "v"})
    for _ in range(limits.MAX_EXTRA_DATA):
        last = policies.matching(told)[2].extra_data_id
    assert policies.payload(last).data == "data"
    for gone in (first, 0, -1, last + 1):
        with pytest.raises(ServiceError, match="no extra data"):
            policies.payload(gone)
    unheard = OnDemandEvent(ReasonId.COMMON_EVENT, "usual.event.Y", "7")
    assert policies.matching(unheard)[2].extra_data_id == 0


def test_policies_change_where_the_profile_allows_it() -> None:
    policies = EventPolicies([ability(1, rule(), allow=True), ability(2, rule())])
    assert policies.rules(1, PolicyKind.START) == (rule(),)
    policies.update(1, PolicyKind.START, (rule("new"),))
    policies.update(1, PolicyKind.STOP, (rule("end"),))
    assert policies.matching(event())[:2] == ([2], [])
    assert policies.matching(event("new"))[:2] == ([1], [])
    assert policies.matching(event("end"))[:2] == ([], [1])
    assert {one.name for one in policies.all_rules()} == {"a.b", "new", "end"}
    for id, words in ((2, "allow-update"), (9, "no profile")):
        with pytest.raises(ServiceError, match=words) as caught:
            policies.update(id, PolicyKind.STOP, ())
        assert caught.value.code == codes.NOT_ON_DEMAND
        with pytest.raises(ServiceError, match=words):
            policies.rules(id, PolicyKind.START)


def test_rules_that_cannot_be_used_change_nothing() -> None:
    policies = EventPolicies([ability(1, rule(), allow=True)])
    for bad in ((rule("not a name"),), (rule(),) * 101, (rule(value=">x"),), (EventRule(ReasonId.UNREFERENCED, "x"),)):
        with pytest.raises(ServiceError) as caught:
            policies.update(1, PolicyKind.START, bad)
        assert caught.value.code == codes.INVALID_INPUT
    assert policies.rules(1, PolicyKind.START) == (rule(),)


@given(st.lists(st.tuples(st.integers(1, 4), st.sampled_from(["a", "b"]), st.booleans()), max_size=8), st.data())
def test_every_ability_is_started_at_most_once_per_event(
    rows: list[tuple[int, str, bool]], data: st.DataObject
) -> None:
    rules: dict[int, list[EventRule]] = {}
    for id, name, once in rows:
        rules.setdefault(id, []).append(rule(name, enable_once=once))
    policies = EventPolicies([ability(id, *own) for id, own in rules.items()])
    used: dict[int, int] = dict.fromkeys(rules, 0)
    for name in data.draw(st.lists(st.sampled_from(["a", "b", "c"]), max_size=6)):
        starts, _, _ = policies.matching(event(name))
        assert len(starts) == len(set(starts))
        for id in starts:
            used[id] += 1
            assert any(one.name == name for one in rules[id])
        for id, own in rules.items():
            if any(one.name == name and not one.enable_once for one in own):
                assert id in starts
    for id, own in rules.items():
        if all(one.enable_once for one in own):
            assert used[id] <= len(own)


def test_the_payloads_of_an_ability_are_found_by_its_id_and_the_event() -> None:
    def told(name: str) -> OnDemandEvent:
        return OnDemandEvent(ReasonId.COMMON_EVENT, name, "1")

    x, y = (EventRule(ReasonId.COMMON_EVENT, f"usual.event.{name}") for name in "XY")
    policies = EventPolicies([ability(1, x, y), ability(2, y)])
    numbers = [policies.matching(told(f"usual.event.{name}"))[2].extra_data_id for name in "XYX"]
    assert policies.payload_ids(1) == numbers
    assert policies.payload_ids(1, "usual.event.X") == [numbers[0], numbers[2]]
    assert policies.payload_ids(2) == [numbers[1]]
    assert policies.payload_ids(2, "usual.event.X") == policies.payload_ids(3) == []


def test_rules_follow_other_profiles_and_what_was_changed_stays_where_the_profile_says_the_same() -> None:
    once, other = rule(enable_once=True), rule("other")
    policies = EventPolicies([ability(1, once), ability(2, once), ability(3, once, allow=True), ability(4, once)])
    assert policies.matching(event())[0] == [1, 2, 3, 4]
    policies.update(3, PolicyKind.START, (rule("mine"),))
    policies.follow([ability(1, once), ability(2, once, rule("c")), ability(3, once, allow=True), ability(5, other)])
    assert policies.matching(event())[0] == [2]  # 1 is used up as before, 2 has other rules, 3 its own, 4 is gone
    assert policies.matching(event("mine"))[0] == [3]
    assert policies.matching(event("other"))[0] == [5]
    assert {one.name for one in policies.all_rules()} == {"a.b", "c", "mine", "other"}
    policies.follow([])
    policies.follow([ability(1, once)])
    assert policies.matching(event())[0] == [1]  # one that was away begins anew


@given(st.lists(st.dictionaries(st.integers(1, 4), st.sampled_from("abc"), max_size=4), max_size=6))
def test_after_any_changes_the_rules_are_those_of_the_last_profiles(sets: list[dict[int, str]]) -> None:
    policies = EventPolicies([])
    for one in sets:
        policies.follow([ability(id, rule(name)) for id, name in one.items()])
        policies.matching(event("a"))
        assert sorted(found.name for found in policies.all_rules()) == sorted(one.values())
        assert sorted(policies.matching(event("b"))[0]) == sorted(id for id, name in one.items() if name == "b")
