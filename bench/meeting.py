"""How soon devices see each other: two that never met, and one that comes back to the one it trusts.

Two devices for each measurement, which the client process is none of.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from time import CLOCK_BOOTTIME, clock_gettime_ns, monotonic_ns

from bench import devices, measure
from bench.devices import Device, Program

_NS = 1_000_000_000


@contextmanager
def _two(folder: Path) -> Iterator[list[tuple[Device, Program]]]:
    """Two devices whose softbus runs, with a program on each."""
    group = devices.free_group()
    place = Path(tempfile.mkdtemp(dir=folder))
    with ExitStack() as stack:
        pair = []
        for name in ("c", "d"):
            device = Device(place / name, group)
            stack.callback(device.close)
            program = device.program()
            program.ask("name", f"bench-{name}")
            pair.append((device, program))
        yield pair


def strangers(folder: Path) -> dict[str, float]:
    """From the moment two unknown devices announce themselves and look, until each has found the other."""
    with _two(folder) as pair:
        (_, c), (_, d) = pair
        began = monotonic_ns()
        for program in (c, d):
            program.tell("publish")
        for program in (c, d):
            program.answer()
        return measure.summary([max(c.ask("found", "bench-d"), d.ask("found", "bench-c")) - began])


def trusted(folder: Path) -> dict[str, float]:
    """From the start of one device's softbus process until it and a device that it trusts each know the other."""
    with _two(folder) as pair:
        (_, c), (device, d) = pair
        one, two = c.ask("own")[0], d.ask("own")[0]
        c.ask("watch")
        c.ask("pair", d.ask("offer"))
        c.ask("online", two)
        device.stop()
        c.ask("offline", two)
        c.ask("watch")
        device.start()
        d.ask("watch")
        seen = max(c.ask("online", two), d.ask("online", one))
        return measure.summary([seen - _started_ns(d.ask("own")[2])])


def _started_ns(pid: int) -> int:
    """Return when a process was started, as ``monotonic_ns``; to a hundredth of a second."""
    # Behind the name, which may hold anything: field 22 of proc(5), in ticks since the machine was started.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    since_boot = int(fields[19]) * _NS // os.sysconf("SC_CLK_TCK")
    return since_boot - (clock_gettime_ns(CLOCK_BOOTTIME) - monotonic_ns())
