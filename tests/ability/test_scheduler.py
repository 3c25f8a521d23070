"""scheduler.py: steps of one ability, reported one by one, whatever the user's code does."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import binderkit as bk
from binderkit import process
from binderkit.ability import ServiceExtensionAbility, Want
from binderkit.ability.contracts import Refusal
from binderkit.ability.manifest import AbilityManifest, Bundle
from binderkit.ability.scheduler import MAX_TEXT, AbilityScheduler
from binderkit.errors import RefusedError, ServiceError
from tests.ability.test_connections import Manager

WANT = Want("a.b", "S")
made: list[Scripted] = []


class Scripted(ServiceExtensionAbility):
    """Does what the test says."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.fail: BaseException | None = None
        self.remote: Any = None
        made.append(self)

    def do(self, *what: object) -> None:
        self.seen.append(what)
        if self.fail is not None:
            raise self.fail

    def on_create(self, want: Want) -> None:
        self.do("create", want.parameters)

    def on_connect(self, want: Want) -> Any:
        self.do("connect")
        return self.remote

    def on_request(self, want: Want, start_id: int) -> None:
        self.do("request", start_id)

    def on_disconnect(self, want: Want) -> None:
        self.do("disconnect")

    def on_destroy(self) -> None:
        self.do("destroy")

    def on_dump(self, arguments: list[str]) -> Any:
        return arguments if self.remote is None else self.remote


class AsyncScripted(Scripted):
    """The same with coroutines."""

    async def on_create(self, want: Want) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.do("create", want.parameters)

    async def on_connect(self, want: Want) -> Any:
        await asyncio.sleep(0)
        self.do("connect")
        return self.remote


class NotMade(ServiceExtensionAbility):
    """Cannot be made."""

    def __init__(self) -> None:
        sys.exit("not today")


class Reports(Manager):
    """Remembers what is reported."""

    def __init__(self) -> None:
        super().__init__()
        self.steps: list[tuple[int, int, Any, str]] = []
        self.ended: list[int] = []

    def step_done(self, ability: int, number: int, remote: Any, error: str) -> None:
        if self.error is not None:
            raise self.error
        self.steps.append((ability, number, remote, error))

    def terminate_ability(self, ability: int) -> None:
        if self.error is not None:
            raise self.error
        self.ended.append(ability)


class World:
    """One scheduler."""

    def __init__(self, name: str = "Scripted") -> None:
        self.reports = Reports()
        manifest = AbilityManifest("S", "service", True, (), f"tests.ability.test_scheduler:{name}", "a.b")
        bundle = Bundle("a.b", "1", "entry", (manifest,), (), Path("/"))
        self.over = 0
        self.scheduler = AbilityScheduler(self.reports, 9, bundle, manifest, self._end)

    def _end(self) -> None:
        self.over += 1

    def created(self) -> Scripted:
        self.scheduler.create(1, WANT)
        assert self.reports.steps == [(9, 1, None, "")]
        self.reports.steps.clear()
        return made[-1]


@pytest.fixture(autouse=True)
def nothing_made() -> Iterator[None]:
    yield
    made.clear()


@pytest.mark.parametrize("name", ["Scripted", "AsyncScripted"])
def test_a_whole_life(name: str) -> None:
    world = World(name)
    ability = world.created()
    ability.remote = bk.RemoteObject("test.Object")

    world.scheduler.connect(2, WANT)
    world.scheduler.command(3, WANT, 1)
    world.scheduler.disconnect(4, WANT)
    world.scheduler.destroy(5, WANT)

    assert ability.seen == [("create", {}), ("connect",), ("request", 1), ("disconnect",), ("destroy",)]
    assert world.reports.steps == [(9, 2, ability.remote, ""), *((9, number, None, "") for number in (3, 4, 5))]
    assert str(ability.context.element) == "a.b/entry/S"
    assert world.over == 1


@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit("broken")])
def test_what_a_step_raises_is_reported_and_logged(error: BaseException, caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    ability = world.created()
    ability.fail = error

    world.scheduler.connect(2, WANT)

    assert world.reports.steps == [(9, 2, None, f"{type(error).__name__}: broken")]
    assert "Traceback" in caplog.text
    assert world.over == 0


def test_a_long_text_is_cut() -> None:
    world = World()
    world.created().fail = ValueError("x" * 10_000)
    world.scheduler.command(2, WANT, 1)
    assert len(world.reports.steps[0][3]) == MAX_TEXT


def test_an_ability_that_cannot_be_made_is_reported_and_over() -> None:
    world = World("NotMade")
    world.scheduler.create(1, WANT)
    assert world.reports.steps == [(9, 1, None, "SystemExit: not today")]
    assert world.over == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("World", "made World; a ServiceExtensionAbility was expected"),
        ("NoSuch", "names no class"),
        ("WANT", "no class"),
    ],
)
def test_entries_that_are_no_abilities_are_reported(name: str, text: str) -> None:
    world = World(name)
    world.scheduler.create(1, WANT)
    assert text in world.reports.steps[0][3]


def test_typed_objects_and_none_can_be_returned_nothing_else() -> None:
    world = World()
    ability = world.created()
    typed = Manager()
    for number, value in enumerate([typed, None, 5], 2):
        ability.remote = value
        world.scheduler.connect(number, WANT)
    assert world.reports.steps[:2] == [(9, 2, typed, ""), (9, 3, None, "")]
    assert world.reports.steps[2][3].startswith("ServiceError: on_connect returned int; expected was a RemoteObject")


def test_a_destroy_after_a_failed_create_is_answered() -> None:
    world = World("NotMade")
    world.scheduler.create(1, WANT)
    world.scheduler.destroy(2, WANT)
    assert world.reports.steps[1] == (9, 2, None, "")


def test_a_step_of_what_does_not_live_is_reported() -> None:
    world = World()
    world.scheduler.connect(2, WANT)
    assert "does not live" in world.reports.steps[0][3]


def test_a_manager_that_is_gone_does_not_hurt(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    world.reports.error = Refusal(16000050, "who are you?")
    world.scheduler.create(1, WANT)
    assert "cannot be reported" in caplog.text


def test_dump_gives_lines_only() -> None:
    world = World()
    ability = world.created()
    assert world.scheduler.dump(["a"]) == ["a"]
    ability.remote = "text"
    with pytest.raises(ServiceError, match="returned str; a list of str was expected"):
        world.scheduler.dump([])


def test_terminate_self_asks_the_manager() -> None:
    world = World()
    ability = world.created()
    ability.context.terminate_self()
    assert world.reports.ended == [9]
    world.reports.error = Refusal(16000050, "no")
    with pytest.raises(bk.errors.AbilityError, match="no"):
        ability.context.terminate_self()


def test_close_destroys_what_lives_and_survives_what_that_raises(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    ability = world.created()
    ability.fail = ValueError("broken")
    world.scheduler.close(1)
    world.scheduler.close(1)
    assert ability.seen[1:] == [("destroy",)]
    assert "on_destroy of a.b/entry/S raised" in caplog.text


def test_only_the_manager_may_give_orders() -> None:
    with bk.spawn("tests.ability.test_scheduler:Reports") as child:
        from binderkit.ability.contracts import IAbilityManager
        from binderkit.interface import proxy
        from binderkit.ipc.context import CallContext, Caller, current

        world = World()
        world.scheduler._manager = proxy(IAbilityManager, child.root)
        token = current.set(CallContext(Caller(os.getpid(), 0, 0), None, None, 0, 0, 0, None, None))
        try:
            with pytest.raises(RefusedError, match=rf"only the ability manager \(pid {child.pid}\) may call this"):
                world.scheduler.create(1, WANT)
        finally:
            current.reset(token)
    process.shutdown()
    assert made == []
