"""connections.py: which callbacks share what, without a device: the manager is an object of this process."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest

import binderkit as bk
from binderkit import process
from binderkit.ability.connections import Connections
from binderkit.ability.contracts import AbilityReport, IAbilityConnection, IAbilityHost, IAbilityManager, Refusal
from binderkit.ability.contracts import IAbilityScheduler as Scheduler
from binderkit.ability.want import Want
from binderkit.errors import DeadObjectError, ParamTypeError, ParamValueError, RefusedError
from binderkit.ipc.context import CallContext, Caller, current
from binderkit.ipc.remote import IRemoteObject
from tests.ability.clients import Told

WANT = Want("a.b", "S")
OBJECT = bk.RemoteObject("test.Object")


class Manager(IAbilityManager):
    """Remembers what it is asked, and refuses what it is told to."""

    def __init__(self) -> None:
        self.connecting: list[IAbilityConnection] = []
        self.disconnecting: list[IAbilityConnection] = []
        self.error: Exception | None = None

    def connect_ability(self, want: Want, callback: IAbilityConnection) -> None:
        if self.error is not None:
            raise self.error
        self.connecting.append(callback)

    def disconnect_ability(self, callback: IAbilityConnection) -> None:
        if self.error is not None:
            raise self.error
        self.disconnecting.append(callback)

    def start_ability(self, want: Want) -> None: ...
    def stop_ability(self, want: Want) -> None: ...
    def list_abilities(self) -> list[AbilityReport]:
        return []

    def dump_ability(self, want: Want, arguments: list[str]) -> list[str]:
        return []

    def attach_host(self, host: IAbilityHost) -> None: ...
    def ability_loaded(self, ability: int, scheduler: Scheduler) -> None: ...
    def step_done(self, ability: int, number: int, remote: IRemoteObject | None, error: str) -> None: ...
    def terminate_ability(self, ability: int) -> None: ...
    def connect_ability_of_device(self, device_id: str, want: Want, callback: IAbilityConnection) -> None: ...


class World:
    """Connections whose tasks run at once, on a clock of the test's."""

    def __init__(self) -> None:
        self.now = 0.0
        self.manager = Manager()
        self.connections = Connections(lambda task: task(), clock=lambda: self.now)

    def connect(self, want: Want = WANT) -> tuple[int, Told]:
        told = Told()
        return self.connections.connect(self.manager, want, told), told

    def connected(self) -> tuple[int, Told, Any]:
        number, told = self.connect()
        entry: Any = self.manager.connecting[-1]
        entry.connect_done(WANT.element, OBJECT)
        assert told.next() == ("connect", OBJECT)
        return number, told, entry


@pytest.fixture
def world() -> World:
    return World()


def test_ids_count_from_zero(world: World) -> None:
    assert [world.connect()[0], world.connect()[0], world.connect(Want("a.b", "T"))[0]] == [0, 1, 2]


def test_while_it_connects_others_wait_with_it(world: World) -> None:
    _, first = world.connect()
    _, second = world.connect()
    (entry,) = world.manager.connecting
    assert first.nothing() and second.nothing()

    entry.connect_done(WANT.element, OBJECT)

    assert first.next() == second.next() == ("connect", OBJECT)


def test_once_connected_the_object_comes_without_the_manager(world: World) -> None:
    world.connected()

    _, second = world.connect()

    assert second.next() == ("connect", OBJECT)
    assert len(world.manager.connecting) == 1


def test_who_leaves_while_others_stay_is_told_at_once_the_last_one_disconnects(world: World) -> None:
    first, told, entry = world.connected()
    second, others = world.connect()
    others.next()

    world.connections.disconnect(first)
    assert told.next()[0] == "disconnect"
    assert world.manager.disconnecting == []
    assert world.connections.open() == {second}

    world.connections.disconnect(second)
    assert world.manager.disconnecting == [entry]
    assert others.nothing()
    entry.disconnect_done(WANT.element, 0, "")
    assert others.next()[0] == "disconnect"
    assert len(world.connections) == 0


def test_leaving_before_it_is_connected_disconnects_as_soon_as_it_is(world: World) -> None:
    number, told = world.connect()
    (entry,) = world.manager.connecting
    world.connections.disconnect(number)
    assert world.manager.disconnecting == [] and len(world.connections) == 1

    entry.connect_done(WANT.element, OBJECT)
    assert world.manager.disconnecting == [entry]
    entry.disconnect_done(WANT.element, 0, "")

    assert told.next()[0] == "disconnect"
    assert told.nothing() and len(world.connections) == 0


def test_leaving_before_it_fails_is_told_as_a_disconnect(world: World) -> None:
    number, told = world.connect()
    world.connections.disconnect(number)

    world.manager.connecting[0].connect_failed(WANT.element, 16000050, "no")

    assert told.next()[0] == "disconnect"
    assert len(world.connections) == 0


def test_who_connects_while_the_last_one_leaves_gets_a_new_connection(world: World) -> None:
    number, _, old = world.connected()
    world.connections.disconnect(number)

    _, told = world.connect()
    assert len(world.manager.connecting) == 2
    old.disconnect_done(WANT.element, 0, "")
    assert told.nothing()
    world.manager.connecting[1].connect_done(WANT.element, OBJECT)

    assert told.next() == ("connect", OBJECT)


def test_everybody_learns_of_the_services_death_and_the_next_one_connects_anew(world: World) -> None:
    number, told, entry = world.connected()
    _, second = world.connect()
    second.next()

    entry.disconnect_done(WANT.element, -1, "killed")

    assert told.next()[0] == second.next()[0] == "disconnect"
    world.connections.disconnect(number)  # it is over: nothing to do
    world.connect()
    assert len(world.manager.connecting) == 2


@pytest.mark.parametrize("refused", [True, False])
def test_failures_come_through_on_failed_with_code_and_text(world: World, refused: bool) -> None:
    if refused:
        world.manager.error = Refusal(16000001, "no such ability")
    _, told = world.connect()
    if not refused:
        world.manager.connecting[0].connect_failed(WANT.element, 16000001, "no such ability")

    kind, code = told.next()
    assert (kind, int(code), code.text) == ("failed", 16000001, "no such ability")
    assert code.error().code == 16000001
    assert len(world.connections) == 0


def test_a_manager_that_dies_during_the_call_is_an_exception_and_nothing_is_left(world: World) -> None:
    world.manager.error = DeadObjectError("gone")
    with pytest.raises(DeadObjectError):
        world.connect()
    assert len(world.connections) == 0 and world.connections.open() == set()


def test_a_disconnect_that_the_manager_does_not_know_is_over(world: World) -> None:
    number, told, _ = world.connected()
    world.manager.error = Refusal(16000050, "CONNECTION_NOT_EXIST")

    world.connections.disconnect(number)

    assert told.next()[0] == "disconnect"
    assert len(world.connections) == 0


def test_a_connect_without_an_answer_is_made_anew_after_thirty_seconds(world: World) -> None:
    _, first = world.connect()
    world.now = 30.0
    _, second = world.connect()
    assert len(world.manager.connecting) == 1
    world.now = 30.1

    _, third = world.connect()

    assert len(world.manager.connecting) == 2
    for told in (first, second):
        kind, code = told.next()
        assert (kind, code.text) == ("failed", "no answer for 30 s: a.b/S")
    world.manager.connecting[0].connect_done(WANT.element, OBJECT)  # too late: it is disconnected
    assert world.manager.disconnecting == [world.manager.connecting[0]]
    assert third.nothing()


def test_when_the_manager_dies_everybody_is_told(world: World) -> None:
    _, connected, _ = world.connected()
    _, connecting = world.connect(Want("a.b", "T"))

    world.connections.manager_died(world.manager)

    assert connected.next()[0] == "disconnect"
    kind, code = connecting.next()
    assert (kind, code.text) == ("failed", "the ability manager ended before it connected a.b/T")
    assert len(world.connections) == 0


def test_a_callback_that_raises_does_not_keep_the_others_from_being_told(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    _, told = world.connect()

    def bad(element: object, remote: object) -> None:
        raise ValueError("mine")

    told.on_connect = bad
    _, second = world.connect()
    world.manager.connecting[0].connect_done(WANT.element, OBJECT)

    assert second.next() == ("connect", OBJECT)
    assert "ValueError: mine" in caplog.text


@pytest.mark.parametrize(("number", "error"), [(0, ParamValueError), (-1, ParamValueError), ("0", ParamTypeError)])
def test_an_id_that_never_was_is_refused(world: World, number: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="connection"):
        world.connections.disconnect(number)


def test_nobody_but_the_manager_says_what_became_of_a_connection() -> None:
    with bk.spawn("tests.ability.test_connections:Manager") as child:
        from binderkit.interface import proxy

        manager = proxy(IAbilityManager, child.root)
        told = Told()
        connections = Connections(lambda task: task())
        connections.connect(manager, WANT, told)
        (entry,) = connections._entries.values()
        calls: list[Callable[[], None]] = [
            lambda: entry.connect_done(WANT.element, OBJECT),
            lambda: entry.connect_failed(WANT.element, 1, ""),
            lambda: entry.disconnect_done(WANT.element, 0, ""),
        ]
        token = current.set(CallContext(Caller(os.getpid(), 0, 0), None, None, 0, 0, 0, None, None))
        try:
            for call in calls:
                with pytest.raises(RefusedError, match="only the ability manager"):
                    call()
        finally:
            current.reset(token)
        assert told.nothing()
    process.shutdown()
