"""What is known of one ability and of one process: the records of the state machine. Pure.

Owns: the records, and what follows from one record alone.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from binderkit import limits
from binderkit.samgr.lifecycle_actions import Callback
from binderkit.samgr.reason import OnDemandReason
from binderkit.samgr.states import AbilityState, ProcessState

if TYPE_CHECKING:
    from binderkit.samgr.profile import AbilityProfile, Profile

IDLE_STATES = (AbilityState.NOT_LOADED, AbilityState.UNLOADABLE)


@dataclass(slots=True)
class Waiting:
    """Somebody who wants to be told of a load: which process, and until when it waits (None: as long as it takes)."""

    pid: int
    deadline: float | None


@dataclass(slots=True, eq=False)
class AbilityRecord:
    """One ability of a profile.

    Attributes:
        reason: why it was loaded last.
        waiting: who is to be told of the load under way.
        reload: set when a load was asked for while it, or its process, was ending.
        unload: why it is to be unloaded, None when nobody wants that.
        unload_at: when the unloading goes on. idle_asked: it was asked whether it is idle and did not answer yet.
        agreed: it said it is idle (and must be told when it is needed again).
        give_up_at: when a load that gets nowhere is given up.
        used, loaded, ended: when it was last asked for, registered, and over. look_at: when its references are counted.
    """

    profile: AbilityProfile
    process: ProcessRecord
    state: AbilityState = AbilityState.NOT_LOADED
    reason: OnDemandReason = field(default_factory=OnDemandReason)
    waiting: dict[Callback, Waiting] = field(default_factory=dict)
    reload: OnDemandReason | None = None
    unload: OnDemandReason | None = None
    unload_at: float | None = None
    idle_asked: bool = False
    agreed: bool = False
    give_up_at: float | None = None
    used: float = 0.0
    loaded: float = 0.0
    ended: float | None = None
    look_at: float | None = None

    @property
    def id(self) -> int:
        """The ability's id."""
        return self.profile.id

    @property
    def title(self) -> str:
        """What error texts call it."""
        name = f" {self.profile.name!r}" if self.profile.name else ""
        return f"system ability {self.profile.id}{name}"

    def unload_delay(self) -> float:
        """Return the seconds between the wish to unload it and the question whether it is idle (reference 2.5)."""
        delay = self.profile.stop_on_demand.recycle_delay
        soon = self.ended is not None and self.loaded - self.ended < limits.RESTARTED_LATELY
        return delay + limits.RECYCLE_DELAY_ADDED if soon else delay

    def keep(self) -> bool:
        """Forget that it was to be unloaded; return whether it must be told that it is needed again."""
        told = self.agreed
        self.unload = self.unload_at = None
        self.idle_asked = self.agreed = False
        return told

    def reset(self, now: float) -> None:
        """It does not run any more. Who waits for it, and a load asked for meanwhile, stay."""
        if self.state is not AbilityState.NOT_LOADED:
            self.ended = now
        self.state = AbilityState.NOT_LOADED
        self.keep()
        self.give_up_at = self.look_at = None

    def take_waiting(self) -> tuple[Callback, ...]:
        """Take out all who wait."""
        callbacks = tuple(self.waiting)
        self.waiting.clear()
        return callbacks

    def deadlines(self) -> Iterator[float]:
        """Yield when something is due."""
        for moment in (self.unload_at, self.give_up_at, self.look_at, self.long_unused_at()):
            if moment is not None:
                yield moment
        for one in self.waiting.values():
            if one.deadline is not None:
                yield one.deadline

    def long_unused_at(self) -> float | None:
        """Return when it counts as unused for long, None when it does not run or may stay."""
        limit = self.profile.stop_on_demand.long_unused
        if limit is None or self.state is not AbilityState.LOADED or self.unload is not None:
            return None
        return self.used + limit


@dataclass(slots=True, eq=False)
class ProcessRecord:
    """One process.

    Attributes:
        profile: None for a process that made itself known without one.
        pid: 0 when it does not run, or is being launched.
        managed: whether our supervisor tells us of its end (otherwise only the loss of its connection does).
        inherited: it ran before SAMgr did, so the supervisor may have come too late to see its end.
        stop_by: when it is killed. register_by: until when one that ran before SAMgr must make itself known.
        idled: none of its abilities is needed, and listeners know.
        unexpected: it ended, or was lost, without being told to; ``lost`` are the abilities that ran in it then, and
            ``failing`` those that were being loaded, with who waited for them: told when it is known how it ended.
        restarts: when it was restarted.
    """

    name: str
    profile: Profile | None = None
    abilities: list[AbilityRecord] = field(default_factory=list)
    state: ProcessState = ProcessState.NOT_STARTED
    pid: int = 0
    uid: int = 0
    managed: bool = False
    inherited: bool = False
    stop_by: float | None = None
    register_by: float | None = None
    idled: bool = False
    idle_since: float = 0.0
    unexpected: bool = False
    lost: list[AbilityRecord] = field(default_factory=list)
    failing: list[tuple[AbilityRecord, tuple[Callback, ...]]] = field(default_factory=list)
    restarts: deque[float] = field(default_factory=deque)

    def is_idle(self) -> bool:
        """Whether none of its abilities is needed."""
        return all(ability.state in IDLE_STATES for ability in self.abilities)

    def reset(self) -> None:
        """It does not run any more."""
        self.state = ProcessState.NOT_STARTED
        self.pid = self.uid = 0
        self.stop_by = self.register_by = None
        self.managed = self.inherited = self.idled = self.unexpected = False
        self.lost.clear()
        self.failing.clear()

    def may_restart(self, now: float) -> bool:
        """Whether it may be restarted once more, which is counted then (4 times within 20 s, reference 2.5)."""
        while self.restarts and now - self.restarts[0] > limits.RESTART_WINDOW:
            self.restarts.popleft()
        if len(self.restarts) >= limits.MAX_RESTARTS:
            return False
        self.restarts.append(now)
        return True

    def deadlines(self) -> Iterator[float]:
        """Yield when something is due."""
        for moment in (self.stop_by, self.register_by):
            if moment is not None:
                yield moment
