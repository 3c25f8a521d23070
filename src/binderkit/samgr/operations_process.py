"""SAMgr's transactions about processes: make known, list, watch, stop (reference 2.2).

Owns: reading these requests, and what they do to the state machine.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from binderkit.errors import IpcError, ServiceError
from binderkit.ipc.proxy import RemoteProxy
from binderkit.samgr import codes
from binderkit.samgr.ability import checked_name, read_key
from binderkit.samgr.operations_remote import remote_rule
from binderkit.samgr.processes import AbilityStatus, ProcessInfo
from binderkit.samgr.requests import read_object
from binderkit.samgr.states import ProcessState
from binderkit.samgr.subscriptions import PROCESSES
from binderkit.samgr.systemd import unit_name
from binderkit.samgr.units import unit_of

if TYPE_CHECKING:
    from binderkit.ipc.context import Caller
    from binderkit.parcel import MessageSequence
    from binderkit.samgr.lifecycle_records import ProcessRecord
    from binderkit.samgr.operations import Core, Operation
    from binderkit.samgr.profile import Profile

MAX_STOPPED: Final = 1000
"""Processes of one request to stop them."""


class ProcessOperations:
    """The part of SAMgr that knows processes."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def operations(self) -> Mapping[int, Operation]:
        """The transactions of this part."""
        return {
            codes.ADD_SYSTEM_PROCESS: self._add,
            codes.LIST_SYSTEM_PROCESSES: self._list,
            codes.GET_SYSTEM_PROCESS_INFO: self._info,
            codes.SYSTEM_ABILITY_INFO_LIST: self._statuses,
            codes.SUBSCRIBE_SYSTEM_PROCESS: self._subscribe,
            codes.UNSUBSCRIBE_SYSTEM_PROCESS: self._unsubscribe,
            codes.GET_LOCAL_ABILITY_MANAGER: self._local_manager,
            codes.UNLOAD_PROCESSES: self._unload,
            codes.GET_IDLE_PROCESSES: self._idle,
        }

    def _add(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        name = checked_name(data.read_string())
        local = read_object(data, "the process's local ability manager", codes.ABILITY_OBJECT_NULL)
        if isinstance(local, RemoteProxy) and local.owner.pid != caller.pid:
            raise ServiceError(
                f"the local ability manager of {name!r} lives in process {local.owner.pid}, not in {caller.pid}",
                code=codes.INVALID_CALLING_PROCESS,
            )
        core, trusted = self._core, self._core.policy.is_trusted(caller)
        core.runner.known(name)
        with core.lock:
            core.lifecycle.check_process(name, caller.pid, trusted=trusted)
            process = core.lifecycle.process(name)
            profile = None if process is None or process.pid else process.profile
        managed = profile is not None and self._adopt(profile, caller)
        core.runner.add_process(
            name,
            caller.pid,
            local,
            lambda: core.lifecycle.process_added(
                name, caller.pid, time.monotonic(), uid=caller.uid, trusted=trusted, managed=managed
            ),
        )
        reply.write_int(codes.OK)

    def _adopt(self, profile: Profile, caller: Caller) -> bool:
        """Have the supervisor watch a process of a profile that somebody else started.

        If that was systemd by the profile's unit, the process gets the token it would have got from us. One that was
        started by hand has none: nothing but its own word says which profile it belongs to.
        """
        if self._core.starter is None:
            return False
        permissions = profile.permissions if unit_of(caller.pid) == unit_name(profile) else None
        try:
            self._core.starter.adopt(profile.process, caller.pid, permissions=permissions, uid=caller.uid)
        except IpcError:
            return False  # its end is still told by its connection
        return True

    def _info_of(self, process: ProcessRecord) -> ProcessInfo:
        """Under the lock."""
        ids = [one.id for one in process.abilities]
        if process.profile is None:
            ids = [entry.info.id for entry in self._core.table if entry.info.pid == process.pid]
        return ProcessInfo(process.name, process.pid, process.uid, process.state, process.managed, tuple(ids))

    def infos(self) -> list[ProcessInfo]:
        """Return all processes that are known, by name."""
        with self._core.lock:
            infos = [self._info_of(process) for process in self._core.lifecycle.processes]
        return sorted(infos, key=lambda info: info.name)

    def statuses(self) -> list[AbilityStatus]:
        """Return all abilities, those that do not run included, by id."""
        core = self._core
        with core.lock:
            names = {process.pid: process.name for process in core.lifecycle.processes if process.pid}
            found = {
                entry.info.id: AbilityStatus(
                    entry.info.id,
                    entry.info.name,
                    names.get(entry.info.pid, ""),
                    entry.info.pid,
                    distributed=entry.info.distributed,
                    guarded=_is_guarded(core, entry.info.id),
                )
                for entry in core.table
            }
            for one in core.lifecycle.abilities:
                found[one.id] = AbilityStatus(
                    one.id,
                    one.profile.name,
                    one.process.name,
                    one.process.pid,
                    one.state,
                    True,
                    one.reason.id,
                    len(one.waiting),
                    one.profile.distributed,
                    _is_guarded(core, one.id),
                )
        return [found[ability] for ability in sorted(found)]

    def _list(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        after = data.read_string()
        self._core.require_trust(caller, "list processes")
        infos = [info for info in self.infos() if info.name > after]
        reply.write_int(codes.OK)
        reply.write_boolean(len(infos) > codes.PAGE)
        reply.write_int(min(len(infos), codes.PAGE))
        for info in infos[: codes.PAGE]:
            info.write(reply)

    def _statuses(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        after = data.read_int()
        self._core.require_trust(caller, "list states of system abilities")
        statuses = [status for status in self.statuses() if status.id > after]
        reply.write_int(codes.OK)
        reply.write_boolean(len(statuses) > codes.PAGE)
        reply.write_int(min(len(statuses), codes.PAGE))
        for status in statuses[: codes.PAGE]:
            status.write(reply)

    def _info(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        key, core = read_key(data), self._core
        core.require_trust(caller, "ask for the process of a system ability")
        with core.lock:
            record, entry = core.lifecycle.find(key), core.table.find(key)
            if record is not None:
                info = self._info_of(record.process)
            elif entry is None:
                raise ServiceError(f"no system ability {key!r} is known", code=codes.ABILITY_NOT_FOUND)
            else:
                process = core.lifecycle.process_of_pid(entry.info.pid)
                known = ProcessInfo("", entry.info.pid, entry.info.uid, ProcessState.STARTED)
                info = known if process is None else self._info_of(process)
        reply.write_int(codes.OK)
        info.write(reply)

    def _subscribe(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        listener = read_object(data, "the listener", codes.LISTENER_NULL)
        self._core.require_trust(caller, "listen to processes")
        self._core.teller.subscribe(caller.pid, PROCESSES, listener, lambda: None)
        reply.write_int(codes.OK)

    def _unsubscribe(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        listener = read_object(data, "the listener", codes.LISTENER_NULL)
        if not self._core.teller.unsubscribe(caller.pid, PROCESSES, listener):
            raise ServiceError("this listener is not subscribed to processes", code=codes.INVALID_INPUT)
        reply.write_int(codes.OK)

    def _local_manager(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        key, core = read_key(data), self._core
        core.require(caller, codes.CONTROL_PERMISSION, f"control the process of system ability {key!r}")
        with core.lock:
            record, entry = core.lifecycle.find(key), core.table.find(key)
            if record is not None:
                process: ProcessRecord | None = record.process
            else:
                process = None if entry is None else core.lifecycle.process_of_pid(entry.info.pid)
            local = None if process is None else core.runner.local(process.name)
        if local is None or local.is_object_dead():
            raise ServiceError(
                f"the process of system ability {key!r} does not run, or has no local ability manager",
                code=codes.PROCESS_NOT_FOUND,
            )
        reply.write_int(codes.OK)
        reply.write_remote_object(local)

    def _unload(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        names, core = list(data.read_string_array()), self._core
        core.require_trust(caller, "stop processes")
        if len(names) > MAX_STOPPED:
            raise ServiceError(f"{len(names)} processes in one request, at most {MAX_STOPPED} are allowed")
        for name in names:
            core.runner.change(lambda name=name: core.lifecycle.stop_process(name, time.monotonic()))  # type: ignore[misc]
        reply.write_int(codes.OK)

    def _idle(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        core = self._core
        core.require_trust(caller, "list idle processes")
        with core.lock:
            idle = [process for process in core.lifecycle.processes if process.idled]
            names = [process.name for process in sorted(idle, key=lambda process: process.idle_since)]
        reply.write_int(codes.OK)
        reply.write_string_array(names)


def _is_guarded(core: Core, ability: int) -> bool:
    """Under the lock: whether only some other devices get an ability."""
    rule = remote_rule(core, ability)
    return rule is not None and rule.guarded
