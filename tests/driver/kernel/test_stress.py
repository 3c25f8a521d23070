"""Many threads of many processes call, pass objects, run out of time and are killed; at the end all is as it was."""

from __future__ import annotations

import itertools
import os
import random
import time
from collections.abc import Iterator

import pytest

from binderkit.driver.kernel.node import KernelNode
from tests.driver.kernel.service import Code, Program, Served, add_one, ask
from tests.driver.kernel.state import held, until

SECONDS = 20.0
CLIENTS = 3


@pytest.fixture(params=["all processors", "one processor"])
def processors(request: pytest.FixtureRequest) -> Iterator[None]:
    """Every process that is started here may use so many."""
    before = os.sched_getaffinity(0)
    if request.param == "one processor":
        os.sched_setaffinity(0, {min(before)})
    yield
    os.sched_setaffinity(0, before)


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_everything_at_once(processors: None, served: Served, client: KernelNode) -> None:
    proxy = client.context_object(start=False)
    assert add_one(proxy) == 2
    before = held(served.pid, served.device)
    seeds, chance = itertools.count(1), random.Random(5)
    running = [_start(served, next(seeds)) for _ in range(CLIENTS)]
    calls, killed = 0, 0
    try:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            victim = running.pop(0)
            if chance.random() < 0.7:
                victim.kill()
                killed += 1
            else:
                calls += _end(victim)
            victim.close()
            running.append(_start(served, next(seeds)))
            assert add_one(proxy, 5) == 6
        for process in running:
            calls += _end(process)
    finally:
        for process in running:
            process.close()
    assert killed
    assert calls > 100, "it was no stress"
    ask(proxy, Code.DROP)
    assert served.complaints() == 0
    until(lambda: held(served.pid, served.device) == before, f"the service holds {before} again")
    assert served.counts().waiting == 0


def _start(served: Served, seed: int) -> Program:
    process = Program("tests.driver.kernel.stress", served.device, str(seed))
    assert process.said == "ready"
    return process


def _end(process: Program) -> int:
    """Have a client end by itself; return how many calls it made."""
    said = process.last_words()
    assert said.startswith("calls "), said
    assert process.wait() == 0
    return int(said.split()[1])
