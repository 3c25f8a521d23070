"""The worker threads of a loopback process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator

import pytest

from binderkit.driver.pool import Pool

WAIT = 10.0


@pytest.fixture
def pool() -> Iterator[Pool]:
    pool = Pool("binderkit-loopback-test")
    yield pool
    pool.close()
    pool.join()


def test_no_more_tasks_run_at_once_than_allowed(pool: Pool) -> None:
    pool.set_limit(2)
    go_on, all_done = threading.Event(), threading.Semaphore(0)
    lock, running, most = threading.Lock(), 0, 0

    def task() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        go_on.wait(WAIT)
        with lock:
            running -= 1
        all_done.release()

    for _ in range(8):
        pool.submit(task)
    go_on.set()
    for _ in range(8):
        assert all_done.acquire(timeout=WAIT)
    assert most <= 2


def test_a_worker_that_waits_in_an_outgoing_call_does_not_count(pool: Pool) -> None:
    pool.set_limit(1)
    second, done = threading.Event(), threading.Event()

    def first() -> None:
        with pool.outgoing():
            pool.submit(second.set)
            if second.wait(WAIT):
                done.set()

    pool.submit(first)
    assert done.wait(WAIT), "the second task never ran"


def divide() -> None:
    raise ZeroDivisionError("a task that fails")


def test_a_task_that_raises_is_logged_and_the_next_one_runs(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()
    with caplog.at_level(logging.ERROR):
        pool.submit(divide)
        pool.submit(done.set)
        assert done.wait(WAIT)
        pool.close()
        pool.join()
    assert "ZeroDivisionError" in caplog.text
    caplog.clear()


def test_a_closed_pool_takes_nothing_more(pool: Pool) -> None:
    pool.close()
    pool.submit(lambda: pytest.fail("a task ran in a closed pool"))
    pool.join()
