"""How programs use abilities: connect, disconnect, start, stop (reference 3.1).

Owns: this process's way to the ability manager, which is looked up when needed and anew after it died.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from binderkit import samgr
from binderkit.ability import codes
from binderkit.ability.connections import Connections, unwrapped
from binderkit.ability.contracts import AbilityReport, IAbilityManager, Refusal
from binderkit.ability.options import ConnectOptions
from binderkit.ability.want import Want
from binderkit.errors import AbilityError, DeadObjectError, ParamTypeError, ServiceError
from binderkit.interface import proxy
from binderkit.ipc.driver import current_driver
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy

R = TypeVar("R")


def _submit(task: Callable[[], None]) -> None:
    current_driver().submit(task)


class _ManagerDied(DeathRecipient):
    def __init__(self, manager: IAbilityManager) -> None:
        self._manager = manager

    def on_remote_died(self) -> None:
        _connections.manager_died(self._manager)


_lock = threading.Lock()
_connections = Connections(_submit)
_manager: IAbilityManager | None = None


def ability_manager() -> IAbilityManager:
    """Return the ability manager of this device.

    Raises:
        AbilityError: it is not there (16000050).
    """
    global _manager
    with _lock:
        known = _manager
    if known is not None:
        if not known.as_object().is_object_dead():
            return known
        _connections.manager_died(known)
    try:
        manager = proxy(IAbilityManager, samgr.get_system_ability(codes.ABILITY_MANAGER_ID))
        remote = manager.as_object()
        if isinstance(remote, RemoteProxy):
            remote.register_death_recipient(_ManagerDied(manager))
    except (ServiceError, DeadObjectError) as error:
        raise AbilityError(
            f"the ability manager (system ability {codes.ABILITY_MANAGER_ID}) of this device is not there: "
            f"{error.args[0] if error.args else error}; it is part of the daemon, see 'binderkit samgr'"
        ) from error
    with _lock:
        _manager = manager
    return manager


def connect_service_extension_ability(want: Want, options: ConnectOptions) -> int:
    """Connect to a service ability, which is started if it does not run.

    Args:
        want: bundle and ability. options: who is told; on_failed gets whatever the ability manager finds wrong:
            16000001 no such ability, 16000002 not of type service, 16000004 not exported, 201 a permission is missing,
            16000050 it crashed, hangs, or raised.

    Returns:
        The connection's id: counted from 0 in this process.

    Raises:
        ParamTypeError: no Want or no ConnectOptions (401).
        AbilityError: the ability manager is not there (16000050).
    """
    _check(want)
    if not isinstance(options, ConnectOptions):
        raise ParamTypeError(f"expected ConnectOptions, got {type(options).__name__}")
    manager = ability_manager()
    try:
        return _connections.connect(manager, want, options)
    except DeadObjectError as error:
        raise AbilityError(f"the ability manager ended while {want.element} was connected: {error}") from error


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
    global _lock, _connections, _manager
    _lock = threading.Lock()
    _connections = Connections(_submit)
    _manager = None


os.register_at_fork(after_in_child=_after_fork)
