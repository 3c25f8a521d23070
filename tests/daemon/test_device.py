"""daemon/device.py: what a new daemon does with what the last one left."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from binderkit import samgr
from binderkit.ability import Want, list_service_extension_abilities, start_service_extension_ability
from binderkit.daemon import device as daemon_device
from binderkit.driver.unix.pidfds import wait_readable
from tests.samgr.processes import WAIT, samgr_process

MANIFEST = """\
name = "test.echo"
version = "1"
[[ability]]
name = "Echo"
exported = true
entry = "echo_ability.py:Echo"
"""
ECHO = Path(__file__).parents[1] / "stress" / "echo_ability.py"


def bundle(directory: Path) -> None:
    folder = directory / "bundles" / "test.echo"
    folder.mkdir(parents=True, mode=0o700)
    (directory / "bundles").chmod(0o700)
    (folder / "bundle.toml").write_text(MANIFEST)
    shutil.copy(ECHO, folder)


def pid_of_echo() -> int:
    start_service_extension_ability(Want("test.echo", "Echo"))
    (report,) = list_service_extension_abilities()
    return report.pid


@pytest.mark.slow
def test_a_bundles_process_that_does_not_end_with_its_daemon_is_killed_by_the_next(device: Path) -> None:
    bundle(device)
    with samgr_process() as first:
        old = pid_of_echo()
        watched = os.pidfd_open(old)
        os.kill(old, signal.SIGSTOP)  # it cannot notice anything
        first.kill()
        first.wait(WAIT)
    try:
        with samgr_process():
            assert samgr.check_system_ability(180) is not None
            assert pid_of_echo() != old  # its bundle is started anew meanwhile
            assert wait_readable(watched, daemon_device.ORPHAN_WAIT + WAIT), "the old one goes on"
    finally:
        os.close(watched)
