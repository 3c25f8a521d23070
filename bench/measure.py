"""Timing loops, run inside a contender's client process."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from time import perf_counter_ns

WARM_UP_SHARE = 0.2
MIN_CALLS = 3
PAGE = 4096
_BLOCK = bytes(range(1, 256)) * 257


def timed(call: Callable[[], object], seconds: float) -> dict[str, float]:
    """Time ``call`` again and again.

    Args:
        call: what is measured; its own look-up costs about 0.07 us.
        seconds: how long to measure, after a fifth of it as warm-up; at least three calls are made in any case.

    Returns:
        ``median_ns``, ``p99_ns`` and ``calls``.
    """
    clock = perf_counter_ns
    warm_until = clock() + int(seconds * WARM_UP_SHARE * 1e9)
    call()
    while clock() < warm_until:
        call()
    samples: list[int] = []
    add = samples.append
    end = clock() + int(seconds * 1e9)
    before = 0
    while before < end or len(samples) < MIN_CALLS:
        before = clock()
        call()
        add(clock() - before)
    return summary(samples)


def summary(samples: Sequence[int]) -> dict[str, float]:
    """Return median, 99th percentile and number of samples (nanoseconds)."""
    ordered = sorted(samples)
    last = min(len(ordered) - 1, math.ceil(len(ordered) * 0.99) - 1)
    return {"median_ns": statistics.median(ordered), "p99_ns": ordered[last], "calls": len(ordered)}


def payload(size: int) -> bytes:
    """Return ``size`` bytes that are not zeros (a page of zeros may never get memory of its own)."""
    return (_BLOCK * (size // len(_BLOCK) + 1))[:size]


def touch_pages(view: memoryview | bytes | bytearray) -> int:
    """Read one byte of every page of ``view``, as a receiver that uses its data would; returns the number of bytes."""
    with memoryview(view) as whole:
        whole[::PAGE].tobytes()
        return whole.nbytes
