"""alarm.py: it rings when it should, and ends."""

from __future__ import annotations

import queue
import threading
import time

import pytest

from binderkit.ability.alarm import Alarm

WAIT = 10.0


def test_it_rings_once_for_each_time_and_never_early() -> None:
    rung: queue.Queue[float] = queue.Queue()
    alarm = Alarm(lambda: rung.put(time.monotonic()))
    try:
        for _ in range(2):
            at = time.monotonic() + 0.02
            alarm.set(at)
            assert rung.get(timeout=WAIT) >= at
        assert rung.empty()
    finally:
        alarm.close()


def test_an_earlier_time_takes_the_place_of_a_later_one() -> None:
    rung = threading.Event()
    alarm = Alarm(rung.set)
    try:
        alarm.set(time.monotonic() + 1000)
        alarm.set(time.monotonic())
        assert rung.wait(WAIT)
    finally:
        alarm.close()


def test_it_can_be_set_while_it_rings() -> None:
    rung: queue.Queue[int] = queue.Queue()

    def ring() -> None:
        rung.put(1)
        if rung.qsize() < 2:
            alarm.set(time.monotonic())

    alarm = Alarm(ring)
    try:
        alarm.set(time.monotonic())
        assert rung.get(timeout=WAIT) == 1
    finally:
        alarm.close()


def test_what_it_calls_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    rung: queue.Queue[int] = queue.Queue()

    def ring() -> None:
        rung.put(1)
        raise ValueError("broken")

    alarm = Alarm(ring)
    try:
        alarm.set(time.monotonic())
        rung.get(timeout=WAIT)
        alarm.set(time.monotonic())
        rung.get(timeout=WAIT)
    finally:
        alarm.close()
    assert "ValueError: broken" in caplog.text


def test_closed_it_rings_no_more_and_its_thread_is_gone() -> None:
    rung = threading.Event()
    alarm = Alarm(rung.set)
    alarm.set(time.monotonic() + 1000)
    alarm.close()
    alarm.set(time.monotonic())
    alarm.close()

    assert not rung.is_set()
    assert "binderkit-alarm" not in [thread.name for thread in threading.enumerate()]


def test_closing_without_ever_being_set_does_nothing() -> None:
    Alarm(lambda: None).close()
