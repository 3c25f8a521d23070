"""One daemon for each runtime directory, from before it touches anything until the services it ends are gone.

Owns: daemon.lock. Why beside samgr.lock, which says who listens: a daemon takes services over before it listens, and
ends services after it listened; a second one that did so meanwhile would end the services of the first.

Rules upheld: a second daemon is refused before it did anything; one that is started while the last one still ends its
services waits for that.
"""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from binderkit.errors import RefusedError

LOCK: Final = "daemon.lock"
END_WAIT: Final = 15.0
"""Seconds another daemon may take from its start until it listens, or from then on until its services ended."""
_PAUSE: Final = 0.02


@contextmanager
def alone(directory: Path, listens: Callable[[], bool]) -> Iterator[None]:
    """Be the only daemon of a runtime directory inside the block.

    Args:
        directory: the runtime directory.
        listens: whether its SAMgr answers.

    Raises:
        RefusedError: another one runs (303).
    """
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        _take(lock, directory, listens)
        yield
    finally:
        os.close(lock)


def _take(lock: int, directory: Path, listens: Callable[[], bool]) -> None:
    until, rest = time.monotonic() + END_WAIT, threading.Event()
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            # It listens: then it is to stay. Else it begins, or ends.
            if listens() or time.monotonic() > until:
                raise RefusedError(f"a SAMgr runs in {directory} already") from None
        rest.wait(_PAUSE)
