"""The service ability of a stress test's bundle; imports nothing of the tests."""

from __future__ import annotations

import binderkit as bk
from binderkit.ability import ServiceExtensionAbility, Want


class Adder(bk.RemoteObject):
    """Code 1 adds one to an int."""

    def __init__(self) -> None:
        super().__init__("tests.Adder")

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        reply.write_int(data.read_int() + 1)
        return True


class Echo(ServiceExtensionAbility):
    """Answers everybody with an Adder."""

    def on_connect(self, want: Want) -> bk.RemoteObject:
        return Adder()
