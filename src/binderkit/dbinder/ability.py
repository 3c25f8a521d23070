"""The softbus process: system abilities 4700 and 1401, hosted as any others (reference 3.5, 4.2).

Owns: ``SoftBus``, which puts the parts of softbus and dbinder together, and the object that programs get; and
``Scheduler``, which offers the distributed scheduler. Why one process: it alone holds the device's key and speaks for
the device, and what other devices gave it cannot be passed on to another process of this one.

Rules upheld: other devices get only abilities marked as distributed (115), and those that need a permission only if
their profile names the device (201); never what programs of this device get as 4700 and 1401, but the objects by which
the softbus processes of two devices talk; what is missing to run is said in words; at the end nobody is served before
anything they need goes.
"""

from __future__ import annotations

import importlib.util
from typing import TYPE_CHECKING, ClassVar, Final

from binderkit import samgr
from binderkit.ability.codes import SCHEDULER_ID
from binderkit.errors import ERR_PERMISSION_DENIED, IpcError, ServiceError, ServiceNotFoundError
from binderkit.ipc.context import calling_identity
from binderkit.samgr import codes
from binderkit.samgr.remote import NOT_AVAILABLE, NOT_DISTRIBUTED, SOFTBUS_ID, RemoteAbility
from binderkit.samgr.system_ability import SystemAbility

if TYPE_CHECKING:
    from binderkit.dbinder.objects import Objects
    from binderkit.dbinder.peer_abilities import PeerAbilities
    from binderkit.dbinder.scheduler import DistributedScheduler
    from binderkit.dbinder.service import DBinderService
    from binderkit.ipc.remote import IRemoteObject
    from binderkit.samgr.ability import AbilityKey
    from binderkit.samgr.listener import SystemAbilityListener
    from binderkit.samgr.reason import OnDemandReason
    from binderkit.softbus.device import SoftBusDevice

__all__ = ["Scheduler", "SoftBus"]

_OWN: Final = (SOFTBUS_ID, SCHEDULER_ID)
_NEEDED: Final = ("zenoh", "cryptography", "zeroconf", "ifaddr", "spake2")


def check_packages() -> None:
    """Refuse to start without the packages softbus needs (ServiceError, 1001)."""
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise ServiceError(
            f"other devices cannot be reached: {', '.join(missing)} is not installed; install it: "
            "pip install 'binderkit[rpc]'"
        )


class SoftBus(SystemAbility):
    """System ability 4700."""

    scheduler: ClassVar[DistributedScheduler | None] = None
    """Of the one that runs, for ``Scheduler``."""
    peer_abilities: ClassVar[PeerAbilities | None] = None
    """Of the one that runs, for other devices."""
    _device: SoftBusDevice | None = None
    _dbinder: DBinderService | None = None
    _service: Objects | None = None

    def on_start(self, reason: OnDemandReason) -> None:
        """Join the network, and offer the object."""
        check_packages()
        from binderkit.ability.client import ability_manager
        from binderkit.dbinder.objects import Objects
        from binderkit.dbinder.peer_abilities import PeerAbilities
        from binderkit.dbinder.scheduler import DistributedScheduler
        from binderkit.dbinder.service import DBinderService
        from binderkit.softbus.device import SoftBusDevice
        from binderkit.softbus.settings import state_directory

        try:
            self._device = device = SoftBusDevice(state_directory(), abilities=_offered)
            self._dbinder = DBinderService(device.calls, device.bulk, get_local, udid=device.udid)
            SoftBus.peer_abilities = PeerAbilities(self._dbinder, Registry())
            SoftBus.scheduler = DistributedScheduler(
                self._dbinder, device.calls.engine.info.network_id, ability_manager
            )
            self._service = Objects(device, self._dbinder, Registry().check)
            self.publish(self._service)
        except BaseException:
            self.on_stop(reason)
            raise

    def on_stop(self, reason: OnDemandReason) -> None:
        """Leave the network."""
        peers, SoftBus.peer_abilities, SoftBus.scheduler = SoftBus.peer_abilities, None, None
        if peers is not None:
            peers.close()
        if self._service is not None:
            self._service.close()
        if self._device is not None:
            self._device.leave_network()
        if self._dbinder is not None:
            self._dbinder.close()
        if self._device is not None:
            self._device.close()

    def on_idle(self, reason: OnDemandReason) -> int:
        """Stay: other devices need this one to be there, and cannot start it."""
        return -1


class Scheduler(SystemAbility):
    """System ability 1401; its profile lets it wait for 4700."""

    def on_start(self, reason: OnDemandReason) -> None:
        """Offer the scheduler (ServiceError: softbus ended meanwhile, 1001)."""
        if SoftBus.scheduler is None:
            raise ServiceError(
                f"system ability {SOFTBUS_ID}, whose part the scheduler is, does not run in this process"
            )
        self.publish(SoftBus.scheduler)

    def on_idle(self, reason: OnDemandReason) -> int:
        """Stay, as softbus does."""
        return -1


class Registry:
    """What SAMgr says of abilities and other devices; SAMgr is whichever runs by then."""

    def check(self, key: AbilityKey, device: str = "") -> int:
        """Return the id of an ability that a device may have; see check_remote_system_ability."""
        return samgr.system_ability_manager().check_remote_system_ability(key, device)

    def subscribe(self, key: AbilityKey, listener: SystemAbilityListener) -> None:
        """Have a listener told of abilities of this device."""
        samgr.subscribe_system_ability(key, listener)

    def unsubscribe(self, key: AbilityKey, listener: SystemAbilityListener) -> None:
        """End it."""
        samgr.unsubscribe_system_ability(key, listener)


def _offered(device: str) -> list[RemoteAbility]:
    """Return what this device offers to another one (its UDID); to any at all, if that is ""."""
    return [
        RemoteAbility(one.id, one.name, bool(one.pid) and one.state is samgr.AbilityState.LOADED)
        for one in samgr.list_ability_states()
        if one.distributed and one.id not in _OWN and (not (one.guarded and device) or _may_have(one.id, device))
    ]


def _may_have(ability: int, device: str) -> bool:
    try:
        return Registry().check(ability, device) == ability
    except ServiceError:
        return False


def get_local(ability: int) -> IRemoteObject | None:
    """Return a system ability of this device for the calling one, loaded if need be; None when there is none.

    Raises:
        ServiceError: it is not for other devices (115), not for that one (201), or it failed at its start (113).
    """
    if ability == SCHEDULER_ID:
        # Registered, so that the ability manager knows whose orders on behalf of other devices to take.
        scheduler = SoftBus.scheduler
        return None if scheduler is None or _loaded(ability) is None else scheduler.peer_side.as_object()
    if ability == SOFTBUS_ID:
        return None if SoftBus.peer_abilities is None else SoftBus.peer_abilities.as_object()
    try:
        Registry().check(ability, calling_identity().device_id)
    except ServiceNotFoundError:
        return None
    except IpcError as error:
        if error.code == ERR_PERMISSION_DENIED:
            raise
        if error.code == codes.NOT_DISTRIBUTED:
            raise ServiceError(str(error.args[0]), code=NOT_DISTRIBUTED) from None
        raise _not_available(ability, error) from error  # SAMgr is being restarted
    return _loaded(ability)


def _loaded(ability: int) -> IRemoteObject | None:
    try:
        return samgr.get_system_ability(ability)
    except ServiceNotFoundError:
        return None
    except IpcError as error:
        raise _not_available(ability, error) from error


def _not_available(ability: int, error: IpcError) -> ServiceError:
    text = error.args[0] if error.args else error
    return ServiceError(f"system ability {ability} cannot be loaded there: {text}", code=NOT_AVAILABLE)
