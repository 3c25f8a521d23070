"""tests/kernel/share.py: every test is run by one process."""

from __future__ import annotations

import pytest

from tests.kernel import share


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


def test_each_process_reports_for_itself() -> None:
    assert "--junitxml=/results/junit-1.xml" in share.command(1, ["-k", "x"])
    assert share.command(0, ["-k", "x"])[-2:] == ["-k", "x"]
