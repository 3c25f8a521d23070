"""Which unit of systemd a process belongs to, as the kernel says it.

Owns: reading /proc/PID/cgroup. systemd puts each service into a control group named after its unit, and processes that
are started later cannot leave it without the right to write to another group: root has that, and a user within the
groups of the user's own manager. So this tells apart the services of one user; it is no wall between them.
"""

from __future__ import annotations

from typing import Final

_SYSTEMD: Final = ("", "name=systemd")
"""Controllers of the hierarchy that systemd keeps: the only one (version 2), or its own one (version 1)."""
_MAX_BYTES: Final = 64 * 1024


def unit_of(pid: int) -> str:
    """Return the unit of a process, e.g. "binderkit-sa-photos.service"; "" when it has none, ended, or is hidden."""
    try:
        with open(f"/proc/{pid}/cgroup", encoding="utf-8", errors="replace") as file:
            return unit_in(file.read(_MAX_BYTES))
    except (FileNotFoundError, ProcessLookupError, PermissionError):  # the last: /proc hides other users' processes
        return ""


def unit_in(text: str) -> str:
    """Return the unit that the content of a /proc/PID/cgroup names, "" when it names none.

    Only the last part of the path counts: what a service makes below its own group is not its unit any more.
    """
    for line in text.splitlines():
        fields = line.split(":", 2)
        if len(fields) == 3 and fields[1] in _SYSTEMD:
            last = fields[2].rpartition("/")[2]
            if last.endswith(".service"):
                return last
    return ""
