"""Where SAMgr is found over sockets: its socket in the runtime directory, and who becomes SAMgr.

Owns: two files of a runtime directory. One runtime directory is one device.

    samgr.lock   held (flock) by the SAMgr of this directory for as long as it lives
    samgr.sock   its listening socket, mode 0600

driver/autostart.py starts SAMgr when none listens.

Rules upheld: a stale socket file is removed only under the lock.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from binderkit.driver.autostart import find_or_start
from binderkit.driver.runtime import accessible_runtime_dir, runtime_dir
from binderkit.driver.unix.activation import take_listening_sockets
from binderkit.errors import DescriptorError, NoServiceManagerError, RefusedError
from binderkit.ipc.context import Caller
from binderkit.ipc.remote import RemoteObject

if TYPE_CHECKING:
    from binderkit.driver.unix.node import Admission, Node

SOCKET = "samgr.sock"
LOCK = "samgr.lock"


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
    directory = accessible_runtime_dir()
    return find_or_start(
        lambda: connect(directory),
        start=start,
        where=str(directory),
        directory=directory,
        variables={"BINDERKIT_DRIVER": "unix"},
    )
