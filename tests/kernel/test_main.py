"""tests/kernel/guest/__main__.py: the command line, and that a skipped run is no passed run."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.guest import __main__ as program
from tests.kernel.guest import packages
from tests.kernel.guest.errors import GuestError


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["--", "python3", "-c", "print('a b')"], "exec python3 -c 'print('\"'\"'a b'\"'\"')'"),
        (["--shell-command", "ls | cat; id"], "ls | cat; id"),
        (["--pytest", "tests/contract -k 'not x'"], f"{program.PYTEST} tests/contract -k 'not x'"),
        ([], program.TESTS),
    ],
)
def test_what_the_guest_runs(words: list[str], lines: str) -> None:
    assert program.script(program.parser().parse_args(words)) == lines


@pytest.mark.parametrize(
    "words", [["--shell-command", "ls", "--", "id"], ["--pytest", "a", "b"], ["--time-limit", "0"], ["--memory", "x"]]
)
def test_a_wrong_command_line_is_refused(words: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        program.main(words)
    assert ended.value.code == 2


def test_a_machine_that_cannot_have_the_guest_is_skipped_and_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert program.main(["--results", str(tmp_path / "results")]) == 77
    assert (tmp_path / "results/status").read_text() == "77\n"
    assert "SKIPPED, nothing was tested: qemu-system-x86_64 is missing" in capsys.readouterr().err


def test_a_guest_that_fails_is_not_skipped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> str:
        raise GuestError("it broke")

    monkeypatch.setattr(packages, "ensure_qemu", fail)
    assert program.main(["--results", str(tmp_path)]) == 1
    assert (tmp_path / "status").read_text() == "1\n"
    assert "FAILED: it broke" in capsys.readouterr().err


def test_results_are_kept_by_name(tmp_path: Path) -> None:
    program._keep({"a": b"1", "deep/b": b"2"}, tmp_path / "new")
    assert (tmp_path / "new/a").read_bytes() == b"1"
    assert (tmp_path / "new/deep/b").read_bytes() == b"2"
