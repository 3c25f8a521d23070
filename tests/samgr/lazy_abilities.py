"""System abilities that work, and that do not, for the tests of on-demand starts; imports nothing of the tests."""

from __future__ import annotations

import os
import threading

import binderkit as bk
from binderkit.samgr.reason import OnDemandReason
from binderkit.samgr.system_ability import SystemAbility


class Adder(bk.RemoteObject):
    """Code 1 adds one to an int, code 2 answers its pid."""

    def __init__(self) -> None:
        super().__init__("tests.Adder")

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        reply.write_int(data.read_int() + 1 if code == 1 else os.getpid())
        return True


class Lazy(SystemAbility):
    """Is started on demand and works."""

    def on_start(self, reason: OnDemandReason) -> None:
        self.publish(Adder())


class Crashing(SystemAbility):
    """Takes its process with it."""

    def on_start(self, reason: OnDemandReason) -> None:
        os._exit(3)


class Failing(SystemAbility):
    """Fails at its start."""

    def on_start(self, reason: OnDemandReason) -> None:
        raise ValueError("no such lamp")


class Silent(SystemAbility):
    """Starts, and never publishes anything."""


class Hanging(SystemAbility):
    """Never ends its start."""

    def on_start(self, reason: OnDemandReason) -> None:
        threading.Event().wait()


class Busy(Lazy):
    """Is never idle."""

    def on_idle(self, reason: OnDemandReason) -> int:
        return -1
