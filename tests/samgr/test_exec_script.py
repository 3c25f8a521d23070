"""samgr/exec_script.py: run as launch.py runs it, with mistakes that launch.py does not make. More: test_launch.py."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from binderkit.samgr import exec_script

WAIT = 20.0


def run(*arguments: str, gate: bytes = b"g") -> tuple[int, str, str]:
    """Run the script with a gate that gives ``gate``; return exit code, status, and what the command printed."""
    gate_end, gate_fd = os.pipe()
    status, status_end = os.pipe()
    shell = f'exec {sys.executable} -I -S {exec_script.__file__} "$@" 3<&{gate_end} 4>&{status_end}'
    try:
        with subprocess.Popen(
            ["bash", "-c", shell, "bash", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            pass_fds=[gate_end, status_end],
        ) as process:
            os.write(gate_fd, gate)
            os.close(gate_fd)
            os.close(status_end)
            gate_fd = status_end = -1
            out, _ = process.communicate(timeout=WAIT)
            with os.fdopen(os.dup(status), "rb") as told:
                return process.returncode, told.read().decode(), out.decode()
    finally:
        for fd in (gate_end, gate_fd, status, status_end):
            if fd >= 0:
                os.close(fd)


def test_the_command_runs_when_the_gate_opens_and_the_status_is_empty() -> None:
    assert run("nice=1", "--", "sh", "-c", "echo $PWD; umask") == (0, "", "/\n0077\n")


def test_without_a_byte_at_the_gate_nothing_runs() -> None:
    assert run("--", "echo", "ran", gate=b"") == (1, "", "")
    assert run("--", "echo", "ran", gate=b"x") == (1, "", "")


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["echo"], "is not in list"),
        (["speed=1", "--", "echo"], "speed"),
        (["nice=x", "--", "echo"], "invalid literal"),
        (["--", "/no/such"], "program '/no/such': No such file or directory"),
    ],
)
def test_what_fails_is_described_and_nothing_runs(arguments: list[str], why: str) -> None:
    code, status, out = run(*arguments)
    assert (code, out) == (127, "") and why in status


def test_limits_that_may_not_be_raised_are_told() -> None:
    """As a user without privileges: the limits of whoever starts it are a ceiling."""
    code = (
        "import os, resource, sys\n"
        "sys.path[:0] = [sys.argv[1]]\n"
        "import exec_script\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (100, 100))\n"
        "resource.setrlimit(resource.RLIMIT_CPU, (1000, 1000))\n"
        "if os.geteuid() == 0: os.setgid(65534), os.setuid(65534)\n"
        "for name, value in (('open_files', 200), ('nice', -5)):\n"
        "    try: exec_script._set_limit(name, value)\n"
        "    except OSError as error: print(error)\n"
        "exec_script._set_limit('cpu_seconds', 998)\n"
        "print(resource.getrlimit(resource.RLIMIT_CPU))\n"
    )
    folder = os.path.dirname(exec_script.__file__)
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, folder], capture_output=True, text=True, timeout=WAIT, check=False
    )
    assert done.stdout.splitlines() == [
        "open_files = 200 is above the limit of whoever started the device, 100",
        "nice = -5: Permission denied; only root may go below the present value",
        "(998, 1000)",
    ], done.stderr
