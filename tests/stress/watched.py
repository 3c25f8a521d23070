"""The real daemon with a window: one more ability tells what its process holds, so that leftovers can be counted.

``python -m tests.stress.watched READY-FD START-TIMEOUT`` runs it; Daemon is how a test starts, kills and looks at it.
"""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from pathlib import Path
from typing import Final

from binderkit import limits, samgr
from binderkit.interface import Interface, method, proxy, within
from binderkit.process import local_node
from tests.samgr.processes import WAIT

WINDOW_ID: Final = 0x00F00001
WORKERS: Final = "binderkit-ipc-"
"""How the names of worker threads begin."""
NOT_STARTED: Final = (" tests.stress.watched ", " binderkit.child ")
"""What stands in the command lines of processes of a device that the supervisor did not start."""
WORD: Final = "BINDERKIT_RUNTIME_DIR="


class IWindow(Interface, descriptor="tests.IWindow"):
    """Looks into the daemon."""

    @method
    def look(self) -> dict[str, int]:
        """Return what the daemon's process holds, by kind."""


def device_processes(directory: Path) -> dict[int, str]:
    """Return all living processes that serve the device of a runtime directory: pid -> command line.

    Found by what the kernel says of their environment; the daemon itself and a test's children are not among them.
    """
    wanted, found = f"{WORD}{directory}".encode(), {}
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path(f"/proc/{name}/environ").read_bytes().split(b"\0")
            command = Path(f"/proc/{name}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it ended meanwhile, or is of another user
        if wanted in environment and not any(word in command for word in NOT_STARTED):
            found[int(name)] = command
    return found


class Daemon:
    """A daemon of the current runtime directory that a test starts, kills and starts again.

    Args:
        start_timeout: seconds an ability has from its start until it must be registered.
    """

    def __init__(self, start_timeout: float = limits.START_TIMEOUT) -> None:
        self._start_timeout = start_timeout
        self._log = tempfile.TemporaryFile()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """Its pid."""
        assert self._process is not None
        return self._process.pid

    def start(self, *, wait: bool = True) -> None:
        """Start it; return when it listens, unless ``wait`` is false."""
        ready, done = os.pipe()
        command = [sys.executable, "-m", "tests.stress.watched", str(done), str(self._start_timeout)]
        with open(ready, "rb") as listening:
            self._process = subprocess.Popen(
                command, pass_fds=[done], cwd=Path(__file__).parents[2], stderr=self._log, stdout=self._log
            )
            os.close(done)
            if wait and listening.read() != b"R":
                raise AssertionError(f"the daemon did not start:\n{self.log()}")

    def kill(self) -> None:
        """Kill it; its services go on."""
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(WAIT)

    def close(self) -> None:
        """End it, and with it its services."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(WAIT)
        self._log.close()

    def log(self) -> str:
        """Return what it, and those before it, wrote."""
        return os.pread(self._log.fileno(), 1 << 26, 0).decode(errors="replace")

    def look(self) -> dict[str, int]:
        """Return what its process holds."""
        window = proxy(IWindow, samgr.get_system_ability(WINDOW_ID, WAIT))
        return within(WAIT, window.look)()


def main(ready: str, start_timeout: str) -> int:
    """Be the daemon."""
    limits.START_TIMEOUT = float(start_timeout)  # type: ignore[misc]  # before SAMgr's defaults are made of it
    from binderkit.daemon import __main__ as daemon
    from binderkit.daemon.device import Device
    from binderkit.samgr.client import SystemAbilityManagerClient

    class Window(IWindow):
        """Counts what the parts of the device know."""

        def __init__(self, device: Device) -> None:
            self._device = device

        def look(self) -> dict[str, int]:
            gc.collect()
            node = local_node()
            node.flush_released()
            facts = node.statistics()
            seen = {name: facts[name] for name in ("peers", "exports", "proxies", "held", "orphans", "introductions")}
            own = _own()
            own["descriptors socket"] -= facts["lanes"] + facts["served_lanes"]  # more when clients had more threads
            return seen | own | _records(self._device)

    class Watched(Device):
        """Offers the window with its other abilities."""

        def prepare(self) -> None:
            super().prepare()
            SystemAbilityManagerClient(self.manager).add_system_ability(WINDOW_ID, Window(self), name="tests.window")

    def _records(device: Device) -> dict[str, int]:
        # The parts have no public counts of all this, and need none but for this.
        core, supervisor, tokens = device.manager._core, device._supervisor, device._tokens
        runner, teller, manager = core.runner, core.teller, device._abilities
        with core.lock:
            return {
                "registered": sum(1 for _ in core.table),
                "loads": sum(len(one.waiting) for one in core.lifecycle.abilities),
                "known processes": sum(1 for _ in core.lifecycle.processes),
                "running processes": sum(1 for one in core.lifecycle.processes if one.pid),
                "locals": len(runner._locals),
                "orders": sum(map(len, runner._orders.values())) + len(runner._busy),
                "answers": len(runner._answers),
                "subscriptions": len(teller.subscriptions),
                "mourned": len(teller._mourned),
                "to tell": len(teller._outbox._queues) + len(teller._outbox._busy),
                "waiting calls": len(device.manager._waiters),
                "supervised": len(supervisor._processes) + len(supervisor._starting),
                "abilities": len(manager._pids) + len(manager._hosts) + len(manager._schedulers),
                "connections": len(manager._mourned) + sum(1 for _ in manager._records.abilities()),
                "tokens": len(tokens._by_pid) + len(tokens._by_token),
            }

    daemon.Device = Watched  # type: ignore[misc]
    os.set_inheritable(int(ready), False)
    return daemon.main(["--ready-fd", ready])


def _own() -> dict[str, int]:
    """What the kernel and Python say of this process; worker threads come and go, so they are not counted."""
    kinds = Counter(f"descriptors {_kind(number)}" for number in os.listdir("/proc/self/fd"))
    names = [thread.name for thread in threading.enumerate() if not thread.name.startswith(WORKERS)]
    kinds += Counter(f"threads {name.rstrip('-0123456789')}" for name in names)
    children = [name for name in os.listdir("/proc") if name.isdigit() and _is_mine(name)]
    return {**kinds, "children": len(children)}


def _kind(number: str) -> str:
    try:
        return os.readlink(f"/proc/self/fd/{number}").partition(":[")[0]
    except FileNotFoundError:
        return "closed"  # the one of listdir


def _is_mine(name: str) -> bool:
    try:
        stat = Path(f"/proc/{name}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return int(stat.rpartition(")")[2].split()[1]) == os.getpid()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
