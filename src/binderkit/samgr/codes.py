"""The numbers of SAMgr's interface: transaction codes and results.

Owns: what client and service must agree on. Numbers below 100 are
OpenHarmony's (reference 2.2, 2.3); from 100 on they are our own, for what
OpenHarmony's clients do by asking again and again.

Every request starts with the interface token, every reply with an int32
result: 0, or one of the codes below followed by a string that explains it.
"""

from __future__ import annotations

from typing import Final

DESCRIPTOR: Final = "OHOS.ISystemAbilityManager"
LISTENER_DESCRIPTOR: Final = "OHOS.ISystemAbilityStatusChange"

# --- SAMgr's transactions (reference 2.2) ---------------------------------------------------------
GET_SYSTEM_ABILITY: Final = 1
CHECK_SYSTEM_ABILITY: Final = 2
ADD_SYSTEM_ABILITY: Final = 3
REMOVE_SYSTEM_ABILITY: Final = 4
LIST_SYSTEM_ABILITIES: Final = 5
SUBSCRIBE_SYSTEM_ABILITY: Final = 6
UNSUBSCRIBE_SYSTEM_ABILITY: Final = 18
WAIT_SYSTEM_ABILITY: Final = 100
"""Ours: the reply comes when the ability is there."""

# --- A listener's transactions ---------------------------------------------------------------------
ON_ADD_SYSTEM_ABILITY: Final = 1
ON_REMOVE_SYSTEM_ABILITY: Final = 2

# --- Results (reference 2.3) ------------------------------------------------------------------------
OK: Final = 0
LOAD_SA_TIMEOUT: Final = 999
INVALID_ABILITY_ID: Final = 1000
INVALID_INPUT: Final = 1001
ABILITY_NOT_FOUND: Final = 1008
SUBSCRIBE_LIMIT: Final = 1010
ABILITY_LIMIT: Final = 1011
ABILITY_OBJECT_NULL: Final = 1022
LISTENER_NULL: Final = 1023

# --- Which abilities a listing shows ------------------------------------------------------------------
DUMP_FLAG_PRIORITY_CRITICAL: Final = 1
DUMP_FLAG_PRIORITY_HIGH: Final = 2
DUMP_FLAG_PRIORITY_NORMAL: Final = 4
DUMP_FLAG_PRIORITY_DEFAULT: Final = 8
DUMP_FLAG_PRIORITY_ALL: Final = 15

PAGE: Final = 150
"""Abilities in one LIST reply: with every string at its longest they stay below 200 KB."""
