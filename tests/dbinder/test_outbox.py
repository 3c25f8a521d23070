"""What is said to other devices: in order to each, and no device waits for another."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial

import pytest

from binderkit.dbinder.outbox import Outbox
from binderkit.driver.pool import Pool
from binderkit.errors import DeadObjectError


@pytest.fixture
def outbox() -> Iterator[Outbox]:
    pool = Pool("binderkit-test-outbox")
    outbox = Outbox(pool.submit)
    yield outbox
    outbox.close()
    pool.close()
    pool.join()


def test_tasks_of_a_device_run_in_order(outbox: Outbox) -> None:
    done: list[int] = []
    for number in range(100):
        outbox.add("a", lambda n=number: done.append(n))  # type: ignore[misc]
    assert outbox.flush(5)
    assert done == list(range(100))


def test_a_slow_device_holds_nobody_up(outbox: Outbox) -> None:
    go_on, told = threading.Event(), threading.Event()
    outbox.add("slow", partial(_wait, go_on))
    outbox.add("quick", told.set)
    assert told.wait(5)
    assert not outbox.flush(0.01)
    go_on.set()
    assert outbox.flush(5)


def test_a_device_that_left_does_not_stop_what_follows(outbox: Outbox, caplog: pytest.LogCaptureFixture) -> None:
    told = threading.Event()

    def fail(error: Exception) -> None:
        raise error

    outbox.add("a", lambda: fail(DeadObjectError("gone")))
    outbox.add("a", lambda: fail(KeyError("a mistake of ours")))
    outbox.add("a", told.set)
    assert told.wait(5)
    assert "a bug in binderkit" in caplog.text
    caplog.clear()


def test_without_workers_nothing_is_kept() -> None:
    def refuse(task: Callable[[], None]) -> None:
        raise DeadObjectError("the driver was closed")

    outbox = Outbox(refuse)
    outbox.add("a", lambda: None)
    assert not outbox.flush(0.05)
    outbox.close()
    outbox.close()
    assert outbox._waiting == {}


def _wait(event: threading.Event) -> None:
    assert event.wait(5)
