"""The timing loops: what they count, not how fast."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench import measure


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=300))
def test_summary_is_within_the_samples(samples: list[int]) -> None:
    found = measure.summary(samples)
    assert found["calls"] == len(samples)
    assert min(samples) <= found["median_ns"] <= found["p99_ns"] <= max(samples)
    assert sum(sample <= found["p99_ns"] for sample in samples) >= 0.99 * len(samples)


def test_a_slow_call_is_still_measured_three_times() -> None:
    calls = []
    found = measure.timed(lambda: calls.append(1), 0)
    assert found["calls"] == measure.MIN_CALLS
    assert len(calls) == measure.MIN_CALLS + 1  # and one to warm up


def test_the_error_of_a_call_is_not_measured_away() -> None:
    def fails() -> None:
        raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        measure.timed(fails, 0.01)


@pytest.mark.parametrize("size", [1, 4096, 65536, 200 * 1024, 1_000_003])
def test_a_payload_has_its_size_and_no_page_of_zeros(size: int) -> None:
    data = measure.payload(size)
    assert len(data) == size
    assert 0 not in data
    assert measure.touch_pages(data) == size
