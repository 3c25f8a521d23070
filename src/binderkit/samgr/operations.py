"""What the parts of SAMgr's service share: the registry's state, and how a part adds operations.

Owns: ``Operation`` and ``Part`` (the interface by which parts such as access tokens add transactions to SAMgr's), and
``Core``, everything that operations work on.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Protocol

from binderkit.errors import RefusedError, ServiceError
from binderkit.ipc import invocation
from binderkit.samgr import codes
from binderkit.samgr.lifecycle import Lifecycle
from binderkit.samgr.lifecycle_events import EventPolicies
from binderkit.samgr.lifecycle_runner import LifecycleRunner
from binderkit.samgr.table import AbilityTable, Entry
from binderkit.samgr.teller import Submit, Teller

if TYPE_CHECKING:
    from binderkit.ipc.context import Caller
    from binderkit.parcel import MessageSequence
    from binderkit.samgr.ability import AbilityKey
    from binderkit.samgr.conditions import EventRule
    from binderkit.samgr.policy import Policy
    from binderkit.samgr.profile import Profile
    from binderkit.samgr.starter import Starter

Operation = Callable[["MessageSequence", "MessageSequence", "Caller"], "Awaitable[None] | None"]
"""Handles one transaction: reads ``data`` behind the token, writes the result (0 first) and what follows to the reply;
raises ServiceError or ParamError for a refusal that travels as a code and a text."""
Permitted = Callable[["Caller", str], bool]
"""Whether a caller has a permission."""


class Part(Protocol):
    """Something that adds transactions to SAMgr's."""

    @property
    def operations(self) -> Mapping[int, Operation]:
        """The operations by their transaction codes, none of which SAMgr has itself."""


class Core:
    """What SAMgr knows, and its one lock, each time held for a few statements; nothing is called under it.

    A second lock orders what collectors of events are told; it is taken before the other one.
    """

    def __init__(
        self,
        policy: Policy,
        profiles: Mapping[str, Profile],
        starter: Starter | None,
        submit: Submit,
        permitted: Permitted | None,
        start_timeout: float,
        references_interval: float,
    ) -> None:
        self.policy = policy
        self.starter = starter
        self.lock = threading.Lock()
        self._telling = threading.Lock()
        self.table = AbilityTable()
        self.lifecycle = Lifecycle(profiles, start_timeout=start_timeout, references_interval=references_interval)
        self.policies = EventPolicies([one for profile in profiles.values() for one in profile.abilities])
        self.teller = Teller(self.lock, submit)
        self.runner = LifecycleRunner(self.lifecycle, self.table, self.teller, self.lock, starter, submit)
        self.runner.profiles_changed = self._follow_profiles
        self._permitted = permitted
        self.remote_abilities = remote_abilities(profiles.values())
        """Ids and names of abilities that only other devices have, and programs of this one use."""

        self.bury: Callable[[Entry], None] = lambda entry: None
        """What is done without the lock about an entry whose object is found dead before its death notice came."""

        self.rules_changed: Callable[[list[EventRule]], None] = lambda rules: None
        """What is done without the lock when a program changed the events of its abilities, or profiles changed."""

    def _follow_profiles(self) -> Callable[[], None]:
        """Under the lock: have the events follow the profiles; return what tells the collectors."""
        self.policies.follow(self.lifecycle.ability_profiles())
        return self.tell_rules

    def tell_rules(self) -> None:
        """Without the lock: tell the collectors the rules in force; the last they hear is how it is."""
        with self._telling:
            with self.lock:
                rules = self.policies.all_rules()
            self.rules_changed(rules)

    def find(self, key: AbilityKey) -> Entry | None:
        """Without the lock: return the registered ability, None when there is none, or its process is gone."""
        with self.lock:
            entry = self.table.find(key)
        if entry is not None and entry.remote.is_object_dead():
            self.bury(entry)
            return None
        return entry

    def refuse_get(self, caller: Caller, key: AbilityKey) -> None:
        """Raise RefusedError (303) unless policy and the permission of its profile let ``caller`` have the ability."""
        record = self.lifecycle.find(key)
        if record is None:
            keys: tuple[AbilityKey, ...] = (key,)
        else:
            keys = (record.id, record.profile.name) if record.profile.name else (record.id,)
        refuse_if(self.policy.may_get(caller, keys))
        self.refuse_get_permission(caller, key)

    def refuse_get_permission(self, caller: Caller, key: AbilityKey) -> None:
        """Raise RefusedError (303) unless ``caller`` has the permission that the ability's profile asks for."""
        record = self.lifecycle.find(key)
        if record is None or not record.profile.permission:
            return
        if record.profile.remote_access and self.speaks_for_devices(caller):
            return  # for a device that the profile names; the process that speaks for ours asked which those are
        self.require(caller, record.profile.permission, f"get {record.title}")

    def require(self, caller: Caller, permission: str, what: str) -> None:
        """Raise RefusedError (303) unless ``caller`` has ``permission`` (is trusted, if nobody knows permissions)."""
        if self._has(caller, permission):
            return
        raise RefusedError(
            f"{caller!r} may not {what}: it needs the permission {permission!r}; its profile or manifest must ask "
            "for it and the device's permissions.toml must grant it"
        )

    def speaks_for_devices(self, caller: Caller) -> bool:
        """Whether ``caller`` is who speaks for this device among others (softbus), or may do everything here."""
        return not caller.device_id and self._has(caller, invocation.PERMISSION)

    def _has(self, caller: Caller, permission: str) -> bool:
        if self._permitted is None:
            return self.policy.is_trusted(caller)
        return self._permitted(caller, permission)

    def require_trust(self, caller: Caller, what: str) -> None:
        """Raise RefusedError (303) unless ``caller`` is SAMgr's own user or root (reference 2.4: native tokens)."""
        if not self.policy.is_trusted(caller):
            raise RefusedError(f"uid {caller.uid} may not {what}; only root and SAMgr's own user may")

    def hosts(self, caller: Caller, ability: int) -> bool:
        """Whether ``caller`` is the process of an ability, which may be about to register it."""
        with self.lock:
            record, entry = self.lifecycle.find(ability), self.table.find(ability)
        pids = (0 if record is None else record.process.pid, 0 if entry is None else entry.info.pid)
        return not caller.device_id and caller.pid > 0 and caller.pid in pids

    def check_own(self, ability: int, caller: Caller) -> None:
        """Raise unless ``caller`` is the process of the ability (reference 2.2, 21 and 22).

        Raises:
            ServiceError: it is not (1005).
        """
        with self.lock:
            record = self.lifecycle.find(ability)
            entry = self.table.find(ability)
        if record is None:
            # Without profile it has no states; lifecycle says so. But its id must not tell strangers anything.
            if entry is None or entry.info.pid == caller.pid:
                return
        elif record.process.pid == caller.pid:
            return
        raise ServiceError(
            f"process {caller.pid} does not host system ability {ability}; only its own process may do this",
            code=codes.INVALID_CALLING_PROCESS,
        )


def remote_abilities(profiles: Iterable[Profile]) -> frozenset[AbilityKey]:
    """Return the ids and names of abilities of other devices that the profiles name."""
    return frozenset(key for profile in profiles for key in profile.remote_abilities)


def refuse_if(reason: str | None) -> None:
    """Raise RefusedError (303) if there is a reason."""
    if reason is not None:
        raise RefusedError(reason)
