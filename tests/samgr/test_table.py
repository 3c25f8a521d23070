"""samgr/table.py: the registry against a small model, and its named rules."""

from __future__ import annotations

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from binderkit import RemoteObject, limits
from binderkit.errors import ServiceError
from binderkit.samgr import codes
from binderkit.samgr.ability import AbilityInfo
from binderkit.samgr.table import FIRST_GIVEN_ID, AbilityTable, Entry

OBJECT = RemoteObject("tests.Object")


def entry(ability: int, name: str = "", dump_flags: int = 8) -> Entry:
    return Entry(AbilityInfo(ability, name, 1, 0, dump_flags=dump_flags), OBJECT)


class TableMachine(RuleBasedStateMachine):
    """The table beside a plain dictionary of id -> name."""

    def __init__(self) -> None:
        super().__init__()
        self.table = AbilityTable()
        self.model: dict[int, str] = {}

    def owner(self, name: str) -> int | None:
        return next((ability for ability, known in self.model.items() if name and known == name), None)

    @rule(ability=st.integers(1, 5), name=st.sampled_from(["", "a", "b", "c"]))
    def add_with_id(self, ability: int, name: str) -> None:
        if self.owner(name) not in (None, ability):
            with pytest.raises(ServiceError):
                self.table.add(entry(ability, name))
            return
        added, old = self.table.add(entry(ability, name))
        assert added.info.id == ability
        assert (old.info.name if old is not None else None) == self.model.get(ability)
        self.model[ability] = name

    @rule(name=st.sampled_from(["a", "b", "c"]))
    def add_by_name(self, name: str) -> None:
        known = self.owner(name)
        added, old = self.table.add(entry(0, name))
        assert (old is not None) == (known is not None)
        if known is None:
            assert added.info.id >= FIRST_GIVEN_ID and added.info.id not in self.model
        else:
            assert added.info.id == known
        self.model[added.info.id] = name

    @rule(key=st.integers(1, 5) | st.sampled_from(["a", "b", "c"]))
    def remove(self, key: int | str) -> None:
        ability = self.owner(key) if isinstance(key, str) else key if key in self.model else None
        found = self.table.find(key)
        assert (found.info.id if found is not None else None) == ability
        if found is not None:
            assert self.table.discard(found)
            del self.model[found.info.id]

    @invariant()
    def agrees(self) -> None:
        assert {found.info.id: found.info.name for found in self.table} == self.model
        for ability, name in self.model.items():
            found = self.table.find(ability)
            assert found is not None
            assert not name or self.table.find(name) is found


TestTable = TableMachine.TestCase
TestTable.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)


def test_1000_abilities_and_not_one_more_but_replacing_still_works() -> None:
    table = AbilityTable()
    for ability in range(1, limits.MAX_ABILITIES + 1):
        table.add(entry(ability))
    for late in (entry(limits.MAX_ABILITIES + 1), entry(0, "late")):
        with pytest.raises(ServiceError) as caught:
            table.add(late)
        assert caught.value.code == codes.ABILITY_LIMIT
    table.add(entry(7, "seven"))
    assert len(table) == limits.MAX_ABILITIES


def test_a_name_of_another_ability_is_refused_and_nothing_changes() -> None:
    table = AbilityTable()
    table.add(entry(1, "x"))
    table.add(entry(2, "y"))
    with pytest.raises(ServiceError, match="belongs to system ability 1"):
        table.add(entry(2, "x"))
    assert [found.info.name for found in table] == ["x", "y"]


def test_given_ids_are_not_reused_at_once() -> None:
    table = AbilityTable()
    first, _ = table.add(entry(0, "x"))
    assert table.discard(first)
    second, _ = table.add(entry(0, "x"))
    assert second.info.id != first.info.id


def test_given_ids_go_round_at_the_end() -> None:
    table = AbilityTable()
    table._next_given = limits.MAX_ABILITY_ID
    assert [table.add(entry(0, name))[0].info.id for name in "ab"] == [limits.MAX_ABILITY_ID, FIRST_GIVEN_ID]


def test_discard_takes_out_this_entry_only() -> None:
    table = AbilityTable()
    old, _ = table.add(entry(1))
    new, _ = table.add(entry(1))
    assert not table.discard(old)
    assert table.find(1) is new
    assert table.discard(new)
    assert len(table) == 0


def test_pages_start_after_an_id_and_show_only_the_wanted_priorities() -> None:
    table = AbilityTable()
    for ability, flags in ((3, 8), (1, 1), (2, 9), (4, 4)):
        table.add(entry(ability, dump_flags=flags))
    assert [found.info.id for found in table.page(0, 15)] == [1, 2, 3, 4]
    assert [found.info.id for found in table.page(1, 8)] == [2, 3]
