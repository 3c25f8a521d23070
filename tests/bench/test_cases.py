"""Bars, and the plan's consistency."""

from __future__ import annotations

import pytest

from bench import cases
from bench.cases import CASES, FREE, ONE_CPU, at_least, at_most, at_most_times, less_than_times
from bench.peers import registry
from bench.runner import base_peer


@pytest.mark.parametrize(
    ("bar", "value", "ratio", "met"),
    [
        (at_most(5), 5.0, None, True),
        (at_most(5), 5.1, None, False),
        (at_least(5), 5.0, None, True),
        (at_least(5), 4.9, None, False),
        (at_most_times(1.8), 99.0, 1.8, True),
        (at_most_times(1.8), 0.1, 1.9, False),
        (at_most_times(1.8), 0.1, None, False),
        (less_than_times(1), 99.0, 0.99, True),
        (less_than_times(1), 0.1, 1.0, False),
    ],
)
def test_a_bar_is_met_or_not(bar: cases.Bar, value: float, ratio: float | None, met: bool) -> None:
    assert bar.met(value, ratio) is met


def test_bars_read_as_a_person_writes_them() -> None:
    bars = (at_most_times(1.8), less_than_times(1), at_least(150_000))
    assert [str(bar) for bar in bars] == ["≤ 1.8 x", "< 1 x", "≥ 150,000"]


def test_names_are_unique_and_every_bar_belongs_to_a_placement_that_is_measured() -> None:
    assert len(set(cases.NAMES)) == len(cases.NAMES)
    for case in CASES:
        assert set(case.placements) <= {ONE_CPU, FREE}
        assert case.bar is None or case.bar_placement in case.placements, case.name
        assert case.bar is None or not case.bar.of_ratio or case.base is not None, case.name


def test_whoever_a_ratio_is_taken_to_is_a_contender_of_the_same_kind() -> None:
    found = {case.name: base_peer(case) for case in CASES if base_peer(case) is not None}
    assert found == {"remote": "zenoh", "remote-grpc": "grpcio TLS"}
    assert set(found.values()) <= set(registry.REMOTE_NAMES)
    assert all(case.between_devices for case in CASES if case.name in found)
