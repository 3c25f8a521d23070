"""Client processes: bounded, replaced after a failure, ended with all they started."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.cases import FREE, ONE_CPU, Case, at_most_times
from bench.floor import Floor
from bench.machine import placed
from bench.peers import registry
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


def test_a_ratio_can_be_to_another_contender_in_the_same_round(tmp_path: Path) -> None:
    base = "multiprocessing.managers"
    case = Case("echo", "a call", "echo", "us", base=f"peer:{base}", peers=True, placements=(FREE,))
    with Workers(tmp_path) as workers:
        first, second = run_case(case, [PEER, base], _settings(tmp_path), Floor(tmp_path), workers)
        assert run_case(case, [PEER], _settings(tmp_path), Floor(tmp_path), workers) == []
    assert (first.who, second.who) == (base, PEER)
    assert first.ratios == []
    assert second.ratios == [ours / theirs for ours, theirs in zip(second.values, first.values, strict=True)]


class _Scripted(Workers):
    """Client processes that answer as they are told to."""

    def __init__(self, folder: Path, answers: dict[str, list[float | str]]) -> None:
        super().__init__(folder)
        self._answers = answers

    def get(self, name: str) -> _Client:  # type: ignore[override]
        return _Client(self._answers[name])


class _Client:
    offers = frozenset({"echo"})
    pids: tuple[int, ...] = ()

    def __init__(self, answers: list[float | str]) -> None:
        self._answers = answers

    def ask(self, action: str, seconds: float, number: int) -> dict[str, float]:
        answer = self._answers.pop(0)
        if isinstance(answer, str):
            raise WorkerFailed(answer)
        return {"median_ns": answer, "p99_ns": answer}


def test_no_ratio_is_taken_to_a_contender_that_failed(tmp_path: Path) -> None:
    case = Case("remote", "a call", "echo", "us", base="peer:zenoh", between_devices=True, placements=(FREE,),
                bar=at_most_times(2), bar_placement=FREE)  # fmt: skip
    workers = _Scripted(tmp_path, {"zenoh": [1e3, "gone"], registry.RPC: [2e3, 9e3]})
    base, ours = run_case(case, [registry.OWN, registry.RPC, "zenoh"], _settings(tmp_path), Floor(tmp_path), workers)
    assert (base.failed, base.values) == ("gone", [1.0])
    assert (ours.values, ours.ratios, ours.met) == ([2.0, 9.0], [2.0], True)


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
    assert in_unit("s", {"median_ns": 2e9, "p99_ns": 4e9}, 0) == (2.0, 4.0)
    assert in_unit("MB/s", timed, 10_000) == (5000.0, 2500.0)
    assert in_unit("GB/s", timed, 10_000) == (5.0, 2.5)
    assert in_unit("/s", {"per_second": 7.0}, 0) == (7.0, None)
