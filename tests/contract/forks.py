"""Child processes of the kernel's world, forked from one that has already imported everything: ``ForkServer``.

Owns: the server, its protocol and the handle of a child. Why: under emulation a Python that starts and imports this
package takes over a second, most of a case's time; a fork of one that has done so takes hundredths of it.

The server has made no driver and no thread, so its children may: each opens the device for itself. A request is one
packet, the order that ``binderkit.child`` would get; the answer is the child's pid with a pidfd of it. The server reaps
its children, and ends when nobody is left at the other end of its socket, however that came; the children end with the
process whose orders they have, as all children of this package do.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import traceback
from collections.abc import Iterator
from typing import Any, NoReturn

LARGEST_ORDER = 64 * 1024
PID = struct.Struct("=i")
PATIENCE = 60.0
"""Seconds after which a server that does not answer, or a child that does not end, is a failure instead of a hang."""
PRELOADED = (
    "asyncio",
    "binderkit.child",
    "binderkit.driver.kernel.meeting",
    "binderkit.driver.kernel.node",
    "binderkit.driver.unix.ending",
    "binderkit.ipc.loop",
    "binderkit.memory.ashmem",
    "binderkit.process",
    "tests.contract.service",
)
"""What a child needs; what is missing here each of them imports by itself."""


class Forked:
    """A child process of the server.

    Attributes:
        pid: its process id.
    """

    def __init__(self, pid: int, pidfd: int) -> None:
        self.pid = pid
        self._pidfd = pidfd
        self._end = select.poll()
        self._end.register(pidfd, select.POLLIN)

    def is_alive(self) -> bool:
        """Whether it still runs."""
        return self._pidfd >= 0 and not self._end.poll(0)

    def send(self, number: int) -> None:
        """Send it a signal, if it still runs."""
        if self._pidfd >= 0:
            with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                signal.pidfd_send_signal(self._pidfd, number)

    def wait(self, patience: float = PATIENCE) -> bool:
        """Wait for its end, at most ``patience`` seconds; return whether it has ended."""
        return self._pidfd < 0 or bool(self._end.poll(patience * 1000))

    def kill(self) -> None:
        """End it at once (SIGKILL) and wait for that."""
        self.send(signal.SIGKILL)
        assert self.wait(), f"process {self.pid} outlives SIGKILL"

    def close(self) -> None:
        """End it (SIGTERM, then SIGKILL) and forget it. Idempotent."""
        if self._pidfd < 0:
            return
        self.send(signal.SIGTERM)
        if not self.wait():
            self.kill()
        pidfd, self._pidfd = self._pidfd, -1
        os.close(pidfd)


class ForkServer:
    """The process that forks the children, seen by the one that orders them."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._socket.settimeout(PATIENCE)
        paths = os.pathsep.join(path for path in sys.path if path)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.contract.forks", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                env={**os.environ, "PYTHONPATH": paths},
            )

    def start(self, order: dict[str, Any]) -> Forked:
        """Fork a child.

        Args:
            order: what ``binderkit.child`` is to do on a device.
        """
        self._socket.send(json.dumps(order).encode())
        told, descriptors, _, _ = socket.recv_fds(self._socket, PID.size, 1)
        if not told:
            raise ChildProcessError(f"the fork server has ended with code {self._process.wait()}: see its error output")
        return Forked(*PID.unpack(told), *descriptors)

    def close(self) -> None:
        """End it; children that still run are left alone."""
        self._socket.close()
        self._process.wait(PATIENCE)


_servers: list[ForkServer] = []


@contextlib.contextmanager
def running_server() -> Iterator[ForkServer]:
    """Run a server, which ``server()`` returns meanwhile."""
    started = ForkServer()
    _servers.append(started)
    try:
        yield started
    finally:
        _servers.remove(started)
        started.close()


def server() -> ForkServer:
    """Return the server of this process."""
    assert _servers, "no fork server runs: enter running_server() first (tests/contract/conftest.py does)"
    return _servers[-1]


def serve(requests: socket.socket) -> None:
    """Fork a child for each order and reap those that ended, until nobody can send orders any more."""
    events = select.poll()
    events.register(requests, select.POLLIN)
    living: set[int] = set()
    while True:
        for fd, _ in events.poll():
            if fd != requests.fileno():
                events.unregister(fd)
                living.remove(fd)
                os.waitid(os.P_PIDFD, fd, os.WEXITED)
                os.close(fd)
            elif order := requests.recv(LARGEST_ORDER):
                pidfd = _fork(requests, order, living)
                living.add(pidfd)
                events.register(pidfd, select.POLLIN)
            else:
                return


def _fork(requests: socket.socket, order: bytes, inherited: set[int]) -> int:
    pid = os.fork()
    if pid == 0:
        _run(requests, order, inherited)
    pidfd = os.pidfd_open(pid)
    socket.send_fds(requests, [PID.pack(pid)], [pidfd])
    return pidfd


def _run(requests: socket.socket, order: bytes, inherited: set[int]) -> NoReturn:
    """Be the child: never return into the server's loop."""
    status = 1
    try:
        requests.close()
        for pidfd in inherited:
            os.close(pidfd)
        from binderkit.child import serve_over_device

        status = serve_over_device(json.loads(order))
    except BaseException:  # told as Python's own end of a process would
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def main(words: list[str]) -> int:
    """Be the server."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever ordered the children decides when all of this ends
    for module in PRELOADED:
        importlib.import_module(module)
    gc.collect()
    gc.freeze()
    with socket.socket(fileno=int(words[0])) as requests:
        serve(requests)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
