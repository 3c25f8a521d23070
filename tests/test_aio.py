"""Serving on an event loop and calling from coroutines; a second node of this process is the client."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Awaitable, Coroutine, Iterator
from typing import Any

import pytest

import binderkit as bk
from binderkit import aio
from binderkit.driver.unix.node import Node
from binderkit.ipc import loop as handler_loop
from binderkit.ipc.driver import peek_driver, set_driver
from binderkit.process import local_node
from tests.driver.unix import hostile
from tests.driver.unix.hostile import Attempt, until

WAIT = 10.0
PLAIN = 1
COROUTINE = 2
CALL_BACK = 3
"""call the object in the request with PLAIN and return what it says"""
HOLD = 4
NOTE = 5
NOTE_LATER = 6
HANG = 7
FAIL = 8


class Service(bk.RemoteObject):
    """Plain and coroutine handlers that say where they run."""

    def __init__(self) -> None:
        super().__init__("test.IAio")
        self.threads: set[str] = set()
        self.seen: list[int] = []
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.cancelled = threading.Event()

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool | Awaitable[bool]:
        self.threads.add(threading.current_thread().name)
        if code == PLAIN:
            reply.write_int(data.read_int() + 1)
        elif code == COROUTINE:
            return self._later(data, reply)
        elif code == CALL_BACK:
            return self._call_back(data, reply)
        elif code == HOLD:
            self.entered.set()
            if not self.gate.wait(WAIT):
                raise TimeoutError("nobody opened the gate")
        elif code == NOTE:
            self.seen.append(data.read_int())
        elif code == NOTE_LATER:
            return self._note(data.read_int())
        elif code == HANG:
            return self._hang()
        elif code == FAIL:
            return self._fail()
        else:
            return False
        return True

    async def _later(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> bool:
        self.threads.add(threading.current_thread().name)
        number = data.read_int()
        await asyncio.sleep(0)
        reply.write_int(number + 1)
        return True

    async def _call_back(self, data: bk.MessageSequence, reply: bk.MessageSequence) -> bool:
        target, number = data.read_remote_object(), data.read_int()
        with bk.MessageSequence() as inner:
            inner.write_int(number)
            answer = await aio.call(target, PLAIN, inner)
        reply.write_int(answer.read_int() + 100)
        return True

    async def _note(self, number: int) -> bool:
        await asyncio.sleep(0)
        self.seen.append(number)
        return True

    async def _hang(self) -> bool:
        self.entered.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return True

    async def _fail(self) -> bool:
        await asyncio.sleep(0)
        raise ValueError("as the test wants")


class Pair:
    """The process's own driver, which serves, and a second node as its client."""

    def __init__(self) -> None:
        self.service = Service()
        self.node = Node(title="own")
        self._former = peek_driver()
        set_driver(self.node)
        self.node.become_context(self.service)
        self.client = Node(title="client")
        self.proxy = hostile.join(self.node, self.client)

    def call(self, code: int, number: int, timeout: float | None = WAIT) -> int:
        """Make a synchronous call (on a thread of its own while a loop serves)."""
        with bk.MessageSequence() as data, bk.MessageSequence() as reply:
            data.write_int(number)
            self.proxy.send_request(code, data, reply, bk.MessageOption(timeout=timeout))
            return reply.read_int()

    def close(self) -> None:
        self.service.gate.set()
        self.client.close()
        set_driver(self._former)
        self.node.close()


@pytest.fixture
def pair() -> Iterator[Pair]:
    made = Pair()
    yield made
    made.close()


def run(main: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(main, WAIT))


def ints(number: int) -> bk.MessageSequence:
    data = bk.MessageSequence()
    data.write_int(number)
    return data


def test_plain_and_coroutine_handlers_run_on_the_loops_thread(pair: Pair) -> None:
    async def main() -> None:
        async with aio.serving():
            assert await asyncio.to_thread(pair.call, PLAIN, 1) == 2
            assert await asyncio.to_thread(pair.call, COROUTINE, 2) == 3
            assert (await aio.call(pair.proxy, COROUTINE, ints(3))).read_int() == 4
            assert pair.service.threads == {threading.current_thread().name}
            assert pair.node.statistics()["threads"] == 0

    run(main())


def test_sixty_four_in_flight_each_with_its_own_reply(pair: Pair) -> None:
    async def main() -> None:
        async with aio.serving():
            for code in (PLAIN, COROUTINE):
                replies = await asyncio.gather(*(aio.call(pair.proxy, code, ints(n)) for n in range(64)))
                assert [reply.read_int() for reply in replies] == list(range(1, 65))

    run(main())


def test_nested_callbacks(pair: Pair) -> None:
    """Our handler calls the caller's object back while the caller waits, on one loop for both sides."""
    theirs = Service()

    async def main() -> None:
        async with aio.serving():
            data = bk.MessageSequence()
            data.write_remote_object(theirs)
            data.write_int(5)
            assert (await aio.call(pair.proxy, CALL_BACK, data)).read_int() == 106
            # The same for a caller that waits on a thread: the call back runs on that thread.
            reply = bk.MessageSequence()
            await asyncio.to_thread(pair.proxy.send_request, CALL_BACK, data, reply)
            assert reply.read_int() == 106
            data.reclaim()

    run(main())


def test_the_order_of_one_way_calls(pair: Pair) -> None:
    async def main() -> None:
        async with aio.serving():
            for number in range(200):
                await aio.send(pair.proxy, NOTE_LATER if number % 3 else NOTE, ints(number))
            while len(pair.service.seen) < 200:
                await asyncio.sleep(0)  # a turn of the loop
        assert pair.service.seen == list(range(200))

    run(main())


def test_leaving_gives_the_requests_back_to_threads(pair: Pair) -> None:
    async def main() -> None:
        for _ in range(3):
            async with aio.serving():
                assert await asyncio.to_thread(pair.call, PLAIN, 1) == 2
            pair.service.threads.clear()
            assert pair.call(PLAIN, 1) == 2, "although the loop's thread waits here"
            assert pair.call(COROUTINE, 1) == 2
            assert "binderkit-loop" in pair.service.threads, "where coroutines run without a serving loop"
            assert all(name.startswith("binderkit-") for name in pair.service.threads), pair.service.threads
            assert pair.node.statistics()["threads"] >= 1

    run(main())


def test_a_second_one_is_refused_and_the_first_goes_on(pair: Pair) -> None:
    async def main() -> None:
        async with aio.serving():
            with pytest.raises(bk.IpcError, match="another event loop serves"):
                async with aio.serving():
                    raise AssertionError("two at once")
            assert await asyncio.to_thread(pair.call, COROUTINE, 1) == 2
            assert handler_loop.handler_loop() is asyncio.get_running_loop()

    run(main())


def test_handlers_in_progress_on_threads_finish_first(pair: Pair) -> None:
    held = Attempt(lambda: pair.proxy.send_request(HOLD, bk.MessageSequence(), bk.MessageSequence()))
    assert pair.service.entered.wait(WAIT)

    async def main() -> None:
        async def serve() -> None:
            async with aio.serving():
                assert await asyncio.to_thread(pair.call, COROUTINE, 1) == 2

        serving = asyncio.create_task(serve())
        while pair.node.workers._loop is None:
            await asyncio.sleep(0)  # a turn of the loop, until the threads are told to end
        assert not serving.done()
        assert held.is_alive(), "the loop turns while the handler goes on"
        pair.service.gate.set()
        await serving

    run(main())
    assert held.over().error is None


def test_a_call_that_comes_while_the_threads_end_is_not_lost(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread may take it out of the epoll set just when it is to end: the loop must see it all the same."""
    workers = pair.node.workers
    end_threads = workers._end_threads
    attempts: list[Attempt] = []

    def after_a_call() -> None:
        monkeypatch.undo()
        attempts.append(Attempt(lambda: pair.call(PLAIN, 7)))
        until(lambda: not workers._workers, "the call woke the threads, which saw that they are to end")
        end_threads()

    async def main() -> None:
        async with aio.serving():
            (attempt,) = attempts
            await asyncio.to_thread(attempt.over)
            assert attempt.result == 8

    assert pair.call(PLAIN, 1) == 2
    until(lambda: pair.node.statistics()["waiting"] == pair.node.statistics()["threads"], "all wait")
    monkeypatch.setattr(workers, "_end_threads", after_a_call)
    run(main())


def test_cancelled_while_it_begins_the_threads_serve_on(pair: Pair) -> None:
    held = Attempt(lambda: pair.proxy.send_request(HOLD, bk.MessageSequence(), bk.MessageSequence()))
    assert pair.service.entered.wait(WAIT)

    async def main() -> None:
        async def serve() -> None:
            async with aio.serving():
                raise AssertionError("it was cancelled before")

        serving = asyncio.create_task(serve())
        while pair.node.workers._loop is None:
            await asyncio.sleep(0)  # a turn of the loop, until the threads are told to end
        serving.cancel()
        await asyncio.sleep(0)
        pair.service.gate.set()
        with pytest.raises(asyncio.CancelledError):
            await serving
        assert await asyncio.to_thread(pair.call, PLAIN, 1) == 2

    run(main())
    assert held.over().error is None
    assert pair.call(PLAIN, 2) == 3


def test_deaths_are_told_while_a_loop_serves(pair: Pair) -> None:
    class Recipient(bk.DeathRecipient):
        def __init__(self) -> None:
            self.thread = ""

        def on_remote_died(self) -> None:
            self.thread = threading.current_thread().name

    owner = hostile.HostileOwner(pair.node)
    recipient = Recipient()
    owner.proxy.register_death_recipient(recipient)

    async def main() -> None:
        async with aio.serving():
            owner.close()
            while not recipient.thread:
                await asyncio.sleep(0)  # a turn of the loop
        assert recipient.thread == threading.current_thread().name

    run(main())


def test_a_timeout_reaches_both_sides(pair: Pair) -> None:
    async def main() -> None:
        async with aio.serving():
            with pytest.raises(bk.CallTimeoutError):
                await aio.call(pair.proxy, HANG, ints(1), timeout=0.03)
            while not pair.service.cancelled.is_set():
                await asyncio.sleep(0)  # a turn of the loop

    run(main())


def test_a_cancelled_caller_cancels_the_handler(pair: Pair) -> None:
    async def main() -> None:
        async with aio.serving():
            task = asyncio.create_task(aio.call(pair.proxy, HANG, ints(1)))
            while not pair.service.entered.is_set():
                await asyncio.sleep(0)  # a turn of the loop
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            while not pair.service.cancelled.is_set():
                await asyncio.sleep(0)  # a turn of the loop

    run(main())


def test_errors_of_coroutines_reach_the_caller(pair: Pair) -> None:
    async def main() -> None:
        async with aio.serving():
            with pytest.raises(bk.RemoteError, match="as the test wants"):
                await aio.call(pair.proxy, FAIL, ints(1))
            with pytest.raises(bk.IpcError):
                await aio.call(pair.proxy, 99, ints(1))
            assert (await aio.call(pair.proxy, PLAIN, ints(1))).read_int() == 2

    run(main())


def test_call_and_send_without_serving(pair: Pair) -> None:
    async def main() -> None:
        assert (await aio.call(pair.proxy, PLAIN, ints(1), timeout=WAIT)).read_int() == 2
        await aio.send(pair.proxy, NOTE, ints(7))
        await aio.call(pair.service, PLAIN, ints(1))  # a stub of this process, too
        await asyncio.to_thread(until, lambda: pair.service.seen == [7], "the one-way call is executed")

    run(main())
    assert local_node() is pair.node
    gc.collect()
