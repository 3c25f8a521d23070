"""SAMgr, the system ability manager: where services are registered, found, waited for and watched.

The public names, loaded when first used: a client does not need what a service needs, nor the other way round.
service.py is what the daemon runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from binderkit import process as process  # says which driver this process uses by default
from binderkit.lazy import lazy_names

if TYPE_CHECKING:
    from binderkit.samgr.ability import AbilityInfo as AbilityInfo
    from binderkit.samgr.ability import AbilityKey as AbilityKey
    from binderkit.samgr.access import check_permission as check_permission
    from binderkit.samgr.access import requires_permission as requires_permission
    from binderkit.samgr.access import verify_access_token as verify_access_token
    from binderkit.samgr.client import SystemAbilityManagerClient as SystemAbilityManagerClient
    from binderkit.samgr.client import add_on_demand_system_ability_info as add_on_demand_system_ability_info
    from binderkit.samgr.client import add_system_ability as add_system_ability
    from binderkit.samgr.client import add_system_process as add_system_process
    from binderkit.samgr.client import cancel_unload_system_ability as cancel_unload_system_ability
    from binderkit.samgr.client import check_on_demand_system_ability_info as check_on_demand_system_ability_info
    from binderkit.samgr.client import check_system_ability as check_system_ability
    from binderkit.samgr.client import get_common_event_extra_data_ids as get_common_event_extra_data_ids
    from binderkit.samgr.client import get_extension_ability_ids as get_extension_ability_ids
    from binderkit.samgr.client import get_idle_processes as get_idle_processes
    from binderkit.samgr.client import get_local_ability_manager as get_local_ability_manager
    from binderkit.samgr.client import get_on_demand_ability_ids as get_on_demand_ability_ids
    from binderkit.samgr.client import get_on_demand_policy as get_on_demand_policy
    from binderkit.samgr.client import get_on_demand_reason_extra_data as get_on_demand_reason_extra_data
    from binderkit.samgr.client import get_running_extension_infos as get_running_extension_infos
    from binderkit.samgr.client import get_system_ability as get_system_ability
    from binderkit.samgr.client import get_system_process_info as get_system_process_info
    from binderkit.samgr.client import list_ability_states as list_ability_states
    from binderkit.samgr.client import list_system_abilities as list_system_abilities
    from binderkit.samgr.client import list_system_processes as list_system_processes
    from binderkit.samgr.client import load_system_ability as load_system_ability
    from binderkit.samgr.client import reload_profiles as reload_profiles
    from binderkit.samgr.client import remove_system_ability as remove_system_ability
    from binderkit.samgr.client import report_start_failure as report_start_failure
    from binderkit.samgr.client import subscribe_system_ability as subscribe_system_ability
    from binderkit.samgr.client import subscribe_system_process as subscribe_system_process
    from binderkit.samgr.client import system_ability_manager as system_ability_manager
    from binderkit.samgr.client import unload_all_idle_system_abilities as unload_all_idle_system_abilities
    from binderkit.samgr.client import unload_processes as unload_processes
    from binderkit.samgr.client import unload_system_ability as unload_system_ability
    from binderkit.samgr.client import unsubscribe_system_ability as unsubscribe_system_ability
    from binderkit.samgr.client import unsubscribe_system_process as unsubscribe_system_process
    from binderkit.samgr.client import update_on_demand_policy as update_on_demand_policy
    from binderkit.samgr.client import wait_for_system_ability as wait_for_system_ability
    from binderkit.samgr.listener import SystemAbilityListener as SystemAbilityListener
    from binderkit.samgr.load import SystemAbilityLoadCallback as SystemAbilityLoadCallback
    from binderkit.samgr.processes import AbilityStatus as AbilityStatus
    from binderkit.samgr.processes import ProcessInfo as ProcessInfo
    from binderkit.samgr.processes import SystemProcessListener as SystemProcessListener
    from binderkit.samgr.reason import OnDemandReason as OnDemandReason
    from binderkit.samgr.reason import ReasonId as ReasonId
    from binderkit.samgr.rebind import Rebind as Rebind
    from binderkit.samgr.rebind import get as get
    from binderkit.samgr.states import AbilityState as AbilityState
    from binderkit.samgr.states import ProcessState as ProcessState
    from binderkit.samgr.system_ability import SystemAbility as SystemAbility

_HOMES = {
    "binderkit.samgr.ability": ("AbilityInfo", "AbilityKey"),
    "binderkit.samgr.access": ("check_permission", "requires_permission", "verify_access_token"),
    "binderkit.samgr.client": (
        "SystemAbilityManagerClient",
        "add_on_demand_system_ability_info",
        "add_system_ability",
        "add_system_process",
        "cancel_unload_system_ability",
        "check_on_demand_system_ability_info",
        "check_system_ability",
        "get_common_event_extra_data_ids",
        "get_extension_ability_ids",
        "get_idle_processes",
        "get_local_ability_manager",
        "get_on_demand_ability_ids",
        "get_on_demand_policy",
        "get_on_demand_reason_extra_data",
        "get_running_extension_infos",
        "get_system_ability",
        "get_system_process_info",
        "list_ability_states",
        "list_system_abilities",
        "list_system_processes",
        "load_system_ability",
        "reload_profiles",
        "remove_system_ability",
        "report_start_failure",
        "subscribe_system_ability",
        "subscribe_system_process",
        "system_ability_manager",
        "unload_all_idle_system_abilities",
        "unload_processes",
        "unload_system_ability",
        "unsubscribe_system_ability",
        "unsubscribe_system_process",
        "update_on_demand_policy",
        "wait_for_system_ability",
    ),
    "binderkit.samgr.listener": ("SystemAbilityListener",),
    "binderkit.samgr.load": ("SystemAbilityLoadCallback",),
    "binderkit.samgr.processes": ("AbilityStatus", "ProcessInfo", "SystemProcessListener"),
    "binderkit.samgr.reason": ("OnDemandReason", "ReasonId"),
    "binderkit.samgr.rebind": ("Rebind", "get"),
    "binderkit.samgr.states": ("AbilityState", "ProcessState"),
    "binderkit.samgr.system_ability": ("SystemAbility",),
}
__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
