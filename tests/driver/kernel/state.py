"""What the kernel and the system hold for a process: the leak check of these tests; and how to wait.

Owns: the reading of /sys/kernel/debug/binder/state, which lists each opening of a device with its threads, nodes,
references and buffers. (The listing of one process alone goes with the first of its openings that is closed.)
"""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

LISTING = Path("/sys/kernel/debug/binder/state")
WAIT = 60.0
"""Seconds until something that must happen counts as not happening: the guest is slow."""
STEP = 0.01


def until(condition: Callable[[], object], what: str, seconds: float = WAIT) -> None:
    """Return when ``condition()`` is true; fail after ``seconds``."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited {seconds} s for: {what}"
        time.sleep(STEP)  # the interval between two looks at the condition


class Attempt:
    """Something done on a thread of its own."""

    def __init__(self, work: Callable[[], object]) -> None:
        self.error: BaseException | None = None
        self.result: object = None
        self._thread = threading.Thread(target=self._run, args=(work,))
        self._thread.start()

    def _run(self, work: Callable[[], object]) -> None:
        try:
            self.result = work()
        except BaseException as error:  # the test looks at it
            self.error = error

    @property
    def running(self) -> bool:
        """Whether it goes on."""
        return self._thread.is_alive()

    def over(self) -> Attempt:
        """Wait for the end."""
        self._thread.join(WAIT)
        assert not self._thread.is_alive(), "it does not end"
        return self


@dataclass(frozen=True)
class Held:
    """What one process holds on one device.

    Attributes:
        nodes, references, buffers: counts of the kernel's.
        descriptors: open ones of the process, devices apart.
        mappings: of shared memory.
    """

    nodes: int
    references: int
    buffers: int
    descriptors: int
    mappings: int


def held(pid: int, device: str) -> Held:
    """Return what process ``pid`` holds now."""
    told = kernel_lines(pid, device)
    return Held(
        count(told, "node"), count(told, "ref"), count(told, "buffer"), descriptors(pid), shared_mappings(pid)
    )  # fmt: skip


def kernel_lines(pid: int, device: str) -> list[str]:
    """Return what the kernel lists for the openings of ``device`` by ``pid``."""
    head = f"{pid}\ncontext {Path(device).name}\n"
    openings = re.split(r"^proc ", LISTING.read_text(), flags=re.MULTILINE)[1:]
    return [line for part in openings if part.startswith(head) for line in part.splitlines()[1:]]


def count(lines: list[str], what: str) -> int:
    """Return how many of the lines list a ``what`` (node, ref, buffer, thread)."""
    return sum(line.startswith(f"  {what} ") for line in lines)


def threads(pid: int, device: str, *, waiting: bool | None = None, looper: bool | None = None) -> int:
    """Return how many threads of the process the kernel knows on the device.

    Args:
        pid: the process.
        device: the path.
        waiting: only those that wait in a read now, or do not.
        looper: only those that entered as takers of calls (by themselves or on demand), or did not.
    """
    found = 0
    for line in kernel_lines(pid, device):
        if line.startswith("  thread "):
            state = int(line.split(" l ")[1].split()[0], 16)
            found += waiting in (None, bool(state & 0x10)) and looper in (None, bool(state & 0x3))
    return found


def descriptors(pid: int, prefix: str = "") -> int:
    """Return how many descriptors are open in the process: whose target begins so; by default all but devices."""
    folder = f"/proc/{pid}/fd"
    found = 0
    for name in os.listdir(folder):
        try:
            target = os.readlink(f"{folder}/{name}")
        except FileNotFoundError:
            continue  # of the listing itself, or closed meanwhile
        found += target.startswith(prefix) if prefix else not target.startswith("/dev/b")
    return found


def shared_mappings(pid: int) -> int:
    """Return how many mappings of shared memory the process has."""
    return sum("/memfd:" in line for line in Path(f"/proc/{pid}/maps").read_text().splitlines())
