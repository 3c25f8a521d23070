from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.interface.idl import IdlError, parse_string
from binderkit.interface.idl.syntax import Enum


def value_of(expression: str, before: str = "") -> int:
    document = parse_string(f"enum E : long {{ {before} LAST = {expression} }};")
    (enum,) = document.declarations
    assert isinstance(enum, Enum)
    return enum.members[-1].value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("7", 7),
        ("0x1F", 31),
        ("0XfUL", 15),
        ("0b101", 5),
        ("017", 15),
        ("0", 0),
        ("12ull", 12),
        ("12LU", 12),
        ("-(3)", -3),
        ("- -3", 3),
        ("~0", -1),
        ("1 + 2 * 3", 7),
        ("(1 + 2) * 3", 9),
        ("1 << 2 + 1", 8),
        ("7 / 2", 3),
        ("-7 / 2", -3),
        ("-7 % 2", -1),
        ("7 % -2", 1),
        ("10 - 3 - 2", 5),
        ("0xF0 >> 4", 15),
    ],
)
def test_values_are_those_of_c(expression: str, value: int) -> None:
    assert value_of(expression) == value


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("1 | 6 & 4", 4),  # C: 1 | (6 & 4) = 5
        ("4 & 6 | 1", 4),  # C: (4 & 6) | 1 = 5
        ("1 ^ 3 & 2", 2),  # C: 1 ^ (3 & 2) = 3
        ("1 ^ 1 | 2", 2),  # as in C's (1 ^ 1) | 2 = 2 by chance; here 1 ^ (1 | 2)
        ("3 ^ 1 | 2", 0),  # C: (3 ^ 1) | 2 = 2
    ],
)
def test_and_binds_loosest_and_or_tightest_of_the_bitwise_ones(expression: str, value: int) -> None:
    """The unusual order of reference 5.3."""
    assert value_of(expression) == value


def test_earlier_members_can_be_used() -> None:
    assert value_of("(ONE << TWO) + ONE", "ONE = 1, TWO,") == 5


OPERATORS = ["+", "-", "*", "&", "|", "^"]
numbers = st.integers(-20, 20).map(lambda number: f"({number})")
expressions = st.recursive(
    numbers,
    lambda inner: st.builds(
        lambda left, operator, right: f"({left} {operator} {right})", inner, st.sampled_from(OPERATORS), inner
    ),
    max_leaves=6,
).filter(lambda text: -(2**31) <= eval(text) < 2**31)  # noqa: S307 - made of numbers and operators above


@given(expressions)
def test_fully_bracketed_expressions_mean_what_they_mean_in_python(expression: str) -> None:
    assert value_of(expression) == eval(expression)  # noqa: S307


@pytest.mark.parametrize(
    ("expression", "offset", "text"),
    [
        ("1 / 0", 4, "division by zero"),
        ("5 % (2 - 2)", 5, "division by zero"),
        ("1 << 64", 5, "shift by 64 bits"),
        ("1 >> -1", 5, "shift by -1 bits"),
        ("1 << 63 << 1", 0, "more than 64 bits"),
        ("0xFFFFFFFFFFFFFFFFF", 0, "more than 64 bits"),
        ("OTHER", 0, "'OTHER' is no earlier member"),
        ("LAST", 0, "'LAST' is no earlier member"),
        ("08", 0, "'08' is no integer"),
        ("0x", 0, "'0x' is no integer"),
        ("1lll", 0, "'1lll' is no integer"),
        ("12abc", 0, "'12abc' is no integer"),
        (" + ".join(["1"] * 200), 0, "more than 100 levels"),
        ("~" * 200 + "1", 100, "more than 100 levels"),
    ],
)
def test_what_c_leaves_undefined_is_an_error_at_its_place(expression: str, offset: int, text: str) -> None:
    with pytest.raises(IdlError, match=text) as raised:
        value_of(expression)

    assert raised.value.line == 1
    assert raised.value.column == len("enum E : long {  LAST = ") + 1 + offset
