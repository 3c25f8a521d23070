"""SystemAbilityManager: the object behind handle 0, through which services are found.

Owns: the registered abilities, the subscriptions, and who waits for what. Why
an ordinary RemoteObject: everything SAMgr does goes through the same calls,
objects and death notices that every user of the package has.

Rules upheld (reference 2.1–2.4): every request carries the interface token;
identity is the kernel's; an ability goes when its process does; re-adding tells
listeners Removed, then Added; a listener that comes late hears Added at once,
asynchronously; quotas are charged to the calling process. Who waits for an
ability holds no thread.

Locks: ``_lock`` guards table, subscriptions, outbox and waiters, each time for a
few statements. Nothing is called while it is held: events are put into the
outbox under it (that fixes their order) and told by worker threads afterwards.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from binderkit import limits
from binderkit.errors import (
    DeadObjectError,
    IpcError,
    ParamError,
    RefusedError,
    ServiceError,
    ServiceNotFoundError,
    UnknownTransactionError,
)
from binderkit.ipc.context import Caller, calling_identity
from binderkit.ipc.driver import current_driver
from binderkit.ipc.option import MessageOption
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy
from binderkit.ipc.remote import IRemoteObject, RemoteObject
from binderkit.parcel import MessageSequence
from binderkit.samgr import codes, report
from binderkit.samgr.ability import AbilityInfo, AbilityKey, checked_dump_flags, read_key
from binderkit.samgr.policy import Policy
from binderkit.samgr.requests import answer_no, check_token, read_info, read_object
from binderkit.samgr.subscriptions import Event, Outbox, Subscriptions
from binderkit.samgr.table import AbilityTable, Entry
from binderkit.samgr.waiters import Waiters, resolve

if TYPE_CHECKING:
    from binderkit.ipc.remote import HandlerResult

_log = logging.getLogger("binderkit.samgr")
_ONE_WAY = MessageOption(MessageOption.TF_ASYNC)
Submit = Callable[[Callable[[], None]], None]
"""Runs a task soon on another thread."""


class SystemAbilityManager(RemoteObject):
    """The registry of system abilities.

    Args:
        policy: who may do what; default: SAMgr's own user and root.
        submit: how listeners are told on another thread; default: the driver's workers.
    """

    def __init__(self, policy: Policy | None = None, *, submit: Submit | None = None) -> None:
        super().__init__(codes.DESCRIPTOR)
        self._policy = policy or Policy()
        self._submit = submit or _submit_to_driver
        self._lock = threading.Lock()
        self._table = AbilityTable()
        self._subscriptions = Subscriptions()
        self._outbox = Outbox()
        self._mourned: dict[IRemoteObject, DeathRecipient] = {}
        self._waiters = Waiters()
        self._operations: dict[int, Callable[[MessageSequence, MessageSequence, Caller], Awaitable[None] | None]] = {
            codes.GET_SYSTEM_ABILITY: self._get,
            codes.CHECK_SYSTEM_ABILITY: self._check,
            codes.ADD_SYSTEM_ABILITY: self._add,
            codes.REMOVE_SYSTEM_ABILITY: self._remove,
            codes.LIST_SYSTEM_ABILITIES: self._list,
            codes.SUBSCRIBE_SYSTEM_ABILITY: self._subscribe,
            codes.UNSUBSCRIBE_SYSTEM_ABILITY: self._unsubscribe,
            codes.WAIT_SYSTEM_ABILITY: self._wait,
        }

    # --- requests --------------------------------------------------------------------------------

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> HandlerResult:
        """Check the token, do what ``code`` says, and answer 0 or a code of reference 2.3 with a text.

        Raises:
            RefusedError: no or another interface token, or the policy does not allow it (303).
            UnknownTransactionError: no such code (305).
        """
        operation = self._operations.get(code)
        if operation is None:
            raise UnknownTransactionError(f"SAMgr does not know transaction {code}")
        check_token(data)
        try:
            result = operation(data, reply, calling_identity())
        except (ServiceError, ParamError) as error:
            return answer_no(reply, error)
        return True if result is None else _finish(result, reply)

    def _get(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        key = read_key(data)
        entry = self._find(key, caller)
        if entry is None:
            raise ServiceNotFoundError(
                f"no system ability {key!r} is registered; start its service, or wait for it with a timeout"
            )
        reply.write_int(codes.OK)
        reply.write_remote_object(entry.remote)

    def _check(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        entry = self._find(read_key(data), caller)
        reply.write_int(codes.OK)
        reply.write_boolean(entry is not None)
        if entry is not None:
            reply.write_remote_object(entry.remote)

    def _find(self, key: AbilityKey, caller: Caller) -> Entry | None:
        with self._lock:
            entry = self._table.find(key)
        _refuse_if(self._policy.may_get(caller, (key,) if entry is None else entry.info.keys))
        return entry

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

    # --- adding and removing ---------------------------------------------------------------------

    def _add(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        info = read_info(data, caller)
        remote = read_object(data, "the object of the ability", codes.ABILITY_OBJECT_NULL)
        entry = Entry(info, remote, _watch(remote, self._ability_died))
        try:
            with self._lock:
                rival = self._table.rivals(info)
                refusal = self._policy.may_add(caller, info, None if rival is None else rival.info)
                if refusal is None:
                    entry, old = self._table.add(entry)
                    if old is not None:
                        self._post(old.info, codes.ON_REMOVE_SYSTEM_ABILITY)
                    self._post(entry.info, codes.ON_ADD_SYSTEM_ABILITY)
                    waiting = self._waiters.take(entry.info)
            _refuse_if(refusal)
        except IpcError:
            _unwatch(remote, entry.recipient)
            raise
        if old is not None:
            _unwatch(old.remote, old.recipient)
        for future in waiting:
            resolve(future, entry.remote)
        self._tell()
        _log.info("%s %s", "replaced" if old is not None else "added", entry.info)
        if remote.is_object_dead() and entry.recipient is not None:
            # It may have died before the table knew it; its death notice found nothing then.
            self._ability_died(entry.recipient)
        reply.write_int(codes.OK)
        reply.write_int(entry.info.id)

    def _remove(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        key = read_key(data)
        with self._lock:
            entry = self._table.find(key)
            refusal = None if entry is None else self._policy.may_remove(caller, entry.info)
            if entry is not None and refusal is None:
                self._table.discard(entry)
                self._post(entry.info, codes.ON_REMOVE_SYSTEM_ABILITY)
        _refuse_if(refusal)
        if entry is None:
            raise ServiceNotFoundError(f"no system ability {key!r} is registered, so it cannot be removed")
        _unwatch(entry.remote, entry.recipient)
        self._tell()
        _log.info("removed %s", entry.info)
        reply.write_int(codes.OK)

    def _ability_died(self, recipient: DeathRecipient) -> None:
        with self._lock:
            entry = self._table.by_recipient(recipient)
            if entry is None:
                return
            self._table.discard(entry)
            self._post(entry.info, codes.ON_REMOVE_SYSTEM_ABILITY)
        _log.info("the process of %s ended, it is removed", entry.info)
        self._tell()

    # --- listeners --------------------------------------------------------------------------------

    def _subscribe(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        key = read_key(data)
        listener = read_object(data, "the listener", codes.LISTENER_NULL)
        _refuse_if(self._policy.may_get(caller, (key,)))
        recipient = _watch(listener, lambda _: self._drop_listener(caller.pid, listener))
        try:
            with self._lock:
                fresh = self._subscriptions.add(caller.pid, key, listener)
                entry = self._table.find(key)
                if fresh and entry is not None:
                    self._queue(caller.pid, Event(listener, codes.ON_ADD_SYSTEM_ABILITY, entry.info.id))
                known = listener in self._mourned
                if not known and recipient is not None:
                    self._mourned[listener] = recipient
        except IpcError:
            _unwatch(listener, recipient)
            raise
        if known:
            _unwatch(listener, recipient)
        if listener.is_object_dead():
            self._drop_listener(caller.pid, listener)
        self._tell()
        reply.write_int(codes.OK)

    def _unsubscribe(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        key = read_key(data)
        listener = read_object(data, "the listener", codes.LISTENER_NULL)
        with self._lock:
            found = self._subscriptions.remove(caller.pid, key, listener)
            over = found and not self._subscriptions.holds(listener)
            recipient = self._mourned.pop(listener, None) if over else None
        _unwatch(listener, recipient)
        if not found:
            raise ServiceError(f"this listener is not subscribed to {key!r}", code=codes.INVALID_INPUT)
        reply.write_int(codes.OK)

    def _drop_listener(self, pid: int, listener: IRemoteObject) -> None:
        with self._lock:
            self._subscriptions.remove_listener(listener)
            self._outbox.forget(pid, listener)
            recipient = self._mourned.pop(listener, None)
        _unwatch(listener, recipient)

    def _post(self, info: AbilityInfo, code: int) -> None:
        """Queue an event for everybody who wants it (under the lock)."""
        for listener, pid in self._subscriptions.of(info).items():
            self._queue(pid, Event(listener, code, info.id))

    def _queue(self, pid: int, event: Event) -> None:
        if not self._outbox.post(pid, event):
            _log.warning("process %d does not read what it subscribed to; %r is taken out", pid, event.listener)
            self._subscriptions.remove_listener(event.listener)
            self._outbox.forget(pid, event.listener)
            self._mourned.pop(event.listener, None)

    def _tell(self) -> None:
        """Have workers tell what is queued (without the lock)."""
        with self._lock:
            pids = self._outbox.claim()
        for pid in pids:
            self._submit(lambda pid=pid: self._tell_process(pid))  # type: ignore[misc]

    def _tell_process(self, pid: int) -> None:
        while True:
            with self._lock:
                event = self._outbox.next(pid)
            if event is None:
                return
            try:
                _tell_one(event)
            except IpcError as error:
                # What it missed cannot be made up for, so it hears no more, instead of half the truth.
                _log.warning("listener %r of process %d is taken out: %s", event.listener, pid, error)
                self._drop_listener(pid, event.listener)

    # --- waiting ----------------------------------------------------------------------------------

    def _wait(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> Awaitable[None]:
        key = read_key(data)
        seconds = data.read_double()
        if not 0 <= seconds <= limits.MAX_WAIT_TIME:
            raise ServiceError(f"a wait of {seconds} s; it must be 0 (for ever) … {limits.MAX_WAIT_TIME} s")
        _refuse_if(self._policy.may_get(caller, (key,)))
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

    # --- dump ---------------------------------------------------------------------------------------

    def on_dump(self, descriptor: int, arguments: list[str]) -> None:
        """Write what is registered and who listens or waits; ``-h`` tells the options (reference 2.8)."""
        with self._lock:
            abilities = [entry.info for entry in self._table]
            subscriptions = self._subscriptions.rows()
            waiting = self._waiters.counts()
        text = report.describe(arguments, abilities, subscriptions, waiting)
        with open(descriptor, "w", encoding="utf-8", closefd=False) as file:
            file.write(text)


class _Watcher(DeathRecipient):
    """Tells SAMgr that the process of an ability or a listener ended."""

    def __init__(self, action: Callable[[DeathRecipient], None]) -> None:
        self._action = action

    def on_remote_died(self) -> None:
        self._action(self)


def _watch(remote: IRemoteObject, action: Callable[[DeathRecipient], None]) -> DeathRecipient | None:
    """Have ``action`` called when the process of ``remote`` ends; None for an object of this very process."""
    if not isinstance(remote, RemoteProxy):
        return None
    watcher = _Watcher(action)
    try:
        remote.register_death_recipient(watcher)
    except DeadObjectError as error:
        raise ServiceError(f"the object is dead already: {error}", code=codes.INVALID_INPUT) from error
    return watcher


def _unwatch(remote: IRemoteObject, watcher: DeathRecipient | None) -> None:
    if watcher is not None:
        remote.unregister_death_recipient(watcher)


def _tell_one(event: Event) -> None:
    data, reply = MessageSequence(), MessageSequence()
    data.write_interface_token(codes.LISTENER_DESCRIPTOR)
    data.write_int(event.ability)
    data.write_string("")  # this device
    event.listener.send_request(event.code, data, reply, _ONE_WAY)


async def _finish(result: Awaitable[None], reply: MessageSequence) -> bool:
    try:
        await result
    except (ServiceError, ParamError) as error:
        return answer_no(reply, error)
    return True


def _refuse_if(reason: str | None) -> None:
    if reason is not None:
        raise RefusedError(reason)


def _submit_to_driver(task: Callable[[], None]) -> None:
    current_driver().submit(task)
