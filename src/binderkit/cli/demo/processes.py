"""The demo's processes and runtime directories: made here, and gone at the end whatever happens.

Rules upheld: every process that is started is waited for; nothing of the
user's own runtime directory is touched, nor anything that the user's
BINDERKIT_… variables name; this process's environment and signal handler are as
before afterwards, and its driver is closed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType
from typing import Self

from binderkit import process
from binderkit.cli.demo.report import check
from binderkit.driver.autostart import NO_AUTOSTART
from binderkit.driver.runtime import RUNTIME_DIR

END_WAIT = 5.0
"""Seconds a process may take to end when asked to."""
_LONG_END_WAIT = 12.0
"""The same for SAMgr, which ends its services first and gives them 5 s."""
_OURS = "BINDERKIT_"


@dataclass(frozen=True)
class Place:
    """Where the processes of a device run.

    Attributes:
        words: what stands before each command, such as the one that enters a network namespace.
        environment: further variables.
    """

    words: tuple[str, ...] = ()
    environment: Mapping[str, str] = field(default_factory=dict)


class Device:
    """A runtime directory of its own with a SAMgr and services. Use as a context manager.

    Args:
        place: where its processes run.
    """

    def __init__(self, place: Place | None = None) -> None:
        self.directory = Path()
        self._place = place or Place()
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.directory = Path(tempfile.mkdtemp(prefix="binderkit-demo-"))
            stack.callback(shutil.rmtree, self.directory)
            self._prepare(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stack.close()

    def _prepare(self, stack: ExitStack) -> None:
        """Do what else must be there before a process starts; ``stack`` takes it back."""

    def at_end(self, action: Callable[[], None]) -> None:
        """Have ``action`` called before anything that was started so far is ended."""
        self._stack.callback(action)

    def add_profile(self, name: str, text: str) -> None:
        """Put a profile where this device's SAMgr, not started yet, finds it."""
        folder = self.directory / "profiles"
        folder.mkdir(mode=0o700, exist_ok=True)
        profile = folder / name
        profile.touch(mode=0o600)
        profile.write_text(text)

    def start_samgr(self) -> int:
        """Start SAMgr and wait until it listens; return its pid."""
        ready, done = os.pipe()
        with open(ready, "rb") as listening:
            try:
                log = self._stack.enter_context((self.directory / "samgr.log").open("wb"))
                samgr = subprocess.Popen(
                    [*self._python("binderkit.daemon"), "--ready-fd", str(done)],
                    stdin=subprocess.DEVNULL,
                    stderr=log,
                    pass_fds=[done],
                    env=self._environment(),
                )
                self._stack.callback(_finish, samgr, _LONG_END_WAIT)
            finally:
                os.close(done)
            check(listening.read() == b"R", f"SAMgr ended at once: {(self.directory / 'samgr.log').read_text()}")
        return samgr.pid

    def start_service(self, *arguments: str) -> subprocess.Popen[bytes]:
        """Start a photo service; it registers itself with SAMgr. Ends with this process at the latest."""
        return self._start(self._python("binderkit.cli.demo.photo_service", *arguments))

    def start_command(self, *words: str) -> subprocess.Popen[bytes]:
        """Start the command ``binderkit`` with these words; its output is piped."""
        return self._start(self._python("binderkit.cli.main", *words), output=subprocess.PIPE)

    def start_distributed_service(self) -> subprocess.Popen[bytes]:
        """Start a photo service for other devices as well; return when it is registered."""
        service = self._start(self._python("binderkit.cli.demo.photo_service", "--distributed"), subprocess.PIPE)
        assert service.stdout is not None
        check(service.stdout.readline() == b"registered\n", "the photo service ended before it was registered")
        return service

    def _start(self, command: list[str], output: int | None = None) -> subprocess.Popen[bytes]:
        child = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, bufsize=0, env=self._environment())
        self._stack.callback(_finish, child)
        return child

    def _python(self, module: str, *arguments: str) -> list[str]:
        return [*self._place.words, sys.executable, "-m", module, *arguments]

    def _environment(self) -> dict[str, str]:
        others = {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}
        return {**others, **self._place.environment, RUNTIME_DIR: str(self.directory), NO_AUTOSTART: "1"}


class Stage(Device):
    """The device that this process itself is a program of."""

    def _prepare(self, stack: ExitStack) -> None:
        _set_environment(stack, RUNTIME_DIR, str(self.directory))
        _set_environment(stack, NO_AUTOSTART, "1")
        end_in_order(stack)
        stack.callback(process.shutdown)


def end_in_order(stack: ExitStack) -> None:
    """Have SIGTERM end this process as Ctrl-C does, so that what ``stack`` holds is taken back."""
    stack.callback(signal.signal, signal.SIGTERM, signal.signal(signal.SIGTERM, _end))


def _set_environment(stack: ExitStack, name: str, value: str) -> None:
    before = os.environ.get(name)
    os.environ[name] = value
    if before is None:
        stack.callback(os.environ.pop, name, None)
    else:
        stack.callback(os.environ.__setitem__, name, before)


def _end(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)


def _finish(child: subprocess.Popen[bytes], wait: float = END_WAIT) -> None:
    """End a process, first politely, and wait for it."""
    if child.stdin is not None:
        child.stdin.close()
    child.terminate()
    try:
        child.wait(wait)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()
    if child.stdout is not None:
        child.stdout.close()
