"""The functions of binderkit.samgr as coroutines: none of them blocks the event loop.

Owns: nothing. Finding, waiting and loading are awaited calls, many at once; cancelling the task ends the wait in SAMgr
too. What registers something runs on a thread of asyncio: it is rare, and remembered for a restart of SAMgr
(reconnect.py) exactly as in client.py.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from binderkit import limits
from binderkit.errors import NoServiceManagerError, RemoteError
from binderkit.ipc.driver import current_driver
from binderkit.parcel import MessageSequence
from binderkit.samgr import client, codes
from binderkit.samgr.manager_client import (
    ATTEMPTS,
    check_result,
    died_on_the_way,
    gone_again,
    key_request,
    load_request,
    read_found,
    wait_request,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from binderkit.ipc.remote import IRemoteBroker, IRemoteObject
    from binderkit.samgr.ability import AbilityInfo, AbilityKey
    from binderkit.samgr.conditions import EventRule
    from binderkit.samgr.lifecycle_catalog import ProfileChanges
    from binderkit.samgr.lifecycle_events import Payload, PolicyKind
    from binderkit.samgr.listener import SystemAbilityListener
    from binderkit.samgr.processes import AbilityStatus, ProcessInfo, SystemProcessListener


async def _manager() -> IRemoteObject:
    """Return SAMgr; only one that must be started first costs a thread."""
    driver = current_driver()
    try:
        return driver.context_object(start=False)
    except NoServiceManagerError:
        return await asyncio.to_thread(driver.context_object, start=True)


async def _send(code: int, data: MessageSequence) -> MessageSequence:
    manager = await _manager()
    for _ in range(ATTEMPTS):
        reply = MessageSequence()
        try:
            await manager.send_message_request(code, data, reply)
        except RemoteError as error:
            if died_on_the_way(code, error):
                continue
            raise
        check_result(reply)
        return reply
    raise gone_again()


# --- finding and loading -------------------------------------------------------------------------------


async def get_system_ability(key: AbilityKey, timeout: float | None = None, device_id: str = "") -> IRemoteObject:
    """Return the object of a system ability, loaded if need be; see client.get_system_ability."""
    if device_id:
        from binderkit.samgr import remote

        return await remote.get_async(key, device_id, timeout)
    if timeout is not None:
        return await wait_for_system_ability(key, timeout)
    return read_found(await _send(codes.GET_SYSTEM_ABILITY, key_request(key)))


async def check_system_ability(key: AbilityKey, device_id: str = "") -> IRemoteObject | None:
    """Return the object of a system ability, None when it is not registered; see client.check_system_ability."""
    if device_id:
        return await asyncio.to_thread(client.check_system_ability, key, device_id)
    reply = await _send(codes.CHECK_SYSTEM_ABILITY, key_request(key))
    return read_found(reply) if reply.read_boolean() else None


async def wait_for_system_ability(key: AbilityKey, timeout: float | None = None) -> IRemoteObject:
    """Return the object of a system ability once it is there; see SystemAbilityManagerClient."""
    return read_found(await _send(codes.WAIT_SYSTEM_ABILITY, wait_request(key, timeout)))


async def load_system_ability(
    key: AbilityKey, *, timeout: float = limits.LOAD_TIMEOUT, device_id: str = ""
) -> IRemoteObject:
    """Have a system ability started if it does not run; see client.load_system_ability."""
    if device_id:
        return await get_system_ability(key, timeout, device_id)
    return read_found(await _send(codes.LOAD_SYSTEM_ABILITY, load_request(key, None, timeout)))


# --- registering ---------------------------------------------------------------------------------------


async def add_system_ability(key: AbilityKey, remote: IRemoteObject | IRemoteBroker, **options: Any) -> int:
    """Register an object and return its id; options as SystemAbilityManagerClient.add_system_ability."""
    return await asyncio.to_thread(client.add_system_ability, key, remote, **options)


async def remove_system_ability(key: AbilityKey) -> None:
    """Take a system ability out of the registry (ServiceNotFoundError, 1008, when it is not there)."""
    await asyncio.to_thread(client.remove_system_ability, key)


async def subscribe_system_ability(key: AbilityKey, listener: SystemAbilityListener, device_id: str = "") -> None:
    """Have ``listener`` told when an ability comes or goes; see client.subscribe_system_ability."""
    await asyncio.to_thread(client.subscribe_system_ability, key, listener, device_id)


async def unsubscribe_system_ability(key: AbilityKey, listener: SystemAbilityListener, device_id: str = "") -> None:
    """End a subscription; see client.unsubscribe_system_ability."""
    await asyncio.to_thread(client.unsubscribe_system_ability, key, listener, device_id)


async def unload_system_ability(key: AbilityKey) -> None:
    """Have an ability of this process unloaded when it is idle; see SystemAbilityManagerClient."""
    await _send(codes.UNLOAD_SYSTEM_ABILITY, key_request(key))


async def cancel_unload_system_ability(key: AbilityKey) -> None:
    """Keep an ability of this process that was to be unloaded; see SystemAbilityManagerClient."""
    await _send(codes.CANCEL_UNLOAD_SYSTEM_ABILITY, key_request(key))


async def subscribe_system_process(listener: SystemProcessListener) -> None:
    """Have ``listener`` told of processes; see SystemAbilityManagerClient."""
    await asyncio.to_thread(client.subscribe_system_process, listener)


async def unsubscribe_system_process(listener: SystemProcessListener) -> None:
    """End a subscription; see SystemAbilityManagerClient."""
    await asyncio.to_thread(client.unsubscribe_system_process, listener)


# --- looking -------------------------------------------------------------------------------------------


async def list_system_abilities(dump_flags: int = codes.DUMP_FLAG_PRIORITY_ALL) -> list[AbilityInfo]:
    """Return the abilities that this process may see, by id."""
    return await asyncio.to_thread(client.list_system_abilities, dump_flags)


async def list_ability_states() -> list[AbilityStatus]:
    """Return all system abilities, those that do not run included; see SystemAbilityManagerClient."""
    return await asyncio.to_thread(client.list_ability_states)


async def list_system_processes() -> list[ProcessInfo]:
    """Return the processes that are known, running or not, by name."""
    return await asyncio.to_thread(client.list_system_processes)


async def get_system_process_info(key: AbilityKey) -> ProcessInfo:
    """Return the process that hosts, or would host, an ability; see SystemAbilityManagerClient."""
    return await asyncio.to_thread(client.get_system_process_info, key)


async def get_idle_processes() -> list[str]:
    """Return the processes none of whose abilities is needed, the longest idle first."""
    return await asyncio.to_thread(client.get_idle_processes)


async def get_local_ability_manager(key: AbilityKey) -> IRemoteObject:
    """Return the ILocalAbilityManager of the process that hosts an ability; see SystemAbilityManagerClient."""
    return read_found(await _send(codes.GET_LOCAL_ABILITY_MANAGER, key_request(key)))


async def get_on_demand_ability_ids() -> list[int]:
    """Return the ids of this process's abilities that are started on demand."""
    return await asyncio.to_thread(client.get_on_demand_ability_ids)


async def get_extension_ability_ids(extension: str, *, running: bool = False) -> list[int]:
    """Return the abilities whose profile names an extension; see SystemAbilityManagerClient."""
    return await asyncio.to_thread(client.get_extension_ability_ids, extension, running=running)


async def get_running_extension_infos(extension: str) -> list[tuple[int, IRemoteObject]]:
    """Return the running abilities with an extension, and their local managers; see SystemAbilityManagerClient."""
    return await asyncio.to_thread(client.get_running_extension_infos, extension)


async def check_on_demand_system_ability_info(key: AbilityKey) -> str | None:
    """Return the name of the process that is asked to start an ability, None when nobody can start it."""
    return await asyncio.to_thread(client.check_on_demand_system_ability_info, key)


async def get_on_demand_reason_extra_data(extra_data_id: int) -> Payload:
    """Return what the common event brought that started an ability; see SystemAbilityManagerClient."""
    return await asyncio.to_thread(client.get_on_demand_reason_extra_data, extra_data_id)


async def get_common_event_extra_data_ids(key: AbilityKey, event: str = "") -> list[int]:
    """Return the numbers of the payloads kept for an ability of this process; see SystemAbilityManagerClient."""
    return await asyncio.to_thread(client.get_common_event_extra_data_ids, key, event)


async def get_on_demand_policy(key: AbilityKey, kind: PolicyKind) -> tuple[EventRule, ...]:
    """Return the events that start (or stop) an ability of this process; see SystemAbilityManagerClient."""
    return await asyncio.to_thread(client.get_on_demand_policy, key, kind)


# --- changing ------------------------------------------------------------------------------------------


async def update_on_demand_policy(key: AbilityKey, kind: PolicyKind, rules: Sequence[EventRule]) -> None:
    """Replace the events that start (or stop) an ability of this process; see SystemAbilityManagerClient."""
    await asyncio.to_thread(client.update_on_demand_policy, key, kind, rules)


async def add_system_process(name: str, local: IRemoteObject | IRemoteBroker) -> None:
    """Make this process known as one that hosts system abilities; see SystemAbilityManagerClient."""
    await asyncio.to_thread(client.add_system_process, name, local)


async def add_on_demand_system_ability_info(ability_id: int) -> None:
    """Say that this process starts an ability when it is asked for; see SystemAbilityManagerClient."""
    await asyncio.to_thread(client.add_on_demand_system_ability_info, ability_id)


async def report_start_failure(key: AbilityKey, text: str) -> None:
    """Tell that an ability of this process failed at its start; see SystemAbilityManagerClient."""
    await asyncio.to_thread(client.report_start_failure, key, text)


async def unload_processes(names: Sequence[str]) -> None:
    """End processes, whoever needs their abilities; see SystemAbilityManagerClient."""
    await asyncio.to_thread(client.unload_processes, names)


async def unload_all_idle_system_abilities() -> None:
    """End every process none of whose abilities is needed; see SystemAbilityManagerClient."""
    await asyncio.to_thread(client.unload_all_idle_system_abilities)


async def reload_profiles() -> ProfileChanges:
    """Have the daemon read its profile directory again; see SystemAbilityManagerClient."""
    return await asyncio.to_thread(client.reload_profiles)
