"""What SAMgr needs of whoever launches processes: the narrow interface between both.

Owns: ``Starter``, and what its statuses mean. The built-in supervisor implements it; tests use one of their own.
"""

from __future__ import annotations

import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from binderkit.samgr.profile import ResourceLimits

UNKNOWN_STATUS: Final = 256
"""The status of an adopted process: only its parent can know how it ended. No exit code is that high."""


def how_it_ended(status: int) -> str:
    """Say how a process ended: by its exit code, minus a signal's number, or UNKNOWN_STATUS."""
    if status >= UNKNOWN_STATUS:
        return "ended"
    if status >= 0:
        return f"ended with exit code {status}"
    try:
        return f"was ended by {signal.Signals(-status).name}"
    except ValueError:
        return f"was ended by signal {-status}"


class Starter(Protocol):
    """Launches, stops and watches processes by name."""

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] = ...,
        user: str | None = None,
        limits: ResourceLimits | None = None,
        permissions: Sequence[str] = (),
        bundle: str = "",
    ) -> int:
        """Launch a process; return its pid (ServiceError with words when that fails)."""

    def stop(self, name: str) -> None:
        """Ask a process to end (SIGTERM)."""

    def kill(self, name: str) -> None:
        """End a process and what it started at once."""

    def adopt(self, name: str, pid: int, *, permissions: Sequence[str] | None = None, uid: int | None = None) -> None:
        """Watch a process that somebody else started; with ``permissions``, give it an access token of its own."""

    def log_file(self, name: str) -> Path:
        """Return where a process's output is kept."""
