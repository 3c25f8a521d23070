"""``binderkit demo``, as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "binderkit.cli.main", "demo"]
WAIT = 50.0


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo puts its temporary files, so that what it leaves behind is seen."""
    path = tmp_path / "t"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    return path


def processes_of(directory: Path) -> list[int]:
    """Return the processes whose environment names a runtime directory under ``directory``."""
    wanted = f"BINDERKIT_RUNTIME_DIR={directory}".encode()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path(f"/proc/{name}/environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended meanwhile, or not ours
        if wanted in environment:
            found.append(int(name))
    return found


def test_every_step_is_right_and_nothing_is_left_behind(temporary: Path) -> None:
    ended = subprocess.run(COMMAND, capture_output=True, text=True, timeout=WAIT, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    assert len(re.findall(r"✓ [\d.]+ ms", ended.stdout)) == 7
    assert len(re.findall(r"received +\d+ × \d+ +[\d,]+ bytes, called back by process \d+", ended.stdout)) == 8
    assert re.search(r"the death notice came [\d.]+ ms after the kill", ended.stdout)
    assert "every step was right" in ended.stdout
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_leaves_nothing_behind(temporary: Path, number: signal.Signals) -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "received 1600" in line:
                demo.send_signal(number)
                break
        demo.stdout.read()
        assert demo.wait(WAIT) == 128 + number
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []
