"""Telling listeners what happened: each in its order, none can hold up another.

Owns: subscriptions, the queues of what is still to be told, and the death notices of listeners.

Rules upheld: see subscriptions.py; nothing is told on the thread of the request that caused it.

Locks: SAMgr's one lock, which is given to the constructor. Methods whose first line says "under the lock" are called
with it held, the others without.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from binderkit.errors import DeadObjectError, IpcError, ServiceError
from binderkit.ipc.option import MessageOption
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy
from binderkit.ipc.remote import IRemoteObject
from binderkit.parcel import MessageSequence
from binderkit.samgr import codes
from binderkit.samgr.ability import AbilityInfo, AbilityKey
from binderkit.samgr.subscriptions import Event, Outbox, Subscriptions

_log = logging.getLogger("binderkit.samgr")
_ONE_WAY = MessageOption(MessageOption.TF_ASYNC)
Submit = Callable[[Callable[[], None]], None]
"""Runs a task soon on another thread."""


class Teller:
    """Who is told what.

    Args:
        lock: SAMgr's.
        submit: how things are told on another thread.
    """

    def __init__(self, lock: threading.Lock, submit: Submit) -> None:
        self._lock = lock
        self._submit = submit
        self.subscriptions = Subscriptions()
        self._outbox = Outbox()
        self._mourned: dict[IRemoteObject, DeathRecipient] = {}

    def subscribe(self, pid: int, key: AbilityKey, listener: IRemoteObject, first: Callable[[], Event | None]) -> None:
        """Let a listener of process ``pid`` hear of ``key``.

        Args:
            first: called under the lock if it is a new subscription: what it is to be told at once.

        Raises:
            ServiceError: the process has 256 subscriptions (1010), or the listener is dead (1001).
        """
        recipient = watch(listener, lambda _: self.drop(pid, listener))
        try:
            with self._lock:
                fresh = self.subscriptions.add(pid, key, listener)
                event = first() if fresh else None
                if event is not None:
                    self.queue(pid, event)
                known = listener in self._mourned
                if not known and recipient is not None:
                    self._mourned[listener] = recipient
        except IpcError:
            unwatch(listener, recipient)
            raise
        if known:
            unwatch(listener, recipient)
        if listener.is_object_dead():
            self.drop(pid, listener)
        self.tell()

    def unsubscribe(self, pid: int, key: AbilityKey, listener: IRemoteObject) -> bool:
        """End a subscription; return whether there was one."""
        with self._lock:
            found = self.subscriptions.remove(pid, key, listener)
            over = found and not self.subscriptions.holds(listener)
            recipient = self._mourned.pop(listener, None) if over else None
        unwatch(listener, recipient)
        return found

    def drop(self, pid: int, listener: IRemoteObject) -> None:
        """Take a listener out, with what it was still to be told."""
        with self._lock:
            self.subscriptions.remove_listener(listener)
            self._outbox.forget(pid, listener)
            recipient = self._mourned.pop(listener, None)
        unwatch(listener, recipient)

    def post(self, info: AbilityInfo, code: int) -> None:
        """Under the lock: queue an event for everybody who wants to hear of this ability."""
        for listener, pid in self.subscriptions.of(info).items():
            self.queue(pid, Event(listener, code, info.id))

    def queue(self, pid: int, event: Event) -> None:
        """Under the lock: queue an event for a listener of process ``pid``."""
        if not self._outbox.post(pid, event):
            _log.warning("process %d does not read what it subscribed to; %r is taken out", pid, event.listener)
            self.subscriptions.remove_listener(event.listener)
            self._outbox.forget(pid, event.listener)
            self._mourned.pop(event.listener, None)

    def tell(self) -> None:
        """Have workers tell what is queued."""
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
                self.drop(pid, event.listener)


class Watcher(DeathRecipient):
    """Tells of the end of an object's process: ``action(this recipient)``."""

    def __init__(self, action: Callable[[DeathRecipient], None]) -> None:
        self._action = action

    def on_remote_died(self) -> None:
        """Pass it on."""
        self._action(self)


def watch(remote: IRemoteObject, action: Callable[[DeathRecipient], None]) -> DeathRecipient | None:
    """Have ``action`` called when the process of ``remote`` ends; None for an object of this very process.

    Raises:
        ServiceError: it is dead already (1001).
    """
    if not isinstance(remote, RemoteProxy):
        return None
    watcher = Watcher(action)
    try:
        remote.register_death_recipient(watcher)
    except DeadObjectError as error:
        raise ServiceError(f"the object is dead already: {error}", code=codes.INVALID_INPUT) from error
    return watcher


def unwatch(remote: IRemoteObject, watcher: DeathRecipient | None) -> None:
    """Take a ``watch`` back."""
    if watcher is not None:
        remote.unregister_death_recipient(watcher)


def _tell_one(event: Event) -> None:
    data, reply = MessageSequence(), MessageSequence()
    if event.write is not None:
        event.write(data)
    else:
        data.write_interface_token(codes.LISTENER_DESCRIPTOR)
        data.write_int(event.ability)
        data.write_string("")  # this device
    event.listener.send_request(event.code, data, reply, _ONE_WAY)
