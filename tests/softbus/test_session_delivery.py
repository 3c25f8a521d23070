"""session_delivery.py: in order, one at a time, bounded, and messages that are taken late."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from queue import SimpleQueue

import pytest

from binderkit import limits
from binderkit.softbus.session_delivery import Deliveries


@pytest.fixture
def deliveries() -> Iterator[Deliveries]:
    made = Deliveries("softbus-test")
    yield made
    made.close()
    made.join()


class _Gate:
    """A call that begins and then waits for the test."""

    def __init__(self) -> None:
        self.begun, self.go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.begun.set()
        assert self.go.wait(10)


def test_calls_come_in_order_on_one_thread(deliveries: Deliveries) -> None:
    seen: SimpleQueue[tuple[int, int]] = SimpleQueue()
    for number in range(200):
        deliveries.put(1, lambda number=number: seen.put((number, threading.get_ident())))  # type: ignore[misc]
    got = [seen.get(timeout=5) for _ in range(200)]
    assert [number for number, _ in got] == list(range(200))
    assert len({thread for _, thread in got}) == 1 and got[0][1] != threading.get_ident()


def test_nothing_has_a_thread_before_the_first_call() -> None:
    made = Deliveries("softbus-none")
    made.close()
    made.join()
    assert not [thread for thread in threading.enumerate() if thread.name == "softbus-none"]


def test_a_listener_that_raises_is_logged_and_the_next_call_comes(
    deliveries: Deliveries, caplog: pytest.LogCaptureFixture
) -> None:
    done = threading.Event()

    def fail() -> None:
        raise RuntimeError("no")

    with caplog.at_level(logging.ERROR):
        deliveries.put(1, fail)
        deliveries.put(1, done.set)
        assert done.wait(5)
    assert "a listener of a session failed" in caplog.text


def test_the_receiver_waits_when_too_much_waits(deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_QUEUE", 10)
    gate, seen = _Gate(), threading.Event()
    deliveries.put(1, gate)
    assert gate.begun.wait(5)
    deliveries.put(10, lambda: None)
    waiting = threading.Thread(target=deliveries.put, args=(1, seen.set))
    waiting.start()
    waiting.join(0.1)
    assert waiting.is_alive()
    gate.go.set()
    waiting.join(5)
    assert not waiting.is_alive() and seen.wait(5)


def test_something_larger_than_the_queue_gets_its_turn(deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_QUEUE", 10)
    done = threading.Event()
    deliveries.put(1000, done.set)
    assert done.wait(5)


def test_messages_are_taken_without_waiting_and_acknowledged_when_there_is_room(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SESSION_QUEUE", 10)
    gate, taken, seen = _Gate(), [], SimpleQueue[str]()
    deliveries.put(1, gate)
    assert gate.begun.wait(5)
    deliveries.put_message(10, lambda: seen.put("first"), lambda: taken.append("first"))
    deliveries.put_message(10, lambda: seen.put("second"), lambda: taken.append("second"))
    assert taken == ["first"]
    gate.go.set()
    assert [seen.get(timeout=5), seen.get(timeout=5)] == ["first", "second"]
    assert taken == ["first", "second"]


def test_what_is_pushed_never_waits(deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "SESSION_QUEUE", 1)
    gate, done = _Gate(), threading.Event()
    deliveries.put(1, gate)
    assert gate.begun.wait(5)
    deliveries.put_message(5, lambda: None, lambda: None)
    deliveries.push(done.set)
    gate.go.set()
    assert done.wait(5)


def test_closing_with_a_last_call_delivers_everything_before_it_and_takes_no_more(deliveries: Deliveries) -> None:
    gate, seen = _Gate(), []
    deliveries.put(1, gate)
    deliveries.put(1, lambda: seen.append("data"))
    deliveries.close(lambda: seen.append("last"))
    deliveries.close(lambda: seen.append("twice"))
    deliveries.put(1, lambda: seen.append("late"))
    gate.go.set()
    deliveries.join()
    assert seen == ["data", "last"]


def test_closing_without_drops_what_waits_and_frees_who_waits(
    deliveries: Deliveries, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "SESSION_QUEUE", 1)
    gate, seen = _Gate(), []
    deliveries.put(1, gate)
    assert gate.begun.wait(5)
    deliveries.put(1, lambda: seen.append("dropped"))
    waiting = threading.Thread(target=deliveries.put, args=(1, lambda: seen.append("never")))
    waiting.start()
    deliveries.close()
    waiting.join(5)
    assert not waiting.is_alive()
    gate.go.set()
    deliveries.join()
    assert not seen


def test_a_listener_may_join_its_own_deliveries(deliveries: Deliveries) -> None:
    done = threading.Event()

    def end() -> None:
        deliveries.close()
        deliveries.join()
        done.set()

    deliveries.put(1, end)
    assert done.wait(5)
