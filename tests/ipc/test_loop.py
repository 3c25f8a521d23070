"""The event loop of async handlers: where they run, how they end, who is told."""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from binderkit.errors import CallCancelledError
from binderkit.ipc import loop as handler_loop
from binderkit.ipc.context import CallContext, current, own_identity

WAIT = 10.0


def context(deadline: float | None = None) -> CallContext:
    return CallContext(own_identity(), None, None, threading.get_ident(), 1, 1, deadline, None)


class Outcome:
    """What ``start`` reports, once."""

    def __init__(self) -> None:
        self._told = threading.Event()
        self.results: list[tuple[Any, BaseException | None, str]] = []

    def __call__(self, result: Any, error: BaseException | None) -> None:
        self.results.append((result, error, threading.current_thread().name))
        self._told.set()

    def wait(self) -> tuple[Any, BaseException | None, str]:
        assert self._told.wait(WAIT), "nothing was reported"
        (only,) = self.results
        return only


class Hanging:
    """A coroutine that never ends by itself."""

    def __init__(self) -> None:
        self.begun = threading.Event()
        self.cancelled = threading.Event()

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await asyncio.get_running_loop().create_future()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise


async def thread_and_context() -> tuple[str, CallContext | None]:
    return threading.current_thread().name, current.get()


async def fail() -> None:
    raise ValueError("as the test wants")


def test_the_background_loop_is_started_once_and_ends_with_stop() -> None:
    first = handler_loop.handler_loop()
    assert handler_loop.handler_loop() is first
    assert [thread.name for thread in threading.enumerate()].count("binderkit-loop") == 1
    handler_loop.stop()
    assert first.is_closed()
    assert "binderkit-loop" not in [thread.name for thread in threading.enumerate()]
    second = handler_loop.handler_loop()
    assert second is not first
    assert not second.is_closed()
    handler_loop.stop()
    handler_loop.stop()


def test_an_attached_loop_takes_its_place_until_it_is_closed() -> None:
    loop = asyncio.new_event_loop()
    handler_loop.attach(loop)
    try:
        assert handler_loop.handler_loop() is loop
        loop.close()
        assert handler_loop.handler_loop() is not loop
    finally:
        handler_loop.attach(None)
        loop.close()


def test_start_runs_on_the_loop_and_reports_there() -> None:
    outcome = Outcome()
    here = context()
    token = current.set(here)
    try:
        handler_loop.start(thread_and_context(), here, outcome)
    finally:
        current.reset(token)
    (name, seen), error, told_on = outcome.wait()
    assert (name, error, told_on) == ("binderkit-loop", None, "binderkit-loop")
    assert seen is here, "the call's context travels along"


def test_an_awaitable_that_is_no_coroutine() -> None:
    outcome = Outcome()
    future: asyncio.Future[int] = handler_loop.handler_loop().create_future()
    handler_loop.start(future, context(), outcome)
    handler_loop.handler_loop().call_soon_threadsafe(future.set_result, 5)
    assert outcome.wait()[:2] == (5, None)


def test_an_exception_is_reported() -> None:
    outcome = Outcome()
    handler_loop.start(fail(), context(), outcome)
    result, error, _ = outcome.wait()
    assert result is None
    assert isinstance(error, ValueError)


def test_a_call_that_is_given_up_cancels_its_coroutine() -> None:
    outcome, hanging, call = Outcome(), Hanging(), context()
    handler_loop.start(hanging(), call, outcome)
    assert hanging.begun.wait(WAIT)
    call.cancel()
    assert isinstance(outcome.wait()[1], CallCancelledError)
    assert hanging.cancelled.is_set()


def test_a_call_given_up_before_its_coroutine_began() -> None:
    outcome, hanging, call = Outcome(), Hanging(), context()
    call.cancel()
    handler_loop.start(hanging(), call, outcome)
    assert isinstance(outcome.wait()[1], CallCancelledError)


def test_the_deadline_cancels_the_coroutine() -> None:
    outcome, hanging = Outcome(), Hanging()
    begin = time.monotonic()
    handler_loop.start(hanging(), context(begin + 0.05), outcome)
    assert isinstance(outcome.wait()[1], CallCancelledError)
    assert time.monotonic() - begin >= 0.04
    assert hanging.cancelled.is_set()


def test_stop_cancels_what_still_runs() -> None:
    outcome, hanging = Outcome(), Hanging()
    handler_loop.start(hanging(), context(), outcome)
    assert hanging.begun.wait(WAIT)
    handler_loop.stop()
    assert hanging.cancelled.is_set()
    assert isinstance(outcome.wait()[1], CallCancelledError)


def test_a_coroutine_cancelled_before_its_first_step_is_ended() -> None:
    outcome, gate = Outcome(), threading.Event()
    loop = handler_loop.handler_loop()
    coroutine = fail()
    loop.call_soon_threadsafe(gate.wait, WAIT)
    handler_loop.start(coroutine, context(), outcome)
    loop.call_soon_threadsafe(lambda: [task.cancel() for task in asyncio.all_tasks(loop)])
    gate.set()
    assert isinstance(outcome.wait()[1], CallCancelledError)
    assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED


def test_a_call_given_up_after_the_loop_was_closed_is_no_error() -> None:
    loop = asyncio.new_event_loop()
    handler_loop.attach(loop)
    call, hanging = context(), Hanging()

    async def until_begun() -> None:
        while not hanging.begun.is_set():
            await asyncio.sleep(0)  # a turn of the loop

    try:
        handler_loop.start(hanging(), call, Outcome())
        loop.run_until_complete(until_begun())
        tasks = asyncio.all_tasks(loop)
        assert len(tasks) == 1
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
    finally:
        handler_loop.attach(None)
        loop.close()
    call.cancel()
    assert call.cancelled


def test_on_the_loops_own_thread_it_starts_without_a_detour() -> None:
    outcome = Outcome()

    async def main() -> None:
        handler_loop.attach(asyncio.get_running_loop())
        try:
            handler_loop.start(thread_and_context(), context(), outcome)
            while not outcome.results:
                await asyncio.sleep(0)  # a turn of the loop
        finally:
            handler_loop.attach(None)

    asyncio.run(asyncio.wait_for(main(), WAIT))
    assert outcome.wait()[2] == threading.current_thread().name


# --- run: for a thread that waits ---------------------------------------------------------------------------


def on_thread(action: Callable[[], Any]) -> Callable[[], Any]:
    """Start ``action`` on a thread; return a function that waits for what it raised or returned."""
    ends: list[Any] = []

    def work() -> None:
        try:
            ends.append(action())
        except BaseException as error:
            ends.append(error)

    thread = threading.Thread(target=work)
    thread.start()

    def over() -> Any:
        thread.join(WAIT)
        assert not thread.is_alive(), "the wait hangs"
        return ends[0]

    return over


def test_run_returns_the_result_or_raises() -> None:
    assert handler_loop.run(thread_and_context(), None)[0] == "binderkit-loop"
    assert handler_loop.run(thread_and_context(), context())[0] == "binderkit-loop"
    with pytest.raises(ValueError, match="as the test wants"):
        handler_loop.run(fail(), context())


def test_run_ends_when_the_call_is_given_up() -> None:
    hanging, call = Hanging(), context()
    over = on_thread(lambda: handler_loop.run(hanging(), call))
    assert hanging.begun.wait(WAIT)
    call.cancel()
    assert isinstance(over(), CallCancelledError)
    assert hanging.cancelled.wait(WAIT)


def test_run_ends_at_the_deadline() -> None:
    hanging = Hanging()
    with pytest.raises(CallCancelledError, match="deadline"):
        handler_loop.run(hanging(), context(time.monotonic() + 0.03))
    assert hanging.cancelled.wait(WAIT)


def test_a_timeout_of_the_handlers_own_is_its_error() -> None:
    async def times_out() -> None:
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        handler_loop.run(times_out(), context(time.monotonic() + WAIT))


def test_run_ends_when_the_loop_is_stopped() -> None:
    hanging = Hanging()
    over = on_thread(lambda: handler_loop.run(hanging(), context()))
    assert hanging.begun.wait(WAIT)
    handler_loop.stop()
    assert isinstance(over(), CallCancelledError)


def test_a_forked_child_starts_its_own() -> None:
    handler_loop.handler_loop()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            code = 0 if handler_loop.run(thread_and_context(), None)[0] == "binderkit-loop" else 2
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
