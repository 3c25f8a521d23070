"""The values of enum members: C's integer arithmetic on 64 bits.

Owns: what each operator does and where C leaves it undefined, which is an error here. How operators bind is the
grammar's business.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from binderkit import limits
from binderkit.interface.idl.syntax import Binary, Expression, Number, Reference, Source, Unary

__all__ = ["evaluate"]

_LOWEST: Final = -(2**63)
_HIGHEST: Final = 2**64 - 1


def _quotient(left: int, right: int) -> int:
    """C rounds towards zero, Python down."""
    size = abs(left) // abs(right)
    return size if (left < 0) == (right < 0) else -size


_OPERATORS: Final[dict[str, Callable[[int, int], int]]] = {
    "&": lambda left, right: left & right,
    "^": lambda left, right: left ^ right,
    "|": lambda left, right: left | right,
    "<<": lambda left, right: left << right,
    ">>": lambda left, right: left >> right,
    "+": lambda left, right: left + right,
    "-": lambda left, right: left - right,
    "*": lambda left, right: left * right,
    "/": _quotient,
    "%": lambda left, right: left - _quotient(left, right) * right,
}


def evaluate(expression: Expression, members: Mapping[str, int], source: Source) -> int:
    """Return the value of an expression.

    Args:
        members: values of the earlier members by name. source: the file, for errors.

    Raises:
        IdlError: an unknown name, a division by zero, a shift by less than 0 or more than 63, or a value of more than
            64 bits (401).
    """
    if isinstance(expression, Number):
        value = expression.value
    elif isinstance(expression, Reference):
        if expression.name not in members:
            raise source.error(expression.span, f"{expression.name!r} is no earlier member of this enum")
        value = members[expression.name]
    elif isinstance(expression, Unary):
        operand = evaluate(expression.operand, members, source)
        value = {"+": operand, "-": -operand, "~": ~operand}[expression.operator]
    else:
        value = _combined(expression, members, source)
    if not _LOWEST <= value <= _HIGHEST:
        raise source.error(expression.span, f"the value {value:#x} has more than 64 bits")
    return value


def _combined(expression: Binary, members: Mapping[str, int], source: Source) -> int:
    left = evaluate(expression.left, members, source)
    right = evaluate(expression.right, members, source)
    operator = expression.operator
    if operator in ("/", "%") and right == 0:
        raise source.error(expression.right.span, "division by zero")
    if operator in ("<<", ">>") and not 0 <= right <= limits.MAX_IDL_SHIFT:
        raise source.error(
            expression.right.span, f"a shift by {right} bits is undefined; it goes from 0 to {limits.MAX_IDL_SHIFT}"
        )
    return _OPERATORS[operator](left, right)
