"""How a typed call is made: awaited, or with a limit of time.

Owns: the two adapters users put around a method of a proxy. They take the bound method itself, so the type checker
knows arguments and result without anything generated.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final, ParamSpec, TypeVar, cast

from binderkit.errors import ParamTypeError
from binderkit.ipc.option import MessageOption

P = ParamSpec("P")
R = TypeVar("R")

TWIN: Final = "__binderkit_async__"
"""On a proxy's method: the function that makes the same call from a coroutine."""
_OPTION: Final = "_option_"


def aio(method: Callable[P, R], /) -> Callable[P, Coroutine[Any, Any, R]]:
    """Return ``method`` of a proxy as a coroutine function: ``await aio(photos.thumbnail)(data, width=80)``.

    It never blocks the event loop, and cancelling the task tells the handler. A method of an object of this process is
    called directly.

    Raises:
        ParamTypeError: no method of a proxy or of an object that implements a contract (401).
    """
    inner, options = _unwrapped(method)
    owner, function = _parts(inner)
    twin = getattr(function, TWIN, None)
    if twin is not None:
        return cast("Callable[P, Coroutine[Any, Any, R]]", partial(twin, owner, **options))
    return _awaited(cast("Callable[P, R]", inner))


def within(seconds: float, method: Callable[P, R], /) -> Callable[P, R]:
    """Return ``method`` of a proxy with a limit of time: ``within(0.5, photos.thumbnail)(data)``.

    Args:
        seconds: 0 < seconds ≤ 3000, for the whole call; nested calls inherit what is left. A call that takes longer
            raises CallTimeoutError. On an object of this process there is no limit.

    Raises:
        ParamTypeError, ParamValueError: no method of a proxy, or no such time (401).
    """
    option = MessageOption(timeout=seconds)
    inner, _ = _unwrapped(method)
    _, function = _parts(inner)
    if getattr(function, TWIN, None) is None:
        return method
    return cast("Callable[P, R]", partial(inner, **{_OPTION: option}))


def _unwrapped(method: Any) -> tuple[Any, dict[str, Any]]:
    """Take apart what ``within`` made; anything else comes back as it is."""
    if isinstance(method, partial) and set(method.keywords) == {_OPTION}:
        return method.func, dict(method.keywords)
    return method, {}


def _parts(method: Any) -> tuple[object, Any]:
    owner, function = getattr(method, "__self__", None), getattr(method, "__func__", None)
    if owner is None or function is None or not hasattr(type(owner), "__contracts__"):
        raise ParamTypeError(f"expected a method of a proxy such as photos.thumbnail, got {method!r}")
    return owner, function


def _awaited(method: Callable[P, R]) -> Callable[P, Coroutine[Any, Any, R]]:
    async def call(*args: P.args, **kwargs: P.kwargs) -> R:
        result = method(*args, **kwargs)
        return cast(R, await result) if inspect.isawaitable(result) else result

    return call
