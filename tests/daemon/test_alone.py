"""daemon/alone.py: one daemon for each runtime directory, and what a second one does not do."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import pytest

from binderkit import samgr
from binderkit.daemon import alone
from binderkit.errors import RefusedError
from tests.samgr.on_demand import write_profile
from tests.samgr.processes import WAIT, ask, samgr_process


def nobody() -> bool:
    """Say that no SAMgr answers."""
    return False


def test_a_second_daemon_leaves_the_services_of_the_first_alone(device: Path) -> None:
    write_profile(device / "profiles", "one", 0x100, "Lazy")
    with samgr_process():
        held = samgr.load_system_ability(0x100, timeout=10)
        pid, tokens = ask(held, 2), (device / "tokens.json").read_bytes()
        second = subprocess.run(
            [sys.executable, "-m", "binderkit.daemon"], capture_output=True, text=True, timeout=WAIT, check=False
        )
        assert second.returncode == 1 and f"a SAMgr runs in {device} already" in second.stderr
        assert "adopted" not in second.stderr
        assert ask(held, 2) == pid
        assert (device / "tokens.json").read_bytes() == tokens


def test_one_that_cannot_listen_leaves_the_services_it_took_over_alone(device: Path) -> None:
    write_profile(device / "profiles", "one", 0x100, "Lazy")
    with samgr_process() as first:
        held = samgr.load_system_ability(0x100, timeout=10)
        pid = ask(held, 2)
        first.kill()
        first.wait(WAIT)
    (device / "samgr.sock").unlink()
    (device / "samgr.sock").mkdir()
    failed = subprocess.run(
        [sys.executable, "-m", "binderkit.daemon"], capture_output=True, text=True, timeout=WAIT, check=False
    )
    assert failed.returncode == 1 and "adopted process 'one'" in failed.stderr
    assert ask(held, 2) == pid
    (device / "samgr.sock").rmdir()
    with samgr_process():
        assert ask(samgr.get_system_ability(0x100, WAIT), 2) == pid


def test_the_next_one_waits_while_the_last_one_ends(device: Path) -> None:
    entered = threading.Event()

    def next_one() -> None:
        with alone.alone(device, nobody):
            entered.set()

    waiting = threading.Thread(target=next_one)
    with alone.alone(device, nobody):
        waiting.start()
        assert not entered.wait(0.1)
    assert entered.wait(WAIT)
    waiting.join()


def test_it_is_refused_at_once_by_one_that_listens(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "END_WAIT", 3600.0)
    with (
        alone.alone(device, nobody),
        pytest.raises(RefusedError, match="a SAMgr runs in"),
        alone.alone(device, lambda: True),
    ):
        pass


def test_it_is_refused_after_long(device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alone, "END_WAIT", 0.05)
    with (
        alone.alone(device, nobody),
        pytest.raises(RefusedError, match="a SAMgr runs in"),
        alone.alone(device, nobody),
    ):
        pass
    with alone.alone(device, nobody):
        pass
