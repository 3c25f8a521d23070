"""What became of the messages of another device: for a sender that never heard. Pure; whoever uses it holds its lock.

Owns: per device, which of its messages run, ended (and which of our objects their reply carried), or shall never run.

Why: a call whose outcome its caller never learnt may or may not have brought objects over, in either direction. The
caller asks once it can (Action.SETTLE), and both sides count alike again. Messages are remembered up to a limit; what
is forgotten counts as arrived, and its references go when the device leaves.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from enum import Enum

from binderkit import limits

__all__ = ["Fate", "Fates"]


class Fate(Enum):
    """What is known of a message."""

    RUNNING = 1
    ENDED = 2
    GIVEN_UP = 3
    """It arrived, and its caller did not wait for the reply."""
    NEVER = 4
    """It did not arrive before its caller gave up, and shall not run if it still does."""


class Fates:
    """The messages of one device."""

    def __init__(self) -> None:
        self._fates: OrderedDict[int, tuple[Fate, tuple[int, ...]]] = OrderedDict()
        self._forgotten = -1

    def begin(self, number: int) -> bool:
        """A message arrived; return whether it may run."""
        if number in self._fates:
            return False
        self._note(number, Fate.RUNNING, ())
        return True

    def end(self, number: int, granted: Sequence[int]) -> bool:
        """A message is answered with a reply that carries our objects ``granted``.

        Returns:
            Whether the reply may go; if not, its caller gave up: take the objects back.
        """
        known = self._fates.get(number)
        if known is not None and known[0] is Fate.GIVEN_UP:
            return False
        self._note(number, Fate.ENDED, tuple(granted))
        return True

    def settle(self, number: int) -> tuple[bool, tuple[int, ...]]:
        """The caller gave up its message: from now on it has no further effect. May be asked again.

        Returns:
            Whether it had arrived (then the objects it carried are counted here), and those of our objects its reply
            carried: to be taken back.
        """
        known = self._fates.get(number)
        if known is None:
            if number <= self._forgotten:
                return True, ()
            self._note(number, Fate.NEVER, ())
            return False, ()
        fate, granted = known
        if fate is Fate.NEVER:
            return False, ()
        self._note(number, Fate.GIVEN_UP, ())
        return True, granted

    def _note(self, number: int, fate: Fate, granted: tuple[int, ...]) -> None:
        self._fates[number] = (fate, granted)
        while len(self._fates) > limits.RPC_SETTLED:
            oldest, _ = self._fates.popitem(last=False)
            self._forgotten = max(self._forgotten, oldest)
