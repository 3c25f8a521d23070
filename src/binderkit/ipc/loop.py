"""The event loop that async handlers run on when their request arrived on a thread.

Owns: the loop (one the program attached, or a background one started on
first use) and the bridge from a worker thread to it. The request's context
travels along, so IPCSkeleton tells the truth inside the coroutine.

Rules upheld: every wait has an owner who can end it: a cancelled or expired call
cancels the coroutine, and stopping the loop fails the waiting worker.
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError
from typing import Any

from binderkit.errors import CallCancelledError
from binderkit.ipc.context import CallContext

_lock = threading.Lock()
_attached: asyncio.AbstractEventLoop | None = None
_loop: asyncio.AbstractEventLoop | None = None
_thread: threading.Thread | None = None


def attach(loop: asyncio.AbstractEventLoop | None) -> None:
    """Run async handlers on ``loop`` from now on (None: on a background loop)."""
    global _attached
    with _lock:
        _attached = loop


def handler_loop() -> asyncio.AbstractEventLoop:
    """Return the loop of async handlers; start the background one if none was attached."""
    global _loop, _thread
    with _lock:
        if _attached is not None and not _attached.is_closed():
            return _attached
        if _loop is None or _loop.is_closed():
            _loop = asyncio.new_event_loop()
            _thread = threading.Thread(target=_loop.run_forever, name="binderkit-loop", daemon=True)
            _thread.start()
        return _loop


def stop() -> None:
    """End the background loop (what still runs on it is cancelled)."""
    global _loop, _thread
    with _lock:
        loop, thread = _loop, _thread
        _loop = _thread = None
    if loop is None or thread is None:
        return
    loop.call_soon_threadsafe(_cancel_all, loop)
    thread.join()
    loop.close()


def _cancel_all(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    if not tasks:
        loop.stop()
        return
    asyncio.gather(*tasks, return_exceptions=True).add_done_callback(lambda _: loop.stop())


async def _awaiting(awaitable: Awaitable[Any]) -> Any:
    return await awaitable


def _as_coroutine(awaitable: Awaitable[Any]) -> Coroutine[Any, Any, Any]:
    """Return a coroutine that a task can run.

    A coroutine as it is: a task cancelled before its first step ends it, but not one that is inside another.
    """
    return awaitable if isinstance(awaitable, Coroutine) else _awaiting(awaitable)


def _cancel(loop: asyncio.AbstractEventLoop, task: asyncio.Task[Any]) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(task.cancel)


def start(awaitable: Awaitable[Any], context: CallContext, done: Callable[[Any, BaseException | None], None]) -> None:
    """Run ``awaitable`` on the handler loop, in the current call context; no thread waits.

    ``done(result, error)`` is called on the loop's thread when it ended. A call that is given up or
    whose deadline passes cancels it; ``error`` is a CallCancelledError then.
    """
    loop = handler_loop()

    def finished(task: asyncio.Task[Any]) -> None:
        context.on_cancel(None)
        if task.cancelled():
            done(None, CallCancelledError("the caller gave up or its deadline passed; the coroutine was cancelled"))
            return
        error = task.exception()
        done(None if error is not None else task.result(), error)

    def begin() -> None:
        task = loop.create_task(_as_coroutine(awaitable))
        context.on_cancel(lambda: _cancel(loop, task))
        remaining = context.remaining()
        if remaining is not None:
            timer = loop.call_later(remaining, task.cancel)
            task.add_done_callback(lambda _: timer.cancel())
        task.add_done_callback(finished)

    if asyncio._get_running_loop() is loop:
        begin()
    else:
        loop.call_soon_threadsafe(begin)


def run(awaitable: Awaitable[Any], context: CallContext | None) -> Any:
    """Run ``awaitable`` on the handler loop and wait for it on this thread.

    Raises:
        CallCancelledError: the caller gave up, or its deadline passed; the coroutine was cancelled.
    """
    future = asyncio.run_coroutine_threadsafe(_as_coroutine(awaitable), handler_loop())
    if context is None:
        return future.result()
    context.on_cancel(future.cancel)
    try:
        return future.result(context.remaining())
    except TimeoutError:
        if not context.cancelled or (future.done() and not future.cancelled()):
            raise
        future.cancel()
        raise CallCancelledError("the deadline of the call passed; its coroutine was cancelled") from None
    except CancelledError:
        raise CallCancelledError("the caller gave up; the coroutine of its call was cancelled") from None
    finally:
        context.on_cancel(None)


def _after_fork() -> None:
    """A forked child has no loop thread; it starts its own when needed."""
    global _attached, _loop, _thread, _lock
    _lock = threading.Lock()
    _attached = _loop = _thread = None


os.register_at_fork(after_in_child=_after_fork)
