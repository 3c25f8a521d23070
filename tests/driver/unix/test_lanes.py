"""Who reads a lane: a slow handler holds up nobody, what has begun goes on, a lane ends once."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from binderkit import limits
from binderkit.driver.unix import frame, handshake, translate
from binderkit.driver.unix.frame import Entry
from binderkit.driver.unix.lanes import ServedLane, SharedLane, has_more
from binderkit.driver.unix.node import Node
from binderkit.errors import DeadObjectError, ProtocolError
from binderkit.ipc.option import MessageOption
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence
from binderkit.parcel.objects import BINDER_TYPE_FD, pack_record
from tests.driver.unix import hostile
from tests.driver.unix.hostile import WAIT, Hostile, Victim, call, int_bytes, until

FD_CALL = call(pack_record(BINDER_TYPE_FD, 0, 0, 0), [Entry(0, frame.OBJ_FD, 0, 0, 0)], code=hostile.READ_FD, fds=1)
HOLD = 1
ADD_ONE = 2


class Gates(RemoteObject):
    """Holds call n until gate n opens."""

    def __init__(self, count: int) -> None:
        super().__init__("test.IGates")
        self.gates = [threading.Event() for _ in range(count)]
        self.entered = [threading.Event() for _ in range(count)]

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> bool:
        number = data.read_int()
        if code == HOLD:
            self.entered[number].set()
            if not self.gates[number].wait(WAIT):
                raise TimeoutError("nobody opened the gate")
        reply.write_int(number + 1)
        return True

    def open_all(self) -> None:
        for gate in self.gates:
            gate.set()


@pytest.fixture
def gates() -> Iterator[Gates]:
    made = Gates(20)
    yield made
    made.open_all()


@pytest.fixture
def gated(gates: Gates) -> Iterator[Victim]:
    """A victim whose root object holds calls."""
    made = Victim.__new__(Victim)
    made.service = hostile.Service()
    made.node = Node(title="victim")
    made.node.become_context(gates)
    made.client = Node(title="honest")
    made.proxy = hostile.join(made.node, made.client)
    yield made
    gates.open_all()
    made.close()


def receive(lane: socket.socket) -> tuple[int, bytes]:
    got = frame.decode(lane.recv(frame.PACKET_MAX))
    assert got.kind == frame.REPLY
    assert not got.flags
    return got.seq, got.data


def lane_of(victim: Victim, number: int = 1) -> ServedLane:
    """Return the victim's end of the only hostile peer's lane, as soon as it is served."""

    def found() -> list[ServedLane]:
        peers = [peer for peer in list(victim.node._peers.values()) if peer.node_id != victim.client.id]
        return [peer.served[number] for peer in peers if number in peer.served]

    until(found, f"lane {number} is served")
    return found()[0]


# --- shared lanes ------------------------------------------------------------------------------------------


def test_another_call_is_answered_while_a_handler_is_slow(gated: Victim, gates: Gates) -> None:
    with Hostile(gated) as peer:
        lane = peer.shake().lane(frame.LANE_MUX)
        lane.send(call(int_bytes(0), seq=1, code=HOLD))
        assert gates.entered[0].wait(WAIT)
        begin = time.monotonic()
        lane.send(call(int_bytes(5), seq=2, code=ADD_ONE))
        assert receive(lane) == (2, int_bytes(6))
        assert time.monotonic() - begin < 1, "a tick or two of the monitor, not the handler's time"
        gates.gates[0].set()
        assert receive(lane) == (1, int_bytes(1)), "replies leave in the order they are ready"


def test_a_slow_handler_hands_over_also_after_an_earlier_one_has_finished(gated: Victim, gates: Gates) -> None:
    """The end of the first reader's handler says nothing about the second reader's."""
    with Hostile(gated) as peer:
        lane = peer.shake().lane(frame.LANE_MUX)
        for number in range(10):
            lane.send(call(int_bytes(number), seq=number, code=HOLD))
            assert gates.entered[number].wait(WAIT)
            if number:
                gates.gates[number - 1].set()
                assert receive(lane) == (number - 1, int_bytes(number))
        lane.send(call(int_bytes(5), seq=100, code=ADD_ONE))
        assert receive(lane) == (100, int_bytes(6))


def test_as_many_slow_handlers_as_threads_and_their_replies(gated: Victim, gates: Gates) -> None:
    count = limits.DEFAULT_WORK_THREADS
    with Hostile(gated) as peer:
        lane = peer.shake().lane(frame.LANE_MUX)
        for number in range(count):
            lane.send(call(int_bytes(number), seq=number, code=HOLD))
        for number in range(count):
            assert gates.entered[number].wait(WAIT), f"handler {number} runs beside the others"
        for number in reversed(range(count)):
            gates.gates[number].set()
            assert receive(lane) == (number, int_bytes(number + 1))
    until(lambda: not gated.node.held_lanes, "nobody reads it any more")


def test_a_cancel_reaches_the_call_it_names_only(gated: Victim, gates: Gates) -> None:
    with Hostile(gated) as peer:
        lane = peer.shake().lane(frame.LANE_MUX)
        for number in range(2):
            lane.send(call(int_bytes(number), seq=number + 1, code=HOLD))
            assert gates.entered[number].wait(WAIT)
        served = lane_of(gated)
        contexts = {context.seq: context for context in served.contexts()}
        assert set(contexts) == {1, 2}
        peer.post(frame.CANCEL, (1, 2))
        until(lambda: contexts[2].cancelled, "it is told")
        assert not contexts[1].cancelled
        gates.open_all()
        assert {receive(lane)[0], receive(lane)[0]} == {1, 2}
        until(lambda: not served.contexts(), "none is being handled")


def test_the_death_of_the_caller_is_told_to_all_its_handlers(gated: Victim, gates: Gates) -> None:
    with Hostile(gated) as peer:
        lane = peer.shake().lane(frame.LANE_MUX)
        for number in range(2):
            lane.send(call(int_bytes(number), seq=number + 1, code=HOLD))
            assert gates.entered[number].wait(WAIT)
        contexts = lane_of(gated).contexts()
    until(lambda: all(context.cancelled for context in contexts), "they are told")
    gates.open_all()
    until(lambda: gated.node.statistics()["peers"] == 1, "it is forgotten")
    until(lambda: not gated.node.held_lanes, "nobody reads its lane")


def test_a_slow_handler_whose_lane_ended_meanwhile_disturbs_nobody(gated: Victim, gates: Gates) -> None:
    """Its reply finds no lane; the lanes of others, which may have the descriptor's number by now, go on."""
    with Hostile(gated) as peer:
        lane = peer.shake().lane(frame.LANE_MUX)
        lane.send(call(int_bytes(0), code=HOLD))
        assert gates.entered[0].wait(WAIT)
        served = lane_of(gated)
        lane.close()
        until(lambda: served.sock.fileno() < 0, "the next reader sees its end and closes it")
        others = [peer.lane() for _ in range(3)]
        for other in others:
            other.send(call(int_bytes(1), code=ADD_ONE))
            assert receive(other) == (1, int_bytes(2))
        gates.gates[0].set()
        for other in others:
            other.send(call(int_bytes(2), code=ADD_ONE))
            assert receive(other) == (1, int_bytes(3))


# --- frames that have begun ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [frame.LANE_SYNC, frame.LANE_MUX])
def test_a_frame_whose_descriptors_come_late_holds_no_thread(victim: Victim, kind: int) -> None:
    read, write = os.pipe()
    os.write(write, b"text")
    with Hostile(victim) as peer:
        lanes = [peer.shake().lane(kind) if not number else peer.lane(kind) for number in range(20)]
        for lane in lanes:
            lane.send(FD_CALL)
        served = [lane_of(victim, number + 1) for number in range(len(lanes))]
        until(lambda: all(lane.begun is not None for lane in served), "more frames than threads have begun")
        until(lambda: victim.node.statistics()["waiting"] == victim.node.statistics()["threads"], "no thread waits")
        victim.check_usable()
        socket.send_fds(lanes[7], [frame.FDS_FOLLOW], [read])
        assert not frame.decode(lanes[7].recv(frame.PACKET_MAX)).flags
        assert served[7].begun is None
        # The lane is used on.
        lanes[7].send(call(int_bytes(1), seq=2))
        assert receive(lanes[7]) == (2, int_bytes(2))
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    ("packet", "more"),
    [(call(b"abcd"), False), (FD_CALL, True), (call(flags=frame.FLAG_FAILED), True), (b"short", True)],
)
def test_what_is_more_than_header_and_data(packet: bytes, more: bool) -> None:
    assert has_more(packet) is more


# --- the end ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [frame.LANE_SYNC, frame.LANE_MUX, frame.LANE_ONEWAY])
def test_close_again_does_not_touch_a_lane_that_got_the_same_descriptor(victim: Victim, kind: int) -> None:
    with Hostile(victim) as peer, ExitStack() as plugs:
        first = peer.shake().lane(kind)
        old = lane_of(victim)
        new, theirs = (plugs.enter_context(end) for end in socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET))
        new.settimeout(WAIT)
        # No number below the old lane's is free, so the next descriptor that arrives gets just that.
        while plugs.enter_context(open(os.devnull)).fileno() < old.fd:
            pass
        first.shutdown(socket.SHUT_RDWR)
        until(lambda: old.sock.fileno() < 0, "it is closed with its other end")
        peer.post(frame.LANE, (2, frame.LANE_SYNC), fds=(theirs.fileno(),))
        new.send(call(int_bytes(1)))
        assert receive(new) == (1, int_bytes(2))
        assert lane_of(victim, 2).fd == old.fd
        old.close()
        old.fail(BrokenPipeError("late"))
        new.send(call(int_bytes(2), seq=2))
        assert receive(new) == (2, int_bytes(3))
        assert not lane_of(victim, 2).sock.fileno() < 0


def test_a_shortage_of_our_own_closes_the_lane_and_not_the_connection(
    victim: Victim, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def short(peer: object, got: object, fds: list[int]) -> None:
        handshake.close_all(fds)
        raise MemoryError("no memory")

    with Hostile(victim) as peer:
        lane = peer.shake().lane()
        monkeypatch.setattr(translate, "accept", short)
        lane.send(FD_CALL)
        with open(os.devnull) as null:
            socket.send_fds(lane, [frame.FDS_FOLLOW], [null.fileno()])
        assert lane.recv(1) == b""
        monkeypatch.undo()
        other = peer.lane()
        other.send(call(int_bytes(1)))
        assert receive(other) == (1, int_bytes(2))
    assert "could not be taken in" in caplog.text


def test_a_broken_rule_disconnects(victim: Victim) -> None:
    with Hostile(victim) as peer:
        peer.shake().lane()
        until(lambda: victim.node.statistics()["served_lanes"] == 2, "it is served")
        lane_of(victim).fail(ProtocolError("a test's lie"))
        assert b"a test's lie" in peer.receive(frame.GOODBYE).payload
        assert peer.hung_up()


def test_a_lane_names_its_peer(victim: Victim) -> None:
    with Hostile(victim) as peer:
        peer.shake().lane(frame.LANE_MUX)
        until(lambda: victim.node.statistics()["served_lanes"] == 2, "it is served")
        assert repr(lane_of(victim)).startswith("<SharedLane 1 of <Peer")
        assert isinstance(lane_of(victim), SharedLane)


# --- on an event loop -------------------------------------------------------------------------------------------


def on_a_loop(victim: Victim, main: Any) -> None:
    """Run ``main()`` on a loop that serves the victim."""

    async def served() -> None:
        loop = asyncio.get_running_loop()
        workers = victim.node.workers
        await asyncio.to_thread(workers.reserve_for, loop)
        workers.attach_loop(loop)
        try:
            await main()
        finally:
            workers.detach_loop()

    asyncio.run(asyncio.wait_for(served(), WAIT))


@pytest.mark.parametrize("kind", [frame.LANE_SYNC, frame.LANE_MUX])
def test_served_on_a_loop(victim: Victim, kind: int) -> None:
    with Hostile(victim) as peer:
        lane = peer.shake().lane(kind)

        async def main() -> None:
            for seq in range(140):
                lane.send(call(int_bytes(seq), seq=seq))
                if seq % 70 == 69:  # more than one batch of the loop at once
                    for answered in range(seq - 69, seq + 1):
                        assert await asyncio.to_thread(receive, lane) == (answered, int_bytes(answered + 1))

        on_a_loop(victim, main)
        lane.send(call(int_bytes(1), seq=999))
        assert receive(lane) == (999, int_bytes(2)), "threads serve again"


@pytest.mark.parametrize("kind", [frame.LANE_SYNC, frame.LANE_MUX])
def test_a_loop_does_not_wait_for_descriptors(victim: Victim, kind: int) -> None:
    read, write = os.pipe()
    os.write(write, b"text")
    with Hostile(victim) as peer:
        peer.shake()
        slow, other = peer.lane(kind), peer.lane(kind)

        async def main() -> None:
            slow.send(FD_CALL)
            other.send(call(int_bytes(1)))
            assert await asyncio.to_thread(receive, other) == (1, int_bytes(2))
            socket.send_fds(slow, [frame.FDS_FOLLOW], [read])
            assert (await asyncio.to_thread(receive, slow))[0] == 1
            slow.close()
            until_closed = lane_of(victim, 1)
            while until_closed.sock.fileno() >= 0:
                await asyncio.sleep(0)  # a turn of the loop, until it has seen the end
            other.send(b"garbage")
            assert await asyncio.to_thread(peer.hung_up)

        on_a_loop(victim, main)
    os.close(read)
    os.close(write)
    victim.check_usable()


def test_calls_of_the_honest_client_fail_when_their_lane_is_closed(victim: Victim) -> None:
    """The other end of ``close``: the caller is told, and its next call has a lane of its own."""
    data, reply = MessageSequence(), MessageSequence()
    attempt = hostile.Attempt(lambda: victim.proxy.send_request(hostile.HOLD_ONE_WAY, data, reply))
    assert victim.service.entered.acquire(timeout=WAIT)
    (peer,) = victim.node._peers.values()
    (lane,) = [lane for lane in peer.served.values() if lane.contexts()]
    lane.sock.shutdown(socket.SHUT_RDWR)
    assert isinstance(attempt.over().error, DeadObjectError)
    victim.service.gate.set()
    victim.check_usable()
    gc.collect()
