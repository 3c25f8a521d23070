"""The monitor thread: it calls handlers, survives their bugs, sleeps when there is nothing to do."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator

import pytest

from binderkit.driver.unix.monitor import Monitor
from tests.driver.unix.hostile import WAIT, until


class Ticks:
    def __init__(self) -> None:
        self.count = 0
        self.work = 0

    def __call__(self) -> bool:
        self.count += 1
        self.work -= 1
        return self.work >= 0


@pytest.fixture
def ticks() -> Ticks:
    return Ticks()


@pytest.fixture
def monitor(ticks: Ticks) -> Iterator[Monitor]:
    made = Monitor("test", ticks)
    made.start()
    yield made
    made.close()


def test_a_handler_is_called_on_the_monitor_thread(monitor: Monitor) -> None:
    read, write = os.pipe()
    seen: list[bool] = []
    done = threading.Event()

    def handler(mask: int) -> None:
        seen.append(monitor.is_current)
        os.read(read, 1)
        done.set()

    monitor.watch(read, handler)
    os.write(write, b"x")
    assert done.wait(WAIT)
    assert seen == [True]
    assert not monitor.is_current
    monitor.forget(read)
    monitor.forget(read)
    os.close(read)
    os.close(write)


def test_a_bug_in_a_handler_is_logged_and_the_monitor_goes_on(
    monitor: Monitor, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, logger="binderkit.driver")
    read, write = os.pipe()
    calls = threading.Semaphore(0)

    def handler(mask: int) -> None:
        os.read(read, 1)
        calls.release()
        raise ZeroDivisionError

    monitor.watch(read, handler)
    for _ in range(2):
        os.write(write, b"x")
        assert calls.acquire(timeout=WAIT)
    until(lambda: caplog.text.count("this is a bug in binderkit") == 2, "both are logged")
    monitor.forget(read)
    os.close(read)
    os.close(write)


def test_it_ticks_while_there_is_work_and_then_stops(monitor: Monitor, ticks: Ticks) -> None:
    ticks.work = 10
    monitor.stir()
    until(lambda: not monitor._stirred, "it comes to rest")
    assert ticks.count >= 10
    resting = ticks.count
    monitor.ring()
    assert ticks.count == resting, "a ring alone is no housekeeping"
    monitor.stir()
    until(lambda: ticks.count > resting, "stirred again")


def test_what_is_enqueued_when_it_comes_to_rest_is_not_forgotten() -> None:
    """The last look happens after the flag fell: 500 enqueues at any moment are all seen."""
    queue: list[int] = []
    seen: list[int] = []

    def housekeeping() -> bool:
        worked = bool(queue)
        while queue:
            seen.append(queue.pop())
        return worked

    monitor = Monitor("test", housekeeping)
    monitor.start()
    try:
        for number in range(500):
            queue.append(number)
            monitor.stir()
            if number % 100 == 0:
                until(lambda: not monitor._stirred, "it comes to rest")
        until(lambda: len(seen) == 500, "all are seen")
    finally:
        monitor.close()


def test_after_close_ringing_does_nothing() -> None:
    monitor = Monitor("test", lambda: False)
    monitor.start()
    monitor.close()
    monitor.stir()
    monitor.ring()
    monitor.change(0, 1)
