"""Who holds what, against a model: random making, passing on, dropping and killing, over real references.

The model is a set of holders for each object. After every step each living process must have exactly those of its
objects alive that somebody holds; an object that is held must be callable, and be the same proxy as before.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

import binderkit as bk
from tests.contract.messages import transact
from tests.contract.service import Code
from tests.contract.world import WORLDS, Other, World, eventually, open_world

PROCESSES = 3
INDEX = st.integers(min_value=0)


class References(RuleBasedStateMachine):
    """One world; ``DRIVER`` says over which driver."""

    DRIVER = "loopback"

    def __init__(self) -> None:
        super().__init__()
        self._context = open_world(self.DRIVER)
        self.world: World = self._context.__enter__()
        self.others: list[Other] = self.world.start(PROCESSES)
        self.number = 0
        self.mine: dict[str, bk.RemoteProxy] = {}
        self.kept: dict[str, set[int]] = {}
        self.owner: dict[str, int] = {}

    def living(self) -> list[int]:
        return [at for at, other in enumerate(self.others) if other.is_alive()]

    def held(self) -> list[str]:
        return sorted(name for name in self.owner if self.kept[name] or name in self.mine)

    def reachable(self) -> list[str]:
        return [name for name in self.held() if self.others[self.owner[name]].is_alive()]

    def proxy(self, name: str) -> bk.RemoteProxy:
        """Return our proxy of an object, fetched from a holder if we have none."""
        if name in self.mine:
            return self.mine[name]
        holder = min(self.kept[name])
        found: bk.RemoteProxy = transact(self.others[holder].root, Code.GIVE, name).read_remote_object()
        return found

    @precondition(lambda self: self.living())
    @rule(at=INDEX)
    def make(self, at: int) -> None:
        owner = self.living()[at % len(self.living())]
        self.number += 1
        name = f"object {self.number}"
        self.mine[name] = transact(self.others[owner].root, Code.MAKE, "service").read_remote_object()
        self.owner[name], self.kept[name] = owner, set()

    @precondition(lambda self: self.reachable() and self.living())
    @rule(which=INDEX, at=INDEX)
    def hand_over(self, which: int, at: int) -> None:
        name = self.reachable()[which % len(self.reachable())]
        holder = self.living()[at % len(self.living())]
        transact(self.others[holder].root, Code.KEEP, name, self.proxy(name))
        self.kept[name].add(holder)

    @precondition(lambda self: self.reachable() and len(self.living()) > 1)
    @rule(which=INDEX, via=INDEX, at=INDEX)
    def pass_on(self, which: int, via: int, at: int) -> None:
        name = self.reachable()[which % len(self.reachable())]
        living = self.living()
        between, holder = living[via % len(living)], living[at % len(living)]
        transact(self.others[between].root, Code.PASS_ON, self.others[holder].root, name, self.proxy(name))
        self.kept[name].add(holder)

    @precondition(lambda self: self.mine)
    @rule(which=INDEX)
    def drop_ours(self, which: int) -> None:
        del self.mine[sorted(self.mine)[which % len(self.mine)]]

    @precondition(lambda self: any(self.kept.values()))
    @rule(which=INDEX, at=INDEX)
    def drop_theirs(self, which: int, at: int) -> None:
        names = sorted(name for name in self.kept if self.kept[name])
        name = names[which % len(names)]
        holders = sorted(self.kept[name])
        holder = holders[at % len(holders)]
        transact(self.others[holder].root, Code.DROP, name)
        self.kept[name].discard(holder)

    @precondition(lambda self: self.reachable())
    @rule(which=INDEX)
    def fetch(self, which: int) -> None:
        name = self.reachable()[which % len(self.reachable())]
        proxy = self.proxy(name)
        assert self.mine.setdefault(name, proxy) is proxy
        for holder in self.kept[name]:
            assert transact(self.others[holder].root, Code.IS_KEPT, name, proxy).read_boolean()
        proxy.ping()

    @precondition(lambda self: len(self.living()) > 1)
    @rule(at=INDEX, really=st.sampled_from([False] * 9 + [True]))
    def kill(self, at: int, really: bool) -> None:
        if not really:
            return
        victim = self.living()[at % len(self.living())]
        self.others[victim].kill()
        eventually(self.others[victim].root.is_object_dead, "the death is noticed")
        for name, holders in self.kept.items():
            holders.discard(victim)
            if self.owner[name] == victim:
                self.mine.pop(name, None)

    @rule()
    def look(self) -> None:
        for at in self.living():
            wanted = sum(self.owner[name] == at for name in self.held())
            # A full collection is slow in a process full of tests, and seldom needed.
            if self.made(at, 1) != wanted:
                eventually(partial(self.keeps, at, wanted), f"process {at} keeps just what is held", 3)

    def keeps(self, at: int, wanted: int) -> bool:
        return self.made(at, 2) == wanted

    def made(self, at: int, generation: int) -> int:
        self.world.flush()
        return transact(self.others[at].root, Code.MADE, generation).read_long()

    def teardown(self) -> None:
        self.look()
        self.mine.clear()
        for name, holders in self.kept.items():
            for holder in holders:
                transact(self.others[holder].root, Code.DROP, name)
            holders.clear()
        self.owner.clear()
        self._context.__exit__(None, None, None)


EXAMPLES = {"loopback": 12, "unix": 4, "kernel": 2}
assert set(EXAMPLES) >= set(WORLDS), "every driver is checked against the model"


@pytest.mark.timeout(120)
def test_references_follow_the_model(driver_name: str) -> None:
    machine: Any = type("References", (References,), {"DRIVER": driver_name})
    quick = settings(
        max_examples=EXAMPLES[driver_name],
        stateful_step_count=40,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run_state_machine_as_test(machine, settings=quick)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_references_follow_the_model_for_long(driver_name: str) -> None:
    machine: Any = type("References", (References,), {"DRIVER": driver_name})
    long = settings(
        max_examples=EXAMPLES[driver_name] * 5,
        stateful_step_count=100,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        database=None,
    )
    run_state_machine_as_test(machine, settings=long)
