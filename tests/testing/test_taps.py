"""Taps see every call when it is sent, in order; pauses end with their call."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from binderkit.ipc.context import CallContext, current, own_identity
from binderkit.ipc.remote import HandlerResult
from binderkit.testing import Delivery, loopback
from binderkit.testing.taps import Action, Pauses
from tests.testing.services import BACK, ECHO, NOTE, Echo, ask, hand_over, note


def test_calls_are_seen_with_their_arguments_and_go_on_untouched() -> None:
    seen: list[tuple[int, str, bool]] = []

    def look(delivery: Delivery) -> None:
        text = delivery.data.read_string() if delivery.code == ECHO else ""
        seen.append((delivery.code, text, delivery.oneway))

    stub = Echo()
    with loopback() as pair, pair.to_service.tapped(look):
        remote = pair.offer(stub)
        assert ask(remote, "hello") == "hello"
        note(remote, 1)
        remote.ping()
    assert seen == [(ECHO, "hello", False), (NOTE, "", True), (0x5F504E47, "", False)]


def test_actions_wrap_each_other_the_first_tap_outermost() -> None:
    order: list[str] = []

    def named(name: str) -> Callable[[Delivery], Action]:
        def act(go_on: Callable[[], HandlerResult]) -> HandlerResult:
            order.append(f"{name} in")
            result = go_on()
            order.append(f"{name} out")
            return result

        return lambda delivery: act

    with loopback() as pair, pair.to_service.tapped(named("a")), pair.to_service.tapped(named("b")):
        ask(pair.offer(Echo()), "x")
    assert order == ["a in", "b in", "b out", "a out"]


def test_calls_back_to_the_client_have_taps_of_their_own() -> None:
    seen: list[int] = []

    def look(delivery: Delivery) -> None:
        seen.append(delivery.code)

    with loopback() as pair, pair.to_client.tapped(look):
        hand_over(pair.offer(Echo()), BACK, Echo())
    assert seen == [0x5F504E47]


def test_nothing_is_seen_after_the_block() -> None:
    seen: list[int] = []
    with loopback() as pair:
        remote = pair.offer(Echo())
        with pair.to_service.tapped(lambda delivery: seen.append(delivery.code)):
            pass
        ask(remote, "x")
    assert seen == []


def _in_call(deadline: float | None, work: Callable[[], None]) -> CallContext:
    """Run ``work`` as if in a call, on a thread of its own; return the context once it is over."""
    context = CallContext(own_identity(), None, None, 0, 0, 1, deadline, None)

    def run() -> None:
        current.set(context)
        work()

    thread = threading.Thread(target=run)
    thread.start()
    thread.join(10.0)
    assert not thread.is_alive()
    return context


def test_a_pause_ends_in_time_at_the_deadline_or_with_the_pair() -> None:
    pauses = Pauses()
    begin = time.monotonic()
    _in_call(None, lambda: pauses.pause(0.02))
    assert time.monotonic() - begin >= 0.019
    _in_call(time.monotonic() + 0.02, lambda: pauses.pause(None))
    pauses.end()
    _in_call(None, lambda: pauses.pause(None))


def test_a_pause_ends_when_the_call_is_given_up() -> None:
    pauses = Pauses()

    def work() -> None:
        context = current.get()
        assert context is not None
        canceller = threading.Timer(0.01, context.cancel)
        canceller.start()
        pauses.pause(None)
        canceller.join()

    assert _in_call(None, work).cancelled
