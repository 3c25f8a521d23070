"""samgr/known.py: what a listener was told, over restarts of SAMgr."""

from __future__ import annotations

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from binderkit.samgr.known import KnownAbilities

ABILITIES = st.integers(min_value=1, max_value=4)


def test_what_comes_back_is_removed_first_and_what_does_not_is_removed() -> None:
    known = KnownAbilities()
    assert not known.added(1, 10) and not known.added(2, 10)
    known.lost(10)
    assert known.added(1, 11)
    assert known.settle() == [2]
    assert known.settle() == []
    assert not known.added(2, 11)


def test_what_the_dead_samgr_still_says_confirms_nothing() -> None:
    known = KnownAbilities()
    known.added(1, 10)
    known.lost(10)
    assert not known.added(2, 10)
    assert known.added(1, 10)
    assert known.settle() == [1, 2]


class Restarts(RuleBasedStateMachine):
    """Whatever SAMgrs say and whenever they die, the listener's picture is that of an ideal observer."""

    def __init__(self) -> None:
        super().__init__()
        self.known = KnownAbilities()
        self.pid = 100
        self.there: set[int] = set()
        self.believed: set[int] = set()
        self.doubtful: set[int] = set()

    @rule(ability=ABILITIES)
    def add(self, ability: int) -> None:
        self.there.add(ability)
        removed_first = self.known.added(ability, self.pid)
        assert removed_first == (ability in self.doubtful)
        self.doubtful.discard(ability)
        self.believed.add(ability)

    @rule(ability=ABILITIES)
    def remove(self, ability: int) -> None:
        self.there.discard(ability)
        self.known.removed(ability)
        self.doubtful.discard(ability)
        self.believed.discard(ability)

    @rule(survivors=st.sets(ABILITIES))
    def restart(self, survivors: set[int]) -> None:
        self.known.lost(self.pid)
        self.doubtful |= self.believed
        self.pid += 1
        self.there &= survivors
        for ability in sorted(self.there):
            self.add(ability)

    @rule()
    def settle(self) -> None:
        assert self.known.settle() == sorted(self.doubtful)
        self.believed -= self.doubtful
        self.doubtful.clear()

    @invariant()
    def nobody_is_believed_gone_who_is_there(self) -> None:
        assert self.there <= self.believed
        assert self.believed - self.there <= self.doubtful


TestRestarts = Restarts.TestCase
