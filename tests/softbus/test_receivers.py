"""receivers.py: one thread always receives, the others may execute."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from binderkit.softbus.receivers import Receivers

WAIT = 10.0


class Requests:
    """What is received: functions; each says whether it may be executed by its thread, and is then."""

    def __init__(self) -> None:
        self._waiting: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self.handed_over: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self.receivers = Receivers("test-receiver", self._waiting.get, self._handle)

    def _handle(self, request: Callable[[], None], may_execute: bool) -> Callable[[], None] | None:
        if may_execute:
            return request
        self.handed_over.put(request)
        return None

    def send(self, request: Callable[[], None]) -> None:
        self._waiting.put(request)

    def end(self) -> None:
        for _ in range(8):
            self._waiting.put(None)
        self.receivers.join()


@pytest.fixture
def requests() -> Iterator[Requests]:
    made = Requests()
    made.receivers.start()
    yield made
    made.end()


def test_a_request_is_executed_by_the_thread_that_received_it(requests: Requests) -> None:
    names: queue.SimpleQueue[str] = queue.SimpleQueue()
    requests.send(lambda: names.put(threading.current_thread().name))
    assert names.get(timeout=WAIT).startswith("test-receiver")


def test_one_is_always_left_to_receive(requests: Requests) -> None:
    gate, begun = threading.Event(), threading.Semaphore(0)

    def slow() -> None:
        begun.release()
        assert gate.wait(WAIT)

    for _ in range(3):
        requests.send(slow)
    for _ in range(3):
        assert begun.acquire(timeout=WAIT)
    late = requests.handed_over
    requests.send(slow)
    assert late.get(timeout=WAIT) is slow, "the last one hands over"
    gate.set()
    again = threading.Event()
    deadline = time.monotonic() + WAIT
    while not again.wait(0.01):  # the interval between two tries: they may be busy a moment longer
        assert time.monotonic() < deadline, "none is free again"
        requests.send(again.set)


def test_one_that_fails_is_logged_and_its_thread_goes_on(requests: Requests, caplog: pytest.LogCaptureFixture) -> None:
    def fails() -> None:
        raise ValueError("says the test")

    for _ in range(8):
        requests.send(fails)
    requests.end()
    failed = [record for record in caplog.records if record.exc_info is not None]
    assert len(failed) + requests.handed_over.qsize() == 8
    assert failed, "none was executed"


def test_it_ends_when_there_is_no_more() -> None:
    made = Requests()
    made.receivers.join()  # not begun: nothing to wait for
    made.receivers.start()
    made.end()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test-receiver")]
