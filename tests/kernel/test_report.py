"""tests/kernel/guest/report.py: sums over all processes; a former run's reports do not pass for this one's."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.guest import report
from tests.kernel.guest.errors import GuestError

SUITE = '<testsuites><testsuite tests="{}" failures="{}" errors="{}" skipped="{}"/></testsuites>'
PROGRAM = "def used():\n    return 1\n\n\ndef unused():\n    return 2\n\n\nused()\n"


def test_the_counts_of_all_processes_are_added_up() -> None:
    results = {
        "junit-0.xml": SUITE.format(10, 1, 2, 3).encode(),
        "junit-1.xml": SUITE.format(5, 0, 0, 0).encode(),
        "other.xml": b"no report",
    }
    assert report.tests(results) == "9 passed, 1 failed, 2 errors, 3 skipped"
    assert report.tests({"other.xml": b"no report"}) is None


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A source tree of one file, with settings as this package's."""
    (tmp_path / "one.py").write_text(PROGRAM)
    (tmp_path / "pyproject.toml").write_text("[tool.coverage.run]\nparallel = true\nrelative_files = true\n")
    return tmp_path


def test_the_coverage_of_all_processes_becomes_one_table(tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    for _ in range(2):
        subprocess.run([sys.executable, "-m", "coverage", "run", "one.py"], cwd=tree, check=True)
    results = {path.name: path.read_bytes() for path in tree.glob(".coverage.*")}
    assert len(results) == 2
    folder = tmp_path_factory.mktemp("results")
    table = report.coverage(results, folder, tree)
    assert table is not None and (folder / report.TABLE).read_text() == table
    assert table.splitlines()[-1].split() == ["TOTAL", "5", "1", "80%"]
    assert report.coverage({"junit-0.xml": b""}, folder, tree) is None


def test_data_that_cannot_be_joined_is_an_error(tree: Path) -> None:
    with pytest.raises(GuestError, match="coverage combine failed"):
        report.coverage({".coverage.x": b"no database"}, tree, tree)


def test_reports_of_a_former_run_are_removed_and_nothing_else(tmp_path: Path) -> None:
    for name in ("junit-0.xml", "junit-7.xml", ".coverage", "coverage.txt", "notes.txt", "status"):
        (tmp_path / name).touch()
    report.forget(tmp_path)
    report.forget(tmp_path / "missing")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "status"]
