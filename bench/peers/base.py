"""What the benchmark asks of a package: start a server process, connect, and do the same few things.

A contender lives in a client process of its own (bench/worker.py). Its server
runs in a second process, over a UNIX socket or loopback in a private folder.
What a package cannot do stays out of ``offers``, with the reason in the
head of its file, and the table shows a dash.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import ClassVar

SERVER_LIFE = 900
"""Seconds after which a server ends whatever happens."""
_PR_SET_PDEATHSIG = 1
GO = b"go\n"


def bind_to_parent() -> None:
    """Let this process end with the one that started it, and after SERVER_LIFE seconds at the latest."""
    end_with_parent(signal.SIGKILL)
    signal.alarm(SERVER_LIFE)


def end_with_parent(number: signal.Signals) -> None:
    """Have this process, and what it becomes by exec, sent a signal when the thread that started it ends."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")


class Peer(ABC):
    """One contender, in its client process.

    Args:
        folder: private to this contender; sockets and addresses go there.
    """

    name: ClassVar[str]
    offers: ClassVar[frozenset[str]] = frozenset({"echo", "payload", "clients"})

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def start(self) -> None:
        """Start the server process and connect to it."""
        self._server = start_module("bench.peers.serve", self.name, str(self.folder))
        self.connect()

    @abstractmethod
    def connect(self) -> None:
        """Connect to the server that runs in ``folder``."""

    @abstractmethod
    def echo(self, value: int) -> int:
        """Send an int and get it back."""

    @abstractmethod
    def put(self, data: bytes) -> int:
        """Send ``data``; the server touches every page and answers the number of bytes it got."""

    def notify(self, value: int) -> None:
        """Send an int without waiting for anything."""
        raise NotImplementedError(f"{self.name} offers no one-way calls")

    def count(self) -> int:
        """Return how many one-way calls the server has handled."""
        raise NotImplementedError(f"{self.name} offers no one-way calls")

    def special(self, action: str, seconds: float, number: int) -> dict[str, float]:
        """Measure something that only this contender offers."""
        raise NotImplementedError(f"{self.name} offers no {action}")

    def pids(self) -> list[int]:
        """Return the processes beside this one that take part in a call."""
        return [self._server.pid]

    def load(self, clients: int, seconds: float) -> float:
        """Let ``clients`` processes call echo at the same time; return calls per second of all together."""
        with ExitStack() as stack:
            workers = []
            for _ in range(clients):
                worker = start_module("bench.peers.load", self.name, str(self.folder), str(seconds))
                stack.callback(stop, worker)
                workers.append(worker)
            for worker in workers:
                assert worker.stdin is not None
                worker.stdin.write(GO)
                worker.stdin.flush()
            return sum(int(read_line(worker)) for worker in workers) / seconds

    def close(self) -> None:
        """End the server process."""
        stop(self._server)


def start_module(module: str, *arguments: str, environment: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
    """Start ``python -m module arguments`` and wait until it writes its first line ("ready").

    Args:
        module, arguments: what is run. environment: its variables; default: those of this process.

    Raises:
        RuntimeError: it ended before.
    """
    command = [sys.executable, "-m", module, *arguments]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], env=environment
    )
    if read_line(process) != "ready":
        stop(process)
        raise RuntimeError(f"{' '.join(command)} did not start; its own words are above")
    return process


def read_line(process: subprocess.Popen[bytes]) -> str:
    """Return the next line of a process's output, "" when it ended."""
    assert process.stdout is not None
    return process.stdout.readline().decode().strip()


def say_ready() -> None:
    """Tell the process that used ``start_module`` that this one can be used now."""
    os.write(1, b"ready\n")


def stop(process: subprocess.Popen[bytes]) -> None:
    """Kill a process started by ``start_module`` and release what belongs to it."""
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
