"""SAMgr is started by the first program that needs it, whatever driver it is reached by.

Owns: the start of the daemon's process, and that one process starts it however many want to.

    start.lock   held while a process starts SAMgr, so that one winner starts one
    samgr.log    where a daemon that was started this way writes

Rules upheld: a daemon serves by the same driver as the program that started it; whatever is waited for has a time
limit.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final, TypeVar

from binderkit.driver.runtime import RUNTIME_DIR
from binderkit.errors import NoServiceManagerError

if TYPE_CHECKING:
    import subprocess

START_LOCK: Final = "start.lock"
LOG: Final = "samgr.log"
START_WAIT: Final = 30.0
"""Seconds SAMgr may take from its start until it listens; a fraction of one on any machine that is not emulated."""
NO_AUTOSTART: Final = "BINDERKIT_NO_AUTOSTART"
_END_WAIT: Final = 1.0
"""Seconds from the moment a SAMgr has closed what it tells us by, until it has ended."""
_PAUSE: Final = 10
"""Milliseconds between two looks at a lock that another process has."""

_Found = TypeVar("_Found")


def find_or_start(
    look: Callable[[], _Found | None], *, start: bool, where: str, directory: Path, variables: Mapping[str, str] = {}
) -> _Found:
    """Return SAMgr; start one if none runs and that is allowed.

    Args:
        look: returns SAMgr, None when none runs.
        start: whether one may be started; BINDERKIT_NO_AUTOSTART forbids it, too.
        where: the place that was looked at, for texts.
        directory: the runtime directory.
        variables: what the daemon's environment must say beside ours, so that ``look`` finds it.

    Raises:
        NoServiceManagerError: none runs, and none may be or could be started (1007).
        What ``look`` raises.
    """
    found = look()
    if found is not None:
        return found
    if not start or os.environ.get(NO_AUTOSTART):
        raise NoServiceManagerError(
            f"no SAMgr runs in {where}; start one with 'binderkit samgr'"
            + (f", or unset {NO_AUTOSTART}" if os.environ.get(NO_AUTOSTART) else "")
        )
    return _start(look, where, directory, variables)


def _start(look: Callable[[], _Found | None], where: str, directory: Path, variables: Mapping[str, str]) -> _Found:
    """Start SAMgr, one process of those that try; all wait until it listens."""
    import subprocess  # only the process that starts SAMgr pays for it

    lock = os.open(directory / START_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock_within(lock, START_WAIT, directory)
        found = look()
        if found is not None:
            return found
        with open(directory / LOG, "ab", opener=_private) as log:
            ready, done = os.pipe()
            try:
                process = subprocess.Popen(
                    [sys.executable, "-m", "binderkit.daemon", "--ready-fd", str(done)],
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    pass_fds=[done],
                    cwd="/",
                    env={
                        **os.environ,
                        **variables,
                        RUNTIME_DIR: str(directory.absolute()),
                        "PYTHONPATH": os.pathsep.join(_absolute_path()),
                    },
                )
            finally:
                os.close(done)
            try:
                listening = _wait_ready(ready)
            finally:
                os.close(ready)
        found = look() if listening else None
        if found is None:
            _see_off(process)
            raise NoServiceManagerError(f"SAMgr was started in {where} but does not listen; see {directory / LOG}")
        # It lives on its own: nobody here waits for it, so no warning when this object goes.
        process.returncode = 0
        return found
    finally:
        os.close(lock)


def _see_off(process: subprocess.Popen[bytes]) -> None:
    """Take the end of a SAMgr that gave up; one that goes on without listening is nobody's child any more."""
    import subprocess

    try:
        process.wait(_END_WAIT)
    except subprocess.TimeoutExpired:
        process.returncode = 0  # it may end later; its log says why it does not listen


def _absolute_path() -> list[str]:
    """Return where Python looks for modules here, so that a SAMgr started from a source tree finds its code."""
    return [os.path.abspath(entry or ".") for entry in sys.path]


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


def _wait_ready(fd: int) -> bool:
    """Wait until SAMgr says that it listens (or ends)."""
    poller = select.poll()
    poller.register(fd, select.POLLIN)
    return bool(poller.poll(START_WAIT * 1000)) and os.read(fd, 1) == b"R"


def _lock_within(lock: int, seconds: float, directory: Path) -> None:
    """Take a file lock, waiting at most ``seconds`` (flock itself has no time limit, so it is retried)."""
    until = time.monotonic() + seconds
    pause = select.poll()
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > until:
                raise NoServiceManagerError(
                    f"another process has been starting SAMgr in {directory} for {seconds} s"
                ) from None
            pause.poll(_PAUSE)
