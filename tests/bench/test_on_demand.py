"""The on-demand case: one line with the bar, one for each part; a failure is a result."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import on_demand
from bench.peers.own import Own
from bench.runner import Settings, WorkerFailed, Workers


def _settings(folder: Path) -> Settings:
    return Settings(rounds=2, seconds=0.02, idle_clients=0, cpu=None, folder=folder)


class _Told(Workers):
    """Answers for the client process."""

    def __init__(self, folder: Path, answers: list[dict[str, float] | str]) -> None:
        super().__init__(folder)
        self._answers = answers
        self.given_up: list[str] = []

    def get(self, name: str) -> _Told:  # type: ignore[override]
        return self

    def ask(self, action: str, seconds: float, number: int) -> dict[str, float]:
        answer = self._answers.pop(0)
        if isinstance(answer, str):
            raise WorkerFailed(answer)
        return answer

    def give_up(self, name: str, action: str) -> None:
        self.given_up.append(action)


NUMBERS = {"median_ns": 90e6, "p99_ns": 99e6, "spawn_ns": 20e6, "import_ns": 60e6, "register_ns": 10e6}


def test_the_whole_has_the_bar_and_the_parts_have_none(tmp_path: Path) -> None:
    whole, *parts = on_demand.measure_on_demand(_settings(tmp_path), _Told(tmp_path, [NUMBERS]))
    assert (whole.value, whole.p99, str(whole.bar), whole.met) == (90, 99, "≤ 250", True)
    assert [(part.value, part.bar) for part in parts] == [(20, None), (60, None), (10, None)]
    assert "on-demand" in Own.offers


def test_a_slow_start_misses_the_bar(tmp_path: Path) -> None:
    whole, *_ = on_demand.measure_on_demand(_settings(tmp_path), _Told(tmp_path, [{**NUMBERS, "median_ns": 251e6}]))
    assert whole.met is False


@pytest.mark.parametrize("text", ["no daemon", "no answer"])
def test_a_failure_is_a_result(tmp_path: Path, text: str) -> None:
    workers = _Told(tmp_path, [text])
    (whole,) = on_demand.measure_on_demand(_settings(tmp_path), workers)
    assert (whole.failed, whole.met, workers.given_up) == (text, False, ["on-demand"])
