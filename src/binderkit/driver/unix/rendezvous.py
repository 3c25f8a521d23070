"""Where SAMgr is found: the runtime directory, its socket, and who becomes SAMgr.

Owns: the files of a runtime directory. One runtime directory is one device.

    samgr.lock   held (flock) by the SAMgr of this directory for as long as it lives
    samgr.sock   its listening socket, mode 0600
    start.lock   held while a process starts SAMgr, so that one winner starts one

Rules upheld: the directory is ours, mode 0700, or it is not used; a stale socket file is
removed only under the lock; whatever is waited for has a time limit.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import socket
import stat
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from binderkit.driver.unix.activation import take_listening_sockets
from binderkit.errors import DescriptorError, IpcError, NoServiceManagerError, RefusedError
from binderkit.ipc.context import Caller
from binderkit.ipc.remote import RemoteObject

if TYPE_CHECKING:
    from binderkit.driver.unix.node import Admission, Node

SOCKET = "samgr.sock"
LOCK = "samgr.lock"
START_LOCK = "start.lock"
LOG = "samgr.log"
START_WAIT = 10.0
"""Seconds SAMgr may take from its start until it listens."""
NO_AUTOSTART = "BINDERKIT_NO_AUTOSTART"
RUNTIME_DIR = "BINDERKIT_RUNTIME_DIR"


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


def same_user(caller: Caller) -> str | None:
    """Admit our own user and root; the default admission."""
    if caller.uid in (os.geteuid(), 0):
        return None
    return f"uid {caller.uid} may not connect to the SAMgr of uid {os.geteuid()}"


def serve_context(node: Node, stub: RemoteObject, *, admission: Admission | None = None) -> Callable[[], None]:
    """Become SAMgr of the runtime directory: ``stub`` is what everybody who connects gets.

    Args:
        admission: says why a caller may not connect, None if it may; default: own user and root.

    A socket that systemd opened for this process ($LISTEN_FDS) and that is bound to the directory's path is used; at
    the end it is left to systemd, which starts the next SAMgr when somebody connects.

    Returns:
        What to call at the end: removes the socket if it is ours, and lets the lock go.

    Raises:
        RefusedError: there is a SAMgr already.
    """
    directory = runtime_dir()
    lock = os.open(directory / LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise RefusedError(f"a SAMgr runs in {directory} already") from None
    path = directory / SOCKET
    try:
        passed = _passed(path)
        node.become_context(stub)
        if passed is not None:
            node.listen_on(passed, admission or same_user)
        else:
            path.unlink(missing_ok=True)  # under the lock: whoever left it is dead
            node.listen(path, admission or same_user)
    except BaseException:
        os.close(lock)
        raise

    def end() -> None:
        if passed is None:
            path.unlink(missing_ok=True)
        os.close(lock)

    return end


def _passed(path: Path) -> socket.socket | None:
    """Return the socket that systemd opened at ``path`` for this process, None without one.

    Raises:
        RefusedError: it opened others.
    """
    sockets = take_listening_sockets()
    if not sockets:
        return None
    if len(sockets) == 1 and os.path.realpath(sockets[0].getsockname()) == os.path.realpath(path):
        return sockets[0]
    names = ", ".join(str(sock.getsockname()) for sock in sockets)
    for sock in sockets:
        sock.close()
    raise RefusedError(f"systemd opened {names} for this process; its runtime directory needs {path}, and only that")


def connect(directory: Path) -> socket.socket | None:
    """Return a connection to the SAMgr of ``directory``, None when none listens.

    Raises:
        RefusedError: the system does not let us near it.
        DescriptorError: this process has no descriptors left.
    """
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        raise DescriptorError(f"no descriptors left for a connection to SAMgr: {error}; raise ulimit -n") from error
    try:
        sock.connect(os.fspath(directory / SOCKET))
    except (FileNotFoundError, ConnectionRefusedError):
        sock.close()
        return None
    except PermissionError as error:
        sock.close()
        raise RefusedError(f"no access to SAMgr in {directory}: {error}") from None
    except OSError as error:
        sock.close()
        if error.errno == errno.EAGAIN:
            raise NoServiceManagerError(
                f"SAMgr in {directory} does not accept connections; it is stopped or overloaded"
            ) from None
        raise
    return sock


def find_context(node: Node, start: bool) -> socket.socket:
    """Return a connection to SAMgr; start one if none runs and that is allowed.

    Raises:
        NoServiceManagerError: none runs, and none may be or could be started.
    """
    try:
        directory = runtime_dir()
    except PermissionError as error:
        if isinstance(error, IpcError):
            raise
        raise RefusedError(f"no access to the runtime directory {_runtime_path()}: {error}") from None
    sock = connect(directory)
    if sock is not None:
        return sock
    if not start or os.environ.get(NO_AUTOSTART):
        raise NoServiceManagerError(
            f"no SAMgr runs in {directory}; start one with 'binderkit samgr'"
            + (f", or unset {NO_AUTOSTART}" if os.environ.get(NO_AUTOSTART) else "")
        )
    return _start(directory)


def _start(directory: Path) -> socket.socket:
    """Start SAMgr, one process of those that try; all wait until it listens."""
    import subprocess  # only the process that starts SAMgr pays for it

    lock = os.open(directory / START_LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        _lock_within(lock, START_WAIT, directory)
        sock = connect(directory)
        if sock is not None:
            return sock
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
        sock = connect(directory) if listening else None
        if sock is None:
            process.poll()
            raise NoServiceManagerError(f"SAMgr was started in {directory} but does not listen; see {directory / LOG}")
        # It lives on its own: nobody here waits for it, so no warning when this object goes.
        process.returncode = 0
        return sock
    finally:
        os.close(lock)


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
            pause.poll(10)
