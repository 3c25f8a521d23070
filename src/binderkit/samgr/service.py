"""SystemAbilityManager: the object behind handle 0, through which services are found.

Owns: the transactions about registering, finding, waiting for and watching abilities, and putting SAMgr's parts
together: operations_load.py, operations_process.py and operations_remote.py, and parts that are given (access tokens).
Why an ordinary RemoteObject: everything SAMgr does goes through the same calls, objects and death notices that every
user has.

Rules upheld (reference 2.1–2.5): every request carries the interface token; identity is the kernel's; an ability goes
when its process does; re-adding tells listeners Removed, then Added; a listener that comes late hears Added at once,
asynchronously; quotas are charged to the calling process; an id of a profile is registered by that profile's process
only; asking for an ability that can be started starts it. Who waits for an ability holds no thread.

Locks: Core's one lock, each time for a few statements. Nothing is called while it is held: what is to be told and done
is queued under it (that fixes the order), and told and done by worker threads afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from binderkit import limits
from binderkit.errors import (
    IpcError,
    ParamError,
    ServiceError,
    ServiceNotFoundError,
    UnknownTransactionError,
)
from binderkit.interop import AndroidServiceManager
from binderkit.ipc.context import Caller, known_caller
from binderkit.ipc.driver import submit_to_driver
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy
from binderkit.ipc.remote import IRemoteObject, RemoteObject
from binderkit.parcel import MessageSequence
from binderkit.samgr import codes, report
from binderkit.samgr.ability import AbilityInfo, AbilityKey, checked_dump_flags, read_key
from binderkit.samgr.android import AndroidNames
from binderkit.samgr.lifecycle_actions import ProfilesChanged
from binderkit.samgr.operations import Core, Operation, Part, Permitted, refuse_if, remote_abilities
from binderkit.samgr.operations_load import LoadOperations
from binderkit.samgr.operations_process import ProcessOperations
from binderkit.samgr.operations_remote import RemoteOperations
from binderkit.samgr.policy import Policy
from binderkit.samgr.requests import answer_no, check_token, read_info, read_object
from binderkit.samgr.subscriptions import Event
from binderkit.samgr.table import Entry
from binderkit.samgr.teller import Submit, unwatch, watch
from binderkit.samgr.waiters import Waiters, resolve

if TYPE_CHECKING:
    from binderkit.ipc.option import MessageOption
    from binderkit.ipc.remote import HandlerResult
    from binderkit.samgr.conditions import EventRule, OnDemandEvent
    from binderkit.samgr.lifecycle_catalog import ProfileChanges
    from binderkit.samgr.profile import Profile
    from binderkit.samgr.starter import Starter

_log = logging.getLogger("binderkit.samgr")


class SystemAbilityManager(RemoteObject):
    """The registry of system abilities.

    Args:
        policy: who may do what; default: SAMgr's own user and root.
        submit: how listeners are told, and orders carried out, on another thread; default: the driver's workers.
        profiles: the processes that can be started, and their abilities; no name and no id twice.
        starter: launches processes; None: they are started by hand.
        parts: further transactions.
        permitted: whether a caller has a permission; None: only SAMgr's user and root have any.
        start_timeout: seconds from the start of an ability until it must be registered.
        references_interval: seconds between two counts of who holds an ability that goes when nobody does.
        android: the API level of the Android whose programs are answered too (interop/service_manager.py); None: none.

    One with profiles, or whose processes make themselves known, is ended by ``close``.
    """

    def __init__(
        self,
        policy: Policy | None = None,
        *,
        submit: Submit | None = None,
        profiles: Iterable[Profile] = (),
        starter: Starter | None = None,
        parts: Sequence[Part] = (),
        permitted: Permitted | None = None,
        start_timeout: float = limits.START_TIMEOUT,
        references_interval: float = limits.REFERENCES_INTERVAL,
        android: int | None = None,
    ) -> None:
        super().__init__(codes.DESCRIPTOR)
        self._policy = policy or Policy()
        by_name = {profile.process: profile for profile in profiles}
        self._core = core = Core(
            self._policy, by_name, starter, submit or submit_to_driver, permitted, start_timeout, references_interval
        )
        core.bury = self._bury
        self._lock = core.lock
        self._table = core.table
        self._waiters = Waiters()
        self._loading = LoadOperations(core)
        self._processes = ProcessOperations(core)
        remote = RemoteOperations(core)
        own: dict[int, Operation] = {
            codes.GET_SYSTEM_ABILITY: self._get,
            codes.CHECK_SYSTEM_ABILITY: self._check,
            codes.ADD_SYSTEM_ABILITY: self._add,
            codes.REMOVE_SYSTEM_ABILITY: self._remove,
            codes.LIST_SYSTEM_ABILITIES: self._list,
            codes.SUBSCRIBE_SYSTEM_ABILITY: self._subscribe,
            codes.UNSUBSCRIBE_SYSTEM_ABILITY: self._unsubscribe,
            codes.WAIT_SYSTEM_ABILITY: self._wait,
        }
        self._operations = _merged([own, self._loading.operations, self._processes.operations, remote.operations])
        self._android = None if android is None else AndroidServiceManager(AndroidNames(own), android)
        for part in parts:
            self.add_part(part)

    # --- the device around it ---------------------------------------------------------------------

    def add_part(self, part: Part) -> None:
        """Add transactions; before the first request.

        Raises:
            ValueError: there is one with such a code already.
        """
        self._operations = _merged([self._operations, part.operations])

    def boot(self) -> None:
        """Start every process that has an ability which runs on create."""
        self._core.runner.change(lambda: self._core.lifecycle.boot(time.monotonic()))

    def on_event(self, event: OnDemandEvent) -> None:
        """Start and stop the abilities whose profiles wait for this event; collectors call it, from any thread."""
        core, now = self._core, time.monotonic()
        with core.lock:
            starts, stops, reason = core.policies.matching(event)
            for ability in starts:
                core.runner.queue(core.lifecycle.load(ability, now, reason=reason))
            for ability in stops:
                core.runner.queue(core.lifecycle.unload(ability, now, reason))
        core.runner.flush()

    def reload(self, profiles: Mapping[str, Profile]) -> ProfileChanges:
        """Go by these profiles from now on, as far as what runs allows; see Lifecycle.reload.

        Args:
            profiles: by the name of their process; no id and no name of an ability occurs twice.

        Returns:
            What changed, and what of it waits for the end of a process.
        """
        core = self._core
        with core.lock:
            actions = core.lifecycle.reload(profiles, time.monotonic())
            core.remote_abilities = remote_abilities(profiles.values())
            core.runner.queue(actions)
        core.runner.flush()
        return next(one.changes for one in actions if isinstance(one, ProfilesChanged) and one.changes is not None)

    def event_rules(self) -> list[EventRule]:
        """Return all rules of events in force: what collectors of timed events must watch for."""
        with self._lock:
            return self._core.policies.all_rules()

    def watch_rules(self, action: Callable[[list[EventRule]], None]) -> None:
        """Have ``action`` called with all rules in force whenever a program changed those of its abilities."""
        self._core.rules_changed = action

    def process_exited(self, name: str, pid: int, status: int) -> None:
        """Note that a process ended (the supervisor calls it); ``status``: exit code, or minus a signal's number."""
        self._core.runner.exited(name, pid, status)

    def expect_process(self, name: str, pid: int) -> None:
        """Note that a process that a former SAMgr launched still runs, and will make itself known.

        Until then it is not launched a second time; one that does not come within START_TIMEOUT is ended.
        """
        self._core.runner.change(lambda: self._core.lifecycle.process_launched(name, pid, time.monotonic()))

    def close(self) -> None:
        """End what SAMgr runs beside its requests. Idempotent."""
        self._core.runner.close()

    # --- requests ---------------------------------------------------------------------------------

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> HandlerResult:
        """Check the token, do what ``code`` says, and answer 0 or a code of reference 2.3 with a text.

        A request of Android's programs is told by its header, and answered as they expect.

        Raises:
            RefusedError: no or another interface token, the policy does not allow it, or it is a one-way call of a
                process that the driver does not name (303).
            UnknownTransactionError: no such code (305).
        """
        caller = known_caller()
        if self._android is not None and self._android.is_addressed(data):
            return self._android.handle(code, data, reply, caller)
        operation = self._operations.get(code)
        if operation is None:
            raise UnknownTransactionError(f"SAMgr does not know transaction {code}")
        check_token(data)
        try:
            result = operation(data, reply, caller)
        except (ServiceError, ParamError) as error:
            return answer_no(reply, error)
        return True if result is None else _finish(result, reply)

    def _get(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> Awaitable[None] | None:
        key = read_key(data)
        entry = self._find(key, caller)
        if entry is None:
            record = self._loading.record(key)
            if record is not None:
                return self._loading.loaded(record.id, limits.LOAD_TIMEOUT, reply, caller)
            raise ServiceNotFoundError(
                f"no system ability {key!r} is registered and no profile has it; start its service, or wait for it "
                "with a timeout"
            )
        self._used(entry.info.id)
        reply.write_int(codes.OK)
        reply.write_remote_object(entry.remote)
        return None

    def _check(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        entry = self._find(read_key(data), caller)
        if entry is not None:
            self._used(entry.info.id)
        reply.write_int(codes.OK)
        reply.write_boolean(entry is not None)
        if entry is not None:
            reply.write_remote_object(entry.remote)

    def _find(self, key: AbilityKey, caller: Caller) -> Entry | None:
        entry = self._core.find(key)
        refuse_if(self._policy.may_get(caller, (key,) if entry is None else entry.info.keys))
        self._core.refuse_get_permission(caller, key if entry is None else entry.info.id)
        return entry

    def _bury(self, entry: Entry) -> None:
        """Its process is known to be gone, the notice of that is on its way: nobody is given it any more."""
        if entry.recipient is not None:
            self._ability_died(entry.recipient)

    def _used(self, ability: int) -> None:
        """Note that somebody was given an ability."""
        core = self._core
        with self._lock:
            actions = core.lifecycle.used(ability, time.monotonic())
            if actions:
                core.runner.queue(actions)
        if actions:
            core.runner.flush()

    def _list(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        after, flags = data.read_int(), checked_dump_flags(data.read_int())
        with self._lock:
            infos = [entry.info for entry in self._table.page(after, flags)]
        visible = [info for info in infos if self._policy.may_list(caller, info)]
        reply.write_int(codes.OK)
        reply.write_boolean(len(visible) > codes.PAGE)
        reply.write_int(min(len(visible), codes.PAGE))
        for info in visible[: codes.PAGE]:
            info.write(reply)

    # --- adding and removing ----------------------------------------------------------------------

    def _add(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        info = self._profiled(read_info(data, caller))
        remote = read_object(data, "the object of the ability", codes.ABILITY_OBJECT_NULL)
        core = self._core
        if isinstance(remote, RemoteProxy):
            _ = remote.owner  # asked now: one that is dead answers no driver that must ask it
        entry = Entry(info, remote, watch(remote, self._ability_died))
        try:
            with self._lock:
                core.lifecycle.check_ability(info.id, caller.pid)
                rival = self._table.rivals(info)
                refusal = self._policy.may_add(caller, info, None if rival is None else rival.info)
                if refusal is None:
                    entry, old = self._table.add(entry)
                    if old is not None:
                        core.teller.post(old.info, codes.ON_REMOVE_SYSTEM_ABILITY)
                    core.teller.post(entry.info, codes.ON_ADD_SYSTEM_ABILITY)
                    waiting = self._waiters.take(entry.info)
                    core.runner.queue(core.lifecycle.ability_added(entry.info.id, time.monotonic()))
            refuse_if(refusal)
        except IpcError:
            unwatch(remote, entry.recipient)
            raise
        if old is not None:
            unwatch(old.remote, old.recipient)
        for future in waiting:
            resolve(future, entry.remote)
        core.runner.flush()
        _log.info("%s %s", "replaced" if old is not None else "added", entry.info)
        if remote.is_object_dead() and entry.recipient is not None:
            # It may have died before the table knew it; its death notice found nothing then.
            self._ability_died(entry.recipient)
        reply.write_int(codes.OK)
        reply.write_int(entry.info.id)

    def _profiled(self, info: AbilityInfo) -> AbilityInfo:
        """Return ``info`` with the id and name that a profile gives the ability.

        Raises:
            ServiceError: the name is that of another ability's profile, or distributed is not what the profile says
                (1001).
        """
        core = self._core
        with core.lock:
            record = core.lifecycle.find(info.id) if info.id else core.lifecycle.find(info.name)
            namesake = core.lifecycle.find(info.name) if info.name else None
            process = None if record is None else record.process.name
        if namesake is not None and namesake is not record:
            raise ServiceError(
                f"the name {info.name!r} belongs to {namesake.title} of a profile; use another name",
                code=codes.INVALID_INPUT,
            )
        if record is None or process is None:
            return info
        core.runner.known(process)
        if record.process.profile is not None and info.distributed != record.profile.distributed:
            raise ServiceError(
                f"{record.title} is registered with distributed={info.distributed}, its profile says "
                f"{record.profile.distributed}; both must say the same",
                code=codes.INVALID_INPUT,
            )
        return replace(info, id=record.id, name=info.name or record.profile.name)

    def _remove(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        key, core = read_key(data), self._core
        with self._lock:
            entry = self._table.find(key)
            refusal = None if entry is None else self._policy.may_remove(caller, entry.info)
            if entry is not None and refusal is None:
                self._take_out(entry)
                core.runner.queue(core.lifecycle.ability_removed(entry.info.id, time.monotonic()))
        refuse_if(refusal)
        if entry is None:
            raise ServiceNotFoundError(f"no system ability {key!r} is registered, so it cannot be removed")
        unwatch(entry.remote, entry.recipient)
        core.runner.flush()
        _log.info("removed %s", entry.info)
        reply.write_int(codes.OK)

    def _take_out(self, entry: Entry) -> None:
        """Under the lock."""
        self._table.discard(entry)
        self._core.teller.post(entry.info, codes.ON_REMOVE_SYSTEM_ABILITY)

    def _ability_died(self, recipient: DeathRecipient) -> None:
        core, now = self._core, time.monotonic()
        with self._lock:
            entry = self._table.by_recipient(recipient)
            if entry is None:
                return
            self._take_out(entry)
            record = core.lifecycle.find(entry.info.id)
            if record is not None:
                own = isinstance(entry.remote, RemoteProxy) and entry.remote.owner.pid == entry.info.pid
                lost = core.lifecycle.process_lost(record.process.name, entry.info.pid, now) if own else []
                core.runner.queue(lost or core.lifecycle.ability_removed(entry.info.id, now))
        _log.info("the process of %s ended, it is removed", entry.info)
        core.runner.flush()

    # --- listeners --------------------------------------------------------------------------------

    def _subscribe(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        key = read_key(data)
        listener = read_object(data, "the listener", codes.LISTENER_NULL)
        refuse_if(self._policy.may_get(caller, (key,)))

        def first() -> Event | None:
            entry = self._table.find(key)
            return None if entry is None else Event(listener, codes.ON_ADD_SYSTEM_ABILITY, entry.info.id)

        self._core.teller.subscribe(caller.pid, key, listener, first)
        reply.write_int(codes.OK)

    def _unsubscribe(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        key = read_key(data)
        listener = read_object(data, "the listener", codes.LISTENER_NULL)
        if not self._core.teller.unsubscribe(caller.pid, key, listener):
            raise ServiceError(f"this listener is not subscribed to {key!r}", code=codes.INVALID_INPUT)
        reply.write_int(codes.OK)

    # --- waiting ----------------------------------------------------------------------------------

    def _wait(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> Awaitable[None]:
        key = read_key(data)
        seconds = data.read_double()
        if not 0 <= seconds <= limits.MAX_WAIT_TIME:
            raise ServiceError(f"a wait of {seconds} s; it must be 0 (for ever) … {limits.MAX_WAIT_TIME} s")
        self._core.refuse_get(caller, key)
        self._core.find(key)  # one that is dead is no longer found after this
        record = self._loading.record(key)
        if record is not None and self._core.starter is not None:
            return self._loading.loaded(record.id, seconds or None, reply, caller)
        return self._waited(key, seconds, reply, caller.pid)

    async def _waited(self, key: AbilityKey, seconds: float, reply: MessageSequence, pid: int) -> None:
        future: asyncio.Future[IRemoteObject] = asyncio.get_running_loop().create_future()
        with self._lock:
            entry = self._table.find(key)
            if entry is None:
                self._waiters.add(pid, key, future)
        try:
            remote = entry.remote if entry is not None else await asyncio.wait_for(future, seconds or None)
        except TimeoutError:
            raise ServiceError(
                f"no system ability {key!r} was registered within {seconds:g} s", code=codes.LOAD_SA_TIMEOUT
            ) from None
        finally:
            if entry is None:
                with self._lock:
                    self._waiters.end(pid, key, future)
        reply.write_int(codes.OK)
        reply.write_remote_object(remote)

    # --- dump -------------------------------------------------------------------------------------

    def on_dump(self, descriptor: int, arguments: list[str]) -> None:
        """Write what is registered, in which state, who listens or waits; ``-h`` tells the options (reference 2.8)."""
        with self._lock:
            abilities = [entry.info for entry in self._table]
            subscriptions = self._core.teller.subscriptions.rows()
            waiting = self._waiters.counts()
        view = report.View(abilities, self._processes.statuses(), self._processes.infos(), subscriptions, waiting)
        with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
            file.write(report.describe(arguments, view))


def _merged(tables: Iterable[Mapping[int, Operation]]) -> dict[int, Operation]:
    merged: dict[int, Operation] = {}
    for table in tables:
        double = merged.keys() & table.keys()
        if double:
            raise ValueError(f"two operations of SAMgr have the transaction codes {sorted(double)}")
        merged.update(table)
    return merged


async def _finish(result: Awaitable[None], reply: MessageSequence) -> bool:
    try:
        await result
    except (ServiceError, ParamError) as error:
        return answer_no(reply, error)
    return True
