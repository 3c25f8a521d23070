"""Handlers on an event loop: where they run, what comes back, and that none is lost when the loop stops serving."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import binderkit as bk
from binderkit.driver.kernel.nodes import OwnNodes
from binderkit.driver.kernel.on_loop import LoopHandlers
from binderkit.errors import CallCancelledError
from binderkit.ipc import loop as handler_loop
from binderkit.ipc.context import CallContext, Caller, calling_identity, current

WAIT = 20.0


def call(handler: Any, context: CallContext | None = None) -> Any:
    """Call a handler as a thread does that read a request."""
    token = current.set(context or CallContext(Caller(7, 8, 9), None, None, 0, 0, 1, None, None))
    try:
        return handler(1, bk.MessageSequence(), bk.MessageSequence(), bk.MessageOption())
    finally:
        current.reset(token)


def serve(handler: Any, use: Callable[[Any], Any], waits: list[str] | None = None) -> Any:
    """Call ``use(wrapped handler)`` on another thread while a loop serves; return what that returns."""

    @contextlib.contextmanager
    def outgoing() -> Any:
        if waits is not None:
            waits.append(threading.current_thread().name)
        yield

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        handlers = LoopHandlers(loop, outgoing)
        handler_loop.attach(loop)
        try:
            return await asyncio.wait_for(asyncio.to_thread(use, handlers.wrap(handler)), WAIT)
        finally:
            handler_loop.attach(None)
            handlers.close()

    return asyncio.run(main())


def test_a_plain_handler_runs_on_the_loop_as_its_caller() -> None:
    seen: list[Any] = []
    waits: list[str] = []

    def handler(*_: Any) -> bool:
        seen.append((threading.current_thread(), calling_identity().pid, asyncio.get_running_loop().is_running()))
        return True

    assert serve(handler, call, waits) is True
    assert seen == [(threading.main_thread(), 7, True)]
    assert len(waits) == 1 and waits[0] != threading.main_thread().name, "the reader did not count meanwhile"


def test_a_coroutine_runs_on_the_loop_to_its_end() -> None:
    async def later() -> bool:
        await asyncio.sleep(0)
        return calling_identity().pid == 7

    assert serve(lambda *_: later(), call) is True


def test_what_a_handler_raises_comes_back() -> None:
    async def fails() -> bool:
        await asyncio.sleep(0)
        raise LookupError("later")

    def fail(*_: Any) -> bool:
        raise ValueError("at once")

    for handler, error in ((fail, ValueError), (lambda *_: fails(), LookupError)):
        with pytest.raises(error):
            serve(handler, call)


def test_a_call_that_is_given_up_cancels_its_coroutine() -> None:
    begun = threading.Event()

    async def hangs() -> bool:
        begun.set()
        await asyncio.get_running_loop().create_future()
        return True

    def use(handler: Any) -> None:
        context = CallContext(Caller(7, 8, 9), None, None, 0, 0, 1, None, None)

        def give_up() -> None:
            begun.wait(WAIT)
            context.cancel()

        giver = threading.Thread(target=give_up)
        giver.start()
        try:
            call(handler, context)
        finally:
            giver.join()

    with pytest.raises(CallCancelledError):
        serve(lambda *_: hangs(), use)


def test_a_call_back_to_the_loop_that_waits_runs_there_at_once() -> None:
    async def later() -> bool:
        return True

    async def main() -> None:
        handlers = LoopHandlers(asyncio.get_running_loop(), contextlib.nullcontext)
        assert call(handlers.wrap(lambda *_: True)) is True
        with pytest.raises(bk.IpcError, match="await that call instead"):
            call(handlers.wrap(lambda *_: later()))
        handlers.close()

    asyncio.run(main())


def test_what_the_loop_has_not_begun_runs_where_it_was_read() -> None:
    """The loop is busy when the request comes, and stops serving before it gets to it."""
    handed = threading.Event()

    @contextlib.contextmanager
    def outgoing() -> Any:
        handed.set()
        yield

    async def main() -> list[threading.Thread]:
        handlers = LoopHandlers(asyncio.get_running_loop(), outgoing)
        ran: list[threading.Thread] = []

        def handler(*_: Any) -> bool:
            ran.append(threading.current_thread())
            return True

        wrapped = handlers.wrap(handler)
        reader = threading.Thread(target=call, args=(wrapped,))
        reader.start()
        handed.wait(WAIT)
        handlers.close()
        reader.join(WAIT)
        assert ran == [reader]
        second = threading.Thread(target=call, args=(wrapped,))
        second.start()
        second.join(WAIT)
        assert not handlers.submit(lambda: None)
        return ran

    assert len(asyncio.run(main())) == 2


def test_a_loop_that_was_closed_while_it_served_loses_nothing() -> None:
    loop = asyncio.new_event_loop()
    handlers = LoopHandlers(loop, contextlib.nullcontext)
    loop.close()
    ran: list[threading.Thread] = []

    def handler(*_: Any) -> bool:
        ran.append(threading.current_thread())
        return True

    wrapped = handlers.wrap(handler)
    reader = threading.Thread(target=call, args=(wrapped,))
    reader.start()
    reader.join(WAIT)
    assert ran == [reader] and not handlers.submit(lambda: None)


def test_tasks_run_on_the_loop_and_do_not_harm_it(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        ran: asyncio.Queue[threading.Thread] = asyncio.Queue()
        handlers = LoopHandlers(asyncio.get_running_loop(), contextlib.nullcontext)
        assert handlers.submit(lambda: 1 / 0)  # type: ignore[arg-type]
        assert handlers.submit(lambda: ran.put_nowait(threading.current_thread()))
        assert await asyncio.wait_for(ran.get(), WAIT) is threading.main_thread()
        handlers.close()

    asyncio.run(main())
    assert "a task on the event loop raised" in caplog.text


def test_wrapped_are_the_handlers_of_objects_that_are_there_and_of_later_ones() -> None:
    class Stub(bk.RemoteObject):
        def on_remote_message_request(self, *_: Any) -> bool | Awaitable[bool]:
            return False

    nodes = OwnNodes()
    first = nodes.send(Stub("tests.IOne"))
    nodes.wrap_handlers(lambda handler: lambda *arguments: not handler(*arguments))
    second = nodes.send(Stub("tests.ITwo"))
    assert call(first.handler) is True and call(second.handler) is True
    nodes.wrap_handlers(None)
    assert call(first.handler) is False and call(second.handler) is False
