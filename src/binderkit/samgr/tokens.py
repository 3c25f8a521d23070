"""Access tokens: a number for each process that SAMgr started, and what its holder may do (reference 2.4, 3.4).

Owns: the table of tokens and its file. A process has a permission when its profile or manifest declares it and the
device grants it (grants.py).

Rules upheld: a token is looked up by the pid the kernel names, and counts only for the process that had this pid when
the token was given (the kernel's start time tells); a process's session inherits it, as a forked task does in
OpenHarmony; tokens are random, so that none is guessed or meant for an earlier process. The file with the tokens is
0600 and replaced whole: a SAMgr that was killed and is back knows its processes again; after a reboot, nobody.

What this is not: a wall between processes of one user, who may trace and change each other. Give a service that must
be kept apart a user of its own.

Locks: ``_lock`` guards the tables; files are written while it is held, because their order matters, and nothing else.
"""

from __future__ import annotations

import json
import logging
import os
import re
import threading
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from binderkit import limits
from binderkit.errors import ParamError, ParamTypeError, ParamValueError, ServiceError
from binderkit.samgr import codes
from binderkit.samgr.grants import GRANT_FILE, Grants

_log = logging.getLogger("binderkit.samgr")
TOKEN_FILE: Final = "tokens.json"
MAX_FILE: Final = 16 * limits.MIB
"""Bytes of the token file that are read."""
MAX_TOKEN: Final = 0xFFFFFFFF
_PERMISSION: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.\-]*")
_BOOT_ID: Final = Path("/proc/sys/kernel/random/boot_id")


@dataclass(frozen=True)
class TokenInfo:
    """What is known of a token's holder.

    Attributes:
        token: 1 … 0xFFFFFFFF. pid, uid: the process it was given to.
        name: of the process. bundle: its application, "" for a process of system abilities (a native token).
        permissions: what it declares; which of them are granted, ``verify`` tells.
    """

    token: int
    pid: int
    uid: int
    name: str
    bundle: str
    permissions: tuple[str, ...]


class Facts(NamedTuple):
    """What the kernel says of a process: ``start`` in ticks since boot, and its session."""

    start: int
    session: int


def facts_of(pid: int) -> Facts | None:
    """Return what the kernel says of a process, None when there is none with this number."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            text = file.read()
    except (FileNotFoundError, ProcessLookupError):
        return None
    # The command's name stands in brackets and may itself hold spaces and brackets.
    fields = text[text.rindex(b")") + 2 :].split()
    return Facts(start=int(fields[19]), session=int(fields[3]))


def checked_permission(permission: object) -> str:
    """Return ``permission`` if it can be the name of one.

    Raises:
        ParamTypeError, ParamValueError: it is none (401).
    """
    if not isinstance(permission, str):
        raise ParamTypeError(
            f"a permission is a text such as 'ohos.permission.CAMERA', got {type(permission).__name__}"
        )
    if len(permission) > limits.MAX_PERMISSION or not _PERMISSION.fullmatch(permission):
        raise ParamValueError(
            f"{permission[:80]!r} is no permission: 1 to {limits.MAX_PERMISSION} letters, digits, '_', '.' or '-', "
            "the first a letter or _, such as 'ohos.permission.CAMERA'"
        )
    return permission


@dataclass(frozen=True, slots=True)
class _Record:
    info: TokenInfo
    start: int


class TokenRegistry:
    """The tokens of one device.

    Args:
        directory: the runtime directory: tokens.json is kept there, permissions.toml read.
        owner: uid of SAMgr; default: ours.

    Raises:
        ServiceError: permissions.toml is there and cannot be used (1001).
    """

    def __init__(self, directory: Path, *, owner: int | None = None) -> None:
        self._path = directory / TOKEN_FILE
        self.owner = os.geteuid() if owner is None else owner
        self._grants = Grants(directory / GRANT_FILE, owner=self.owner)
        self._lock = threading.Lock()
        self._boot = _BOOT_ID.read_text().strip()
        self._by_pid: dict[int, _Record] = {}
        self._by_token: dict[int, _Record] = {}
        for record in _load(self._path, self._boot):
            self._by_pid[record.info.pid] = self._by_token[record.info.token] = record
        self._inherited = set(self._by_pid)
        """Processes of an earlier SAMgr: nobody may be watching them, so their ends are looked for here."""

    def issue(
        self, pid: int, *, name: str, bundle: str = "", permissions: Sequence[str] = (), uid: int | None = None
    ) -> int:
        """Give a process a token and return it; one that it had before is void.

        Args:
            pid: a child that was not waited for, so that the number is surely its own.
            name, bundle, permissions: see TokenInfo. uid: the user it will run as; None: SAMgr's.

        Raises:
            ServiceError: there is no such process (1007).
            ParamTypeError, ParamValueError: a permission cannot be one, or there are too many (401).
        """
        if len(permissions) > limits.MAX_PERMISSIONS:
            raise ParamValueError(
                f"process {name!r} declares {len(permissions)} permissions, the limit is {limits.MAX_PERMISSIONS}"
            )
        declared = tuple(dict.fromkeys(checked_permission(one) for one in permissions))
        facts = facts_of(pid)
        if facts is None:
            raise ServiceError(
                f"process {name!r} gets no token: there is no process {pid}", code=codes.PROCESS_NOT_FOUND
            )
        with self._lock:
            self._drop_ended()
            token = self._unused()
            info = TokenInfo(token, pid, self.owner if uid is None else uid, name, bundle, declared)
            self._drop(pid)
            self._by_pid[pid] = self._by_token[token] = _Record(info, facts.start)
            try:
                self._save()
            except OSError as error:
                self._drop(pid)
                raise ServiceError(
                    f"process {name!r} gets no token: {self._path} cannot be written: {error}"
                ) from error
        return token

    def _drop_ended(self) -> None:
        for inherited in list(self._inherited):
            if not _lives(self._by_pid[inherited]):
                self._drop(inherited)

    def _unused(self) -> int:
        while True:
            token = int.from_bytes(os.urandom(4), "little")
            if token and token not in self._by_token:
                return token

    def token_of(self, pid: int) -> int:
        """Return the token of a process, or of the process that leads its session; 0 when there is none."""
        facts = facts_of(pid) if pid > 0 else None
        if facts is None:
            return 0
        with self._lock:
            record = self._by_pid.get(pid)
            leader = self._by_pid.get(facts.session)
        if record is not None:
            return record.info.token if record.start == facts.start else 0
        if leader is None:
            return 0
        first = facts_of(facts.session)
        return leader.info.token if first is not None and first.start == leader.start else 0

    def token_of_caller(self, pid: int, uid: int) -> int:
        """Return the token of a process that the kernel vouched for with this uid; 0 when there is none.

        A token of another user's process means that the pid was given to that process meanwhile.
        """
        token = self.token_of(pid)
        with self._lock:
            record = self._by_token.get(token)
        return token if record is not None and record.info.uid == uid else 0

    def info(self, token: int) -> TokenInfo:
        """Return what is known of a token's holder.

        Raises:
            ServiceError: nobody has this token (1007).
        """
        with self._lock:
            record = self._by_token.get(token)
        if record is None:
            raise ServiceError(
                f"no process has the access token {token:#x}; it may have ended", code=codes.PROCESS_NOT_FOUND
            )
        return record.info

    def living(self) -> list[TokenInfo]:
        """Return who has a token and lives: right after a restart of SAMgr, the processes that outlived it."""
        with self._lock:
            records = list(self._by_pid.values())
        return [record.info for record in records if _lives(record)]

    def verify(self, token: int, permission: str) -> bool:
        """Whether the holder of ``token`` declares ``permission`` and the device grants it; False for no token."""
        with self._lock:
            record = self._by_token.get(token)
        if record is None or permission not in record.info.permissions:
            return False
        return self._grants.allow(record.info, permission)

    def would_allow(self, bundle: str, declared: Sequence[str], permission: str) -> bool:
        """Whether a process of SAMgr's user that an application declares ``declared`` for would have ``permission``."""
        info = TokenInfo(0, 0, self.owner, bundle, bundle, tuple(declared))
        return permission in info.permissions and self._grants.allow(info, permission)

    def forget(self, pid: int) -> None:
        """Take the token of a process away: it ended. Nothing happens when it has none."""
        with self._lock:
            if not self._drop(pid):
                return
            try:
                self._save()
            except OSError as error:
                # What the file says too much is sorted out when it is read: that process lives no more.
                _log.error("%s cannot be written: %s", self._path, error)

    def _drop(self, pid: int) -> bool:
        self._inherited.discard(pid)
        record = self._by_pid.pop(pid, None)
        if record is not None:
            del self._by_token[record.info.token]
        return record is not None

    def _save(self) -> None:
        rows = [{**asdict(record.info), "start": record.start} for record in self._by_pid.values()]
        text = json.dumps({"boot": self._boot, "tokens": rows}).encode()
        fresh = self._path.with_name(self._path.name + ".new")
        fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        with open(fd, "wb") as file:
            file.write(text)
        os.replace(fresh, self._path)


def _load(path: Path, boot: str) -> list[_Record]:
    """Return the tokens of processes that still live; none when the file is of another boot or cannot be understood."""
    try:
        with path.open("rb") as file:
            text = file.read(MAX_FILE + 1)
    except FileNotFoundError:
        return []
    try:
        if len(text) > MAX_FILE:
            raise ValueError(f"larger than {MAX_FILE} bytes")
        document = json.loads(text)
        if not isinstance(document, dict) or not isinstance(document.get("tokens"), list):
            raise ValueError("no list of tokens")
        records = [_record(row) for row in document["tokens"]] if document.get("boot") == boot else []
    except (ValueError, ParamError, RecursionError) as error:
        _log.error(
            "%s cannot be used (%s); processes that run have no access token until they are restarted", path, error
        )
        return []
    return [record for record in records if _lives(record)]


def _lives(record: _Record) -> bool:
    facts = facts_of(record.info.pid)
    return facts is not None and facts.start == record.start


def _record(row: Any) -> _Record:
    texts = ("name", "bundle")
    numbers = ("token", "pid", "uid", "start")
    if (
        not isinstance(row, dict)
        or set(row) != {*texts, *numbers, "permissions"}
        or not all(isinstance(row[field], str) for field in texts)
        or not all(type(row[field]) is int and 0 <= row[field] < 2**63 for field in numbers)
        or not isinstance(row["permissions"], list)
        or not 1 <= row["token"] <= MAX_TOKEN
        or not 1 <= row["pid"] < 2**31
    ):
        raise ValueError(f"a row is no token: {str(row)[:200]}")
    permissions = tuple(checked_permission(one) for one in row["permissions"])
    info = TokenInfo(row["token"], row["pid"], row["uid"], row["name"], row["bundle"], permissions)
    return _Record(info, row["start"])
