"""tests/kernel/interop: that a wrong outcome is seen as one, and a skipped run as none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel.guest import packages
from tests.kernel.guest.errors import GuestError, GuestUnavailable
from tests.kernel.interop import __main__ as program
from tests.kernel.interop import inside

GOOD = {
    "binder-list": "4242\ndemo.echo\n",
    "binder-ping": "OK\n",
    "binder-call": '43 "demo.IEcho hi from 0"U \n',
    "python3-gbinder": "reply 0 (True, 42) demo.IEcho hello from 0\nnobody (None, 0)\n",
    "list after its end": "",
}
"""What the programs print when all is well."""
BAD = {
    "binder-list": ["", "demo.echo\n", "4242\n", "14242\ndemo.echo\n"],
    "binder-ping": ["FAILED\n", ""],
    "binder-call": ['42 "demo.IEcho hi from 0"U \n', '43 "hi"U\n', ""],
    "python3-gbinder": ["", "reply 0 (True, 42) demo.IEcho hello from 0\nnobody (<RemoteObject>, 0)\n"],
    "list after its end": ["4242\n"],
}


def printing(check: inside.Check, text: str) -> inside.Check:
    """Return the check with a program that prints ``text``."""
    command = (sys.executable, "-c", f"import sys; sys.stdout.write({text!r}); sys.exit(2)")
    return inside.Check(check.title, command, check.expected)


@pytest.mark.parametrize("check", (*inside.CHECKS, inside.GONE), ids=lambda check: check.title)
def test_each_program_is_judged_by_what_it_prints(check: inside.Check) -> None:
    assert inside.outcome(printing(check, GOOD[check.title])) is None
    for text in BAD[check.title]:
        assert inside.outcome(printing(check, text)) == f"exit status 2, printed {text!r}"


def test_a_program_that_waits_for_ever_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inside, "PATIENCE", 0.2)
    wrong = inside.outcome(inside.Check("x", (sys.executable, "-c", "input()"), ""))
    assert wrong is None or "exit status" in wrong, "its standard input is empty"
    assert inside.outcome(inside.Check("x", ("sleep", "60"), "")) == "not done after 0 s"


def test_what_becomes_true_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"test -e {tmp_path}/x && echo yes; touch {tmp_path}/x"
    assert inside.outcome_in_time(inside.Check("x", ("sh", "-c", script), "yes")) is None
    monkeypatch.setattr(inside, "PATIENCE", 0.5)
    assert inside.outcome_in_time(inside.Check("x", ("true",), "yes")) == "exit status 0, printed ''"


def run(script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a Python without threads, as the one in the guest is: it forks."""
    whole = f"from tests.kernel.interop import inside\n{script}"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    return subprocess.run(
        [sys.executable, "-c", whole], env=environment, capture_output=True, text=True, check=False, timeout=30
    )


def test_a_process_serves_until_it_is_ended() -> None:
    done = run(
        "with inside.forked(lambda level: print('level', level, flush=True), 27) as process:\n"
        "    process.kill()\n"
        "    process.kill()"
    )
    assert (done.stdout, done.stderr, done.returncode) == ("level 27\n", "", 0)


def test_a_process_that_fails_says_why() -> None:
    done = run("def broken(level): raise RuntimeError('no such level')\nwith inside.forked(broken, 27): pass")
    assert "RuntimeError: no such level" in done.stderr
    assert done.stderr.rstrip().endswith("ChildProcessError: broken failed at level 27: see above")


@pytest.mark.parametrize(("wrong", "status"), [(None, 0), ("it broke", 1)])
def test_the_table_has_a_row_for_each_level(
    wrong: str | None, status: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tried = []

    def try_level(level: int, device: str) -> dict[str, str | None]:
        tried.append((level, device))
        return {"binder-list": None, "binder-ping": wrong if level == 30 else None}

    monkeypatch.setattr(inside, "try_level", try_level)
    assert inside.main(["27", "30"]) == status
    assert tried == [(27, "/dev/b0"), (30, "/dev/b1")]
    said = capsys.readouterr().out
    assert said.count("WRONG") == status and ("level 30, binder-ping: it broke" in said) == bool(status)


@pytest.mark.parametrize(
    ("error", "status", "word"), [(GuestUnavailable("no sid"), 77, "SKIPPED"), (GuestError("broken"), 1, "FAILED")]
)
def test_what_cannot_be_tested_is_skipped_and_what_fails_fails(
    error: GuestError, status: int, word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> str:
        raise error

    monkeypatch.setattr(packages, "ensure_qemu", fail)
    assert program.main([]) == status
    assert word in capsys.readouterr().err


def test_the_guest_runs_the_levels_that_are_wanted() -> None:
    lines = program.script(program.parser().parse_args(["27", "36"]).levels)
    assert lines.endswith("exec python3 -m tests.kernel.interop.inside 27 36")
    assert program.script(program.parser().parse_args([]).levels).endswith("27 28 29 30 31 33 35 36")
    subprocess.run(["sh", "-n"], input=lines, text=True, check=True)


def test_the_client_is_a_program_of_its_own() -> None:
    assert "import gbinder" in inside.CLIENT.read_text() and "import binderkit" not in inside.CLIENT.read_text()
