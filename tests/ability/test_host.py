"""host.py: the process of a bundle, from its start to every kind of end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from binderkit.ability import connect
from tests.ability.clients import connected, journal, want
from tests.ability.contracts import IRecorder
from tests.ability.device import WAIT, wait_for_end

Device = subprocess.Popen[bytes]


def run_host(**environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "binderkit.ability.host"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=WAIT,
    )


def test_by_hand_it_says_who_starts_it() -> None:
    ended = run_host(BINDERKIT_BUNDLE="")
    assert ended.returncode == 1
    assert "BINDERKIT_BUNDLE is not set: hosts of abilities are started by the ability manager" in ended.stderr


def test_a_folder_without_a_manifest_is_named(tmp_path: Path) -> None:
    ended = run_host(BINDERKIT_BUNDLE=str(tmp_path))
    assert ended.returncode == 1
    assert f"ability host for {tmp_path}" in ended.stderr and "there is no manifest" in ended.stderr


def test_who_was_not_started_by_the_manager_is_refused(directory: Path) -> None:
    ended = run_host(BINDERKIT_BUNDLE=str(directory / "bundles" / "test.bundle"))
    assert ended.returncode == 1
    assert "was not started by the ability manager" in ended.stderr


def test_sigterm_destroys_what_lives_and_the_clients_learn_it(directory: Path) -> None:
    _, recorder, told = connected("Recorder")

    pid = recorder.pid()
    os.kill(pid, signal.SIGTERM)

    wait_for_end(pid)
    assert told.next()[0] == "disconnect"
    assert journal(directory) == ["Recorder create", "Recorder connect", "Recorder destroy"]


@pytest.mark.slow
def test_a_hung_ability_does_not_keep_the_process_alive(device: Device, installed: Path) -> None:
    with connect(want("HangsAtDestroy"), IRecorder) as recorder:
        pid = recorder.pid()
        device.kill()
        device.wait(WAIT)
    wait_for_end(pid)
