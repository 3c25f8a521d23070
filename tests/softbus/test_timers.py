"""Later, in order, on one thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from binderkit.softbus.timers import Timers


@pytest.fixture
def timers() -> Iterator[Timers]:
    timers = Timers("test")
    yield timers
    timers.close()


def test_tasks_run_when_due_and_those_of_one_moment_in_order(timers: Timers) -> None:
    ran: list[str] = []
    done = threading.Event()
    begin = time.monotonic()
    timers.after(0.05, lambda: ran.append("late"))
    timers.after(0.06, done.set)
    for number in range(20):
        timers.after(0, lambda number=number: ran.append(f"{number}"))  # type: ignore[misc]
    assert done.wait(10)
    assert time.monotonic() - begin >= 0.05
    assert ran == [*(f"{number}" for number in range(20)), "late"]


def test_an_earlier_task_wakes_the_thread(timers: Timers) -> None:
    timers.after(60, lambda: None)
    done = threading.Event()
    timers.after(0.01, done.set)
    assert done.wait(10)


def test_a_task_that_fails_is_logged_and_the_next_one_runs(timers: Timers, caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()

    def fail() -> None:
        raise RuntimeError("broken")

    timers.after(0, fail)
    timers.after(0, done.set)
    assert done.wait(10)
    assert "broken" in caplog.text


def test_after_the_end_nothing_runs_and_a_task_may_end_it() -> None:
    timers = Timers("test")
    ran = threading.Event()
    ended = threading.Event()

    def end() -> None:
        timers.close()
        ended.set()

    timers.after(0.2, ran.set)
    timers.after(0, end)
    assert ended.wait(10)
    timers.close()
    timers.after(0, ran.set)
    assert not ran.is_set()


def test_a_clock_that_is_set_back_changes_nothing(timers: Timers, monkeypatch: pytest.MonkeyPatch) -> None:
    done = threading.Event()
    timers.after(0.05, done.set)
    monkeypatch.setattr(time, "time", lambda: 0.0)
    assert done.wait(10)
