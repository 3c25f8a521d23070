"""tests/halves.py: every test is in one half, and no failure gets lost."""

from __future__ import annotations

import pytest

from tests import halves


def test_every_test_is_in_one_half() -> None:
    first, second = halves.commands(["-k", "x"])
    ignored = {word.removeprefix("--ignore=") for word in first if word.startswith("--ignore=")}
    named = {word for word in second if word.startswith(str(halves.HERE))}
    assert ignored == named
    assert str(halves.HERE) in first
    assert all((halves.HERE / name).exists() for name in halves.SECOND)


@pytest.mark.parametrize(
    ("codes", "whole"), [([0, 0], 0), ([1, 0], 1), ([0, 2], 2), ([5, 0], 0), ([1, 5], 1), ([5, 5], 5), ([0, -9], -9)]
)
def test_no_failure_gets_lost(codes: list[int], whole: int) -> None:
    assert halves.verdict(codes) == whole
