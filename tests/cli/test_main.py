"""cli/main.py: exit codes, errors in one line, and a missing package; as real commands."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

import binderkit as bk
from binderkit.cli.main import _one_line, main
from tests.samgr.processes import WAIT, listed

Samgr = subprocess.Popen[bytes]
Capture = pytest.CaptureFixture[str]


def run(*arguments: str, code: str | None = None) -> subprocess.CompletedProcess[str]:
    start = ["-c", code] if code is not None else ["-m", "binderkit.cli.main"]
    command = [sys.executable, *start, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False)


def test_an_error_is_one_line_and_exit_code_1(device: Path) -> None:
    ended = run("list")
    assert ended.returncode == 1 and ended.stdout == ""
    assert ended.stderr == f"binderkit: no SAMgr runs in {device}; start one with 'binderkit samgr', or unset " + (
        "BINDERKIT_NO_AUTOSTART [code 1007]\n"
    )


ERRORS = [
    (["ping", "tests.none"], "no system ability 'tests.none' is registered"),
    (["call", "0", "4711"], "SAMgr does not know transaction 4711"),
    (["call", "0", "0x1000000"], "transaction code"),
    (["call", "0", "1", "fd", "/does/not/exist"], "No such file"),
]


def test_every_error_of_ours_or_the_systems_is_one_line(running_samgr: Samgr, capsys: Capture) -> None:
    """In this process; the first test above shows that the command does the same."""
    for arguments, why in ERRORS:
        assert main(arguments) == 1, arguments
        text = capsys.readouterr().err
        assert why in text and text.count("\n") == 1, arguments


def test_a_policy_that_is_not_there_is_one_line(device: Path) -> None:
    ended = run("samgr", "--policy", "/does/not/exist")
    assert ended.returncode == 1
    assert "policy file /does/not/exist" in ended.stderr and ended.stderr.count("\n") == 1


def test_androids_programs_cannot_be_answered_over_sockets_in_one_line(device: Path) -> None:
    ended = run("samgr", "--android", "30")
    assert ended.returncode == 1
    assert "Android's programs (API level 30) find SAMgr on a binder device only" in ended.stderr
    assert ended.stderr.count("\n") == 1


def test_a_services_traceback_does_not_fill_the_screen() -> None:
    error = bk.RemoteError("ValueError: bad\n\nRemote traceback:\n  File ...\n", type_name="ValueError")
    assert _one_line(error) == "ValueError: bad (--debug shows all of it) [code 4]"
    assert _one_line(bk.DeadObjectError()) == "DeadObjectError [code -32]"
    assert _one_line(FileNotFoundError(2, "No such file", "/x")) == "[Errno 2] No such file: '/x'"


def test_debug_shows_the_traceback(device: Path) -> None:
    ended = run("--debug", "list")
    assert ended.returncode == 1
    assert "Traceback" in ended.stderr and "NoServiceManagerError" in ended.stderr


def test_wrong_usage_is_exit_code_2(device: Path) -> None:
    assert run("fly").returncode == 2


@pytest.mark.parametrize("package", ["typer", "rich"])
def test_a_missing_package_is_named_with_what_to_install(package: str) -> None:
    hidden = f"import sys; sys.modules[{package!r}] = None; from binderkit.cli.main import main; sys.exit(main())"
    ended = run("list", code=hidden)
    assert ended.returncode == 1
    assert "pip install 'binderkit[cli]'" in ended.stderr and ended.stderr.count("\n") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_samgr_command_serves_until_a_signal(device: Path, number: signal.Signals) -> None:
    command = [sys.executable, "-m", "binderkit.cli.main", "samgr"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            assert any("the daemon listens in" in line for line in iter(process.stderr.readline, ""))
            assert listed() == []
        finally:
            process.send_signal(number)
        assert process.wait(WAIT) == 0


def test_importing_the_package_does_not_import_the_command_line() -> None:
    code = (
        "import sys, binderkit, binderkit.samgr; sys.exit(bool({'typer', 'rich', 'click', 'PIL'} & set(sys.modules)))"
    )
    assert run(code=code).returncode == 0
