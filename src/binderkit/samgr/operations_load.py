"""SAMgr's transactions about loading: load, wait, unload, policies, start failures (reference 2.2).

Owns: reading these requests, and what they do to the state machine. Who waits for a load holds no thread.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Mapping
from functools import cache
from typing import TYPE_CHECKING

from binderkit import limits
from binderkit.errors import ServiceError
from binderkit.interface.codec import Codec, codec_for
from binderkit.samgr import codes
from binderkit.samgr.ability import AbilityInfo, AbilityKey, checked_id, read_key
from binderkit.samgr.conditions import EventRule
from binderkit.samgr.lifecycle_actions import Loaded
from binderkit.samgr.lifecycle_events import PolicyKind
from binderkit.samgr.operations import refuse_if
from binderkit.samgr.reason import OnDemandReason, ReasonId
from binderkit.samgr.requests import read_object

if TYPE_CHECKING:
    from binderkit.ipc.context import Caller
    from binderkit.ipc.remote import IRemoteObject
    from binderkit.parcel import MessageSequence
    from binderkit.samgr.lifecycle_records import AbilityRecord
    from binderkit.samgr.operations import Core, Operation
    from binderkit.samgr.table import Entry

MAX_FAILURE_TEXT = 1024
"""Characters of a start failure that are kept."""


@cache
def rules_codec() -> Codec:
    """Return how the events of a policy travel."""
    return codec_for(tuple[EventRule, ...])


class LoadOperations:
    """The part of SAMgr that loads and unloads."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def operations(self) -> Mapping[int, Operation]:
        """The transactions of this part."""
        return {
            codes.LOAD_SYSTEM_ABILITY: self._load,
            codes.UNLOAD_SYSTEM_ABILITY: self._unload,
            codes.CANCEL_UNLOAD_SYSTEM_ABILITY: self._cancel_unload,
            codes.GET_ON_DEMAND_REASON_EXTRA_DATA: self._extra_data,
            codes.GET_ON_DEMAND_POLICY: self._policy,
            codes.UPDATE_ON_DEMAND_POLICY: self._update_policy,
            codes.GET_ON_DEMAND_ABILITY_IDS: self._on_demand_ids,
            codes.GET_EXTENSION_ABILITY_IDS: self._extension_ids,
            codes.GET_RUNNING_EXTENSION_ABILITIES: self._running_extensions,
            codes.UNLOAD_ALL_IDLE: self._unload_idle,
            codes.REPORT_START_FAILURE: self._start_failure,
            codes.ADD_ON_DEMAND_ABILITY: self._offer,
            codes.CHECK_ON_DEMAND_ABILITY: self._offered,
            codes.GET_RUNNING_EXTENSION_INFOS: self._extension_processes,
            codes.GET_COMMON_EVENT_EXTRA_DATA_IDS: self._extra_data_ids,
        }

    def record(self, key: AbilityKey) -> AbilityRecord | None:
        """Return the record of an ability that can be loaded."""
        with self._core.lock:
            return self._core.lifecycle.find(key)

    def loaded(self, ability: int, seconds: float | None, reply: MessageSequence, caller: Caller) -> Awaitable[None]:
        """Load an ability; write its object to the reply when it is there.

        Args:
            seconds: how long the caller waits; None: until the start is given up.

        Raises:
            ServiceError: it did not come in time (999), or it failed (2100); the text says why.
        """
        return self._loaded(ability, seconds, reply, caller)

    async def _loaded(self, ability: int, seconds: float | None, reply: MessageSequence, caller: Caller) -> None:
        future: asyncio.Future[IRemoteObject] = asyncio.get_running_loop().create_future()
        core = self._core
        reason = self._reason(ability, caller)

        try:
            core.runner.change(
                lambda: core.lifecycle.load(
                    ability, time.monotonic(), reason=reason, callback=future, pid=caller.pid, timeout=seconds
                )
            )
            remote = await future
        finally:
            with core.lock:
                core.lifecycle.forget(ability, future)
        reply.write_int(codes.OK)
        reply.write_remote_object(remote)

    def _reason(self, ability: int, caller: Caller) -> OnDemandReason:
        record = self.record(ability)
        own = record is not None and record.process.pid == caller.pid
        return OnDemandReason(ReasonId.SA_REQUEST if own else ReasonId.INTERFACE_CALL)

    def _load(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> Awaitable[None] | None:
        key, seconds = read_key(data), data.read_double()
        with_callback = data.read_boolean()
        callback = read_object(data, "the callback of the load", codes.CALLBACK_NULL) if with_callback else None
        core = self._core
        core.refuse_get(caller, key)
        record, entry = self.record(key), core.find(key)
        if record is None and entry is None:
            raise ServiceError(
                f"system ability {key!r} is not registered and no profile has it; install its profile, or start its "
                "service by hand",
                code=codes.PROFILE_MISSING,
            )
        seconds = load_time(seconds)
        if record is None:
            assert entry is not None
            self._there(entry, callback, reply)
            return None
        if callback is None:
            return self.loaded(record.id, seconds, reply, caller)
        ability, reason = record.id, self._reason(record.id, caller)
        core.runner.change(
            lambda: core.lifecycle.load(
                ability, time.monotonic(), reason=reason, callback=callback, pid=caller.pid, timeout=seconds
            )
        )
        reply.write_int(codes.OK)
        return None

    def _there(self, entry: Entry, callback: IRemoteObject | None, reply: MessageSequence) -> None:
        """Answer for an ability without profile that is registered."""
        reply.write_int(codes.OK)
        if callback is not None:
            self._core.runner.change(lambda: [Loaded(entry.info.id, (callback,))])
        else:
            reply.write_remote_object(entry.remote)

    def _unload(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        ability, core = self._ability(data), self._core
        core.check_own(ability, caller)
        reason = OnDemandReason(ReasonId.SA_REQUEST)
        core.runner.change(lambda: core.lifecycle.unload(ability, time.monotonic(), reason))
        reply.write_int(codes.OK)

    def _cancel_unload(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        ability, core = self._ability(data), self._core
        core.check_own(ability, caller)
        core.runner.change(lambda: core.lifecycle.cancel_unload(ability, time.monotonic()))
        reply.write_int(codes.OK)

    def _ability(self, data: MessageSequence) -> int:
        """Return the id of the key at the read position."""
        key = read_key(data)
        with self._core.lock:
            record, entry = self._core.lifecycle.find(key), self._core.table.find(key)
        if record is not None:
            return record.id
        if entry is not None:
            return entry.info.id
        if isinstance(key, int):
            return key
        raise ServiceError(f"no system ability {key!r} is known", code=codes.ABILITY_NOT_FOUND)

    def _start_failure(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        ability, text = self._ability(data), data.read_string()[:MAX_FAILURE_TEXT]
        core = self._core
        core.runner.change(lambda: core.lifecycle.start_failed(ability, caller.pid, text, time.monotonic()))
        reply.write_int(codes.OK)

    def _unload_idle(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        core = self._core
        core.require_trust(caller, "unload all idle system abilities")
        core.runner.change(lambda: core.lifecycle.unload_idle(time.monotonic()))
        reply.write_int(codes.OK)

    # --- abilities on demand that no profile has ----------------------------------------------------

    def _offer(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        ability, core = checked_id(read_key(data)), self._core
        refuse_if(core.policy.may_add(caller, AbilityInfo(ability, "", caller.pid, caller.uid), None))
        with core.lock:
            entry = core.table.find(ability)
            if entry is not None and entry.info.pid != caller.pid:
                raise ServiceError(
                    f"{entry.info} is registered by another process; it must be removed first",
                    code=codes.INVALID_CALLING_PROCESS,
                )
            core.runner.queue(core.lifecycle.offer(ability, caller.pid, time.monotonic(), running=entry is not None))
        core.runner.flush()
        reply.write_int(codes.OK)

    def _offered(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        key, core = read_key(data), self._core
        core.refuse_get(caller, key)
        with core.lock:
            record = core.lifecycle.find(key)
            process = None if record is None else record.process.name
        reply.write_int(codes.OK)
        reply.write_boolean(process is not None)
        if process is not None:
            reply.write_string(process)

    # --- policies ---------------------------------------------------------------------------------

    def _extra_data(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        number = data.read_long()
        self._core.require_trust(caller, "read the payloads of common events")
        with self._core.lock:
            payload = self._core.policies.payload(number)
        reply.write_int(codes.OK)
        reply.write_string(payload.code)
        reply.write_string(payload.data)
        texts = [text for pair in (payload.parameters or {}).items() for text in pair]
        reply.write_string_array(texts)

    def _extra_data_ids(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        ability, event = self._ability(data), data.read_string()
        self._core.check_own(ability, caller)
        with self._core.lock:
            ids = self._core.policies.payload_ids(ability, event)
        reply.write_int(codes.OK)
        reply.write_long_array(ids)

    def _policy(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        ability, kind = self._ability(data), _kind(data.read_int())
        self._core.check_own(ability, caller)
        with self._core.lock:
            rules = self._core.policies.rules(ability, kind)
        reply.write_int(codes.OK)
        rules_codec().write(reply, rules)

    def _update_policy(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        ability, kind = self._ability(data), _kind(data.read_int())
        rules = rules_codec().read(data)
        self._core.check_own(ability, caller)
        with self._core.lock:
            self._core.policies.update(ability, kind, rules)
        self._core.tell_rules()
        reply.write_int(codes.OK)

    def _on_demand_ids(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        with self._core.lock:
            process = self._core.lifecycle.process_of_pid(caller.pid)
            ids = [] if process is None else [one.id for one in process.abilities if not one.profile.run_on_create]
        reply.write_int(codes.OK)
        reply.write_int_array(ids)

    # --- extensions -------------------------------------------------------------------------------

    def _extension_ids(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        self._with_extension(data.read_string(), reply, caller, running=False)

    def _running_extensions(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        self._with_extension(data.read_string(), reply, caller, running=True)

    def _with_extension(self, name: str, reply: MessageSequence, caller: Caller, *, running: bool) -> None:
        self._require_extensions(caller)
        with self._core.lock:
            ids = [one.id for one in self._having(name) if not running or self._core.table.find(one.id) is not None]
        reply.write_int(codes.OK)
        reply.write_int_array(ids)

    def _extension_processes(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        name, core = data.read_string(), self._core
        self._require_extensions(caller)
        with core.lock:
            found = [
                (one.id, local)
                for one in self._having(name)
                if core.table.find(one.id) is not None and (local := core.runner.local(one.process.name)) is not None
            ]
        living = [(ability, local) for ability, local in found if not local.is_object_dead()]
        reply.write_int(codes.OK)
        reply.write_int(len(living))
        for ability, local in living:
            reply.write_int(ability)
            reply.write_remote_object(local)

    def _require_extensions(self, caller: Caller) -> None:
        self._core.require(caller, codes.EXTENSION_PERMISSION, "ask for the extensions of system abilities")

    def _having(self, extension: str) -> list[AbilityRecord]:
        """Under the lock: the abilities whose profile names an extension."""
        return [one for one in self._core.lifecycle.abilities if extension in one.profile.extensions]


def load_time(seconds: float) -> float:
    """Return how long a caller waits for a load: 0 is the default; at most 12 s (reference 2.2).

    Raises:
        ServiceError: no such time (1001).
    """
    if not 0 <= seconds <= limits.MAX_WAIT_TIME:  # false for nan, too
        raise ServiceError(f"a load within {seconds} s; it must be 0 (the default) … {limits.MAX_LOAD_TIMEOUT:g} s")
    return min(seconds, limits.MAX_LOAD_TIMEOUT) or limits.LOAD_TIMEOUT


def _kind(number: int) -> PolicyKind:
    try:
        return PolicyKind(number)
    except ValueError:
        raise ServiceError(f"{number} is no kind of policy; 1 is for starting, 2 for stopping") from None
