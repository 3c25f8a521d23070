"""samgr/conditions.py: when events match rules, and which rules can be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import ParamValueError
from binderkit.interface import Interface, method, proxy
from binderkit.samgr.conditions import (
    MAX_RULES,
    Condition,
    EventRule,
    LoadPriority,
    OnDemandEvent,
    check_rules,
    clock_time,
    is_parameter_name,
    rule_problems,
    value_matches,
)
from binderkit.samgr.reason import ReasonId

PARAM, COMMON = ReasonId.PARAM, ReasonId.COMMON_EVENT


def test_values() -> None:
    for wanted, value, expected in [
        ("", "anything", True),
        ("true", "true", True),
        ("true", "True", False),
        ("=5", "5", True),
        ("=5", "5.0", True),
        ("5", "5.0", False),
        ("=on", "on", True),
        ("=on", "off", False),
        (">5", "5", False),
        (">5", "5.5", True),
        (">=5", "5", True),
        (">=5", "4", False),
        ("<5", "5", False),
        ("<5", "-1", True),
        ("<=5", "5", True),
        ("<=5", "6", False),
        (">5", "many", False),
        (">5", "", False),
        ("<5", "nan", False),
        (">x", "6", False),
    ]:
        assert value_matches(wanted, value) is expected, (wanted, value)


@given(st.integers(-(10**15), 10**15), st.integers(-(10**15), 10**15))
def test_comparisons_are_those_of_numbers(limit: int, value: int) -> None:
    for sign, expected in (
        (">", value > limit),
        (">=", value >= limit),
        ("<", value < limit),
        ("<=", value <= limit),
        ("=", value == limit),
    ):
        assert value_matches(f"{sign}{limit}", str(value)) is expected


@given(st.text(), st.text())
def test_any_texts_are_compared_without_an_error(wanted: str, value: str) -> None:
    assert value_matches(wanted, value) in (True, False)
    assert list(rule_problems(EventRule(COMMON, wanted, value))) is not None


def test_a_rule_wants_kind_name_value_and_what_the_event_brings() -> None:
    rule = EventRule(COMMON, "usual.event.X", ">=1", extra={"level": "<20", "who": ""})
    event = OnDemandEvent(COMMON, "usual.event.X", "1", {"level": "5", "who": "me", "more": "1"})
    assert rule.matches(event, {})
    for other in (
        OnDemandEvent(PARAM, event.name, event.value, event.extra),
        OnDemandEvent(COMMON, "usual.event.Y", event.value, event.extra),
        OnDemandEvent(COMMON, event.name, "0", event.extra),
        OnDemandEvent(COMMON, event.name, event.value, {"level": "20", "who": "me"}),
        OnDemandEvent(COMMON, event.name, event.value, {"level": "5"}),
    ):
        assert not rule.matches(other, {})


def test_all_conditions_must_hold_for_what_is_known() -> None:
    conditions = (Condition(PARAM, "a.on", "true"), Condition(ReasonId.SETTING_SWITCH, "wifi", "on"))
    rule = EventRule(PARAM, "b.start", conditions=conditions)
    event = OnDemandEvent(PARAM, "b.start", "1")
    known = {PARAM: {"a.on": "true"}, ReasonId.SETTING_SWITCH: {"wifi": "on"}}
    assert rule.matches(event, known)
    assert not rule.matches(event, {})
    assert not rule.matches(event, {**known, PARAM: {"a.on": "false"}})
    assert not rule.matches(event, {PARAM: known[PARAM]})


def test_rules_that_cannot_be() -> None:
    for rule, field, why in [
        (EventRule(ReasonId.INTERFACE_CALL, "x"), "id", "no event a rule can be about"),
        (EventRule(ReasonId.UNREFERENCED, "x"), "id", "deviceonline, settingswitch, param"),
        (EventRule(PARAM, ""), "name", "0 characters, expected 1 to 128"),
        (EventRule(PARAM, "a" * 129), "name", "129 characters"),
        (EventRule(PARAM, "a", "v" * 129), "value", "129 characters"),
        (EventRule(PARAM, "a..b"), "name", "cannot be a parameter"),
        (EventRule(PARAM, "a", ">x"), "value", "no number; write e.g. '>=5'"),
        (EventRule(ReasonId.DEVICE_ONLINE, "online", "on"), "name", "the only one is 'deviceonline'"),
        (EventRule(ReasonId.DEVICE_ONLINE, "deviceonline", "yes"), "value", "write 'on' or 'off'"),
        (EventRule(ReasonId.SETTING_SWITCH, "wifi", ""), "value", "write 'on' or 'off'"),
        (EventRule(ReasonId.TIMED_EVENT, "loop", "60"), "name", "there are loopevent, awakeloopevent and timedevent"),
        (EventRule(ReasonId.TIMED_EVENT, "loopevent", "29"), "value", "seconds from 30 to"),
        (EventRule(ReasonId.TIMED_EVENT, "loopevent", "-60"), "value", "seconds from 30 to"),
        (EventRule(ReasonId.TIMED_EVENT, "loopevent", "9" * 30), "value", "seconds from 30 to"),
        (EventRule(ReasonId.TIMED_EVENT, "awakeloopevent", "3599"), "value", "seconds from 3600 to"),
        (
            EventRule(ReasonId.TIMED_EVENT, "timedevent", "2030-2-30-0:0:0"),
            "value",
            "year-month-day-hour:minute:second",
        ),
        (EventRule(PARAM, "a", persistence=True), "persistence", "only timed events"),
        (EventRule(PARAM, "a", conditions=(Condition(PARAM, "a"),) * 17), "conditions", "17 of them, allowed are 16"),
        (
            EventRule(PARAM, "a", conditions=(Condition(ReasonId.INTERFACE_CALL, "a"),)),
            "conditions[0].eventId",
            "param",
        ),
        (EventRule(PARAM, "a", conditions=(Condition(PARAM, "a", "<"),)), "conditions[0].value", "no number"),
        (EventRule(COMMON, "a", extra={"": "1"}), "extra-messages.", "1 to 128"),
        (EventRule(COMMON, "a", extra={"b": ">b"}), "extra-messages.b", "no number"),
        (EventRule(COMMON, "a", extra={str(one): "" for one in range(33)}), "extra-messages", "33 of them"),
    ]:
        problems = list(rule_problems(rule))
        assert any(where == field and why in words for where, words in problems), problems
        with pytest.raises(ParamValueError, match="event rule 0"):
            check_rules((rule,))


def test_too_many_rules() -> None:
    rules = (EventRule(PARAM, "a"),) * MAX_RULES
    check_rules(rules)
    with pytest.raises(ParamValueError, match="at most 100"):
        check_rules((*rules, rules[0]))


def test_rules_that_can() -> None:
    for rule in [
        EventRule(ReasonId.TIMED_EVENT, "loopevent", "30", persistence=True),
        EventRule(ReasonId.TIMED_EVENT, "awakeloopevent", "3600"),
        EventRule(ReasonId.TIMED_EVENT, "timedevent", "2030-1-31-8:00:00"),
        EventRule(ReasonId.DEVICE_ONLINE, "deviceonline", "off"),
        EventRule(ReasonId.SETTING_SWITCH, "wifi_status", "on"),
        EventRule(PARAM, "persist.a", "=some text"),
    ]:
        assert list(rule_problems(rule)) == []


def test_times_and_names() -> None:
    assert str(clock_time("2030-01-31-23:59:59")) == "2030-01-31 23:59:59"
    for bad in (
        "",
        "2030-1-31",
        "30-1-31-8:0:0",
        "2030-1-31-24:0:0",
        "2030-1-31-8:0:0 ",
        "0000-1-1-0:0:0",
        "٢٠٣٠-1-1-0:0:0",
    ):
        assert clock_time(bad) is None
    assert is_parameter_name("persist.a_b-c.x@y:1")
    for bad in ("", ".a", "a.", "a..b", "a b", "a\n", "ä", "a" * 129):
        assert not is_parameter_name(bad)


class IRules(Interface, descriptor="test.IRules"):
    @method
    def same(self, rules: tuple[EventRule, ...], event: OnDemandEvent) -> tuple[EventRule, ...]: ...


class Rules(IRules):
    def same(self, rules: tuple[EventRule, ...], event: OnDemandEvent) -> tuple[EventRule, ...]:
        assert event.data == "d"
        return rules


def test_rules_and_events_travel_in_typed_calls() -> None:
    rule = EventRule(
        COMMON, "n", "v", load_priority=LoadPriority.HIGH, conditions=(Condition(PARAM, "p", "1"),), extra={"a": "b"}
    )
    assert proxy(IRules, Rules()).same((rule,), OnDemandEvent(COMMON, "n", data="d")) == (rule,)
