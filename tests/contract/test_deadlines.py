"""Deadlines and cancellation: at the time, on both sides, through nested calls."""

from __future__ import annotations

import asyncio
import time
from functools import partial

import pytest

import binderkit as bk
from tests.contract.messages import Call, body, message, open_descriptors, transact
from tests.contract.service import Code
from tests.contract.world import World, eventually


def within(seconds: float) -> bk.MessageOption:
    return bk.MessageOption(timeout=seconds)


def cancellations(target: bk.IRemoteObject) -> list[str]:
    return transact(target, Code.CANCELLATIONS).read_string_array()


def was_cancelled(target: bk.IRemoteObject, how: str) -> bool:
    return cancellations(target) == [how]


def test_a_call_raises_when_its_time_is_over_and_the_handler_learns_it(world: World, call: Call) -> None:
    target = world.one().root
    start = time.monotonic()
    with pytest.raises(bk.CallTimeoutError) as caught:
        call(target, Code.WAIT_CANCELLED, option=within(0.1))
    took = time.monotonic() - start
    assert caught.value.code == 502
    assert isinstance(caught.value, TimeoutError)
    assert 0.1 <= took < 2.0
    eventually(lambda: cancellations(target) == ["checked"], "the handler learns that nobody waits")


def test_the_next_call_gets_its_own_reply_not_the_late_one(world: World, call: Call) -> None:
    target = world.one().root
    for number in range(5):
        with pytest.raises(bk.CallTimeoutError):
            call(target, Code.WAIT_CANCELLED, option=within(0.02))
        payload = bytes([number]) * 10
        assert body(call(target, Code.ECHO, payload)) == payload


def test_a_stubborn_handler_does_not_hold_the_caller_and_its_late_reply_is_dropped(world: World, call: Call) -> None:
    if not world.interrupts_callers:
        pytest.skip("handlers run on the caller's thread here, which nothing can interrupt")
    target = world.one().root
    for _ in range(3):
        with pytest.raises(bk.CallTimeoutError):
            call(target, Code.WAIT, option=within(0.05))
    payload = b"the next"
    assert body(call(target, Code.ECHO, payload)) == payload
    transact(target, Code.OPEN)
    eventually(lambda: transact(target, Code.WAITING).read_long() == 0, "the handlers end, their replies are late")
    for number in range(20):
        payload = bytes([number])
        assert body(call(target, Code.ECHO, payload)) == payload


def test_a_late_reply_gives_back_what_it_carries(world: World, call: Call) -> None:
    if not world.interrupts_callers:
        pytest.skip("handlers run on the caller's thread here, so that no reply is late")
    target, mine = world.one().root, world.make_service()
    transact(target, Code.WHO)
    before = open_descriptors()
    for _ in range(3):
        with pytest.raises(bk.CallTimeoutError):
            call(target, Code.GIVE_LATE, mine, option=within(0.1))
    transact(target, Code.OPEN)
    # By ``call``, because an event loop has to run to take late replies in.
    eventually(lambda: call(target, Code.WAITING).read_long() == 0, "the handlers end, their replies are late")
    eventually(lambda: call(target, Code.MADE, 2).read_long() == 0, "the objects in them are released")
    eventually(lambda: open_descriptors() <= before + 4, "the descriptors in them are closed")


def test_the_remaining_time_is_inherited_by_nested_calls(world: World, call: Call) -> None:
    first, second = world.start(2)
    mine = world.make_service()
    left = call(first.root, Code.REMAINING, [second.root, mine, second.root], option=within(10)).read_double()
    assert 5 < left < 10
    assert call(first.root, Code.REMAINING, [second.root]).read_double() == -1.0


def test_a_deadline_in_the_middle_of_a_chain_ends_the_whole_chain(world: World) -> None:
    first, second = world.start(2)
    start = time.monotonic()
    with pytest.raises(bk.CallTimeoutError):
        transact(first.root, Code.RELAY_WAIT, second.root, option=within(0.15))
    assert 0.15 <= time.monotonic() - start < 3
    eventually(lambda: cancellations(second.root) == ["checked"], "the innermost handler learns it")
    assert body(transact(first.root, Code.ECHO, b"ok")) == b"ok"


def test_a_deadline_cancels_a_coroutine(world: World, call: Call) -> None:
    target = transact(world.one().root, Code.MAKE, "async").read_remote_object()

    def cancelled() -> bool:
        # Again, if need be: on a busy machine the time may be over before the coroutine began.
        with pytest.raises(bk.CallTimeoutError):
            call(target, Code.WAIT_CANCELLED, option=within(0.1))
        return bool(cancellations(target))

    eventually(cancelled, "the coroutine is cancelled")
    assert set(cancellations(target)) == {"CancelledError"}
    eventually(lambda: transact(target, Code.WAITING).read_long() == 0, "none is left")


def test_cancelling_the_task_cancels_the_handler(world: World) -> None:
    root = world.one().root
    for kind, target in (
        ("checked", root),
        ("CancelledError", transact(root, Code.MAKE, "async").read_remote_object()),
    ):
        asyncio.run(start_and_cancel(target))
        eventually(partial(was_cancelled, target, kind), "the handler learns it")


async def start_and_cancel(target: bk.RemoteProxy) -> None:
    waits = asyncio.ensure_future(target.send_message_request(Code.WAIT_CANCELLED, message(), bk.MessageSequence()))
    while True:
        seen = await target.send_message_request(Code.WAITING, message(), bk.MessageSequence())
        if seen.reply.read_long():
            break
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits


def test_many_coroutines_wait_at_once_and_get_their_own_replies(world: World) -> None:
    target = transact(world.one().root, Code.MAKE, "async").read_remote_object()

    async def echo(number: int) -> bool:
        reply = bk.MessageSequence()
        await target.send_message_request(Code.ECHO, message(str(number).encode()), reply)
        return body(reply) == str(number).encode()

    async def run() -> list[bool]:
        return await asyncio.gather(*[echo(number) for number in range(500)])

    assert all(asyncio.run(run()))


def test_a_call_in_time_is_not_disturbed_by_its_deadline(world: World, call: Call) -> None:
    target = world.one().root
    for _ in range(20):
        assert body(call(target, Code.ECHO, b"in time", option=within(20))) == b"in time"
