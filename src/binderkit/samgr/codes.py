"""The numbers of SAMgr's interface: transaction codes and results.

Owns: what client and service must agree on. Numbers below 100 are
OpenHarmony's (reference 2.2, 2.3); from 100 on they are our own, for what
OpenHarmony's clients do by asking again and again.

Every request starts with the interface token, every reply with an int32
result: 0, or one of the codes below followed by a string that explains it.
"""

from __future__ import annotations

from typing import Final

from binderkit.ipc import tokens  # IPCSkeleton asks these too, and stands below this package

DESCRIPTOR: Final = tokens.MANAGER_DESCRIPTOR
LISTENER_DESCRIPTOR: Final = "OHOS.ISystemAbilityStatusChange"

# --- SAMgr's transactions (reference 2.2) ---------------------------------------------------------
GET_SYSTEM_ABILITY: Final = 1
CHECK_SYSTEM_ABILITY: Final = 2
ADD_SYSTEM_ABILITY: Final = 3
REMOVE_SYSTEM_ABILITY: Final = 4
LIST_SYSTEM_ABILITIES: Final = 5
SUBSCRIBE_SYSTEM_ABILITY: Final = 6
UNSUBSCRIBE_SYSTEM_ABILITY: Final = 18
LOAD_SYSTEM_ABILITY: Final = 7
LOAD_REMOTE_SYSTEM_ABILITY: Final = 8
CHECK_REMOTE_SYSTEM_ABILITY: Final = 9
ADD_ON_DEMAND_ABILITY: Final = 10
CHECK_ON_DEMAND_ABILITY: Final = 15
SYSTEM_ABILITY_INFO_LIST: Final = 17
ADD_SYSTEM_PROCESS: Final = 20
UNLOAD_SYSTEM_ABILITY: Final = 21
CANCEL_UNLOAD_SYSTEM_ABILITY: Final = 22
LIST_SYSTEM_PROCESSES: Final = 23
SUBSCRIBE_SYSTEM_PROCESS: Final = 24
UNSUBSCRIBE_SYSTEM_PROCESS: Final = 25
GET_ON_DEMAND_REASON_EXTRA_DATA: Final = 26
GET_ON_DEMAND_POLICY: Final = 27
UPDATE_ON_DEMAND_POLICY: Final = 28
GET_SYSTEM_PROCESS_INFO: Final = 29
GET_ON_DEMAND_ABILITY_IDS: Final = 30
UNLOAD_ALL_IDLE: Final = 32
GET_EXTENSION_ABILITY_IDS: Final = 33
GET_RUNNING_EXTENSION_ABILITIES: Final = 34
GET_RUNNING_EXTENSION_INFOS: Final = 35
GET_COMMON_EVENT_EXTRA_DATA_IDS: Final = 36
GET_LOCAL_ABILITY_MANAGER: Final = 37
UNLOAD_PROCESSES: Final = 38
GET_IDLE_PROCESSES: Final = 39
REPORT_START_FAILURE: Final = 43
WAIT_SYSTEM_ABILITY: Final = 100
"""Ours: the reply comes when the ability is there."""
RELOAD_PROFILES: Final = 113
"""Ours: read the profile directory again."""
TOKEN_OF_PID: Final = tokens.TOKEN_OF_PID
VERIFY_TOKEN: Final = tokens.VERIFY_TOKEN
TOKEN_INFO: Final = tokens.TOKEN_INFO

SOFTBUS_ID: Final = 4700
"""OpenHarmony's id of its SoftBus server; whoever hosts it speaks for the device among others."""

# --- A listener's transactions ---------------------------------------------------------------------
ON_ADD_SYSTEM_ABILITY: Final = 1
ON_REMOVE_SYSTEM_ABILITY: Final = 2

# --- Transactions of the callback of a load, and of a listener of processes (its codes are ProcessChange) ----
LOAD_CALLBACK_DESCRIPTOR: Final = "OHOS.ISystemAbilityLoadCallback"
ON_LOAD_SUCCESS: Final = 1
ON_LOAD_FAIL: Final = 2
PROCESS_LISTENER_DESCRIPTOR: Final = "OHOS.ISystemProcessStatusChange"

# --- Results (reference 2.3) ------------------------------------------------------------------------
OK: Final = 0
LOAD_SA_TIMEOUT: Final = 999
INVALID_ABILITY_ID: Final = 1000
INVALID_INPUT: Final = 1001
PROFILE_MISSING: Final = 1002
CALLBACK_NULL: Final = 1003
CALLBACK_LIMIT: Final = 1004
INVALID_CALLING_PROCESS: Final = 1005
PROCESS_NOT_FOUND: Final = 1007
ABILITY_NOT_FOUND: Final = 1008
ON_DEMAND_LIMIT: Final = 1009
SUBSCRIBE_LIMIT: Final = 1010
ABILITY_LIMIT: Final = 1011
PROCESS_LIMIT: Final = 1012
PENDING_LOAD_LIMIT: Final = 1013
NOT_ON_DEMAND: Final = 1021
ABILITY_OBJECT_NULL: Final = 1022
LISTENER_NULL: Final = 1023
NOT_DISTRIBUTED: Final = 1024
START_FAILED: Final = 2100
"""Ours: the ability's process could not be started, ended, or reported that the ability failed at its start."""

CONTROL_PERMISSION: Final = "ohos.permission.CONTROL_SVC_CMD"
"""What one needs for the local ability manager of a process (reference 2.2, 37)."""

EXTENSION_PERMISSION: Final = "ohos.permission.ACCESS_EXT_SYSTEM_ABILITY"
"""What one needs for the queries about extensions (reference 2.4)."""

# --- Which abilities a listing shows ------------------------------------------------------------------
DUMP_FLAG_PRIORITY_CRITICAL: Final = 1
DUMP_FLAG_PRIORITY_HIGH: Final = 2
DUMP_FLAG_PRIORITY_NORMAL: Final = 4
DUMP_FLAG_PRIORITY_DEFAULT: Final = 8
DUMP_FLAG_PRIORITY_ALL: Final = 15

PAGE: Final = 150
"""Abilities in one LIST reply: with every string at its longest they stay below 200 KB."""
