"""samgr/operations_process.py: processes, asked as any caller."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import binderkit as bk
from binderkit import samgr
from binderkit.errors import ParamTypeError, ParamValueError, ServiceError, ServiceNotFoundError
from binderkit.samgr import AbilityState, ProcessState, codes, operations_process
from binderkit.samgr.policy import Policy
from binderkit.samgr.profile import OnDemandEvents, Profile, StopEvents
from binderkit.samgr.reason import ReasonId
from tests.samgr.fake_device import DOWN, STRANGER, UP, Changes, Device, Local, Told, ability
from tests.samgr.processes import WAIT, Adder


@pytest.fixture
def device() -> Iterator[Device]:
    start = OnDemandEvents(True, (UP,))
    stop = StopEvents(True, (DOWN,), recycle_delay=0.0)
    made = Device(
        Profile(
            "demo",
            Path("/demo.toml"),
            (ability(5, start_on_demand=start, stop_on_demand=stop, extensions=("backup",)), ability(6)),
        ),
        Profile("shared", Path("/shared.toml"), (ability(7, distributed=True, permission="ohos.permission.X"),)),
    )
    yield made
    made.service.close()


def test_a_process_that_ends_is_told_to_who_waits_and_who_listens(device: Device) -> None:
    told, changes = Told(), Changes()
    device.client.subscribe_system_process(changes)
    device.up()
    device.client.load_system_ability(6, told)
    device.service.process_exited("demo", 4711, 0)
    device.service.process_exited("demo", 5000, -9)
    device.run()
    assert told.heard == [(6, codes.START_FAILED)]
    assert changes.heard == [("started", "demo"), ("stopped", "demo")]
    assert device.state(5) is AbilityState.NOT_LOADED


def test_processes_are_listed_asked_for_and_stopped(device: Device) -> None:
    mine, local, _ = device.up()
    device.pid(777).add_system_process("free", Local())
    device.pid(777).add_system_ability(100, Adder())
    device.pid(778).add_system_ability(101, Adder())
    infos = {info.name: info for info in device.client.list_system_processes()}
    assert (infos["demo"].pid, infos["demo"].abilities, infos["demo"].managed) == (5000, (5, 6), True)
    assert (infos["free"].pid, infos["free"].abilities, infos["shared"].state) == (777, (100,), 0)
    assert device.client.get_system_process_info(100).name == "free"
    unnamed = device.client.get_system_process_info("demo.sa5")
    assert unnamed.name == "demo"
    assert (device.client.get_system_process_info(101).name, device.client.get_system_process_info(101).pid) == (
        "",
        778,
    )
    with pytest.raises(ServiceNotFoundError):
        device.client.get_system_process_info(999)
    with pytest.raises(ServiceError) as caught:
        device.client.unload_processes(["demo", "shared"])
    assert caught.value.code == codes.PROCESS_NOT_FOUND
    device.run()
    assert ("stop", 5, ReasonId.INTERFACE_CALL) in local.calls
    mine.remove_system_ability(5)
    device.run()
    assert device.starter.told[-1] == ("stop", "demo")
    assert device.client.get_idle_processes() == []


def test_the_local_manager_of_a_process_is_had_with_the_permission(device: Device) -> None:
    _, local, _ = device.up()
    assert device.client.get_local_ability_manager(5) is local.as_object()
    for key in (7, 999):
        with pytest.raises(ServiceError) as caught:
            device.client.get_local_ability_manager(key)
        assert caught.value.code == codes.PROCESS_NOT_FOUND


def test_only_the_processes_that_were_launched_and_trusted_ones_make_themselves_known(device: Device) -> None:
    device.client.load_system_ability(5, Told())
    device.run()
    for client in (device.pid(666), device.as_caller(STRANGER)):
        with pytest.raises(ServiceError) as caught:
            client.add_system_process("demo", Local())
        assert caught.value.code == codes.INVALID_CALLING_PROCESS
    with pytest.raises(ServiceError) as caught:
        device.as_caller(STRANGER).add_system_process("mine", Local())
    assert caught.value.code == codes.INVALID_CALLING_PROCESS
    device.pid(888).add_system_process("shared", Local())  # by hand, by SAMgr's own user
    assert device.starter.told[-1] == ("adopt", "shared")
    with pytest.raises(ParamValueError):
        device.pid(888).add_system_process("no good name", Local())
    with pytest.raises(ParamTypeError):
        device.pid(888).add_system_process("x", object())  # type: ignore[arg-type]


def test_a_process_of_a_former_samgr_is_not_started_a_second_time(device: Device) -> None:
    device.service.expect_process("demo", 4000)
    told = Told()
    device.client.load_system_ability(5, told)
    device.run()
    assert device.starter.told == []
    device.pid(4000).add_system_process("demo", Local())
    device.pid(4000).add_system_ability(5, Adder())
    device.run()
    assert told.heard[0][0] == 5


def test_strangers_do_none_of_it(tmp_path: Path) -> None:
    path = tmp_path / "policy.toml"
    path.write_text('[[allow]]\nuid = 1001\nids = "*"\nactions = ["get", "list"]\n')
    device = Device(Profile("p", Path("/p"), (ability(5, name=""),)), policy=Policy.load(path))
    stranger = device.as_caller(STRANGER)
    try:
        calls: list[Callable[[], object]] = [
            stranger.list_system_processes,
            stranger.list_ability_states,
            stranger.get_idle_processes,
            stranger.unload_all_idle_system_abilities,
            lambda: stranger.get_system_process_info(5),
            lambda: stranger.subscribe_system_process(samgr.SystemProcessListener()),
            lambda: stranger.get_local_ability_manager(5),
            lambda: stranger.unload_processes(["p"]),
            lambda: stranger.get_extension_ability_ids("x"),
            lambda: stranger.get_on_demand_reason_extra_data(1),
        ]
        for call in calls:
            with pytest.raises(bk.RefusedError):
                call()
        stranger.load_system_ability(5, Told())  # what one may get, one may load
        with pytest.raises(bk.RefusedError):
            stranger.load_system_ability("p.secret", Told())
        device.run()
    finally:
        device.service.close()


def test_a_process_of_a_former_samgr_that_is_gone_blocks_nobody() -> None:
    device = Device(Profile("p", Path("/p"), (ability(5),)), start_timeout=0.05)
    child = os.posix_spawn("/bin/true", ["true"], {})
    os.waitpid(child, 0)
    try:
        device.service.expect_process("p", child)
        deadline = time.monotonic() + WAIT
        while device.client.get_system_process_info(5).state is not ProcessState.NOT_STARTED:
            device.run()
            assert time.monotonic() < deadline
        assert ("kill", "p") in device.starter.told
        device.client.load_system_ability(5, Told())
        device.run()
        assert device.starter.told[-1] == ("start", "p")
    finally:
        device.service.close()


UNIT = "binderkit-sa-shared.service"


@pytest.mark.parametrize(("unit", "given"), [(UNIT, True), ("binderkit-sa-demo.service", False), ("", False)])
def test_a_process_of_the_profiles_unit_gets_its_token(monkeypatch: pytest.MonkeyPatch, unit: str, given: bool) -> None:
    """And none of another unit, or started by hand: its name is only what it says."""
    monkeypatch.setattr(operations_process, "unit_of", {7777: unit}.__getitem__)
    shared = Profile("shared", Path("/shared.toml"), (ability(7),), permissions=("ohos.permission.X",))
    device = Device(shared)
    try:
        device.pid(7777).add_system_process("shared", Local())
        assert device.starter.told == [("adopt", "shared")]
        expected = {"shared": (7777, os.getuid(), ("ohos.permission.X",))} if given else {}
        assert device.starter.tokens == expected
        with pytest.raises(ServiceError, match="is process 7777"):
            device.pid(7778).add_system_process("shared", Local())
        assert device.starter.tokens == expected
        device.pid(7779).add_system_process("plain", Local())  # without profile there is nothing to give
        assert device.starter.tokens == expected
    finally:
        device.service.close()
