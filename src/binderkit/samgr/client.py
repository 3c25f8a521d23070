"""How programs use SAMgr: register, find, load, wait for and watch system abilities and processes.

Owns: the functions that ask the SAMgr of this process's runtime directory. It is started when none runs (unless
BINDERKIT_NO_AUTOSTART is set); one that died is looked up anew by the next call. What they register is registered
again with the SAMgr that comes after one that died (reconnect.py); SystemAbilityManagerClient, which they use, does the
same with a given proxy and remembers nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Hashable, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import TYPE_CHECKING, Final, overload

from binderkit import limits
from binderkit import process as process  # says which driver this process uses by default
from binderkit.errors import ServiceError
from binderkit.ipc.driver import current_driver
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import IRemoteBroker, IRemoteObject
from binderkit.samgr import codes, reconnect
from binderkit.samgr.ability import AbilityInfo, AbilityKey, checked_key
from binderkit.samgr.listener import SystemAbilityListener
from binderkit.samgr.load import SystemAbilityLoadCallback
from binderkit.samgr.manager_client import SystemAbilityManagerClient as SystemAbilityManagerClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from binderkit.samgr.conditions import EventRule
    from binderkit.samgr.lifecycle_catalog import ProfileChanges
    from binderkit.samgr.lifecycle_events import Payload, PolicyKind
    from binderkit.samgr.processes import AbilityStatus, ProcessInfo, SystemProcessListener

_PROCESS_SUBSCRIPTION: Final = "process subscription"
_OFFER: Final = "offer"


def system_ability_manager() -> SystemAbilityManagerClient:
    """Return the client of this runtime directory's SAMgr, which is started when none runs.

    Raises:
        NoServiceManagerError: none runs, and none may be or could be started (1007).
    """
    return SystemAbilityManagerClient(current_driver().context_object(start=True))


@contextmanager
def _remembered(
    kind: str, key: Hashable, redo: Callable[[SystemAbilityManagerClient], object]
) -> Iterator[SystemAbilityManagerClient]:
    """Yield SAMgr's client; what is registered with it in the block is registered again when SAMgr was restarted.

    Remembered before it is asked for: a SAMgr that dies in between loses nothing. Forgotten when it is refused.
    """
    manager = system_ability_manager()
    remote = manager.as_object()
    if not isinstance(remote, RemoteProxy) or remote.owner.pid == os.getpid():
        yield manager  # SAMgr's own process: it ends with it
        return
    reconnect.remember(kind, key, lambda client: _nothing(redo(client)))
    try:
        yield manager
    except BaseException:
        reconnect.forget(kind, key)
        raise


def _nothing(_: object) -> None:
    """Drop a result."""


# --- abilities -----------------------------------------------------------------------------------------


def get_system_ability(key: AbilityKey, timeout: float | None = None, device_id: str = "") -> IRemoteObject:
    """Return the object of a system ability, loaded if need be; see SystemAbilityManagerClient.get_system_ability.

    Args:
        device_id: of which device: UDID (8 digits that no other one has are enough), network id, or name; "" is this
            device. For another one ``timeout`` is for its answer (None: 8 seconds), and what is not registered there
            is not waited for.

    Raises:
        ServiceError: no such device, or it is offline (108); the other device (115), or this one (1024), does not
            declare the ability as distributed.
        PermissionDeniedError: it is not for this device, or this program may not use other devices (201).
        ServiceNotFoundError: the other device does not have it, or cannot load it (113).
    """
    if device_id:
        return _remote().get(key, device_id, timeout)  # type: ignore[no-any-return]
    return system_ability_manager().get_system_ability(key, timeout)


def check_system_ability(key: AbilityKey, device_id: str = "") -> IRemoteObject | None:
    """Return the object of a system ability, None when it is not registered; ``device_id`` as get_system_ability."""
    if device_id:
        return _remote().check(key, device_id)  # type: ignore[no-any-return]
    return system_ability_manager().check_system_ability(key)


def _remote() -> ModuleType:
    """Return what knows other devices: only who uses them pays for its import."""
    from binderkit.samgr import remote

    return remote


def _remote_watch() -> ModuleType:
    from binderkit.samgr import remote_watch

    return remote_watch


def wait_for_system_ability(key: AbilityKey, timeout: float | None = None) -> IRemoteObject:
    """Return the object of a system ability once it is there; see SystemAbilityManagerClient."""
    return system_ability_manager().wait_for_system_ability(key, timeout)


def add_system_ability(
    key: AbilityKey,
    remote: IRemoteObject | IRemoteBroker,
    *,
    name: str = "",
    distributed: bool = False,
    dump_flags: int = codes.DUMP_FLAG_PRIORITY_DEFAULT,
    capability: str = "",
    permission: str = "",
) -> int:
    """Register an object and return its id; see SystemAbilityManagerClient.add_system_ability."""

    def add(client: SystemAbilityManagerClient) -> int:
        return client.add_system_ability(
            key,
            remote,
            name=name,
            distributed=distributed,
            dump_flags=dump_flags,
            capability=capability,
            permission=permission,
        )

    words = (checked_key(key), name)
    with _remembered(reconnect.ABILITY, words, add) as manager:
        ability = add(manager)
    return ability


def remove_system_ability(key: AbilityKey) -> None:
    """Take a system ability out of the registry (ServiceNotFoundError, 1008, when it is not there)."""
    manager = system_ability_manager()
    ability = checked_key(key)
    # First, or a SAMgr that dies meanwhile would get it back. The words it was registered by may be others.
    for kind, words in _abilities_remembered():
        if ability in words:
            reconnect.forget(kind, words)
    manager.remove_system_ability(key)


def _abilities_remembered() -> list[tuple[str, tuple[object, ...]]]:
    return [
        (kind, words)
        for kind, words in reconnect.remembered()
        if kind == reconnect.ABILITY and isinstance(words, tuple)
    ]


def list_system_abilities(dump_flags: int = codes.DUMP_FLAG_PRIORITY_ALL) -> list[AbilityInfo]:
    """Return the abilities that this process may see, by id."""
    return system_ability_manager().list_system_abilities(dump_flags)


def subscribe_system_ability(key: AbilityKey, listener: SystemAbilityListener, device_id: str = "") -> None:
    """Have ``listener`` told when an ability comes or goes; see SystemAbilityManagerClient.

    Args:
        device_id: of which device, as get_system_ability. Another one must be trusted, and may be offline: the listener
            is told when it comes with the ability; when it leaves, its abilities are told as removed.

    Raises:
        ServiceError: no such device (108); this one does not declare the ability as distributed (1024).
        PermissionDeniedError: this program may not use other devices (201).
    """
    if device_id:
        _remote_watch().subscribe(key, listener, device_id)
        return

    def subscribe(client: SystemAbilityManagerClient) -> None:
        client.subscribe_system_ability(key, listener)

    with _remembered(reconnect.SUBSCRIPTION, (checked_key(key), listener), subscribe) as manager:
        subscribe(manager)


def unsubscribe_system_ability(key: AbilityKey, listener: SystemAbilityListener, device_id: str = "") -> None:
    """End a subscription, named by the same words; see SystemAbilityManagerClient."""
    if device_id:
        _remote_watch().unsubscribe(key, listener, device_id)
        return
    manager = system_ability_manager()
    known = reconnect.forget(reconnect.SUBSCRIPTION, (checked_key(key), listener))
    try:
        manager.unsubscribe_system_ability(key, listener)
    except ServiceError:
        if not known:  # else SAMgr was restarted, and had not been told of the subscription again yet
            raise


# --- loading -------------------------------------------------------------------------------------------


@overload
def load_system_ability(key: AbilityKey, *, timeout: float = ..., device_id: str = ...) -> IRemoteObject: ...


@overload
def load_system_ability(
    key: AbilityKey, callback: SystemAbilityLoadCallback, *, timeout: float = ..., device_id: str = ...
) -> None: ...


def load_system_ability(
    key: AbilityKey,
    callback: SystemAbilityLoadCallback | None = None,
    *,
    timeout: float = limits.LOAD_TIMEOUT,
    device_id: str = "",
) -> IRemoteObject | None:
    """Have a system ability started if it does not run; see SystemAbilityManagerClient.load_system_ability.

    Args:
        device_id: of which device, as get_system_ability; with a callback, its
            on_load_system_ability_complete_for_remote is called.
    """
    if device_id:
        if callback is not None:
            _remote().load(key, callback, device_id, timeout)
            return None
        return _remote().get(key, device_id, timeout)  # type: ignore[no-any-return]
    manager = system_ability_manager()
    if callback is None:
        return manager.load_system_ability(key, timeout=timeout)
    manager.load_system_ability(key, callback, timeout=timeout)
    return None


def unload_system_ability(key: AbilityKey) -> None:
    """Have an ability of this process unloaded when it is idle; see SystemAbilityManagerClient."""
    system_ability_manager().unload_system_ability(key)


def cancel_unload_system_ability(key: AbilityKey) -> None:
    """Keep an ability of this process that was to be unloaded; see SystemAbilityManagerClient."""
    system_ability_manager().cancel_unload_system_ability(key)


def report_start_failure(key: AbilityKey, text: str) -> None:
    """Tell that an ability of this process failed at its start; see SystemAbilityManagerClient."""
    system_ability_manager().report_start_failure(key, text)


def unload_all_idle_system_abilities() -> None:
    """End every process none of whose abilities is needed; see SystemAbilityManagerClient."""
    system_ability_manager().unload_all_idle_system_abilities()


def list_ability_states() -> list[AbilityStatus]:
    """Return all system abilities, those that do not run included; see SystemAbilityManagerClient."""
    return system_ability_manager().list_ability_states()


def get_on_demand_ability_ids() -> list[int]:
    """Return the ids of this process's abilities that are started on demand."""
    return system_ability_manager().get_on_demand_ability_ids()


def get_extension_ability_ids(extension: str, *, running: bool = False) -> list[int]:
    """Return the abilities whose profile names an extension; see SystemAbilityManagerClient."""
    return system_ability_manager().get_extension_ability_ids(extension, running=running)


def get_running_extension_infos(extension: str) -> list[tuple[int, IRemoteObject]]:
    """Return the running abilities with an extension, and their local managers; see SystemAbilityManagerClient."""
    return system_ability_manager().get_running_extension_infos(extension)


def add_on_demand_system_ability_info(ability_id: int) -> None:
    """Say that this process starts an ability when it is asked for; see SystemAbilityManagerClient."""

    def add(client: SystemAbilityManagerClient) -> None:
        client.add_on_demand_system_ability_info(ability_id)

    with _remembered(_OFFER, ability_id, add) as manager:
        add(manager)


def check_on_demand_system_ability_info(key: AbilityKey) -> str | None:
    """Return the name of the process that is asked to start an ability, None when nobody can start it."""
    return system_ability_manager().check_on_demand_system_ability_info(key)


def get_common_event_extra_data_ids(key: AbilityKey, event: str = "") -> list[int]:
    """Return the numbers of the payloads kept for an ability of this process; see SystemAbilityManagerClient."""
    return system_ability_manager().get_common_event_extra_data_ids(key, event)


def reload_profiles() -> ProfileChanges:
    """Have the daemon read its profile directory again; see SystemAbilityManagerClient."""
    return system_ability_manager().reload_profiles()


def get_on_demand_reason_extra_data(extra_data_id: int) -> Payload:
    """Return what the common event brought that started an ability; see SystemAbilityManagerClient."""
    return system_ability_manager().get_on_demand_reason_extra_data(extra_data_id)


def get_on_demand_policy(key: AbilityKey, kind: PolicyKind) -> tuple[EventRule, ...]:
    """Return the events that start (or stop) an ability of this process; see SystemAbilityManagerClient."""
    return system_ability_manager().get_on_demand_policy(key, kind)


def update_on_demand_policy(key: AbilityKey, kind: PolicyKind, rules: Sequence[EventRule]) -> None:
    """Replace the events that start (or stop) an ability of this process; see SystemAbilityManagerClient."""
    system_ability_manager().update_on_demand_policy(key, kind, rules)


# --- processes -----------------------------------------------------------------------------------------


def add_system_process(name: str, local: IRemoteObject | IRemoteBroker) -> None:
    """Make this process known as one that hosts system abilities; see SystemAbilityManagerClient."""

    def add(client: SystemAbilityManagerClient) -> None:
        client.add_system_process(name, local)

    with _remembered(reconnect.PROCESS, name, add) as manager:
        add(manager)


def list_system_processes() -> list[ProcessInfo]:
    """Return the processes that are known, running or not, by name."""
    return system_ability_manager().list_system_processes()


def get_system_process_info(key: AbilityKey) -> ProcessInfo:
    """Return the process that hosts, or would host, an ability; see SystemAbilityManagerClient."""
    return system_ability_manager().get_system_process_info(key)


def get_idle_processes() -> list[str]:
    """Return the processes none of whose abilities is needed, the longest idle first."""
    return system_ability_manager().get_idle_processes()


def get_local_ability_manager(key: AbilityKey) -> IRemoteObject:
    """Return the ILocalAbilityManager of the process that hosts an ability; see SystemAbilityManagerClient."""
    return system_ability_manager().get_local_ability_manager(key)


def unload_processes(names: Sequence[str]) -> None:
    """End processes, whoever needs their abilities; see SystemAbilityManagerClient."""
    system_ability_manager().unload_processes(names)


def subscribe_system_process(listener: SystemProcessListener) -> None:
    """Have ``listener`` told of processes that start, stop, and become idle or active."""

    def subscribe(client: SystemAbilityManagerClient) -> None:
        client.subscribe_system_process(listener)

    with _remembered(_PROCESS_SUBSCRIPTION, listener, subscribe) as manager:
        subscribe(manager)


def unsubscribe_system_process(listener: SystemProcessListener) -> None:
    """End a subscription (ServiceError, 1001, when there is none)."""
    manager = system_ability_manager()
    known = reconnect.forget(_PROCESS_SUBSCRIPTION, listener)
    try:
        manager.unsubscribe_system_process(listener)
    except ServiceError:
        if not known:  # else SAMgr was restarted, and had not been told of the subscription again yet
            raise
