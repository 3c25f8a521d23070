"""From rounds to one number, and to a table."""

from __future__ import annotations

import json

from bench.cases import FREE, ONE_CPU, at_most, at_most_times
from bench.results import C, Result, table, verdict


def _results() -> list[Result]:
    floor = Result("echo", "a call", ONE_CPU, C, "us", values=[8.0, 9.0, 10.0], p99s=[20.0])
    own = Result("echo", "a call", ONE_CPU, "binderkit", "us", values=[12.0, 100.0, 11.0], ratios=[1.5, 11.1, 1.1])
    own.bar = at_most_times(1.8)
    failed = Result("death", "a death", FREE, "binderkit", "ms", bar=at_most(5), failed="no notice")
    return [floor, own, failed]


def test_one_disturbed_round_does_not_move_the_number() -> None:
    _, own, _ = _results()
    assert (own.value, own.ratio, own.met) == (12.0, 1.5, True)


def test_a_failed_case_misses_its_bar_and_says_why() -> None:
    floor, _, failed = _results()
    assert (floor.met, failed.value, failed.met) == (None, None, False)
    assert "no notice" in table([failed])


def test_the_table_is_aligned_and_names_a_case_once() -> None:
    lines = table(_results()).splitlines()
    assert lines[2].startswith("a call") and lines[3].startswith("      ")
    assert len({line.index(unit) for line, unit in zip(lines[2:4], ("us", "us"), strict=True)}) == 1
    assert "ok" in lines[3] and "MISS" in lines[4]


def test_the_verdict_names_what_was_missed() -> None:
    assert verdict(_results()) == "1 of 2 bars met; missed: death (free)"


def test_everything_goes_into_json() -> None:
    document = json.loads(json.dumps([result.as_json() for result in _results()]))
    assert document[1]["rounds"] == [12.0, 100.0, 11.0]
    assert document[2]["bar_met"] is False
