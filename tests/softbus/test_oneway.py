"""The two queues of one-way messages, driven by hand."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest

from binderkit import limits
from binderkit.errors import DeadObjectError
from binderkit.softbus import messages
from binderkit.softbus.engine import Busy, DeviceInfo, Incoming, Kind, NoAnswer, Outcome
from binderkit.softbus.messages import OnewayHeader, Status
from binderkit.softbus.oneway import Inbox, Outbox
from binderkit.softbus.timers import Timers
from binderkit.softbus.windows import OnewayReceiver
from binderkit.softbus.workers import Workers

OWN, TARGET = bytes(8), b"targetbt"


class Engine:
    """Keeps what is posted, for the test to end it as it likes."""

    def __init__(self) -> None:
        self.posted: list[tuple[int, bytes, Callable[[Outcome], None]]] = []
        self.there = True
        self._posted = threading.Semaphore(0)

    def devices(self) -> Mapping[str, DeviceInfo]:
        return {"b": DeviceInfo("b", "", TARGET.hex(), "", "")} if self.there else {}

    def post(
        self,
        udid: str,
        kind: Kind,
        target: int,
        header: bytes,
        payload: bytes,
        timeout: float,
        done: Callable[[Outcome], None],
    ) -> None:
        self.posted.append((messages.decode_oneway(header).sequence, payload, done))
        self._posted.release()

    def wait(self, count: int) -> None:
        for _ in range(count):
            assert self._posted.acquire(timeout=10)


@pytest.fixture
def timers() -> Iterator[Timers]:
    timers = Timers("test")
    yield timers
    timers.close()


def outbox(engine: Any, timers: Timers) -> Outbox:
    return Outbox(engine, timers, "b", OWN, TARGET, threading.Condition())


def test_a_message_is_sent_again_under_its_number_until_it_is_taken(timers: Timers) -> None:
    engine = Engine()
    box = outbox(engine, timers)
    box.send(1, b"first")
    for outcome in (NoAnswer(""), Busy("")):
        engine.posted[-1][2](outcome)
        engine.wait(1)
    engine.wait(1)
    assert [(sequence, payload) for sequence, payload, _ in engine.posted] == [(1, b"first")] * 3
    engine.posted[-1][2](messages.encode_status(Status.TAKEN))
    engine.posted[0][2](messages.encode_status(Status.TAKEN))  # the late answer to an earlier try
    box.send(1, b"second")
    assert engine.posted[-1][0] == 2


def test_there_is_room_again_when_messages_are_taken(timers: Timers) -> None:
    engine = Engine()
    box = outbox(engine, timers)
    box.send(1, bytes(limits.RPC_ONEWAY_BYTES))
    sent = threading.Event()

    def send() -> None:
        box.send(1, b"more")
        sent.set()

    sender = threading.Thread(target=send)
    sender.start()
    engine.wait(1)
    assert not sent.is_set()
    engine.posted[0][2](messages.encode_status(Status.TAKEN))
    sender.join()
    assert sent.is_set() and len(engine.posted) == 2


@pytest.mark.parametrize("status", [Status.STALE, Status.OTHER_BOOT])
def test_a_stream_that_is_refused_is_over(timers: Timers, status: Status) -> None:
    engine = Engine()
    box = outbox(engine, timers)
    box.send(1, b"x")
    engine.posted[0][2](messages.encode_status(status))
    assert box.ended
    with pytest.raises(DeadObjectError):
        box.send(1, b"y")


def test_a_stream_to_a_device_that_is_gone_is_over(timers: Timers, caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine()
    box = outbox(engine, timers)
    for _ in range(3):
        box.send(1, b"x")
    engine.there = False
    for _, _, done in engine.posted:
        done(NoAnswer(""))
    assert box.ended
    logged = threading.Event()
    timers.after(0, logged.set)
    assert logged.wait(10)
    assert caplog.text.count("3 one-way messages may not have reached it") == 1, "told once"


class Sent:
    """Incoming messages, and how they were answered."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, object]] = []

    def message(self, sequence: int, target: int = 1, payload: bytes = b"x") -> tuple[Incoming, OnewayHeader]:
        def answer(data: bytes) -> None:
            self.answers.append((sequence, Status(data[0])))

        incoming = Incoming(
            "a", Kind.ONEWAY, target, b"", payload, answer, lambda: self.answers.append((sequence, "busy"))
        )
        return incoming, OnewayHeader(1, sequence, OWN, TARGET)


def test_messages_are_executed_in_order_and_acknowledged_when_they_begin(timers: Timers) -> None:
    workers, sent, executed, done = Workers("test", 4, timers), Sent(), list[bytes](), threading.Event()
    inbox = Inbox(OnewayReceiver(), workers.queue())

    def execute(incoming: Incoming) -> None:
        executed.append(incoming.payload)
        if incoming.payload == b"fail":
            raise RuntimeError("what a handler may do")
        if len(executed) == 3:
            done.set()

    for sequence, payload in ((3, b"three"), (2, b"fail"), (1, b"one")):
        assert inbox.accept(*sent.message(sequence, payload=payload), execute) is None
    assert inbox.accept(*sent.message(2, payload=b"fail"), execute) is None  # a repeat: its answer goes to this one
    assert not sent.answers
    workers.start()
    assert done.wait(10)
    assert executed == [b"one", b"fail", b"three"]
    assert sent.answers == [(1, Status.TAKEN), (2, Status.TAKEN), (3, Status.TAKEN)]
    again = inbox.accept(*sent.message(2), execute)
    assert again is not None
    again()
    assert sent.answers[-1] == (2, Status.TAKEN) and len(executed) == 3
    workers.close()


def test_what_is_beyond_the_window_or_of_the_past_is_refused(timers: Timers) -> None:
    workers, sent = Workers("test", 1, timers), Sent()
    inbox = Inbox(OnewayReceiver(), workers.queue())
    far = inbox.accept(*sent.message(limits.RPC_ONEWAY_MESSAGES + 1), print)
    assert far is not None
    far()
    incoming, _ = sent.message(1)
    past = inbox.accept(incoming, OnewayHeader(0, 1, OWN, TARGET), print)
    assert past is not None
    past()
    assert sent.answers == [(limits.RPC_ONEWAY_MESSAGES + 1, "busy"), (1, Status.STALE)]
    workers.close()
