"""Fixtures with a real SAMgr."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from binderkit import process
from tests.samgr.processes import samgr_process


@pytest.fixture
def device(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory where SAMgr is never started on its own; our driver is closed at the end."""
    monkeypatch.setenv("BINDERKIT_NO_AUTOSTART", "1")
    process.shutdown()
    try:
        yield runtime_dir
    finally:
        process.shutdown()


@pytest.fixture
def running_samgr(device: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A SAMgr process."""
    with samgr_process() as running:
        yield running
