"""The demo's processes and its runtime directory: made here, and gone at the end whatever happens.

Rules upheld: every process that is started is waited for; nothing of the
user's own runtime directory is touched; this process's environment and signal
handler are as before afterwards, and its driver is closed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from types import FrameType, TracebackType

from binderkit import process
from binderkit.cli.demo.report import check
from binderkit.driver.unix.rendezvous import NO_AUTOSTART, RUNTIME_DIR

END_WAIT = 5.0
"""Seconds a process may take to end when asked to."""


class Stage:
    """A runtime directory of its own ("a device") with a SAMgr and services. Use as a context manager."""

    def __init__(self) -> None:
        self.directory = Path()
        self._stack = ExitStack()

    def __enter__(self) -> Stage:
        with ExitStack() as stack:
            self.directory = Path(tempfile.mkdtemp(prefix="binderkit-demo-"))
            stack.callback(shutil.rmtree, self.directory)
            _set_environment(stack, RUNTIME_DIR, str(self.directory))
            _set_environment(stack, NO_AUTOSTART, "1")
            # A polite end must run the code above backwards, too.
            stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _end))
            stack.callback(process.shutdown)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def start_samgr(self) -> int:
        """Start SAMgr and wait until it listens; return its pid."""
        ready, done = os.pipe()
        with open(ready, "rb") as listening:
            try:
                log = self._stack.enter_context((self.directory / "samgr.log").open("wb"))
                samgr = subprocess.Popen(
                    [sys.executable, "-m", "binderkit.daemon", "--ready-fd", str(done)],
                    stdin=subprocess.DEVNULL,
                    stderr=log,
                    pass_fds=[done],
                )
                self._stack.callback(_finish, samgr)
            finally:
                os.close(done)
            check(listening.read() == b"R", f"SAMgr ended at once: {(self.directory / 'samgr.log').read_text()}")
        return samgr.pid

    def start_service(self) -> subprocess.Popen[bytes]:
        """Start a photo service; it registers itself with SAMgr. Ends with this process at the latest."""
        service = subprocess.Popen(
            [sys.executable, "-m", "binderkit.cli.demo.photo_service"], stdin=subprocess.PIPE, bufsize=0
        )
        self._stack.callback(_finish, service)
        return service


def _set_environment(stack: ExitStack, name: str, value: str) -> None:
    before = os.environ.get(name)
    os.environ[name] = value
    if before is None:
        stack.callback(os.environ.pop, name, None)
    else:
        stack.callback(os.environ.__setitem__, name, before)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _finish(child: subprocess.Popen[bytes]) -> None:
    """End a process, first politely, and wait for it."""
    if child.stdin is not None:
        child.stdin.close()
    child.terminate()
    try:
        child.wait(END_WAIT)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
