"""The state machine of system abilities and of the processes that host them (reference 2.5). Pure.

Owns: which ability of which profile is in which state, who waits for a load, what is unloaded when. Why pure: every
method takes the time and returns what is to be done, so all orders of events can be tested, and there is no lock and no
call in it. The abilities that programs register without a profile are not here, unless they offered to start them:
they have no states. Which profiles are in force, and how they are exchanged, lifecycle_catalog.py knows.

Rules upheld: a repeated load only adds its callback; the same callback counts once; every callback is answered exactly
once; a load while the ability or its process ends waits for that and begins anew; one unload is pending per ability; a
process stops when all its abilities are unloadable or not loaded, and is killed 5 s later; a process that ends without
being told to is restarted at most 4 times within 20 s; an id of a profile belongs to the process of that profile.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from binderkit import limits
from binderkit.errors import ServiceError
from binderkit.samgr import codes
from binderkit.samgr.lifecycle_actions import (
    Action,
    AskIdle,
    AskReferences,
    Callback,
    KillProcess,
    Loaded,
    LoadFailed,
    ProcessChanged,
    ProfilesChanged,
    RestartsEnded,
    SetActive,
    StartAbility,
    StartProcess,
    StopAbility,
    StopProcess,
)
from binderkit.samgr.lifecycle_catalog import Catalog
from binderkit.samgr.lifecycle_records import AbilityRecord, ProcessRecord, Waiting
from binderkit.samgr.profile import RecycleStrategy
from binderkit.samgr.reason import OnDemandReason, ReasonId
from binderkit.samgr.states import AbilityState, ProcessChange, ProcessState

if TYPE_CHECKING:
    from binderkit.samgr.ability import AbilityKey
    from binderkit.samgr.profile import AbilityProfile, Profile

_RUNNING = (AbilityState.LOADED, AbilityState.UNLOADABLE, AbilityState.UNLOADING)


class Lifecycle:
    """States of all abilities that have a profile.

    Args:
        profiles: by the name of their process; no id occurs twice.
        start_timeout: seconds from the start of an ability until it must be registered; its depend_timeout is added.
        references_interval: seconds between two counts of who holds an ability that goes when nobody does.
    """

    def __init__(
        self,
        profiles: Mapping[str, Profile],
        *,
        start_timeout: float = limits.START_TIMEOUT,
        references_interval: float = limits.REFERENCES_INTERVAL,
    ) -> None:
        self._catalog = Catalog(profiles)
        self._processes = self._catalog.processes
        self._abilities = self._catalog.abilities
        self._start_timeout = start_timeout
        self._references_interval = references_interval

    # --- looking ----------------------------------------------------------------------------------

    def find(self, key: AbilityKey) -> AbilityRecord | None:
        """Return the record of an ability that can be started, None for any other."""
        ability = self._catalog.ids.get(key) if isinstance(key, str) else key
        return None if ability is None else self._abilities.get(ability)

    def process(self, name: str) -> ProcessRecord | None:
        """Return the record of a process that has a profile, or made itself known."""
        return self._processes.get(name)

    def process_of_pid(self, pid: int) -> ProcessRecord | None:
        """Return the running process with this pid."""
        return next((process for process in self._processes.values() if process.pid == pid), None)

    @property
    def abilities(self) -> Iterable[AbilityRecord]:
        """All abilities that can be started."""
        return self._abilities.values()

    @property
    def processes(self) -> Iterable[ProcessRecord]:
        """All processes that have a profile, or made themselves known."""
        return self._processes.values()

    def next_deadline(self) -> float | None:
        """Return when ``tick`` has something to do, None when only events bring anything about."""
        moments = [moment for ability in self._abilities.values() for moment in ability.deadlines()]
        moments += [moment for process in self._processes.values() for moment in process.deadlines()]
        return min(moments, default=None)

    # --- what is known ----------------------------------------------------------------------------

    def reload(self, profiles: Mapping[str, Profile], now: float) -> list[Action]:
        """Take over another set of profiles, as far as nothing that runs stands in its way; the rest when that ended.

        What is new is started if it runs on create. A process that runs keeps its profile until it ends; if that was
        removed, none of its abilities is started any more.

        Args:
            profiles: by the name of their process; no id and no name of an ability occurs twice.
        """
        changes = self._catalog.want(profiles)
        known = set(self._processes)
        fresh = [process for process in self._catalog.settle() if process.name not in known]
        return [ProfilesChanged(changes), *self._boot(fresh, now)]

    def ability_profiles(self) -> Iterable[AbilityProfile]:
        """Return what is in force of every ability that can be started."""
        return self._catalog.ability_profiles()

    def offer(self, ability: int, pid: int, now: float, *, running: bool) -> list[Action]:
        """A process says that it starts an ability when it is asked for (reference 2.2, 10).

        Args:
            running: whether it is registered by that process already.

        Raises:
            ServiceError: the process did not make itself known (1007), the id belongs to another one (1005), its
                profile has no such ability (1002), or it offers too many (1009).
        """
        process = self.process_of_pid(pid) if pid else None
        if process is None or process.state is not ProcessState.STARTED:
            raise ServiceError(
                f"process {pid} cannot offer system ability {ability}: it is not known; call add_system_process first",
                code=codes.PROCESS_NOT_FOUND,
            )
        new = self.find(ability) is None
        record = self._catalog.offer(ability, process)
        if new and running:
            record.state, record.used = AbilityState.LOADED, now
        return []

    # --- loading ----------------------------------------------------------------------------------

    def boot(self, now: float) -> list[Action]:
        """Start every process that has an ability which runs on create, those of earlier boot phases first."""
        return self._boot(self._processes.values(), now)

    def _boot(self, processes: Iterable[ProcessRecord], now: float) -> list[Action]:
        wanted = [
            (min(one.profile.boot_phase for one in process.abilities if one.profile.run_on_create), process)
            for process in processes
            if process.state is ProcessState.NOT_STARTED and any(one.profile.run_on_create for one in process.abilities)
        ]
        wanted.sort(key=lambda pair: pair[0])
        return [action for _, process in wanted for action in self._launch(process, OnDemandReason(), now)]

    def load(
        self,
        ability: int,
        now: float,
        *,
        reason: OnDemandReason | None = None,
        callback: Callback | None = None,
        pid: int = 0,
        timeout: float | None = limits.LOAD_TIMEOUT,
    ) -> list[Action]:
        """Have an ability running.

        Args:
            reason: why; default: an interface call.
            callback: who is to be told, None: nobody.
            pid: the process that is charged for the callback.
            timeout: seconds after which the callback is told 999; None: only when the start is given up.

        Raises:
            ServiceError: no profile has the ability (1021), or its profile was removed (1002), or the process has too
                many callbacks (1004) or loads that wait for an end (1013).
        """
        record = self._record(ability)
        reason = reason or OnDemandReason()
        record.used = now
        told = () if callback is None else (callback,)
        if record.state is AbilityState.LOADED or record.state is AbilityState.UNLOADABLE:
            return [*self._keep(record, reason), Loaded(ability, told)]
        ending = record.process.state is ProcessState.STOPPING or record.state is AbilityState.UNLOADING
        if (ending or record.state is AbilityState.NOT_LOADED) and self._catalog.is_removed(record.process):
            raise _removed(record)
        if callback is not None and callback not in record.waiting:
            self._check_quota(record, pid, ending)
            record.waiting[callback] = Waiting(pid, None if timeout is None else now + timeout)
        if ending:
            record.reload = record.reload or reason
            return []
        record.unload = None
        return self._begin(record, reason, now) if record.state is AbilityState.NOT_LOADED else []

    def used(self, ability: int, now: float) -> list[Action]:
        """Somebody was given the ability: it is not unused, and a pending unload is over."""
        record = self._abilities.get(ability)
        if record is None:
            return []
        record.used = now
        if record.unload is None or record.state not in (AbilityState.LOADED, AbilityState.UNLOADABLE):
            return []
        return self._keep(record, OnDemandReason())

    def forget(self, ability: int, callback: Callback) -> None:
        """Tell ``callback`` nothing any more."""
        record = self._abilities.get(ability)
        if record is not None:
            record.waiting.pop(callback, None)

    def _record(self, ability: int) -> AbilityRecord:
        record = self._abilities.get(ability)
        if record is None:
            raise ServiceError(
                f"system ability {ability} cannot be loaded or unloaded: no profile has it; install its profile, "
                "or start its service by hand",
                code=codes.NOT_ON_DEMAND,
            )
        return record

    def _check_quota(self, record: AbilityRecord, pid: int, ending: bool) -> None:
        if ending and sum(one.pid == pid for one in record.waiting.values()) >= limits.MAX_PENDING_LOADS_PER_PID:
            raise ServiceError(
                f"{record.title} is ending and process {pid} waits {limits.MAX_PENDING_LOADS_PER_PID} times for its "
                "return already; wait for those",
                code=codes.PENDING_LOAD_LIMIT,
            )
        count = sum(one.pid == pid for other in self._abilities.values() for one in other.waiting.values())
        if count >= limits.MAX_CALLBACKS_PER_PID:
            raise ServiceError(
                f"process {pid} waits for {count} loads already, the limit is {limits.MAX_CALLBACKS_PER_PID}; "
                "wait for some of them",
                code=codes.CALLBACK_LIMIT,
            )

    def _keep(self, record: AbilityRecord, reason: OnDemandReason) -> list[Action]:
        """An ability that runs is needed (again)."""
        process = record.process
        record.state = AbilityState.LOADED
        actions: list[Action] = [SetActive(process.name, record.id, reason)] if record.keep() else []
        if process.idled:
            process.idled = False
            actions.append(ProcessChanged(process.name, process.pid, ProcessChange.ACTIVATED))
        return actions

    def _begin(self, record: AbilityRecord, reason: OnDemandReason, now: float) -> list[Action]:
        """Start an ability that is not loaded, in a process that does not end."""
        self._loading(record, reason, now)
        process = record.process
        if process.state is ProcessState.NOT_STARTED:
            return self._launch(process, reason, now)
        if process.state is ProcessState.STARTING:
            return []  # told when the process is there
        actions: list[Action] = [StartAbility(process.name, record.id, reason)]
        if process.idled:
            process.idled = False
            actions.append(ProcessChanged(process.name, process.pid, ProcessChange.ACTIVATED))
        return actions

    def _loading(self, record: AbilityRecord, reason: OnDemandReason, now: float) -> None:
        record.state = AbilityState.LOADING
        record.reason = reason
        record.reload = record.unload = None
        extra = record.profile.depend_timeout if record.profile.depend else 0.0
        record.give_up_at = now + self._start_timeout + extra

    def _launch(self, process: ProcessRecord, reason: OnDemandReason, now: float) -> list[Action]:
        assert process.profile is not None
        process.state = ProcessState.STARTING
        self._created(process, reason, now)
        return [StartProcess(process.profile)]

    def _created(self, process: ProcessRecord, reason: OnDemandReason, now: float) -> None:
        """A process starts its run-on-create abilities by itself."""
        for one in process.abilities:
            if one.profile.run_on_create and one.state is AbilityState.NOT_LOADED:
                self._loading(one, reason, now)

    # --- what processes tell ----------------------------------------------------------------------

    def process_launched(self, name: str, pid: int, now: float) -> list[Action]:
        """A process was launched; also: one that ran before SAMgr did, and is expected to make itself known."""
        process = self._processes.get(name)
        if process is None or process.pid:
            return []
        process.pid, process.managed = pid, True
        if process.state is ProcessState.NOT_STARTED:
            process.state, process.inherited = ProcessState.STARTING, True
            process.register_by = now + self._start_timeout
            self._created(process, OnDemandReason(), now)
        return []

    def launch_failed(self, name: str, text: str, now: float) -> list[Action]:
        """A process could not be launched."""
        process = self._processes.get(name)
        if process is None or process.state is ProcessState.NOT_STARTED or process.pid:
            return []
        actions = [
            LoadFailed(one.id, one.take_waiting(), codes.START_FAILED, f"{one.title} cannot start: {text}")
            for one in process.abilities
            if one.state is AbilityState.LOADING
        ]
        return [*actions, *self._over(process, now)]

    def check_process(self, name: str, pid: int, *, trusted: bool) -> None:
        """Raise unless process ``pid`` may make itself known as ``name``.

        Args:
            trusted: whether it may also take a profile's name when we did not launch it, or a name without profile.

        Raises:
            ServiceError: the name belongs to another process, or to one that is ending (1005), or there are too many
                processes (1012).
        """
        process = self._processes.get(name)
        if process is not None and process.pid:
            if process.pid == pid and process.state is not ProcessState.STOPPING:
                return
            why = f"is process {process.pid}" if process.pid != pid else "is being ended"
            raise ServiceError(
                f"process {pid} cannot be {name!r}, which {why}; a command that starts other programs must "
                "replace itself by them (exec)",
                code=codes.INVALID_CALLING_PROCESS,
            )
        if not trusted or (process is not None and process.state is not ProcessState.NOT_STARTED):
            raise ServiceError(
                f"process {pid} may not make itself known as {name!r}: SAMgr did not start it as that",
                code=codes.INVALID_CALLING_PROCESS,
            )
        if process is None and len(self._processes) >= limits.MAX_SYSTEM_PROCESSES:
            raise ServiceError(
                f"{len(self._processes)} processes are known, the limit is {limits.MAX_SYSTEM_PROCESSES}",
                code=codes.PROCESS_LIMIT,
            )

    def process_added(
        self, name: str, pid: int, now: float, *, uid: int = 0, trusted: bool = True, managed: bool = False
    ) -> list[Action]:
        """A process made itself known.

        Args:
            uid: its user. trusted: see check_process. managed: whether the supervisor will tell of its end.

        Raises:
            ServiceError: see check_process.
        """
        self.check_process(name, pid, trusted=trusted)
        process = self._processes.setdefault(name, ProcessRecord(name))
        if process.state is ProcessState.STARTED:
            return []
        if process.state is ProcessState.NOT_STARTED:
            process.managed = managed
            self._created(process, OnDemandReason(), now)
        process.state, process.pid, process.uid, process.register_by = ProcessState.STARTED, pid, uid, None
        starts: list[Action] = [
            StartAbility(name, one.id, one.reason)
            for one in process.abilities
            if one.state is AbilityState.LOADING and not one.profile.run_on_create
        ]
        return [ProcessChanged(name, pid, ProcessChange.STARTED), *starts]

    def check_ability(self, ability: int, pid: int) -> None:
        """Raise unless process ``pid`` may register the ability.

        Raises:
            ServiceError: the id belongs to a profile of another process (1005).
        """
        record = self._abilities.get(ability)
        if record is None:
            return
        process = record.process
        if process.pid == pid and process.state is not ProcessState.STOPPING:
            return
        state = f"is process {process.pid}" if process.pid else "does not run"
        raise ServiceError(
            f"process {pid} may not register {record.title}: its profile gives it to {process.name!r}, which {state}; "
            "use another id, or start the service through its profile",
            code=codes.INVALID_CALLING_PROCESS,
        )

    def ability_added(self, ability: int, now: float) -> list[Action]:
        """An ability was registered (by a process that check_ability allowed)."""
        record = self._abilities.get(ability)
        if record is None:
            return []
        if record.state in _RUNNING:
            return []  # another object in its place
        record.state = AbilityState.LOADED
        record.loaded = record.used = now
        record.give_up_at = None
        if record.profile.stop_on_demand.unreferenced_unload:
            record.look_at = now + self._references_interval
        if record.unload is not None:
            record.unload_at = now + record.unload_delay()
        return [Loaded(ability, record.take_waiting())]

    def ability_removed(self, ability: int, now: float) -> list[Action]:
        """An ability was taken out of the registry while its process goes on."""
        record = self._abilities.get(ability)
        if record is None or record.state not in _RUNNING:
            return []
        record.reset(now)
        process = record.process
        if process.state is ProcessState.STOPPING:
            return self._ended_one(process)
        again = self._begin(record, record.reload, now) if record.reload is not None else []
        return [*again, *self._rest(process, now)]

    def start_failed(self, ability: int, pid: int, text: str, now: float) -> list[Action]:
        """A process says that one of its abilities failed at its start.

        Raises:
            ServiceError: it is not its ability (1005).
        """
        record = self._record(ability)
        self.check_ability(ability, pid)
        if record.state is not AbilityState.LOADING:
            return []
        record.reset(now)
        failed = LoadFailed(
            ability, record.take_waiting(), codes.START_FAILED, f"{record.title} failed to start: {text}"
        )
        return [failed, *self._rest(record.process, now)]

    def process_lost(self, name: str, pid: int, now: float) -> list[Action]:
        """The connection of a process is gone; if the supervisor knows it, it is made sure that the process is too."""
        process = self._processes.get(name)
        if process is None or process.pid != pid:
            return []
        if not process.managed:
            return self.process_exited(name, pid, now)
        if process.state is ProcessState.STOPPING:
            return []
        process.unexpected = True
        process.state = ProcessState.STOPPING
        process.register_by = None
        for one in process.abilities:
            if one.state is AbilityState.NOT_LOADED:
                continue
            process.lost.append(one)
            if one.state is AbilityState.LOADING:
                process.failing.append((one, one.take_waiting()))
            one.reset(now)
        return [KillProcess(name, "its connection to SAMgr is gone")]

    def process_exited(self, name: str, pid: int, now: float, how: str = "ended") -> list[Action]:
        """A process ended; ``how`` is said to those who waited for an ability of it, e.g. "ended with status 1"."""
        process = self._processes.get(name)
        if process is None or process.pid != pid or not pid:
            return []
        crashed = process.unexpected or process.state is not ProcessState.STOPPING
        actions: list[Action] = []
        if process.state in (ProcessState.STARTED, ProcessState.STOPPING):
            actions.append(ProcessChanged(name, pid, ProcessChange.STOPPED))
        running = [one for one in process.abilities if one.state is not AbilityState.NOT_LOADED]
        victims = [*process.lost, *running]
        failing = [(one, one.take_waiting()) for one in running if one.state is AbilityState.LOADING]
        for one, callbacks in [*process.failing, *failing]:
            text = f"{one.title} did not start: its process {name!r} (pid {pid}) {how}"
            actions.append(LoadFailed(one.id, callbacks, codes.START_FAILED, text))
        if process.profile is None:
            return [*actions, *self._succeed(process, now, [])]
        return [*actions, *self._over(process, now, victims if crashed else [])]

    def _over(self, process: ProcessRecord, now: float, crashed: Iterable[AbilityRecord] = ()) -> list[Action]:
        """A process does not run any more: begin what was asked for meanwhile, and what must always run."""
        revive = [one for one in crashed if one.profile.auto_restart]
        process.reset()
        for one in process.abilities:
            one.reset(now)
        if self._catalog.pending:
            return self._succeed(process, now, revive)
        return self._again(process, revive, now)

    def _succeed(self, process: ProcessRecord, now: float, revive: Iterable[AbilityRecord]) -> list[Action]:
        """A process ended for which, or for others because of it, there may be another profile by now."""
        changes: list[Action] = [ProfilesChanged()] if self._catalog.pending else []
        if process.profile is None:
            self._catalog.drop(process)
        known = {*self._processes, process.name}
        fresh = [one for one in self._catalog.settle() if one.name not in known]
        actions: list[Action] = []
        for old in process.abilities:
            actions += self._inherit(old, self._abilities.get(old.id), now)
        successor = self._processes.get(process.name)
        if successor is not None:
            successor.restarts = process.restarts  # another profile is no way around the limit
            ids = {one.id for one in revive}
            again = [one for one in successor.abilities if one.id in ids and one.profile.auto_restart]
            actions += self._again(successor, again, now)
        return [*changes, *actions, *self._boot(fresh, now)]

    def _inherit(self, old: AbilityRecord, new: AbilityRecord | None, now: float) -> list[Action]:
        """Hand over who waits for an ability to its record under another profile; its process is begun elsewhere."""
        if new is old:
            return []
        if new is None:
            text = str(_removed(old).args[0])
            return [LoadFailed(old.id, old.take_waiting(), codes.PROFILE_MISSING, text)] if old.waiting else []
        new.ended = old.ended
        new.waiting.update(old.waiting)
        if new.process.name == old.process.name:
            new.reload = old.reload
        elif old.reload is not None:
            return self._begin(new, old.reload, now)
        return []

    def _again(self, process: ProcessRecord, revive: list[AbilityRecord], now: float) -> list[Action]:
        """Begin what was asked for while a process ended, and what must always run."""
        actions: list[Action] = []
        wanted = [(one, one.reload) for one in process.abilities if one.reload is not None]
        if revive:
            if process.may_restart(now):
                wanted += [(one, OnDemandReason(ReasonId.RESTART)) for one in revive if one.reload is None]
            else:
                actions.append(RestartsEnded(process.name))
        for one, reason in wanted:
            if one.state is AbilityState.NOT_LOADED and reason is not None:
                actions += self._begin(one, reason, now)
        return actions

    # --- unloading --------------------------------------------------------------------------------

    def unload(self, ability: int, now: float, reason: OnDemandReason, *, delay: float | None = None) -> list[Action]:
        """Unload an ability when its delay has passed and it says that it is idle.

        Args:
            delay: seconds; default: the profile's, longer if it was restarted lately.

        Raises:
            ServiceError: no profile has the ability (1021).
        """
        record = self._record(ability)
        if record.state not in (AbilityState.LOADING, AbilityState.LOADED) or record.unload is not None:
            return []
        record.unload = reason
        if record.state is AbilityState.LOADED:
            record.unload_at = now + (record.unload_delay() if delay is None else delay)
        return []

    def cancel_unload(self, ability: int, now: float) -> list[Action]:
        """Keep an ability that was to be unloaded, unless it was told to stop already.

        Raises:
            ServiceError: no profile has the ability (1021).
        """
        record = self._record(ability)
        if record.state in (AbilityState.LOADED, AbilityState.UNLOADABLE):
            return self._keep(record, OnDemandReason())
        record.unload = None
        return []

    def idle_answer(self, ability: int, delay: int, now: float) -> list[Action]:
        """An ability answered whether it is idle: negative: no; 0: yes; else in so many milliseconds."""
        record = self._abilities.get(ability)
        if record is None or not record.idle_asked or record.state is not AbilityState.LOADED:
            return []  # it is needed again, or gone
        record.idle_asked = False
        if delay < 0:
            record.keep()
            record.used = now  # or a long-unused one would be asked again at once
            return []
        record.agreed = True
        if delay:
            record.unload_at = now + delay / 1000
            return []
        record.state = AbilityState.UNLOADABLE
        return self._rest(record.process, now)

    def references(self, ability: int, count: int, now: float) -> list[Action]:
        """So many other processes hold an ability; SAMgr itself is one of them (reference 2.5)."""
        record = self._abilities.get(ability)
        if record is None or count > 1 or record.state is not AbilityState.LOADED:
            return []
        return self.unload(ability, now, OnDemandReason(ReasonId.UNREFERENCED))

    def unload_idle(self, now: float) -> list[Action]:
        """Memory is short: end every process that is idle, also those that would have stayed (low-memory)."""
        return [
            action
            for process in self._processes.values()
            if process.state is ProcessState.STARTED and process.profile is not None and process.is_idle()
            for action in self._stop(process, now, OnDemandReason())
        ]

    def stop_process(self, name: str, now: float, reason: OnDemandReason | None = None) -> list[Action]:
        """End a process, whoever needs it.

        Raises:
            ServiceError: there is no such process (1007).
        """
        process = self._processes.get(name)
        if process is None or process.state is ProcessState.NOT_STARTED:
            raise ServiceError(f"no process {name!r} runs, so it cannot be stopped", code=codes.PROCESS_NOT_FOUND)
        if process.state is ProcessState.STOPPING:
            return []
        return self._stop(process, now, reason or OnDemandReason())

    def _rest(self, process: ProcessRecord, now: float) -> list[Action]:
        """Stop a process none of whose abilities is needed, unless it may stay until memory is short."""
        if process.profile is None or process.state is not ProcessState.STARTED or not process.is_idle():
            return []
        stays = any(
            one.state is AbilityState.UNLOADABLE and one.profile.recycle_strategy is RecycleStrategy.LOW_MEMORY
            for one in process.abilities
        )
        actions: list[Action] = []
        if not process.idled:
            process.idled, process.idle_since = True, now
            actions.append(ProcessChanged(process.name, process.pid, ProcessChange.IDLED))
        return actions if stays else [*actions, *self._stop(process, now, OnDemandReason())]

    def _stop(self, process: ProcessRecord, now: float, reason: OnDemandReason) -> list[Action]:
        starting = process.state is ProcessState.STARTING
        process.state = ProcessState.STOPPING
        process.register_by = None
        process.stop_by = now + limits.STOP_TIME
        actions: list[Action] = []
        for one in process.abilities:
            if one.state in (AbilityState.LOADED, AbilityState.UNLOADABLE):
                why = one.unload or reason
                one.keep()
                one.state, one.look_at = AbilityState.UNLOADING, None
                actions.append(StopAbility(process.name, one.id, why))
            elif one.state is AbilityState.LOADING:
                text = f"{one.title} did not start: its process {process.name!r} is being stopped"
                actions.append(LoadFailed(one.id, one.take_waiting(), codes.START_FAILED, text))
                one.reset(now)
        if starting:
            # Whatever it is doing, it is not there to be told. While it is being launched its pid is not known:
            # the order is carried out after the launch, in the same queue.
            return [*actions, KillProcess(process.name, "it is stopped while it starts")]
        return [*actions, *self._ended_one(process)]

    def _ended_one(self, process: ProcessRecord) -> list[Action]:
        if any(one.state is not AbilityState.NOT_LOADED for one in process.abilities):
            return []
        return [StopProcess(process.name)]

    # --- time -------------------------------------------------------------------------------------

    def tick(self, now: float) -> list[Action]:
        """Do what is due."""
        actions: list[Action] = []
        for record in self._abilities.values():
            actions += self._expire(record, now)
            if record.give_up_at is not None and record.give_up_at <= now:
                actions += self._give_up(record, now)
            unused = record.long_unused_at()
            if unused is not None and unused <= now:
                actions += self.unload(record.id, now, OnDemandReason(ReasonId.LONG_UNUSED), delay=0.0)
            if record.unload_at is not None and record.unload_at <= now:
                actions += self._unload_due(record, now)
            if record.look_at is not None and record.look_at <= now:
                record.look_at = now + self._references_interval
                if record.state is AbilityState.LOADED and record.unload is None:
                    actions.append(AskReferences(record.process.name, record.id))
        for process in self._processes.values():
            if process.stop_by is not None and process.stop_by <= now:
                process.stop_by = None
                actions.append(KillProcess(process.name, f"it did not end within {limits.STOP_TIME:g} s"))
            if process.register_by is not None and process.register_by <= now:
                actions += self._stop(process, now, OnDemandReason())
        return actions

    def _expire(self, record: AbilityRecord, now: float) -> list[Action]:
        late = tuple(
            callback for callback, one in record.waiting.items() if one.deadline is not None and one.deadline <= now
        )
        if not late:
            return []
        for callback in late:
            del record.waiting[callback]
        return [LoadFailed(record.id, late, codes.LOAD_SA_TIMEOUT, _too_late(record))]

    def _give_up(self, record: AbilityRecord, now: float) -> list[Action]:
        """A start gets nowhere: end the process, or, if others run in it, tell it to stop this one."""
        process = record.process
        record.reset(now)
        text = (
            f"{record.title} was not registered within {self._start_timeout:g} s of its start; "
            f"on_start of its class must publish it (process {process.name!r}, pid {process.pid})"
        )
        actions: list[Action] = [LoadFailed(record.id, record.take_waiting(), codes.LOAD_SA_TIMEOUT, text)]
        if any(one.state is not AbilityState.NOT_LOADED for one in process.abilities):
            return [*actions, StopAbility(process.name, record.id, record.reason)]
        if process.state is ProcessState.STOPPING:
            return actions
        if process.profile is None:  # somebody runs it for other things, too
            return [*actions, StopAbility(process.name, record.id, record.reason)]
        process.state, process.register_by = ProcessState.STOPPING, None
        return [*actions, KillProcess(process.name, "an ability of it hangs at its start")]

    def _unload_due(self, record: AbilityRecord, now: float) -> list[Action]:
        record.unload_at = None
        if record.agreed:
            record.state = AbilityState.UNLOADABLE
            return self._rest(record.process, now)
        record.idle_asked = True
        return [AskIdle(record.process.name, record.id, record.unload or OnDemandReason())]


def _removed(record: AbilityRecord) -> ServiceError:
    process = record.process
    why = "ended, and no profile has it" if process.profile is None else "does not start it any more: the profile was"
    rest = "" if process.profile is None else " removed, or does not name it now"
    return ServiceError(
        f"{record.title} cannot be started: process {process.name!r} {why}{rest}; install a profile with it, or start "
        "its service by hand",
        code=codes.PROFILE_MISSING,
    )


def _too_late(record: AbilityRecord) -> str:
    process = record.process
    if process.state is ProcessState.STARTED:
        what = f"its process {process.name!r} (pid {process.pid}) runs, but has not published it yet"
    elif process.state is ProcessState.STOPPING:
        what = f"its process {process.name!r} (pid {process.pid}) is still ending"
    else:
        what = f"its process {process.name!r} has not come up yet"
    return f"{record.title} did not come in time: {what}; ask again, or with a longer timeout"
