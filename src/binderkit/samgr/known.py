"""What a listener was told, so that it hears what changed while SAMgr was restarted. Pure.

Rule upheld: told Added, a listener hears Removed some day, also when the SAMgr that would have said so died first.
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class KnownAbilities:
    """The abilities one listener believes to be there, and which of them no living SAMgr confirmed yet."""

    _present: set[int] = field(default_factory=set)
    _unconfirmed: set[int] = field(default_factory=set)
    _lost_pid: int = 0

    def lost(self, manager_pid: int) -> None:
        """Note that SAMgr died: nothing of what it said is sure any more."""
        self._lost_pid = manager_pid
        self._unconfirmed |= self._present

    def added(self, ability: int, manager_pid: int) -> bool:
        """Note an Added event; return whether Removed has to be told first.

        It has to when the ability was there under a former SAMgr: the object may be another one now. What the dead
        SAMgr said last and only now arrives confirms nothing; where the driver does not say who tells (0), it is
        taken as the word of the SAMgr that lives.
        """
        if manager_pid and manager_pid == self._lost_pid:
            again = ability in self._present
            self._present.add(ability)
            self._unconfirmed.add(ability)
            return again
        self._present.add(ability)
        if ability not in self._unconfirmed:
            return False
        self._unconfirmed.remove(ability)
        return True

    def removed(self, ability: int) -> None:
        """Note a Removed event."""
        self._present.discard(ability)
        self._unconfirmed.discard(ability)

    def settle(self) -> list[int]:
        """Return what did not come back, in order; it counts as removed from now on."""
        gone = sorted(self._unconfirmed)
        self._present -= self._unconfirmed
        self._unconfirmed.clear()
        return gone
