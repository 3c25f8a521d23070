"""Abilities: Want, ServiceExtensionAbility, connect and disconnect (reference 3).

The public names, loaded when first used: a client does not need what a service needs, nor the other way round.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from binderkit.lazy import lazy_names

if TYPE_CHECKING:
    from binderkit.ability.client import connect_service_extension_ability as connect_service_extension_ability
    from binderkit.ability.client import disconnect_service_extension_ability as disconnect_service_extension_ability
    from binderkit.ability.client import dump_service_extension_ability as dump_service_extension_ability
    from binderkit.ability.client import list_service_extension_abilities as list_service_extension_abilities
    from binderkit.ability.client import start_service_extension_ability as start_service_extension_ability
    from binderkit.ability.client import stop_service_extension_ability as stop_service_extension_ability
    from binderkit.ability.codes import ABILITY_MANAGER_ID as ABILITY_MANAGER_ID
    from binderkit.ability.connecting import Connect as Connect
    from binderkit.ability.connecting import connect as connect
    from binderkit.ability.contracts import AbilityReport as AbilityReport
    from binderkit.ability.contracts import IAbilityManager as IAbilityManager
    from binderkit.ability.extension import ServiceExtensionAbility as ServiceExtensionAbility
    from binderkit.ability.extension import ServiceExtensionContext as ServiceExtensionContext
    from binderkit.ability.manifest import AbilityManifest as AbilityManifest
    from binderkit.ability.manifest import Bundle as Bundle
    from binderkit.ability.manifest import BundleDirectory as BundleDirectory
    from binderkit.ability.manifest import load_bundle as load_bundle
    from binderkit.ability.options import ConnectOptions as ConnectOptions
    from binderkit.ability.options import FailureCode as FailureCode
    from binderkit.ability.service import AbilityManagerService as AbilityManagerService
    from binderkit.ability.want import ElementName as ElementName
    from binderkit.ability.want import Want as Want
    from binderkit.errors import AbilityError as AbilityError

_HOMES = {
    "binderkit.ability.client": (
        "connect_service_extension_ability",
        "disconnect_service_extension_ability",
        "dump_service_extension_ability",
        "list_service_extension_abilities",
        "start_service_extension_ability",
        "stop_service_extension_ability",
    ),
    "binderkit.ability.codes": ("ABILITY_MANAGER_ID",),
    "binderkit.ability.connecting": ("Connect", "connect"),
    "binderkit.ability.contracts": ("AbilityReport", "IAbilityManager"),
    "binderkit.ability.extension": ("ServiceExtensionAbility", "ServiceExtensionContext"),
    "binderkit.ability.manifest": ("AbilityManifest", "Bundle", "BundleDirectory", "load_bundle"),
    "binderkit.ability.options": ("ConnectOptions", "FailureCode"),
    "binderkit.ability.service": ("AbilityManagerService",),
    "binderkit.ability.want": ("ElementName", "Want"),
    "binderkit.errors": ("AbilityError",),
}
__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
