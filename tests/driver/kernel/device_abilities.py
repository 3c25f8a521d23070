"""A system ability that asks another one who it is; SAMgr starts it from a profile."""

from __future__ import annotations

import binderkit as bk
from binderkit import samgr
from binderkit.samgr import OnDemandReason, SystemAbility

ASK, TELL = 1, 2
WHO = 0x200


class _Asking(bk.RemoteObject):
    """Code ASK: calls system ability WHO and passes its answer on. TELL: makes a one-way call to it."""

    def __init__(self) -> None:
        super().__init__("tests.IAsking")

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        flags = bk.MessageOption.TF_ASYNC if code == TELL else bk.MessageOption.TF_SYNC
        with bk.MessageSequence() as asked, bk.MessageSequence() as answer:
            samgr.get_system_ability(WHO).send_request(code, asked, answer, bk.MessageOption(flags))
            if code == ASK:
                for _ in range(3):
                    reply.write_long(answer.read_long())
        return True


class Asking(SystemAbility):
    """Lives in a process with an access token."""

    def on_start(self, reason: OnDemandReason) -> None:
        """Somebody asked for it."""
        self.publish(_Asking())
