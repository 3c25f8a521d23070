"""Events that start and stop abilities: which rules they meet, and what is kept of them. Pure.

Owns: the rules in force (a program may update those of its abilities where the profile allows it), the last known value
of everything events told (for conditions), and the payloads of common events that started something.

Rules upheld: reference 2.6; a rule with enable-once counts once; urgent rules go first; what is kept is bounded.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

from binderkit import limits
from binderkit.errors import ParamValueError, ServiceError
from binderkit.samgr import codes
from binderkit.samgr.conditions import EventRule, OnDemandEvent, check_rules
from binderkit.samgr.reason import OnDemandReason, ReasonId

if TYPE_CHECKING:
    from collections.abc import Iterable

    from binderkit.samgr.profile import AbilityProfile, OnDemandEvents


class PolicyKind(IntEnum):
    """Which events of an ability: those that start it, or those that stop it (reference 2.2, 27 and 28)."""

    START = 1
    STOP = 2


@dataclass(frozen=True, slots=True)
class Payload:
    """What a common event brought that started an ability (reference 2.2, 26)."""

    code: str = ""
    data: str = ""
    parameters: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """The payload of the common event ``event``, which started ``abilities``."""

    payload: Payload
    event: str
    abilities: frozenset[int]


class EventPolicies:
    """The rules of all abilities with a profile."""

    def __init__(self, profiles: Iterable[AbilityProfile]) -> None:
        self._profiles: dict[int, AbilityProfile] = {}
        self._rules: dict[tuple[int, PolicyKind], tuple[EventRule, ...]] = {}
        self._used: set[tuple[int, PolicyKind, int]] = set()
        self._known: dict[ReasonId, dict[str, str]] = {}
        self._payloads: OrderedDict[int, _Kept] = OrderedDict()
        self._last_payload = 0
        self.follow(profiles)

    def follow(self, profiles: Iterable[AbilityProfile]) -> None:
        """Go by these profiles from now on.

        What a program changed, and which rules were used up, counts on as long as the profile's own rules of that kind
        are the same.
        """
        before, self._profiles = self._profiles, {profile.id: profile for profile in profiles}
        rules, self._rules = self._rules, {}
        for profile in self._profiles.values():
            for kind in PolicyKind:
                old = before.get(profile.id)
                if old is not None and _events(old, kind) == _events(profile, kind):
                    self._rules[profile.id, kind] = rules[profile.id, kind]
                else:
                    self._rules[profile.id, kind] = _events(profile, kind).events
                    self._used = {mark for mark in self._used if mark[:2] != (profile.id, kind)}
        self._used = {mark for mark in self._used if mark[0] in self._profiles}

    def matching(self, event: OnDemandEvent) -> tuple[list[int], list[int], OnDemandReason]:
        """Note an event; return the abilities it starts, the more urgent first, those it stops, and the reason."""
        values = self._known.setdefault(event.id, {})
        if event.name in values or len(values) < limits.MAX_KNOWN_VALUES:
            values[event.name] = event.value
        starts = [(rule.load_priority, ability) for ability, rule in self._met(event, PolicyKind.START)]
        stops = [ability for ability, _ in self._met(event, PolicyKind.STOP)]
        starts.sort(key=lambda pair: pair[0])
        started = [ability for _, ability in starts]
        number = self._keep_payload(event, started) if starts and event.id is ReasonId.COMMON_EVENT else 0
        reason = OnDemandReason(event.id, event.name, event.value, dict(event.extra), number)
        return started, stops, reason

    def _met(self, event: OnDemandEvent, kind: PolicyKind) -> list[tuple[int, EventRule]]:
        met = []
        for (ability, of_kind), rules in self._rules.items():
            if of_kind is not kind:
                continue
            for number, rule in enumerate(rules):
                mark = (ability, kind, number)
                if mark in self._used or not rule.matches(event, self._known):
                    continue
                if rule.enable_once:
                    self._used.add(mark)
                met.append((ability, rule))
                break
        return met

    def _keep_payload(self, event: OnDemandEvent, started: list[int]) -> int:
        self._last_payload += 1
        payload = Payload(event.value, event.data, dict(event.extra))
        self._payloads[self._last_payload] = _Kept(payload, event.name, frozenset(started))
        if len(self._payloads) > limits.MAX_EXTRA_DATA:
            self._payloads.popitem(last=False)
        return self._last_payload

    def payload(self, number: int) -> Payload:
        """Return what the common event with this number brought (OnDemandReason.extra_data_id).

        Raises:
            ServiceError: no event has the number, or it was too long ago (1001).
        """
        found = self._payloads.get(number)
        if found is None:
            raise ServiceError(
                f"no extra data {number}: it is the extra_data_id of the reason an ability was started with, and the "
                f"last {limits.MAX_EXTRA_DATA} are kept",
                code=codes.INVALID_INPUT,
            )
        return found.payload

    def payload_ids(self, ability: int, event: str = "") -> list[int]:
        """Return the numbers of the payloads kept for an ability, oldest first; of one event's only, if it is named."""
        return [
            number
            for number, kept in self._payloads.items()
            if ability in kept.abilities and (not event or kept.event == event)
        ]

    def rules(self, ability: int, kind: PolicyKind) -> tuple[EventRule, ...]:
        """Return the rules in force.

        Raises:
            ServiceError: no profile has the ability, or the profile does not let its rules be read and changed (1021).
        """
        self._updatable(ability, kind)
        return self._rules[ability, kind]

    def update(self, ability: int, kind: PolicyKind, rules: tuple[EventRule, ...]) -> None:
        """Replace the rules of one kind.

        Raises:
            ServiceError: as ``rules``; or a rule cannot be used (1001).
        """
        self._updatable(ability, kind)
        try:
            check_rules(rules)
        except ParamValueError as error:
            raise ServiceError(str(error.args[0]), code=codes.INVALID_INPUT) from None
        self._rules[ability, kind] = rules
        self._used = {mark for mark in self._used if mark[:2] != (ability, kind)}

    def all_rules(self) -> list[EventRule]:
        """Return every rule in force: what collectors (timers) are to watch."""
        return [rule for rules in self._rules.values() for rule in rules]

    def _updatable(self, ability: int, kind: PolicyKind) -> None:
        profile = self._profiles.get(ability)
        if profile is None:
            raise ServiceError(
                f"no profile has system ability {ability}, so it has no on-demand events", code=codes.NOT_ON_DEMAND
            )
        if not _events(profile, kind).allow_update:
            part = "start-on-demand" if kind is PolicyKind.START else "stop-on-demand"
            raise ServiceError(
                f"the {part} events of system ability {ability} may not be read or changed at run time; "
                "its profile must say allow-update",
                code=codes.NOT_ON_DEMAND,
            )


def _events(profile: AbilityProfile, kind: PolicyKind) -> OnDemandEvents:
    return profile.start_on_demand if kind is PolicyKind.START else profile.stop_on_demand
