"""samgr/lifecycle_catalog.py: profiles that change while their processes run, step by step and in any order."""

from __future__ import annotations

from collections.abc import Iterable

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import invariant, rule

from binderkit import limits
from binderkit.errors import ServiceError
from binderkit.samgr import codes
from binderkit.samgr.conditions import EventRule
from binderkit.samgr.lifecycle import Lifecycle
from binderkit.samgr.lifecycle_actions import (
    Action,
    KillProcess,
    Loaded,
    LoadFailed,
    ProcessChanged,
    ProfilesChanged,
    StartAbility,
    StartProcess,
    StopAbility,
)
from binderkit.samgr.lifecycle_catalog import Catalog, ProfileChanges
from binderkit.samgr.profile import BootPhase, OnDemandEvents, Profile
from binderkit.samgr.reason import ReasonId
from binderkit.samgr.states import AbilityState, ProcessChange, ProcessState
from tests.samgr.test_lifecycle import PID, REASON, AnyOrder, ability, kinds, machine, profile, running, state

OLD = profile("p", ability(1), ability(2))


def by_name(*profiles: Profile) -> dict[str, Profile]:
    return {one.process: one for one in profiles}


def reload(life: Lifecycle, *profiles: Profile, now: float = 0.0) -> tuple[ProfileChanges, list[Action]]:
    first, *rest = life.reload(by_name(*profiles), now)
    assert isinstance(first, ProfilesChanged) and first.changes is not None
    return first.changes, rest


def ended(life: Lifecycle, name: str = "p", pid: int = PID, now: float = 1.0) -> list[Action]:
    return life.process_exited(name, pid, now)


# --- what does not run --------------------------------------------------------------------------------


def test_what_is_new_is_known_and_started_if_it_runs_on_create_in_order_of_phases() -> None:
    life = machine(OLD)
    late = profile("late", ability(3, run_on_create=True))
    early = profile("early", ability(4, run_on_create=True, boot_phase=BootPhase.BOOT_START))
    lazy = profile("lazy", ability(5))
    changes, actions = reload(life, OLD, late, early, lazy)
    assert changes == ProfileChanges(added=("late", "early", "lazy"))
    assert actions == [StartProcess(early), StartProcess(late)]
    assert life.load(5, 0) == [StartProcess(lazy)]
    assert life.find("sa5") is life.find(5) is not None


def test_what_is_gone_is_not_known_any_more_and_what_changed_is_as_it_is_now() -> None:
    gone = profile("gone", ability(7))
    life = machine(OLD, gone)
    new = profile("p", ability(2, run_on_create=True), ability(3, name="sa1"))
    changes, actions = reload(life, new)
    assert changes == ProfileChanges(changed=("p",), removed=("gone",))
    assert actions == []  # changed ones begin with the next start of their process
    assert life.find(1) is None and life.find(7) is None and life.process("gone") is None
    assert life.find("sa1") is life.find(3) is not None
    assert life.load(3, 0) == [StartProcess(new)]


def test_the_same_again_changes_nothing() -> None:
    life = machine(OLD)
    record = life.find(1)
    assert reload(life, OLD) == (ProfileChanges(), [])
    assert life.find(1) is record


def test_an_id_may_move_between_processes_that_do_not_run() -> None:
    life = machine(OLD, profile("q", ability(3)))
    q = profile("q", ability(1))
    changes, _ = reload(life, profile("p", ability(3)), q)
    assert changes == ProfileChanges(changed=("p", "q"))
    assert life.load(1, 0) == [StartProcess(q)]


# --- what runs ----------------------------------------------------------------------------------------


def test_a_process_that_runs_keeps_its_profile_until_it_ends() -> None:
    life = machine(OLD)
    running(life)
    new = profile("p", ability(1), ability(9))
    assert reload(life, new) == (ProfileChanges(changed=("p",), later=("p",)), [])
    assert life.find(9) is None and state(life, 1) is AbilityState.LOADED
    assert kinds(life.load(2, 1)) == [StartAbility]  # it has that one still
    assert kinds(ended(life)) == [ProcessChanged, LoadFailed, ProfilesChanged]
    assert life.find(2) is None
    assert life.load(9, 2) == [StartProcess(new)]


def test_a_removed_process_that_runs_goes_on_but_starts_nothing_new() -> None:
    watched = ability(1, start_on_demand=OnDemandEvents(events=(EventRule(ReasonId.PARAM, "p", "1"),)))
    life = machine(profile("p", watched, ability(2)))
    running(life)
    assert reload(life) == (ProfileChanges(removed=("p",), later=("p",)), [])
    assert life.load(1, 1, callback="a") == [Loaded(1, ("a",))]
    with pytest.raises(ServiceError, match="the profile was removed") as caught:
        life.load(2, 1)
    assert caught.value.code == codes.PROFILE_MISSING
    assert all(not one.start_on_demand.events for one in life.ability_profiles())  # no event starts it
    life.stop_process("p", 1)
    with pytest.raises(ServiceError, match="the profile was removed"):
        life.load(1, 1, callback="b")
    life.ability_removed(1, 1)
    assert ended(life) == [ProcessChanged("p", PID, ProcessChange.STOPPED), ProfilesChanged()]
    assert life.find(1) is None and life.process("p") is None


def test_one_that_is_installed_again_before_it_ended_was_never_gone() -> None:
    life = machine(OLD)
    running(life)
    reload(life)
    assert reload(life, OLD) == (ProfileChanges(added=("p",)), [])
    assert kinds(life.load(2, 1)) == [StartAbility]
    assert ended(life)[0] == ProcessChanged("p", PID, ProcessChange.STOPPED)
    assert life.find(1) is not None


def test_who_waits_for_its_return_gets_the_new_one_or_is_told_that_there_is_none() -> None:
    life = machine(OLD)
    running(life)
    life.stop_process("p", 1)
    for id in (1, 2):
        life.load(id, 1, callback=f"waits for {id}", reason=REASON)
    new = profile("p", ability(1), ability(9))
    reload(life, new, now=1)
    stopped, changed, failed, start = ended(life)
    assert isinstance(failed, LoadFailed)
    assert (failed.callbacks, failed.code) == (("waits for 2",), codes.PROFILE_MISSING)
    assert start == StartProcess(new) and kinds([stopped, changed]) == [ProcessChanged, ProfilesChanged]
    life.process_launched("p", 200, 2)
    assert StartAbility("p", 1, REASON) in life.process_added("p", 200, 2)
    assert life.ability_added(1, 2) == [Loaded(1, ("waits for 1",))]


def test_what_crashed_is_restarted_as_the_new_profile_says_and_the_limit_counts_on() -> None:
    first = profile("p", ability(1, auto_restart=True), ability(2, auto_restart=True))
    life = machine(first)
    running(life, "p", 1, 2)
    second = profile("p", ability(1, auto_restart=True), ability(2))
    reload(life, second)
    assert ended(life)[-1] == StartProcess(second)
    assert state(life, 1) is AbilityState.LOADING and state(life, 2) is AbilityState.NOT_LOADED
    for number in range(limits.MAX_RESTARTS - 1):
        running(life, pid=200 + number, now=1)
        assert StartProcess(second) in ended(life, pid=200 + number)
    third = profile("p", ability(1, auto_restart=True))
    running(life, pid=300, now=1)
    reload(life, third, now=1)
    assert not any(isinstance(action, StartProcess) for action in ended(life, pid=300))


def test_an_id_that_moves_comes_when_the_process_that_has_it_ended() -> None:
    life = machine(OLD)
    running(life)
    life.stop_process("p", 1)
    life.load(1, 1, callback="waits", reason=REASON)
    q = profile("q", ability(1), ability(8, run_on_create=True))
    changes, actions = reload(life, q, now=1)
    assert changes == ProfileChanges(added=("q",), removed=("p",), later=("q", "p")) and actions == []
    assert life.process("q") is None and life.find(8) is None
    actions = ended(life)
    assert actions[-1] == StartProcess(q) and kinds(actions) == [ProcessChanged, ProfilesChanged, StartProcess]
    life.process_launched("q", 200, 2)
    life.process_added("q", 200, 2)
    assert life.ability_added(1, 2) == [Loaded(1, ("waits",))]


def test_a_name_belongs_to_one_ability_also_while_profiles_change() -> None:
    life = machine(OLD)
    running(life)
    q = profile("q", ability(5, name="sa1"))
    changes, _ = reload(life, q)
    assert changes.later == ("q", "p") and life.find("sa1") is life.find(1)
    ended(life)
    assert life.find("sa1") is life.find(5) is not None


def test_a_program_that_has_the_name_of_a_new_profile_keeps_it_until_it_ends() -> None:
    life = machine()
    life.process_added("p", PID, 0)
    new = profile("p", ability(1, run_on_create=True))
    assert reload(life, new)[0].later == ("p",)
    assert life.find(1) is None
    assert kinds(ended(life)) == [ProcessChanged, ProfilesChanged]
    assert life.load(1, 1) == [StartProcess(new)]


# --- abilities that programs offer ---------------------------------------------------------------------


def test_a_program_offers_an_ability_and_is_asked_to_start_it() -> None:
    life = machine(OLD)
    life.process_added("tool", PID, 0)
    assert life.offer(50, PID, 0, running=False) == life.offer(50, PID, 0, running=False) == []
    assert life.load(50, 1, callback="a", reason=REASON) == [StartAbility("tool", 50, REASON)]
    assert life.ability_added(50, 2) == [Loaded(50, ("a",))]
    life.offer(51, PID, 2, running=True)
    assert state(life, 51) is AbilityState.LOADED
    life.unload(50, 2, REASON, delay=0.0)
    life.tick(2)
    assert life.idle_answer(50, 0, 2) == []  # the process is not ours to end
    assert life.load(50, 3, callback="b")[-1] == Loaded(50, ("b",))
    assert ended(life, "tool") == [ProcessChanged("tool", PID, ProcessChange.STOPPED)]
    assert life.find(50) is None and life.find(51) is None and life.process("tool") is None


def test_one_that_hangs_at_its_start_does_not_end_the_program() -> None:
    life = machine()
    life.process_added("tool", PID, 0)
    life.offer(50, PID, 0, running=False)
    life.load(50, 0, callback="a", timeout=None)
    actions = life.tick(limits.START_TIMEOUT)
    assert kinds(actions) == [LoadFailed, StopAbility] and not any(isinstance(one, KillProcess) for one in actions)


def test_who_waits_is_told_when_the_program_ends() -> None:
    life = machine()
    life.process_added("tool", PID, 0)
    life.offer(50, PID, 0, running=True)
    life.stop_process("tool", 0)
    assert life.load(50, 0, callback="a") == []
    failed = ended(life, "tool")[-1]
    assert isinstance(failed, LoadFailed) and (failed.callbacks, failed.code) == (("a",), codes.PROFILE_MISSING)
    assert "'tool' ended, and no profile has it" in failed.text


@pytest.mark.parametrize(
    ("id", "pid", "code", "words"),
    [
        (1, 300, codes.INVALID_CALLING_PROCESS, "belongs to process 'p'"),
        (9, PID, codes.PROFILE_MISSING, "the profile of process 'p' has no system ability 9"),
        (9, 999, codes.PROCESS_NOT_FOUND, "add_system_process first"),
        (9, 0, codes.PROCESS_NOT_FOUND, "not known"),
    ],
)
def test_what_cannot_be_offered(id: int, pid: int, code: int, words: str) -> None:
    life = machine(OLD)
    running(life)
    life.process_added("tool", 300, 0)
    with pytest.raises(ServiceError, match=words) as caught:
        life.offer(id, pid, 0, running=False)
    assert caught.value.code == code
    life.offer(2, PID, 0, running=False)  # its profile has that anyway
    assert state(life, 2) is AbilityState.NOT_LOADED


def test_offers_are_limited() -> None:
    life = machine()
    life.process_added("tool", PID, 0)
    for number in range(limits.MAX_ON_DEMAND_PER_PROCESS):
        life.offer(1000 + number, PID, 0, running=False)
    with pytest.raises(ServiceError, match="that is the limit") as caught:
        life.offer(5000, PID, 0, running=False)
    assert caught.value.code == codes.ON_DEMAND_LIMIT


# --- any order ----------------------------------------------------------------------------------------

IDS = st.integers(1, 5)
NAMES = ("p", "q", "r")
OWNERS = st.lists(st.sampled_from([None, *NAMES]), min_size=5, max_size=5)
"""Which process has the abilities 1 … 5."""


def profiles_of(owners: Iterable[str | None], flavour: int) -> dict[str, Profile]:
    """Return a set of profiles; ``flavour`` changes them without changing who has what."""
    found: dict[str, Profile] = {}
    pairs = list(enumerate(owners, 1))
    for name in NAMES:
        own = [
            ability(id, run_on_create=id == 2, auto_restart=id in (2, 3), extensions=("x",) * flavour)
            for id, owner in pairs
            if owner == name
        ]
        if own:
            found[name] = profile(name, *own)
    return found


class Reloading(AnyOrder):
    """The same device, whose profiles change at any time; and a program that offers abilities."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted = {one.name: one.profile for one in self.life.processes if one.profile is not None}
        self.began_with: dict[str, Profile | None] = {}

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, StartProcess):
                assert action.profile == self.wanted[action.process], "nothing old is started"
                self.began_with[action.process] = action.profile
        super().do(actions)

    @rule(owners=OWNERS, flavour=st.integers(0, 1))
    def reload(self, owners: list[str | None], flavour: int) -> None:
        self.wanted = profiles_of(owners, flavour)
        self.do(self.life.reload(self.wanted, self.now))

    @rule(id=IDS, timeout=st.sampled_from([None, 4.0, 12.0]))
    def load(self, id: int, timeout: float | None) -> None:
        super().load(id, timeout)

    @rule(process=st.sampled_from([*NAMES, "tool"]))
    def register(self, process: str) -> None:
        super().register(process)

    @rule()
    def program_comes(self) -> None:
        if "tool" not in self.pids:
            self.next_pid += 1
            self.do(self.life.process_added("tool", self.next_pid, self.now))
            self.pids["tool"] = self.next_pid
            self.began_with["tool"] = None

    @rule(id=IDS, running=st.booleans())
    def offer(self, id: int, running: bool) -> None:
        try:
            self.do(self.life.offer(id, self.pids.get("tool", 0), self.now, running=running))
        except ServiceError as error:
            assert error.code in (codes.PROCESS_NOT_FOUND, codes.INVALID_CALLING_PROCESS)

    @rule(id=IDS)
    def publish(self, id: int) -> None:
        if self.life.find(id) is not None:
            super().publish(id)

    @rule(id=IDS)
    def unload(self, id: int) -> None:
        if self.life.find(id) is not None:
            super().unload(id)

    @rule(id=IDS)
    def cancel(self, id: int) -> None:
        if self.life.find(id) is not None:
            super().cancel(id)

    @rule(process=st.sampled_from([*NAMES, "tool"]), how=st.sampled_from(["exit", "lose"]))
    def crash(self, process: str, how: str) -> None:
        if process in self.pids and process == "tool":
            self.exit(process)
        else:
            super().crash(process, how)

    @rule(process=st.sampled_from([*NAMES, "tool"]))
    def stop(self, process: str) -> None:
        super().stop(process)

    @invariant()
    def every_id_and_name_has_one_owner(self) -> None:
        records = [one for process in self.life.processes for one in process.abilities]
        assert sorted(one.id for one in records) == sorted(one.id for one in self.life.abilities)
        for one in records:
            assert self.life.find(one.id) is one
            assert not one.profile.name or self.life.find(one.profile.name) is one

    @invariant()
    def what_runs_keeps_its_profile_and_the_rest_is_as_wanted(self) -> None:
        running = {one.name: one for one in self.life.processes if one.state is not ProcessState.NOT_STARTED}
        for name, process in running.items():
            assert process.profile == self.began_with[name]
        for process in self.life.processes:
            assert process.name in running or process.profile == self.wanted[process.name]
        taken = {one.id for process in running.values() for one in process.abilities}
        for name, wanted in self.wanted.items():
            known = self.life.process(name)
            if known is None:
                assert taken & {one.id for one in wanted.abilities}, "only something that runs keeps it away"


TestReloading = Reloading.TestCase
TestReloading.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)


@pytest.mark.parametrize("pending", [False, True])
def test_the_catalog_says_whether_something_is_in_the_way(pending: bool) -> None:
    catalog = Catalog(by_name(OLD))
    process = catalog.processes["p"]
    if pending:
        process.state, process.pid = ProcessState.STARTED, PID
    catalog.want({})
    assert catalog.settle() == [] and catalog.pending is pending
    assert ("p" in catalog.processes) is pending
    process.reset()
    assert catalog.settle() == [] and not catalog.pending
    assert not catalog.abilities and not catalog.ids
