"""The machine a run was made on, and where its processes are placed.

A number of this benchmark means something only beside the machine's facts.
Placement matters more than any code: two processes on one cpu hand over with
a context switch, on two cpus the sleeping one must be woken on the other cpu,
which on a virtual machine costs several times the whole call. So every
latency is taken with all its processes on one cpu (repeatable: compare this
one) and once more placed by the scheduler (what a user sees).
"""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

PACKAGES = ("binderkit", "rpyc", "Pyro5", "grpcio", "eclipse-zenoh")


def facts() -> dict[str, object]:
    """Return what a reader of the numbers must know about this machine (goes into the JSON as it is)."""
    return {
        "cpus": len(os.sched_getaffinity(0)),
        "cpu": _cpu_model(),
        "memory_mb": os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 10**6,
        "kernel": platform.release(),
        "architecture": platform.machine(),
        "python": sys.version.split()[0],
        "versions": {name: version for name in PACKAGES if (version := installed_version(name)) is not None},
        "load_average_at_start": os.getloadavg()[0],
    }


def installed_version(package: str) -> str | None:
    """Return the version of an installed distribution, None when it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return "unknown"


def _threads(pid: int) -> list[int]:
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except FileNotFoundError:
        return []


def _place(pids: Iterable[int], cpus: set[int]) -> None:
    for pid in pids:
        for thread in _threads(pid):
            try:
                os.sched_setaffinity(thread, cpus)
            except ProcessLookupError:
                continue  # a thread that ended meanwhile needs no place


@contextmanager
def placed(pids: Iterable[int], cpu: int | None) -> Iterator[None]:
    """Keep every thread of ``pids`` on ``cpu`` inside the block (None: the scheduler places them).

    Threads started meanwhile inherit the place of the thread that starts them.
    """
    if cpu is None:
        yield
        return
    everywhere = os.sched_getaffinity(0)
    held = list(pids)
    _place(held, {cpu})
    try:
        yield
    finally:
        _place(held, everywhere)
