"""A small device for the tests of abilities: SAMgr and the ability manager in one process, as the daemon has them.

``python -m tests.ability.device READY_FD UNIT SOFTBUS``: listens in the runtime directory; writes R to READY_FD.
SOFTBUS is the pid of the process that may speak for this device, 0: none.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from binderkit import process
from binderkit.ability.codes import ABILITY_MANAGER_ID, SCHEDULER_ID
from binderkit.ability.manifest import BundleDirectory
from binderkit.ability.service import AbilityManagerService
from binderkit.daemon.place import place_of
from binderkit.driver.runtime import runtime_dir
from binderkit.driver.unix.ending import Ending
from binderkit.driver.unix.rendezvous import same_user
from binderkit.ipc.driver import current_driver
from binderkit.ipc.invocation import PERMISSION
from binderkit.ipc.remote import IRemoteObject
from binderkit.samgr.client import SystemAbilityManagerClient
from binderkit.samgr.policy import Policy
from binderkit.samgr.service import SystemAbilityManager
from binderkit.samgr.supervisor import Supervisor
from binderkit.samgr.token_service import TokenService
from binderkit.samgr.tokens import TokenRegistry

WAIT = 20.0
"""Seconds after which something that should come is missing."""


def run(ready_fd: int, unit: float, softbus: int) -> None:
    """Be the device until SIGTERM."""
    directory = runtime_dir()
    tokens = TokenRegistry(directory)
    if softbus:
        tokens.issue(softbus, name="softbus", permissions=[PERMISSION])
    token_service = TokenService(tokens)
    token_service.install()

    def scheduler() -> IRemoteObject | None:
        return SystemAbilityManagerClient(system).check_system_ability(SCHEDULER_ID)

    supervisor = Supervisor(directory, on_exit=lambda *ended: manager.process_exited(*ended), tokens=tokens)
    manager = AbilityManagerService(
        supervisor, BundleDirectory(directory / "bundles"), tokens, unit=unit, scheduler=scheduler
    )
    system = SystemAbilityManager(Policy(), parts=[token_service], permitted=token_service.permits)
    end = place_of(current_driver(), directory).take(system, same_user)
    SystemAbilityManagerClient(system).add_system_ability(ABILITY_MANAGER_ID, manager)
    with Ending() as ending:
        os.write(ready_fd, b"R")
        os.close(ready_fd)
        ending.wait()
    manager.close()
    supervisor.close(leave=False)
    end()
    token_service.close()
    process.shutdown()


@contextmanager
def device_process(unit: float = 1.0, *, softbus: int = 0) -> Iterator[subprocess.Popen[bytes]]:
    """Run a device in the current runtime directory; yields when it listens. ``softbus``: who may speak for it."""
    ready, done = os.pipe()
    with open(ready, "rb") as listening:
        command = [sys.executable, "-m", "tests.ability.device", str(done), str(unit), str(softbus)]
        log = open(runtime_dir() / "device.log", "ab")
        with log:
            running = subprocess.Popen(command, pass_fds=[done], stderr=log)
        os.close(done)
        try:
            assert listening.read() == b"R"
            yield running
        finally:
            running.terminate()
            running.wait(WAIT)


def hosts(directory: Path) -> list[int]:
    """Return the pids of the ability hosts of a device that run."""
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            line = Path(f"/proc/{name}/cmdline").read_bytes()
            environment = Path(f"/proc/{name}/environ").read_bytes()
        except OSError:
            continue  # ended meanwhile
        if b"binderkit.ability.host" in line and os.fsencode(directory) in environment:
            found.append(int(name))
    return found


def wait_until_no_host_runs(directory: Path) -> None:
    """Return when every ability host of a device ended."""
    until = time.monotonic() + WAIT
    while left := hosts(directory):
        assert time.monotonic() < until, f"ability hosts are left: {left}"
        for pid in left:
            wait_for_end(pid)


def wait_for_end(pid: int) -> None:
    """Return when a process, which need not be a child, ended."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        poller = select.poll()
        poller.register(pidfd, select.POLLIN)
        assert poller.poll(WAIT * 1000), f"process {pid} did not end"
    finally:
        os.close(pidfd)


if __name__ == "__main__":
    run(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]))
