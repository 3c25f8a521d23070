"""The end of a process: a signal at any moment, or a thread that says so, and nothing is left of it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time

from binderkit.driver.unix.ending import Ending

WAIT = 10.0
_RACE = """
import os, signal, sys
from binderkit.driver.unix.ending import Ending
with Ending() as ending:
    # As late as Python can send it: the handler has not run when the wait begins.
    poll = ending.wait.__globals__["select"].poll
    class Late:
        def __init__(self):
            self.poller = poll()
            self.register = self.poller.register
        def poll(self, left):
            signal.raise_signal(signal.SIGTERM)
            return self.poller.poll(left)
    ending.wait.__globals__["select"].poll = Late
    sys.exit(0 if ending.wait(10) else 1)
"""


def test_a_signal_ends_the_wait() -> None:
    with Ending([signal.SIGUSR1]) as ending:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1)).start()
        assert ending.wait(WAIT)
        assert ending.wait(0), "it stays the end"


def test_a_signal_before_the_wait_counts() -> None:
    with Ending([signal.SIGUSR1]) as ending:
        os.kill(os.getpid(), signal.SIGUSR1)
        assert ending.wait(WAIT)


def test_a_signal_right_before_the_thread_blocks_counts() -> None:
    assert subprocess.run([sys.executable, "-c", _RACE], timeout=WAIT, check=False).returncode == 0


def test_another_thread_ends_the_wait() -> None:
    with Ending([]) as ending:
        threading.Timer(0.05, ending.come).start()
        assert ending.wait(WAIT)


def test_another_signal_does_not() -> None:
    told: list[int] = []
    former = signal.signal(signal.SIGUSR2, lambda number, frame: told.append(number))
    try:
        with Ending([signal.SIGUSR1]) as ending:
            os.kill(os.getpid(), signal.SIGUSR2)
            begin = time.monotonic()
            assert not ending.wait(0.05)
            assert time.monotonic() - begin >= 0.05
        assert told == [signal.SIGUSR2]
    finally:
        signal.signal(signal.SIGUSR2, former)


def test_afterwards_all_is_as_before() -> None:
    before = signal.getsignal(signal.SIGUSR1), signal.set_wakeup_fd(-1)
    with Ending([signal.SIGUSR1]) as ending:
        pass
    assert (signal.getsignal(signal.SIGUSR1), signal.set_wakeup_fd(-1)) == before
    ending.come()  # a thread that is late: nothing happens


def test_another_signal_is_answered_in_the_wait_and_only_there() -> None:
    answered: list[int] = []
    former = signal.getsignal(signal.SIGUSR2)
    with Ending([signal.SIGUSR1]) as ending:
        ending.on(signal.SIGUSR2, lambda: answered.append(threading.get_ident()))
        os.kill(os.getpid(), signal.SIGUSR2)
        assert answered == []  # not in the handler: whatever this thread holds, it holds
        assert not ending.wait(0)
        assert answered == [threading.get_ident()]
        threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGUSR2)).start()
        threading.Timer(0.05, ending.come).start()
        assert ending.wait(WAIT)
        assert len(answered) == 2
    assert signal.getsignal(signal.SIGUSR2) is former
