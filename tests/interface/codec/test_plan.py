"""Rows of values of several types."""

from __future__ import annotations

from struct import pack

import pytest

from binderkit.errors import TooBigError
from binderkit.interface.codec import Int8, Int32, Mismatch, Plan, UInt64, codec_for
from binderkit.parcel import MessageSequence
from tests.interface.codec.wire import string16


def _plan(*hints: object) -> Plan:
    return Plan(
        [codec_for(hint) for hint in hints], [f".{letter}" for letter, _ in zip("abcdefgh", hints, strict=False)]
    )


def _written(plan: Plan, *values: object) -> bytes:
    with MessageSequence() as sequence:
        plan.write(sequence, values)
        return bytes(sequence)


def _read(plan: Plan, data: bytes, end: int | None = None) -> list[object]:
    with MessageSequence._received(data, None) as sequence:
        return plan.read(sequence, len(data) if end is None else end)


MIXED = (Int32, float, str, bool, Int8, UInt64, str)
VALUES = (1, 2.5, "x", True, -3, 2**64 - 1, "")


def test_runs_are_packed_like_single_values() -> None:
    data = pack("<id", 1, 2.5) + string16("x") + pack("<iiQ", 1, -3, 2**64 - 1) + string16("")
    plan = _plan(*MIXED)
    assert _written(plan, *VALUES) == data
    assert _read(plan, data) == list(VALUES)
    assert plan.size is None
    assert plan.minimum == 12 + 8 + 16 + 8


def test_the_size_is_known_if_it_is_always_the_same() -> None:
    plan = _plan(Int32, float, bool)
    assert plan.size == plan.minimum == 16
    assert _plan().size == 0


@pytest.mark.parametrize("at, wrong", [(0, 1.0), (0, 2**31), (1, "x"), (2, 1), (3, 1), (4, 200), (5, -1), (6, None)])
def test_what_does_not_fit_is_named(at: int, wrong: object) -> None:
    values = list(VALUES)
    values[at] = wrong  # type: ignore[call-overload]
    with pytest.raises(Mismatch) as caught:
        _written(_plan(*MIXED), *values)
    assert caught.value.path == [f".{'abcdefgh'[at]}"]


def test_a_bool_does_not_hide_in_a_run() -> None:
    with pytest.raises(Mismatch, match=r"\.b: expected int64, got bool True"):
        _written(_plan(int, int), 1, True)


def test_an_int_for_a_float_goes_the_slow_way() -> None:
    assert _written(_plan(int, float), 1, 2) == pack("<qd", 1, 2.0)


def test_a_row_that_ends_early_gives_what_is_there() -> None:
    plan = _plan(*MIXED)
    data = _written(plan, *VALUES)
    ends = {0: 0, 4: 1, 12: 2, 20: 3, 24: 4, 28: 5, 36: 6, 44: 7}
    for end, count in ends.items():
        assert _read(plan, data, end) == list(VALUES[:count])


def test_the_limit_is_checked_behind_a_run() -> None:
    with MessageSequence() as sequence:
        sequence._out += bytes(204_796)
        with pytest.raises(TooBigError):
            _plan(int, int).write(sequence, (1, 2))
