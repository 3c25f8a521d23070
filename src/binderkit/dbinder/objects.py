"""The object of system ability 4700 whole: devices (softbus) and the objects of other devices (dbinder).

Owns: ``Abilities``: which device a word names, an ability's name there to its id, who may ask, and errors in the
contract's words; and ``Objects``, which programs get.

Rules upheld (reference 2.4, 4.1): programs of this device only; an application needs DISTRIBUTED_DATASYNC; this device
declares what is asked for as distributed; what the softbus processes of two devices say to each other (4700, 1401) no
program gets; and nothing of this very device, which SAMgr gives by rules that softbus is not subject to.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Final, Protocol

from binderkit.ability.codes import DISTRIBUTED_DATASYNC, SCHEDULER_ID
from binderkit.dbinder.watches import Watches
from binderkit.errors import ServiceError
from binderkit.ipc.context import Caller
from binderkit.ipc.remote import IRemoteObject
from binderkit.samgr.ability import AbilityKey, checked_key
from binderkit.samgr.access import check_application_permission
from binderkit.samgr.remote import (
    NO_DEVICE,
    NOT_AVAILABLE,
    NOT_DISTRIBUTED,
    SOFTBUS_ID,
    THIS_DEVICE,
    IAbilityWatcher,
    IDBinder,
    RemoteAbility,
)
from binderkit.softbus.service import SoftBusService, check_local, problems

if TYPE_CHECKING:
    from binderkit.dbinder.service import DBinderService
    from binderkit.softbus.contracts import DeviceDescription
    from binderkit.softbus.device import SoftBusDevice

__all__ = ["BETWEEN_DEVICES", "Abilities", "Devices", "Objects"]

BETWEEN_DEVICES: Final = (SOFTBUS_ID, SCHEDULER_ID)
"""What checks its callers on the device where they are, so that nobody may get round it."""
Declared = Callable[[AbilityKey], object]


class Devices(Protocol):
    """What ``Abilities`` asks of softbus."""

    def resolve(self, device: str) -> DeviceDescription:
        """Return the device that a word names (ServiceError: none, or several, 108)."""

    def abilities_of(self, udid: str, timeout: float) -> list[RemoteAbility]:
        """Return what another device offers to this one."""

    def own_abilities(self) -> list[RemoteAbility]:
        """Return what this device offers to others."""


def _may_use_devices() -> None:
    check_application_permission(DISTRIBUTED_DATASYNC)


class Abilities(IDBinder):
    """System abilities of other devices.

    Args:
        dbinder: the objects. devices: who they are, and what they offer.
        declared: returns if this device declares an ability as distributed (ServiceError: it does not, 1024).
        permitted: returns if the calling process may use other devices (PermissionDeniedError: it may not, 201).
    """

    def __init__(
        self,
        dbinder: DBinderService,
        devices: Devices,
        declared: Declared,
        permitted: Callable[[], None] = _may_use_devices,
    ) -> None:
        self._dbinder = dbinder
        self._devices = devices
        self._declared = declared
        self._permitted = permitted
        self.watches = Watches(dbinder, self._is_declared)

    def get_ability(self, device: str, key: int | str, timeout: float) -> IRemoteObject:
        """Return a system ability of another device."""
        with problems():
            self._check_caller()
            found = self._of_another(device)
            if not found.online:
                raise offline(found.name)
            key = checked_key(key)
            if isinstance(key, int):
                self._check_declared(key)
                return self._dbinder.get(found.udid, key, timeout=timeout)
            ability = self._id_of(found, key, timeout)
            self._check_declared(key, ability)
            return self._dbinder.get(found.udid, ability, timeout=timeout)

    def list_abilities(self, device: str, timeout: float) -> list[RemoteAbility]:
        """Return what a device offers."""
        with problems():
            self._check_caller()
            found = self._devices.resolve(device)
            if found.udid == self._dbinder.udid:
                return self._devices.own_abilities()
            if not found.online:
                raise offline(found.name)
            return self._devices.abilities_of(found.udid, timeout)

    def watch_ability(self, device: str, key: int | str, watcher: IAbilityWatcher) -> str:
        """Have a program told of an ability of another device."""
        with problems():
            caller = self._check_caller()
            found = self._of_another(device)
            key = checked_key(key)
            if isinstance(key, int):  # which ability a name is, only that device knows
                self._check_declared(key)
            self.watches.add(caller.pid, found.udid, key, watcher)
            return found.udid

    def unwatch_ability(self, watcher: IAbilityWatcher) -> bool:
        """Tell it nothing more."""
        check_local()
        return self.watches.remove(watcher)

    # --- checks ----------------------------------------------------------------------------------

    def _check_caller(self) -> Caller:
        caller = check_local()
        self._permitted()
        return caller

    def _of_another(self, device: str) -> DeviceDescription:
        found = self._devices.resolve(device)
        if found.udid == self._dbinder.udid:
            raise ServiceError(f"{device!r} is this device; leave device_id empty", code=THIS_DEVICE)
        return found

    def _check_declared(self, *keys: AbilityKey) -> None:
        if keys[-1] in BETWEEN_DEVICES:
            raise ServiceError(
                f"system ability {keys[-1]} of another device answers only that of this one; use the one here",
                code=NOT_DISTRIBUTED,
            )
        refusal = None
        for key in keys:
            try:
                self._declared(key)
                return
            except ServiceError as error:
                refusal = refusal or error
        assert refusal is not None
        raise refusal

    def _is_declared(self, *keys: AbilityKey) -> bool:
        try:
            self._check_declared(*keys)
        except ServiceError:
            return False
        return True

    def _id_of(self, device: DeviceDescription, name: str, timeout: float) -> int:
        for one in self._devices.abilities_of(device.udid, timeout):
            if one.name == name:
                return one.id
        raise ServiceError(
            f"device {device.name!r} offers no system ability {name!r} to this one; 'binderkit list --device "
            f"{device.udid[:8]}' shows what it offers",
            code=NOT_AVAILABLE,
        )


class Objects(SoftBusService, Abilities):
    """Devices and their abilities."""

    def __init__(self, device: SoftBusDevice, dbinder: DBinderService, declared: Declared) -> None:
        SoftBusService.__init__(self, device)
        Abilities.__init__(self, dbinder, self, declared)
        device.calls.on_device(self.watches.presence)

    def abilities_of(self, udid: str, timeout: float) -> list[RemoteAbility]:
        """Return what another device offers to this one."""
        return self._device.abilities_of(udid, timeout)

    def own_abilities(self) -> list[RemoteAbility]:
        """Return what this device offers to others."""
        return self._device.own_abilities()

    def close(self) -> None:
        """Tell nobody any more."""
        self.watches.close()
        super().close()


def offline(name: str) -> ServiceError:
    """Return the error for a device that is trusted and not there."""
    return ServiceError(
        f"device {name!r} is offline: it is trusted, but not seen now; is it on, in this network, and its softbus "
        "running?",
        code=NO_DEVICE,
    )
