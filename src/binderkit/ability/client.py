"""How programs use abilities: connect, disconnect, start, stop (reference 3.1).

Owns: this process's way to the ability manager and, for abilities of other devices, to the distributed scheduler; each
is looked up when needed and anew after it died.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar, cast

from binderkit import samgr
from binderkit.ability import codes
from binderkit.ability.connections import Connections, Connector, unwrapped
from binderkit.ability.contracts import AbilityReport, IAbilityManager, IDistributedScheduler, Refusal
from binderkit.ability.options import ConnectOptions
from binderkit.ability.want import Want
from binderkit.errors import AbilityError, DeadObjectError, ParamTypeError, ServiceError
from binderkit.interface import proxy
from binderkit.ipc.driver import current_driver
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy
from binderkit.ipc.remote import IRemoteObject

R = TypeVar("R")
_NO_MANAGER: Final = (
    f"the ability manager (system ability {codes.ABILITY_MANAGER_ID}) of this device is not there: {{error}}; it is "
    "part of the daemon, see 'binderkit samgr'"
)
_NO_SCHEDULER: Final = (
    "an ability of another device was wanted, and the distributed scheduler (system ability "
    f"{codes.SCHEDULER_ID}) of this one is not there: {{error}}; softbus offers it, see 'binderkit device list'"
)


def _submit(task: Callable[[], None]) -> None:
    current_driver().submit(task)


class _Died(DeathRecipient):
    def __init__(self, manager: Connector) -> None:
        self._manager = manager

    def on_remote_died(self) -> None:
        _connections.manager_died(self._manager)


class _Scheduler:
    """The distributed scheduler, as what makes connections."""

    def __init__(self, scheduler: IDistributedScheduler) -> None:
        self.is_local_device = scheduler.is_local_device
        self.connect_ability = scheduler.connect_remote_ability
        self.disconnect_ability = scheduler.disconnect_remote_ability
        self.as_object = scheduler.as_object


_lock = threading.Lock()
_connections = Connections(_submit)
_known: dict[int, Connector] = {}


def ability_manager() -> IAbilityManager:
    """Return the ability manager of this device.

    Raises:
        AbilityError: it is not there (16000050).
    """
    made = _reached(codes.ABILITY_MANAGER_ID, lambda remote: proxy(IAbilityManager, remote), _NO_MANAGER)
    return cast(IAbilityManager, made)


def _distributed_scheduler() -> _Scheduler:
    made = _reached(codes.SCHEDULER_ID, lambda remote: _Scheduler(proxy(IDistributedScheduler, remote)), _NO_SCHEDULER)
    return cast(_Scheduler, made)


def _reached(ability_id: int, make: Callable[[IRemoteObject], Connector], absent: str) -> Connector:
    """Return what was made of a system ability, anew after it died (AbilityError: it is not there)."""
    with _lock:
        known = _known.get(ability_id)
    if known is not None:
        if not known.as_object().is_object_dead():
            return known
        _connections.manager_died(known)
    try:
        remote = samgr.get_system_ability(ability_id)
        made = make(remote)
        if isinstance(remote, RemoteProxy):
            remote.register_death_recipient(_Died(made))
    except (ServiceError, DeadObjectError) as error:
        raise AbilityError(absent.format(error=error.args[0] if error.args else error)) from error
    with _lock:
        _known[ability_id] = made
    return made


def _connector(want: Want) -> tuple[Connector, Want]:
    """Return who connects to what is wanted, and what to ask there (reference 3.5)."""
    if not want.device_id:
        return ability_manager(), want
    scheduler = _distributed_scheduler()
    try:
        if not scheduler.is_local_device(want.device_id):
            return scheduler, want
    except DeadObjectError as error:
        raise AbilityError(f"the distributed scheduler ended while it was asked for {want.element}: {error}") from error
    return ability_manager(), replace(want, device_id="")


def connect_service_extension_ability(want: Want, options: ConnectOptions) -> int:
    """Connect to a service ability, which is started if it does not run.

    Args:
        want: bundle and ability; its device_id (network id or UDID) names another device that this one trusts, both
            applications then need ohos.permission.DISTRIBUTED_DATASYNC (reference 3.5).
        options: who is told; on_failed gets whatever the ability manager finds wrong: 16000001 no such ability, or no
            such device, 16000002 not of type service, 16000004 not exported, 201 a permission is missing, 16000050 it
            crashed, hangs, raised, or its device left. on_disconnect comes also when that device or the network goes.

    Returns:
        The connection's id: counted from 0 in this process.

    Raises:
        ParamTypeError: no Want or no ConnectOptions (401).
        AbilityError: the ability manager, for other devices the distributed scheduler, is not there (16000050).
    """
    _check(want)
    if not isinstance(options, ConnectOptions):
        raise ParamTypeError(f"expected ConnectOptions, got {type(options).__name__}")
    manager, asked = _connector(want)
    try:
        return _connections.connect(manager, asked, options)
    except DeadObjectError as error:
        name = "the distributed scheduler" if asked.device_id else "the ability manager"
        raise AbilityError(f"{name} ended while {want.element} was connected: {error}") from error


def disconnect_service_extension_ability(connection: int) -> None:
    """End a connection; on_disconnect tells when it is over. Nothing happens when it is over already.

    Args:
        connection: what connect_service_extension_ability returned.

    Raises:
        ParamTypeError, ParamValueError: no connection ever had this id (401).
    """
    _connections.disconnect(connection)


def start_service_extension_ability(want: Want) -> None:
    """Start a service ability, and have its on_request called; it lives until it is stopped and nobody is connected.

    Returns when on_create ended; on_request follows.

    Raises:
        ParamTypeError: no Want (401).
        AbilityError: as for connecting, with the same codes.
    """
    _check(want)
    _asked(lambda manager: manager.start_ability(want))


def stop_service_extension_ability(want: Want) -> None:
    """Stop a service ability that was started, however often; nothing happens when it does not run.

    Raises:
        ParamTypeError: no Want (401).
        AbilityError: as for connecting, with the same codes.
    """
    _check(want)
    _asked(lambda manager: manager.stop_ability(want))


def list_service_extension_abilities() -> list[AbilityReport]:
    """Return the service abilities of this device that live (AbilityError, 16000050, without an ability manager)."""
    return _asked(lambda manager: manager.list_abilities())


def dump_service_extension_ability(want: Want, arguments: Sequence[str] = ()) -> list[str]:
    """Return what the on_dump of an ability that lives says.

    Raises:
        AbilityError: it does not run, or does not answer within 5 s (16000050); else as for connecting.
    """
    _check(want)
    return _asked(lambda manager: manager.dump_ability(want, list(arguments)))


def open_connections() -> set[int]:
    """Return the ids of the connections of this process that are neither disconnected nor ended."""
    return _connections.open()


def _check(want: object) -> None:
    if not isinstance(want, Want):
        raise ParamTypeError(f"expected a Want(bundle_name, ability_name), got {type(want).__name__}")


def _asked(call: Callable[[IAbilityManager], R]) -> R:
    manager = ability_manager()
    try:
        return call(manager)
    except Refusal as refusal:
        raise unwrapped(refusal) from None
    except DeadObjectError as error:
        raise AbilityError(f"the ability manager ended during the call: {error}") from error


def _after_fork() -> None:
    """A forked child has no connections; those of its parent stay with the parent."""
    global _lock, _connections, _known
    _lock = threading.Lock()
    _connections = Connections(_submit)
    _known = {}


os.register_at_fork(after_in_child=_after_fork)
