"""samgr/serial.py: tasks in order, one at a time, on a thread that comes and goes."""

from __future__ import annotations

import threading
from concurrent.futures import CancelledError, wait

import pytest

from binderkit.samgr.serial import SerialQueue

WAIT = 10.0


def test_tasks_of_many_threads_run_one_at_a_time_and_each_threads_in_order() -> None:
    queue, log, running = SerialQueue("tests"), [], 0
    overlaps: list[int] = []

    def task(who: int, number: int) -> None:
        nonlocal running
        running += 1
        overlaps.append(running)
        log.append((who, number))
        running -= 1

    def post(who: int) -> None:
        wait([queue.post(lambda number=number: task(who, number)) for number in range(50)], WAIT)  # type: ignore[misc]

    threads = [threading.Thread(target=post, args=(who,)) for who in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert max(overlaps) == 1 and len(log) == 200
    for who in range(4):
        assert [number for one, number in log if one == who] == list(range(50))


def test_results_and_exceptions_reach_who_posted_and_the_queue_goes_on() -> None:
    queue = SerialQueue("tests")
    with pytest.raises(SystemExit):
        queue.post(lambda: exit_now()).result(WAIT)
    assert queue.post(lambda: 42).result(WAIT) == 42


def exit_now() -> None:
    raise SystemExit(3)


def test_a_cancelled_task_does_not_run() -> None:
    queue, gate, ran = SerialQueue("tests"), threading.Event(), threading.Event()
    first = queue.post(lambda: gate.wait(WAIT))
    second = queue.post(ran.set)
    assert second.cancel()
    gate.set()
    assert first.result(WAIT)
    assert queue.post(lambda: None).result(WAIT) is None
    with pytest.raises(CancelledError):
        second.result(0)
    assert not ran.is_set()


def test_the_thread_ends_with_the_last_task_and_comes_back() -> None:
    queue = SerialQueue("tests")
    first = queue.post(threading.current_thread).result(WAIT)
    first.join(WAIT)
    assert not first.is_alive() and queue.thread is None
    second = queue.post(threading.current_thread).result(WAIT)
    assert second is not first
    second.join(WAIT)
