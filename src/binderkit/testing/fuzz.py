"""``fuzz_service``: any object against any parcel, in one line of somebody's pytest.

Owns: the rounds of a run, what counts as a failure, and what a failure says. A service is allowed to refuse whatever it
wants (any error of binderkit, or one of the application, such as ValueError); what it must not do is hang, die, take
absurd amounts of memory, or fail in a way that only a mistake in the code produces (FLAWS). A typed stub
is held to more: see typed_messages.py.

The calls go through a loopback driver, from a thread of their own, so that a handler that never returns is a failure
with a stack and not a test run that hangs.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import struct
import traceback
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from random import Random, SystemRandom
from typing import TYPE_CHECKING, Final, NoReturn

from binderkit import limits
from binderkit.errors import IpcError, ParamTypeError, ParamValueError, RemoteError
from binderkit.ipc.remote import RemoteObject
from binderkit.testing.messages import Message, RawMessages, Sample, Things
from binderkit.testing.shrink import shrunk
from binderkit.testing.target import Outcome, Target, memory_watched

if TYPE_CHECKING:
    from binderkit.interface.contract import Interface
    from binderkit.testing.typed_messages import Typed

__all__ = ["FLAWS", "FuzzReport", "fuzz_service"]

FLAWS: Final[tuple[type[BaseException], ...]] = (
    AssertionError, AttributeError, BufferError, IndexError, MemoryError, NameError, RecursionError, struct.error,
    SystemError, TypeError,
)  # fmt: skip
"""Errors that no service raises on purpose; only a mistake in its code does."""
_FLAW_NAMES: Final = frozenset(f"struct.{kind.__name__}" if kind is struct.error else kind.__name__ for kind in FLAWS)
DEFAULT_CODES: Final = tuple(range(1, 33))
DEFAULT_TIMEOUT: Final = 5.0
DEFAULT_MEMORY: Final = 64 * limits.MIB


@dataclass(frozen=True)
class FuzzReport:
    """What a run without a failure did.

    Attributes:
        seed: repeats the run.
        calls: how many calls were made: ``refused`` and ``handled`` ones.
        refused: how many raised an error that is allowed.
        handled: how many were answered.
        blind: methods of which no valid call could be made up, with the reason; give ``samples`` of them.
    """

    seed: int
    calls: int
    refused: int
    handled: int
    blind: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rules:
    """What a handler may do.

    Attributes:
        timeout: seconds for one call. memory: bytes beside what the call itself carries.
        allowed: errors that are no failure although they are FLAWS.
    """

    timeout: float
    memory: int
    allowed: tuple[type[BaseException], ...]


@dataclass(frozen=True)
class Failure:
    """What a service did not stand.

    Attributes:
        kind: the same for the same failure of another message.
        text: says it in a line; ``trace`` where.
        error: what was raised, if anything.
        repeatable: whether the service can be asked again.
    """

    kind: str
    text: str
    trace: str = ""
    error: BaseException | None = None
    repeatable: bool = True


class Judge:
    """Sends messages to a target and says whether it stood them."""

    def __init__(self, target: Target, rules: Rules, typed: Typed | None, things: Things) -> None:
        self.target = target
        self._rules = rules
        self._typed = typed
        self._things = things

    def try_out(self, message: Message) -> tuple[bool, Failure | None]:
        """Send a message; return whether it was handled, and the failure if there was one."""
        if self._typed is None:
            outcome = self.target.strike(message)
            return outcome.handled, self._failure(outcome, message)
        self._typed.begin(message.code)
        # What nobody waits for may still be on its way out of the driver.
        watched = message.has_descriptors and not message.oneway
        before = self._things.duplicates() if watched else 0
        outcome = self.target.strike(message)
        failure = self._failure(outcome, message)
        if watched and failure is None and not self._typed.entered:
            failure = self._left_open(outcome, before)
        return outcome.handled, failure

    def _left_open(self, outcome: Outcome, before: int) -> Failure | None:
        """Look for descriptors of a message that no method got, and that nobody can close any more."""
        if self._things.duplicates() <= before:
            return None
        outcome.error = None  # its frames may hold them
        gc.collect()
        left = self._things.duplicates() - before
        if left <= 0:
            return None
        return Failure("descriptors", f"the call was refused before its method, and {left} descriptors stayed open")

    def _failure(self, outcome: Outcome, message: Message) -> Failure | None:
        if outcome.hung:
            text = f"the handler had not ended after {self._rules.timeout} seconds"
            return Failure("hung", text, outcome.stack, repeatable=False)
        if outcome.died:
            return Failure("died", "its process died", repeatable=False)
        error = outcome.error if outcome.error is not None else outcome.surprise
        if error is not None and self._is_flaw(error):
            trace = "".join(traceback.format_exception(error))
            return Failure(type(error).__name__, f"the handler raised {type(error).__name__}: {error}", trace, error)
        refusal = outcome.refusal
        if message.code > limits.MAX_TRANSACTION_ID and isinstance(refusal, RemoteError):
            # Answered below the taps: the error is known by its name only.
            if refusal.type_name in _FLAW_NAMES - {kind.__name__ for kind in self._rules.allowed}:
                return Failure(refusal.type_name, f"the answer to a reserved code was {refusal}")
        if outcome.allocated > self._rules.memory + 16 * message.weight:
            text = f"the call made it allocate {outcome.allocated} bytes; {self._rules.memory} are allowed"
            return Failure("memory", text)
        return None

    def _is_flaw(self, error: BaseException) -> bool:
        """Return whether only a mistake in the code of the service raises ``error``."""
        if isinstance(error, (IpcError, *self._rules.allowed)) or isinstance(error, asyncio.CancelledError):
            return False
        if isinstance(error, FLAWS) or not isinstance(error, Exception):
            return True
        return self._typed is not None and not self._typed.entered


def fuzz_service(
    obj: RemoteObject | Interface,
    *,
    rounds: int = 1000,
    seed: int | None = None,
    codes: Iterable[int] | None = None,
    samples: Iterable[Sample] = (),
    timeout: float = DEFAULT_TIMEOUT,
    memory: int = DEFAULT_MEMORY,
    allowed: tuple[type[BaseException], ...] = (),
) -> FuzzReport:
    """Throw random and damaged parcels at an object; fail if it does not stand them.

    Args:
        obj: a RemoteObject, or an object that implements a typed interface (valid messages are then made from its
            contract).
        rounds: number of calls.
        seed: repeats a run; by default a new one each time, named by the report and by a failure.
        codes: what to call; by default all methods of a contract, 1 … 32 of any other object. Unknown codes far away
            from these are tried as well.
        samples: valid calls of an object without a contract, (code, MessageSequence or bytes), to be damaged.
        timeout: seconds a call may take.
        memory: bytes a call may allocate, beside sixteen times its own size.
        allowed: errors that are no failure, although only a mistake raises them as a rule.

    Raises:
        AssertionError: a handler hung or killed its process, raised what only a mistake raises, or allocated too much;
            with the seed, the code, and the parcel, made as short as possible.
        ParamTypeError, ParamValueError: an argument cannot be used (401).

    Example::

        def test_photos_stand_hostile_callers() -> None:
            fuzz_service(Photos())
    """
    stub: object = obj
    if not isinstance(stub, RemoteObject):
        raise ParamTypeError(f"fuzz_service takes the object itself, no proxy; got {type(obj).__name__}")
    chosen = None if codes is None else sorted(set(codes))
    if rounds < 1 or chosen == []:
        raise ParamValueError("fuzz_service needs at least one round and one code")
    number = SystemRandom().getrandbits(32) if seed is None else seed
    rules = Rules(timeout, memory, allowed)
    things = Things()
    with ExitStack() as stack:
        stack.callback(things.close)
        stack.enter_context(_quiet())
        stack.enter_context(memory_watched())
        messages, typed = _messages(stub, Random(number), chosen, samples, things)
        if typed is not None:
            stack.enter_context(typed.checked())
        target = stack.enter_context(Target.opened(stub, rules.timeout))
        return _run(Judge(target, rules, typed, things), messages, rounds, number)


def _messages(
    stub: RemoteObject, rng: Random, codes: list[int] | None, samples: Iterable[Sample], things: Things
) -> tuple[RawMessages, Typed | None]:
    if not hasattr(stub, "__contracts__"):
        return RawMessages(rng, stub.get_descriptor(), codes or DEFAULT_CODES, samples, things), None
    # Only objects with a contract need the layer of typed interfaces.
    from binderkit.testing.typed_messages import Typed, TypedMessages

    typed = Typed(stub)
    return TypedMessages(rng, typed, codes, samples, things), typed


def _run(judge: Judge, messages: RawMessages, rounds: int, seed: int) -> FuzzReport:
    handled = 0
    for done in range(rounds):
        message = messages.next()
        answered, failure = judge.try_out(message)
        if failure is not None:
            _fail(judge, message, failure, f"fuzz_service(…, seed={seed}, rounds={done + 1})")
        handled += answered
    return FuzzReport(seed, rounds, rounds - handled, handled, tuple(sorted(messages.blind)))


def _fail(judge: Judge, message: Message, failure: Failure, again: str) -> NoReturn:
    """Shorten the message as far as it goes, and tell."""
    shortest = message
    if failure.repeatable:

        def fails(candidate: Message) -> bool:
            _, other = judge.try_out(candidate)
            return other is not None and other.kind == failure.kind

        shortest = shrunk(message, fails)
    way = "one-way " if shortest.oneway else ""
    size = f"{len(shortest.body)} bytes"
    if shortest is not message:
        size += f", shortened from {len(message.body)}"
    text = (
        f"{judge.target.stub!r}: {failure.text}\n"
        f"{way}code {shortest.code}, {size}; repeat with {again}\n"
        f"{shortest}\n{failure.trace}"
    )
    raise AssertionError(text.rstrip()) from failure.error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log from telling of every refused call, which is what this is about."""
    logger = logging.getLogger("binderkit.ipc")

    def wanted(record: logging.LogRecord) -> bool:
        return not str(record.msg).startswith("the handler of")

    logger.addFilter(wanted)
    try:
        yield
    finally:
        logger.removeFilter(wanted)
