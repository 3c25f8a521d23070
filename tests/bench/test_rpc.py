"""binderkit between devices as a contender: what only it offers is measured, and its devices end with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from bench.peers import registry
from bench.runner import Workers


@pytest.mark.slow
@pytest.mark.timeout(120)
def test_deaths_are_measured_and_calls_go_on_after_them(runtime_dir: Path) -> None:
    with Workers(runtime_dir) as workers:
        client = workers.get(registry.RPC)
        assert client.ask("death", 0.02, 2)["calls"] == 2
        assert client.ask("silent", 0.02, 0)["median_ns"] > 1e9  # no sooner than the others may be silent
        assert client.ask("death", 0.02, 1)["calls"] == 1
        assert client.ask("echo", 0.02, 0)["calls"] >= 3
    assert len(client.pids) == 6
    assert not [pid for pid in client.pids if os.path.exists(f"/proc/{pid}")]
