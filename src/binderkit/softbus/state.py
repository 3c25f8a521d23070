"""The state directory: one softbus process at a time, and nobody else's hands.

Owns: ``StateDirectory``, which makes the folder (0700), looks at whose it is, and holds its lock (``softbus.lock``) for
as long as softbus runs.

Why: two processes with one key are two devices with one UDID: each would hear the other as itself, and one would write
over what the other wrote.

Rules upheld: a folder of another user, or one that others may enter or write, is not used; the lock goes with its
process, however that ends.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path
from typing import Final

from binderkit.errors import SoftBusError

__all__ = ["StateDirectory"]

_LOCK: Final = "softbus.lock"


class StateDirectory:
    """The folder with the device's key and trust, for this process alone until ``close``.

    Args:
        path: it is made when it is not there, with its parents.

    Raises:
        SoftBusError: it is not safe, or another process uses it; the text says what to do (-426442749).
        OSError: it cannot be made or opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        _check(path)
        lock = os.open(path / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.read(lock, 20).decode("ascii", "replace").strip()
            os.close(lock)
            raise SoftBusError(
                f"another softbus process{f' (pid {holder})' if holder.isdecimal() else ''} uses {path}: a second one "
                "would be the same device; stop it, or give this device a state of its own: set BINDERKIT_SOFTBUS_STATE"
            ) from None
        self._lock: int | None = lock
        os.ftruncate(lock, 0)
        os.pwrite(lock, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let another process have it; may be called twice."""
        lock, self._lock = self._lock, None
        if lock is not None:
            os.close(lock)


def _check(path: Path) -> None:
    facts = path.stat()
    if facts.st_uid != os.geteuid():
        raise SoftBusError(
            f"{path} belongs to user {facts.st_uid}, who could replace the key in it; use a folder of user "
            f"{os.geteuid()}, or set BINDERKIT_SOFTBUS_STATE to one"
        )
    mode = stat.S_IMODE(facts.st_mode)
    if mode & 0o077:
        raise SoftBusError(
            f"{path} has mode {mode:04o}, so others may enter it, and may have changed what is in it: chmod 700 it if "
            "you are sure that nobody did"
        )
