"""One-way calls: order per object, concurrency between objects, the budget, nothing told about failures."""

from __future__ import annotations

import logging
from functools import partial

import pytest

import binderkit as bk
from binderkit import limits
from tests.contract.messages import ONEWAY, message, put, tell, transact
from tests.contract.service import Code
from tests.contract.world import World, eventually


def recorded(target: bk.IRemoteObject, first: int = 0) -> tuple[int, list[int]]:
    reply = transact(target, Code.RECORDED, first)
    return reply.read_long(), reply.read_long_array()


def executed(target: bk.IRemoteObject, count: int) -> bool:
    return recorded(target)[0] == count


def idle(target: bk.IRemoteObject) -> bool:
    return not waiting(target)


def waiting(target: bk.IRemoteObject) -> int:
    return transact(target, Code.WAITING).read_long()


def test_ten_thousand_calls_to_one_object_arrive_in_order(world: World) -> None:
    target, count = world.one().root, 10_000
    data, reply = bk.MessageSequence(), bk.MessageSequence()
    for number in range(count):
        data.rewind_write(0)
        data.write_long(number)
        while True:
            try:
                assert target.send_request(Code.RECORD, data, reply, ONEWAY) == 0
                break
            except bk.QuotaError:
                recorded(target, count)  # a synchronous call, so that the other side gets its turn
    eventually(lambda: recorded(target, count)[0] == count, "all were executed")
    assert recorded(target)[1] == list(range(count))


def test_a_one_way_call_leaves_the_reply_alone(world: World) -> None:
    target = world.one().root
    reply = message("untouched")
    target.send_request(Code.RECORD, message(1), reply, ONEWAY)
    assert reply.read_string() == "untouched"
    eventually(lambda: recorded(target)[0] == 1, "it was executed")


def test_calls_to_different_objects_run_at_the_same_time(world: World) -> None:
    target = world.one().root
    slow = [transact(target, Code.MAKE, "service").read_remote_object() for _ in range(4)]
    for one in slow:
        tell(one, Code.WAIT)
    for one in slow:
        eventually(partial(waiting, one), "it waits together with the others")
    tell(target, Code.RECORD, 7)
    eventually(lambda: recorded(target)[0] == 1, "a slow object does not block another")
    for one in slow:
        transact(one, Code.OPEN)
        eventually(partial(idle, one), "it was let go")


def test_calls_to_one_object_run_one_at_a_time(world: World) -> None:
    target = world.one().root
    for _ in range(5):
        tell(target, Code.WAIT)
    tell(target, Code.RECORD, 1)
    eventually(lambda: waiting(target), "the first waits")
    assert recorded(target)[0] == 0
    transact(target, Code.OPEN)
    eventually(lambda: recorded(target)[0] == 1, "the last came after all others")
    seen = transact(target, Code.WAITING)
    assert (seen.read_long(), seen.read_long()) == (0, 1)


def test_coroutine_handlers_keep_the_order_too(world: World) -> None:
    target = transact(world.one().root, Code.MAKE, "async").read_remote_object()
    for number in range(100):
        tell(target, Code.RECORD, number)
    eventually(lambda: len(transact(target, Code.RECORDED).read_long_array()) == 100, "all were executed")
    assert transact(target, Code.RECORDED).read_long_array() == list(range(100))


def test_beyond_the_budget_the_sender_is_told_and_nothing_is_lost(world: World) -> None:
    target = world.one().root
    tell(target, Code.WAIT)
    eventually(lambda: waiting(target), "the object is busy")
    accepted = 0
    with pytest.raises(bk.QuotaError, match=str(limits.ONEWAY_BUDGET)) as caught:
        while True:
            data = message(accepted)
            put(data, bytes(20_000))
            target.send_request(Code.RECORD, data, bk.MessageSequence(), ONEWAY)
            accepted += 1
    assert caught.value.code == 29201
    assert accepted == limits.ONEWAY_BUDGET // 20_100
    transact(target, Code.OPEN)
    eventually(lambda: recorded(target)[0] == accepted, "all that were accepted are executed")
    tell(target, Code.RECORD, accepted)
    eventually(lambda: recorded(target)[1] == list(range(accepted + 1)), "the budget is there again")


def test_big_and_small_calls_keep_their_order(world: World) -> None:
    target = world.one().root
    for number in range(30):
        data = message(number)
        if number % 3 == 0:
            put(data, bytes(70_000))
        if number % 5 == 0:
            data.write_raw_data_buffer(bytes(50_000), 50_000)
        while True:
            try:
                target.send_request(Code.RECORD, data, bk.MessageSequence(), ONEWAY)
                break
            except bk.QuotaError:
                eventually(partial(executed, target, number), "what was accepted is executed")
        data.reclaim()
    eventually(lambda: recorded(target)[1] == list(range(30)), "all in order")


def test_a_failing_one_way_handler_tells_nobody(world: World, caplog: pytest.LogCaptureFixture) -> None:
    target = world.one().root
    with caplog.at_level(logging.CRITICAL):
        for kind in ("value", "false", "nasty", "refused"):
            tell(target, Code.FAIL, kind)
        tell(target, Code.RECORD, 1)
        eventually(lambda: recorded(target)[0] == 1, "the calls behind it are executed")


def test_one_way_calls_reach_us_in_order(world: World) -> None:
    target, mine = world.one().root, world.make_service()
    transact(target, Code.SEND_ONEWAY, mine, 500)
    eventually(lambda: recorded(mine)[0] == 500, "all arrived")
    assert recorded(mine)[1] == list(range(500))
