"""Faults on demand between the two processes of a loopback pair.

Owns: ``faults`` and what can go wrong: calls are lost, late or refused, the service dies. Each fault decides when
a call is sent, in the order of the calls, so a test sees the same thing every time; what follows from it (deadline,
DeadObjectError, death recipients) is done by the driver.

Reserved codes above 0x00FFFFFF (ping, descriptor …) are answered by the driver and are not disturbed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

from binderkit.errors import CallCancelledError, ParamTypeError, ParamValueError
from binderkit.ipc.context import current
from binderkit.ipc.remote import HandlerResult
from binderkit.testing.pair import Pair
from binderkit.testing.taps import Action, Delivery

__all__ = ["Fault", "Faults", "Which", "faults"]

Which: TypeAlias = int | Callable[[Delivery], bool] | None
"""Calls a fault concerns: a transaction code, a predicate of the call, None for all."""
GoOn: TypeAlias = Callable[[], HandlerResult]
Strike: TypeAlias = Callable[[Delivery, GoOn], HandlerResult]
"""What a fault does in the handler's place."""


class Fault:
    """A fault that is switched on.

    Attributes:
        hits: how many calls it has struck so far.
    """

    def __init__(self, which: Which, times: int | None, strike: Strike) -> None:
        if isinstance(which, bool) or not (which is None or isinstance(which, int) or callable(which)):
            raise ParamTypeError(f"a fault strikes a code, a predicate or None, got {type(which).__name__}")
        if times is not None and times < 1:
            raise ParamValueError(f"a fault strikes at least once, got times={times}; leave it out for every call")
        self.hits = 0
        self._which = which
        self._times = times
        self._strike = strike

    def __call__(self, delivery: Delivery) -> Action | None:
        """Return what happens to this call (a tap, see taps.py)."""
        if self._times is not None and self.hits >= self._times:
            return None
        if not concerns(self._which, delivery):
            return None
        self.hits += 1
        return partial(self._strike, delivery)


class _Kill(Fault):
    """Strikes once, at the ``after``-th call it concerns."""

    def __init__(self, pair: Pair, which: Which, after: int) -> None:
        if after < 1:
            raise ParamValueError(f"the service dies at the first call or later, got after={after}")
        super().__init__(which, None, self._die)
        self._pair = pair
        self._after = after
        self._seen = 0

    def __call__(self, delivery: Delivery) -> Action | None:
        if not concerns(self._which, delivery):
            return None
        self._seen += 1
        if self._seen != self._after:
            return None
        self.hits += 1
        if delivery.oneway:
            # Now and not on the worker: the calls that follow must find it dead every time.
            self._pair.kill_service()
        return partial(self._strike, delivery)

    def _die(self, delivery: Delivery, go_on: GoOn) -> HandlerResult:
        self._pair.kill_service()
        return True


def concerns(which: Which, delivery: Delivery) -> bool:
    """Return whether ``which`` means this call."""
    if which is None:
        return True
    if isinstance(which, int):
        return which == delivery.code
    return which(delivery)


class Faults:
    """The faults of one pair, each a context manager that yields its ``Fault``. Made by ``faults``.

    They strike the calls that the client sends while the block is open, and can be nested; the outer one comes first.
    """

    def __init__(self, pair: Pair) -> None:
        self._pair = pair

    def drop(self, which: Which = None, *, times: int | None = None) -> contextlib.AbstractContextManager[Fault]:
        """Lose calls: a one-way call is never executed, another one ends at its deadline.

        A call without a deadline would wait for ever; it raises CallTimeoutError at once.

        Args:
            which: a code, a predicate of the call, or None for all.
            times: strike only the first so many, None for all.
        """

        def lose(delivery: Delivery, go_on: GoOn) -> HandlerResult:
            if delivery.oneway:
                return True
            context = current.get()
            if context is not None and context.deadline is not None:
                self._pair.pauses.pause(None)
            raise CallCancelledError("a fault dropped the call")

        return self._on(Fault(which, times, lose))

    def delay(
        self, seconds: float, which: Which = None, *, times: int | None = None
    ) -> contextlib.AbstractContextManager[Fault]:
        """Make calls late: the handler starts ``seconds`` later, unless the call is given up before.

        Args:
            seconds: 0 or more.
            which, times: as for ``drop``.
        """
        if seconds < 0:
            raise ParamValueError(f"a delay is 0 seconds or more, got {seconds}")

        def late(delivery: Delivery, go_on: GoOn) -> HandlerResult:
            self._pair.pauses.pause(seconds)
            return go_on()

        return self._on(Fault(which, times, late))

    def fail(
        self, error: Exception | Callable[[], Exception], which: Which = None, *, times: int | None = None
    ) -> contextlib.AbstractContextManager[Fault]:
        """Make calls fail as if the handler had raised ``error``.

        RefusedError, QuotaError and UnknownTransactionError arrive as themselves, any other error as RemoteError with
        its type name and text. Use ``drop`` for a timeout and ``kill`` for a death.

        Args:
            error: an exception, or a class or function that makes one.
            which, times: as for ``drop``.
        """

        def refuse(delivery: Delivery, go_on: GoOn) -> HandlerResult:
            raise error.with_traceback(None) if isinstance(error, Exception) else error()

        return self._on(Fault(which, times, refuse))

    def kill(self, which: Which = None, *, after: int = 1) -> contextlib.AbstractContextManager[Fault]:
        """Have the service process die while it handles a call: the caller gets DeadObjectError, recipients are told.

        Args:
            which: as for ``drop``.
            after: it dies at the call of this number, counted from 1 in this block; that call is not executed.
        """
        return self._on(_Kill(self._pair, which, after))

    @contextlib.contextmanager
    def _on(self, fault: Fault) -> Iterator[Fault]:
        with self._pair.to_service.tapped(fault):
            yield fault


def faults(pair: Pair) -> Faults:
    """Return what can go wrong between the client and the service of ``pair``.

    Example::

        with loopback() as pair:
            photos = proxy(IPhoto, pair.offer(Photos()))
            with faults(pair).fail(RefusedError("not now"), times=2) as refused:
                upload_with_retries(photos)
            assert refused.hits == 2
    """
    return Faults(pair)
