"""Which permissions the device grants: its policy file.

Owns: the file and its rules. The file ``permissions.toml`` of the runtime directory:

    [[grant]]
    permissions = ["ohos.permission.CAMERA", "ohos.permission.MEDIA_*"]   # or one of them; * and ? as in the shell
    bundles = "com.example.*"          # which applications; or several
    names = ["photo-service"]          # which processes; neither of the two: everybody

Without that file every declared permission is granted to the processes of SAMgr's own user, and nothing to others.

Rule upheld: a policy file that cannot be read any more grants nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from binderkit import limits
from binderkit.errors import ServiceError

if TYPE_CHECKING:
    from binderkit.samgr.tokens import TokenInfo

_log = logging.getLogger("binderkit.samgr")
GRANT_FILE: Final = "permissions.toml"
MAX_GRANT_FILE: Final = limits.MIB
"""Bytes of the policy file that are read."""


@dataclass(frozen=True, slots=True)
class Grant:
    """One [[grant]] of the policy file: patterns."""

    permissions: tuple[str, ...]
    bundles: tuple[str, ...]
    names: tuple[str, ...]

    def covers(self, info: TokenInfo, permission: str) -> bool:
        """Whether it gives this holder that permission."""
        if not _matches(self.permissions, permission):
            return False
        if not self.bundles and not self.names:
            return True
        return (bool(info.bundle) and _matches(self.bundles, info.bundle)) or _matches(self.names, info.name)


def _matches(patterns: Iterable[str], word: str) -> bool:
    return any(fnmatchcase(word, pattern) for pattern in patterns)


class Grants:
    """What the device grants; the file is read again when it changed.

    Args:
        path: the policy file, which need not exist.
        owner: SAMgr's uid.

    Raises:
        ServiceError: the file is there and cannot be used; the text names file, grant and reason (1001).
    """

    def __init__(self, path: Path, *, owner: int) -> None:
        self._path = path
        self._owner = owner
        self._stamp = _stamp(path)
        self._grants = None if self._stamp is None else load_grants(path)

    def allow(self, info: TokenInfo, permission: str) -> bool:
        """Whether the device grants a declared permission to this holder."""
        stamp = _stamp(self._path)
        if stamp != self._stamp:
            self._reload(stamp)
        if self._grants is None:
            return info.uid == self._owner
        return any(grant.covers(info, permission) for grant in self._grants)

    def _reload(self, stamp: tuple[int, int, int] | None) -> None:
        try:
            grants = None if stamp is None else load_grants(self._path)
        except ServiceError as error:
            _log.error("nothing is granted until this is corrected: %s", error.args[0])
            grants = ()
        self._grants, self._stamp = grants, stamp


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        facts = path.stat()
    except FileNotFoundError:
        return None
    return facts.st_mtime_ns, facts.st_size, facts.st_ino


def load_grants(path: Path) -> tuple[Grant, ...]:
    """Return the grants of a policy file.

    Raises:
        ServiceError: it cannot be read or understood; the text names file, grant and reason (1001).
    """
    import tomllib  # only a SAMgr with a policy needs it

    try:
        with path.open("rb") as file:
            text = file.read(MAX_GRANT_FILE + 1)
        if len(text) > MAX_GRANT_FILE:
            raise ValueError(f"it is larger than {MAX_GRANT_FILE} bytes")
        document = tomllib.loads(text.decode())
        unknown = set(document) - {"grant"}
        if unknown:
            raise ValueError(f"unknown entries {sorted(unknown)}; it consists of [[grant]] tables")
        tables = document.get("grant", [])
        if not isinstance(tables, list):
            raise ValueError("'grant' is no array of tables; write [[grant]] with two brackets")
        return tuple(_grant(number, table) for number, table in enumerate(tables, 1))
    except (OSError, ValueError) as error:  # TOML and UTF-8 errors are ValueErrors
        raise ServiceError(f"permission file {path}: {error}") from error


def _grant(number: int, table: Any) -> Grant:
    try:
        if not isinstance(table, dict):
            raise ValueError("it is no table; write [[grant]] with two brackets")
        unknown = set(table) - {"permissions", "bundles", "names"}
        if unknown:
            raise ValueError(f"unknown entries {sorted(unknown)}; there are permissions, bundles, names")
        if "permissions" not in table:
            raise ValueError("'permissions' is missing: a name, several in brackets, or \"*\"")
        return Grant(*(_patterns(table, field) for field in ("permissions", "bundles", "names")))
    except ValueError as error:
        raise ValueError(f"grant {number}: {error}") from None


def _patterns(table: dict[str, Any], field: str) -> tuple[str, ...]:
    value = table.get(field)
    if value is None:
        return ()
    words = [value] if isinstance(value, str) else value
    if not isinstance(words, list) or not words or not all(isinstance(word, str) and word for word in words):
        raise ValueError(f"{field} = {value!r} is neither a text nor several in brackets")
    return tuple(words)
