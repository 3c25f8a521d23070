"""latest.py: work once for all that asked for it."""

from __future__ import annotations

import threading

import pytest

from binderkit.softbus.latest import Latest


def test_all_that_asked_while_it_ran_have_it_once_more() -> None:
    begun, go_on, counted = threading.Semaphore(0), threading.Semaphore(0), []

    def work() -> None:
        begun.release()
        assert go_on.acquire(timeout=10)
        counted.append(1)

    latest = Latest(work, "binderkit-test")
    latest.due()
    assert begun.acquire(timeout=10)
    for _ in range(3):
        latest.due()
    go_on.release()
    assert begun.acquire(timeout=10)
    go_on.release()
    latest.close(last=True)
    latest.close()
    assert len(counted) == 2


@pytest.mark.parametrize(("last", "times"), [(True, 2), (False, 1)])
def test_what_is_due_at_the_end_is_done_if_it_matters(last: bool, times: int) -> None:
    begun, go_on, counted = threading.Event(), threading.Event(), []

    def work() -> None:
        begun.set()
        assert go_on.wait(10)
        counted.append(1)

    latest = Latest(work, "binderkit-test")
    latest.due()
    assert begun.wait(10)
    latest.due()
    closing = threading.Thread(target=latest.close, kwargs={"last": last})
    closing.start()
    while not latest._closed:
        closing.join(0.01)
    go_on.set()
    closing.join()
    assert len(counted) == times


def test_a_failure_is_logged_and_the_next_one_works(caplog: pytest.LogCaptureFixture) -> None:
    done = threading.Event()
    failures = [ValueError("broken")]

    def work() -> None:
        if failures:
            raise failures.pop()
        done.set()

    latest = Latest(work, "binderkit-test")
    latest.due()
    while failures:
        done.wait(0.01)
    latest.due()
    assert done.wait(10)
    latest.close()
    assert "binderkit-test failed" in caplog.text and "broken" in caplog.text
