"""A service in a process of its own that says who calls it, and has methods that not everybody may call."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import binderkit as bk
from binderkit.interface import Interface, method
from binderkit.ipc import tokens
from binderkit.samgr.access import check_application_permission, check_permission, requires_permission
from tests.dbinder.child import Granted

CAMERA = "ohos.permission.CAMERA"
Skeleton = bk.IPCSkeleton


class AllGranted(Granted):
    """The tokens of a SAMgr that gives every token every permission."""

    def verify(self, token: int, permission: str) -> bool:
        return token != 0


@dataclass(frozen=True)
class Facts:
    """What IPCSkeleton says of a caller; ``d_…`` is what the other device says of it."""

    device: str
    local_device: str
    is_local: bool
    pid: int
    uid: int
    token: int
    d_pid: int
    d_uid: int
    d_token: int
    handling: bool
    restored: bool


def facts() -> Facts:
    """Return them, and whether resetting and restoring the identity changes nothing."""
    before = _identity()
    saved = Skeleton.reset_calling_identity()
    own = _identity()
    Skeleton.restore_calling_identity(saved)
    return Facts(
        Skeleton.get_calling_device_id(),
        Skeleton.get_local_device_id(),
        Skeleton.is_local_calling(),
        Skeleton.get_calling_pid(),
        Skeleton.get_calling_uid(),
        Skeleton.get_calling_token_id(),
        Skeleton.get_dcalling_pid(),
        Skeleton.get_dcalling_uid(),
        Skeleton.get_dcalling_token_id(),
        Skeleton.is_handling_transaction(),
        own != before == _identity(),
    )


def _identity() -> tuple[str, int, int]:
    return Skeleton.get_calling_device_id(), Skeleton.get_calling_pid(), Skeleton.get_calling_uid()


class ICallers(Interface, descriptor="tests.ICallers"):
    """Who calls, seen from everywhere."""

    @method
    def here(self) -> Facts: ...

    @method
    async def later(self) -> Facts: ...

    @method
    def guarded(self) -> str: ...

    @method
    async def guarded_later(self) -> str: ...

    @method
    def asked(self) -> str: ...

    @method
    def of_applications(self) -> str: ...

    @method
    def ran(self) -> list[str]: ...


class Callers(ICallers):
    """The service; ``ran`` says which guarded methods ran."""

    def __init__(self) -> None:
        self._ran: list[str] = []

    def here(self) -> Facts:
        return facts()

    async def later(self) -> Facts:
        before = facts()
        await asyncio.sleep(0)
        after = await asyncio.create_task(_facts())
        assert before == after == facts()
        return after

    @requires_permission(CAMERA)
    def guarded(self) -> str:
        self._ran.append("guarded")
        return "ran"

    @requires_permission(CAMERA)
    async def guarded_later(self) -> str:
        self._ran.append("guarded_later")
        return "ran"

    def asked(self) -> str:
        check_permission(CAMERA)
        self._ran.append("asked")
        return "ran"

    def of_applications(self) -> str:
        check_application_permission(CAMERA)
        self._ran.append("of_applications")
        return "ran"

    def ran(self) -> list[str]:
        return self._ran


async def _facts() -> Facts:
    return facts()


def service() -> bk.IRemoteObject:
    """Return the object of a process whose parent has all permissions."""
    tokens.use_source(AllGranted())
    return Callers().as_object()
