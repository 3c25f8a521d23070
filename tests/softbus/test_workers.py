"""Threads shared fairly, started on demand, and never exhausted for good."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from functools import partial

import pytest

from binderkit import limits
from binderkit.softbus.timers import Timers
from binderkit.softbus.workers import Workers


def wait_for(event: threading.Event) -> None:
    assert event.wait(10)


@pytest.fixture
def workers() -> Iterator[Workers]:
    timers = Timers("test")
    workers = Workers("test", 2, timers)
    workers.start()
    yield workers
    workers.close()
    timers.close()


def test_jobs_of_one_queue_begin_in_order(workers: Workers) -> None:
    queue, begun, done = workers.queue(1), [], threading.Event()
    for number in range(100):
        assert queue.submit(lambda number=number: begun.append(number))  # type: ignore[misc]
    queue.submit(done.set)
    assert done.wait(10)
    assert begun == list(range(100))


def test_a_thread_without_work_keeps_nothing_of_its_last_job(workers: Workers) -> None:
    class Held:
        """What a job holds."""

        def run(self) -> None:
            done.set()

    done, held = threading.Event(), Held()
    gone = weakref.ref(held)
    assert workers.queue().submit(held.run)
    del held
    assert done.wait(10)
    deadline = time.monotonic() + 10
    while gone() is not None:
        assert time.monotonic() < deadline, "it is kept"
        time.sleep(0.001)  # the interval between two looks: the thread is about to let go


def test_a_long_queue_does_not_make_another_wait(workers: Workers) -> None:
    go_on, order, served = threading.Event(), [], threading.Event()
    flood, other = workers.queue(1), workers.queue(1)
    flood.submit(partial(wait_for, go_on))
    for _ in range(50):
        flood.submit(lambda: order.append("flood"))
    other.submit(lambda: order.append("other"))
    other.submit(served.set)
    assert served.wait(10)
    assert order == ["other"]
    go_on.set()


def test_jobs_that_all_wait_for_another_job_do_not_wait_for_ever(workers: Workers) -> None:
    release, released = threading.Event(), threading.Semaphore(0)
    queue, other = workers.queue(), workers.queue()

    def wait() -> None:
        assert release.wait(10)
        released.release()

    for _ in range(10):
        queue.submit(wait)
    other.submit(release.set)
    for _ in range(10):
        assert released.acquire(timeout=10)


def test_one_queue_never_has_more_than_its_share(workers: Workers) -> None:
    lock, running, most, done = threading.Lock(), [0], [0], threading.Semaphore(0)
    queue = workers.queue(2)

    def job() -> None:
        with lock:
            running[0] += 1
            most[0] = max(most[0], running[0])
        threading.Event().wait(0.001)
        with lock:
            running[0] -= 1
        done.release()

    for _ in range(50):
        queue.submit(job)
    for _ in range(50):
        assert done.acquire(timeout=10)
    assert most[0] <= 2


def test_a_full_queue_refuses_and_another_has_room(workers: Workers) -> None:
    go_on = threading.Event()
    full, other = workers.queue(1), workers.queue(1)
    full.submit(partial(wait_for, go_on))
    while full.submit(lambda: None):
        assert len(full.jobs) <= limits.RPC_QUEUED
    assert len(full.jobs) == limits.RPC_QUEUED
    full.add(lambda: None)
    assert len(full.jobs) == limits.RPC_QUEUED + 1
    assert other.submit(lambda: None)
    go_on.set()


def test_a_job_that_fails_is_logged_and_its_thread_goes_on(workers: Workers, caplog: pytest.LogCaptureFixture) -> None:
    queue, done = workers.queue(1), threading.Event()

    def fail() -> None:
        raise RuntimeError("broken")

    queue.submit(fail)
    queue.submit(done.set)
    assert done.wait(10)
    assert "broken" in caplog.text


def test_jobs_gather_until_the_start_and_are_refused_after_the_end() -> None:
    timers = Timers("test")
    workers, done = Workers("test", 2, timers), threading.Semaphore(0)
    queues = [workers.queue() for _ in range(3)]
    for queue in queues:
        assert queue.submit(done.release)
    assert not done.acquire(blocking=False)
    workers.start()
    for _ in queues:
        assert done.acquire(timeout=10)
    workers.close()
    assert not queues[0].submit(lambda: None)
    timers.close()
