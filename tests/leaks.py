"""What a process holds, and what a test left behind.

Owns the leak check that tests/conftest.py runs around every test: threads,
open descriptors (sockets, memfds, epolls …), mappings of memfds and child
processes must be back where they were. A driver keeps some things for the
life of the process (its monitor thread, its pool, their epoll and wake-up
descriptors, pooled shared memory); those are named below, with how many there may be, so that
the first test that starts the driver is not blamed, while a test that starts
one more of them each time is.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

SETTLE_TIME = 2.0
"""Seconds that threads and children which are already ending may take."""

INFRASTRUCTURE_THREADS = ("binderkit-",)
"""Prefixes of the names of daemon threads that live as long as the process."""

INFRASTRUCTURE_CEILING = {
    "anon_inode:[eventpoll]": 2,
    "anon_inode:[eventfd]": 3,
    "/memfd:binderkit-slot": 24,
    "/dev/b": 1,
}
"""Prefix of a descriptor's target -> how many the library may keep for the life of the process.

A driver has the epolls of its monitor and of its workers, and the eventfds that wake them;
the pool keeps slots of shared memory; the kernel driver has its device (/dev/binder, /dev/b0 ...).
A test may raise their number up to this and no further.
"""

_foreign: Counter[str] = Counter()
"""The same, of what other libraries keep for the life of the process (see ``foreign``)."""

_TRACKER = "multiprocessing.resource_tracker"
"""Started once per process by multiprocessing and kept on purpose."""


@dataclass(frozen=True)
class Holdings:
    """What this process holds at one moment.

    ``mappings`` are the inodes of mapped memfds with their names, because a
    mapping outlives the descriptor it was made from.
    """

    threads: frozenset[threading.Thread]
    descriptors: frozenset[tuple[int, str]]
    mappings: frozenset[tuple[str, str]]
    children: frozenset[int]


def _infrastructure(target: str) -> str | None:
    return next((prefix for prefix in INFRASTRUCTURE_CEILING if target.startswith(prefix)), None)


def take_stock() -> Holdings:
    """Return what this process holds now; the descriptor used for looking is not counted."""
    return Holdings(
        threads=frozenset(t for t in threading.enumerate() if not t.name.startswith(INFRASTRUCTURE_THREADS)),
        descriptors=_descriptors(),
        mappings=_memfd_mappings(),
        children=frozenset(child for child in _children() if _TRACKER not in _command_line(child)),
    )


def _descriptors() -> frozenset[tuple[int, str]]:
    found = set()
    tracker = _tracker_descriptor()
    for name in os.listdir("/proc/self/fd"):
        try:
            target = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the descriptor of listdir itself, or one that another thread closed meanwhile
        if int(name) != tracker:
            found.add((int(name), target))
    return frozenset(found)


def _tracker_descriptor() -> int | None:
    from multiprocessing import resource_tracker

    descriptor = getattr(resource_tracker._resource_tracker, "_fd", None)
    return descriptor if isinstance(descriptor, int) else None


def _memfd_mappings() -> frozenset[tuple[str, str]]:
    found = set()
    for line in Path("/proc/self/maps").read_text().splitlines():
        if "/memfd:" in line and "/memfd:binderkit-slot" not in line:
            fields = line.split(maxsplit=5)
            found.add((fields[4], fields[5]))
    return frozenset(found)


def _children() -> list[int]:
    """Return the pids of all children, zombies included (not every kernel offers /proc/…/children)."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return []  # so says the kernel, without a look at every process of the machine
    me = os.getpid()
    return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if _parent(pid) == me]


def _parent(pid: int) -> int | None:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name stands in brackets and may itself hold spaces and brackets.
    return int(stat.rpartition(")")[2].split()[1])


def _command_line(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except (FileNotFoundError, ProcessLookupError):
        return ""


@contextmanager
def foreign() -> Iterator[None]:
    """Start a library that keeps things of the kinds above for itself: what is more of them after it is not ours.

    Nothing of this library may be started inside.
    """
    before = _infrastructure_held(take_stock())
    yield
    _foreign.update(_infrastructure_held(take_stock()) - before)


def left_behind(before: Holdings, settle_time: float = SETTLE_TIME) -> list[str]:
    """Wait until everything new since ``before`` is gone; return what is not, one line each.

    Args:
        before: the holdings at the start of the test.
        settle_time: seconds to wait at most for threads and children that are ending.
    """
    deadline = time.monotonic() + settle_time
    leaks = _difference(before, take_stock())
    if leaks:
        gc.collect()  # cycles may hold descriptors; worth its time only now
        leaks = _difference(before, take_stock())
    while leaks and time.monotonic() < deadline:
        time.sleep(0.01)  # the interval between two looks at the condition, not a wait for it to come true
        leaks = _difference(before, take_stock())
    return leaks


def _difference(before: Holdings, now: Holdings) -> list[str]:
    leaks = [f"thread {thread.name!r} still runs" for thread in now.threads - before.threads]
    leaks += [f"mapping of {name} (inode {inode})" for inode, name in sorted(now.mappings - before.mappings)]
    leaks += [
        f"child process {pid}: {_command_line(pid) or 'ended, but nobody waited for it'}"
        for pid in sorted(now.children - before.children)
    ]
    opened = sorted(now.descriptors - before.descriptors)
    leaks += [f"descriptor {number} -> {target}" for number, target in opened if _infrastructure(target) is None]
    return leaks + _over_the_ceiling(before, now)


def _over_the_ceiling(before: Holdings, now: Holdings) -> list[str]:
    held_before, held = _infrastructure_held(before), _infrastructure_held(now)
    return [
        f"{held[prefix]} descriptors -> {prefix}, {held_before[prefix]} before; libraries keep {most} at most"
        for prefix, most in _ceilings()
        if held[prefix] > max(most, held_before[prefix])
    ]


def _ceilings() -> list[tuple[str, int]]:
    return [(prefix, most + _foreign[prefix]) for prefix, most in INFRASTRUCTURE_CEILING.items()]


def _infrastructure_held(holdings: Holdings) -> Counter[str]:
    found = (_infrastructure(target) for _, target in holdings.descriptors)
    return Counter(prefix for prefix in found if prefix is not None)
