"""A typed service that counts on disk, so that executions are known even when its process dies in the middle."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import binderkit as bk
from binderkit import samgr
from binderkit.interface import Interface, Property, idempotent, method, oneway


class IBase(Interface, descriptor="tests.IBase"):
    """Has a method with the same code as one of ICounter, not idempotent."""

    @method
    def append(self, word: str) -> None: ...


class ICounter(IBase, descriptor="tests.ICounter"):
    """Dies when told to, before or after it executed a call."""

    level = Property(int)

    @method
    @idempotent
    def read(self, deaths: int = 0) -> list[str]:
        """Return what was appended; the first ``deaths`` executions kill the process."""

    @method
    def die_after(self, word: str) -> None:
        """Append a word and kill the process before the answer."""

    @method
    def pid(self) -> int: ...

    @method
    @idempotent
    def echo(self, callback: bk.IRemoteObject | None, data: bytes) -> bytes: ...

    @method
    @oneway
    def die(self) -> None: ...


class Counter(ICounter):
    """Appends lines to a file."""

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self.level = 0

    def append(self, word: str) -> None:
        with self._path.open("a") as file:
            file.write(f"{word}\n")

    def read(self, deaths: int = 0) -> list[str]:
        self.append("read")
        words = self._path.read_text().split()
        if words.count("read") <= deaths:
            os.kill(os.getpid(), signal.SIGKILL)
        return words

    def die_after(self, word: str) -> None:
        self.append(word)
        os.kill(os.getpid(), signal.SIGKILL)

    def pid(self) -> int:
        return os.getpid()

    def echo(self, callback: bk.IRemoteObject | None, data: bytes) -> bytes:
        words = self._path.read_text().split() if self._path.exists() else []
        if "echo" not in words:
            self.append("echo")
            os.kill(os.getpid(), signal.SIGKILL)
        return data

    def die(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


def registered(key: int, path: str) -> Counter:
    """Register a Counter: what a child process of a test runs."""
    counter = Counter(path)
    samgr.add_system_ability(key, counter)
    return counter
