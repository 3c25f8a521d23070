"""Abilities of other devices: arguments and errors; tests/softbus/test_device.py has the devices."""

from __future__ import annotations

import asyncio
import queue
from pathlib import Path

import pytest

from binderkit import samgr
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    IpcError,
    ParamTypeError,
    ParamValueError,
    PermissionDeniedError,
    RefusedError,
    ServiceError,
    ServiceNotFoundError,
)
from binderkit.interface import proxy
from binderkit.ipc.remote import IRemoteObject, RemoteObject
from binderkit.samgr import aio, remote
from binderkit.samgr.remote import THIS_DEVICE, IAbilityWatcher, IDBinder, Problem, RemoteAbility
from tests.samgr.fake_softbus import FORBIDDEN, MISSING, THERE, install
from tests.samgr.processes import WAIT, ask, samgr_process

THING = RemoteObject("tests.Thing")


class Fake(IDBinder):
    """A device "kitchen" with two abilities."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int | str, float]] = []

    def get_ability(self, device: str, key: int | str, timeout: float) -> IRemoteObject:
        self.asked.append((device, key, timeout))
        if device != "kitchen":
            raise Problem(int(device), "what was wrong")
        return THING

    def watch_ability(self, device: str, key: int | str, watcher: IAbilityWatcher) -> str:
        raise NotImplementedError

    def unwatch_ability(self, watcher: IAbilityWatcher) -> bool:
        raise NotImplementedError

    def list_abilities(self, device: str, timeout: float) -> list[RemoteAbility]:
        return [RemoteAbility(5, "runs", True), RemoteAbility(6, "sleeps", False)]


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> Fake:
    made = Fake()
    monkeypatch.setattr(remote, "dbinder", lambda: proxy(IDBinder, made))
    return made


def test_a_device_is_asked_with_a_time(fake: Fake) -> None:
    assert samgr.get_system_ability(5, device_id="kitchen") is THING
    assert samgr.get_system_ability("runs", 2, "kitchen") is THING
    assert samgr.load_system_ability(5, device_id="kitchen", timeout=3) is THING
    assert fake.asked == [("kitchen", 5, 8.0), ("kitchen", "runs", 2.0), ("kitchen", 5, 3.0)]


def test_check_loads_nothing(fake: Fake) -> None:
    assert samgr.check_system_ability(5, device_id="kitchen") is THING
    assert samgr.check_system_ability("runs", device_id="kitchen") is THING
    assert samgr.check_system_ability(6, device_id="kitchen") is None
    assert samgr.check_system_ability("nothing", device_id="kitchen") is None
    assert [key for _, key, _ in fake.asked] == [5, 5]


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (108, ServiceError),
        (113, ServiceNotFoundError),
        (115, ServiceError),
        (1024, ServiceError),
        (201, PermissionDeniedError),
        (303, RefusedError),
        (-32, DeadObjectError),
        (502, CallTimeoutError),
    ],
)
def test_a_problem_is_an_error_with_its_code(fake: Fake, code: int, kind: type[IpcError]) -> None:
    with pytest.raises(kind, match="what was wrong") as caught:
        samgr.get_system_ability(5, device_id=str(code))
    assert caught.value.code == code


@pytest.mark.parametrize("device", ["x" * 65, "x" * 1000])
def test_what_names_no_device_is_refused_before_anybody_is_asked(fake: Fake, device: str) -> None:
    with pytest.raises(ParamValueError, match="device list"):
        samgr.get_system_ability(5, device_id=device)
    assert not fake.asked


def test_wrong_times_are_refused(fake: Fake) -> None:
    for wrong in (0, -1, 3001):
        with pytest.raises(ParamValueError, match="timeout"):
            samgr.get_system_ability(5, wrong, "kitchen")
    with pytest.raises(ParamTypeError):
        samgr.get_system_ability(5, True, "kitchen")
    for wrong in (0, 3001):
        with pytest.raises(ParamValueError, match="timeout"):
            samgr.load_system_ability(5, samgr.SystemAbilityLoadCallback(), device_id="kitchen", timeout=wrong)
    with pytest.raises(ParamTypeError, match="SystemAbilityLoadCallback"):
        samgr.load_system_ability(5, object(), device_id="kitchen")  # type: ignore[call-overload]
    assert not fake.asked


def test_an_ability_of_this_very_device_is_asked_for_at_samgr(fake: Fake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Softbus may have what its caller may not."""
    asked: list[object] = []
    monkeypatch.setattr("binderkit.samgr.client.system_ability_manager", lambda: _Manager(asked))
    assert samgr.get_system_ability("x", 3, str(THIS_DEVICE)) is THING
    assert asked == ["x"]


class _Manager:
    def __init__(self, asked: list[object]) -> None:
        self._asked = asked

    def get_system_ability(self, key: object, timeout: object) -> IRemoteObject:
        self._asked.append(key)
        return THING


class Loaded(samgr.SystemAbilityLoadCallback):
    def __init__(self) -> None:
        super().__init__()
        self.heard: queue.Queue[tuple[str, int | str, IRemoteObject | None, IpcError | None]] = queue.Queue()

    def on_load_system_ability_complete_for_remote(
        self, device_id: str, ability: int | str, remote: IRemoteObject | None, error: IpcError | None
    ) -> None:
        self.heard.put((device_id, ability, remote, error))


def test_a_load_with_a_callback_comes_back_at_once(device: Path) -> None:
    install(device)
    with samgr_process():
        told = Loaded()
        assert samgr.load_system_ability(THERE, told, device_id="kitchen") is None
        name, key, found, error = told.heard.get(timeout=WAIT)
        assert (name, key, ask(found, 1, 4), error) == ("kitchen", THERE, 5, None)
        for key, where, code in ((MISSING, "kitchen", 113), ("runs", "attic", 108), (FORBIDDEN, "kitchen", 201)):
            samgr.load_system_ability(key, told, device_id=where)
            *words, nothing, why = told.heard.get(timeout=WAIT)
            assert (words, nothing) == ([where, key], None)
            assert isinstance(why, IpcError) and why.code == code
        asyncio.run(_coroutines())


async def _coroutines() -> None:
    found = await aio.get_system_ability(THERE, device_id="kitchen")
    assert ask(found, 1, 4) == 5
    assert await aio.load_system_ability("runs", device_id="kitchen") is found
    assert await aio.check_system_ability(THERE, "kitchen") is found
    assert await aio.check_system_ability(MISSING, "kitchen") is None
    with pytest.raises(ServiceNotFoundError, match="it is not there"):
        await aio.get_system_ability(MISSING, device_id="kitchen")
    with pytest.raises(PermissionDeniedError):
        await aio.get_system_ability(FORBIDDEN, device_id="kitchen")
    with pytest.raises(ParamValueError, match="device list"):
        await aio.get_system_ability(5, device_id="x" * 65)
    with pytest.raises(ServiceNotFoundError) as caught:  # this device: SAMgr's own answer
        await aio.get_system_ability(5, device_id="here")
    assert caught.value.code == 1008
