"""What ``softbus.toml`` looks like. Imported only where there is one, because checking it needs msgspec.

Owns: the structure of the file. What its values mean and which are right stands in settings.py.

Rules upheld: every mistake the structure allows is told at once, by its field; an unknown field is a mistake.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

from msgspec import Struct, field

from binderkit import limits
from binderkit.samgr.documents import Mistakes, converted, read_document
from binderkit.softbus.settings import (
    Settings,
    checked_address,
    checked_group,
    checked_list,
    checked_place,
    checked_port,
)

__all__ = ["read_settings"]

MAX_FILE: Final = 16 * limits.KIB
"""Bytes of the file (own choice)."""
T = TypeVar("T")


class _File(Struct, forbid_unknown_fields=True):
    listen: list[str] = field(default_factory=list)
    port: int = 0
    connect: list[str] = field(default_factory=list)
    group: str | None = None


def read_settings(path: Path) -> Settings:
    """Return what a file sets.

    Raises:
        ProfileError: it cannot be read or understood, or a value cannot be used; all mistakes at once (1002).
    """
    mistakes = Mistakes(path)
    raw = converted(read_document(path, MAX_FILE, mistakes), _File, mistakes)
    default = Settings()

    def checked(name: str, check: Callable[[], T], instead: T) -> T:
        try:
            return check()
        except ValueError as error:
            mistakes.add(name, str(error))
            return instead

    settings = Settings(
        checked("listen", lambda: checked_list(raw.listen, checked_address), default.listen),
        checked("port", lambda: checked_port(raw.port), default.port),
        checked("connect", lambda: checked_list(raw.connect, checked_place), default.connect),
        default.group if raw.group is None else checked("group", lambda: checked_group(raw.group or ""), default.group),
    )
    mistakes.check()
    return settings
