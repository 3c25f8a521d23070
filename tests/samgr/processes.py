"""Real SAMgr processes and services for the tests of samgr/ and cli/."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import binderkit as bk
from binderkit import samgr

WAIT = 20.0
"""Seconds after which something that should come is missing."""


@contextmanager
def samgr_process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run SAMgr in the current runtime directory; yields when it listens, ends it unless it ended already."""
    ready, done = os.pipe()
    with open(ready, "rb") as listening:
        command = [sys.executable, "-m", "binderkit.daemon", "--ready-fd", str(done), *arguments]
        process = subprocess.Popen(command, pass_fds=[done], stderr=subprocess.DEVNULL)
        os.close(done)
        try:
            assert listening.read() == b"R"
            yield process
        finally:
            process.terminate()
            process.wait(WAIT)


class Adder(bk.RemoteObject):
    """A service: code 1 adds one to an int, code 2 answers its pid; dumps its arguments."""

    def __init__(self) -> None:
        super().__init__("tests.Adder")

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        if code == 1:
            reply.write_int(data.read_int() + 1)
        elif code == 2:
            reply.write_int(os.getpid())
        else:
            return False
        return True

    def on_dump(self, descriptor: int, arguments: list[str]) -> None:
        os.write(descriptor, f"adder {arguments}\n".encode())


def registered(key: int | str, name: str) -> Adder:
    """Register an Adder with SAMgr and return it: what a child process of a test runs."""
    adder = Adder()
    samgr.add_system_ability(key, adder, name=name)
    return adder


def service_process(key: int | str, name: str = "") -> bk.Child:
    """Start a process with a registered Adder."""
    return bk.spawn("tests.samgr.processes:registered", key, name)


def ask(remote: Any, code: int, value: int = 0) -> int:
    """Call an Adder."""
    with bk.MessageSequence() as data, bk.MessageSequence() as reply:
        data.write_int(value)
        remote.send_request(code, data, reply)
        return reply.read_int()


def listed() -> list[samgr.AbilityInfo]:
    """Return the registered abilities, without those that the daemon itself offers."""
    daemon = samgr.system_ability_manager().as_object()
    assert isinstance(daemon, bk.RemoteProxy)
    return [info for info in samgr.list_system_abilities() if info.pid != daemon.owner.pid]
