"""Handlers on an event loop, while threads read the device.

Owns: the way of a request from the thread that read it to the loop, and of its outcome back. Why the loop does not read
the device itself, as it reads sockets: the kernel takes an answer from the thread alone that read the call, and gives
a thread that owes one no other call. A loop that read calls would stand still with the first coroutine that waits. So
the reader hands the handler over and waits; it does not count as busy meanwhile (limits.HARD_THREADS calls can be in
coroutines at once, then the next ones wait in the kernel).

Rules upheld: handlers run on the loop's thread, and those of one-way calls of one object in order; a call that comes
back to the loop's thread while that waits in a call of its own runs there at once (Re-entrancy); when the loop stops
serving, what it has not begun runs on the thread that read it: no call is lost.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import threading
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

from binderkit.errors import IpcError
from binderkit.ipc import loop as handler_loop
from binderkit.ipc.context import current

if TYPE_CHECKING:
    from binderkit.ipc.option import MessageOption
    from binderkit.ipc.remote import Handler, HandlerResult
    from binderkit.parcel import MessageSequence

_log = logging.getLogger("binderkit.driver")


class LoopHandlers:
    """The handlers of one process, run on ``loop``; made on its thread.

    Args:
        outgoing: returns a context in which the calling thread waits and does not count as busy.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, outgoing: Callable[[], AbstractContextManager[None]]) -> None:
        self._loop = loop
        self._outgoing = outgoing
        self._thread = threading.get_ident()
        self._lock = threading.Lock()
        self._waiting: set[Future[Any]] | None = set()

    def wrap(self, handler: Handler) -> Handler:
        """Return what a thread that read a request calls in place of ``handler``."""

        def handed_over(
            code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
        ) -> HandlerResult:
            if threading.get_ident() == self._thread:
                return _at_once(handler(code, data, reply, option))
            return self._on_loop(lambda: handler(code, data, reply, option))

        return handed_over

    def submit(self, task: Callable[[], None]) -> bool:
        """Run a death recipient or a listener on the loop; False when the loop serves no more."""

        def run() -> None:
            try:
                task()
            except Exception:
                _log.exception("a task on the event loop raised")

        with self._lock:
            return self._waiting is not None and self._soon(run, contextvars.Context())

    def close(self) -> None:
        """Hand nothing over any more; what has not begun goes back to the threads that wait for it."""
        with self._lock:
            waiting, self._waiting = self._waiting, None
        for outcome in waiting or ():
            outcome.cancel()

    def _on_loop(self, call: Callable[[], HandlerResult]) -> HandlerResult:
        """Have ``call`` run on the loop, in the context of this thread, and wait for its end."""
        outcome: Future[bool] = Future()
        if not self._begin(call, outcome):
            return call()
        try:
            with self._outgoing():
                return outcome.result()
        except CancelledError:
            if not outcome.cancelled():
                raise
        finally:
            with self._lock:
                if self._waiting is not None:
                    self._waiting.discard(outcome)
        return call()

    def _begin(self, call: Callable[[], HandlerResult], outcome: Future[Any]) -> bool:
        with self._lock:
            if self._waiting is None or not self._soon(lambda: _run(call, outcome), contextvars.copy_context()):
                return False
            self._waiting.add(outcome)
        return True

    def _soon(self, callback: Callable[[], None], context: contextvars.Context) -> bool:
        """Have the loop call something; False when it was closed inside its own serving()."""
        if self._loop.is_closed():
            return False
        try:
            self._loop.call_soon_threadsafe(callback, context=context)
        except RuntimeError:  # closed between the look and the call
            return False
        return True


def _run(call: Callable[[], HandlerResult], outcome: Future[Any]) -> None:
    """On the loop: run a handler to its end, also one that is a coroutine."""
    if not outcome.set_running_or_notify_cancel():
        return
    try:
        result = call()
    except BaseException as error:
        outcome.set_exception(error)
        if not isinstance(error, Exception):
            raise  # an interrupt of the program's own loop
        return
    if not isinstance(result, Awaitable):
        outcome.set_result(result)
        return
    context = current.get()
    assert context is not None

    def done(value: Any, error: BaseException | None) -> None:
        if error is None:
            outcome.set_result(value)
        else:
            outcome.set_exception(error)

    handler_loop.start(result, context, done)


def _at_once(result: HandlerResult) -> HandlerResult:
    """Return the outcome of a handler that was called back while the loop's thread waits in a call of its own.

    Raises:
        IpcError: it is a coroutine, which could only go on after the call that waits for it.
    """
    if not isinstance(result, Awaitable):
        return result
    if isinstance(result, Coroutine):
        result.close()
    raise IpcError(
        "a coroutine handler was called back while its event loop waits in a blocking call; await that call instead"
    )
