"""On-demand events, and the rules of profiles that say which of them start or stop an ability (reference 2.6).

Owns: ``OnDemandEvent`` (something happened), ``EventRule`` with its ``Condition``s (what a profile waits for), when the
two match, and what a rule may look like. Pure. All of them are dataclasses that can travel in typed calls, because
policies are read and updated at run time.

Rules upheld: the same checks for rules of profiles and for rules set at run time; numbers are compared as numbers,
and a value that is none never matches a comparison.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import IntEnum
from typing import Final

from binderkit.errors import ParamValueError
from binderkit.samgr.reason import ReasonId

MAX_TEXT: Final = 128
"""Characters of a name or value in a rule (reference 2.6)."""
MAX_RULES: Final = 100
"""Rules of one ability for starting, and for stopping (own choice; the reference limits extensions so)."""
MAX_CONDITIONS: Final = 16
MAX_EXTRA: Final = 32
"""Extra messages of a rule (own choices)."""
MIN_LOOP: Final = 30
MIN_AWAKE_LOOP: Final = 3600
"""Seconds between two loopevents, and two awakeloopevents, at least (reference 2.6)."""
MAX_LOOP: Final = 366 * 24 * 3600

LOOP_EVENT: Final = "loopevent"
AWAKE_LOOP_EVENT: Final = "awakeloopevent"
CLOCK_EVENT: Final = "timedevent"
DEVICE_EVENT: Final = "deviceonline"
SWITCH_VALUES: Final = ("on", "off")

KINDS: Final[Mapping[str, ReasonId]] = {
    "deviceonline": ReasonId.DEVICE_ONLINE,
    "settingswitch": ReasonId.SETTING_SWITCH,
    "param": ReasonId.PARAM,
    "commonevent": ReasonId.COMMON_EVENT,
    "timedevent": ReasonId.TIMED_EVENT,
}
"""Names of the kinds of events that rules can be about."""

_COMPARISON: Final = re.compile(r"(>=|<=|=|>|<)(.*)", re.DOTALL)
_CLOCK: Final = re.compile(r"(\d{4})-(\d{1,2})-(\d{1,2})-(\d{1,2}):(\d{1,2}):(\d{1,2})", re.ASCII)
_PARAMETER: Final = re.compile(r"[A-Za-z0-9_@:-]+(\.[A-Za-z0-9_@:-]+)*", re.ASCII)


class LoadPriority(IntEnum):
    """How urgent it is to start an ability for an event."""

    HIGH = 1
    MEDIUM = 2
    LOW = 3


@dataclass(frozen=True)
class OnDemandEvent:
    """Something that can start or stop abilities.

    Attributes:
        id: the kind. name, value: what happened: a parameter and its value, a common event and its code …
        extra: further texts (a common event's parameters). data: a common event's data.
    """

    id: ReasonId
    name: str
    value: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    data: str = ""


@dataclass(frozen=True)
class Condition:
    """What must be so besides the event itself: the last known ``value`` of ``name``, as ``EventRule`` compares."""

    id: ReasonId
    name: str
    value: str = ""
    extra: dict[str, str] = field(default_factory=dict)

    def holds(self, known: Mapping[ReasonId, Mapping[str, str]]) -> bool:
        """Whether ``known`` (kind -> name -> last value) fulfils the condition; what is not known does not."""
        value = known.get(self.id, {}).get(self.name)
        return value is not None and value_matches(self.value, value)


@dataclass(frozen=True)
class EventRule:
    """An event that starts or stops an ability.

    Attributes:
        id, name: which event. value: what its value must be: a text; "" for any; "=5", ">5", ">=5", "<5", "<=5"
            for numbers.
        persistence: a timed event survives a restart of the device's daemon.
        enable_once: the rule counts once per life of the daemon.
        load_priority: how urgent the start is.
        conditions: what must be so besides. extra: texts the event must bring, compared as values are.
    """

    id: ReasonId
    name: str
    value: str = ""
    persistence: bool = False
    enable_once: bool = False
    load_priority: LoadPriority = LoadPriority.MEDIUM
    conditions: tuple[Condition, ...] = ()
    extra: dict[str, str] = field(default_factory=dict)

    def matches(self, event: OnDemandEvent, known: Mapping[ReasonId, Mapping[str, str]]) -> bool:
        """Whether ``event`` is what the rule waits for.

        Args:
            known: the last known values, kind -> name -> value, for the conditions.
        """
        if self.id != event.id or self.name != event.name or not value_matches(self.value, event.value):
            return False
        if not all(
            key in event.extra and value_matches(wanted, event.extra[key]) for key, wanted in self.extra.items()
        ):
            return False
        return all(condition.holds(known) for condition in self.conditions)


def value_matches(wanted: str, value: str) -> bool:
    """Whether ``value`` is what a rule's ``wanted`` says: any for "", a comparison of numbers, or the same text."""
    if not wanted:
        return True
    comparison = _COMPARISON.fullmatch(wanted)
    if comparison is None:
        return wanted == value
    sign, limit = comparison[1], _number(comparison[2])
    number = _number(value)
    if limit is None or number is None:
        return sign == "=" and comparison[2] == value
    if sign == "=":
        return number == limit
    if sign.startswith(">"):
        return number > limit or (number == limit and sign == ">=")
    return number < limit or (number == limit and sign == "<=")


def check_rules(rules: tuple[EventRule, ...]) -> None:
    """Refuse rules that cannot be used; for those that a program sets at run time.

    Raises:
        ParamValueError: says which rule and why (401).
    """
    if len(rules) > MAX_RULES:
        raise ParamValueError(f"{len(rules)} event rules; an ability has at most {MAX_RULES} for starting or stopping")
    for number, rule in enumerate(rules):
        for part, reason in rule_problems(rule):
            raise ParamValueError(f"event rule {number} ({rule.name!r}): {part}: {reason}")


def rule_problems(rule: EventRule) -> Iterator[tuple[str, str]]:
    """Yield (field, why and what is allowed) of every mistake in a rule."""
    if rule.id not in KINDS.values():
        yield "id", f"{rule.id!r} is no event a rule can be about; there are {', '.join(KINDS)}"
        return
    yield from _value_problems(rule.id, rule.name, rule.value)
    if rule.persistence and rule.id != ReasonId.TIMED_EVENT:
        yield "persistence", "only timed events can be kept over a restart; leave it out"
    if len(rule.conditions) > MAX_CONDITIONS:
        yield "conditions", f"{len(rule.conditions)} of them, allowed are {MAX_CONDITIONS}"
    for number, condition in enumerate(rule.conditions):
        place = f"conditions[{number}]"
        if condition.id not in KINDS.values() or condition.id == ReasonId.TIMED_EVENT:
            yield (
                f"{place}.eventId",
                f"{condition.id!r} has no state that lasts; use param, settingswitch, "
                + ("deviceonline or commonevent"),
            )
            continue
        for part, reason in _value_problems(condition.id, condition.name, condition.value):
            yield f"{place}.{part}", reason
    yield from _extra_problems(rule.extra)


def _extra_problems(extra: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    if len(extra) > MAX_EXTRA:
        yield "extra-messages", f"{len(extra)} of them, allowed are {MAX_EXTRA}"
    for key, value in extra.items():
        if not key or len(key) > MAX_TEXT or len(value) > MAX_TEXT:
            yield f"extra-messages.{key[:MAX_TEXT]}", f"names have 1 to {MAX_TEXT} characters, values up to {MAX_TEXT}"
        elif not comparable(value):
            yield f"extra-messages.{key}", _no_number(value)


def _value_problems(kind: ReasonId, name: str, value: str) -> Iterator[tuple[str, str]]:
    if not name or len(name) > MAX_TEXT:
        yield "name", f"it has {len(name)} characters, expected 1 to {MAX_TEXT}"
        return
    if len(value) > MAX_TEXT:
        yield "value", f"it has {len(value)} characters, allowed are {MAX_TEXT}"
        return
    if kind == ReasonId.TIMED_EVENT:
        yield from timer_problems(name, value)
        return
    if kind == ReasonId.DEVICE_ONLINE and name != DEVICE_EVENT:
        yield "name", f"{name!r} is no such event; the only one is {DEVICE_EVENT!r}"
    if kind in (ReasonId.DEVICE_ONLINE, ReasonId.SETTING_SWITCH) and value not in SWITCH_VALUES:
        yield "value", f"{value!r} is unknown; write 'on' or 'off'"
    elif kind == ReasonId.PARAM and not is_parameter_name(name):
        yield "name", f"{name!r} cannot be a parameter; names are like 'persist.photos.enabled'"
    elif not comparable(value):
        yield "value", _no_number(value)


def timer_problems(name: str, value: str) -> Iterator[tuple[str, str]]:
    """Yield (field, why and what is allowed) of every mistake in a timed event."""
    if name in (LOOP_EVENT, AWAKE_LOOP_EVENT):
        least = MIN_LOOP if name == LOOP_EVENT else MIN_AWAKE_LOOP
        if not (value.isascii() and value.isdigit()) or not least <= int(value[:12]) <= MAX_LOOP:
            yield "value", f"{value!r} is no number of seconds from {least} to {MAX_LOOP}"
    elif name == CLOCK_EVENT:
        if clock_time(value) is None:
            yield "value", f"{value!r} is no time; write year-month-day-hour:minute:second, e.g. '2030-1-31-8:00:00'"
    else:
        yield "name", f"{name!r} is no timed event; there are {LOOP_EVENT}, {AWAKE_LOOP_EVENT} and {CLOCK_EVENT}"


def clock_time(value: str) -> datetime | None:
    """Return the local time that a timedevent's value names, None when it names none."""
    found = _CLOCK.fullmatch(value)
    if found is None:
        return None
    try:
        moment = datetime(*(int(part) for part in found.groups()))  # type: ignore[arg-type]
        moment.timestamp()  # years that no clock of the system has
    except (ValueError, OverflowError, OSError):
        return None
    return moment


def is_parameter_name(name: str) -> bool:
    """Whether a system parameter can have this name: words of letters, digits, _ @ : -, joined by dots."""
    return len(name) <= MAX_TEXT and _PARAMETER.fullmatch(name) is not None


def comparable(value: str) -> bool:
    """Whether a rule's value is a text, or a comparison with a number."""
    comparison = _COMPARISON.fullmatch(value)
    return comparison is None or comparison[1] == "=" or _number(comparison[2]) is not None


def _no_number(value: str) -> str:
    return f"{value!r} compares with something that is no number; write e.g. '>=5', or '=text' for a text"


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if number == number else None
