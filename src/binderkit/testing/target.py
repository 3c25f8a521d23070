"""The object under fire: how one message is sent to it, and what is seen of its handler.

Owns: the pair the calls go through, the thread that makes them, and the watch over handlers. A handler is watched
from inside the driver (taps.py), so an exception is seen with its frames, and one-way calls and coroutines are seen
to end.
"""

from __future__ import annotations

import resource
import sys
import threading
import time
import traceback
import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from queue import SimpleQueue
from typing import Final

from binderkit.driver.loopback import LoopbackNetwork
from binderkit.errors import CallTimeoutError, IpcError
from binderkit.ipc import loop as handler_loop
from binderkit.ipc.option import MessageOption
from binderkit.ipc.remote import HandlerResult, RemoteObject
from binderkit.limits import MIB
from binderkit.parcel import MessageSequence
from binderkit.testing.messages import Message
from binderkit.testing.pair import Pair
from binderkit.testing.taps import Action, Delivery

__all__ = ["Outcome", "Target", "memory_watched"]

HEADROOM: Final = 2048 * MIB
"""Bytes of address space the whole process may grow by during a run."""
GRACE: Final = 1.0
"""Seconds beyond its deadline a handler gets to notice that its call was given up."""


@dataclass
class Outcome:
    """What was seen of one call.

    Attributes:
        handled: whether it was answered. refusal: what the caller got instead.
        error: what the handler raised.
        surprise: something the driver should never raise.
        hung: whether the handler was still running when its time was up; ``stack`` says where.
        died: whether the process of the object ended.
        allocated: bytes that were allocated meanwhile, at the worst moment.
    """

    handled: bool = False
    refusal: IpcError | None = None
    error: BaseException | None = None
    surprise: BaseException | None = None
    hung: bool = False
    stack: str = ""
    died: bool = False
    allocated: int = 0
    thread: int | None = None
    over: threading.Event = field(default_factory=threading.Event)


class Target:
    """An object behind a loopback pair. Made by ``opened``."""

    def __init__(self, pair: Pair, stub: RemoteObject, timeout: float) -> None:
        self.stub = stub
        self._pair = pair
        self._remote = pair.offer(stub)
        self._timeout = timeout
        self._outcome = Outcome()
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._serve, name="binderkit-fuzz", daemon=True)

    @classmethod
    @contextmanager
    def opened(cls, stub: RemoteObject, timeout: float) -> Iterator[Target]:
        """Let ``stub`` live in a process of its own for a ``with`` block. What it keeps at the end is its business."""
        had_loop = handler_loop._loop is not None
        with LoopbackNetwork() as network:
            pair = Pair(network)
            target = cls(pair, stub, timeout)
            try:
                with pair.to_service.tapped(target._tap):
                    target._thread.start()
                    yield target
            finally:
                target._jobs.put(None)
                pair.close()
                if not target._outcome.hung:  # a thread in a handler that never returns is given up
                    target._thread.join()
        if not had_loop:
            handler_loop.stop()

    def strike(self, message: Message) -> Outcome:
        """Send ``message`` and wait until its handler has ended, or its time is up."""
        outcome = self._outcome = Outcome()
        tracemalloc.reset_peak()
        before = tracemalloc.get_traced_memory()[0]
        begin = time.monotonic()
        self._jobs.put(partial(self._send, message, outcome))
        if not outcome.over.wait(self._timeout + GRACE):
            self._give_up(outcome)
        elif isinstance(outcome.refusal, CallTimeoutError) and time.monotonic() - begin >= self._timeout:
            outcome.hung = True
        outcome.died = self._pair.service.dead and not outcome.hung
        outcome.allocated = tracemalloc.get_traced_memory()[1] - before
        return outcome

    def _give_up(self, outcome: Outcome) -> None:
        """Note where the handler is; its call is cancelled."""
        outcome.hung = True
        frames = sys._current_frames()
        thread = self._thread.ident if outcome.thread is None else outcome.thread
        if thread in frames:
            outcome.stack = "".join(traceback.format_stack(frames[thread]))
        self._pair.kill_service()

    # --- on the calling thread -----------------------------------------------------------------------

    def _serve(self) -> None:
        while (job := self._jobs.get()) is not None:
            job()

    def _send(self, message: Message, outcome: Outcome) -> None:
        option = MessageOption(message.oneway, timeout=self._timeout)
        waits = not message.oneway
        try:
            with message.sequence() as data, MessageSequence() as reply:
                self._remote.send_request(message.code, data, reply, option)
                if waits:
                    outcome.handled = True
        except IpcError as refusal:
            outcome.refusal = refusal.with_traceback(None)
            waits = True
        except BaseException as surprise:
            # Told by the run: a handler's SystemExit must not end this thread in silence.
            outcome.surprise = surprise
            waits = True
        if waits:
            outcome.over.set()

    # --- in the handler's place -----------------------------------------------------------------------

    def _tap(self, delivery: Delivery) -> Action:
        return partial(self._watch, self._outcome, delivery.oneway)

    @staticmethod
    def _watch(outcome: Outcome, oneway: bool, go_on: Callable[[], HandlerResult]) -> HandlerResult:
        outcome.thread = threading.get_ident()
        try:
            result = go_on()
        except BaseException as error:
            outcome.error = error
            _ended(outcome, oneway, False)
            raise
        if isinstance(result, Awaitable):
            return _watch_coroutine(outcome, oneway, result)
        _ended(outcome, oneway, result)
        return result


async def _watch_coroutine(outcome: Outcome, oneway: bool, handler: Awaitable[bool]) -> bool:
    try:
        result = await handler
    except BaseException as error:
        outcome.error = error
        _ended(outcome, oneway, False)
        raise
    _ended(outcome, oneway, result)
    return result


def _ended(outcome: Outcome, oneway: bool, handled: bool) -> None:
    """The handler is done; with a one-way call that is all there will be."""
    if oneway:
        outcome.handled = handled
        outcome.over.set()


@contextmanager
def memory_watched() -> Iterator[None]:
    """Have allocations counted in a ``with`` block; gigabytes are refused, which would end the whole test run."""
    started = not tracemalloc.is_tracing()
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = pages * resource.getpagesize() + HEADROOM
    known = [limit for limit in (soft, hard, most) if limit != resource.RLIM_INFINITY]
    if started:
        tracemalloc.start()
    resource.setrlimit(resource.RLIMIT_AS, (min(known), hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
        if started:
            tracemalloc.stop()
