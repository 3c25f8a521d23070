"""driver/unix/pidfds.py: ends of processes, other descriptors, ticks, and a clean end of the thread."""

from __future__ import annotations

import logging
import os
import queue
import subprocess
import threading
from collections.abc import Callable, Iterator

import pytest

from binderkit.driver.unix.pidfds import DescriptorWatch, wait_all_readable, wait_readable

WAIT = 10.0
Make = Callable[..., DescriptorWatch]


def nothing() -> None:
    """A tick nobody needs."""


@pytest.fixture
def make() -> Iterator[Make]:
    """Makes watches that are closed at the end."""
    made: list[DescriptorWatch] = []

    def make_one(on_tick: Callable[[], None] = nothing, interval: float = 3600.0) -> DescriptorWatch:
        made.append(DescriptorWatch("test", on_tick=on_tick, interval=interval))
        return made[-1]

    yield make_one
    for watch in made:
        watch.close()


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe: read end, write end."""
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def test_the_end_of_a_process_is_told_once_on_the_watchs_thread(make: Make) -> None:
    watch = make()
    told: queue.Queue[str] = queue.Queue()
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as process:
        pidfd = os.pidfd_open(process.pid)
        watch.watch(pidfd, lambda: told.put(threading.current_thread().name))
        assert told.empty()
        process.kill()
        assert told.get(timeout=WAIT) == "binderkit-test"
    second: queue.Queue[str] = queue.Queue()
    watch.watch(pidfd, lambda: second.put("again"))  # it was forgotten, so it can be watched again
    assert second.get(timeout=WAIT) == "again"
    assert told.empty()
    os.close(pidfd)


def test_what_is_forgotten_is_not_told_and_others_are(make: Make, pipe: tuple[int, int]) -> None:
    watch = make()
    told: queue.Queue[str] = queue.Queue()
    copy = os.dup(pipe[0])
    watch.watch(copy, lambda: told.put("forgotten"))
    watch.forget(copy)
    watch.forget(copy)
    os.close(copy)
    watch.watch(pipe[0], lambda: told.put("kept"))
    os.write(pipe[1], b"x")
    assert told.get(timeout=WAIT) == "kept"
    assert told.empty()


def test_an_action_that_raises_is_logged_and_the_thread_goes_on(
    make: Make, pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    watch = make()
    told: queue.Queue[str] = queue.Queue()

    def fail() -> None:
        told.put("called")
        raise OSError("broken")

    os.write(pipe[1], b"x")
    watch.watch(pipe[0], fail)
    assert told.get(timeout=WAIT) == "called"
    watch.watch(pipe[0], lambda: told.put("still there"))
    assert told.get(timeout=WAIT) == "still there"
    assert [record.levelno for record in caplog.records] == [logging.ERROR]


def test_ticks_come_while_something_is_watched(make: Make, pipe: tuple[int, int]) -> None:
    ticks: queue.Queue[int] = queue.Queue()
    watch = make(on_tick=lambda: ticks.put(1), interval=0.01)
    assert watch._patience() is None  # it sleeps until something is to be watched
    watch.watch(pipe[0], nothing)
    assert [ticks.get(timeout=WAIT) for _ in range(3)] == [1, 1, 1]
    watch.forget(pipe[0])
    assert watch._patience() is None


def test_close_is_idempotent_and_works_from_an_action(make: Make, pipe: tuple[int, int]) -> None:
    watch = make()
    closed = threading.Event()

    def close() -> None:
        watch.close()
        assert watch.is_current
        closed.set()

    os.write(pipe[1], b"x")
    watch.watch(pipe[0], close)
    assert closed.wait(WAIT)
    watch.close()
    watch._thread.join(WAIT)
    assert not watch._thread.is_alive()


def test_short_waits(pipe: tuple[int, int]) -> None:
    read, write = pipe
    assert not wait_readable(read, 0)
    assert not wait_readable(read, -1)
    assert wait_all_readable([read], 0.01) == {read}
    os.write(write, b"x")
    assert wait_readable(read, WAIT)
    assert wait_all_readable([read], WAIT) == set()
    assert wait_all_readable([], WAIT) == set()
    idle, other = os.pipe()
    try:
        assert wait_all_readable([read, idle], 0.01) == {idle}
        os.close(other)
        other = -1
        assert wait_readable(idle, WAIT)  # the other end closed
    finally:
        os.close(idle)
        if other >= 0:
            os.close(other)
