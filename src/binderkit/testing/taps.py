"""A loopback connection that can be listened to and tampered with: what faults and fuzzing are built on.

Owns: ``TappedLink`` and how a tap sees a call. A tap decides when the call is sent, on the caller's thread, so that
counting is deterministic even for one-way calls; what it decided runs where the handler would, inside the driver's
own call. So deadlines, cancellation, death and the translation of errors are the driver's, never imitated here.

Codes above limits.MAX_TRANSACTION_ID (ping, descriptor …) are answered below the handler and pass untouched.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from binderkit.driver.loopback import Link, LoopbackProcess
from binderkit.driver.loopback_calls import Request
from binderkit.driver.tables import Held
from binderkit.ipc.context import CallContext, current
from binderkit.ipc.option import MessageOption
from binderkit.ipc.remote import HandlerResult
from binderkit.parcel import MessageSequence

__all__ = ["Action", "Delivery", "Pauses", "Tap", "TappedLink"]

Action: TypeAlias = Callable[[Callable[[], HandlerResult]], HandlerResult]
"""action(go_on) runs in the handler's place; ``go_on()`` runs the next action, or the handler."""


@dataclass(frozen=True)
class Delivery:
    """A call on its way.

    Attributes:
        code: its transaction code.
        data: the arguments as the caller wrote them, readable from the start.
        oneway: whether nobody waits for it.
    """

    code: int
    data: MessageSequence
    oneway: bool


Tap: TypeAlias = Callable[[Delivery], Action | None]
"""Called when a call is sent; returns what to do in the handler's place, None to leave the call alone."""


class TappedLink(Link):
    """The connection from one loopback process to another, with taps; the first tap is the outermost."""

    def __init__(self, origin: LoopbackProcess, target: LoopbackProcess) -> None:
        super().__init__(origin, target)
        self.taps: list[Tap] = []
        self._sending = threading.local()

    @contextlib.contextmanager
    def tapped(self, tap: Tap) -> Iterator[None]:
        """Show the calls that are sent in a ``with`` block to ``tap``."""
        self.taps.append(tap)
        try:
            yield
        finally:
            self.taps.remove(tap)

    def _request(
        self, handle: int, code: int, data: MessageSequence, deadline: float | None, context: CallContext | None
    ) -> Request:
        with self._armed(code, data, oneway=False):
            return super()._request(handle, code, data, deadline, context)

    def _send_oneway(self, handle: int, code: int, data: MessageSequence, context: CallContext | None) -> int:
        with self._armed(code, data, oneway=True):
            return super()._send_oneway(handle, code, data, context)

    @contextlib.contextmanager
    def _armed(self, code: int, data: MessageSequence, *, oneway: bool) -> Iterator[None]:
        """Ask the taps what to do with the call that this thread sends now."""
        actions = [tap(_delivery(code, data, oneway)) for tap in tuple(self.taps)]
        self._sending.actions = [action for action in actions if action is not None]
        try:
            yield
        finally:
            self._sending.actions = []

    def _held(self, handle: int) -> Held:
        held = super()._held(handle)
        actions = self._sending.actions
        return _TappedHeld(held, actions) if actions else held


class _TappedHeld(Held):
    """An object for one call: its handler runs behind the actions."""

    __slots__ = ()

    def __init__(self, held: Held, actions: list[Action]) -> None:
        self.export = held.export
        self.stub = held.stub
        self.count = held.count
        handler = held.handler

        def behind_actions(
            code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
        ) -> HandlerResult:
            go_on: Callable[[], HandlerResult] = partial(handler, code, data, reply, option)
            for action in reversed(actions):
                go_on = partial(action, go_on)
            return go_on()

        self.handler = behind_actions


def _delivery(code: int, data: MessageSequence, oneway: bool) -> Delivery:
    """Return the call with a sequence of its own, so that reading it does not move the caller's position."""
    copy = MessageSequence()
    copy._in = data._readable()
    copy._out = None
    copy._objects = data._objects
    return Delivery(code, copy, oneway)


class Pauses:
    """Waits in the handler's place; each ends with its call, its deadline, or the pair."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: set[threading.Event] = set()
        self._ended = False

    def pause(self, seconds: float | None) -> None:
        """Wait ``seconds`` (None: for as long as the caller waits); less if the call is given up before."""
        context = current.get()
        assert context is not None, "a pause belongs to a call"
        left = context.remaining()
        limits = [limit for limit in (seconds, left) if limit is not None]
        over = threading.Event()
        with self._lock:
            if self._ended:
                return
            self._waiting.add(over)
        context.on_cancel(over.set)
        try:
            over.wait(min(limits) if limits else None)
        finally:
            context.on_cancel(None)
            with self._lock:
                self._waiting.discard(over)

    def end(self) -> None:
        """End all pauses, those that begin later included."""
        with self._lock:
            self._ended = True
            for over in self._waiting:
                over.set()
