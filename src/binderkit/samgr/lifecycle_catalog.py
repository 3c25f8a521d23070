"""Which processes and abilities are known: the profiles in force, and those that wait for a process to end. Pure.

Owns: the records of the state machine, by name and id, and how the profiles of a running SAMgr are exchanged.

Rules upheld: an id, and a name, belong to one process; a process that runs keeps the profile it was started with, so
what its abilities are never changes under it; a new set of profiles is taken over as far as nothing that runs stands in
its way, and the rest when that has ended; what is known without a profile lives as long as its process.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from binderkit import limits
from binderkit.errors import ServiceError
from binderkit.samgr import codes
from binderkit.samgr.lifecycle_records import AbilityRecord, ProcessRecord
from binderkit.samgr.profile import AbilityProfile, OnDemandEvents
from binderkit.samgr.states import ProcessState

if TYPE_CHECKING:
    from binderkit.samgr.profile import Profile


@dataclass(frozen=True, slots=True)
class ProfileChanges:
    """What a new set of profiles changes, by the names of processes.

    Attributes:
        added, changed, removed: compared with the set before.
        later: those of all three that a process which still runs stands in the way of; they come when it ended.
    """

    added: tuple[str, ...] = ()
    changed: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    later: tuple[str, ...] = ()


class Catalog:
    """The records of all processes and abilities.

    Args:
        profiles: by the name of their process; no id and no name of an ability occurs twice, here as in ``want``.

    Attributes:
        processes, abilities: the records, by name and by id. ids: the ids of abilities with a name.
    """

    def __init__(self, profiles: Mapping[str, Profile]) -> None:
        self.processes: dict[str, ProcessRecord] = {}
        self.abilities: dict[int, AbilityRecord] = {}
        self.ids: dict[str, int] = {}
        self._wanted = dict(profiles)
        self._pending = False
        for profile in profiles.values():
            self._enter(profile)

    # --- another set of profiles ------------------------------------------------------------------

    def want(self, profiles: Mapping[str, Profile]) -> ProfileChanges:
        """Note the profiles there are from now on; ``settle`` takes them over. Return what changes."""
        before, self._wanted = self._wanted, dict(profiles)
        self._pending = True
        added = tuple(name for name in profiles if name not in before)
        changed = tuple(name for name, one in profiles.items() if name in before and before[name] != one)
        removed = tuple(name for name in before if name not in profiles)
        later = tuple(name for name in (*added, *changed, *removed) if not self._can_settle(name))
        return ProfileChanges(added, changed, removed, later)

    @property
    def pending(self) -> bool:
        """Whether a process that runs, or ran when ``settle`` looked last, stands in the way of a profile."""
        return self._pending

    def is_removed(self, process: ProcessRecord) -> bool:
        """Whether a process runs on although its profile was removed."""
        return process.profile is not None and process.name not in self._wanted

    def settle(self) -> list[ProcessRecord]:
        """Take over of the wanted profiles what can be; return the records that are new."""
        if not self._pending:
            return []
        for process in list(self.processes.values()):
            if process.state is ProcessState.NOT_STARTED and process.profile != self._wanted.get(process.name):
                self.drop(process)
        fresh = [
            self._enter(profile)
            for profile in self._wanted.values()
            if profile.process not in self.processes and not self._is_blocked(profile)
        ]
        self._pending = any(not self._in_force(name) for name in {*self._wanted, *self.processes})
        return fresh

    def _in_force(self, name: str) -> bool:
        process, profile = self.processes.get(name), self._wanted.get(name)
        return (None if process is None else process.profile) == profile

    def _can_settle(self, name: str) -> bool:
        """Whether the next ``settle`` brings the process to what is wanted."""
        process, profile = self.processes.get(name), self._wanted.get(name)
        if process is not None and process.state is not ProcessState.NOT_STARTED:
            return process.profile == profile
        return profile is None or not self._is_blocked(profile)

    def _is_blocked(self, profile: Profile) -> bool:
        """Whether a process that runs has an ability of the profile."""
        for ability in profile.abilities:
            ids = {ability.id, self.ids.get(ability.name, ability.id)}
            owners = [self.abilities[one].process for one in ids if one in self.abilities]
            if any(one.state is not ProcessState.NOT_STARTED and one.name != profile.process for one in owners):
                return True
        return False

    # --- records ----------------------------------------------------------------------------------

    def _enter(self, profile: Profile) -> ProcessRecord:
        process = self.processes[profile.process] = ProcessRecord(profile.process, profile)
        for ability in profile.abilities:
            self._enter_ability(ability, process)
        return process

    def _enter_ability(self, profile: AbilityProfile, process: ProcessRecord) -> AbilityRecord:
        record = self.abilities[profile.id] = AbilityRecord(profile, process)
        process.abilities.append(record)
        if profile.name:
            self.ids[profile.name] = profile.id
        return record

    def drop(self, process: ProcessRecord) -> None:
        """Forget a process that does not run, and its abilities."""
        del self.processes[process.name]
        for record in process.abilities:
            del self.abilities[record.id]
            if record.profile.name:
                del self.ids[record.profile.name]

    def offer(self, ability: int, process: ProcessRecord) -> AbilityRecord:
        """Enter an ability that a process without profile starts when it is asked for; return its record.

        Raises:
            ServiceError: another process has the id (1005), the process has a profile without it (1002), or there are
                too many (1009).
        """
        known = self.abilities.get(ability)
        if known is not None and known.process is process:
            return known
        if known is not None:
            raise ServiceError(
                f"{known.title} belongs to process {known.process.name!r}; use another id",
                code=codes.INVALID_CALLING_PROCESS,
            )
        if process.profile is not None:
            raise ServiceError(
                f"the profile of process {process.name!r} has no system ability {ability}; add it there, and run "
                "'binderkit profiles reload'",
                code=codes.PROFILE_MISSING,
            )
        if len(process.abilities) >= limits.MAX_ON_DEMAND_PER_PROCESS:
            raise ServiceError(
                f"process {process.name!r} offers {len(process.abilities)} system abilities on demand already, that "
                "is the limit",
                code=codes.ON_DEMAND_LIMIT,
            )
        return self._enter_ability(AbilityProfile(ability, "", run_on_create=False), process)

    def ability_profiles(self) -> Iterator[AbilityProfile]:
        """Yield what is in force of every ability; nothing starts those any more whose profile was removed."""
        for record in self.abilities.values():
            if self.is_removed(record.process):
                yield replace(record.profile, start_on_demand=OnDemandEvents())
            else:
                yield record.profile
