"""dbinder/objects.py: what programs ask softbus for of other devices, and why not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from binderkit.errors import PermissionDeniedError, RefusedError
from binderkit.interface import within
from binderkit.ipc.context import CallContext, RemoteCaller, current
from binderkit.samgr.remote import Problem, RemoteAbility
from tests.dbinder.ability_worlds import Heard, World, world
from tests.dbinder.service import echo


@pytest.fixture
def there() -> Iterator[World]:
    with world() as made:
        made.a.registry.declared |= {7, "demo.far"}
        made.b.offer(7, "demo.seven")
        made.b.offer(8, "demo.far")
        made.b.offer(9, "demo.nine")
        yield made


def problem(there: World, device: str, key: int | str) -> Problem:
    with pytest.raises(Problem) as caught:
        there.dbinder.get_ability(device, key, 5.0)
    return caught.value


def test_by_id_and_by_name(there: World) -> None:
    found = there.dbinder.get_ability("b", 7, 5.0)
    assert echo(found) == "hello"
    assert there.dbinder.get_ability(there.b.udid, "demo.seven", 5.0) is found
    assert echo(there.dbinder.get_ability("b", "demo.far", 5.0)) == "hello"


@pytest.mark.parametrize(
    ("device", "key", "code", "words"),
    [
        ("b", 8, 1024, "does not declare 8"),  # declared by its name only
        ("b", "demo.nine", 1024, "does not declare 'demo.nine'"),
        ("b", "demo.none", 113, "offers no system ability 'demo.none' to this one"),
        ("b", 1401, 115, "use the one here"),
        ("b", 4700, 115, "use the one here"),
        ("b", 0, 1000, "is outside"),
        ("b", "a b", 1001, "is no name"),
        ("x", 7, 108, "no device 'x'"),
        ("a", 7, 2101, "leave device_id empty"),
    ],
)
def test_why_not(there: World, device: str, key: int | str, code: int, words: str) -> None:
    there.a.registry.declared |= {1401, 4700}  # these nobody gets, whatever a profile says
    found = problem(there, device, key)
    assert (found.code, words in found.text) == (code, True), found.text


def test_what_the_other_device_does_not_have_or_give(there: World) -> None:
    there.a.registry.declared |= {10, "demo.nine"}
    assert problem(there, "b", 10).code == 113
    there.b.registry.refused[9, there.a.udid] = 201
    assert problem(there, "b", "demo.nine").code == 113  # it is not even shown


def test_a_device_that_is_offline(there: World) -> None:
    there.b.device.stop()
    found = problem(there, "b", 7)
    assert found.code == 108 and "offline" in found.text
    with pytest.raises(Problem, match="offline"):
        there.dbinder.list_abilities("b", 5.0)


def test_the_list(there: World) -> None:
    assert [one.name for one in there.dbinder.list_abilities("b", 5.0)] == ["demo.seven", "demo.far", "demo.nine"]
    there.a.registry.there[4] = "demo.own"
    assert there.dbinder.list_abilities("a", 5.0) == [RemoteAbility(4, "demo.own", True)]


def test_an_application_without_the_permission_uses_no_device(there: World) -> None:
    there.a.refusal = PermissionDeniedError("it lacks ohos.permission.DISTRIBUTED_DATASYNC")
    assert problem(there, "b", 7).code == 201
    for ask in (
        lambda: there.dbinder.list_abilities("b", 5.0),
        lambda: there.dbinder.watch_ability("b", 7, Heard()),
    ):
        with pytest.raises(Problem, match="DATASYNC") as caught:
            ask()
        assert caught.value.code == 201


def test_programs_of_other_devices_have_nothing_to_say(there: World) -> None:
    caller = RemoteCaller(there.b.udid, there.a.udid, 1, 0, 0)
    token = current.set(CallContext(caller, None, None, 0, 1, 1, None, None))
    try:
        with pytest.raises(Problem, match="its own device only") as caught:
            there.a.abilities.get_ability("b", 7, 5.0)
        assert caught.value.code == 303
        with pytest.raises(RefusedError, match="its own device only"):
            there.a.abilities.unwatch_ability(Heard())
    finally:
        current.reset(token)


def test_the_time_is_the_callers(there: World) -> None:
    """A device that hangs: who waits gives up when it said it would."""
    service = there.b.offer(11)
    there.a.registry.declared.add(11)
    entered, get = service.entered, there.b.device.dbinder._get_local

    def slow(ability: int) -> object:
        entered.release()
        assert service.go_on.wait(10)
        return get(ability)

    there.b.device.dbinder._get_local = slow  # type: ignore[assignment]
    try:
        with pytest.raises(Problem) as caught:
            within(5, there.dbinder.get_ability)("b", 11, 0.1)
        assert caught.value.code == 502
    finally:
        service.go_on.set()
