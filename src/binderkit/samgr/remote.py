"""System abilities of other devices: how a program of this device is given one (reference 2.1, 4.2).

Owns: the contract between programs and the process that speaks for the device (softbus, system ability 4700), and the
functions behind ``get_system_ability(…, device_id=…)``. Why here and not in softbus: a client needs nothing else of
it, neither its packages nor its code.

Rules upheld: only abilities that both devices mark as distributed are given (1024: this one does not, 115: the other
one does not); what went wrong is told with its code and what to do; softbus is started by being asked for; an ability
of this very device is asked for at SAMgr, never through softbus, which may have what its caller may not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from binderkit import limits
from binderkit.errors import (
    ERR_DEAD_OBJECT,
    ERR_PERMISSION_DENIED,
    ERR_STUB_REFUSED,
    ERR_WAIT_REPLY_TIMEOUT,
    CallTimeoutError,
    DeadObjectError,
    IpcError,
    ParamTypeError,
    ParamValueError,
    PermissionDeniedError,
    RefusedError,
    ServiceError,
    ServiceNotFoundError,
)
from binderkit.interface import Int32, Interface, aio, method, oneway, proxy, raises, within
from binderkit.ipc.driver import current_driver
from binderkit.ipc.remote import IRemoteObject
from binderkit.samgr import codes
from binderkit.samgr.ability import AbilityKey, checked_key

if TYPE_CHECKING:
    from binderkit.samgr.load import SystemAbilityLoadCallback

__all__ = [
    "NOT_AVAILABLE",
    "NOT_DISTRIBUTED",
    "NO_DEVICE",
    "SOFTBUS_ID",
    "SOFTBUS_NAME",
    "THIS_DEVICE",
    "IAbilityWatcher",
    "IDBinder",
    "Problem",
    "RemoteAbility",
]

SOFTBUS_ID: Final = codes.SOFTBUS_ID
SOFTBUS_NAME: Final = "binderkit.softbus"
NO_DEVICE: Final = 108
"""No such device, or it is offline."""
NOT_AVAILABLE: Final = 113
"""The other device does not have the ability, or cannot load it."""
NOT_DISTRIBUTED: Final = 115
"""The other device has it, for itself only."""
THIS_DEVICE: Final = 2101
"""Ours: the device that was named is this one; ask SAMgr."""
SOFTBUS_WAIT: Final = 12.0
"""Seconds softbus may take to be there: its first start makes a key and founds a circle."""


@dataclass
class Problem(Exception):
    """The softbus process does not do it.

    Attributes:
        code: the number of the error, of reference 1.10, 2.3 or 4.8. text: what was wrong and what to do.
    """

    code: Int32
    text: str


@dataclass(frozen=True)
class RemoteAbility:
    """A system ability that another device offers.

    Attributes:
        id, name: as it has them there; the name may be "". running: whether it runs now; else it is loaded when it is
            asked for.
    """

    id: Int32
    name: str
    running: bool


class IAbilityWatcher(Interface, descriptor="ohos.dbinder.IAbilityWatcher"):
    """What a program, or another device, offers to hear of system abilities that come and go."""

    @method
    @oneway
    def ability_changed(self, device: str, ability: Int32, there: bool) -> None:
        """An ability of a device (its UDID) is there, or is not any more."""


class IDBinder(Interface, descriptor="ohos.dbinder.IDBinder"):
    """Objects of other devices; an interface of the object of system ability 4700."""

    @method
    @raises(Problem)
    def get_ability(self, device: str, key: Int32 | str, timeout: float) -> IRemoteObject:
        """Return a system ability of another device, loaded there if need be, within ``timeout`` seconds."""

    @method
    @raises(Problem)
    def watch_ability(self, device: str, key: Int32 | str, watcher: IAbilityWatcher) -> str:
        """Have ``watcher`` told of an ability of another trusted device, which may be offline; return its UDID."""

    @method
    def unwatch_ability(self, watcher: IAbilityWatcher) -> bool:
        """Tell it nothing more; returns whether it was to be told of something."""

    @method
    @raises(Problem)
    def list_abilities(self, device: str, timeout: float) -> list[RemoteAbility]:
        """Return the abilities that a device offers to others, by id."""


def checked_device(device_id: object) -> str:
    """Return ``device_id`` if it can name a device.

    Raises:
        ParamTypeError, ParamValueError: no text, empty, or longer than any name of a device (401).
    """
    if not isinstance(device_id, str):
        raise ParamTypeError(f"a device is named by a text, got {type(device_id).__name__}")
    if not 0 < len(device_id) <= limits.MAX_DEVICE_NAME:
        raise ParamValueError(
            f"{device_id[:80]!r} names no device: use its UDID, its network id or its name ('binderkit device list')"
        )
    return device_id


def error_of(problem: Problem) -> IpcError:
    """Return the error that a caller gets for a problem."""
    if problem.code == ERR_DEAD_OBJECT:
        return DeadObjectError(problem.text)
    if problem.code == ERR_WAIT_REPLY_TIMEOUT:
        return CallTimeoutError(problem.text)
    if problem.code == NOT_AVAILABLE:
        return ServiceNotFoundError(problem.text, code=problem.code)
    if problem.code == ERR_PERMISSION_DENIED:
        return PermissionDeniedError(problem.text)
    if problem.code == ERR_STUB_REFUSED:
        return RefusedError(problem.text)
    return ServiceError(problem.text, code=problem.code)


def dbinder() -> IDBinder:
    """Return the interface to other devices; the softbus process is started when it does not run.

    Raises:
        ServiceError: it cannot be started; the text says why, for example packages that are missing (2100).
        NoServiceManagerError: there is no SAMgr (1007).
    """
    from binderkit.samgr import client

    return proxy(IDBinder, client.load_system_ability(SOFTBUS_ID, timeout=SOFTBUS_WAIT))


def get(key: AbilityKey, device_id: str, timeout: float | None = None) -> IRemoteObject:
    """Return a system ability of another device; see client.get_system_ability.

    Args:
        timeout: seconds for the answer of the other device, above 0 … 3000; None: 8.

    Raises:
        ServiceNotFoundError: the other device does not have it, or could not load it (113).
        ServiceError: no such device, several of this name, or it is offline (108); the other device does not declare
            it as distributed (115), or this one does not (1024).
        PermissionDeniedError: the ability is not for this device, or this program, an application, lacks
            ohos.permission.DISTRIBUTED_DATASYNC (201).
        CallTimeoutError, DeadObjectError: it did not answer, or left meanwhile (502, -32).
    """
    device, key, seconds = checked_device(device_id), checked_key(key), checked_seconds(timeout)
    service = dbinder()
    try:
        return within(seconds, service.get_ability)(device, key, seconds)
    except Problem as problem:
        if problem.code != THIS_DEVICE:
            raise error_of(problem) from None
    from binderkit.samgr import client

    return client.get_system_ability(key)


def check(key: AbilityKey, device_id: str) -> IRemoteObject | None:
    """Return a system ability of another device if it runs there, else None; loads nothing there.

    Raises:
        ServiceError: no such device, or it is offline (108).
        CallTimeoutError, DeadObjectError: it did not answer, or left meanwhile (502, -32).
    """
    key = checked_key(key)
    found = next((one for one in abilities_of(device_id) if key in (one.id, one.name)), None)
    return get(found.id, device_id) if found is not None and found.running else None


def abilities_of(device_id: str, timeout: float | None = None) -> list[RemoteAbility]:
    """Return the abilities that another device offers, by id; raises as ``check``."""
    device, seconds = checked_device(device_id), checked_seconds(timeout)
    service = dbinder()
    try:
        return within(seconds, service.list_abilities)(device, seconds)
    except Problem as problem:
        raise error_of(problem) from None


async def get_async(key: AbilityKey, device_id: str, timeout: float | None = None) -> IRemoteObject:
    """Return a system ability of another device, without blocking the event loop; raises as ``get``."""
    from binderkit.samgr import aio as client

    device, key, seconds = checked_device(device_id), checked_key(key), checked_seconds(timeout)
    service = proxy(IDBinder, await client.load_system_ability(SOFTBUS_ID, timeout=SOFTBUS_WAIT))
    try:
        return await aio(within(seconds, service.get_ability))(device, key, seconds)
    except Problem as problem:
        if problem.code != THIS_DEVICE:
            raise error_of(problem) from None
    return await client.get_system_ability(key)


def load(key: AbilityKey, callback: SystemAbilityLoadCallback, device_id: str, timeout: float | None = None) -> None:
    """Ask for a system ability of another device; ``callback`` is told, on a worker, how it went (reference 2.2, 8).

    Raises:
        ParamTypeError, ParamValueError: no callback, or wrong words or times (401, 1000, 1001).
    """
    from binderkit.samgr.load import SystemAbilityLoadCallback

    if not isinstance(callback, SystemAbilityLoadCallback):
        raise ParamTypeError(f"expected a SystemAbilityLoadCallback, got {type(callback).__name__}")
    device, key, seconds = checked_device(device_id), checked_key(key), checked_seconds(timeout)

    def work() -> None:
        try:
            remote = get(key, device, seconds)
        except IpcError as error:
            callback.on_load_system_ability_complete_for_remote(device, key, None, error)
        else:
            callback.on_load_system_ability_complete_for_remote(device, key, remote, None)

    current_driver().submit(work)


def checked_seconds(timeout: float | None) -> float:
    """Return how long to wait for another device; None: 8 (ParamTypeError, ParamValueError: no such time, 401)."""
    if timeout is None:
        return float(limits.DEFAULT_WAIT_TIME)
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise ParamTypeError(f"a timeout is a number of seconds, got {type(timeout).__name__}")
    if not 0 < timeout <= limits.MAX_WAIT_TIME:
        raise ParamValueError(f"a timeout of {timeout} s; it must be above 0 and at most {limits.MAX_WAIT_TIME} s")
    return float(timeout)
