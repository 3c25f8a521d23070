"""What is seen of one message's handler."""

from __future__ import annotations

import threading
import tracemalloc
from collections.abc import Iterator
from typing import Any

import pytest

import binderkit as bk
from binderkit.testing.messages import Message
from binderkit.testing.target import Outcome, Target, memory_watched
from tests.testing.services import ECHO, NOTE, Echo, Sleeper

HELLO = Message(ECHO, b"\2\0\0\0h\0i\0\0\0\0\0")


@pytest.fixture(autouse=True)
def watched() -> Iterator[None]:
    """Count allocations."""
    with memory_watched():
        yield


def strike(stub: bk.RemoteObject, *messages: Message, timeout: float = 5.0) -> list[Outcome]:
    """Send messages to one target."""
    with Target.opened(stub, timeout) as target:
        return [target.strike(message) for message in messages]


def test_handled_and_refused() -> None:
    handled, short, unknown = strike(Echo(), HELLO, Message(ECHO, b""), Message(99, b""))
    assert (handled.handled, handled.refusal, handled.error) == (True, None, None)
    assert (short.handled, type(short.error)) == (False, bk.errors.ParcelReadError)
    assert (unknown.handled, type(unknown.refusal), unknown.error) == (False, bk.RemoteError, None)
    assert not any(outcome.hung or outcome.died or outcome.surprise for outcome in (handled, short, unknown))


def test_a_oneway_call_is_waited_for() -> None:
    stub = Echo()
    with Target.opened(stub, 5.0) as target:
        assert target.strike(Message(NOTE, b"\7\0\0\0", oneway=True)).handled
        assert stub.notes == [7]
        failed = target.strike(Message(NOTE, b"", oneway=True))
        assert (failed.handled, type(failed.error)) == (False, bk.errors.ParcelReadError)


def test_coroutines_are_waited_for() -> None:
    (answered, oneway) = strike(Sleeper(), HELLO, Message(ECHO, HELLO.body, oneway=True))
    assert (answered.handled, oneway.handled) == (True, True)


def test_a_coroutine_that_never_ends_hangs() -> None:
    (outcome,) = strike(Sleeper(), Message(2, b""), timeout=0.05)
    assert outcome.hung
    assert not outcome.died


def test_allocations_are_seen_even_if_they_are_given_back() -> None:
    class Greedy(Echo):
        def on_remote_message_request(
            self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
        ) -> Any:
            return len(bytes(10_000_000)) > 0

    greedy, modest = strike(Greedy(), HELLO)[0], strike(Echo(), HELLO)[0]
    assert greedy.allocated >= 10_000_000
    assert modest.allocated < 100_000


def test_no_thread_is_left() -> None:
    before = set(threading.enumerate())
    strike(Echo(), HELLO)
    assert set(threading.enumerate()) <= before


def test_tracing_that_was_on_stays_on() -> None:
    assert tracemalloc.is_tracing()
    with memory_watched():
        pass
    assert tracemalloc.is_tracing()
