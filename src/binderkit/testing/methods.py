"""Which calls are calls of a contract's method: for faults that strike one method by its name.

Owns: ``to``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from binderkit.errors import ParamTypeError
from binderkit.interface.contract import Contract, Interface
from binderkit.testing.taps import Delivery

__all__ = ["to"]


def to(method: Callable[..., Any]) -> Callable[[Delivery], bool]:
    """Return a predicate that is true for calls of a contract's method: ``faults(pair).drop(to(IPhoto.thumbnail))``.

    Args:
        method: the function in the class that declares it.

    Raises:
        ParamTypeError: no interface declares this function (401).
    """
    for contract in _contracts(Interface):
        for known in contract.methods.values():
            if vars(contract.interface)[known.name] is method:
                return _calls_of(contract.token, known.code)
    raise ParamTypeError(f"expected a method of a contract such as IPhoto.thumbnail, got {method!r}")


def _contracts(interface: type[Interface]) -> Iterator[Contract]:
    for kind in interface.__subclasses__():
        if "__contract__" in kind.__dict__:
            yield kind.__contract__
        yield from _contracts(kind)


def _calls_of(token: bytes, code: int) -> Callable[[Delivery], bool]:
    def concerns(delivery: Delivery) -> bool:
        return delivery.code == code and bytes(delivery.data).startswith(token)

    return concerns
