"""The numbers of abilities: error codes, the id of their manager, and how often its time limits tick.

Owns: what clients, the ability manager and the hosts of abilities must agree on (reference 3.1, 3.3). Pure.
"""

from __future__ import annotations

from typing import Final

ABILITY_MANAGER_ID: Final = 180
"""System ability id of the ability manager (reference 2.1)."""
SCHEDULER_ID: Final = 1401
"""System ability id of the distributed scheduler (reference 3.5)."""
DISTRIBUTED_DATASYNC: Final = "ohos.permission.DISTRIBUTED_DATASYNC"
"""What the application on either side of a connection between devices needs (reference 3.5)."""

# --- Errors (reference 3.1) -----------------------------------------------------------------------
OK: Final = 0
PERMISSION_DENIED: Final = 201
ABILITY_NOT_FOUND: Final = 16000001
WRONG_ABILITY_TYPE: Final = 16000002
NOT_VISIBLE: Final = 16000004
INTERNAL: Final = 16000050

TARGET_DIED: Final = -1
"""Result of a disconnect that nobody asked for: the service, or its process, ended (reference 3.2)."""

# --- Time limits in units of one second (reference 3.3; DESTROY_TICKS and STOP_TICKS: 2.5, kill after 5 s) ------
LOAD_TICKS: Final = 10
CONNECT_TICKS: Final = 10
DISCONNECT_TICKS: Final = 1
COMMAND_TICKS: Final = 5
DESTROY_TICKS: Final = 5
STOP_TICKS: Final = 5
STALE_CONNECTING: Final = 30.0
"""Seconds after which a connect that got no answer is made anew (reference 3.2)."""
