"""Why a system ability is started or stopped (reference 2.6, the table of events).

Owns: the numbers of reasons and the record that travels from SAMgr to the ability. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum


class ReasonId(IntEnum):
    """Kinds of reasons; up to UNREFERENCED OpenHarmony's numbers, then ours."""

    INTERFACE_CALL = 0
    DEVICE_ONLINE = 1
    SETTING_SWITCH = 2
    PARAM = 3
    COMMON_EVENT = 4
    TIMED_EVENT = 5
    UNREFERENCED = 6
    LONG_UNUSED = 7
    SA_REQUEST = 8
    """the ability's own process asked for it"""
    RESTART = 9
    """its process ended unexpectedly and auto-restart is on"""


@dataclass(frozen=True)
class OnDemandReason:
    """Why an ability is started, stopped, or asked whether it is idle.

    Attributes:
        id: the kind. name, value: what happened, e.g. a parameter and its value. extra: further texts of the event.
        extra_data_id: number under which SAMgr keeps a common event's payload, 0: none.
    """

    id: ReasonId = ReasonId.INTERFACE_CALL
    name: str = ""
    value: str = ""
    extra: dict[str, str] = field(default_factory=dict)
    extra_data_id: int = 0
