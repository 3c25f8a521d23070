"""An ability that writes down each of its starts; imports nothing of the tests."""

from __future__ import annotations

import os
from pathlib import Path

import binderkit as bk
from binderkit.samgr.reason import OnDemandReason
from binderkit.samgr.system_ability import SystemAbility


class Adder(bk.RemoteObject):
    """Code 1 adds one to an int."""

    def __init__(self) -> None:
        super().__init__("tests.Adder")

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        reply.write_int(data.read_int() + 1)
        return True


class Counted(SystemAbility):
    """Appends its id and pid to the file STARTS of its profile's environment."""

    def on_start(self, reason: OnDemandReason) -> None:
        with Path(os.environ["STARTS"]).open("a") as file:
            file.write(f"{self.ability_id} {os.getpid()}\n")
        self.publish(Adder())
