"""tests/kernel/share.py: every test is run by one process."""

from __future__ import annotations

import os
import subprocess

import pytest

from tests.kernel import share
from tests.kernel.share import Share


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_every_item_is_in_one_share(count: int) -> None:
    items = list("abcdef")
    shares = [share.own(items, f"{number}/{count}") for number in range(count)]
    assert sorted(item for own, _ in shares for item in own) == items
    assert all(sorted([*own, *others]) == items for own, others in shares)


def test_a_process_runs_its_share_of_what_was_chosen(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytester.makepyfile("import pytest\n@pytest.mark.parametrize('n', list('abcdx'))\ndef test(n): pass")
    monkeypatch.setenv("SHARE", "1/2")
    ran = pytester.runpytest_inprocess("-p", "tests.kernel.share", "-k", "not x", "-v")
    ran.assert_outcomes(passed=2, deselected=3)
    ran.stdout.fnmatch_lines(["*test?b? PASSED*", "*test?d? PASSED*"])


def test_each_process_reports_for_itself_and_has_its_device() -> None:
    share = Share(1, 2, measured=False)
    words = share.command(["-k", "x"])
    assert words[1:3] == ["-m", "pytest"] and words[-2:] == ["-k", "x"]
    assert "--junitxml=/results/junit-1.xml" in words
    assert share.environment() == {"SHARE": "1/2", "BINDERKIT_DEVICE": "/dev/b1"}


def test_what_is_measured_goes_to_the_results() -> None:
    share = Share(0, 2, measured=True)
    assert share.command([])[1:5] == ["-m", "coverage", "run", "-m"]
    assert share.environment()["COVERAGE_FILE"] == "/results/.coverage"


@pytest.mark.parametrize(("words", "measured"), [(["--coverage", "-k", "x"], True), (["-k", "x"], False)])
def test_the_first_word_says_whether_it_is_measured(
    words: list[str], measured: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = []

    def start(self: Share, arguments: list[str], output: object) -> subprocess.Popen[bytes]:
        started.append((self.measured, arguments))
        return subprocess.Popen(["sh", "-c", f"exit {self.number}"])

    monkeypatch.setattr(Share, "start", start)
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    assert share.main(words) == 1, "the worst of both"
    assert started == [(measured, ["-k", "x"])] * 2
