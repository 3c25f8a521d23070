"""SAMgr's transactions about other devices (reference 2.2, 8, 9): which abilities they get, and which we may ask for.

Owns: the rules of both ends, from profiles and registrations. The objects themselves come from system ability 4700
(softbus): a proxy of another device's object cannot be passed on by SAMgr (reference 0, C4), so programs that ask SAMgr
for one are told where to ask.

Rules upheld (reference 4.1): both ends declare an ability as distributed, and a refusal says which end does not; what
needs a permission here goes to no other device unless its profile names that device, because nobody there can have
the permission; only the process that hosts 4700 is told any of this.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple

from binderkit.errors import ERR_PASSED_ON, ERR_PERMISSION_DENIED, ServiceError, ServiceNotFoundError
from binderkit.samgr import codes
from binderkit.samgr.ability import AbilityKey, read_key
from binderkit.samgr.profile import TRUSTED

if TYPE_CHECKING:
    from binderkit.ipc.context import Caller
    from binderkit.parcel import MessageSequence
    from binderkit.samgr.operations import Core, Operation

_UDID: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)


class RemoteRule(NamedTuple):
    """What an ability's profile, or its registration, says of other devices.

    Attributes:
        ability: its id. title: what texts call it. permission, remote_access: see AbilityProfile.
    """

    ability: int
    title: str
    distributed: bool
    permission: str
    remote_access: tuple[str, ...]

    @property
    def guarded(self) -> bool:
        """Whether not every trusted device gets it."""
        return bool(self.remote_access or self.permission) and self.remote_access != (TRUSTED,)

    def check(self, device: str) -> None:
        """Return if a device this one trusts may have the ability.

        Args:
            device: its UDID.

        Raises:
            ServiceError: it is for its own device only (1024), or not for that one (201).
        """
        if not self.distributed:
            raise ServiceError(
                f"{self.title} is for its own device only; set 'distributed = true' in its profile there, or register "
                "it with distributed=True",
                code=codes.NOT_DISTRIBUTED,
            )
        if not self.guarded or device in self.remote_access:
            return
        what = "is not for every device" if self.remote_access else f"needs the permission {self.permission!r}"
        raise ServiceError(
            f"{self.title} {what}: its profile there must name device {device[:16]} in 'remote-access' "
            f'(the whole UDID, or remote-access = ["{TRUSTED}"])',
            code=ERR_PERMISSION_DENIED,
        )


class RemoteOperations:
    """The part of SAMgr that knows what goes between devices."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @property
    def operations(self) -> Mapping[int, Operation]:
        """The transactions of this part."""
        return {
            codes.LOAD_REMOTE_SYSTEM_ABILITY: self._load,
            codes.CHECK_REMOTE_SYSTEM_ABILITY: self._check,
        }

    def _load(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        raise _ask_softbus("load_system_ability(…, callback, device_id=…)")

    def _check(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        """Answer the process that speaks for the device: may that device have it ("": may we ask others for it)?"""
        key, device = read_key(data), data.read_string()
        core = self._core
        if not core.hosts(caller, codes.SOFTBUS_ID):
            raise _ask_softbus("check_system_ability(…, device_id=…)")
        with core.lock:
            rule = remote_rule(core, key)
            declared = key in core.remote_abilities or (rule is not None and rule.distributed)
        if device:
            _check_device(device)
            if rule is None:
                raise ServiceNotFoundError(f"no system ability {key!r} is known")
            rule.check(device)
        elif not declared:
            raise ServiceError(
                f"this device does not declare system ability {key!r} as distributed: if it has the ability, set "
                "'distributed = true' in its profile on this device too; else name it in 'remote-abilities' of a "
                "profile here, and run 'binderkit profiles reload'",
                code=codes.NOT_DISTRIBUTED,
            )
        reply.write_int(codes.OK)
        reply.write_int(0 if rule is None else rule.ability)


def remote_rule(core: Core, key: AbilityKey) -> RemoteRule | None:
    """Under the lock: return what is known of an ability, None when it is not."""
    record, entry = core.lifecycle.find(key), core.table.find(key)
    if record is not None and (record.process.profile is not None or entry is None):
        profile = record.profile
        return RemoteRule(record.id, record.title, profile.distributed, profile.permission, profile.remote_access)
    if entry is None:
        return None
    info = entry.info
    name = f" {info.name!r}" if info.name else ""
    return RemoteRule(info.id, f"system ability {info.id}{name}", info.distributed, info.permission, ())


def _check_device(device: str) -> None:
    if not _UDID.fullmatch(device):
        raise ServiceError(f"{device[:80]!r} is no UDID: 64 digits 0-9 a-f")


def _ask_softbus(function: str) -> ServiceError:
    return ServiceError(
        "SAMgr cannot pass on objects of other devices; "
        f"use samgr.{function}, which asks system ability 4700 (interface ohos.dbinder.IDBinder)",
        code=ERR_PASSED_ON,
    )
