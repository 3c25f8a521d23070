"""records.py: every rule of reference 3.3, and a model that does everything in every order."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, precondition, rule

from binderkit import limits
from binderkit.ability import codes
from binderkit.ability.model import (
    AbilityState,
    Action,
    Client,
    Connected,
    Disconnected,
    Failed,
    Forget,
    KillProcess,
    Load,
    Run,
    StartDone,
    StartProcess,
    Step,
    StopProcess,
    Target,
)
from binderkit.ability.records import Records, title
from binderkit.ability.want import ElementName, Want
from binderkit.errors import AbilityError

ME = Client(7, 1000, 50)
OTHER = Client(8, 1000, 60)
ELEMENT = ElementName("a.b", "S")
TARGET = Target(ELEMENT, "a.b")
WANT = Want("a.b", "S")


def only(actions: list[Action], kind: type[Any]) -> list[Any]:
    return [action for action in actions if isinstance(action, kind)]


def created(records: Records, now: float = 0.0) -> tuple[int, list[Action]]:
    """Bring the one ability that loads to its end of on_create; return its id and what followed."""
    (load,) = only(records.attached(now, "a.b"), Load)
    (run,) = only(records.loaded(now, load.ability), Run)
    assert run.step is Step.CREATE
    return load.ability, records.done(now, load.ability, run.number, None, "")


def connected(records: Records, callback: str = "c1", remote: object = "object") -> int:
    """Connect the first client; return the ability's id."""
    assert only(records.connect(0, ME, TARGET, WANT, callback), StartProcess)
    ability, actions = created(records)
    (run,) = only(actions, Run)
    assert run.step is Step.CONNECT
    told = records.done(0, ability, run.number, remote, "")
    if remote is not None:
        assert only(told, Connected) == [Connected(callback, ELEMENT, remote)]
    return ability


def finish(records: Records, actions: list[Action]) -> list[Action]:
    """Answer every step of ``actions`` and what follows from it; return all of it."""
    done: list[Action] = []
    for action in actions:
        done.append(action)
        if isinstance(action, Run):
            done += finish(records, records.done(0, action.ability, action.number, "object", ""))
        elif isinstance(action, StopProcess):
            done += finish(records, records.process_exited(0, action.process, "ended"))
    return done


def steps(actions: list[Action]) -> list[Step]:
    return [run.step for run in only(actions, Run)]


# --- connecting -------------------------------------------------------------------------------------------


def test_on_connect_is_called_once_and_later_clients_get_the_same_object() -> None:
    records = Records()
    connected(records)

    assert records.connect(0, OTHER, TARGET, WANT, "c2") == [Connected("c2", ELEMENT, "object")]


def test_clients_that_come_while_it_loads_wait_for_the_same_object() -> None:
    records = Records()
    records.connect(0, ME, TARGET, WANT, "c1")
    assert records.connect(0, OTHER, TARGET, WANT, "c2") == []

    ability, actions = created(records)
    (run,) = only(actions, Run)
    told = records.done(0, ability, run.number, "object", "")

    assert told == [Connected("c1", ELEMENT, "object"), Connected("c2", ELEMENT, "object")]


def test_a_null_object_means_no_on_connect_but_a_disconnect() -> None:
    records = Records()
    ability = connected(records, remote=None)
    known = records.find(ELEMENT)
    assert known is not None and known.step is Step.DISCONNECT

    actions = records.done(0, ability, known.number, None, "")

    (told,) = only(actions, Disconnected)
    assert (told.callback, told.result) == ("c1", 0)
    assert told.text == "on_connect of a.b/S returned None: it offers no object"
    assert steps(actions) == [Step.DESTROY]


def test_what_on_create_and_on_connect_raise_is_told_with_the_abilitys_name() -> None:
    records = Records()
    records.connect(0, ME, TARGET, WANT, "c1")
    (load,) = only(records.attached(0, "a.b"), Load)
    (run,) = only(records.loaded(0, load.ability), Run)
    actions = records.done(0, load.ability, run.number, None, "ValueError: no")
    assert only(actions, Failed) == [
        Failed("c1", ELEMENT, codes.INTERNAL, "a.b/S could not be created: ValueError: no")
    ]
    assert only(actions, StopProcess) == [StopProcess("a.b")]
    records.process_exited(0, "a.b", "ended")

    records.connect(0, ME, TARGET, WANT, "c2")
    ability, actions = created(records)
    (run,) = only(actions, Run)
    actions = records.done(0, ability, run.number, None, "KeyError: 'x'")
    assert only(actions, Failed) == [Failed("c2", ELEMENT, codes.INTERNAL, "on_connect of a.b/S failed: KeyError: 'x'")]
    assert steps(actions) == [Step.DESTROY]


def test_a_callback_is_for_one_connection_only() -> None:
    records = Records()
    connected(records)

    with pytest.raises(AbilityError, match="make a new one for each connection"):
        records.connect(0, ME, TARGET, WANT, "c1")


def test_a_client_has_a_limited_number_of_connections() -> None:
    records = Records()
    for number in range(limits.MAX_CONNECTIONS_PER_CLIENT):
        records.connect(0, ME, TARGET, WANT, f"c{number}")

    with pytest.raises(AbilityError, match="process 50 has 256 ability connections"):
        records.connect(0, ME, TARGET, WANT, "one more")
    records.connect(0, OTHER, TARGET, WANT, "somebody else's")
    records.client_died(0, "c0")
    records.connect(0, ME, TARGET, WANT, "one more")


# --- disconnecting ----------------------------------------------------------------------------------------


def test_on_disconnect_comes_with_the_last_client_only_then_the_ability_and_its_process_end() -> None:
    records = Records()
    connected(records)
    records.connect(0, OTHER, TARGET, WANT, "c2")

    assert records.disconnect(0, ME, "c1") == [Disconnected("c1", ELEMENT, 0, "")]
    actions = finish(records, records.disconnect(0, OTHER, "c2"))

    assert steps(actions) == [Step.DISCONNECT, Step.DESTROY]
    assert only(actions, Disconnected) == [Disconnected("c2", ELEMENT, 0, "")]
    assert only(actions, StopProcess) == [StopProcess("a.b")]
    assert len(records) == 0


def test_only_the_same_caller_disconnects() -> None:
    records = Records()
    connected(records)

    with pytest.raises(AbilityError, match="CONNECTION_NOT_EXIST"):
        records.disconnect(0, OTHER, "c1")
    with pytest.raises(AbilityError, match="CONNECTION_NOT_EXIST"):
        records.disconnect(0, ME, "unknown")
    records.disconnect(0, Client(ME.token, 1000, 51), "c1")  # the same token in another process of the application


def test_without_a_token_the_process_is_the_caller() -> None:
    assert not Client(0, 1000, 50).same(Client(0, 1000, 51))
    assert Client(0, 1000, 50).same(Client(0, 1000, 50))


def test_only_a_connected_connection_can_be_disconnected() -> None:
    records = Records()
    records.connect(0, ME, TARGET, WANT, "c1")

    with pytest.raises(AbilityError, match=r"INVALID_CONNECTION_STATE: the connection to a\.b/S is CONNECTING"):
        records.disconnect(0, ME, "c1")


def test_who_connects_during_on_disconnect_is_connected_anew() -> None:
    records = Records()
    ability = connected(records)
    (leaving,) = only(records.disconnect(0, ME, "c1"), Run)
    assert records.connect(0, OTHER, TARGET, WANT, "c2") == []

    actions = records.done(0, ability, leaving.number, None, "")

    assert only(actions, Disconnected) == [Disconnected("c1", ELEMENT, 0, "")]
    assert steps(actions) == [Step.CONNECT]
    assert only(finish(records, actions), Connected) == [Connected("c2", ELEMENT, "object")]


def test_who_connects_while_it_is_destroyed_gets_a_new_one_in_the_same_process() -> None:
    records = Records()
    old = connected(records)
    (run,) = only(records.disconnect(0, ME, "c1"), Run)
    (run,) = only(records.done(0, old, run.number, None, ""), Run)
    assert run.step is Step.DESTROY

    (load,) = only(records.connect(0, OTHER, TARGET, WANT, "c2"), Load)
    assert load.ability != old
    assert only(records.done(0, old, run.number, None, ""), StopProcess) == []


def test_who_connects_while_the_process_ends_gets_the_next_one() -> None:
    records = Records()
    connected(records)
    actions = records.disconnect(0, ME, "c1")
    while runs := only(actions, Run):
        actions = records.done(0, runs[0].ability, runs[0].number, None, "")
    assert StopProcess("a.b") in actions

    assert records.connect(0, OTHER, TARGET, WANT, "c2") == []
    assert only(records.process_exited(0, "a.b", "ended"), StartProcess) == [StartProcess("a.b", ELEMENT)]
    _, actions = created(records)
    assert only(finish(records, actions), Connected) == [Connected("c2", ELEMENT, "object")]


def test_a_client_that_dies_is_taken_out_and_nobody_is_told() -> None:
    records = Records()
    connected(records)

    actions = finish(records, records.client_died(0, "c1"))

    assert steps(actions) == [Step.DISCONNECT, Step.DESTROY]
    assert only(actions, Disconnected) == []
    assert len(records) == 0


def test_when_the_only_client_dies_while_it_loads_the_process_is_stopped() -> None:
    records = Records()
    records.connect(0, ME, TARGET, WANT, "c1")

    assert only(records.client_died(0, "c1"), StopProcess) == [StopProcess("a.b")]


# --- starting and stopping --------------------------------------------------------------------------------


def test_start_ids_count_from_one_and_on_request_follows_on_create() -> None:
    records = Records()
    records.start(0, TARGET, WANT, "s1")
    records.start(0, TARGET, WANT, "s2")

    _, actions = created(records)
    assert only(actions, StartDone) == [StartDone("s1", 0, ""), StartDone("s2", 0, "")]
    actions = finish(records, actions)
    assert [(run.step, run.start_id) for run in only(actions, Run)] == [(Step.COMMAND, 1), (Step.COMMAND, 2)]
    actions = records.start(0, TARGET, WANT, "s3")
    assert only(actions, StartDone) == [StartDone("s3", 0, "")]
    assert only(actions, Run)[0].start_id == 3


def test_a_started_ability_lives_until_it_is_stopped_and_disconnected() -> None:
    records = Records()
    connected(records)
    finish(records, records.start(0, TARGET, WANT, "s"))

    assert records.stop(0, ELEMENT) == []
    assert steps(finish(records, records.disconnect(0, ME, "c1"))) == [Step.DISCONNECT, Step.DESTROY]

    records.start(0, TARGET, WANT, "s")
    finish(records, created(records)[1])
    records.connect(0, ME, TARGET, WANT, "c2")
    known = records.find(ELEMENT)
    assert known is not None
    records.done(0, known.id, known.number, "object", "")
    assert steps(finish(records, records.disconnect(0, ME, "c2"))) == [Step.DISCONNECT]
    assert steps(finish(records, records.stop(0, ELEMENT))) == [Step.DESTROY]
    assert len(records) == 0


def test_on_connect_comes_again_for_the_next_client_after_the_last_one_left() -> None:
    records = Records()
    ability = connected(records)
    finish(records, records.start(0, TARGET, WANT, "s"))
    finish(records, records.disconnect(0, ME, "c1"))

    (run,) = only(records.connect(0, ME, TARGET, WANT, "c2"), Run)

    assert (run.ability, run.step) == (ability, Step.CONNECT)


def test_stopping_what_does_not_run_does_nothing() -> None:
    assert Records().stop(0, ELEMENT) == []


def test_stopping_before_it_is_created_tells_who_started_it() -> None:
    records = Records()
    records.start(0, TARGET, WANT, "s")

    actions = records.stop(0, ELEMENT)

    assert only(actions, StartDone) == [StartDone("s", codes.INTERNAL, "a.b/S was stopped before it ran")]
    assert only(actions, StopProcess) == [StopProcess("a.b")]


def test_a_limited_number_of_starts_waits() -> None:
    records = Records()
    for number in range(limits.MAX_PENDING_COMMANDS):
        records.start(0, TARGET, WANT, number)

    with pytest.raises(AbilityError, match=r"a\.b/S has 50 starts to handle"):
        records.start(0, TARGET, WANT, "one more")


def test_terminate_self_tells_the_clients() -> None:
    records = Records()
    ability = connected(records)

    actions = finish(records, records.end_ability(0, ability, "the ability ended itself"))

    assert only(actions, Disconnected) == [Disconnected("c1", ELEMENT, -1, "the ability ended itself")]
    assert steps(actions) == [Step.DESTROY]
    assert len(records) == 0


# --- processes and time -----------------------------------------------------------------------------------


def test_everybody_is_told_when_the_process_ends() -> None:
    records = Records()
    connected(records)
    records.connect(0, OTHER, Target(ElementName("a.b", "T"), "a.b"), Want("a.b", "T"), "c2")
    records.start(0, Target(ElementName("a.b", "T"), "a.b"), Want("a.b", "T"), "s")

    actions = records.process_exited(0, "a.b", "it was ended by SIGKILL")

    assert only(actions, Disconnected) == [Disconnected("c1", ELEMENT, -1, "it was ended by SIGKILL")]
    assert [(told.callback, told.text) for told in only(actions, Failed)] == [("c2", "it was ended by SIGKILL")]
    assert only(actions, StartDone) == [StartDone("s", codes.INTERNAL, "it was ended by SIGKILL")]
    assert len(records) == 0


@pytest.mark.parametrize("unit", [1.0, 0.5])
def test_a_process_that_does_not_come_up_is_killed_after_ten_ticks(unit: float) -> None:
    records = Records(unit)
    records.connect(100, ME, TARGET, WANT, "c1")
    assert records.next_deadline() == 100 + 10 * unit
    assert records.tick(100 + 9 * unit) == []

    actions = records.tick(100 + 10 * unit)

    (told,) = only(actions, Failed)
    assert told.text == f"process a.b of a.b/S did not come up within {10 * unit:g} s; see its log"
    assert only(actions, KillProcess)
    records.process_exited(200, "a.b", "killed")
    assert len(records) == 0
    assert records.next_deadline() is None


def hung(records: Records, step: Step) -> None:
    """Bring the ability to ``step``, begun at 0, in which it hangs."""
    records.connect(0, ME, TARGET, WANT, "c1")
    if step is Step.CREATE:
        (load,) = only(records.attached(0, "a.b"), Load)
        records.loaded(0, load.ability)
        return
    ability, actions = created(records)
    if step is Step.CONNECT:
        return
    (run,) = only(actions, Run)
    records.done(0, ability, run.number, "object", "")
    if step is Step.COMMAND:
        records.start(0, TARGET, WANT, "s")


@pytest.mark.parametrize(("step", "ticks"), [(Step.CREATE, 10), (Step.CONNECT, 10), (Step.COMMAND, 5)])
def test_a_hung_ability_is_ended_and_then_killed(step: Step, ticks: int) -> None:
    records = Records()
    hung(records, step)
    known = records.find(ELEMENT)
    assert known is not None and known.step is step
    assert records.next_deadline() == ticks

    actions = records.tick(ticks)

    why = f"{step.value} of a.b/S did not return within {ticks} s; the ability is ended"
    told = only(actions, Failed if step in (Step.CREATE, Step.CONNECT) else Disconnected)
    assert [known.text for known in told] == [why]
    assert steps(actions) == [Step.DESTROY]
    assert records.next_deadline() == ticks + codes.DESTROY_TICKS
    (kill,) = only(records.tick(ticks + codes.DESTROY_TICKS), KillProcess)
    assert kill.why == "on_destroy of a.b/S did not return in time"
    records.process_exited(99, "a.b", "killed")
    assert len(records) == 0


def test_an_on_disconnect_that_hangs_does_not_hold_the_client() -> None:
    records = Records()
    connected(records)
    records.disconnect(0, ME, "c1")

    actions = records.tick(1)

    assert only(actions, Disconnected) == [Disconnected("c1", ELEMENT, 0, "")]
    assert steps(actions) == [Step.DESTROY]


def test_a_late_answer_changes_nothing() -> None:
    records = Records()
    ability = connected(records)
    known = records.find(ELEMENT)
    assert known is not None
    late = known.number

    assert records.done(0, ability, late, "another object", "") == []
    assert records.done(0, 99, 1, None, "") == []
    assert records.loaded(0, ability) == []
    assert records.loaded(0, 99) == []
    assert records.attached(0, "a.b") == []
    assert records.attached(0, "unknown") == []
    assert records.process_exited(0, "unknown", "") == []
    assert records.end_process(0, "unknown", "") == []
    assert records.client_died(0, "unknown") == []


def test_an_answer_to_a_step_that_timed_out_is_not_taken_for_the_next_ones() -> None:
    records = Records()
    hung(records, Step.CONNECT)
    known = records.find(ELEMENT)
    assert known is not None
    late = known.number
    (destroy,) = only(records.tick(codes.CONNECT_TICKS), Run)

    assert records.done(11, known.id, late, "object", "") == []
    assert only(records.done(11, known.id, destroy.number, None, ""), StopProcess)


def test_who_waits_for_the_next_process_has_the_whole_time_from_its_start() -> None:
    records = Records()
    records.connect(0, ME, TARGET, WANT, "c1")
    records.client_died(0, "c1")
    records.connect(1, OTHER, TARGET, WANT, "c2")

    records.process_exited(4, "a.b", "ended")

    assert records.next_deadline() == 4 + codes.LOAD_TICKS


def test_a_process_is_asked_to_end_only_once() -> None:
    records = Records()
    records.connect(0, ME, TARGET, WANT, "c1")
    assert only(records.client_died(0, "c1"), StopProcess)
    records.connect(0, OTHER, TARGET, WANT, "c2")

    assert only(records.client_died(0, "c2"), StopProcess) == []


def test_a_process_that_does_not_end_is_killed() -> None:
    records = Records()
    records.connect(0, ME, TARGET, WANT, "c1")
    records.client_died(0, "c1")
    assert records.next_deadline() == codes.STOP_TICKS

    assert only(records.tick(codes.STOP_TICKS), KillProcess) == [
        KillProcess("a.b", "process a.b did not end in time after SIGTERM")
    ]


def test_a_process_that_cannot_be_reached_is_killed_and_the_reason_told() -> None:
    records = Records()
    connected(records)

    assert only(records.end_process(0, "a.b", "it reads nothing"), KillProcess)
    assert [told.text for told in only(records.process_exited(0, "a.b", "SIGKILL"), Disconnected)] == [
        "it reads nothing"
    ]


def test_a_title_is_bundle_and_ability() -> None:
    assert title(ElementName("a.b", "S", "m", "d")) == "a.b/S"


# --- everything in every order ----------------------------------------------------------------------------

CLIENTS = (ME, OTHER, Client(0, 1000, 70))
TARGETS = tuple(Target(ElementName("a.b", name), process) for name, process in (("S", "p"), ("T", "p"), ("U", "q")))


class World(RuleBasedStateMachine):
    """Clients, processes and abilities around the records; every action is checked when it is done."""

    callbacks: Bundle[int] = Bundle("callbacks")

    def __init__(self) -> None:
        super().__init__()
        self.records = Records()
        self.now = 0.0
        self.number = 0
        self.owner: dict[int, Client] = {}
        self.told: dict[int, list[str]] = {}
        self.dead_clients: set[int] = set()
        self.started: Counter[int] = Counter()
        self.processes: dict[str, str] = {}
        self.loads: list[Load] = []
        self.runs: list[Run] = []
        self.history: dict[int, list[Step]] = {}

    def do(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, StartProcess):
                assert action.process not in self.processes
                self.processes[action.process] = "starting"
            elif isinstance(action, (StopProcess, KillProcess)):
                assert action.process in self.processes
                self.processes[action.process] = "ending"
            elif isinstance(action, Load):
                assert self.processes[action.process] == "up"
                self.loads.append(action)
            elif isinstance(action, Run):
                self.ran(action)
            elif isinstance(action, StartDone):
                assert isinstance(action.starter, int)
                self.started[action.starter] += 1
                assert self.started[action.starter] == 1
            elif isinstance(action, Forget):
                self.runs = [run for run in self.runs if run.ability != action.ability]
                self.loads = [load for load in self.loads if load.ability != action.ability]
            else:
                self.tell(action)

    def ran(self, run: Run) -> None:
        before = {known.step for known in self.runs if known.ability == run.ability}
        # Only an on_disconnect that takes too long is gone on without.
        assert before <= {Step.DISCONNECT} or run.step is Step.DESTROY
        past = self.history.setdefault(run.ability, [])
        assert (run.step is Step.CREATE) == (not past)
        assert Step.DESTROY not in past
        bound = [step for step in past if step in (Step.CONNECT, Step.DISCONNECT)]
        if run.step is Step.DISCONNECT:
            assert bound[-1:] == [Step.CONNECT]
        past.append(run.step)
        self.runs.append(run)

    def tell(self, action: Connected | Failed | Disconnected) -> None:
        assert isinstance(action.callback, int)
        assert action.callback not in self.dead_clients
        told = self.told[action.callback]
        assert told in ([], ["Connected"])
        if isinstance(action, Connected):
            assert told == [] and action.remote is not None
        elif isinstance(action, Failed):
            assert told == [] and action.text
        told.append(type(action).__name__)

    @rule(target=callbacks, client=st.sampled_from(CLIENTS), wanted=st.sampled_from(TARGETS))
    def connect(self, client: Client, wanted: Target) -> int:
        self.number += 1
        self.told[self.number] = []
        self.owner[self.number] = client
        self.do(self.records.connect(self.now, client, wanted, WANT, self.number))
        return self.number

    @rule(callback=callbacks)
    def disconnect(self, callback: int) -> None:
        possible = self.told[callback] == ["Connected"] and callback not in self.dead_clients
        try:
            self.do(self.records.disconnect(self.now, self.owner[callback], callback))
        except AbilityError:
            return
        assert possible

    @rule(callback=consumes(callbacks))
    def client_dies(self, callback: int) -> None:
        self.dead_clients.add(callback)
        self.do(self.records.client_died(self.now, callback))

    @rule(wanted=st.sampled_from(TARGETS))
    def start(self, wanted: Target) -> None:
        self.number += 1
        self.do(self.records.start(self.now, wanted, WANT, self.number))

    @rule(wanted=st.sampled_from(TARGETS))
    def stop(self, wanted: Target) -> None:
        self.do(self.records.stop(self.now, wanted.element))

    @precondition(lambda self: "starting" in self.processes.values())
    @rule(data=st.data())
    def process_comes_up(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from([name for name, state in self.processes.items() if state == "starting"]))
        self.processes[name] = "up"
        self.do(self.records.attached(self.now, name))

    @precondition(lambda self: self.loads)
    @rule(data=st.data())
    def loaded(self, data: st.DataObject) -> None:
        load = data.draw(st.sampled_from(self.loads))
        self.loads.remove(load)
        self.do(self.records.loaded(self.now, load.ability))

    @precondition(lambda self: self.runs)
    @rule(data=st.data(), outcome=st.sampled_from(["object", "object", "object", "none", "raises"]))
    def answers(self, data: st.DataObject, outcome: str) -> None:
        run = data.draw(st.sampled_from(self.runs))
        self.runs.remove(run)
        if run.step is Step.CONNECT and outcome == "raises":
            self.history[run.ability].append(Step.DISCONNECT)  # nothing is bound, so no on_disconnect may follow
        remote = "object" if run.step is Step.CONNECT and outcome == "object" else None
        self.do(self.records.done(self.now, run.ability, run.number, remote, "no" if outcome == "raises" else ""))

    @rule(seconds=st.sampled_from([0.5, 1.0, 5.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.do(self.records.tick(self.now))
        deadline = self.records.next_deadline()
        assert deadline is None or deadline > self.now

    @precondition(lambda self: self.processes)
    @rule(data=st.data())
    def process_ends(self, data: st.DataObject) -> None:
        self.end(data.draw(st.sampled_from(sorted(self.processes))))

    def end(self, name: str) -> None:
        del self.processes[name]
        self.do(self.records.process_exited(self.now, name, f"process {name} ended"))

    @rule(data=st.data())
    def terminates_itself(self, data: st.DataObject) -> None:
        known = [ability.id for ability in self.records.abilities() if ability.state is AbilityState.ACTIVE]
        if known:
            self.do(self.records.end_ability(self.now, data.draw(st.sampled_from(known)), "it wanted to"))

    @invariant()
    def whoever_waits_has_a_limit_of_time(self) -> None:
        waiting = any(told == [] for callback, told in self.told.items() if callback not in self.dead_clients)
        assert not waiting or self.records.next_deadline() is not None or "ending" in self.processes.values()

    def teardown(self) -> None:
        for target in TARGETS:
            self.do(self.records.stop(self.now, target.element))
        for callback, told in self.told.items():
            if told == ["Connected"]:
                self.disconnect(callback)
        for _ in range(100):
            if not self.processes:
                break
            for name in [name for name, state in self.processes.items() if state == "ending"]:
                self.end(name)
            self.time_passes(10.0)
        assert len(self.records) == 0
        for callback, told in self.told.items():
            if callback not in self.dead_clients:
                assert told[-1:] in (["Failed"], ["Disconnected"])


World.TestCase.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
TestWorld = World.TestCase
