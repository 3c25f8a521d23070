"""samgr/service.py: SAMgr's answers, asked directly in this process, as any caller we like."""

from __future__ import annotations

import asyncio
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binderkit as bk
from binderkit import limits
from binderkit.errors import IpcError, ServiceError, ServiceNotFoundError, UnknownTransactionError
from binderkit.ipc import loop
from binderkit.ipc.context import CallContext, Caller, current
from binderkit.samgr import SystemAbilityListener, SystemAbilityManagerClient, codes
from binderkit.samgr.conditions import EventRule, OnDemandEvent
from binderkit.samgr.lifecycle_catalog import ProfileChanges
from binderkit.samgr.policy import Policy
from binderkit.samgr.profile import AbilityProfile, OnDemandEvents, Profile
from binderkit.samgr.reason import ReasonId
from binderkit.samgr.service import SystemAbilityManager
from tests.samgr import fake_device
from tests.samgr.processes import WAIT

ALICE = 1001


class Device:
    """A SAMgr of this process whose listeners are told when the test says so."""

    def __init__(self, policy: Policy | None = None) -> None:
        self.tasks: deque[Callable[[], None]] = deque()
        self.service = SystemAbilityManager(policy, submit=self.tasks.append)
        self.client = SystemAbilityManagerClient(self.service)

    def tell(self) -> None:
        while self.tasks:
            self.tasks.popleft()()

    def call_as(self, caller: Caller, code: int, data: bk.MessageSequence) -> bk.MessageSequence:
        """Ask as a remote process would, with its identity; return the reply."""
        reply = bk.MessageSequence()
        context = CallContext(caller, None, None, threading.get_ident(), 1, 1, None, None)
        token = current.set(context)
        try:
            assert self.service.on_remote_message_request(code, data, reply, bk.MessageOption()) is True
        finally:
            current.reset(token)
        return reply


class Recorder(SystemAbilityListener):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, int]] = []

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        self.events.append(("added", ability_id))

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        self.events.append(("removed", ability_id))


@pytest.fixture
def device() -> Device:
    return Device()


def request(*values: int | str) -> bk.MessageSequence:
    data = bk.MessageSequence()
    data.write_interface_token(codes.DESCRIPTOR)
    for value in values:
        if isinstance(value, int):
            data.write_int(value)
        else:
            data.write_string(value)
    return data


def test_what_is_added_is_got_checked_listed_and_removed(device: Device) -> None:
    stub = bk.RemoteObject("tests.Stub")
    assert device.client.add_system_ability(5, stub, name="five", distributed=True, capability="c", permission="p") == 5
    assert device.client.get_system_ability(5) is stub
    assert device.client.get_system_ability("five") is stub
    assert device.client.check_system_ability("five") is stub
    (info,) = device.client.list_system_abilities()
    assert (info.id, info.name, info.pid, info.uid) == (5, "five", os.getpid(), os.getuid())
    assert (info.distributed, info.dump_flags, info.capability, info.permission) == (True, 8, "c", "p")
    device.client.remove_system_ability("five")
    assert device.client.check_system_ability(5) is None
    assert device.client.list_system_abilities() == []


def test_what_is_not_there_is_an_error_with_code_1008(device: Device) -> None:
    with pytest.raises(ServiceNotFoundError, match="no system ability 'x' is registered") as caught:
        device.client.get_system_ability("x")
    assert caught.value.code == codes.ABILITY_NOT_FOUND
    with pytest.raises(ServiceNotFoundError):
        device.client.remove_system_ability(5)


def test_a_request_without_the_interface_token_is_refused(device: Device) -> None:
    wrong = bk.MessageSequence()
    wrong.write_interface_token("com.example.other")
    for data in (wrong, bk.MessageSequence()):
        with pytest.raises(bk.RefusedError, match="interface token"):
            device.service.send_request(codes.GET_SYSTEM_ABILITY, data, bk.MessageSequence())


def test_an_unknown_code_is_answered_as_such(device: Device) -> None:
    with pytest.raises(UnknownTransactionError):
        device.service.send_request(4711, request(1), bk.MessageSequence())


@pytest.mark.parametrize(
    ("code", "data", "result"),
    [
        (codes.GET_SYSTEM_ABILITY, request(0x1000000), codes.INVALID_ABILITY_ID),
        (codes.GET_SYSTEM_ABILITY, request(0, "1x"), codes.INVALID_INPUT),
        (codes.ADD_SYSTEM_ABILITY, request(0, "", 0, 8, "", ""), codes.INVALID_ABILITY_ID),
        (codes.ADD_SYSTEM_ABILITY, request(-5, "x", 0, 8, "", ""), codes.INVALID_ABILITY_ID),
        (codes.ADD_SYSTEM_ABILITY, request(5, "x", 0, 0, "", ""), codes.INVALID_INPUT),
        (codes.ADD_SYSTEM_ABILITY, request(5, "x", 0, 8, "a" * 129, ""), codes.INVALID_INPUT),
        (codes.ADD_SYSTEM_ABILITY, request(5, "x", 0, 8, "", ""), codes.ABILITY_OBJECT_NULL),
        (codes.SUBSCRIBE_SYSTEM_ABILITY, request(5), codes.LISTENER_NULL),
        (codes.UNSUBSCRIBE_SYSTEM_ABILITY, request(5), codes.LISTENER_NULL),
        (codes.LIST_SYSTEM_ABILITIES, request(0, 16), codes.INVALID_INPUT),
    ],
)
def test_wrong_arguments_are_answered_with_a_code_and_a_text(
    device: Device, code: int, data: bk.MessageSequence, result: int
) -> None:
    reply = bk.MessageSequence()
    device.service.send_request(code, data, reply)
    assert reply.read_int() == result
    assert len(reply.read_string()) > 20
    assert device.client.list_system_abilities() == []


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([1, 2, 3, 4, 5, 6, 18]),
    st.booleans(),
    st.binary(max_size=120),
)
def test_any_bytes_are_answered_or_refused_with_our_error(code: int, token: bool, tail: bytes) -> None:
    device = Device()
    head = bytes(request()) if token else b""
    try:
        device.service.send_request(code, bk.MessageSequence.from_bytes(head + tail), bk.MessageSequence())
    except IpcError:
        pass
    device.client.check_system_ability("still-works")


def test_adding_again_replaces_and_listeners_hear_removed_then_added(device: Device) -> None:
    listener, first, second = Recorder(), bk.RemoteObject("tests.A"), bk.RemoteObject("tests.B")
    device.client.subscribe_system_ability(5, listener)
    device.client.add_system_ability(5, first)
    device.client.add_system_ability(5, second)
    assert device.client.get_system_ability(5) is second
    assert listener.events == []  # never told on the thread of the request
    device.tell()
    assert listener.events == [("added", 5), ("removed", 5), ("added", 5)]


def test_a_late_listener_hears_of_what_is_there_and_an_unsubscribed_one_nothing(device: Device) -> None:
    listener = Recorder()
    device.client.add_system_ability(5, bk.RemoteObject("tests.A"), name="five")
    device.client.subscribe_system_ability("five", listener)
    device.client.subscribe_system_ability("five", listener)
    device.tell()
    assert listener.events == [("added", 5)]
    device.client.unsubscribe_system_ability("five", listener)
    device.client.remove_system_ability(5)
    device.tell()
    assert listener.events == [("added", 5)]
    with pytest.raises(ServiceError, match="not subscribed"):
        device.client.unsubscribe_system_ability("five", listener)


def test_a_new_name_is_a_removal_for_listeners_of_the_old_one(device: Device) -> None:
    old, new = Recorder(), Recorder()
    device.client.subscribe_system_ability("old", old)
    device.client.subscribe_system_ability("new", new)
    device.client.add_system_ability(5, bk.RemoteObject("tests.A"), name="old")
    device.client.add_system_ability(5, bk.RemoteObject("tests.A"), name="new")
    device.tell()
    assert (old.events, new.events) == ([("added", 5), ("removed", 5)], [("added", 5)])


def test_a_listener_that_fails_hears_no_more_and_the_others_do(device: Device) -> None:
    class Failing(Recorder):
        def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
            super().on_add_system_ability(ability_id, device_id)
            raise OSError("full")

    failing, healthy = Failing(), Recorder()
    for listener in (failing, healthy):
        device.client.subscribe_system_ability(5, listener)
    device.client.add_system_ability(5, bk.RemoteObject("tests.A"))
    device.client.remove_system_ability(5)
    device.tell()
    assert failing.events == [("added", 5)]
    assert healthy.events == [("added", 5), ("removed", 5)]


def test_the_257th_subscription_of_a_process_is_refused(device: Device) -> None:
    listener = Recorder()
    for ability in range(1, limits.MAX_SUBSCRIPTIONS_PER_PID + 1):
        device.client.subscribe_system_ability(ability, listener)
    with pytest.raises(ServiceError) as caught:
        device.client.subscribe_system_ability(1000, listener)
    assert caught.value.code == codes.SUBSCRIBE_LIMIT


def test_a_full_registry_is_listed_in_pages(device: Device) -> None:
    stub = bk.RemoteObject("tests.Many")
    for ability in range(1, limits.MAX_ABILITIES + 1):
        device.client.add_system_ability(ability, stub, capability="x" * 128, permission="y" * 128)
    assert [info.id for info in device.client.list_system_abilities()] == list(range(1, limits.MAX_ABILITIES + 1))
    with pytest.raises(ServiceError) as caught:
        device.client.add_system_ability("late", stub)
    assert caught.value.code == codes.ABILITY_LIMIT


def test_listings_show_the_wanted_priorities(device: Device) -> None:
    device.client.add_system_ability(1, bk.RemoteObject("tests.A"), dump_flags=codes.DUMP_FLAG_PRIORITY_CRITICAL)
    device.client.add_system_ability(2, bk.RemoteObject("tests.A"))
    assert [info.id for info in device.client.list_system_abilities(codes.DUMP_FLAG_PRIORITY_CRITICAL)] == [1]


def test_events_come_in_order_when_many_threads_add_and_remove() -> None:
    with ThreadPoolExecutor(4) as tellers:

        def submit(task: Callable[[], None]) -> None:
            tellers.submit(task)

        service = SystemAbilityManager(submit=submit)
        client, listener = SystemAbilityManagerClient(service), Recorder()
        client.subscribe_system_ability(5, listener)
        gate = threading.Barrier(4)

        def change() -> None:
            gate.wait(WAIT)
            for _ in range(100):
                client.add_system_ability(5, bk.RemoteObject("tests.A"))
                try:
                    client.remove_system_ability(5)
                except ServiceNotFoundError:
                    continue  # another thread was faster

        threads = [threading.Thread(target=change) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
    kinds = [kind for kind, _ in listener.events]
    assert kinds == ["added", "removed"] * 400
    assert client.list_system_abilities() == []


# --- waiting ------------------------------------------------------------------------------------------


def waiting(device: Device, key: int | str, seconds: float) -> Awaitable[bool]:
    """Send WAIT; return the handler's coroutine, which holds no thread."""
    data = request(0, key) if isinstance(key, str) else request(key)
    data.write_double(seconds)
    reply = bk.MessageSequence()
    result = device.service.on_remote_message_request(codes.WAIT_SYSTEM_ABILITY, data, reply, bk.MessageOption())
    assert not isinstance(result, bool)

    async def outcome() -> bool:
        assert await result
        if reply.read_int() != codes.OK:
            return False
        return isinstance(reply.read_remote_object(), bk.RemoteObject)

    return outcome()


def test_waiters_by_id_and_name_go_on_when_the_ability_comes(device: Device) -> None:
    async def scene() -> list[bool]:
        tasks = [asyncio.ensure_future(waiting(device, key, 0)) for key in (5, "five", 5)]
        await asyncio.sleep(0)  # one turn of the loop: every task runs up to its wait
        assert len(device.service._waiters) == 3
        await asyncio.to_thread(device.client.add_system_ability, 5, bk.RemoteObject("tests.A"), name="five")
        return await asyncio.gather(*tasks)

    assert asyncio.run(scene()) == [True, True, True]
    assert len(device.service._waiters) == 0
    assert device.service._waiters.counts() == {}


def test_a_wait_for_what_is_there_ends_at_once(device: Device) -> None:
    device.client.add_system_ability(5, bk.RemoteObject("tests.A"))
    assert asyncio.run(asyncio.wait_for(waiting(device, 5, 0), WAIT))


def test_a_wait_in_vain_ends_with_code_999_and_leaves_nothing(device: Device) -> None:
    try:
        with pytest.raises(bk.CallTimeoutError, match=r"no system ability 5 was registered within 0\.01 s") as caught:
            device.client.wait_for_system_ability(5, 0.01)
    finally:
        loop.stop()
    assert caught.value.code == codes.LOAD_SA_TIMEOUT
    assert len(device.service._waiters) == 0
    assert device.service._waiters.counts() == {}


def test_a_cancelled_wait_leaves_nothing(device: Device) -> None:
    async def scene() -> None:
        task = asyncio.ensure_future(waiting(device, "never", 0))
        await asyncio.sleep(0)
        assert len(device.service._waiters) == 1
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(scene())
    assert len(device.service._waiters) == 0
    assert device.service._waiters.counts() == {}


def test_waits_are_limited_per_process(device: Device) -> None:
    async def scene() -> None:
        tasks = [asyncio.ensure_future(waiting(device, 5, 0)) for _ in range(limits.MAX_SUBSCRIPTIONS_PER_PID)]
        await asyncio.sleep(0)
        assert not await waiting(device, 5, 0)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(scene())
    assert len(device.service._waiters) == 0


@pytest.mark.parametrize("seconds", [-1.0, float("nan"), float("inf"), 3001.0])
def test_a_wait_of_no_time_that_is_one_is_refused(device: Device, seconds: float) -> None:
    data, reply = request(5), bk.MessageSequence()
    data.write_double(seconds)
    device.service.send_request(codes.WAIT_SYSTEM_ABILITY, data, reply)
    assert reply.read_int() == codes.INVALID_INPUT


# --- policy --------------------------------------------------------------------------------------------


@pytest.fixture
def guarded(tmp_path: Path) -> Device:
    path = tmp_path / "policy.toml"
    path.write_text('[[allow]]\nuid = 1001\nids = "100-199"\nactions = ["add", "get", "list"]\n')
    return Device(Policy.load(path))


def add_request(ability: int) -> bk.MessageSequence:
    data = request(ability, "", 0, 8, "", "")
    data.write_remote_object(bk.RemoteObject("tests.Alice"))
    return data


def test_a_stranger_does_what_the_policy_allows_and_nothing_else(guarded: Device) -> None:
    alice = Caller(4242, ALICE, ALICE)
    guarded.client.add_system_ability(5, bk.RemoteObject("tests.Secret"))
    assert guarded.call_as(alice, codes.ADD_SYSTEM_ABILITY, add_request(100)).read_int() == codes.OK
    assert guarded.call_as(alice, codes.GET_SYSTEM_ABILITY, request(100)).read_int() == codes.OK
    for code, data in (
        (codes.ADD_SYSTEM_ABILITY, add_request(5)),
        (codes.GET_SYSTEM_ABILITY, request(5)),
        (codes.CHECK_SYSTEM_ABILITY, request(5)),
        (codes.REMOVE_SYSTEM_ABILITY, request(5)),
    ):
        with pytest.raises(bk.RefusedError):
            guarded.call_as(alice, code, data)
    reply = guarded.call_as(alice, codes.LIST_SYSTEM_ABILITIES, request(0, 15))
    assert (reply.read_int(), reply.read_boolean(), reply.read_int(), reply.read_int()) == (0, False, 1, 100)
    assert {(info.id, info.pid, info.uid) for info in guarded.client.list_system_abilities()} >= {(100, 4242, ALICE)}


def test_a_stranger_cannot_take_over_an_ability_of_another_user(guarded: Device) -> None:
    mine = bk.RemoteObject("tests.Mine")
    guarded.client.add_system_ability(150, mine)
    with pytest.raises(bk.RefusedError, match="belongs to another user"):
        guarded.call_as(Caller(4242, ALICE, ALICE), codes.ADD_SYSTEM_ABILITY, add_request(150))
    assert guarded.client.get_system_ability(150) is mine


def test_the_dump_tells_what_is_registered(device: Device) -> None:
    device.client.add_system_ability(5, bk.RemoteObject("tests.A"), name="five")
    device.client.subscribe_system_ability("six", Recorder())
    ready, done = os.pipe()
    with open(ready, encoding="utf-8") as text:
        device.service.on_dump(done, [])
        os.close(done)
        shown = text.read()
    assert "five" in shown and "'six' of pid" in shown


def test_other_profiles_bring_other_events_at_once_or_when_their_process_ended() -> None:
    """Through the whole service: collectors hear the rules, events start what is new and nothing that is removed."""

    def demo(id: int, word: str) -> AbilityProfile:
        rule = EventRule(ReasonId.PARAM, word, "1")
        return fake_device.ability(id, start_on_demand=OnDemandEvents(events=(rule,)))

    def profile(name: str, *abilities: AbilityProfile) -> Profile:
        return Profile(name, Path(f"/{name}.toml"), abilities)

    old = profile("demo", demo(5, "demo.old"), demo(6, "demo.other"))
    device = fake_device.Device(old)
    heard: list[set[str]] = []
    device.service.watch_rules(lambda rules: heard.append({rule.name for rule in rules}))
    try:
        _, local, _ = device.up(5)
        pid = device.client.get_system_process_info(5).pid
        local.calls.clear()
        changes = device.service.reload({"new": profile("new", demo(7, "demo.new"))})
        assert changes == ProfileChanges(added=("new",), removed=("demo",), later=("demo",))
        assert heard == [{"demo.new"}]
        device.service.on_event(OnDemandEvent(ReasonId.PARAM, "demo.other", "1"))
        device.service.on_event(OnDemandEvent(ReasonId.PARAM, "demo.new", "1"))
        device.run()
        assert local.calls == [] and device.starter.told[-1] == ("start", "new")
        with pytest.raises(ServiceError, match="the profile was removed"):
            device.client.load_system_ability(6, fake_device.Told())
        device.service.process_exited("demo", pid, 0)
        assert heard[1:] == [{"demo.new"}]
        with pytest.raises(ServiceError, match="no profile has it"):
            device.client.load_system_ability(6, fake_device.Told())
        assert [info.name for info in device.client.list_system_processes()] == ["new"]
    finally:
        device.service.close()
