"""Profiles: which system abilities live in which process, and when they run (reference 2.6).

Owns: the model that the rest of SAMgr and the processes of system abilities work with. Pure; profile_json.py knows what
the files look like. All times are seconds here, whatever unit a file uses.

Rules upheld: whoever has a Profile has a checked one; everything in it is immutable, so it can be shared between
threads.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:  # hosts of abilities have no use for events, and the module takes its time to import
    from binderkit.samgr.conditions import EventRule

DEFAULT_DEPEND_TIMEOUT: Final = 60.0
"""Seconds an ability waits for those it depends on; also the most it may."""
DEFAULT_RECYCLE_DELAY: Final = 20.0
"""Seconds between the trigger that makes an ability unneeded and its end (reference 2.5)."""
MAX_RECYCLE_DELAY: Final = 300.0
TRUSTED: Final = "trusted"
"""In ``remote_access``: every device that this one trusts."""
DEFAULT_DUMP_LEVEL: Final = 8
"""DUMP_FLAG_PRIORITY_DEFAULT."""


class BootPhase(IntEnum):
    """Abilities of one process start in this order of phases (reference 2.6)."""

    BOOT_START = 1
    CORE_START = 2
    OTHERS_START = 3


class RecycleStrategy(Enum):
    """When an ability that became unneeded ends: after its delay, or only when memory is short (reference 2.5)."""

    IMMEDIATELY = "immediately"
    LOW_MEMORY = "low-memory"


@dataclass(frozen=True)
class OnDemandEvents:
    """Which events start (or stop) an ability.

    Attributes:
        allow_update: whether the ability's process may change them at run time (UpdateOnDemandPolicy).
        events: the rules; one that matches is enough.
    """

    allow_update: bool = False
    events: tuple[EventRule, ...] = ()


@dataclass(frozen=True)
class StopEvents(OnDemandEvents):
    """Which events stop an ability.

    Attributes:
        unreferenced_unload: stop it when no other process holds its object.
        recycle_delay: seconds between the trigger and the stop, 0 … 300.
        long_unused: seconds after it was last asked for at SAMgr when it is stopped, 60 … 7200; None: never.
    """

    unreferenced_unload: bool = False
    recycle_delay: float = DEFAULT_RECYCLE_DELAY
    long_unused: float | None = None


@dataclass(frozen=True)
class ResourceLimits:
    """What a process may use; None: as much as the daemon itself.

    Attributes:
        memory_mb: address space in MiB. open_files: descriptors. processes: of its user, threads included.
        cpu_seconds: processor time, after which it is ended. nice: -20 … 19; below 0 needs privileges.
    """

    memory_mb: int | None = None
    open_files: int | None = None
    processes: int | None = None
    cpu_seconds: int | None = None
    nice: int | None = None


@dataclass(frozen=True)
class AbilityProfile:
    """One system ability.

    Attributes:
        id: 1 … 0xFFFFFF. name: what clients may call it by, "" for none (ours, not OpenHarmony's).
        entry: its class as "module:Class" or "/path/file.py:Class"; a file without a class name has exactly one.
        run_on_create: start it with its process; False: on demand only.
        auto_restart: start it again when its process ended unexpectedly.
        distributed: visible to other devices.
        depend: ids that must be registered before it starts. depend_timeout: seconds it waits for them.
        dump_level: priority bits of listings, 0 … 15. boot_phase: when, among those of its process.
        start_on_demand, stop_on_demand: the events. recycle_strategy: when it may end.
        extensions: names it answers in on_extension. permission: what a client needs to get it, "" for nothing.
        remote_access: to which other devices it is given: their UDIDs, or TRUSTED for all that this one trusts. ():
            all, unless it has a ``permission``, which nobody on another device can have; then none.
    """

    id: int
    entry: str
    name: str = ""
    run_on_create: bool = True
    auto_restart: bool = False
    distributed: bool = False
    depend: tuple[int, ...] = ()
    depend_timeout: float = DEFAULT_DEPEND_TIMEOUT
    dump_level: int = DEFAULT_DUMP_LEVEL
    boot_phase: BootPhase = BootPhase.OTHERS_START
    start_on_demand: OnDemandEvents = OnDemandEvents()
    stop_on_demand: StopEvents = StopEvents()
    recycle_strategy: RecycleStrategy = RecycleStrategy.IMMEDIATELY
    extensions: tuple[str, ...] = ()
    permission: str = ""
    remote_access: tuple[str, ...] = ()


@dataclass(frozen=True)
class Profile:
    """One process and the system abilities in it.

    Attributes:
        process: its name. path: the file it comes from. abilities: at least one, or else ``remote_abilities``.
        command: what is run instead of our host, () for the host. user: whose process it is, None: the daemon's.
        environment: variables beside the clean ones. limits: what it may use.
        permissions: what its access token asks for.
        remote_abilities: ids and names of distributed abilities that only other devices have, and that programs of this
            device use.
    """

    process: str
    path: Path
    abilities: tuple[AbilityProfile, ...]
    command: tuple[str, ...] = ()
    user: str | None = None
    environment: dict[str, str] = field(default_factory=dict)
    limits: ResourceLimits = ResourceLimits()
    permissions: tuple[str, ...] = ()
    remote_abilities: tuple[int | str, ...] = ()

    def ability(self, id: int) -> AbilityProfile | None:
        """Return the ability with this id, None when it lives elsewhere."""
        return next((ability for ability in self.abilities if ability.id == id), None)

    def start_command(self) -> tuple[str, ...]:
        """Return the command line that hosts the profile's abilities: ``command``, else our host with the file."""
        return self.command or (sys.executable, "-m", "binderkit.samgr.sa_main", str(self.path))


def load_profile(path: str | Path) -> Profile:
    """Return the profile of a file: OpenHarmony's JSON, or TOML, by its suffix.

    Args:
        path: at most 50 KB (reference 2.6).

    Raises:
        ProfileError: the file cannot be read, or has mistakes; names file, field, why, and what is allowed (1002).
        ServiceError: the package msgspec, which checks profiles, is not installed (1001).
    """
    from binderkit.samgr.documents import validator

    validator()
    from binderkit.samgr.profile_json import read_profile

    return read_profile(Path(path))
