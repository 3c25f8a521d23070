"""samgr/lifecycle.py: the state machine, every step with a time of our own; and any order of steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from binderkit import limits
from binderkit.errors import ServiceError
from binderkit.samgr import codes
from binderkit.samgr.lifecycle import Lifecycle
from binderkit.samgr.lifecycle_actions import (
    Action,
    AskIdle,
    AskReferences,
    KillProcess,
    Loaded,
    LoadFailed,
    ProcessChanged,
    RestartsEnded,
    SetActive,
    StartAbility,
    StartProcess,
    StopAbility,
    StopProcess,
)
from binderkit.samgr.profile import AbilityProfile, BootPhase, Profile, RecycleStrategy, StopEvents
from binderkit.samgr.reason import OnDemandReason, ReasonId
from binderkit.samgr.states import AbilityState, ProcessChange, ProcessState

REASON = OnDemandReason(ReasonId.PARAM, "p", "1")
PID = 100


def ability(id: int, **fields: Any) -> AbilityProfile:
    fields = {"run_on_create": False, "name": f"sa{id}", "entry": "m:C", **fields}
    return AbilityProfile(id=id, **fields)


def profile(process: str, *abilities: AbilityProfile) -> Profile:
    return Profile(process, Path(f"/nowhere/{process}.toml"), abilities)


def machine(*profiles: Profile) -> Lifecycle:
    return Lifecycle({one.process: one for one in profiles})


def kinds(actions: list[Action]) -> list[type]:
    return [type(action) for action in actions]


def running(life: Lifecycle, name: str = "p", *ids: int, pid: int = PID, now: float = 0.0) -> None:
    """Bring a process, and abilities of it, up."""
    for one in ids or (1,):
        life.load(one, now)
    life.process_launched(name, pid, now)
    life.process_added(name, pid, now)
    for one in ids or (1,):
        life.ability_added(one, now)


def state(life: Lifecycle, id: int) -> AbilityState:
    record = life.find(id)
    assert record is not None
    return record.state


def process_state(life: Lifecycle, name: str = "p") -> ProcessState:
    process = life.process(name)
    assert process is not None
    return process.state


# --- loading -------------------------------------------------------------------------------------------


def test_a_load_starts_the_process_then_the_ability_and_tells_everybody_once() -> None:
    only = profile("p", ability(1))
    life = machine(only)
    assert life.load(1, 0, callback="a", pid=7, reason=REASON) == [StartProcess(only)]
    assert life.load(1, 0, callback="b", pid=7) == []
    assert life.load(1, 0, callback="a", pid=7) == []  # the same callback counts once
    assert (state(life, 1), process_state(life)) == (AbilityState.LOADING, ProcessState.STARTING)
    assert life.process_launched("p", PID, 0.1) == []
    assert life.process_added("p", PID, 0.2) == [
        ProcessChanged("p", PID, ProcessChange.STARTED),
        StartAbility("p", 1, REASON),
    ]
    assert life.ability_added(1, 0.3) == [Loaded(1, ("a", "b"))]
    assert state(life, 1) is AbilityState.LOADED
    assert life.load(1, 0.4, callback="c", pid=7) == [Loaded(1, ("c",))]
    assert life.tick(1000) == []


def test_run_on_create_abilities_are_started_by_their_process_and_are_loading_meanwhile() -> None:
    life = machine(profile("p", ability(1), ability(2, run_on_create=True)))
    life.load(1, 0)
    assert state(life, 2) is AbilityState.LOADING
    life.process_launched("p", PID, 0)
    assert StartAbility("p", 2, OnDemandReason()) not in life.process_added("p", PID, 0)
    assert life.load(2, 0, callback="x") == []
    assert life.ability_added(2, 1) == [Loaded(2, ("x",))]


def test_boot_starts_processes_by_phase_and_leaves_on_demand_ones() -> None:
    late = profile("late", ability(1, run_on_create=True))
    early = profile("early", ability(2, run_on_create=True, boot_phase=BootPhase.BOOT_START), ability(3))
    life = machine(late, early, profile("never", ability(4)))
    assert life.boot(0) == [StartProcess(early), StartProcess(late)]
    assert life.boot(0) == []
    assert state(life, 3) is AbilityState.NOT_LOADED


def test_a_callback_is_told_999_after_its_time_and_the_ability_may_still_come() -> None:
    life = machine(profile("p", ability(1)))
    life.load(1, 0, callback="a")
    life.load(1, 0, callback="b", timeout=12.0)
    assert life.next_deadline() == 4.0
    (failed,) = life.tick(4.0)
    assert isinstance(failed, LoadFailed) and (failed.callbacks, failed.code) == (("a",), codes.LOAD_SA_TIMEOUT)
    assert "system ability 1 'sa1'" in failed.text
    life.process_launched("p", PID, 5)
    life.process_added("p", PID, 5)
    assert life.ability_added(1, 6) == [Loaded(1, ("b",))]


def test_an_ability_without_profile_cannot_be_loaded() -> None:
    life = machine()
    calls: list[Callable[[], list[Action]]] = [
        lambda: life.load(1, 0),
        lambda: life.unload(1, 0, REASON),
        lambda: life.cancel_unload(1, 0),
        lambda: life.start_failed(1, PID, "x", 0),
    ]
    for call in calls:
        with pytest.raises(ServiceError, match="no profile has it") as caught:
            call()
        assert caught.value.code == codes.NOT_ON_DEMAND
    assert life.used(1, 0) == life.ability_added(1, 0) == life.ability_removed(1, 0) == []


def test_callbacks_are_limited_per_process() -> None:
    life = machine(profile("p", ability(1), ability(2)))
    for number in range(limits.MAX_CALLBACKS_PER_PID):
        life.load(1 + number % 2, 0, callback=number, pid=7)
    with pytest.raises(ServiceError, match="the limit is 256") as caught:
        life.load(1, 0, callback="late", pid=7)
    assert caught.value.code == codes.CALLBACK_LIMIT
    life.load(1, 0, callback="other", pid=8)
    life.forget(1, 0)
    life.load(1, 0, callback="late", pid=7)


def test_loads_that_wait_for_an_end_are_limited_per_process() -> None:
    life = machine(profile("p", ability(1)))
    running(life)
    life.stop_process("p", 1)
    for number in range(limits.MAX_PENDING_LOADS_PER_PID):
        assert life.load(1, 1, callback=number, pid=7) == []
    with pytest.raises(ServiceError) as caught:
        life.load(1, 1, callback="late", pid=7)
    assert caught.value.code == codes.PENDING_LOAD_LIMIT


# --- starts that fail ---------------------------------------------------------------------------------


def test_a_process_that_cannot_be_launched_fails_the_load_with_words() -> None:
    life = machine(profile("p", ability(1)))
    life.load(1, 0, callback="a")
    assert life.launch_failed("p", "no such program", 0) == [
        LoadFailed(1, ("a",), codes.START_FAILED, "system ability 1 'sa1' cannot start: no such program")
    ]
    assert (state(life, 1), process_state(life)) == (AbilityState.NOT_LOADED, ProcessState.NOT_STARTED)
    assert kinds(life.load(1, 1)) == [StartProcess]


@pytest.mark.parametrize("registered", [False, True])
def test_a_process_that_ends_while_it_starts_fails_the_load(registered: bool) -> None:
    life = machine(profile("p", ability(1)))
    life.load(1, 0, callback="a")
    life.process_launched("p", PID, 0)
    if registered:
        life.process_added("p", PID, 0)
    actions = life.process_exited("p", PID, 1, "ended with exit code 3")
    (failed,) = [action for action in actions if isinstance(action, LoadFailed)]
    assert failed.callbacks == ("a",) and failed.code == codes.START_FAILED
    assert "'p' (pid 100) ended with exit code 3" in failed.text
    assert (ProcessChanged("p", PID, ProcessChange.STOPPED) in actions) is registered
    assert process_state(life) is ProcessState.NOT_STARTED


def test_a_reported_failure_ends_the_process_if_nothing_else_runs_in_it() -> None:
    life = machine(profile("p", ability(1), ability(2)))
    running(life, "p", 2)
    life.load(1, 0, callback="a")
    (failed,) = life.start_failed(1, PID, "ValueError: x", 1)
    assert isinstance(failed, LoadFailed) and failed.code == codes.START_FAILED and "ValueError: x" in failed.text
    assert process_state(life) is ProcessState.STARTED
    life.ability_removed(2, 2)
    assert process_state(life) is ProcessState.STOPPING


def test_only_its_process_reports_a_failure() -> None:
    life = machine(profile("p", ability(1)))
    life.load(1, 0, callback="a")
    life.process_launched("p", PID, 0)
    with pytest.raises(ServiceError) as caught:
        life.start_failed(1, 666, "evil", 1)
    assert caught.value.code == codes.INVALID_CALLING_PROCESS
    assert state(life, 1) is AbilityState.LOADING


def test_an_ability_that_hangs_at_its_start_is_given_up_and_its_process_killed() -> None:
    life = machine(profile("p", ability(1)))
    life.load(1, 0, callback="a", timeout=None)
    life.process_launched("p", PID, 0)
    life.process_added("p", PID, 0)
    failed, kill = life.tick(limits.START_TIMEOUT)
    assert isinstance(failed, LoadFailed) and failed.code == codes.LOAD_SA_TIMEOUT and "must publish" in failed.text
    assert isinstance(kill, KillProcess)
    assert life.load(1, 30, callback="b") == []  # waits for the end of the hanging one
    actions = life.process_exited("p", PID, 31)
    assert kinds(actions) == [ProcessChanged, StartProcess]


def test_others_in_the_process_go_on_when_one_hangs() -> None:
    life = machine(profile("p", ability(1), ability(2)))
    running(life, "p", 2)
    life.load(1, 0, callback="a", timeout=None)
    assert kinds(life.tick(limits.START_TIMEOUT)) == [LoadFailed, StopAbility]
    assert state(life, 2) is AbilityState.LOADED


def test_the_time_an_ability_waits_for_others_is_added() -> None:
    life = machine(profile("p", ability(1, depend=(9,), depend_timeout=60.0)))
    life.load(1, 0)
    assert life.next_deadline() == limits.START_TIMEOUT + 60


# --- who may be what ----------------------------------------------------------------------------------


def test_a_process_of_a_profile_is_the_one_that_was_launched() -> None:
    life = machine(profile("p", ability(1)))
    life.load(1, 0)
    life.process_launched("p", PID, 0)
    for name, pid, trusted in (("p", 666, True), ("p", 666, False), ("new", 7, False)):
        with pytest.raises(ServiceError) as caught:
            life.process_added(name, pid, 0, trusted=trusted)
        assert caught.value.code == codes.INVALID_CALLING_PROCESS
    life.process_added("p", PID, 0, trusted=False)
    assert life.process_added("p", PID, 0) == []
    with pytest.raises(ServiceError, match="its profile gives it to 'p', which is process 100") as caught:
        life.check_ability(1, 666)
    life.check_ability(1, PID)
    life.check_ability(4711, 666)


def test_a_profile_can_be_run_by_hand() -> None:
    life = machine(profile("p", ability(1, run_on_create=True)))
    with pytest.raises(ServiceError, match="which does not run"):
        life.check_ability(1, 7)
    assert kinds(life.process_added("p", 7, 0)) == [ProcessChanged]
    assert state(life, 1) is AbilityState.LOADING
    life.check_ability(1, 7)
    life.ability_added(1, 0)
    assert life.process_lost("p", 7, 1) == [ProcessChanged("p", 7, ProcessChange.STOPPED)]
    assert state(life, 1) is AbilityState.NOT_LOADED


def test_a_process_without_profile_comes_and_goes() -> None:
    life = machine()
    assert life.process_added("free", 7, 0) == [ProcessChanged("free", 7, ProcessChange.STARTED)]
    assert life.process_of_pid(7) is life.process("free")
    assert life.process_lost("free", 8, 1) == []
    assert life.process_lost("free", 7, 1) == [ProcessChanged("free", 7, ProcessChange.STOPPED)]
    assert life.process("free") is None


def test_processes_are_limited() -> None:
    life = machine()
    for number in range(limits.MAX_SYSTEM_PROCESSES):
        life.process_added(f"n{number}", 1000 + number, 0)
    with pytest.raises(ServiceError) as caught:
        life.process_added("late", 7, 0)
    assert caught.value.code == codes.PROCESS_LIMIT


def test_a_process_that_ran_before_samgr_is_waited_for_and_not_launched_again() -> None:
    life = machine(profile("p", ability(1)))
    life.process_launched("p", PID, 0)
    assert life.load(1, 1, callback="a") == []
    assert kinds(life.process_added("p", PID, 2)) == [ProcessChanged, StartAbility]
    assert life.ability_added(1, 2) == [Loaded(1, ("a",))]


def test_a_process_that_ran_before_samgr_and_does_not_come_is_ended() -> None:
    life = machine(profile("p", ability(1)))
    life.process_launched("p", PID, 0)
    assert kinds(life.tick(limits.START_TIMEOUT)) == [KillProcess]
    assert process_state(life) is ProcessState.STOPPING


# --- unloading ----------------------------------------------------------------------------------------


def test_an_unload_waits_asks_stops_the_ability_then_the_process_and_kills_it_after_5_s() -> None:
    life = machine(profile("p", ability(1)))
    running(life)
    assert life.unload(1, 10, REASON) == []
    assert life.unload(1, 11, OnDemandReason()) == []  # one is pending already
    assert life.next_deadline() == 30.0
    assert life.tick(29.9) == []
    assert life.tick(30) == [AskIdle("p", 1, REASON)]
    assert life.idle_answer(1, 0, 31) == [ProcessChanged("p", PID, ProcessChange.IDLED), StopAbility("p", 1, REASON)]
    assert (state(life, 1), process_state(life)) == (AbilityState.UNLOADING, ProcessState.STOPPING)
    assert life.ability_removed(1, 32) == [StopProcess("p")]
    assert kinds(life.tick(36)) == [KillProcess]
    assert life.tick(50) == []
    assert life.process_exited("p", PID, 51) == [ProcessChanged("p", PID, ProcessChange.STOPPED)]


def test_an_ability_may_refuse_or_delay() -> None:
    life = machine(profile("p", ability(1)))
    running(life)
    life.unload(1, 0, REASON, delay=0)
    assert kinds(life.tick(0)) == [AskIdle]
    assert life.idle_answer(1, -1, 1) == []
    assert (state(life, 1), life.next_deadline()) == (AbilityState.LOADED, None)
    life.unload(1, 2, REASON, delay=0)
    life.tick(2)
    assert life.idle_answer(1, 1500, 3) == []
    assert life.next_deadline() == 4.5
    assert kinds(life.tick(4.5)) == [ProcessChanged, StopAbility]


def test_an_ability_that_is_needed_again_is_told_so_if_it_agreed() -> None:
    life = machine(profile("p", ability(1), ability(2)))
    running(life, "p", 1, 2)
    life.unload(1, 0, REASON)
    assert life.used(1, 1) == []  # not asked yet: nothing to take back
    assert life.next_deadline() is None
    life.unload(1, 2, REASON, delay=0)
    life.tick(2)
    life.idle_answer(1, 0, 3)
    assert state(life, 1) is AbilityState.UNLOADABLE
    assert life.load(1, 4, callback="a", reason=REASON) == [SetActive("p", 1, REASON), Loaded(1, ("a",))]
    assert state(life, 1) is AbilityState.LOADED
    life.unload(1, 5, REASON, delay=0)
    life.tick(5)
    assert life.used(1, 6) == []
    assert life.idle_answer(1, 0, 7) == []  # too late, it is needed
    assert state(life, 1) is AbilityState.LOADED


def test_cancel_unload_keeps_an_ability() -> None:
    life = machine(profile("p", ability(1)))
    running(life)
    life.unload(1, 0, REASON)
    life.cancel_unload(1, 1)
    assert life.next_deadline() is None


def test_a_process_stays_while_one_of_its_abilities_is_needed() -> None:
    life = machine(profile("p", ability(1), ability(2)))
    running(life, "p", 1, 2)
    life.unload(1, 0, REASON, delay=0)
    life.tick(0)
    assert life.idle_answer(1, 0, 0) == []
    assert process_state(life) is ProcessState.STARTED
    life.unload(2, 1, REASON, delay=0)
    life.tick(1)
    assert kinds(life.idle_answer(2, 0, 1)) == [ProcessChanged, StopAbility, StopAbility]


def test_a_low_memory_process_stays_idle_until_memory_is_short() -> None:
    life = machine(profile("p", ability(1, recycle_strategy=RecycleStrategy.LOW_MEMORY)))
    running(life)
    life.unload(1, 0, REASON, delay=0)
    life.tick(0)
    assert life.idle_answer(1, 0, 1) == [ProcessChanged("p", PID, ProcessChange.IDLED)]
    assert kinds(life.load(1, 2)) == [SetActive, ProcessChanged, Loaded]
    life.unload(1, 3, REASON, delay=0)
    life.tick(3)
    life.idle_answer(1, 0, 3)
    assert life.unload_idle(4) == [StopAbility("p", 1, REASON)]


def test_a_load_while_it_ends_starts_it_anew() -> None:
    only = profile("p", ability(1))
    life = machine(only)
    running(life)
    life.unload(1, 0, REASON, delay=0)
    life.tick(0)
    life.idle_answer(1, 0, 0)
    assert life.load(1, 1, callback="a") == []
    life.ability_removed(1, 1)
    assert life.load(1, 1, callback="b") == []
    assert life.process_exited("p", PID, 2) == [ProcessChanged("p", PID, ProcessChange.STOPPED), StartProcess(only)]
    life.process_launched("p", 200, 2)
    life.process_added("p", 200, 2)
    assert life.ability_added(1, 3) == [Loaded(1, ("a", "b"))]


def test_one_that_was_restarted_lately_stays_longer() -> None:
    life = machine(profile("p", ability(1)))
    running(life)
    life.stop_process("p", 10)
    life.ability_removed(1, 10)
    life.process_exited("p", PID, 10)
    running(life, now=20, pid=200)
    life.unload(1, 30, REASON)
    assert life.next_deadline() == 30 + 20 + limits.RECYCLE_DELAY_ADDED
    life.cancel_unload(1, 30)
    life.stop_process("p", 40)
    life.ability_removed(1, 40)
    life.process_exited("p", 200, 40)
    running(life, now=1000, pid=300)
    life.unload(1, 1000, REASON)
    assert life.next_deadline() == 1020


def test_an_unload_while_it_loads_waits_for_the_load_and_a_load_takes_it_back() -> None:
    life = machine(profile("p", ability(1)))
    life.load(1, 0)
    life.unload(1, 0, REASON)
    life.process_launched("p", PID, 0)
    life.process_added("p", PID, 0)
    life.ability_added(1, 5)
    assert life.next_deadline() == 25
    life.load(1, 6)
    assert life.next_deadline() is None


def test_long_unused_and_unreferenced_ones_go() -> None:
    stop = StopEvents(long_unused=60.0, unreferenced_unload=True)
    life = machine(profile("p", ability(1, stop_on_demand=stop)))
    running(life)
    life.used(1, 50)
    assert life.tick(60) == [AskReferences("p", 1)]
    assert life.references(1, 2, 60) == []
    life.used(1, 61)
    assert life.tick(121) == [AskIdle("p", 1, OnDemandReason(ReasonId.LONG_UNUSED))]
    life.idle_answer(1, -1, 121)
    life.used(1, 150)
    assert life.tick(181) == [AskReferences("p", 1)]
    life.references(1, 1, 181)
    assert life.tick(201) == [AskIdle("p", 1, OnDemandReason(ReasonId.UNREFERENCED))]


def test_stopping_a_process_ends_it_whoever_needs_it() -> None:
    life = machine(profile("p", ability(1), ability(2)))
    with pytest.raises(ServiceError) as caught:
        life.stop_process("p", 0)
    assert caught.value.code == codes.PROCESS_NOT_FOUND
    running(life, "p", 1)
    life.load(2, 0, callback="a")
    assert kinds(life.stop_process("p", 1)) == [StopAbility, LoadFailed]
    assert life.stop_process("p", 1) == []


def test_a_process_that_starts_is_killed_when_it_is_stopped() -> None:
    life = machine(profile("p", ability(1)))
    life.load(1, 0, callback="a")
    assert kinds(life.stop_process("p", 0)) == [LoadFailed, KillProcess]
    life.process_launched("p", PID, 0)  # it was on its way
    assert process_state(life) is ProcessState.STOPPING
    life.process_exited("p", PID, 1)
    assert process_state(life) is ProcessState.NOT_STARTED


# --- crashes ------------------------------------------------------------------------------------------


def test_a_crashed_process_is_restarted_four_times_in_20_s_and_no_more() -> None:
    only = profile("p", ability(1, auto_restart=True), ability(2))
    life = machine(only)
    running(life, "p", 1, 2)
    for number in range(limits.MAX_RESTARTS):
        pid = PID + number
        assert kinds(life.process_exited("p", pid, number)) == [ProcessChanged, StartProcess]
        assert state(life, 2) is AbilityState.NOT_LOADED
        life.process_launched("p", pid + 1, number)
        (_, start) = life.process_added("p", pid + 1, number)
        assert start == StartAbility("p", 1, OnDemandReason(ReasonId.RESTART))
        life.ability_added(1, number)
    last = PID + limits.MAX_RESTARTS
    assert kinds(life.process_exited("p", last, 10)) == [ProcessChanged, RestartsEnded]
    assert kinds(life.load(1, 11)) == [StartProcess]  # asking for it still starts it


def test_slow_crashes_are_always_restarted() -> None:
    life = machine(profile("p", ability(1, auto_restart=True)))
    running(life)
    for number in range(20):
        pid, now = PID + number, 10.0 * number
        assert kinds(life.process_exited("p", pid, now)) == [ProcessChanged, StartProcess]
        life.process_launched("p", pid + 1, now)
        life.process_added("p", pid + 1, now)
        life.ability_added(1, now)


def test_a_process_that_was_told_to_end_is_not_restarted() -> None:
    life = machine(profile("p", ability(1, auto_restart=True)))
    running(life)
    life.stop_process("p", 1)
    assert kinds(life.process_exited("p", PID, 2)) == [ProcessChanged]


def test_a_lost_connection_of_a_launched_process_kills_it_and_then_restarts_it() -> None:
    life = machine(profile("p", ability(1, auto_restart=True), ability(2)))
    running(life)
    life.load(2, 0, callback="a")
    assert kinds(life.process_lost("p", PID, 1)) == [KillProcess]
    assert state(life, 1) is AbilityState.NOT_LOADED
    assert life.load(1, 1, callback="b") == []
    assert life.process_lost("p", PID, 1) == []
    actions = life.process_exited("p", PID, 2, "was ended by SIGSEGV")
    assert kinds(actions) == [ProcessChanged, LoadFailed, StartProcess]
    assert isinstance(actions[1], LoadFailed) and "SIGSEGV" in actions[1].text and actions[1].callbacks == ("a",)
    life.process_launched("p", 200, 2)
    life.process_added("p", 200, 2)
    assert life.ability_added(1, 2) == [Loaded(1, ("b",))]


def test_ends_of_other_processes_mean_nothing() -> None:
    life = machine(profile("p", ability(1)))
    running(life)
    assert life.process_exited("p", 666, 0) == life.process_lost("p", 666, 0) == life.process_exited("q", 1, 0) == []
    assert life.launch_failed("p", "x", 0) == []
    assert state(life, 1) is AbilityState.LOADED


# --- any order ----------------------------------------------------------------------------------------


class AnyOrder(RuleBasedStateMachine):
    """A device whose processes do as told, or not; every callback must be answered exactly once."""

    def __init__(self) -> None:
        super().__init__()
        stop = StopEvents(unreferenced_unload=True, long_unused=60.0, recycle_delay=1.0)
        self.life = machine(
            profile("p", ability(1, stop_on_demand=stop), ability(2, run_on_create=True, auto_restart=True)),
            profile("q", ability(3, recycle_strategy=RecycleStrategy.LOW_MEMORY)),
        )
        self.now = 0.0
        self.next_pid = 100
        self.next_callback = 0
        self.open: set[int] = set()
        self.launching: list[str] = []
        self.pids: dict[str, int] = {}
        self.idle: list[int] = []

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            match action:
                case Loaded(_, callbacks) | LoadFailed(_, callbacks, _, _):
                    for callback in callbacks:
                        assert isinstance(callback, int)
                        self.open.remove(callback)
                case StartProcess():
                    assert action.process not in self.pids and action.process not in self.launching
                    self.launching.append(action.process)
                case AskIdle(_, id, _):
                    self.idle.append(id)
                case KillProcess(process, _) if process in self.pids:
                    self.exit(process)

    def exit(self, process: str) -> None:
        pid = self.pids.pop(process)
        self.do(self.life.process_exited(process, pid, self.now))

    @rule(id=st.integers(1, 3), timeout=st.sampled_from([None, 4.0, 12.0]))
    def load(self, id: int, timeout: float | None) -> None:
        self.next_callback += 1
        self.open.add(self.next_callback)
        try:
            self.do(self.life.load(id, self.now, callback=self.next_callback, pid=7, timeout=timeout))
        except ServiceError:
            self.open.remove(self.next_callback)

    @precondition(lambda self: self.launching)
    @rule(works=st.booleans())
    def launch(self, works: bool) -> None:
        process = self.launching.pop(0)
        if not works:
            self.do(self.life.launch_failed(process, "broken", self.now))
            return
        self.next_pid += 1
        self.pids[process] = self.next_pid
        self.do(self.life.process_launched(process, self.next_pid, self.now))
        record = self.life.process(process)
        assert record is not None
        if record.state is ProcessState.STOPPING:  # the order to kill it comes after the launch
            self.exit(process)

    @precondition(lambda self: self.launching)
    @rule()
    def launch_and_register(self) -> None:
        process = self.launching[0]
        self.launch(True)
        self.register(process)

    @rule(process=st.sampled_from(["p", "q"]))
    def register(self, process: str) -> None:
        if process in self.pids:
            try:
                self.do(self.life.process_added(process, self.pids[process], self.now))
            except ServiceError as error:
                assert error.code == codes.INVALID_CALLING_PROCESS

    @rule(id=st.integers(1, 3))
    def publish(self, id: int) -> None:
        record = self.life.find(id)
        assert record is not None
        pid = self.pids.get(record.process.name)
        if pid is not None and record.process.state is ProcessState.STARTED:
            self.life.check_ability(id, pid)
            self.do(self.life.ability_added(id, self.now))

    @rule(id=st.integers(1, 3))
    def remove(self, id: int) -> None:
        self.do(self.life.ability_removed(id, self.now))

    @rule(id=st.integers(1, 3))
    def unload(self, id: int) -> None:
        self.do(self.life.unload(id, self.now, REASON))

    @rule(id=st.integers(1, 3))
    def cancel(self, id: int) -> None:
        self.do(self.life.cancel_unload(id, self.now))

    @rule(id=st.integers(1, 3))
    def use(self, id: int) -> None:
        self.do(self.life.used(id, self.now))

    @rule(id=st.integers(1, 3), count=st.integers(0, 2))
    def count(self, id: int, count: int) -> None:
        self.do(self.life.references(id, count, self.now))

    @precondition(lambda self: self.idle)
    @rule(answer=st.sampled_from([-1, 0, 500]))
    def answer(self, answer: int) -> None:
        self.do(self.life.idle_answer(self.idle.pop(0), answer, self.now))

    @rule(process=st.sampled_from(["p", "q"]), how=st.sampled_from(["exit", "lose", "fail"]))
    def crash(self, process: str, how: str) -> None:
        pid = self.pids.get(process)
        if pid is None:
            return
        if how == "exit":
            self.exit(process)
        elif how == "lose":
            self.do(self.life.process_lost(process, pid, self.now))
        else:
            for record in self.life.abilities:
                if record.process.name == process and record.process.state is not ProcessState.STOPPING:
                    self.do(self.life.start_failed(record.id, pid, "bad", self.now))
                    return

    @rule(process=st.sampled_from(["p", "q"]))
    def stop(self, process: str) -> None:
        try:
            self.do(self.life.stop_process(process, self.now))
        except ServiceError as error:
            assert error.code == codes.PROCESS_NOT_FOUND

    @rule()
    def short_of_memory(self) -> None:
        self.do(self.life.unload_idle(self.now))

    @rule(seconds=st.sampled_from([0.5, 4.0, 21.0, 70.0]))
    def wait(self, seconds: float) -> None:
        end = self.now + seconds
        while (due := self.life.next_deadline()) is not None and due <= end:
            self.now = max(self.now, due)
            self.do(self.life.tick(self.now))
        self.now = end

    @invariant()
    def agrees(self) -> None:
        for process in self.life.processes:
            if process.state is ProcessState.NOT_STARTED:
                assert process.pid == 0 and process.name not in self.pids
                assert all(one.state is AbilityState.NOT_LOADED for one in process.abilities)
            for one in process.abilities:
                if one.state is AbilityState.NOT_LOADED and one.waiting:
                    assert one.reload is not None  # or nobody would ever answer
                if one.state is AbilityState.LOADING:
                    assert one.give_up_at is not None
                if one.state is AbilityState.UNLOADING:
                    assert process.state is ProcessState.STOPPING
        assert sum(len(one.waiting) for one in self.life.abilities) + sum(
            len(callbacks) for process in self.life.processes for _, callbacks in process.failing
        ) == len(self.open)

    def teardown(self) -> None:
        """Everybody is answered in the end, whatever the processes do."""
        for process in list(self.launching):
            self.launching.remove(process)
            self.do(self.life.launch_failed(process, "over", self.now))
        for process in list(self.pids):
            if process in self.pids:
                self.exit(process)
        self.launching.clear()
        self.wait(200.0)
        assert not self.open


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
