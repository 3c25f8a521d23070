"""The pool: limits, threads that call out do not count, exhaustion is seen, tasks survive each other."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator

import pytest

from binderkit.driver.unix.workers import Workers
from binderkit.ipc.context import own_identity
from tests.driver.unix import hostile
from tests.driver.unix.hostile import WAIT, Attempt, Victim, until


@pytest.fixture
def pool() -> Iterator[Workers]:
    made = Workers("test", lambda: None)
    yield made
    made.close()


class Gate:
    """Tasks that wait until it opens."""

    def __init__(self) -> None:
        self.entered = threading.Semaphore(0)
        self._open = threading.Event()

    def __call__(self) -> None:
        self.entered.release()
        assert self._open.wait(WAIT)

    def open(self) -> None:
        self._open.set()


def test_tasks_run_on_threads_of_the_pool(pool: Workers) -> None:
    names: list[str] = []
    done = threading.Semaphore(0)
    for _ in range(20):
        pool.submit(lambda: (names.append(threading.current_thread().name), done.release())[0])
    for _ in range(20):
        assert done.acquire(timeout=WAIT)
    assert all(name.startswith("binderkit-test-") for name in names)


def test_a_task_that_raises_is_logged_and_the_pool_goes_on(pool: Workers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR, logger="binderkit.driver")
    done = threading.Event()
    pool.submit(lambda: 1 / 0)  # type: ignore[arg-type, return-value]
    pool.submit(done.set)
    assert done.wait(WAIT)
    until(lambda: "a task on a worker thread raised" in caplog.text, "it is logged")


def test_at_most_limit_tasks_at_once(pool: Workers) -> None:
    pool.set_limit(3)
    gate = Gate()
    for _ in range(6):
        pool.submit(gate)
    for _ in range(3):
        assert gate.entered.acquire(timeout=WAIT)
    assert pool.statistics()["threads"] == 3
    assert not gate.entered.acquire(timeout=0.05), "the fourth waits"
    assert pool.starving_since is not None
    gate.open()
    for _ in range(3):
        assert gate.entered.acquire(timeout=WAIT)
    until(lambda: pool.starving_since is None, "somebody waits for requests again")


def test_a_thread_that_calls_out_does_not_count(pool: Workers) -> None:
    pool.set_limit(1)
    inside, over, other = threading.Event(), threading.Event(), threading.Event()

    def calls_out() -> None:
        worker = pool.enter_outgoing(own_identity())
        assert worker is not None
        inside.set()
        assert over.wait(WAIT)
        worker.blocked = None

    pool.submit(calls_out)
    assert inside.wait(WAIT)
    pool.submit(other.set)
    assert other.wait(WAIT), "somebody else serves meanwhile"
    assert pool.statistics()["blocked"] == 1
    over.set()
    until(lambda: pool.statistics()["blocked"] == 0, "it counts again")


def test_a_thread_of_somebody_else_does_not_count_as_blocked(pool: Workers) -> None:
    assert pool.enter_outgoing(own_identity()) is None
    assert pool.statistics()["blocked"] == 0


def test_close_ends_all_threads() -> None:
    pool = Workers("short", lambda: None)
    done = threading.Event()
    pool.submit(done.set)
    assert done.wait(WAIT)
    pool.close()
    pool.close()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("binderkit-short")]
    pool.submit(done.set)  # into nothing, without an error


# --- with real calls ---------------------------------------------------------------------------------


def test_exhaustion_is_told_in_the_log(victim: Victim, warns: Callable[[str], None]) -> None:
    victim.node.set_max_threads(2)
    calls = [Attempt(lambda: hold(victim)) for _ in range(3)]
    for _ in range(2):
        assert victim.service.entered.acquire(timeout=WAIT)
    warns("all 2 worker threads have been busy")
    victim.service.gate.set()
    for call in calls:
        assert call.over().error is None


def hold(victim: Victim) -> None:
    data, reply = hostile.MessageSequence(), hostile.MessageSequence()
    victim.proxy.send_request(hostile.HOLD_ONE_WAY, data, reply)


class Chain(hostile.Service):
    """Calls its caller back, who does the same, until the depth is reached."""

    def __init__(self) -> None:
        super().__init__()
        self.other: hostile.RemoteProxy | None = None

    def on_remote_message_request(self, code: int, data, reply, option) -> bool:  # type: ignore[no-untyped-def]
        depth = data.read_int()
        if depth:
            request, answer = hostile.MessageSequence(), hostile.MessageSequence()
            request.write_int(depth - 1)
            assert self.other is not None
            self.other.send_request(1, request, answer)
            depth = answer.read_int() + 1
        reply.write_int(depth)
        return True


def test_many_chains_between_two_pools_of_two_threads_do_not_deadlock() -> None:
    ends = []
    for title in ("a", "b"):
        node, service = hostile.Node(title=title), Chain()
        node.become_context(service)
        node.set_max_threads(2)
        ends.append((node, service))
    (a, service_a), (b, service_b) = ends
    service_a.other = hostile.join(b, a)
    service_b.other = hostile.join(a, b)

    def chain() -> None:
        data, reply = hostile.MessageSequence(), hostile.MessageSequence()
        data.write_int(6)
        assert service_a.other is not None
        service_a.other.send_request(1, data, reply)
        assert reply.read_int() == 6

    try:
        calls = [Attempt(lambda: [chain() for _ in range(10)]) for _ in range(8)]
        for call in calls:
            assert call.over().error is None
    finally:
        service_a.other = service_b.other = None
        a.close()
        b.close()
