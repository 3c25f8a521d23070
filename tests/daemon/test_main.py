"""daemon/__main__.py: the process, its beginning and its ends."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.samgr.processes import WAIT, listed, samgr_process


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "binderkit.daemon", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_and_its_socket_is_gone(device: Path, number: signal.Signals) -> None:
    with samgr_process() as process:
        assert (device / "samgr.sock").exists()
        process.send_signal(number)
        assert process.wait(WAIT) == 0
        assert not (device / "samgr.sock").exists()


def test_a_second_one_is_refused_and_the_first_goes_on(running_samgr: subprocess.Popen[bytes], device: Path) -> None:
    second = run()
    assert second.returncode == 1
    assert f"a SAMgr runs in {device} already" in second.stderr and "Traceback" not in second.stderr
    assert listed() == []


def test_a_killed_one_leaves_a_stale_socket_that_the_next_one_replaces(device: Path) -> None:
    with samgr_process() as first:
        first.kill()
        first.wait(WAIT)
    assert (device / "samgr.sock").exists()
    with samgr_process():
        assert listed() == []


def test_it_runs_although_whoever_started_it_is_gone(device: Path) -> None:
    waiting, ready = os.pipe()
    os.close(waiting)
    with open(ready, "wb") as end:
        command = [sys.executable, "-m", "binderkit.daemon", "--ready-fd", str(ready)]
        daemon = subprocess.Popen(command, pass_fds=[ready], stderr=subprocess.PIPE, text=True)
        end.close()
    try:
        assert daemon.stderr is not None
        assert any("does not wait for it any more" in line for line in daemon.stderr)
        assert listed() == []
    finally:
        daemon.terminate()
        daemon.communicate(timeout=WAIT)
    assert daemon.returncode == 0


def test_a_wrong_policy_file_is_told_and_nothing_starts(device: Path) -> None:
    (device / "policy.toml").write_text("[[allow]]\nuid = 'bob'\nids = '*'\n")
    ended = run()
    assert ended.returncode == 1
    assert "policy.toml: rule 1: uid 'bob' is no user number" in ended.stderr
    assert not (device / "samgr.sock").exists()
    assert "none.toml" in run("--policy", str(device / "none.toml")).stderr


def test_androids_programs_need_a_binder_device(device: Path) -> None:
    by_option = run("--android", "30")
    (device / "policy.toml").write_text("android = 31\n")
    by_policy = run()
    for ended, level in ((by_option, 30), (by_policy, 31)):
        assert ended.returncode == 1 and "Traceback" not in ended.stderr
        assert f"Android's programs (API level {level}) find SAMgr on a binder device only" in ended.stderr
    assert not (device / "samgr.sock").exists()


def test_a_binder_device_that_is_not_there_is_told(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERKIT_DRIVER", "kernel")
    monkeypatch.setenv("BINDERKIT_DEVICE", str(device / "binder"))
    ended = run()
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert f"there is no binder device {device / 'binder'}: load the module" in ended.stderr


@pytest.fixture
def doomed_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory that the test itself removes."""
    path = Path(tempfile.mkdtemp(prefix="bk-"))
    monkeypatch.setenv("BINDERKIT_RUNTIME_DIR", str(path))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def test_it_ends_when_its_directory_is_removed(doomed_dir: Path) -> None:
    with samgr_process() as process:
        shutil.rmtree(doomed_dir)
        assert process.wait(WAIT) == 0


def test_a_runtime_directory_that_cannot_be_used_is_told(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (device / "file").touch()
    for directory, why in ((device / "file", "File exists"), (device / "open", "others may enter")):
        (device / "open").mkdir(mode=0o755, exist_ok=True)
        monkeypatch.setenv("BINDERKIT_RUNTIME_DIR", str(directory))
        ended = run()
        assert ended.returncode == 1
        assert why in ended.stderr and ended.stderr.startswith("binderkit daemon: ") and "Traceback" not in ended.stderr
