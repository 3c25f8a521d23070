"""samgr/host.py: the abilities of one process, their phases, who may steer them, and their end."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import binderkit as bk
from binderkit.driver.loopback import LoopbackNetwork
from binderkit.errors import RefusedError, RemoteError, ServiceError
from binderkit.interface import proxy
from binderkit.ipc.context import CallContext, Caller, current
from binderkit.ipc.driver import peek_driver, set_driver
from binderkit.samgr import host as module
from binderkit.samgr.host import AbilityHost
from binderkit.samgr.hosted import HostedState
from binderkit.samgr.local import ILocalAbilityManager
from binderkit.samgr.profile import AbilityProfile, BootPhase, Profile
from binderkit.samgr.reason import OnDemandReason, ReasonId
from tests.samgr import hosted_abilities as abilities
from tests.samgr.fake_manager import WAIT, FakeManager

WHY = OnDemandReason(ReasonId.COMMON_EVENT, "why", "1", {"a": "b"}, 9)
HERE = Path(__file__)


@pytest.fixture
def manager() -> Iterator[FakeManager]:
    abilities.made.clear()
    abilities.gate.clear()
    yield FakeManager()
    abilities.gate.set()
    abilities.made.clear()


def ability(number: int, kind: str = "Recorded", /, **profile: Any) -> AbilityProfile:
    return AbilityProfile(number, f"tests.samgr.hosted_abilities:{kind}", **profile)


def host_of(manager: FakeManager, *profiles: AbilityProfile, **more: Any) -> AbilityHost:
    return AbilityHost(Profile("tests_host", HERE, profiles), manager=manager, manager_pid=lambda: 4242, **more)


def until(condition: Any) -> None:
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)  # the interval between two looks


def test_the_process_registers_under_its_name(manager: FakeManager) -> None:
    host_of(manager, ability(1)).register()
    assert manager.log == [("process", "tests_host")]


def test_abilities_start_phase_by_phase_and_stop_the_other_way_round(manager: FakeManager) -> None:
    host = host_of(
        manager,
        ability(1, boot_phase=BootPhase.OTHERS_START),
        ability(2, boot_phase=BootPhase.BOOT_START),
        ability(3, boot_phase=BootPhase.CORE_START),
        ability(4, run_on_create=False, boot_phase=BootPhase.BOOT_START),
    )
    host.start_all()
    assert manager.log == [("add", 2), ("add", 3), ("add", 1)]
    assert host.state_of(4) is HostedState.NOT_LOADED
    manager.log.clear()
    assert host.close()
    assert manager.log == [("remove", 1), ("remove", 3), ("remove", 2)]
    host.start_ability(4, WHY)  # too late
    assert host.close() and host.state_of(4) is HostedState.NOT_LOADED


def test_abilities_of_a_phase_may_depend_on_each_other(manager: FakeManager) -> None:
    host = host_of(manager, ability(1, depend=(2,)), ability(2, depend=(3,)), ability(3))
    host.start_all()
    assert [entry for entry in manager.log if entry[0] == "add"] == [("add", 3), ("add", 2), ("add", 1)]
    assert host.close()


def test_a_phase_that_hangs_does_not_hold_the_next_for_ever(
    manager: FakeManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "PHASE_LIMIT", 0.05)
    host = host_of(manager, ability(1, "Hangs", boot_phase=BootPhase.BOOT_START), ability(2))
    host.start_all()
    assert 2 in manager.there and 1 not in manager.there
    assert "1 abilities of phase BOOT_START still start" in caplog.text
    abilities.gate.set()
    assert host.close()


def test_what_is_missing_can_be_started_again(manager: FakeManager) -> None:
    """A new SAMgr expects everything that runs on create, also what the old one had unloaded."""
    host = host_of(manager, ability(1), ability(2), ability(3, run_on_create=False))
    host.start_all()
    host.stop_ability(1, WHY)
    manager.until(lambda: 1 not in manager.there)
    host.start_missing()
    manager.until(lambda: manager.log.count(("add", 1)) == 2)
    assert manager.log.count(("add", 2)) == 1 and ("add", 3) not in manager.log
    assert host.close()
    host.start_missing()
    assert manager.log.count(("add", 1)) == 2


class Client:
    """A new SAMgr that takes the process, or says why not."""

    def __init__(self, refusal: ServiceError | None = None) -> None:
        self.refusal = refusal
        self.processes: list[str] = []

    def add_system_process(self, name: str, local: object) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.processes.append(name)


def test_a_new_samgr_gets_the_process_and_what_it_expects_to_run(manager: FakeManager) -> None:
    host, client = host_of(manager, ability(1)), Client()
    host.register_again(client)  # type: ignore[arg-type]
    assert client.processes == ["tests_host"]
    manager.until(lambda: 1 in manager.there)
    with pytest.raises(ServiceError, match="too many"):
        host.register_again(Client(ServiceError("too many", code=1012)))  # type: ignore[arg-type]
    assert host.close()


def test_a_process_that_was_replaced_ends_and_leaves_its_successor_alone(manager: FakeManager) -> None:
    ended = threading.Event()
    host = host_of(manager, ability(1), end=ended.set)
    host.start_all()
    host.register_again(Client(ServiceError("it is process 7", code=1005)))  # type: ignore[arg-type]
    assert ended.is_set()
    with pytest.raises(ServiceError, match="was told to stop"):
        abilities.made[0].publish(abilities.Thing())
    host.start_ability(1, WHY)
    assert host.close()
    assert abilities.made[0].events[-1][0] == "stop" and len(abilities.made) == 1
    assert manager.log == [("add", 1)] and 1 in manager.there  # by now the successor's


def test_one_that_hangs_does_not_take_the_time_of_the_others(
    manager: FakeManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "STOP_LIMIT", 0.2)
    monkeypatch.setattr(module, "SINGLE_STOP_LIMIT", 0.1)
    host = host_of(manager, ability(1), ability(2, "HangsInStop"), ability(3))
    host.start_all()
    assert not host.close()
    assert "system ability 2 does not stop" in caplog.text
    assert host.state_of(1) is host.state_of(3) is HostedState.NOT_LOADED
    abilities.gate.set()
    until(lambda: host.state_of(2) is HostedState.NOT_LOADED)


def test_everything_goes_through_the_contract(manager: FakeManager) -> None:
    ended = threading.Event()
    host = host_of(manager, ability(5, run_on_create=False, extensions=("backup",)), end=ended.set)
    local = proxy(ILocalAbilityManager, host)
    local.start_ability(5, WHY)
    until(lambda: host.state_of(5) is HostedState.ACTIVE)
    assert abilities.made[0].reason == WHY
    assert local.idle_ability(5, WHY) == 0 and local.active_ability(5, WHY)
    assert local.extension(5, "backup", b"abc") == b"cba"
    local.stop_ability(5, WHY)
    until(lambda: host.state_of(5) is HostedState.NOT_LOADED)
    local.stop_process()
    assert ended.is_set()
    with pytest.raises(RemoteError, match="hosts no system ability 6; its profile has 5"):
        local.idle_ability(6, WHY)


def called_by(pid: int) -> CallContext:
    return CallContext(Caller(pid, 0, 0), None, None, 0, 0, 0, None, None)


@pytest.mark.parametrize("pid", [4242, os.getpid()], ids=["SAMgr", "itself"])
def test_samgr_and_the_process_itself_may_steer(manager: FakeManager, pid: int) -> None:
    host = host_of(manager, ability(5))
    token = current.set(called_by(pid))
    try:
        host.start_ability(5, WHY)
    finally:
        current.reset(token)
    until(lambda: host.state_of(5) is HostedState.ACTIVE)
    assert host.close()


def test_nobody_else_may(manager: FakeManager) -> None:
    ended = threading.Event()
    host = host_of(manager, ability(5), end=ended.set)
    token = current.set(called_by(4243))
    try:
        for call in (host.start_ability, host.stop_ability, host.idle_ability, host.active_ability):
            with pytest.raises(bk.RefusedError, match=r"process 4243 may not start, stop or count .* ask SAMgr"):
                call(5, WHY)
        with pytest.raises(bk.RefusedError):
            host.stop_process()
        with pytest.raises(ServiceError, match="no extension 'x'"):
            host.extension(5, "x", b"")  # whoever has the object may ask for those
    finally:
        current.reset(token)
    assert manager.log == [] and not ended.is_set()


def test_it_tells_its_states(manager: FakeManager) -> None:
    host = host_of(manager, ability(5, name="tests.five"), ability(6, run_on_create=False))
    host.start_all()
    reader, writer = os.pipe()
    with open(reader, encoding="utf-8") as told:
        host.on_dump(writer, [])
        os.close(writer)
        text = told.read()
    assert text == (
        f"process tests_host (pid {os.getpid()})\n"
        "  system ability 5 'tests.five': ACTIVE\n  system ability 6: NOT_LOADED\n"
    )
    assert host.close()


@contextmanager
def from_process(pid: int) -> Iterator[None]:
    token = current.set(called_by(pid))
    try:
        yield
    finally:
        current.reset(token)


def test_who_holds_an_ability_is_counted_over_the_driver(manager: FakeManager) -> None:
    """What comes from SAMgr (4242) is answered; strangers hear nothing; one that nobody may count says why."""
    host = host_of(manager, ability(1), ability(2, run_on_create=False), ability(3, "Borrows"))
    unreferenced = OnDemandReason(ReasonId.UNREFERENCED)
    with LoopbackNetwork() as network:
        here, other = network.process(pid=os.getpid()), network.process()
        abilities.borrowed.append(other.offer(abilities.Thing(), here))
        before = peek_driver()
        set_driver(here)
        try:
            host.start_all()
            assert host.references(1) == 0
            proxies = [here.offer(manager.there[1], process) for process in (other, network.process())]
            with from_process(4242):
                assert host.references(1) == 2
                assert host.idle_ability(1, unreferenced) == -1  # held again meanwhile
                assert host.idle_ability(1, WHY) == 0  # any other reason does not ask that
            del proxies[0]
            assert host.references(1) == 1
            assert host.idle_ability(1, unreferenced) == 0
            with pytest.raises(ServiceError, match="not registered") as caught:
                host.references(2)
            assert caught.value.code == 1008
            with pytest.raises(ServiceError, match="an object of another process"):
                host.references(3)
            with from_process(4243), pytest.raises(RefusedError, match="count the users"):
                host.references(1)
        finally:
            set_driver(before)
            abilities.borrowed.clear()
            assert host.close()
