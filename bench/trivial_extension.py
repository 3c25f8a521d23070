"""The smallest service ability: answers the int it is sent. A bundle's manifest names it."""

from __future__ import annotations

import binderkit as bk
from binderkit.ability import ServiceExtensionAbility, Want

ECHO = 1


class Answers(bk.RemoteObject):
    """What a client gets."""

    def __init__(self) -> None:
        super().__init__("bench.IAnswers")

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        """Answer ECHO."""
        if code != ECHO:
            return False
        reply.write_int(data.read_int())
        return True


class Trivial(ServiceExtensionAbility):
    """The ability."""

    def on_connect(self, want: Want) -> bk.RemoteObject:
        """Return the object."""
        return Answers()
