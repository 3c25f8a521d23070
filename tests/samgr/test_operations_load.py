"""samgr/operations_load.py: loading, unloading and policies, asked as any caller."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import binderkit as bk
from binderkit import limits
from binderkit.errors import ParamTypeError, ParamValueError, RefusedError, ServiceError, ServiceNotFoundError
from binderkit.samgr import AbilityState, codes
from binderkit.samgr.conditions import EventRule, OnDemandEvent
from binderkit.samgr.lifecycle_events import PolicyKind
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


def test_a_load_with_callback_is_told_once_the_ability_is_there(device: Device) -> None:
    told, changes = Told(), Changes()
    device.client.subscribe_system_process(changes)
    device.client.load_system_ability("demo.sa5", told)
    device.client.load_system_ability(5, told)
    assert told.heard == [] and device.state(5) is AbilityState.LOADING
    mine, local, stub = device.up()
    assert told.heard == [(5, stub)]
    assert local.calls == [("start", 5, ReasonId.INTERFACE_CALL)]
    assert device.starter.told == [("start", "demo")]
    assert changes.heard == [("started", "demo")]
    assert device.client.get_system_ability("demo.sa5") is stub
    (status,) = [one for one in device.client.list_ability_states() if one.id == 5]
    assert (status.name, status.process, status.pid, status.on_demand) == ("demo.sa5", "demo", 5000, True)
    device.client.unsubscribe_system_process(changes)
    with pytest.raises(ServiceError, match="not subscribed"):
        device.client.unsubscribe_system_process(changes)
    assert mine.get_on_demand_ability_ids() == [5, 6]
    assert device.client.get_on_demand_ability_ids() == []


def test_a_start_that_fails_is_told_with_its_code(device: Device) -> None:
    told = Told()
    device.starter.refuses = "no memory"
    device.client.load_system_ability(5, told)
    device.run()
    assert told.heard == [(5, codes.START_FAILED)]
    device.starter.refuses = ""
    device.client.load_system_ability(5, told)
    device.run()
    device.pid(5000).add_system_process("demo", Local())
    with pytest.raises(ServiceError, match=r"does not host|may not register"):
        device.pid(666).report_start_failure(5, "evil")
    device.pid(5000).report_start_failure(5, "x" * 5000)
    device.run()
    assert told.heard[1:] == [(5, codes.START_FAILED)]
    assert ("stop", "demo") in device.starter.told


def test_only_its_own_process_unloads_an_ability_which_then_ends(device: Device) -> None:
    mine, local, _ = device.up()
    for call in (device.client.unload_system_ability, device.client.cancel_unload_system_ability):
        with pytest.raises(ServiceError) as caught:
            call(5)
        assert caught.value.code == codes.INVALID_CALLING_PROCESS
    mine.unload_system_ability(5)
    deadline = time.monotonic() + WAIT
    while ("stop", 5, ReasonId.SA_REQUEST) not in local.calls:
        device.run()
        assert time.monotonic() < deadline
    assert ("idle", 5, ReasonId.SA_REQUEST) in local.calls
    assert device.state(5) is AbilityState.UNLOADING
    mine.remove_system_ability(5)
    device.run()
    assert device.starter.told[-1] == ("stop", "demo")


def test_one_that_is_not_idle_stays(device: Device) -> None:
    mine, local, _ = device.up(idle=-1)
    mine.unload_system_ability(5)
    deadline = time.monotonic() + WAIT
    while ("idle", 5, ReasonId.SA_REQUEST) not in local.calls:
        device.run()
        assert time.monotonic() < deadline
    device.run()
    assert device.state(5) is AbilityState.LOADED
    mine.cancel_unload_system_ability(5)


def test_abilities_without_profile_have_no_states_to_change(device: Device) -> None:
    mine = device.pid(777)
    mine.add_system_ability(100, Adder())
    for call in (mine.unload_system_ability, mine.cancel_unload_system_ability):
        with pytest.raises(ServiceError) as caught:
            call(100)
        assert caught.value.code == codes.NOT_ON_DEMAND
    told = Told()
    device.client.load_system_ability(100, told)
    device.run()
    assert told.heard[0][0] == 100
    assert device.client.load_system_ability(100) is device.client.get_system_ability(100)
    with pytest.raises(ServiceError, match="no profile has it") as caught:
        device.client.load_system_ability(101)
    assert caught.value.code == codes.PROFILE_MISSING
    with pytest.raises(ServiceNotFoundError):
        device.client.get_system_ability(101)


def test_a_process_reads_and_changes_the_events_of_its_abilities(device: Device) -> None:
    mine, _, _ = device.up()
    assert mine.get_on_demand_policy(5, PolicyKind.START) == (UP,)
    changed: list[list[EventRule]] = []
    device.service.watch_rules(changed.append)
    mine.update_on_demand_policy("demo.sa5", PolicyKind.STOP, [UP, DOWN])
    assert changed == [[UP, UP, DOWN]]
    assert mine.get_on_demand_policy(5, PolicyKind.STOP) == (UP, DOWN)
    for client, key, code in ((device.client, 5, codes.INVALID_CALLING_PROCESS), (mine, 6, codes.NOT_ON_DEMAND)):
        with pytest.raises(ServiceError) as caught:
            client.get_on_demand_policy(key, PolicyKind.START)
        assert caught.value.code == code
    with pytest.raises(ServiceError, match="no number"):
        mine.update_on_demand_policy(5, PolicyKind.START, [EventRule(ReasonId.PARAM, "a.b", ">x")])
    with pytest.raises(ServiceError, match="no kind of policy"):
        mine.get_on_demand_policy(5, 3)  # type: ignore[arg-type]


def test_the_payload_of_a_common_event_can_be_asked_for() -> None:
    rule = EventRule(ReasonId.COMMON_EVENT, "usual.event.X")
    device = Device(Profile("p", Path("/p"), (ability(5, start_on_demand=OnDemandEvents(False, (rule,))),)))
    try:
        device.service.on_event(OnDemandEvent(ReasonId.COMMON_EVENT, "usual.event.X", "7", {"k": "v"}, "data"))
        payload = device.client.get_on_demand_reason_extra_data(1)
        assert (payload.code, payload.data, payload.parameters) == ("7", "data", {"k": "v"})
        with pytest.raises(ServiceError, match="no extra data 2"):
            device.client.get_on_demand_reason_extra_data(2)
    finally:
        device.service.close()


def test_extensions_are_listed(device: Device) -> None:
    assert device.client.get_extension_ability_ids("backup") == [5]
    assert device.client.get_extension_ability_ids("backup", running=True) == []
    device.up()
    assert device.client.get_extension_ability_ids("backup", running=True) == [5]
    assert device.client.get_extension_ability_ids("restore") == []


def test_memory_that_is_short_ends_idle_processes_only(device: Device) -> None:
    device.up()
    device.client.unload_all_idle_system_abilities()
    device.run()
    assert device.state(5) is AbilityState.LOADED


def test_a_wait_of_a_load_is_checked(device: Device) -> None:
    client = device.client
    for timeout, error in ((0, ParamValueError), (13, ParamValueError), ("1", ParamTypeError)):
        with pytest.raises(error):
            client.load_system_ability(5, timeout=timeout)  # type: ignore[arg-type]
    with pytest.raises(ParamTypeError):
        client.load_system_ability(5, Adder())  # type: ignore[call-overload]
    for seconds in (-1.0, float("nan"), 1e9):
        data, reply = bk.MessageSequence(), bk.MessageSequence()
        data.write_interface_token(codes.DESCRIPTOR)
        data.write_int(5)
        data.write_double(seconds)
        data.write_boolean(False)
        device.service.send_request(codes.LOAD_SYSTEM_ABILITY, data, reply)
        assert reply.read_int() == codes.INVALID_INPUT


def test_callbacks_of_a_process_are_limited(device: Device) -> None:
    for _ in range(limits.MAX_CALLBACKS_PER_PID):
        device.client.load_system_ability(5, Told())
    with pytest.raises(ServiceError) as caught:
        device.client.load_system_ability(5, Told())
    assert caught.value.code == codes.CALLBACK_LIMIT


def test_running_abilities_with_an_extension_come_with_their_local_managers(device: Device) -> None:
    assert device.client.get_running_extension_infos("backup") == []
    _, local, _ = device.up()
    assert device.client.get_running_extension_infos("backup") == [(5, local.as_object())]
    assert device.client.get_running_extension_infos("restore") == []
    stranger = device.as_caller(STRANGER)
    for refused in (stranger.get_running_extension_infos, stranger.get_extension_ability_ids):
        with pytest.raises(RefusedError, match="ACCESS_EXT_SYSTEM_ABILITY"):
            refused("backup")


def test_the_payloads_of_an_ability_are_listed_for_its_own_process_only() -> None:
    rule = EventRule(ReasonId.COMMON_EVENT, "usual.event.X")
    device = Device(Profile("p", Path("/p"), (ability(5, start_on_demand=OnDemandEvents(False, (rule,))),)))
    try:
        for _ in range(2):
            device.service.on_event(OnDemandEvent(ReasonId.COMMON_EVENT, "usual.event.X", "7"))
        mine, _, _ = device.up()
        assert mine.get_common_event_extra_data_ids(5) == [1, 2]
        assert mine.get_common_event_extra_data_ids("demo.sa5", "usual.event.X") == [1, 2]
        assert mine.get_common_event_extra_data_ids(5, "usual.event.Y") == []
        with pytest.raises(ServiceError) as caught:
            device.client.get_common_event_extra_data_ids(5)
        assert caught.value.code == codes.INVALID_CALLING_PROCESS
    finally:
        device.service.close()


def test_a_program_offers_an_ability_and_starts_it_when_it_is_asked_for(device: Device) -> None:
    tool, local, told = device.pid(7777), Local(), Told()
    with pytest.raises(ServiceError, match="add_system_process first") as caught:
        tool.add_on_demand_system_ability_info(50)
    assert caught.value.code == codes.PROCESS_NOT_FOUND
    tool.add_system_process("tool", local)
    assert device.client.check_on_demand_system_ability_info(50) is None
    tool.add_on_demand_system_ability_info(50)
    assert device.client.check_on_demand_system_ability_info(50) == "tool"
    assert device.client.check_on_demand_system_ability_info("demo.sa5") == "demo"
    assert tool.get_on_demand_ability_ids() == [50]
    device.client.load_system_ability(50, told)
    device.run()
    assert local.calls == [("start", 50, ReasonId.INTERFACE_CALL)] and told.heard == []
    stub = Adder()
    tool.add_system_ability(50, stub, distributed=True)  # only a profile says what it must be
    device.run()
    assert told.heard == [(50, stub)] and device.client.get_system_ability(50) is stub


def test_what_may_not_be_offered(device: Device) -> None:
    tool, other = device.pid(7777), device.pid(8888)
    tool.add_system_process("tool", Local())
    other.add_system_ability(60, Adder())
    for id, code in ((5, codes.INVALID_CALLING_PROCESS), (60, codes.INVALID_CALLING_PROCESS)):
        with pytest.raises(ServiceError) as caught:
            tool.add_on_demand_system_ability_info(id)
        assert caught.value.code == code
    with pytest.raises(ParamTypeError, match="an id"):
        tool.add_on_demand_system_ability_info("demo.new")  # type: ignore[arg-type]
    with pytest.raises(ParamValueError):
        tool.add_on_demand_system_ability_info(0)
    stranger = device.as_caller(STRANGER)
    with pytest.raises(RefusedError, match="may not add system ability 70"):
        stranger.add_on_demand_system_ability_info(70)
    with pytest.raises(RefusedError, match="may not get"):
        stranger.check_on_demand_system_ability_info(5)
    tool.add_system_ability(61, Adder())
    tool.add_on_demand_system_ability_info(61)  # registered already: it is loaded
    assert device.state(61) is AbilityState.LOADED
