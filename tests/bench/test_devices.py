"""Two devices of the benchmark: they start, say what went wrong, and leave nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench import devices
from bench.devices import Device
from tests.softbus.two_devices import ROOT

PATIENCE = 10.0
_PARENT = """
import subprocess, sys
child = subprocess.Popen([sys.executable, "-m", "bench.bound", "http.server", "--bind", "127.0.0.1", "0"],
                         start_new_session=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
child.stdout.readline()
print(child.pid, flush=True)
sys.stdin.read()
"""


def _eventually(condition: Callable[[], bool]) -> bool:
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.005)  # the interval between two looks
    return condition()


@pytest.fixture
def group() -> str:
    return devices.free_group()


def test_a_program_does_what_it_is_told_and_says_what_it_cannot(runtime_dir: Path, group: str) -> None:
    device = Device(runtime_dir / "a", group)
    try:
        program = device.program()
        program.ask("register", devices.ABILITIES[0])
        with pytest.raises(RuntimeError, match=r"on the other device: online: AssertionError: not within 0\.01 s"):
            program.ask("online", "nobody", 0.01)
        os.kill(program.pid, signal.SIGKILL)
        with pytest.raises(RuntimeError, match="ended"):
            program.answer()
        pids = [device.pid, program.pid]
    finally:
        device.close()
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]


def test_a_daemon_that_does_not_start_says_why(runtime_dir: Path, group: str, monkeypatch: pytest.MonkeyPatch) -> None:
    first = Device(runtime_dir / "a", group)
    try:
        # Another daemon of the same device.
        monkeypatch.setattr(Path, "mkdir", lambda self, mode=0o777: None)
        with pytest.raises(RuntimeError, match="did not start; its last words"):
            Device(runtime_dir / "a", group)
    finally:
        monkeypatch.undo()
        first.close()


def test_a_daemon_is_asked_to_end_when_its_parent_was_killed() -> None:
    parent = subprocess.Popen([sys.executable, "-c", _PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT)
    assert parent.stdin is not None and parent.stdout is not None
    with parent.stdin, parent.stdout:
        pid = int(parent.stdout.readline())
        assert os.path.exists(f"/proc/{pid}")
        parent.kill()
        parent.wait()
        assert _eventually(lambda: not os.path.exists(f"/proc/{pid}"))
