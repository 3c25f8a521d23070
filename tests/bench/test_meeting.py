"""How soon devices see each other: that it is measured, with devices that are gone afterwards."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from time import monotonic_ns

import pytest

from bench import meeting
from bench.devices import Device


def test_the_start_of_a_process_is_told_in_the_time_of_all_processes() -> None:
    before = monotonic_ns()
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = meeting._started_ns(process.pid)
        assert process.stdin is not None
        process.stdin.close()
    tick = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
    assert before - 2 * tick <= started <= monotonic_ns()


@pytest.mark.slow
@pytest.mark.parametrize("measured", [meeting.strangers, meeting.trusted])
def test_it_is_measured_and_nothing_is_left(
    measured: object, runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert callable(measured)
    pids: list[int] = []
    start = Device.start

    def noted(device: Device) -> None:
        start(device)
        pids.append(device.pid)

    monkeypatch.setattr(Device, "start", noted)
    assert 0 < measured(runtime_dir)["median_ns"] < 20e9
    assert len(pids) == (2 if measured is meeting.strangers else 3)
    assert not [pid for pid in pids if os.path.exists(f"/proc/{pid}")]
