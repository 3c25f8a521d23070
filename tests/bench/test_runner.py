"""Client processes: bounded, replaced after a failure, ended with all they started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.cases import FREE, ONE_CPU, Case
from bench.floor import Floor
from bench.machine import placed
from bench.results import C
from bench.runner import Settings, WorkerFailed, Workers, in_unit, run_case

PEER = "multiprocessing.connection"


def _settings(folder: Path) -> Settings:
    return Settings(rounds=2, seconds=0.02, idle_clients=0, cpu=0, folder=folder)


def test_a_case_is_measured_in_both_placements(tmp_path: Path) -> None:
    case = Case("echo", "a call", "echo", "us", base="echo", peers=True)
    with Workers(tmp_path) as workers:
        results = run_case(case, [PEER], _settings(tmp_path), Floor(tmp_path), workers)
        pids = workers.get(PEER).pids
    assert [(result.placement, result.who) for result in results] == [
        (ONE_CPU, C), (ONE_CPU, PEER), (FREE, C), (FREE, PEER)]  # fmt: skip
    assert all(result.failed is None and len(result.values) == 2 for result in results)
    assert all(len(result.ratios) == (0 if result.who == C else 2) for result in results)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def test_what_is_not_offered_is_left_out(tmp_path: Path) -> None:
    case = Case("nested", "a callback", "nested", "us", peers=True, placements=(FREE,))
    with Workers(tmp_path) as workers:
        assert run_case(case, [PEER], _settings(tmp_path), Floor(tmp_path), workers) == []


def test_a_failure_is_reported_and_the_next_case_gets_a_fresh_process(tmp_path: Path) -> None:
    with Workers(tmp_path) as workers:
        worker = workers.get(PEER)
        with pytest.raises(WorkerFailed, match="offers no nested"):
            worker.ask("nested", 0.01, 0)
        workers.drop(PEER)
        assert workers.get(PEER) is not worker
        assert workers.get(PEER).ask("echo", 0.01, 0)["calls"] >= 3


def test_a_process_that_ends_is_a_failure_not_a_hang(tmp_path: Path) -> None:
    with Workers(tmp_path) as workers:
        worker = workers.get(PEER)
        os.kill(worker.pids[0], 9)
        with pytest.raises(WorkerFailed, match="its process ended"):
            worker.ask("echo", 0.01, 0)


def test_placing_is_undone() -> None:
    before = os.sched_getaffinity(0)
    with placed([os.getpid()], min(before)):
        assert os.sched_getaffinity(0) == {min(before)}
    assert os.sched_getaffinity(0) == before


def test_units() -> None:
    timed = {"median_ns": 2000.0, "p99_ns": 4000.0}
    assert in_unit("us", timed, 0) == (2.0, 4.0)
    assert in_unit("ms", timed, 0) == (0.002, 0.004)
    assert in_unit("GB/s", timed, 10_000) == (5.0, 2.5)
    assert in_unit("/s", {"per_second": 7.0}, 0) == (7.0, None)
