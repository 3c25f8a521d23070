"""cli/demo/processes.py: everything that was started is gone afterwards."""

from __future__ import annotations

import os
import signal

import pytest

from binderkit import samgr
from binderkit.cli.demo import interface
from binderkit.cli.demo.processes import Stage
from tests.samgr.processes import WAIT


def test_a_failure_in_the_middle_leaves_nothing_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERKIT_RUNTIME_DIR", "/somewhere/else")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ZeroDivisionError), Stage() as stage:
        pid = stage.start_samgr()
        service = stage.start_service()
        samgr.wait_for_system_ability(interface.ABILITY, WAIT)
        raise ZeroDivisionError
    assert not stage.directory.exists()
    assert service.poll() is not None
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert os.environ["BINDERKIT_RUNTIME_DIR"] == "/somewhere/else" and "BINDERKIT_NO_AUTOSTART" not in os.environ
    assert signal.getsignal(signal.SIGTERM) == before
