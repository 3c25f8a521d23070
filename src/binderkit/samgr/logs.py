"""What services print: a file for each process, rotated, readable by its owner only.

Owns: names, rotation and reading of the files in RUNTIME_DIR/logs. A service writes into its file itself (it holds the
descriptor, in append mode), so nothing is lost when SAMgr ends. Therefore rotation copies a file and cuts it down to
nothing, instead of renaming it: what is printed in the microseconds between the two is the one thing that can be lost.

Rules upheld: files are 0600 and never a link's target; a name of a process becomes one file in this directory, whatever
it contains; two names never share a file; a log takes at most about (LOG_FILES_KEPT + 1) * MAX_LOG_FILE, plus what is
printed between two looks.
"""

from __future__ import annotations

import hashlib
import os
import string
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from binderkit import limits

DIRECTORY: Final = "logs"
_SUFFIX: Final = ".log"
_PLAIN: Final = frozenset(string.ascii_letters + string.digits + "_-.")
_LONGEST: Final = 180
"""Characters of a file's name before its suffix; a file name may have 255 bytes."""
_BLOCK: Final = 64 * 1024


def log_path(directory: Path, name: str) -> Path:
    """Return the log file of the process ``name`` of the device whose runtime directory is ``directory``."""
    return directory / DIRECTORY / (_file_name(name) + _SUFFIX)


def _file_name(name: str) -> str:
    """Return ``name`` with everything that means something in a path written as %XX."""
    safe = "".join(
        one if one in _PLAIN else "".join(f"%{byte:02X}" for byte in one.encode("utf-8", "surrogatepass"))
        for one in name
    )
    if safe.startswith("."):
        safe = "%2E" + safe[1:]
    if len(safe) <= _LONGEST:
        return safe or "%"
    # "%%" is in no short name, so a long one never meets it.
    return f"{safe[: _LONGEST - 40]}%%{hashlib.sha256(name.encode('utf-8', 'surrogatepass')).hexdigest()[:32]}"


def open_log(path: Path) -> int:
    """Return a descriptor that appends to the log, which is made (and its directory, 0700) if it is not there.

    Raises:
        OSError: it cannot be made, or is a link.
    """
    path.parent.mkdir(mode=0o700, exist_ok=True)
    return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


def note(path: Path, text: str) -> None:
    """Add a line of our own to a log: when a process began and how it ended."""
    log = open_log(path)
    try:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        os.write(log, f"--- {stamp} {' '.join(text.split())}\n".encode(errors="backslashreplace"))
    finally:
        os.close(log)


def rotate(path: Path, largest: int = limits.MAX_LOG_FILE) -> bool:
    """Move what is in the log to PATH.1 (and that to PATH.2 …) if it is larger than ``largest`` bytes.

    Only the last MAX_LOG_FILE bytes are kept. Returns whether something was moved.

    Raises:
        OSError: the disk is full, or the files cannot be used.
    """
    try:
        if path.stat().st_size <= largest:
            return False
    except FileNotFoundError:
        return False
    for number in range(limits.LOG_FILES_KEPT, 1, -1):
        with suppress(FileNotFoundError):  # there were not that many yet
            os.replace(_rotated(path, number - 1), _rotated(path, number))
    source = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC
        target = os.open(_rotated(path, 1), flags, 0o600)
        try:
            os.lseek(source, max(0, os.fstat(source).st_size - limits.MAX_LOG_FILE), os.SEEK_SET)
            _copy(source, target)
            os.ftruncate(source, 0)
        finally:
            os.close(target)
    finally:
        os.close(source)
    return True


def _copy(source: int, target: int) -> None:
    """Copy until nothing is left, but no more than twice a full log: a process may print faster than we copy."""
    left = 2 * limits.MAX_LOG_FILE
    while left > 0 and (block := os.read(source, _BLOCK)):
        left -= len(block)
        view = memoryview(block)
        while view:
            view = view[os.write(target, view) :]


def _rotated(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def names(directory: Path) -> list[str]:
    """Return the names of processes that have a log, as far as the files tell them, sorted.

    A name with characters beyond letters, digits and ``_-.`` is shown as the file has it, with %XX.
    """
    folder = directory / DIRECTORY
    return sorted(path.name[: -len(_SUFFIX)] for path in folder.glob("*" + _SUFFIX)) if folder.is_dir() else []


def tail(path: Path, lines: int) -> list[str]:
    """Return the last ``lines`` lines of a log and, when it has fewer, of the rotated ones before it.

    Raises:
        FileNotFoundError: there is no such log.
    """
    found: list[str] = []
    files = [path, *(_rotated(path, number) for number in range(1, limits.LOG_FILES_KEPT + 1))]
    for number, file in enumerate(files):
        if len(found) >= lines:
            break
        try:
            text = file.read_text(encoding="utf-8", errors="backslashreplace")
        except FileNotFoundError:
            if number == 0:
                raise
            break
        found = text.splitlines() + found
    return found[max(0, len(found) - lines) :]


def added(path: Path, position: int) -> Iterator[bytes]:
    """Yield what was added behind byte ``position``."""
    with path.open("rb") as file:
        file.seek(position)
        while block := file.read(_BLOCK):
            yield block
