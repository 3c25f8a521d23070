"""What is kept for another device: generations, and the fates of its messages. Pure; used under the service's lock.

A **generation** is a random number a device names itself by towards one other device. It is new with every start of
dbinder, and whenever the other device was seen to leave: what had been given to it before is dead then. Every message
carries the sender's, and the receiver's as the sender knows it. So an object of an earlier life is never mistaken for a
new one, even when only one side saw the connection break.

Only who saw the break takes a new generation; who learns of one from a message keeps its own. Otherwise two devices
could answer each other's new generation with new ones for ever.
"""

from __future__ import annotations

import os
from collections import deque
from enum import Enum
from typing import Final

from binderkit import limits
from binderkit.dbinder.fates import Fates

__all__ = ["Admission", "Peer"]


class Admission(Enum):
    """What a message's generations say."""

    FINE = 1
    RENEWED = 2
    """The device has a new generation: what it gave us is dead, what we gave it is not held any more."""
    OUTDATED = 3
    """The message is of an earlier generation of the device."""


class Peer:
    """Another device.

    Attributes:
        udid: its stable identity.
        mine: our generation towards it; theirs: its towards us, 0 while unknown.
        boot: its boot as the network tells, "" while unknown.
        fates: of its messages.
    """

    def __init__(self, udid: str) -> None:
        self.udid: Final = udid
        self.mine = _new_generation()
        self.theirs = 0
        self.boot = ""
        self.fates = Fates()
        self._past: deque[int] = deque(maxlen=limits.RPC_OLD_BOOTS)

    def admit(self, own: int) -> Admission:
        """A message or reply of generation ``own`` came; note a new one."""
        if own == self.theirs and own:
            return Admission.FINE
        if not own or own in self._past:
            return Admission.OUTDATED
        first = self.theirs == 0
        if not first:
            self._past.append(self.theirs)
            self.fates = Fates()
        self.theirs = own
        return Admission.FINE if first else Admission.RENEWED

    def left(self) -> None:
        """The device was seen to leave: we begin anew towards it.

        It may not have noticed, and go on under the generation we know: that one is not outdated. What it sent before
        names our former generation.
        """
        self.theirs = 0
        self.mine = _new_generation()
        self.fates = Fates()


def _new_generation() -> int:
    return int.from_bytes(os.urandom(8), "little") | 1
