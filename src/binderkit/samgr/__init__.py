"""SAMgr, the system ability manager: where services are registered, found, waited for and watched.

Programs use the functions here; service.py is what ``binderkit samgr`` runs.
"""

from binderkit.samgr.ability import AbilityInfo, AbilityKey
from binderkit.samgr.client import (
    SystemAbilityManagerClient,
    add_system_ability,
    check_system_ability,
    get_system_ability,
    list_system_abilities,
    remove_system_ability,
    subscribe_system_ability,
    system_ability_manager,
    unsubscribe_system_ability,
    wait_for_system_ability,
)
from binderkit.samgr.listener import SystemAbilityListener

__all__ = [
    "AbilityInfo",
    "AbilityKey",
    "SystemAbilityListener",
    "SystemAbilityManagerClient",
    "add_system_ability",
    "check_system_ability",
    "get_system_ability",
    "list_system_abilities",
    "remove_system_ability",
    "subscribe_system_ability",
    "system_ability_manager",
    "unsubscribe_system_ability",
    "wait_for_system_ability",
]
