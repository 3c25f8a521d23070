"""The runtime directory: where the files of one device are, whatever driver its processes use.

Owns: which directory that is, and that it is safe. What is in it belongs to those who write it (driver/autostart.py,
driver/unix/rendezvous.py, the daemon).

Rules upheld: the directory is ours, mode 0700, or it is not used.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from binderkit.errors import IpcError, RefusedError

RUNTIME_DIR: Final = "BINDERKIT_RUNTIME_DIR"


def runtime_dir() -> Path:
    """Return this device's runtime directory; make it (mode 0700) if it is not there.

    $BINDERKIT_RUNTIME_DIR, else $XDG_RUNTIME_DIR/binderkit, else /tmp/binderkit-UID.

    Raises:
        RefusedError: it belongs to somebody else, or others may enter it.
    """
    path = _runtime_path()
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = path.stat()
    if facts.st_uid != os.geteuid() and os.geteuid() != 0:
        raise RefusedError(
            f"the runtime directory {path} belongs to uid {facts.st_uid}; set {RUNTIME_DIR} to one of yours"
        )
    if stat.S_IMODE(facts.st_mode) & 0o077:
        raise RefusedError(f"others may enter the runtime directory {path}; run: chmod 700 {path}")
    return path


def accessible_runtime_dir() -> Path:
    """Return ``runtime_dir()`` for a program that looks for SAMgr.

    Raises:
        RefusedError: it is unsafe, or the system does not let us near it.
    """
    try:
        return runtime_dir()
    except PermissionError as error:
        if isinstance(error, IpcError):
            raise
        raise RefusedError(f"no access to the runtime directory {_runtime_path()}: {error}") from None


def _runtime_path() -> Path:
    named = os.environ.get(RUNTIME_DIR)
    if named:
        return Path(named)
    return default_runtime_dir()


def default_runtime_dir(environment: Mapping[str, str] = os.environ) -> Path:
    """Return the runtime directory of whoever names none: $XDG_RUNTIME_DIR/binderkit, else /tmp/binderkit-UID."""
    session = environment.get("XDG_RUNTIME_DIR")
    if session:
        return Path(session) / "binderkit"
    return Path(f"/tmp/binderkit-{os.geteuid()}")
