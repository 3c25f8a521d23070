"""What SAMgr needs of whoever launches processes: the narrow interface between both.

Owns: ``Starter``. The built-in supervisor implements it; tests use one of their own.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from binderkit.samgr.profile import ResourceLimits


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
