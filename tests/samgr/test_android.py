"""samgr/android.py: Android's programs and ours find the same abilities, under the same rules."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binderkit as bk
from binderkit import samgr
from binderkit.driver.loopback import LoopbackNetwork, LoopbackProcess
from binderkit.errors import RefusedError, RemoteError
from binderkit.interop import AIDL3, INTERFACE, AndroidParcel, Registry
from binderkit.samgr.ability import checked_key
from binderkit.samgr.android import AndroidNames, key_of
from binderkit.samgr.policy import Policy, Rule
from binderkit.samgr.profile import Profile
from binderkit.samgr.service import SystemAbilityManager
from tests.samgr.fake_device import FakeStarter, ability
from tests.samgr.processes import WAIT, Adder

GET, CHECK, ADD, LIST = 1, 2, 3, 4
SECURITY, ILLEGAL_ARGUMENT = -1, -3


class NotingStarter(FakeStarter):
    """Says when it is asked for the first time."""

    def __init__(self) -> None:
        super().__init__()
        self.asked = threading.Event()

    def start(self, name: str, command: Sequence[str], **options: Any) -> int:
        pid = super().start(name, command, **options)
        self.asked.set()
        return pid


class Device:
    """A SAMgr with an ability that can be started, a trusted process, and two of a user with few rights."""

    def __init__(self) -> None:
        rule = Rule(frozenset({1001}), (), ("tests.*",), frozenset({"add", "get", "list"}))
        self.network = LoopbackNetwork()
        owner = self.network.process()
        self.starter = NotingStarter()
        self.manager = SystemAbilityManager(
            Policy([rule]),
            submit=owner.submit,
            profiles=[Profile("demo", Path("/demo.toml"), (ability(5),))],
            starter=self.starter,
            android=30,
        )
        owner.become_context(self.manager)
        self.trusted = self.network.process()
        self.service = self.network.process(uid=1001)
        self.client = self.network.process(uid=1001)

    def close(self) -> None:
        self.network.close()
        self.manager.close()

    def ours(self, process: LoopbackProcess) -> samgr.SystemAbilityManagerClient:
        return samgr.SystemAbilityManagerClient(process.context_object(start=False))


@pytest.fixture
def device() -> Iterator[Device]:
    made = Device()
    yield made
    made.close()


def ask(process: LoopbackProcess, code: int, *values: str | int | bk.RemoteObject) -> AndroidParcel:
    """Ask as a program of Android 11 does; return the reply behind its exception."""
    data, reply = AndroidParcel(bk.MessageSequence(), AIDL3), AndroidParcel(bk.MessageSequence(), AIDL3)
    data.write_interface_token(INTERFACE)
    for value in values:
        if isinstance(value, str):
            data.write_string16(value)
        elif isinstance(value, int):
            data.sequence.write_int(value)
        else:
            data.write_binder(value)
    process.context_object(start=False).send_request(code, data.sequence, reply.sequence)
    reply.read_exception()
    return reply


def found(process: LoopbackProcess, code: int, name: str) -> bk.IRemoteObject | None:
    return ask(process, code, name).read_binder().remote


def listed(process: LoopbackProcess, priorities: int = 15) -> list[str | None]:
    reply = ask(process, LIST, priorities)
    return [reply.read_string16() for _ in range(reply.sequence.read_int())]


def one_more(adder: bk.IRemoteObject | None, number: int) -> int:
    assert adder is not None
    with bk.MessageSequence() as data, bk.MessageSequence() as reply:
        data.write_int(number)
        adder.send_request(1, data, reply)
        return reply.read_int()


def test_the_names_are_a_registry() -> None:
    registry: Registry = AndroidNames({})
    assert registry.names(0, bk.RemoteObject("unused")) == []  # type: ignore[arg-type]


def test_what_androids_programs_add_ours_find(device: Device) -> None:
    ask(device.service, ADD, "tests.adder", Adder(), 0, 4)
    ours = device.ours(device.trusted)
    assert one_more(ours.get_system_ability("tests.adder"), 2) == 3
    (info,) = ours.list_system_abilities()
    assert (info.name, info.uid, info.pid, info.dump_flags) == ("tests.adder", 1001, device.service.identity.pid, 4)
    assert (info.distributed, info.capability, info.permission) == (False, "", "")


def test_what_ours_add_androids_programs_find_by_name_or_number(device: Device) -> None:
    ours = device.ours(device.trusted)
    ours.add_system_ability(4242, Adder())
    ours.add_system_ability(7, Adder(), name="tests.seven")
    for code in (GET, CHECK):
        assert one_more(found(device.trusted, code, "4242"), 3) == 4
        assert one_more(found(device.client, code, "tests.seven"), 6) == 7
    assert listed(device.trusted) == ["4242", "tests.seven"]
    assert listed(device.trusted, priorities=1) == []


def test_a_number_registers_that_ability(device: Device) -> None:
    ask(device.trusted, ADD, "4242", Adder(), 0, 8)
    assert one_more(device.ours(device.trusted).get_system_ability(4242), 1) == 2


def test_a_service_goes_with_its_process(device: Device) -> None:
    ask(device.service, ADD, "tests.adder", Adder(), 0, 8)
    assert listed(device.client) == ["tests.adder"]
    device.service.kill()
    assert found(device.client, CHECK, "tests.adder") is None
    assert listed(device.client) == []


def test_the_policy_holds_for_androids_programs(device: Device) -> None:
    with pytest.raises(RemoteError, match="uid 1001 may not add") as caught:
        ask(device.service, ADD, "other", Adder(), 0, 8)
    assert caught.value.code == SECURITY
    ask(device.trusted, ADD, "other", Adder(), 0, 8)
    ask(device.trusted, ADD, "tests.adder", Adder(), 0, 8)
    assert found(device.client, GET, "other") is found(device.client, CHECK, "other") is None
    assert listed(device.client) == ["tests.adder"]
    with pytest.raises(RemoteError, match="belongs to another user"):
        ask(device.service, ADD, "tests.adder", Adder(), 0, 8)


def test_getting_an_ability_of_a_profile_starts_it(device: Device) -> None:
    assert found(device.trusted, CHECK, "demo.sa5") is None
    assert device.starter.told == []
    started = device.network.process(pid=5000)
    with ThreadPoolExecutor(1) as pool:
        coming = pool.submit(found, device.trusted, GET, "demo.sa5")
        assert device.starter.asked.wait(WAIT)
        device.ours(started).add_system_ability(5, Adder())
        assert one_more(coming.result(WAIT), 9) == 10
    assert device.starter.told[0] == ("start", "demo")


@pytest.mark.parametrize("name", ["0", "007", "16777216", "1abc", "tests adder", "grün"])
def test_names_samgr_does_not_have(device: Device, name: str) -> None:
    with pytest.raises(RemoteError, match=r"is no name of a system ability|is outside") as caught:
        ask(device.trusted, ADD, name, Adder(), 0, 8)
    assert caught.value.code == ILLEGAL_ARGUMENT
    assert found(device.trusted, GET, name) is found(device.trusted, CHECK, name) is None


def test_more_abilities_than_samgr_tells_at_once(device: Device) -> None:
    ours = device.ours(device.trusted)
    names = [f"tests.a{number:03}" for number in range(310)]
    for name in names:
        ours.add_system_ability(name, Adder())
    assert listed(device.client) == names


def test_without_an_android_its_programs_are_refused() -> None:
    with LoopbackNetwork() as network:
        owner = network.process()
        owner.become_context(SystemAbilityManager(submit=owner.submit))
        with pytest.raises(RefusedError, match="starts with the interface token"):
            ask(network.process(), LIST, 15)


@given(st.integers(1, 0xFFFFFF))
def test_an_id_and_its_decimal(ability_id: int) -> None:
    assert key_of(str(ability_id)) == ability_id


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,126}", fullmatch=True))
def test_a_name_is_never_taken_for_an_id(name: str) -> None:
    assert checked_key(key_of(name)) == name
