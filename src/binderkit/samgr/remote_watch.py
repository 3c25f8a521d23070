"""Hearing of system abilities of other devices: ``subscribe_system_ability(…, device_id=…)``.

Owns: this process's subscriptions at softbus (system ability 4700), and making them again with the softbus process that
comes after one that ended. Why not at SAMgr: it knows nothing of other devices, and softbus must not need it to.

Rules upheld: for each ability of a device a listener hears Added and Removed in turn; when softbus ends, what it said
is not known any more, so that everything is told as removed, and as added again when the next one says so; a listener
that takes its time delays nobody else.

Locks: ``_lock`` guards the subscriptions and what they were told; nothing is called while it is held. What a listener
is to hear is queued under it.
"""

from __future__ import annotations

import logging
import threading
from typing import TYPE_CHECKING, Final

from binderkit.errors import IpcError, ParamTypeError, RefusedError, ServiceError
from binderkit.interface import proxy
from binderkit.ipc.context import calling_identity, comes_from
from binderkit.ipc.driver import Driver, current_driver
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy
from binderkit.samgr import client, remote
from binderkit.samgr.ability import AbilityKey, checked_key
from binderkit.samgr.listener import SystemAbilityListener
from binderkit.samgr.remote import SOFTBUS_ID, IAbilityWatcher, IDBinder, Problem, checked_device, error_of
from binderkit.samgr.serial import SerialQueue

if TYPE_CHECKING:
    from concurrent.futures import Future

    from binderkit.ipc.remote import IRemoteObject

__all__ = ["subscribe", "unsubscribe"]

_log = logging.getLogger("binderkit.samgr")
_lock = threading.Lock()
_Name = tuple[AbilityKey, SystemAbilityListener, str]
_THREAD: Final = "binderkit-remote-listener"


def subscribe(key: AbilityKey, listener: SystemAbilityListener, device_id: str) -> None:
    """Have ``listener`` told of an ability of another device; again changes nothing. See client.py.

    Raises:
        ParamTypeError, ParamValueError: no listener, key or device (401, 1000, 1001).
        ServiceError: no such device (108), this device does not declare the ability (1024), the process has 256
            subscriptions (1010). PermissionDeniedError: an application without the permission (201).
    """
    if not isinstance(listener, SystemAbilityListener):
        raise ParamTypeError(f"expected a SystemAbilityListener, got {type(listener).__name__}")
    name = checked_key(key), listener, checked_device(device_id)
    known = _current()
    with _lock:
        if name in known.subscriptions:
            return
    subscription = _Subscription(name)
    service = remote.dbinder()
    subscription.begin(service)
    with _lock:
        twice = known.subscriptions.setdefault(name, subscription) is not subscription
    if twice:
        subscription.end()
        return
    try:
        known.hear_of_softbus()
        if service.as_object().is_object_dead():
            known.begin_again()  # it ended before we were in the table, and the next one may be there already
    except BaseException:
        with _lock:
            known.subscriptions.pop(name, None)
        subscription.end()
        raise


def unsubscribe(key: AbilityKey, listener: SystemAbilityListener, device_id: str) -> None:
    """End a subscription (ServiceError: there is none by these words, 1001)."""
    known = _current()
    with _lock:
        subscription = known.subscriptions.pop((checked_key(key), listener, device_id), None)
        last = not known.subscriptions
    if subscription is None:
        raise ServiceError(f"this listener is not subscribed to {key!r} of device {device_id[:80]!r}")
    subscription.end()
    if last:
        known.hear_no_more()


class _Known:
    """The subscriptions of this process, as long as it uses ``driver``."""

    def __init__(self, driver: Driver) -> None:
        self.driver = driver
        self.subscriptions: dict[_Name, _Subscription] = {}
        self._life: _SoftbusLife | None = None

    def hear_of_softbus(self) -> None:
        """Be told of softbus processes that come."""
        with _lock:
            if self._life is not None:
                return
            life = self._life = _SoftbusLife(self)
        try:
            client.subscribe_system_ability(SOFTBUS_ID, life)
        except BaseException:
            with _lock:
                self._life = None
            raise

    def hear_no_more(self) -> None:
        """Nobody is subscribed any more."""
        with _lock:
            if self.subscriptions:
                return
            life, self._life = self._life, None
        if life is not None:
            client.unsubscribe_system_ability(SOFTBUS_ID, life)

    def begin_again(self) -> None:
        """Subscribe everything at the softbus process there is now, if it does not know of it."""
        found = client.check_system_ability(SOFTBUS_ID)
        with _lock:
            subscriptions = list(self.subscriptions.values())
        if found is None:
            return
        for subscription in subscriptions:
            try:
                subscription.begin(proxy(IDBinder, found))
            except IpcError as error:
                _log.warning("what becomes of %s is not heard until softbus starts anew: %s", subscription, error)


class _SoftbusLife(SystemAbilityListener):
    """Hears of softbus processes; of their ends the death notices tell."""

    def __init__(self, known: _Known) -> None:
        super().__init__()
        self._subscriptions = known

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        """A softbus process is there."""
        self._subscriptions.driver.submit(self._begin_again)

    def _begin_again(self) -> None:
        try:
            self._subscriptions.begin_again()
        except IpcError as error:
            _log.warning("softbus cannot be told what this process wants to hear of other devices: %s", error)


_memory: _Known | None = None


def _current() -> _Known:
    """Return the subscriptions for the driver in use: those made through one that was closed are gone with it."""
    global _memory
    driver = current_driver()
    with _lock:
        if _memory is None or _memory.driver is not driver:
            _memory = _Known(driver)
        return _memory


class _Subscription:
    """A listener, and which ability of which device it hears of."""

    def __init__(self, name: _Name) -> None:
        self._key, self._listener, self._device = name
        self._queue = SerialQueue(_THREAD)
        self._ears: _Ears | None = None
        self._present: set[tuple[str, int]] = set()

    def begin(self, service: IDBinder) -> None:
        """Be told by a softbus process from now on, if it does not do so already.

        Raises:
            ServiceError, PermissionDeniedError: it refuses (108, 1010, 1024, 201). DeadObjectError: it ended (-32).
        """
        ears = _Ears(self, service)
        with _lock:
            before = self._ears
            if before is not None and before.remote is ears.remote:
                return
            self._ears = ears
            self._all_gone()
        try:
            ears.watch_life()
            service.watch_ability(self._device, self._key, ears)
        except BaseException as error:
            with _lock:
                if self._ears is ears:
                    self._ears = None
            ears.forget_life()
            if isinstance(error, Problem):
                raise error_of(error) from None
            raise

    def end(self) -> None:
        """Hear nothing more; nothing of what was there is told as removed."""
        with _lock:
            ears, self._ears = self._ears, None
        if ears is None:
            return
        ears.forget_life()
        try:
            ears.service.unwatch_ability(ears)
        except IpcError as error:
            _log.debug("softbus ended, and the subscription with it: %s", error)

    def heard(self, ears: _Ears, device: str, ability: int, *, there: bool) -> None:
        """Softbus tells something."""
        name = device, ability
        with _lock:
            if self._ears is not ears or (name in self._present) == there:
                return
            if there:
                self._present.add(name)
            else:
                self._present.remove(name)
            self._tell(device, ability, there=there)

    def lost(self, ears: _Ears) -> None:
        """The softbus process of these ears ended."""
        with _lock:
            if self._ears is ears:
                self._ears = None
                self._all_gone()

    def _all_gone(self) -> None:
        for device, ability in sorted(self._present):
            self._tell(device, ability, there=False)
        self._present.clear()

    def _tell(self, device: str, ability: int, *, there: bool) -> None:
        told = self._queue.post(lambda: self._listener.tell_of_device(ability, device, there=there))
        told.add_done_callback(self._told)

    def _told(self, future: Future[None]) -> None:
        error = future.exception()
        if error is not None:
            _log.error("the listener of %s failed; it goes on", self, exc_info=error)

    def __str__(self) -> str:
        return f"system ability {self._key!r} of device {self._device!r}"


class _Ears(IAbilityWatcher, DeathRecipient):
    """What one softbus process tells."""

    def __init__(self, subscription: _Subscription, service: IDBinder) -> None:
        self._subscription = subscription
        self.service = service
        self.remote: IRemoteObject = service.as_object()

    def watch_life(self) -> None:
        """Hear of the end of the softbus process (DeadObjectError: it ended already)."""
        if isinstance(self.remote, RemoteProxy):
            self.remote.register_death_recipient(self)

    def forget_life(self) -> None:
        """Hear of it no more."""
        if isinstance(self.remote, RemoteProxy):
            self.remote.unregister_death_recipient(self)

    def ability_changed(self, device: str, ability: int, there: bool) -> None:
        """An ability came or went."""
        remote, caller = self.remote, calling_identity()
        if isinstance(remote, RemoteProxy) and not comes_from(caller, remote.owner):
            raise RefusedError(f"only softbus (pid {remote.owner.pid}) tells of other devices, not {caller!r}")
        self._subscription.heard(self, device, ability, there=there)

    def on_remote_died(self) -> None:
        """The softbus process ended."""
        self._subscription.lost(self)
