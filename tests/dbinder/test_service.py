"""DBinderService: objects between two devices, over a simulated network and real local drivers."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import binderkit as bk
from binderkit import limits
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    QuotaError,
    RemoteError,
    RpcLimitError,
    ServiceError,
    TooBigError,
)
from tests.dbinder.devices import Devices, Recipient, eventually, running
from tests.dbinder.service import Code, Service, call, echo

ABILITY = 5000


class World:
    """Device a calls device b, where an app offers an ability."""

    def __init__(self, devices: Devices) -> None:
        self.devices = devices
        self.a, self.b = devices.all[:2]
        self.client, self.server = self.a.app(), self.b.app()
        self.service = Service()
        self.b.offer(ABILITY, self.service, self.server)
        self.proxy = self.a.get(self.b, ABILITY, self.client)

    def stub_here(self, stub: bk.IRemoteObject) -> Any:
        """Writes an object of the client into a message."""
        return lambda data: data.write_remote_object(stub)


@pytest.fixture
def world() -> Iterator[World]:
    with running("a", "b", "c") as devices:
        world = World(devices)
        yield world
        del world.proxy
        world.service.kept.clear()
        devices.nothing_held()


def test_a_call_reaches_the_object(world: World) -> None:
    assert echo(world.proxy) == "hello"
    assert world.proxy.get_descriptor() == "test.IService"
    world.proxy.ping(timeout=5)


def test_the_same_object_is_the_same_proxy(world: World) -> None:
    assert world.a.get(world.b, ABILITY, world.client) is world.proxy


def test_the_handler_sees_the_calling_device(world: World) -> None:
    reply = call(world.proxy, Code.WHO)
    assert reply.read_string() == world.a.udid
    assert (reply.read_int(), reply.read_int()) == (-1, -1)
    assert reply.read_int() == world.client.identity.pid
    assert reply.read_long() == os.getuid()
    assert reply.read_boolean() is False


def test_a_coroutine_handler_sees_it_too(world: World) -> None:
    assert call(world.proxy, Code.LATER).read_string() == world.a.udid


def test_a_callback_comes_back_nested(world: World) -> None:
    mine = Service("test.ICallback")

    def write(data: Any) -> None:
        data.write_remote_object(mine)
        data.write_string("ping")

    assert call(world.proxy, Code.CALL_BACK, write).read_string() == f"ping via {world.a.udid[:4]}"


def test_an_object_in_a_reply_can_be_called(world: World) -> None:
    given = call(world.proxy, Code.GIVE).read_remote_object()
    assert echo(given, "to the given one") == "to the given one"
    assert given.get_descriptor() == "test.IGiven"


def test_a_kept_callback_is_one_object_and_is_released(world: World) -> None:
    mine = Service()
    for _ in range(3):
        call(world.proxy, Code.KEEP, world.stub_here(mine))
    assert len({id(kept) for kept in world.service.kept}) == 1
    assert world.a.settle()["exports"] == 1
    call(world.proxy, Code.DROP)
    eventually(lambda: (world.b.settle(), world.a.settle())[1]["exports"] == 0, "the callback was given back")


def test_references_go_with_the_process_that_held_them(world: World) -> None:
    other = world.a.app()
    proxy = world.a.get(world.b, ABILITY, other)
    given = call(proxy, Code.GIVE).read_remote_object()
    assert world.b.settle()["exports"] == 2
    other.kill()
    del proxy, given
    eventually(lambda: (world.a.settle(), world.b.settle())[1]["exports"] == 1, "the given object was given back")


def test_one_way_calls_stay_in_order(world: World) -> None:
    for number in range(200):
        call(world.proxy, Code.NOTE, lambda data, n=number: data.write_int(n), bk.MessageOption(1))
    eventually(lambda: len(world.service.notes) == 200, "all one-way calls were executed")
    assert world.service.notes == list(range(200))


def test_who_sends_one_way_calls_too_fast_is_told(world: World) -> None:
    """Nothing is dropped: the other device's credit, then the local budget, then an error at the sender."""
    call(world.proxy, Code.WAIT, None, bk.MessageOption(1))
    assert world.service.entered.acquire(timeout=5)
    sent = 0

    def write(data: Any) -> None:
        data.write_int(sent)
        data.write_raw_data_buffer(bytes(20_000), 20_000)

    def send() -> bool:
        try:
            call(world.proxy, Code.NOTE, write, bk.MessageOption(1))
        except QuotaError:
            return False
        return True

    # One at a time is always taken again soon, until everything between the two is full.
    while _within(0.5, send):
        sent += 1
    assert sent * 20_000 > 2 * limits.ONEWAY_BUDGET + limits.RPC_ONEWAY_BYTES // 2
    world.service.go_on.set()
    eventually(lambda: len(world.service.notes) == sent, "all that were taken are executed")
    assert world.service.notes == list(range(sent))


def _within(seconds: float, attempt: Callable[[], bool]) -> bool:
    end = time.monotonic() + seconds
    while not attempt():
        if time.monotonic() > end:
            return False
        time.sleep(0.002)  # between two attempts
    return True


def test_an_object_is_given_back_behind_the_one_way_calls_to_it(world: World) -> None:
    given = Service("test.IGiven")
    world.service.kept.append(given)
    proxy = call(world.proxy, Code.GIVE_KEPT).read_remote_object()
    for number in range(50):
        call(proxy, Code.NOTE, lambda data, n=number: data.write_int(n), bk.MessageOption(1))
    del proxy
    eventually(lambda: (world.a.settle(), world.b.settle())[1]["exports"] == 1, "it was given back")
    # Given back to the process that speaks for the device; the app may still have some of the calls before it.
    eventually(lambda: len(given.notes) == 50, "all one-way calls were executed")
    assert given.notes == list(range(50))


def test_an_exception_crosses_as_text(world: World) -> None:
    with pytest.raises(RemoteError) as caught:
        call(world.proxy, Code.FAIL)
    assert caught.value.type_name.endswith("Problem")
    assert caught.value.text == "so it is"


@pytest.mark.parametrize("size", [100, 40_000, 2_000_000])
def test_raw_data_goes_both_ways(world: World, size: int) -> None:
    content = os.urandom(size)

    def write(data: Any) -> None:
        data.write_int(size)
        data.write_raw_data_buffer(content, size)

    reply = call(world.proxy, Code.RAW, write)
    assert bytes(reply.read_raw_data_buffer(size)) == content[::-1]
    assert bool(world.devices.bulk.put_sizes) == (size > limits.RPC_INLINE_BLOB)
    assert not world.devices.bulk.offers


@pytest.mark.parametrize("size", [100, 1_000_000])
def test_the_contents_of_an_ashmem_go_both_ways(world: World, size: int) -> None:
    content = os.urandom(size)
    with bk.Ashmem.create("test", size) as memory:
        memory.map_read_write_ashmem()
        memory.write_data_to_ashmem(content, size, 0)
        reply = call(world.proxy, Code.ASHMEM, lambda data: data.write_ashmem(memory))
    with reply.read_ashmem() as answer:
        answer.map_readonly_ashmem()
        assert answer.read_data_from_ashmem(size, 0) == content[::-1]
    reply.reclaim()


def test_a_call_of_nearly_a_mebibyte(world: World) -> None:
    text = "x" * 39_000

    def write(data: Any) -> None:
        data.set_capacity(limits.RPC_DATA)
        data.write_string(text)
        data.write_raw_data_buffer(b"y" * 30_000, 30_000)

    assert call(world.proxy, Code.ECHO, write).read_string() == text


# --- the four limits ------------------------------------------------------------------------------


def test_limit_1_too_much_data_is_refused_where_it_is_written(world: World) -> None:
    def write(data: Any) -> None:
        data.write_long_array([0] * 30_000)

    with pytest.raises(TooBigError, match="204800"):
        call(world.proxy, Code.ECHO, write)


def test_limit_1_more_than_a_mebibyte_is_refused_by_the_proxy(world: World) -> None:
    def write(data: Any) -> None:
        data.set_capacity(limits.MAX_CAPACITY)
        data.write_long_array([0] * (limits.RPC_DATA // 8))

    with pytest.raises(TooBigError, match=r"raw data .* or in an Ashmem") as caught:
        call(world.proxy, Code.ECHO, write)
    assert caught.value.code == 1900009


def test_limit_2_the_death_of_an_anonymous_object_is_not_told(world: World) -> None:
    given = call(world.proxy, Code.GIVE).read_remote_object()
    recipient = Recipient()
    with pytest.raises(RpcLimitError, match="add_system_ability") as caught:
        given.register_death_recipient(recipient)
    assert caught.value.code == 510
    assert given.unregister_death_recipient(recipient) is False


def test_limit_3_a_proxy_does_not_go_back_to_its_device(world: World) -> None:
    given = call(world.proxy, Code.GIVE).read_remote_object()
    with pytest.raises(RpcLimitError, match="cannot be sent back") as caught:
        call(world.proxy, Code.KEEP, world.stub_here(given))
    assert caught.value.code == 505
    assert not world.service.kept


def test_limit_3_nor_in_a_reply(world: World) -> None:
    call(world.proxy, Code.KEEP, world.stub_here(Service()))
    with pytest.raises(RpcLimitError, match="cannot be sent back") as caught:
        call(world.proxy, Code.GIVE_KEPT)
    assert caught.value.code == 505


def test_limit_3_nor_to_a_third_device(world: World) -> None:
    c = world.devices.all[2]
    third = Service()
    c.offer(ABILITY, third, c.app())
    at_c = world.a.get(c, ABILITY, world.client)
    with pytest.raises(RpcLimitError, match="cannot be sent on") as caught:
        call(at_c, Code.KEEP, world.stub_here(world.proxy))
    assert caught.value.code == 505
    assert not third.kept


def test_limit_4_a_proxy_is_not_passed_on_to_another_process(world: World) -> None:
    neighbour = Service()
    local = world.a.app().offer(neighbour, world.client)
    with pytest.raises(RpcLimitError, match="get the object itself") as caught:
        call(local, Code.KEEP, world.stub_here(world.proxy))
    assert caught.value.code == 407
    assert not neighbour.kept


def test_limit_4_nothing_of_the_message_is_left_behind(world: World) -> None:
    local = world.a.app().offer(Service(), world.client)
    mine = Service()

    def write(data: Any) -> None:
        data.write_remote_object(mine)
        data.write_remote_object(world.proxy)

    with pytest.raises(RpcLimitError):
        call(local, Code.KEEP, write)
    assert world.client.holders(mine) == 0


def test_a_descriptor_is_refused_by_the_proxy(world: World) -> None:
    read_end, write_end = os.pipe()
    try:
        with pytest.raises(RpcLimitError, match="file descriptor cannot go") as caught:
            call(world.proxy, Code.TAKE_FD, lambda data: data.write_file_descriptor(read_end))
    finally:
        os.close(read_end)
        os.close(write_end)
    assert caught.value.code == 507


def test_a_refused_message_gives_nothing_away(world: World) -> None:
    given = call(world.proxy, Code.GIVE).read_remote_object()
    mine = Service()

    def write(data: Any) -> None:
        data.write_remote_object(mine)
        data.write_remote_object(given)

    with pytest.raises(RpcLimitError):
        call(world.proxy, Code.KEEP, write)
    assert world.a.settle()["exports"] == 0


# --- deadlines --------------------------------------------------------------------------------------


def test_a_call_waits_8_seconds_unless_told_otherwise(world: World) -> None:
    assert 7 < call(world.proxy, Code.REMAINING).read_double() <= 8
    shorter = bk.MessageOption(wait_time=3)
    assert 2 < call(world.proxy, Code.REMAINING, None, shorter).read_double() <= 3
    longer = bk.MessageOption(wait_time=100)
    assert 89 < call(world.proxy, Code.REMAINING, None, longer).read_double() <= 100


def test_a_timeout_says_that_the_outcome_is_unknown(world: World) -> None:
    with pytest.raises(CallTimeoutError, match=r"the outcome is unknown|may still be executed"):
        call(world.proxy, Code.WAIT, None, bk.MessageOption(timeout=0.1))
    world.service.go_on.set()


def test_references_of_a_call_that_timed_out_are_settled(world: World) -> None:
    def write(data: Any) -> None:
        data.write_remote_object(Service("test.IMine"))

    with pytest.raises(CallTimeoutError):
        call(world.proxy, Code.WAIT, write, bk.MessageOption(timeout=0.1))
    world.service.go_on.set()
    # The reply carries an object nobody hears of, the request one that b got: both are given back.
    eventually(lambda: (world.a.settle(), world.b.settle())[1]["exports"] == 1, "b takes its object back")
    eventually(lambda: (world.b.settle(), world.a.settle())[1]["exports"] == 0, "b gives ours back")


# --- death ------------------------------------------------------------------------------------------


def test_the_end_of_an_ability_is_told_once(world: World) -> None:
    first, second = Recipient(), Recipient()
    world.proxy.register_death_recipient(first)
    world.proxy.register_death_recipient(second)
    world.server.kill()
    assert first.event.wait(5)
    assert second.event.wait(5)
    assert (first.told, second.told) == (1, 1)
    assert world.proxy.is_object_dead()
    with pytest.raises(DeadObjectError):
        echo(world.proxy)
    with pytest.raises(DeadObjectError):
        world.proxy.register_death_recipient(Recipient())
    assert world.proxy.unregister_death_recipient(first) is False


def test_recipients_of_several_processes(world: World) -> None:
    other = world.a.app()
    proxy = world.a.get(world.b, ABILITY, other)
    here, there = Recipient(), Recipient()
    world.proxy.register_death_recipient(here)
    proxy.register_death_recipient(there)
    world.server.kill()
    assert here.event.wait(5)
    assert there.event.wait(5)


def test_a_call_to_a_dead_object(world: World) -> None:
    world.server.kill()
    for _ in range(2):
        with pytest.raises(DeadObjectError):
            echo(world.proxy)


def test_a_device_that_leaves_takes_its_objects_along(world: World) -> None:
    recipient = Recipient()
    world.proxy.register_death_recipient(recipient)
    call(world.proxy, Code.KEEP, world.stub_here(Service()))
    world.b.stop()
    assert recipient.event.wait(5)
    with pytest.raises(DeadObjectError):
        echo(world.proxy)
    eventually(lambda: world.a.settle()["exports"] == 0, "what b held is free")
    world.b.start()
    world.devices.pair()
    with pytest.raises(DeadObjectError):
        echo(world.proxy)
    world.proxy = world.a.get(world.b, ABILITY, world.client)
    assert echo(world.proxy) == "hello"


def test_a_cut_that_both_sides_see(world: World) -> None:
    recipient = Recipient()
    world.proxy.register_death_recipient(recipient)
    world.devices.network.cut(world.a.udid, world.b.udid)
    assert recipient.event.wait(5)
    world.devices.network.heal(world.a.udid, world.b.udid)
    world.devices.pair()
    assert echo(world.a.get(world.b, ABILITY, world.client)) == "hello"


def test_a_break_only_one_side_saw(world: World) -> None:
    """b forgets a, which goes on: what it knew is dead, and what comes next is counted right."""
    call(world.proxy, Code.KEEP, world.stub_here(Service()))
    world.b.dbinder._drop(world.a.udid, "as if b had seen a leave")
    with pytest.raises(DeadObjectError):
        echo(world.proxy)
    assert world.a.settle()["exports"] == 0
    world.service.kept.clear()
    world.proxy = world.a.get(world.b, ABILITY, world.client)
    assert echo(world.proxy) == "hello"


def test_a_call_in_flight_when_its_process_ends(world: World) -> None:
    import threading

    caught: list[BaseException] = []

    def run() -> None:
        try:
            call(world.proxy, Code.WAIT)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    assert world.service.entered.acquire(timeout=5)
    world.server.kill()
    world.service.go_on.set()
    thread.join(5)
    assert isinstance(caught[0], DeadObjectError)


# --- finding ----------------------------------------------------------------------------------------


def test_no_such_ability(world: World) -> None:
    with pytest.raises(ServiceError) as caught:
        world.a.dbinder.get(world.b.udid, 4711)
    assert caught.value.code == 113


def test_no_such_device(world: World) -> None:
    with pytest.raises(ServiceError) as caught:
        world.a.dbinder.get("nobody", ABILITY)
    assert caught.value.code == 108


def test_an_id_out_of_range(world: World) -> None:
    with pytest.raises(ServiceError) as caught:
        world.a.dbinder.get(world.b.udid, 0)
    assert caught.value.code == 114


def test_a_device_is_found_by_its_network_id(world: World) -> None:
    network_id = world.b.calls.engine.info.network_id
    assert world.a.dbinder.resolve(network_id) == world.b.udid


def test_the_owner_may_refuse(world: World) -> None:
    def refuse(ability_id: int) -> None:
        raise ServiceError(f"{ability_id} is not distributed", code=115)

    world.b.dbinder._get_local = refuse
    with pytest.raises(ServiceError, match="is not distributed") as caught:
        world.a.dbinder.get(world.b.udid, ABILITY)
    assert caught.value.code == 115


def test_an_object_of_the_softbus_process_itself(world: World) -> None:
    own = Service("test.IOwn")
    world.b.abilities[7] = own
    proxy = world.a.get(world.b, 7, world.client)
    assert echo(proxy) == "hello"
    assert call(proxy, Code.WHO).read_string() == world.a.udid
    assert call(proxy, Code.LATER).read_string() == world.a.udid
    proxy.ping()
