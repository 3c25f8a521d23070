"""The measurements on a device: each does what it says, and nothing of a device is left."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from bench import device
from bench.peers import registry
from bench.runner import Workers

PARTS = ("spawn_ns", "import_ns", "register_ns")


def _pids_of(folder: Path) -> set[int]:
    """The processes that the daemons of ``folder`` wrote about: themselves and those they started."""
    logs = list(folder.glob("*/daemon.log"))
    return {int(pid) for log in logs for pid in re.findall(r"\(pid (\d+)\)", log.read_text())}


@pytest.mark.parametrize("action", device.ACTIONS)
def test_every_measurement_has_its_numbers_and_leaves_nothing(action: str, tmp_path: Path) -> None:
    with Workers(tmp_path) as workers:
        client = workers.get(registry.OWN)
        numbers = client.ask(action, 0.02, 2)
        assert numbers["p99_ns"] >= numbers["median_ns"] > 0
        if action in ("get", "on-demand", "connect"):
            assert numbers["calls"] == 2
        if action == "on-demand":
            assert all(numbers[part] > 0 for part in PARTS)
            assert sum(numbers[part] for part in PARTS) == pytest.approx(numbers["median_ns"], rel=0.5)
        assert client.ask("echo", 0.02, 0)["calls"] >= 3  # the next case can follow
        pids = _pids_of(tmp_path) - {client.pids[0]}
    assert len(pids) >= 2  # the daemon and a service
    assert [pid for pid in pids if os.path.exists(f"/proc/{pid}")] == []


def test_a_daemon_that_does_not_start_is_an_error_with_its_last_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o755)
    monkeypatch.setenv("BINDERKIT_RUNTIME_DIR", str(tmp_path))
    with pytest.raises(RuntimeError, match=r"did not start.*others may enter"), device.device(tmp_path):
        raise AssertionError("there is no device")
