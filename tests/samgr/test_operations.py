"""samgr/operations.py: what all transactions of SAMgr share, asked as any caller."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binderkit as bk
from binderkit.errors import IpcError, ServiceError, ServiceNotFoundError
from binderkit.ipc.context import Caller
from binderkit.samgr import codes
from binderkit.samgr.conditions import OnDemandEvent
from binderkit.samgr.profile import OnDemandEvents, Profile, StopEvents
from binderkit.samgr.reason import ReasonId
from tests.samgr.fake_device import DOWN, UP, Device, Local, Told, ability
from tests.samgr.processes import WAIT, Adder

NEW_CODES = sorted({7, 8, 9, 17, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 32, 33, 34, 37, 38, 39, 43})


class Mortal(bk.RemoteObject):
    """An object whose process can be said to be gone."""

    dead = False

    def is_object_dead(self) -> bool:
        return self.dead


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


def test_events_start_and_stop_abilities(device: Device) -> None:
    device.service.on_event(OnDemandEvent(ReasonId.PARAM, "demo.up", "2"))
    device.run()
    assert device.starter.told == []
    device.service.on_event(OnDemandEvent(ReasonId.PARAM, "demo.up", "1"))
    device.run()
    assert device.starter.told == [("start", "demo")]
    local = Local()
    device.pid(5000).add_system_process("demo", local)
    device.run()
    assert local.calls == [("start", 5, ReasonId.PARAM)]
    device.pid(5000).add_system_ability(5, Adder())
    device.service.on_event(OnDemandEvent(ReasonId.PARAM, "demo.up", "0"))
    deadline = time.monotonic() + WAIT
    while ("stop", 5, ReasonId.PARAM) not in local.calls:
        device.run()
        assert time.monotonic() < deadline
    assert {rule.name for rule in device.service.event_rules()} == {"demo.up"}


def test_what_a_profile_says_of_an_ability_holds(device: Device) -> None:
    device.client.load_system_ability(5, Told())
    device.run()
    mine = device.pid(5000)
    mine.add_system_process("demo", Local())
    with pytest.raises(ServiceError, match="both must say the same"):
        mine.add_system_ability(5, Adder(), distributed=True)
    with pytest.raises(ServiceError, match=r"belongs to system ability 6 'demo\.sa6' of a profile"):
        mine.add_system_ability(5, Adder(), name="demo.sa6")
    with pytest.raises(ServiceError, match="its profile gives it to"):
        device.pid(666).add_system_ability("demo.sa5", Adder())
    assert mine.add_system_ability("demo.sa5", Adder()) == 5


def test_boot_starts_what_runs_on_create() -> None:
    device = Device(
        Profile("a", Path("/a"), (ability(1, run_on_create=True),)), Profile("b", Path("/b"), (ability(2),))
    )
    try:
        device.service.boot()
        device.run()
        assert device.starter.told == [("start", "a")]
    finally:
        device.service.close()


@pytest.mark.parametrize("granted", [False, True])
def test_an_ability_with_a_permission_is_for_those_who_have_it(granted: bool) -> None:
    asked: list[tuple[int, str]] = []

    def permitted(caller: Caller, permission: str) -> bool:
        asked.append((caller.pid, permission))
        return granted

    profile = Profile("p", Path("/p"), (ability(5, permission="ohos.permission.X"),))
    device = Device(profile, permitted=permitted)
    try:
        calls: list[Callable[[], object]] = [
            lambda: device.client.load_system_ability(5, Told()),
            lambda: device.client.check_system_ability(5),
            lambda: device.client.check_system_ability("demo.sa5"),
        ]
        for call in calls:
            if granted:
                call()
                continue
            with pytest.raises(bk.RefusedError, match=r"ohos\.permission\.X.*permissions\.toml"):
                call()
        assert asked == [(os.getpid(), "ohos.permission.X")] * 3
    finally:
        device.service.close()


def test_parts_add_transactions_and_none_twice() -> None:
    class Hello:
        operations: Mapping[int, Any] = {200: lambda data, reply, caller: reply.write_int(caller.pid)}

    device = Device(parts=[Hello()])
    data, reply = bk.MessageSequence(), bk.MessageSequence()
    data.write_interface_token(codes.DESCRIPTOR)
    device.service.send_request(200, data, reply)
    assert reply.read_int() == os.getpid()
    with pytest.raises(ValueError, match=r"\[200\]"):
        device.service.add_part(Hello())


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(NEW_CODES), st.binary(max_size=120))
def test_any_bytes_are_answered_or_refused_with_our_error(code: int, tail: bytes) -> None:
    device = Device(Profile("p", Path("/p"), (ability(5),)))
    head = bk.MessageSequence()
    head.write_interface_token(codes.DESCRIPTOR)
    data = bk.MessageSequence.from_bytes(bytes(head) + tail)
    try:
        device.service.on_remote_message_request(code, data, bk.MessageSequence(), bk.MessageOption())
    except IpcError:
        pass
    finally:
        device.service.close()
    assert device.client.check_system_ability("still-works") is None


def test_one_that_is_dead_before_its_notice_came_is_given_to_nobody(device: Device) -> None:
    buried: list[int] = []
    mortal = Mortal("tests.Mortal")
    device.client.add_system_ability(100, mortal)
    device.service._core.bury = lambda entry: buried.append(entry.info.id)
    assert device.client.check_system_ability(100) is mortal
    mortal.dead = True
    assert device.client.check_system_ability(100) is None
    with pytest.raises(ServiceNotFoundError):
        device.client.get_system_ability(100)
    assert buried == [100, 100]
