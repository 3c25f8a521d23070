"""Calls to processes that lie, stall, die or answer late: the caller gets a clear error, and only that call."""

from __future__ import annotations

import gc
import os
import select
import socket
import time
from collections.abc import Callable
from typing import Any

import pytest

from binderkit import limits
from binderkit.driver.unix import frame
from binderkit.driver.unix.frame import BODY_OFFSET, HEADER, Entry
from binderkit.errors import CallTimeoutError, DeadObjectError, IpcError, ProtocolError, QuotaError
from binderkit.ipc.option import MessageOption
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence
from tests.driver.unix import hostile
from tests.driver.unix.hostile import Attempt, HostileOwner, Victim, add_one, int_bytes, reply_to, until

Warns = Callable[[str], None]
RECORD = bytes(24)


def send(owner: HostileOwner, *objects: RemoteObject, timeout: float | None = None) -> MessageSequence:
    """Call the hostile owner's object; return the reply."""
    data, reply = MessageSequence(), MessageSequence()
    data.write_int(1)
    for value in objects:
        data.write_remote_object(value)
    owner.proxy.send_request(1, data, reply, None if timeout is None else MessageOption(timeout=timeout))
    return reply


LIES: dict[str, tuple[Callable[[frame.Frame], bytes], str]] = {
    "garbage": (lambda got: b"\xff" * 60, "version 255"),
    "one byte": (lambda got: b"x", "a frame of 1 bytes"),
    "truncated": (lambda got: reply_to(got, b"abcd")[:-1], "announces"),
    "oversize": (lambda got: reply_to(got, bytes(frame.PACKET_MAX + 8)), "announces"),
    "unknown flags": (lambda got: HEADER.pack(1, 3, 128, got.seq, 0, 0, 0, 0, 0, 0, 0, 0, 0), "unknown flags"),
    "somebody's object": (lambda got: reply_to(got, RECORD, [Entry(0, frame.OBJ_HOME, -1, 9, 0)]), "handle 9 home"),
    "a slot without memory": (
        lambda got: reply_to(got, b"", [Entry(BODY_OFFSET, frame.OBJ_SLOT, -1, 0, 70_000)]),
        "without its memory",
    ),
    "a slot given back": (
        lambda got: HEADER.pack(1, 3, 0, got.seq, 0, 0, 0, 0, 0, 0, 0, 7, 0),
        "gives back shared slot 6",
    ),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_in_a_reply(victim: Victim, warns: Warns, lie: str) -> None:
    make, words = LIES[lie]
    with HostileOwner(victim.client) as owner:
        attempt = Attempt(lambda: send(owner))
        lane, got = owner.next_call()
        lane.send(make(got))
        assert isinstance(attempt.over().error, ProtocolError)
        warns(words)
        until(owner.proxy.is_object_dead, "it is disconnected")
        victim.check_usable()


def test_a_failed_reply_whose_text_cannot_be_read(victim: Victim) -> None:
    with HostileOwner(victim.client) as owner:
        attempt = Attempt(lambda: send(owner))
        lane, got = owner.next_call()
        lane.send(reply_to(got, b"\xff\xff\xff\x7f", flags=frame.FLAG_FAILED))
        assert isinstance(attempt.over().error, IpcError)
        victim.check_usable()


def test_a_reply_to_another_call_is_not_taken(victim: Victim) -> None:
    with HostileOwner(victim.client) as owner:
        attempt = Attempt(lambda: send(owner))
        lane, got = owner.next_call()
        for wrong in (got.seq - 1 & 0xFFFFFFFF, got.seq + 1, got.seq + 1000):
            lane.send(frame.encode(frame.REPLY, 0, wrong, 0, 0, 0, 0, 0, int_bytes(666), [], 0))
        lane.send(reply_to(got, int_bytes(7)))
        result = attempt.over().result
        assert isinstance(result, MessageSequence)
        assert result.read_int() == 7


def test_no_reply_before_the_deadline(victim: Victim) -> None:
    with HostileOwner(victim.client) as owner:
        begin = time.monotonic()
        attempt = Attempt(lambda: send(owner, timeout=0.05))
        lane, got = owner.next_call()
        assert isinstance(attempt.over().error, CallTimeoutError)
        assert time.monotonic() - begin >= 0.05
        assert 0 < got.remaining <= 50_000, "the time left travels in microseconds"
        ((number, seq),) = frame.decode_pairs(owner.receive(frame.CANCEL))
        assert (owner.lanes[number], seq) == (lane, got.seq)
        # The late reply answers nobody, and the next call travels on another lane.
        attempt = Attempt(lambda: send(owner))
        other, following = owner.next_call()
        lane.send(reply_to(got, int_bytes(666)))
        other.send(reply_to(following, int_bytes(8)))
        result = attempt.over().result
        assert isinstance(result, MessageSequence)
        assert result.read_int() == 8
        lane.close()
        until(lambda: victim.client.statistics()["orphans"] == 0, "the lane is closed after its late reply")


def test_what_a_late_reply_carries_is_released(victim: Victim) -> None:
    with HostileOwner(victim.client) as owner:
        attempt = Attempt(lambda: send(owner, timeout=0.02))
        lane, got = owner.next_call()
        assert isinstance(attempt.over().error, CallTimeoutError)
        read, write = os.pipe()
        data = [Entry(0, frame.OBJ_EXPORT, -1, 77, 0), Entry(24, frame.OBJ_FD, 0, 0, 0)]
        lane.send(reply_to(got, RECORD * 2, data, fds=1))
        socket.send_fds(lane, [frame.FDS_FOLLOW], [write])
        os.close(write)
        assert os.read(read, 1) == b"", "the descriptor was closed at the other end"
        os.close(read)
        assert frame.decode_pairs(owner.receive(frame.RELEASE))[1:] == [(77, 1)]


def test_a_lane_that_comes_back_to_a_dead_peer_is_closed(victim: Victim) -> None:
    with HostileOwner(victim.client) as owner:
        attempt = Attempt(lambda: send(owner))
        lane, got = owner.next_call()
        lane.send(reply_to(got, int_bytes(1)))
        assert attempt.over().error is None
        connection: Any = owner.proxy._connection
        mine = connection.free.pop()
        lane.close()
    until(lambda: connection not in victim.client._peers.values(), "the owner is buried")
    until(lambda: connection.lane_count == 0, "its lanes are gone")
    connection.free.append(mine)
    assert mine.sock.fileno() == -1
    assert not connection.free


def test_a_reply_whose_descriptors_miss_the_deadline_is_taken(victim: Victim) -> None:
    """A lane left between a frame and its descriptors could not be used any more."""
    with HostileOwner(victim.client) as owner:
        attempt = Attempt(lambda: send(owner, timeout=0.1))
        lane, got = owner.next_call()
        lane.send(reply_to(got, RECORD, [Entry(0, frame.OBJ_FD, 0, 0, 0)], fds=1))
        with pytest.raises(AssertionError, match="the call hangs"):
            attempt.over(0.3)
        with open(os.devnull) as file:
            socket.send_fds(lane, [frame.FDS_FOLLOW], [file.fileno()])
        result = attempt.over().result
        assert isinstance(result, MessageSequence)
        os.close(result.read_file_descriptor())
        result.reclaim()


@pytest.mark.parametrize("kind", [frame.REPLY, frame.CALL])
def test_descriptors_that_never_come_end_the_connection(
    victim: Victim, warns: Warns, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    with HostileOwner(victim.client) as owner:
        monkeypatch.setattr(limits, "HANDSHAKE_WAIT", 0.1)
        attempt = Attempt(lambda: send(owner, RemoteObject("test.IMine")))
        lane, got = owner.next_call()
        (handle,) = (entry.id for entry in got.entries)
        rows = [Entry(0, frame.OBJ_FD, 0, 0, 0)]
        seq = got.seq if kind == frame.REPLY else 1
        lane.send(frame.encode(kind, 0, seq, handle, 1, 0, 1, 0, RECORD, rows, 1))
        assert isinstance(attempt.over().error, ProtocolError)
        warns("did not come within 0.1 s")
        until(owner.proxy.is_object_dead, "the owner is disconnected")
        lane.close()
    victim.check_usable()


def test_a_late_reply_that_announces_descriptors_and_sends_none_blocks_nobody(victim: Victim) -> None:
    with HostileOwner(victim.client) as owner:
        attempt = Attempt(lambda: send(owner, timeout=0.02))
        lane, got = owner.next_call()
        assert isinstance(attempt.over().error, CallTimeoutError)
        lane.send(reply_to(got, RECORD, [Entry(0, frame.OBJ_FD, 0, 0, 0)], fds=1))
        # The monitor reads such lanes; it must still see others come and go.
        begin = time.monotonic()
        victim.check_usable()
        other = HostileOwner(victim.client)
        other.close()
        until(other.proxy.is_object_dead, "the monitor sees a hang-up")
        assert time.monotonic() - begin < limits.HANDSHAKE_WAIT / 2
    until(lambda: victim.client.statistics()["orphans"] == 0, "the lane ends with its owner")


@pytest.mark.parametrize("step", ["before the call is read", "after it", "half a reply"])
def test_dying_at_each_step_of_a_call(victim: Victim, step: str) -> None:
    owner = HostileOwner(victim.client)
    attempt = Attempt(lambda: send(owner))
    if step == "before the call is read":
        owner.receive(frame.LANE)
    else:
        lane, got = owner.next_call()
        if step == "half a reply":
            lane.send(reply_to(got, RECORD, [Entry(0, frame.OBJ_FD, 0, 0, 0)], fds=1))
    owner.close()
    assert isinstance(attempt.over().error, DeadObjectError)
    with pytest.raises(DeadObjectError):
        send(owner)
    victim.check_usable()


def test_dying_while_its_call_back_is_handled(victim: Victim) -> None:
    """A calls B, B calls A back and dies: A's handler cannot reply, A's call is told of the death."""
    service = hostile.Service()
    owner = HostileOwner(victim.client)
    attempt = Attempt(lambda: send(owner, service))
    lane, got = owner.next_call()
    (entry,) = got.entries
    lane.send(frame.encode(frame.CALL, 0, 1, entry.id, hostile.HOLD_ONE_WAY, 0, got.chain, 0, b"", [], 0))
    assert service.entered.acquire(timeout=hostile.WAIT)
    owner.close()
    service.gate.set()
    assert isinstance(attempt.over().error, DeadObjectError)
    victim.check_usable()


def test_a_call_back_runs_on_the_waiting_thread(victim: Victim) -> None:
    with HostileOwner(victim.client) as owner:
        service = hostile.Service()
        attempt = Attempt(lambda: send(owner, service))
        lane, got = owner.next_call()
        for number in range(5):
            lane.send(
                frame.encode(frame.CALL, 0, number, got.entries[0].id, 1, 0, got.chain, 0, int_bytes(number), [], 0)
            )
            assert frame.decode(lane.recv(frame.PACKET_MAX)).data == int_bytes(number + 1)
        lane.send(reply_to(got, int_bytes(1)))
        assert attempt.over().error is None


def test_too_many_calls_at_once(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_LANES_PER_PEER", 3)
    with HostileOwner(victim.client) as owner:
        attempts = [Attempt(lambda: send(owner)) for _ in range(3)]
        calls = [owner.next_call() for _ in range(3)]
        with pytest.raises(QuotaError, match="3 calls to process"):
            send(owner)
        for lane, got in calls:
            lane.send(reply_to(got, int_bytes(1)))
        for attempt in attempts:
            assert attempt.over().error is None
        last = Attempt(lambda: send(owner))
        poller = select.poll()
        for lane, _ in calls:
            poller.register(lane, select.POLLIN)
        ((ready, _),) = poller.poll(hostile.WAIT * 1000)
        free = next(lane for lane, _ in calls if lane.fileno() == ready)
        free.send(reply_to(frame.decode(free.recv(frame.PACKET_MAX)), int_bytes(1)))
        assert last.over().error is None, "a free lane is used again"


def test_a_release_waits_for_the_one_way_calls_before_it(victim: Victim) -> None:
    """Send a one-way call, drop the proxy, flush at once: the call is executed all the same."""
    option = MessageOption(MessageOption.TF_ASYNC)
    stub_count = victim.node.statistics()["exports"]
    for _ in range(300):
        data, reply = MessageSequence(), MessageSequence()
        victim.proxy.send_request(hostile.MAKE, data, reply)
        made = reply.read_remote_object()
        reply.reclaim()
        made.send_request(7, MessageSequence(), MessageSequence(), option)
        del made
        victim.client.flush_released()
    add_one(victim.proxy)
    until(lambda: victim.node.statistics()["exports"] == stub_count, "all are released")


def test_one_proxy_per_object_and_it_is_released_as_often_as_it_came(victim: Victim) -> None:
    with HostileOwner(victim.client) as owner:
        replies = []
        for _ in range(3):
            attempt = Attempt(lambda: send(owner))
            if not owner.lanes:
                lane, got = owner.next_call()
            else:
                got = frame.decode(lane.recv(frame.PACKET_MAX))
            lane.send(reply_to(got, RECORD, [Entry(0, frame.OBJ_EXPORT, -1, 55, 0)]))
            result = attempt.over().result
            assert isinstance(result, MessageSequence)
            replies.append(result)
        first = next(iter(replies[0]._objects.values()))[1]  # type: ignore[union-attr]
        assert all(next(iter(reply._objects.values()))[1] is first for reply in replies)  # type: ignore[union-attr]
        del first, result, attempt
        replies.clear()
        gc.collect()
        victim.client.flush_released()
        assert frame.decode_pairs(owner.receive(frame.RELEASE))[1:] == [(55, 3)]


def test_an_owner_that_makes_us_hold_too_much(victim: Victim, warns: Warns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_REFERENCES_PER_PEER", 3)
    with HostileOwner(victim.client) as owner:
        attempt = Attempt(lambda: send(owner))
        lane, got = owner.next_call()
        lane.send(reply_to(got, RECORD * 5, [Entry(24 * n, frame.OBJ_EXPORT, -1, 10 + n, 0) for n in range(5)]))
        assert isinstance(attempt.over().error, ProtocolError)
        warns("hold more than 3 objects")
        victim.check_usable()


def test_finalizers_at_any_moment_do_not_deadlock(victim: Victim) -> None:
    """The collector runs at every allocation: proxies die inside every lock there is."""
    threshold = gc.get_threshold()
    gc.set_threshold(1)
    try:

        def work() -> None:
            for _ in range(150):
                data, reply = MessageSequence(), MessageSequence()
                victim.proxy.send_request(hostile.MAKE, data, reply)
                cycle: list[object] = [reply.read_remote_object()]
                cycle.append(cycle)

        attempts = [Attempt(work) for _ in range(3)]
        for attempt in attempts:
            assert attempt.over().error is None
    finally:
        gc.set_threshold(*threshold)
    gc.collect()
    victim.client.flush_released()
    until(lambda: victim.node.statistics()["exports"] == 1, "all are released")
