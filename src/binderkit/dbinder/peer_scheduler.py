"""The other half of the distributed scheduler: connections of other devices to service abilities of this one.

Owns: those connections, from the question of another device's scheduler to the answer of the ability manager here.

Rules upheld (reference 3.5): for the ability manager the caller is the device, which its certificate proves; a device
speaks for its own connections only; an ability no device is connected to any more is let go, also when the device
leaves before it was connected.

Locks: ``PeerScheduler._lock`` guards the table and the states of its connections; nothing is called while it is held.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable
from enum import Enum
from typing import TypeAlias

from binderkit.ability import codes
from binderkit.ability.contracts import IAbilityConnection, IAbilityManager, IPeerScheduler, Refusal
from binderkit.ability.want import ElementName, Want
from binderkit.dbinder.stub import RemoteStub
from binderkit.errors import DeadObjectError, IpcError, RefusedError
from binderkit.ipc.context import calling_identity, comes_from
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy
from binderkit.ipc.remote import IRemoteObject

__all__ = ["Managers", "PeerScheduler", "State", "Watcher"]

_log = logging.getLogger("binderkit.dbinder")
Managers: TypeAlias = Callable[[], IAbilityManager]


class State(Enum):
    """States of a connection between devices, on either side (reference 3.3)."""

    CONNECTING = "CONNECTING"
    CONNECTED = "CONNECTED"
    DISCONNECTING = "DISCONNECTING"
    OVER = "DISCONNECTED"


class Watcher(DeathRecipient):
    """Calls a function when somebody's process ends."""

    def __init__(self, action: Callable[[], None]) -> None:
        self._action = action

    def on_remote_died(self) -> None:
        """It ended."""
        self._action()


class PeerScheduler(IPeerScheduler):
    """What other devices' schedulers talk to.

    Args:
        manager: returns the ability manager of this device (AbilityError: it is not there).
    """

    def __init__(self, manager: Managers) -> None:
        self._manager = manager
        self._lock = threading.Lock()
        self._visits: dict[Hashable, _Visit] = {}

    def connect_from_remote(self, want: Want, callback: IAbilityConnection) -> None:
        """Connect the calling device to an ability of this one; every outcome is told to ``callback``."""
        stub, key = self._key(callback)
        try:
            visit = _Visit(self, self._manager(), stub, key, want, callback)
            with self._lock:
                if key in self._visits:
                    raise Refusal(codes.INTERNAL, "this callback object is in use for a connection")
                self._visits[key] = visit
            visit.begin()
        except Refusal as refusal:
            code, text = refusal.code, refusal.text
        except IpcError as error:
            code, text = codes.INTERNAL, f"the ability manager of that device: {error}"
        else:
            return
        _answer(want, lambda: callback.connect_failed(want.element, code, text))

    def disconnect_from_remote(self, callback: IAbilityConnection) -> None:
        """End a connection of the calling device; of one that is over it was told already."""
        _, key = self._key(callback)
        with self._lock:
            visit = self._visits.get(key)
        if visit is not None:
            visit.leave()

    def lost_visits(self, udid: str) -> list[_Visit]:
        """Return the connections of a device that left; not those that it made since it is back."""
        with self._lock:
            return [visit for visit in self._visits.values() if visit.device == udid and visit.stub.why_dead]

    def connections(self) -> int:
        """Return how many connections of other devices to abilities of this one there are."""
        with self._lock:
            return len(self._visits)

    def change(self, visit: _Visit, expected: State, state: State) -> bool:
        """Change a connection's state if it is as expected; return whether it was."""
        with self._lock:
            if visit.state is not expected:
                return False
            visit.state = state
            return True

    def forget(self, visit: _Visit) -> bool:
        """A connection is over; return whether it was not yet."""
        with self._lock:
            visit.state = State.OVER
            if self._visits.get(visit.key) is not visit:
                return False
            del self._visits[visit.key]
            return True

    @staticmethod
    def _key(callback: IAbilityConnection) -> tuple[RemoteStub, Hashable]:
        """Return the calling device's callback and what it is known by (RefusedError: it is not that device's)."""
        caller, remote = calling_identity(), callback.as_object()
        if not caller.device_id or not isinstance(remote, RemoteStub) or remote.device != caller.device_id:
            raise RefusedError(f"a scheduler of another device calls this, for objects of its own, not {caller!r}")
        return remote, (remote.device, remote.generation, remote.object_id)


class _Visit(IAbilityConnection):
    """A connection of another device to an ability of this one; the ability manager calls it."""

    def __init__(
        self,
        side: PeerScheduler,
        manager: IAbilityManager,
        stub: RemoteStub,
        key: Hashable,
        want: Want,
        callback: IAbilityConnection,
    ) -> None:
        self._side = side
        self._manager = manager
        self._want = want
        self._callback = callback
        self._silent = False
        self._recipient = Watcher(self._manager_died)
        self.stub = stub
        self.device = stub.device
        self.key = key
        self.state = State.CONNECTING

    def begin(self) -> None:
        """Ask the ability manager (Refusal, IpcError: it does not connect)."""
        try:
            remote = self._manager.as_object()
            if isinstance(remote, RemoteProxy):
                remote.register_death_recipient(self._recipient)
            self._manager.connect_ability_of_device(self.device, self._want, self)
        except (Refusal, IpcError):
            self._forget()
            raise

    def leave(self, *, silently: bool = False) -> None:
        """Disconnect, as soon as it is connected; ``silently``: nobody is there to be told."""
        self._silent = self._silent or silently
        if self._side.change(self, State.CONNECTED, State.DISCONNECTING):
            self._disconnect()
        else:
            self._side.change(self, State.CONNECTING, State.DISCONNECTING)

    # --- called by the ability manager -----------------------------------------------------------

    def connect_done(self, element: ElementName, remote: IRemoteObject) -> None:
        """The ability's object is there."""
        self._check_caller()
        if not self._side.change(self, State.CONNECTING, State.CONNECTED):
            self._disconnect()  # the device left, or gave up, before it was connected
            return
        try:
            self._callback.connect_done(element, remote)
        except IpcError as error:
            text = f"the object of {element} cannot go to device {self.device[:8]}: {error}"
            _log.warning("%s", text)
            self.leave(silently=True)
            _answer(self._want, lambda: self._callback.connect_failed(element, codes.INTERNAL, text))

    def connect_failed(self, element: ElementName, code: int, text: str) -> None:
        """There will be no connection."""
        self._check_caller()
        if self._forget():
            _answer(self._want, lambda: self._callback.connect_failed(element, code, text))

    def disconnect_done(self, element: ElementName, result: int, text: str) -> None:
        """The connection is over."""
        self._check_caller()
        self._ended(element, result, text)

    def _check_caller(self) -> None:
        remote, caller = self._manager.as_object(), calling_identity()
        if isinstance(remote, RemoteProxy) and not comes_from(caller, remote.owner):
            raise RefusedError(f"only the ability manager (pid {remote.owner.pid}) calls this, not {caller!r}")

    # --- inside ----------------------------------------------------------------------------------

    def _disconnect(self) -> None:
        try:
            self._manager.disconnect_ability(self)
        except (Refusal, IpcError) as error:
            # It ended in this very moment, or the manager did: the same for who wanted to leave.
            self._ended(self._want.element, codes.OK, str(error))

    def _manager_died(self) -> None:
        self._ended(self._want.element, codes.TARGET_DIED, f"the ability manager of device {self.device[:8]} ended")

    def _ended(self, element: ElementName, result: int, text: str) -> None:
        if self._forget() and not self._silent:
            _answer(self._want, lambda: self._callback.disconnect_done(element, result, text))

    def _forget(self) -> bool:
        known = self._side.forget(self)
        remote = self._manager.as_object()
        if known and isinstance(remote, RemoteProxy):
            remote.unregister_death_recipient(self._recipient)
        return known


def _answer(want: Want, call: Callable[[], None]) -> None:
    """Tell another device; one that left need not be told."""
    try:
        call()
    except DeadObjectError as error:
        _log.debug("nobody left to tell of %s: %s", want.element, error)
    except IpcError as error:
        _log.warning("another device cannot be told what became of %s: %s", want.element, error)
