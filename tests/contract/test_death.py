"""The end of a process: recipients, calls in flight, later calls."""

from __future__ import annotations

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

import binderkit as bk
from tests.contract.messages import Call, body, message, tell, transact
from tests.contract.service import Code, Recipient
from tests.contract.world import World, eventually


def test_a_recipient_is_told_once_on_another_thread(world: World) -> None:
    other, recipient = world.one(), Recipient()
    other.root.register_death_recipient(recipient)
    other.kill()
    eventually(lambda: recipient.threads, "the recipient is told")
    assert other.root.is_object_dead()
    with pytest.raises(bk.DeadObjectError):
        transact(other.root, Code.WHO)
    assert len(recipient.threads) == 1
    assert recipient.threads[0] != threading.get_ident()
    assert not other.root.unregister_death_recipient(recipient), "it is one-shot"


def test_duplicates_are_told_as_often_as_registered_and_a_bad_one_stops_nobody(world: World) -> None:
    other, twice, last = world.one(), Recipient(), Recipient()
    for recipient in (twice, Bad(), twice, last):
        other.root.register_death_recipient(recipient)
    other.kill()
    eventually(lambda: last.threads, "all are told")
    assert (len(twice.threads), len(last.threads)) == (2, 1)


class Bad(bk.DeathRecipient):
    def on_remote_died(self) -> None:
        raise ValueError("a recipient that fails")


def test_unregister_tells_whether_it_was_there(world: World) -> None:
    other, kept, removed = world.one(), Recipient(), Recipient()
    proxy = other.root
    assert proxy.unregister_death_recipient(removed) is False
    proxy.register_death_recipient(removed)
    proxy.register_death_recipient(removed)
    assert proxy.unregister_death_recipient(removed) is True
    assert proxy.unregister_death_recipient(removed) is True
    assert proxy.unregister_death_recipient(removed) is False
    proxy.register_death_recipient(kept)
    other.kill()
    eventually(lambda: kept.threads, "the other recipient is told")
    assert not removed.threads


def test_a_recipient_on_every_object_of_the_process_is_told(world: World) -> None:
    other = world.one()
    made = [transact(other.root, Code.MAKE, "service").read_remote_object() for _ in range(20)]
    recipients = [Recipient() for _ in made]
    for proxy, recipient in zip(made, recipients, strict=True):
        proxy.register_death_recipient(recipient)
    other.kill()
    eventually(lambda: all(len(recipient.threads) == 1 for recipient in recipients), "every recipient is told")


def test_a_recipient_cannot_be_registered_on_a_dead_object(world: World) -> None:
    other, recipient = world.one(), Recipient()
    other.kill()
    eventually(other.root.is_object_dead, "the death is noticed")
    with pytest.raises(bk.DeadObjectError):
        other.root.register_death_recipient(recipient)
    assert not recipient.threads


def test_later_calls_raise_at_once_on_both_faces(world: World, call: Call) -> None:
    other = world.one()
    call(other.root, Code.WHO)
    other.kill()
    eventually(other.root.is_object_dead, "the death is noticed")
    for _ in range(3):
        with pytest.raises(bk.DeadObjectError) as caught:
            call(other.root, Code.WHO)
        assert caught.value.code == -32
    with pytest.raises(bk.DeadObjectError):
        tell(other.root, Code.RECORD, 1)


def test_a_service_that_dies_in_the_middle_of_a_call(world: World, call: Call) -> None:
    other = world.one()
    with pytest.raises(bk.DeadObjectError):
        call(other.root, Code.DIE)
    eventually(other.root.is_object_dead, "the death is noticed")
    eventually(lambda: not other.is_alive(), "it has ended: its sockets close a moment before")


def test_calls_in_flight_raise_when_the_process_is_killed(world: World) -> None:
    other, count = world.one(), 8
    pid = other.pid
    with ThreadPoolExecutor(count) as pool:
        runs = [pool.submit(transact, other.root, Code.WAIT_CANCELLED) for _ in range(count)]
        eventually(lambda: transact(other.root, Code.WAITING).read_long() == count, "all are being handled")
        other.kill()
        for run in runs:
            with pytest.raises(bk.DeadObjectError, match=str(pid)):
                run.result(10)


def test_coroutines_in_flight_raise_when_the_process_is_killed(world: World) -> None:
    other, count = world.one(), 8
    made = transact(other.root, Code.MAKE, "async").read_remote_object()

    async def run() -> list[Any]:
        calls = [
            asyncio.ensure_future(made.send_message_request(Code.WAIT_CANCELLED, message(), bk.MessageSequence()))
            for _ in range(count)
        ]
        while True:
            seen = await made.send_message_request(Code.WAITING, message(), bk.MessageSequence())
            if seen.reply.read_long() == count:
                break
        await asyncio.to_thread(other.kill)
        return list(await asyncio.gather(*calls, return_exceptions=True))

    outcomes = asyncio.run(run())
    assert [type(outcome) for outcome in outcomes] == [bk.DeadObjectError] * count


def test_a_stubborn_handler_of_a_killed_process_holds_nobody(world: World) -> None:
    other = world.one()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(transact, other.root, Code.WAIT)
        eventually(lambda: transact(other.root, Code.WAITING).read_long() == 1, "it is being handled")
        other.kill()
        if not world.interrupts_callers:
            other.end_handlers()
        assert isinstance(run.exception(5), bk.DeadObjectError)


def test_others_learn_of_the_death_of_an_object_passed_to_them(world: World) -> None:
    owner, holder = world.start(2)
    transact(holder.root, Code.KEEP, "it", owner.root)
    transact(holder.root, Code.MOURN, "it")
    owner.kill()
    eventually(lambda: transact(holder.root, Code.MOURNED).read_long() == 1, "the other holder is told")
    with pytest.raises(bk.RemoteError):
        transact(holder.root, Code.MOURN, "it")
    transact(holder.root, Code.DROP, "it")


def test_the_death_of_a_third_process_inside_a_call_is_not_the_death_of_the_service(world: World) -> None:
    service, third = world.start(2)
    transact(service.root, Code.KEEP, "it", third.root)
    third.kill()
    caught: list[bk.RemoteError] = []

    def told() -> bool:
        # The service notices it in its own time, not when we do.
        try:
            transact(service.root, Code.FETCH, service.root, "it")
        except bk.RemoteError as error:
            caught.append(error)
        return bool(caught)

    eventually(told, "the service knows that it is dead")
    assert caught[0].type_name.endswith("DeadObjectError")
    assert not service.root.is_object_dead()
    transact(service.root, Code.DROP, "it")


def test_killing_during_many_calls_from_threads_ends_them_all(world: World) -> None:
    other, threads = world.one(), 6
    started = threading.Barrier(threads + 1)
    outcomes: list[type[BaseException]] = []

    def hammer() -> None:
        started.wait()
        payload = os.urandom(100)
        try:
            while True:
                assert body(transact(other.root, Code.ECHO, payload)) == payload
        except BaseException as error:
            outcomes.append(type(error))

    runners = [threading.Thread(target=hammer) for _ in range(threads)]
    for runner in runners:
        runner.start()
    started.wait()
    for _ in range(50):
        transact(other.root, Code.WHO)
    other.kill()
    for runner in runners:
        runner.join(10)
        assert not runner.is_alive()
    assert outcomes == [bk.DeadObjectError] * threads


def test_a_process_that_dies_with_our_objects_in_flight_leaves_nothing(world: World) -> None:
    for _ in range(3):
        other = world.one()
        mine = [world.make_service() for _ in range(10)]
        transact(other.root, Code.KEEP, "mine", mine[0])
        with pytest.raises(bk.DeadObjectError):
            transact(other.root, Code.DIE, mine)
        eventually(lambda other=other: not other.is_alive(), "it has ended")  # type: ignore[misc]
        del mine


def test_a_handler_learns_that_its_caller_was_killed(world: World) -> None:
    other, mine = world.one(), world.make_service()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(transact, other.root, Code.RELAY_WAIT, mine)
        eventually(lambda: transact(mine, Code.WAITING).read_long() == 1, "our object is handling the call")
        other.kill()
        assert isinstance(run.exception(10), bk.DeadObjectError)
    eventually(lambda: transact(mine, Code.WAITING).read_long() == 0, "our handler gives up")
    assert transact(mine, Code.CANCELLATIONS).read_string_array() == ["checked"]
