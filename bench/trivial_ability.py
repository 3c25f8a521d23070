"""The smallest system ability: answers the int it is sent, or when its process began.

Profiles name this file, so it imports nothing that such a service would not import itself.
"""

from __future__ import annotations

import os
from typing import Final

import binderkit as bk
from binderkit.samgr.system_ability import SystemAbility

ECHO: Final = 1
BEGAN: Final = 2
BEGAN_VARIABLE: Final = "BENCH_BEGAN_NS"
"""Environment variable with the time (time.monotonic_ns) at which the process's interpreter was ready."""


class Answers(bk.RemoteObject):
    """The published object."""

    def __init__(self) -> None:
        super().__init__("bench.IAnswers")

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        """Answer ECHO and BEGAN."""
        if code == ECHO:
            reply.write_int(data.read_int())
            return True
        if code == BEGAN:
            reply.write_long(int(os.environ[BEGAN_VARIABLE]))
            return True
        return False


class Trivial(SystemAbility):
    """The ability."""

    def on_start(self, reason: object) -> None:
        """Publish the object."""
        self.publish(Answers())
