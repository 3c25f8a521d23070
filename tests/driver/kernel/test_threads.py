"""Threads that take requests: one at the start, one for each demand, never more than the limit, none in vain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from binderkit import limits
from binderkit.driver.kernel.threads import Loopers
from tests.driver.kernel.state import until


class Runs:
    """What the threads do: wait for the end, or for work to do."""

    def __init__(self) -> None:
        self.loopers = Loopers("test", self._run)
        self.firsts: list[bool] = []
        self._work: list[Callable[[], None]] = []
        self._changed = threading.Condition()
        self._over = False

    def _run(self, first: bool) -> None:
        with self._changed:
            self.firsts.append(first)
            while not self._over:
                self._changed.wait_for(lambda: self._over or self._work)
                if self._work:
                    work = self._work.pop()
                    self._changed.release()
                    try:
                        work()
                    finally:
                        self._changed.acquire()

    def do(self, work: Callable[[], None]) -> None:
        """Have one of the threads do it."""
        with self._changed:
            self._work.append(work)
            self._changed.notify()

    def started(self, count: int) -> bool:
        """Whether exactly so many threads have begun."""
        until(lambda: len(self.firsts) >= count, f"{count} threads")
        return self.loopers.statistics()["threads"] == len(self.firsts) == count

    def end(self) -> None:
        """End all."""
        self.loopers.close()
        with self._changed:
            self._over = True
            self._changed.notify_all()
        assert self.loopers.join()


@pytest.fixture
def runs() -> Iterator[Runs]:
    """A pool that was started."""
    made = Runs()
    made.loopers.start()
    assert made.started(1)
    yield made
    made.end()


def test_the_first_thread_is_the_first_and_others_come_on_demand(runs: Runs) -> None:
    runs.loopers.demand()
    assert runs.started(2)
    assert runs.firsts == [True, False]


def test_no_more_than_the_limit_until_it_rises(runs: Runs) -> None:
    runs.loopers.set_limit(1)
    runs.loopers.demand()
    assert runs.started(1)
    runs.loopers.set_limit(3)
    assert runs.started(2), "the demand that was refused"
    runs.loopers.set_limit(4)
    assert runs.started(2), "it is met once"


def test_no_more_than_the_hard_limit(runs: Runs, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HARD_THREADS", 1)
    runs.loopers.demand()
    assert runs.started(1)


def test_a_demand_that_was_refused_is_met_when_a_thread_begins_to_wait(runs: Runs) -> None:
    runs.loopers.set_limit(1)
    runs.loopers.demand()
    entered, leave = threading.Event(), threading.Event()

    def wait_elsewhere() -> None:
        assert runs.loopers.mine()
        with runs.loopers.outgoing():
            entered.set()
            leave.wait()

    runs.do(wait_elsewhere)
    entered.wait()
    assert runs.started(2)
    assert runs.loopers.statistics()["blocked"] == 1
    leave.set()
    until(lambda: runs.loopers.statistics()["blocked"] == 0, "it counts again")


def park_one(runs: Runs) -> threading.Event:
    """Have one of the threads park; return what tells that it goes on."""
    goes_on, parks = threading.Event(), threading.Event()

    def park() -> None:
        parks.set()
        runs.loopers.park()
        goes_on.set()

    runs.do(park)
    assert parks.wait(10)
    return goes_on


def test_threads_that_a_lower_limit_leaves_over_park_until_it_rises(runs: Runs) -> None:
    runs.loopers.demand()
    assert runs.started(2)
    runs.loopers.set_limit(1)
    assert runs.loopers.crowded
    goes_on = park_one(runs)
    until(lambda: not runs.loopers.crowded, "the one that parks does not count")
    assert not goes_on.is_set()
    runs.loopers.park()  # there are few enough: it returns at once
    runs.loopers.set_limit(2)
    assert goes_on.wait(10)
    assert not runs.loopers.crowded


def test_a_thread_that_parks_takes_the_place_of_one_that_waits(runs: Runs) -> None:
    runs.loopers.demand()
    assert runs.started(2)
    runs.loopers.set_limit(1)
    goes_on = park_one(runs)
    until(lambda: not runs.loopers.crowded, "it parks")
    runs.loopers.demand()
    assert runs.started(2), "at the limit"
    entered, leave = threading.Event(), threading.Event()

    def wait_elsewhere() -> None:
        with runs.loopers.outgoing():
            entered.set()
            leave.wait()

    runs.do(wait_elsewhere)
    assert entered.wait(10)
    assert goes_on.wait(10)
    leave.set()
    until(lambda: runs.loopers.crowded, "now there are two again")


def test_the_end_wakes_those_that_park() -> None:
    runs = Runs()
    runs.loopers.start()
    runs.loopers.demand()
    assert runs.started(2)
    runs.loopers.set_limit(1)
    goes_on = park_one(runs)
    until(lambda: not runs.loopers.crowded, "it parks")
    runs.end()
    assert goes_on.is_set()


def test_other_threads_do_not_count(runs: Runs) -> None:
    assert not runs.loopers.mine()
    with runs.loopers.outgoing():
        assert runs.loopers.statistics()["blocked"] == 0


def test_an_error_while_waiting_ends_the_wait(runs: Runs) -> None:
    seen: list[BaseException] = []

    def fail() -> None:
        try:
            with runs.loopers.outgoing():
                raise ValueError("x")
        except ValueError as error:
            seen.append(error)

    runs.do(fail)
    until(lambda: seen, "it came through")
    assert runs.loopers.statistics()["blocked"] == 0


def test_a_thread_that_the_system_refuses_is_started_at_the_next_opportunity(
    runs: Runs, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel asks once and waits for the thread: the demand must not be forgotten."""

    def refuse(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        runs.loopers.demand()
    assert "refused another thread" in caplog.text
    assert runs.loopers.statistics()["threads"] == 1
    done = threading.Event()

    def wait_elsewhere() -> None:
        with runs.loopers.outgoing():
            done.set()

    runs.do(wait_elsewhere)
    assert done.wait(10)
    assert runs.started(2)


def test_nothing_starts_after_the_end_and_a_thread_does_not_wait_for_itself() -> None:
    runs = Runs()
    runs.loopers.start()
    assert runs.started(1)
    seen: list[bool] = []
    runs.do(lambda: seen.append(runs.loopers.join()))
    until(lambda: seen, "join returned on the thread itself")
    assert seen == [False]
    runs.end()
    runs.loopers.demand()
    assert runs.loopers.statistics()["threads"] == 1


def test_a_thread_that_does_not_end_is_told(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_WAIT", 0.01)
    runs = Runs()
    runs.loopers.start()
    assert runs.started(1)
    assert not runs.loopers.join()
    assert "still in a handler that does not end" in caplog.text
    runs.end()
