"""What a contract says about its methods beyond their hints: number, one-way, declared exceptions.

Owns: the decorators. Each leaves the function as it is, so that type checkers see an ordinary method, and notes on it
what contract.py reads later.
"""

from __future__ import annotations

from abc import abstractmethod as method
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple, ParamSpec, TypeVar, cast

__all__ = ["handler", "idempotent", "method", "oneway", "raises", "transaction_code"]
# A method of a contract is abstract: that is what ``method`` says, in a word that fits. So its body may be ``...``, and
# type checkers, like Python, refuse to make an object of a class that does not implement it.

P = ParamSpec("P")
R = TypeVar("R")
F = TypeVar("F", bound=Callable[..., Any])

MARK: Final = "__binderkit_mark__"


class Mark(NamedTuple):
    """What was said about one method."""

    code: int | None = None
    oneway: bool = False
    raises: tuple[type[Exception], ...] = ()
    idempotent: bool = False


NO_MARK: Final = Mark()


def mark_of(function: object) -> Mark:
    """Return what was said about a method."""
    known: Mark = getattr(function, MARK, NO_MARK)
    return known


def _noted(function: F, **said: Any) -> F:
    setattr(function, MARK, mark_of(function)._replace(**said))
    return function


def transaction_code(code: int) -> Callable[[F], F]:
    """Give a method a transaction code, 1 … 0xFFFFEF; the methods after it go on from there.

    Without it, methods are numbered in the order of declaration from 1 (reference 5.4).
    """
    return lambda function: _noted(function, code=code)


def raises(*kinds: type[Exception]) -> Callable[[F], F]:
    """Declare exceptions that arrive at the caller as themselves, with their fields.

    Args:
        kinds: exceptions that are dataclasses, or whose arguments are strings. All others arrive as RemoteError.
    """
    return lambda function: _noted(function, raises=kinds)


def idempotent(function: F, /) -> F:
    """Say that a method may be executed twice: only such methods are ever repeated by anybody."""
    return _noted(function, idempotent=True)


def oneway(function: Callable[P, None], /) -> Callable[P, None]:
    """Make a method one-way: the call returns at once, nothing comes back, calls arrive in order (reference 5.4)."""
    return _noted(function, oneway=True)


def handler(function: Callable[P, Awaitable[R]], /) -> Callable[P, R]:
    """Mark an ``async def`` that implements a contract's plain method: for type checkers it is that method."""
    return cast("Callable[P, R]", function)
