"""One-way calls of raw peers: the order, one at a time per object, and what is counted."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from binderkit import limits
from binderkit.driver.unix import frame
from binderkit.driver.unix.frame import HEADER_SIZE, Entry
from binderkit.driver.unix.node import Node
from binderkit.ipc import loop as handler_loop
from binderkit.ipc.option import MessageOption
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence
from tests.driver.unix import hostile
from tests.driver.unix.hostile import WAIT, Hostile, Victim, call, int_bytes, until

Warns = Callable[[str], None]
NOTE = 1
HOLD = 2
NOTE_LATER = 3
RAISE = 4
MAKE = 5


class Notes(RemoteObject):
    """Writes down the numbers of its calls; HOLD waits at the gate first."""

    def __init__(self) -> None:
        super().__init__("test.INotes")
        self.seen: list[int] = []
        self.at_once = 0
        self.most_at_once = 0
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.turn: asyncio.Event | None = None
        self.made: Notes | None = None

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> bool | Awaitable[bool]:
        if code == MAKE:
            self.made = Notes()
            reply.write_remote_object(self.made)
            return True
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            number = data.read_int()
            if code == NOTE_LATER:
                return self._note_later(number)
            if code == HOLD:
                self.entered.set()
                if not self.gate.wait(WAIT):
                    raise TimeoutError("nobody opened the gate")
            self.seen.append(number)
            if code == RAISE:
                raise ValueError(f"call {number} goes wrong")
        finally:
            self.at_once -= 1
        return True

    async def _note_later(self, number: int) -> bool:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        for _ in range(number % 3 + 1):
            await asyncio.sleep(0)  # other tasks get their turn: a later call could overtake here
        self.seen.append(number)
        self.at_once -= 1
        return True


@pytest.fixture
def notes() -> Notes:
    return Notes()


@pytest.fixture
def noting(notes: Notes) -> Iterator[Victim]:
    """A victim whose root object takes notes."""
    made = Victim.__new__(Victim)
    made.service = hostile.Service()
    made.node = Node(title="victim")
    made.node.become_context(notes)
    made.client = Node(title="honest")
    made.proxy = hostile.join(made.node, made.client)
    yield made
    notes.gate.set()
    made.close()
    handler_loop.stop()


def oneway(number: int, code: int = NOTE, handle: int = 0, seq: int = 0) -> bytes:
    return call(int_bytes(number), kind=frame.ONEWAY, code=code, handle=handle, seq=seq or number + 1)


def make(lane: socket.socket) -> int:
    """Have the service make another object; return its handle."""
    lane.send(call(code=MAKE))
    (entry,) = frame.decode(lane.recv(frame.PACKET_MAX)).entries
    return entry.id


def served_peer(victim: Victim) -> Any:
    """Return the hostile peer as the victim sees it."""
    (found,) = [peer for peer in list(victim.node._peers.values()) if peer.node_id != victim.client.id]
    return found


def test_the_order_is_kept_when_another_thread_takes_over(noting: Victim, notes: Notes) -> None:
    """The reader is stuck in call 3 while the others are read by somebody else: they wait for it."""
    with Hostile(noting) as peer:
        lane = peer.shake().lane(frame.LANE_ONEWAY)
        for number in range(20):
            lane.send(oneway(number, HOLD if number == 3 else NOTE))
        assert notes.entered.wait(WAIT)
        until(lambda: served_peer(noting).oneway_read == 20, "another thread reads on")
        assert notes.seen == [0, 1, 2], "none overtakes"
        notes.gate.set()
        for number in range(20, 40):
            lane.send(oneway(number))
        until(lambda: len(notes.seen) == 40, "all are executed")
        assert notes.seen == list(range(40))
        assert notes.most_at_once == 1


def test_another_object_is_called_meanwhile(noting: Victim, notes: Notes) -> None:
    with Hostile(noting) as peer:
        handle = make(peer.shake().lane())
        assert notes.made is not None
        lane = peer.lane(frame.LANE_ONEWAY)
        lane.send(oneway(0, HOLD))
        assert notes.entered.wait(WAIT)
        lane.send(oneway(1))
        lane.send(oneway(2, handle=handle))
        made = notes.made
        until(lambda: made.seen == [2], "it does not wait for the first object's handler")
        assert notes.seen == []
        notes.gate.set()
        until(lambda: notes.seen == [0, 1], "in their order")


def test_two_peers_call_one_object_one_at_a_time(noting: Victim, notes: Notes) -> None:
    with Hostile(noting) as first, Hostile(noting) as second:
        lanes = [peer.shake().lane(frame.LANE_ONEWAY) for peer in (first, second)]
        lanes[0].send(oneway(0, HOLD))
        assert notes.entered.wait(WAIT)
        for number in range(1, 100):
            lanes[number % 2].send(oneway(number, seq=number))
        notes.gate.set()
        until(lambda: len(notes.seen) == 100, "all are executed")
        assert notes.most_at_once == 1
        assert [number for number in notes.seen if number % 2] == list(range(1, 100, 2))
        assert [number for number in notes.seen if not number % 2] == list(range(0, 100, 2))


def test_coroutine_handlers_keep_the_order(noting: Victim, notes: Notes) -> None:
    with Hostile(noting) as peer:
        lane = peer.shake().lane(frame.LANE_ONEWAY)
        for number in range(60):
            lane.send(oneway(number, NOTE if number % 5 == 4 else NOTE_LATER))
        until(lambda: len(notes.seen) == 60, "all are executed")
        assert notes.seen == list(range(60)), "plain handlers wait for coroutines too"
        assert notes.most_at_once <= 1


def test_on_an_event_loop_the_order_is_the_same(noting: Victim, notes: Notes) -> None:
    async def main(lane: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        workers = noting.node.workers
        await asyncio.to_thread(workers.reserve_for, loop)
        workers.attach_loop(loop)
        handler_loop.attach(loop)
        try:
            for number in range(60):
                lane.send(oneway(number, NOTE_LATER if number % 3 else NOTE))
            while len(notes.seen) < 60:
                await asyncio.sleep(0)  # a turn of the loop, until all are executed
        finally:
            handler_loop.attach(None)
            workers.detach_loop()

    with Hostile(noting) as peer:
        asyncio.run(asyncio.wait_for(main(peer.shake().lane(frame.LANE_ONEWAY)), WAIT))
        assert notes.seen == list(range(60))
        until(lambda: served_peer(noting).incoming.executed == 60 * (HEADER_SIZE + 4), "all are counted")


def test_a_handler_that_raises_is_logged_and_the_next_call_executed(
    noting: Victim, notes: Notes, caplog: pytest.LogCaptureFixture
) -> None:
    with Hostile(noting) as peer:
        lane = peer.shake().lane(frame.LANE_ONEWAY)
        lane.send(oneway(0, RAISE))
        lane.send(oneway(1))
        until(lambda: notes.seen == [0, 1], "both were called")
        until(lambda: "call 0 goes wrong" in caplog.text, "the log says what went wrong")


def test_everything_that_was_read_is_counted(noting: Victim, notes: Notes, warns: Warns) -> None:
    """Plain, queued behind another, failed, reserved, with objects, to unknown handles: all free the budget again."""
    packets = [
        oneway(0, HOLD, seq=1),
        oneway(1, RAISE, seq=2),
        oneway(2, seq=3, handle=77),
        call(kind=frame.ONEWAY, code=0x5F504E47, seq=4),
        call(int_bytes(4) + bytes(24), [Entry(4, frame.OBJ_EXPORT, -1, 9, 0)], kind=frame.ONEWAY, code=NOTE, seq=5),
        oneway(5, seq=6),
    ]
    with Hostile(noting) as peer:
        lane = peer.shake().lane(frame.LANE_ONEWAY)
        for packet in packets:
            lane.send(packet)
        assert notes.entered.wait(WAIT)
        incoming = served_peer(noting).incoming
        total = sum(len(packet) for packet in packets)
        until(lambda: incoming.received == total, "all are read")
        until(lambda: incoming.executed == len(packets[2]), "the one to nobody is counted, the others wait")
        notes.gate.set()
        until(lambda: incoming.executed == total, "all are counted")
        peer.post(frame.CREDIT_QUERY)
        assert frame.decode_pairs(peer.receive(frame.CREDIT)) == [(total, 0)]
        assert notes.seen == [0, 1, 4, 5]
        warns("names object 77")


def test_more_than_the_budget_waiting_disconnects(
    noting: Victim, notes: Notes, warns: Warns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ONEWAY_BUDGET", 3 * (HEADER_SIZE + 4))
    with Hostile(noting) as peer:
        lane = peer.shake().lane(frame.LANE_ONEWAY)
        lane.send(oneway(0, HOLD))
        assert notes.entered.wait(WAIT)
        lane.send(oneway(1))
        lane.send(oneway(2))
        until(lambda: served_peer(noting).oneway_read == 3, "exactly the budget is taken")
        lane.send(oneway(3))
        assert peer.hung_up()
        warns("one-way calls wait here")
    notes.gate.set()
    until(lambda: not noting.node.held_lanes, "nobody reads its lane")


def test_what_was_sent_before_the_sender_died_is_executed(noting: Victim, notes: Notes) -> None:
    with Hostile(noting) as peer:
        lane = peer.shake().lane(frame.LANE_ONEWAY)
        lane.send(oneway(0, HOLD))
        assert notes.entered.wait(WAIT)
        for number in range(1, 10):
            lane.send(oneway(number))
    until(lambda: noting.node.statistics()["peers"] == 1, "its death is seen")
    notes.gate.set()
    until(lambda: notes.seen == list(range(10)), "all are executed")


def test_a_release_waits_until_the_calls_before_it_were_read(noting: Victim, notes: Notes) -> None:
    with Hostile(noting) as peer:
        handle = make(peer.shake().lane())
        lane = peer.lane(frame.LANE_ONEWAY)
        peer.post(frame.RELEASE, (2, 0), (handle, 1))
        peer.post(frame.CREDIT_QUERY)
        peer.receive(frame.CREDIT)  # the release was taken in as well
        made = notes.made
        assert made is not None
        assert noting.node.statistics()["exports"] == 2
        lane.send(oneway(1, handle=handle, seq=1))
        lane.send(oneway(2, handle=handle, seq=2))
        until(lambda: made.seen == [1, 2], "both reach the object")
        until(lambda: noting.node.statistics()["exports"] == 1, "then it is released")
