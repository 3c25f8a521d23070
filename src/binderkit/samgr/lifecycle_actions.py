"""What the state machine of abilities and processes wants done. Pure.

Owns: the orders that ``Lifecycle`` returns and that SAMgr carries out, in the order given.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from binderkit.samgr.states import ProcessChange

if TYPE_CHECKING:
    from binderkit.samgr.lifecycle_catalog import ProfileChanges
    from binderkit.samgr.profile import Profile
    from binderkit.samgr.reason import OnDemandReason

Callback: TypeAlias = Hashable
"""Who wants to be told of a load; the state machine only compares it."""


@dataclass(frozen=True, slots=True)
class StartProcess:
    """Launch a process; answer with process_launched or launch_failed."""

    profile: Profile

    @property
    def process(self) -> str:
        """The process's name."""
        return self.profile.process


@dataclass(frozen=True, slots=True)
class StartAbility:
    """Tell a running process to start one of its abilities."""

    process: str
    id: int
    reason: OnDemandReason


@dataclass(frozen=True, slots=True)
class StopAbility:
    """Tell a process to stop one of its abilities."""

    process: str
    id: int
    reason: OnDemandReason


@dataclass(frozen=True, slots=True)
class AskIdle:
    """Ask an ability whether it can be unloaded; answer with idle_answer."""

    process: str
    id: int
    reason: OnDemandReason


@dataclass(frozen=True, slots=True)
class SetActive:
    """Tell an ability that agreed to be unloaded that it is needed again."""

    process: str
    id: int
    reason: OnDemandReason


@dataclass(frozen=True, slots=True)
class AskReferences:
    """Ask a process how many other processes hold an ability; answer with references."""

    process: str
    id: int


@dataclass(frozen=True, slots=True)
class StopProcess:
    """Tell a process to end."""

    process: str


@dataclass(frozen=True, slots=True)
class KillProcess:
    """End a process at once."""

    process: str
    why: str


@dataclass(frozen=True, slots=True)
class Loaded:
    """Tell these that the ability is there."""

    id: int
    callbacks: tuple[Callback, ...]


@dataclass(frozen=True, slots=True)
class LoadFailed:
    """Tell these (possibly nobody: then it is for the log) that the ability does not come."""

    id: int
    callbacks: tuple[Callback, ...]
    code: int
    text: str


@dataclass(frozen=True, slots=True)
class ProcessChanged:
    """Tell the listeners of processes."""

    name: str
    pid: int
    kind: ProcessChange


@dataclass(frozen=True, slots=True)
class RestartsEnded:
    """Log that a process ended too often and is not restarted any more."""

    process: str


@dataclass(frozen=True, slots=True)
class ProfilesChanged:
    """Have everything follow the profiles that are in force now; ``changes`` is for the log."""

    changes: ProfileChanges | None = None


Action: TypeAlias = (
    StartProcess
    | StartAbility
    | StopAbility
    | AskIdle
    | SetActive
    | AskReferences
    | StopProcess
    | KillProcess
    | Loaded
    | LoadFailed
    | ProcessChanged
    | RestartsEnded
    | ProfilesChanged
)
