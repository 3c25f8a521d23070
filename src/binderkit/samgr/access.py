"""Permissions of callers: what a service asks before it does something.

Owns: verify_access_token, check_permission and the decorator requires_permission. Who has a permission, tokens.py says.

The rule (reference 2.4, 3.4), for the caller of the call being handled, and outside a call for this process itself:

- A process with an access token has the permissions that it declares and the device grants.
- A process without one was not started by SAMgr. It counts as native when it runs as root or as SAMgr's user (who could
  change the policy anyway) and has every permission; any other process without a token has none.
- A caller of another device has none: its token is not vouched for here.
- A one-way call over the kernel's Binder has none: the kernel does not tell which process makes it.
- Where no SAMgr ever answered (a child of ``spawn`` on its own), root and the own user have every permission.
- When SAMgr does not answer any more, nobody has any until it is back.

A permission that was granted is remembered for CACHE_TIME seconds, so that a guarded method does not cost one more call
each time: that long a permission that is taken away may go on.
"""

from __future__ import annotations

import functools
import inspect
import os
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast

from binderkit.errors import IpcError, NoServiceManagerError, ParamTypeError, ParamValueError, PermissionDeniedError
from binderkit.ipc import tokens
from binderkit.ipc.context import calling_identity
from binderkit.samgr import codes
from binderkit.samgr.token_service import read_info
from binderkit.samgr.tokens import MAX_TOKEN, TokenInfo, checked_permission

if TYPE_CHECKING:
    from binderkit.ipc.context import Caller
    from binderkit.parcel import MessageSequence

CACHE_TIME: Final = 1.0
"""Seconds a granted permission is remembered."""
_CACHED: Final = 4096
_P = ParamSpec("_P")
_R = TypeVar("_R")

_granted: dict[tuple[int, str], float] = {}
"""(token, permission) -> time.monotonic() until which it need not be asked again."""


def verify_access_token(token_id: int, permission: str) -> bool:
    """Whether the process with this token has a permission now (nothing remembered).

    Args:
        token_id: of IPCSkeleton.get_calling_token_id, 0 … 0xFFFFFFFF; nobody has 0.
        permission: such as "ohos.permission.CAMERA", at most 128 characters.

    Raises:
        ParamTypeError, ParamValueError: one of them cannot be one (401).
        NoServiceManagerError: no SAMgr runs (1007).
        DeadObjectError, CallTimeoutError: SAMgr ended, or did not answer in 4 s (-32, 502).
    """
    _check_arguments(token_id, permission)
    if token_id == 0:
        return False
    source = tokens.source()
    if source is not None:
        return source.verify(token_id, permission)
    return tokens.ask(codes.VERIFY_TOKEN, _question(token_id, permission)).read_boolean()


async def verify_access_token_async(token_id: int, permission: str) -> bool:
    """Do the same without blocking the event loop."""
    _check_arguments(token_id, permission)
    if token_id == 0:
        return False
    source = tokens.source()
    if source is not None:
        return source.verify(token_id, permission)
    return (await tokens.ask_async(codes.VERIFY_TOKEN, _question(token_id, permission))).read_boolean()


def get_token_info(token_id: int) -> TokenInfo:
    """Return whose token it is and what it declares.

    Raises:
        ServiceError: nobody has it (1007).
        Everything that verify_access_token raises.
    """
    _check_token(token_id)
    return read_info(tokens.ask(codes.TOKEN_INFO, lambda data: data.write_long(token_id)))


def check_permission(permission: str) -> None:
    """Return when the caller of the call being handled has a permission; see the rule above.

    Raises:
        PermissionDeniedError: it has not, or SAMgr cannot tell; travels to the caller as what it is (201).
        ParamTypeError, ParamValueError: ``permission`` cannot be one (401).
    """
    checked_permission(permission)
    caller = calling_identity()
    _refuse_unknown(caller, permission)
    try:
        token = tokens.known_token_of(caller)
        if token and _is_remembered(token, permission):
            return
        allowed = verify_access_token(token, permission) if token else _is_native(caller)
    except IpcError as error:
        _decide_without_manager(caller, permission, error)
        return
    _conclude(caller, token, permission, allowed)


async def check_permission_async(permission: str) -> None:
    """Do the same without blocking the event loop."""
    checked_permission(permission)
    caller = calling_identity()
    _refuse_unknown(caller, permission)
    try:
        token = await tokens.known_token_of_async(caller)
        if token and _is_remembered(token, permission):
            return
        allowed = await verify_access_token_async(token, permission) if token else _is_native(caller)
    except IpcError as error:
        _decide_without_manager(caller, permission, error)
        return
    _conclude(caller, token, permission, allowed)


def check_application_permission(permission: str) -> None:
    """Return when the caller of the call being handled is no application, or one that has a permission.

    For what OpenHarmony lets native processes do without asking: those that SAMgr started for system abilities, root,
    and SAMgr's user. Whoever has no access token and is neither is treated as an application.

    Raises:
        PermissionDeniedError: it is an application without the permission, or of another device (201).
        ServiceError, DeadObjectError, CallTimeoutError: SAMgr cannot tell (1007, -32, 502).
    """
    caller = calling_identity()
    if not caller.device_id:
        token = tokens.known_token_of(caller)
        if token and not get_token_info(token).bundle:
            return
    check_permission(permission)


def requires_permission(permission: str) -> Callable[[Callable[_P, _R]], Callable[_P, _R]]:
    """Decorate a method of an object's class: it runs only when its caller has a permission (check_permission).

    For methods of classes that implement an interface, sync or ``async def``; its signature stays as it is::

        class Camera(ICamera):
            @requires_permission("ohos.permission.CAMERA")
            def shoot(self) -> bytes: ...

    Raises:
        ParamTypeError, ParamValueError: at once, when ``permission`` cannot be one or something else than a function is
            decorated (401).
    """
    checked_permission(permission)

    def decorate(function: Callable[_P, _R]) -> Callable[_P, _R]:
        if not inspect.isfunction(function):
            raise ParamTypeError(
                f"requires_permission decorates a method, got {type(function).__name__}; "
                "put it below @property, @staticmethod and the like"
            )
        if inspect.iscoroutinefunction(function):
            return cast("Callable[_P, _R]", _guard_coroutine(function, permission))
        return _guard(function, permission)

    return decorate


def _guard(function: Callable[_P, _R], permission: str) -> Callable[_P, _R]:
    @functools.wraps(function)
    def guarded(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        check_permission(permission)
        return function(*args, **kwargs)

    return guarded


def _guard_coroutine(function: Callable[_P, Awaitable[Any]], permission: str) -> Callable[_P, Awaitable[Any]]:
    @functools.wraps(function)
    async def guarded(*args: _P.args, **kwargs: _P.kwargs) -> Any:
        await check_permission_async(permission)
        return await function(*args, **kwargs)

    return guarded


def _question(token_id: int, permission: str) -> Callable[[MessageSequence], None]:
    def write(data: MessageSequence) -> None:
        data.write_long(token_id)
        data.write_string(permission)

    return write


def _check_arguments(token_id: object, permission: object) -> None:
    _check_token(token_id)
    checked_permission(permission)


def _check_token(token_id: object) -> None:
    if isinstance(token_id, bool) or not isinstance(token_id, int):
        raise ParamTypeError(f"an access token is a number, got {type(token_id).__name__}")
    if not 0 <= token_id <= MAX_TOKEN:
        raise ParamValueError(f"an access token is 0 … {MAX_TOKEN:#x}, got {token_id}")


def _is_remembered(token: int, permission: str) -> bool:
    return _granted.get((token, permission), 0.0) > time.monotonic()


def _is_native(caller: Caller) -> bool:
    return not caller.device_id and caller.uid in (0, tokens.manager_uid())


def _decide_without_manager(caller: Caller, permission: str, error: IpcError) -> None:
    nobody_to_ask = isinstance(error, NoServiceManagerError) and not tokens.manager_was_reached()
    if nobody_to_ask and not caller.device_id and caller.uid in (0, os.geteuid()):
        return
    why = error.args[0] if error.args else type(error).__name__
    raise PermissionDeniedError(
        f"whether {_who(caller)} has the permission {permission!r} cannot be told: {why}; try again when SAMgr answers"
    ) from error


def _refuse_unknown(caller: Caller, permission: str) -> None:
    if not caller.pid:
        raise PermissionDeniedError(
            f"which process of uid {caller.uid} calls is not known, so it cannot have the permission {permission!r}: "
            "the kernel's Binder does not tell it for a one-way call; make the method one that is waited for"
        )


def _conclude(caller: Caller, token: int, permission: str, allowed: bool) -> None:
    if not allowed:
        raise PermissionDeniedError(f"{_who(caller)} lacks the permission {permission!r}; {_advice(caller, token)}")
    if token:
        if len(_granted) >= _CACHED:
            _granted.clear()
        _granted[token, permission] = time.monotonic() + CACHE_TIME


def _who(caller: Caller) -> str:
    where = f" on device {caller.device_id}" if caller.device_id else ""
    return f"process {caller.pid} (uid {caller.uid}){where}"


def _advice(caller: Caller, token: int) -> str:
    if caller.device_id:
        return "callers of other devices have none"
    if not token:
        return (
            "it has no access token: let SAMgr start it from a profile or bundle that declares the permission "
            "(without a token only root and SAMgr's user have permissions)"
        )
    return (
        f"its profile or manifest (token {token:#x}) must declare it, and permissions.toml in the device's runtime "
        "directory, if there is one, must grant it"
    )
