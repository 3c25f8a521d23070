"""A signal's handler that raises in the middle of a call: the call ends, its reply never meets the next one."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import pytest

import binderkit as bk
from binderkit.process import binder_device
from tests.contract.forks import running_server
from tests.contract.messages import body, transact
from tests.contract.service import PATIENCE, Code
from tests.contract.world import WORLDS, World, eventually, open_world

pytestmark = pytest.mark.skipif(
    "kernel" not in WORLDS, reason=f"there is no {binder_device()}; make test-kernel has one"
)


class Interrupted(BaseException):
    """Raised by the handler of a signal, as KeyboardInterrupt is."""


@pytest.fixture(scope="module", autouse=True)
def fork_server() -> Iterator[None]:
    """What forks the children of the world, in a run without the contract suite too."""
    with running_server():
        yield


@pytest.fixture
def world() -> Iterator[World]:
    with open_world("kernel") as world:
        yield world


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    """Raise Interrupted in the main thread after some time, once."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise Interrupted

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_the_next_call_gets_its_own_reply(world: World) -> None:
    target = world.one().root
    for number in range(5):
        with interrupted_after(0.1), pytest.raises(Interrupted):
            transact(target, Code.WAIT)
        assert body(transact(target, Code.ECHO, b"%d" % number)) == b"%d" % number
    transact(target, Code.OPEN)
    eventually(lambda: transact(target, Code.WAITING).read_long() == 0, "the handlers ended")


class Stuck(bk.RemoteObject):
    """Waits until a signal interrupts it."""

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        with interrupted_after(0.1):
            threading.Event().wait(PATIENCE)
        return False


def test_an_interrupt_in_a_call_back_ends_the_call_as_well(world: World) -> None:
    """The process in between is answered, and what it says then meets nobody."""
    target = world.one().root
    with pytest.raises(Interrupted):
        transact(target, Code.NEST, [Stuck("stuck")])
    assert body(transact(target, Code.ECHO, b"after")) == b"after"
