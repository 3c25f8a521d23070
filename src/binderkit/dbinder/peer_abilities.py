"""What this device tells others of its system abilities: which come and which go (reference 2.2, 6; 4.1).

Owns: the contract between the softbus processes of two devices, and who is told of what here. Another device gets the
object by asking for system ability 4700; the object that programs of this device get under that id it never gets.

Rules upheld: a device hears only of abilities it may have (RemoteRule), by the rules at the moment they are registered;
it is proven by its certificate, and names objects of its own only; what it asked for ends when it leaves; it holds at
most MOST subscriptions.

Locks: ``_lock`` guards the table; nothing is called while it is held.
"""

from __future__ import annotations

import logging
import threading
from typing import Final, Protocol

from binderkit.dbinder.service import DBinderService
from binderkit.dbinder.stub import RemoteStub
from binderkit.errors import IpcError, RefusedError, ServiceError
from binderkit.interface import Int32, Interface, method, raises
from binderkit.ipc.context import calling_identity
from binderkit.samgr import codes
from binderkit.samgr.ability import AbilityKey, checked_key
from binderkit.samgr.listener import SystemAbilityListener
from binderkit.samgr.remote import IAbilityWatcher, Problem
from binderkit.softbus.service import problems

__all__ = ["IPeerAbilities", "PeerAbilities", "Registry"]

_log = logging.getLogger("binderkit.dbinder")
MOST: Final = 64
"""Subscriptions of one device: together they share what SAMgr grants one process."""


class Registry(Protocol):
    """What is asked of SAMgr."""

    def subscribe(self, key: AbilityKey, listener: SystemAbilityListener) -> None:
        """Have a listener told of abilities of this device."""

    def unsubscribe(self, key: AbilityKey, listener: SystemAbilityListener) -> None:
        """End it."""

    def check(self, key: AbilityKey, device: str) -> int:
        """Return the id of an ability that a device may have (ServiceError: it may not)."""


class IPeerAbilities(Interface, descriptor="ohos.dbinder.IPeerAbilities"):
    """The system abilities of a device, for the softbus processes of others."""

    @method
    @raises(Problem)
    def watch(self, key: Int32 | str, watcher: IAbilityWatcher) -> None:
        """Have an object of the calling device told of an ability, at once if it is there; instead of the one before.

        Raises:
            Problem: no id or name (1000, 1001), too many (1010).
        """

    @method
    def unwatch(self, key: Int32 | str, watcher: IAbilityWatcher) -> bool:
        """Tell it nothing more; returns whether it was to be told."""


class PeerAbilities(IPeerAbilities):
    """Tells other devices."""

    def __init__(self, dbinder: DBinderService, registry: Registry) -> None:
        self._dbinder = dbinder
        self._registry = registry
        self._lock = threading.Lock()
        self._watches: dict[tuple[str, AbilityKey], _Watch] = {}
        dbinder.on_device_lost(self._device_lost)

    def watch(self, key: int | str, watcher: IAbilityWatcher) -> None:
        """Have an object of the calling device told of an ability."""
        stub = _own_object(watcher)
        with problems():
            watch = _Watch(stub, checked_key(key), watcher, self._registry)
            place = stub.device, watch.key
            with self._lock:
                if place not in self._watches and sum(device == stub.device for device, _ in self._watches) >= MOST:
                    raise ServiceError(
                        f"device {stub.device[:8]} has {MOST} subscriptions here, which is the limit",
                        code=codes.SUBSCRIBE_LIMIT,
                    )
                before = self._watches.pop(place, None)
                self._watches[place] = watch
            if before is not None:
                self._end(before)
            try:
                self._registry.subscribe(watch.key, watch)
            except BaseException:
                self._take_out(watch)
                raise
            with self._lock:
                kept = self._watches.get(place) is watch
            if not kept or stub.why_dead:  # the device left, or asked anew, before SAMgr knew of this one
                self._take_out(watch)
                self._end(watch)

    def unwatch(self, key: int | str, watcher: IAbilityWatcher) -> bool:
        """Tell an object of the calling device nothing more."""
        stub = _own_object(watcher)
        with self._lock:
            watch = self._watches.get((stub.device, key))
        if watch is None or watch.stub is not stub or not self._take_out(watch):
            return False
        self._end(watch)
        return True

    def watches(self) -> int:
        """Return how many subscriptions of other devices there are."""
        with self._lock:
            return len(self._watches)

    def close(self) -> None:
        """Tell nobody any more."""
        with self._lock:
            watches, self._watches = list(self._watches.values()), {}
        for watch in watches:
            self._end(watch)

    def _take_out(self, watch: _Watch) -> bool:
        place = watch.stub.device, watch.key
        with self._lock:
            if self._watches.get(place) is not watch:
                return False
            del self._watches[place]
            return True

    def _end(self, watch: _Watch) -> None:
        try:
            self._registry.unsubscribe(watch.key, watch)
        except IpcError as error:
            _log.debug("the subscription to %r ended by itself: %s", watch.key, error)

    def _device_lost(self, udid: str, why: str) -> None:
        with self._lock:
            lost = [watch for watch in self._watches.values() if watch.stub.device == udid and watch.stub.why_dead]

        def end() -> None:
            for watch in lost:
                if self._take_out(watch):
                    self._end(watch)

        if lost:
            self._dbinder.driver.submit(end)  # not here: who tells us must not wait for SAMgr


class _Watch(SystemAbilityListener):
    """One subscription of another device."""

    def __init__(self, stub: RemoteStub, key: AbilityKey, watcher: IAbilityWatcher, registry: Registry) -> None:
        super().__init__()
        self.stub = stub
        self.key = key
        self._watcher = watcher
        self._registry = registry
        self._told: set[int] = set()

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        """An ability of this device is there: tell, if that device may have it."""
        try:
            self._registry.check(ability_id, self.stub.device)
        except IpcError as error:
            _log.debug("device %s is not told of ability %d: %s", self.stub.device[:8], ability_id, error)
            return
        self._told.add(ability_id)
        self._tell(ability_id, there=True)

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        """It is gone: tell, if that device was told that it was there."""
        if ability_id in self._told:
            self._told.remove(ability_id)
            self._tell(ability_id, there=False)

    def _tell(self, ability: int, *, there: bool) -> None:
        try:
            self._watcher.ability_changed("", ability, there)
        except IpcError as error:
            # Only a device that left, or hangs until it counts as gone, takes no one-way call; it will ask anew.
            _log.info("device %s could not be told of ability %d: %s", self.stub.device[:8], ability, error)


def _own_object(watcher: IAbilityWatcher) -> RemoteStub:
    """Return the calling device's object (RefusedError: it is not that device's, 303)."""
    caller, remote = calling_identity(), watcher.as_object()
    if not caller.device_id or not isinstance(remote, RemoteStub) or remote.device != caller.device_id:
        raise RefusedError(f"another device calls this, for objects of its own, not {caller!r}")
    return remote
