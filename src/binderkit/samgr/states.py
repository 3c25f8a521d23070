"""States of system abilities and of the processes that host them (reference 2.5).

Owns: the numbers, OpenHarmony's as far as it has them. Pure.
"""

from __future__ import annotations

from enum import IntEnum


class AbilityState(IntEnum):
    """Where a system ability is in its life.

    NOT_LOADED -> LOADING -> LOADED -> UNLOADABLE -> UNLOADING -> NOT_LOADED
    """

    NOT_LOADED = 0
    LOADING = 1
    """somebody wants it; its process is being started, or it was told to start"""
    LOADED = 2
    """it is registered"""
    UNLOADABLE = 3
    """nobody needs it; it ends when the other abilities of its process are not needed either"""
    UNLOADING = 4
    """it was told to stop"""


class ProcessState(IntEnum):
    """Where a process is in its life."""

    NOT_STARTED = 0
    STARTED = 1
    """it made itself known to SAMgr"""
    STOPPING = 2
    STARTING = 3
    """ours: it was launched and did not make itself known yet"""


class ProcessChange(IntEnum):
    """What listeners of processes are told; also the transaction's code (reference 2.2, 24)."""

    STARTED = 1
    STOPPED = 2
    ACTIVATED = 3
    """an idle process is needed again"""
    IDLED = 4
    """none of its abilities is needed"""
