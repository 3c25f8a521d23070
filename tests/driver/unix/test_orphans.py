"""Lanes whose call was given up: what comes late is released, and nothing of them stays."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from binderkit import limits
from binderkit.driver.unix import frame
from binderkit.driver.unix.frame import Entry
from binderkit.driver.unix.peer import Lane
from binderkit.errors import CallTimeoutError, QuotaError
from binderkit.ipc.option import MessageOption
from binderkit.parcel import MessageSequence
from tests.driver.unix.hostile import Attempt, HostileOwner, Victim, int_bytes, reply_to, until

RECORD = bytes(24)
Given = tuple[socket.socket, frame.Frame]


@pytest.fixture
def owner(victim: Victim) -> Iterator[HostileOwner]:
    """A process that answers late."""
    with HostileOwner(victim.client) as made:
        yield made


def send(owner: HostileOwner, timeout: float | None) -> int:
    data, reply = MessageSequence(), MessageSequence()
    data.write_int(1)
    owner.proxy.send_request(1, data, reply, None if timeout is None else MessageOption(timeout=timeout))
    return reply.read_int()


def give_up(victim: Victim, owner: HostileOwner) -> Given:
    """Make a call that times out; return its lane and frame."""
    before = victim.client.statistics()["orphans"]
    attempt = Attempt(lambda: send(owner, 0.01))
    lane, got = owner.next_call()
    assert isinstance(attempt.over().error, CallTimeoutError)
    assert victim.client.statistics()["orphans"] == before + 1
    return lane, got


def no_orphans(victim: Victim) -> Callable[[], bool]:
    return lambda: victim.client.statistics()["orphans"] == 0


def test_the_other_side_sees_that_nothing_more_is_asked(victim: Victim, owner: HostileOwner) -> None:
    lane, _ = give_up(victim, owner)
    assert lane.recv(1) == b"", "our sending half is closed"
    lane.close()
    until(no_orphans(victim), "its end is seen")


def test_a_late_reply_is_released_and_then_the_end_is_awaited(victim: Victim, owner: HostileOwner) -> None:
    lane, got = give_up(victim, owner)
    read, write = os.pipe()
    entries = [Entry(0, frame.OBJ_EXPORT, -1, 31, 0), Entry(24, frame.OBJ_FD, 0, 0, 0)]
    lane.send(reply_to(got, RECORD * 2, entries, fds=1))
    socket.send_fds(lane, [frame.FDS_FOLLOW], [write])
    os.close(write)
    assert os.read(read, 1) == b"", "the descriptor is closed"
    os.close(read)
    assert frame.decode_pairs(owner.receive(frame.RELEASE))[1:] == [(31, 1)]
    assert victim.client.statistics()["orphans"] == 1
    # The reply of a nested call may follow: it is released as well.
    lane.send(reply_to(got, RECORD, [Entry(0, frame.OBJ_EXPORT, -1, 32, 0)]))
    assert frame.decode_pairs(owner.receive(frame.RELEASE))[1:] == [(32, 1)]
    lane.close()
    until(no_orphans(victim), "it is closed with the other end")


def test_a_call_back_to_a_thread_that_no_longer_waits_is_released_and_so_is_what_follows(
    victim: Victim, owner: HostileOwner
) -> None:
    """Its caller reads that nobody answers, and sends its own reply; a lane closed before would lose both ways."""
    lane, got = give_up(victim, owner)
    entries = [Entry(0, frame.OBJ_EXPORT, -1, 41, 0)]
    lane.send(frame.encode(frame.CALL, 0, 1, 0, 1, 0, got.chain, 0, RECORD, entries, 0))
    assert frame.decode_pairs(owner.receive(frame.RELEASE))[1:] == [(41, 1)]
    assert lane.recv(1) == b"", "nobody answers"
    lane.send(reply_to(got, RECORD, [Entry(0, frame.OBJ_EXPORT, -1, 42, 0)]))
    assert frame.decode_pairs(owner.receive(frame.RELEASE))[1:] == [(42, 1)]
    lane.close()
    until(no_orphans(victim), "its end is seen")


def test_a_lie_ends_the_lane(victim: Victim, owner: HostileOwner) -> None:
    lane, _ = give_up(victim, owner)
    lane.send(b"\xff" * 60)
    until(no_orphans(victim), "it is closed")
    victim.check_usable()


def test_descriptors_that_never_come(victim: Victim, owner: HostileOwner, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_WAIT", 0.05)
    lane, got = give_up(victim, owner)
    lane.send(reply_to(got, RECORD, [Entry(0, frame.OBJ_FD, 0, 0, 0)], fds=1))
    until(no_orphans(victim), "the lane is closed after the time")
    assert lane.recv(1) == b""
    victim.check_usable()


def test_descriptors_that_come_late(victim: Victim, owner: HostileOwner) -> None:
    lane, got = give_up(victim, owner)
    lane.send(
        reply_to(got, RECORD * 2, [Entry(0, frame.OBJ_EXPORT, -1, 33, 0), Entry(24, frame.OBJ_FD, 0, 0, 0)], fds=1)
    )
    orphans = victim.client.orphans
    until(lambda: orphans._begun, "the frame was read")
    read, write = os.pipe()
    socket.send_fds(lane, [frame.FDS_FOLLOW], [write])
    os.close(write)
    assert os.read(read, 1) == b"", "taken in, and closed"
    os.close(read)
    assert frame.decode_pairs(owner.receive(frame.RELEASE))[1:] == [(33, 1)]
    until(lambda: not orphans._begun, "nothing is waited for any more")
    assert victim.client.statistics()["orphans"] == 1, "its end is still to come"


def test_given_up_lanes_count_against_the_limit(
    victim: Victim, owner: HostileOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_LANES_PER_PEER", 3)
    given = [give_up(victim, owner) for _ in range(3)]
    assert victim.client.orphans.of(owner.proxy._connection) == 3  # type: ignore[arg-type]
    assert victim.client.orphans.of(victim.proxy._connection) == 0  # type: ignore[arg-type]
    victim.check_usable()
    with pytest.raises(QuotaError, match="3 calls to process"):
        send(owner, None)
    given[0][0].close()
    until(lambda: victim.client.statistics()["orphans"] == 2, "one is at its end")
    attempt = Attempt(lambda: send(owner, None))
    lane, got = owner.next_call()
    lane.send(reply_to(got, int_bytes(5)))
    assert attempt.over().result == 5


def test_the_death_of_the_process_ends_them(victim: Victim, owner: HostileOwner) -> None:
    for _ in range(3):
        give_up(victim, owner)
    lanes = list(owner.lanes.values())
    owner.sock.close()  # its lanes stay open, as with a stray child of it
    until(no_orphans(victim), "nothing more will come")
    assert all(lane.recv(1) == b"" for lane in lanes)
    victim.check_usable()


def test_a_lane_of_a_dead_process_is_closed_at_once(victim: Victim, owner: HostileOwner) -> None:
    owner.close()
    until(owner.proxy.is_object_dead, "it is dead")
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        connection: Any = owner.proxy._connection
        victim.client.orphans.add(connection, Lane(ours, 1))
        assert ours.fileno() < 0
        assert len(victim.client.orphans) == 0


class Unsure:
    """A message of which nobody knows whether it left."""

    def __init__(self) -> None:
        self.ends: list[str] = []

    def sent(self) -> None:
        self.ends.append("sent")

    def undo(self) -> None:
        self.ends.append("undone")


@pytest.mark.parametrize(("answered", "end"), [(True, "sent"), (False, "undone")])
def test_a_message_of_which_nobody_knows_whether_it_left(
    victim: Victim, owner: HostileOwner, answered: bool, end: str
) -> None:
    """The late reply tells: with one the message left, with the end of the lane it did not."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    lane = Lane(ours, 50)
    unsure: Any = Unsure()
    lane.unsure = unsure
    lane.kept = object()
    connection: Any = owner.proxy._connection
    victim.client.orphans.add(connection, lane)
    with theirs:
        if answered:
            theirs.send(frame.encode(frame.REPLY, 0, 1, 0, 0, 0, 0, 0, b"", [], 0))
            until(lambda: unsure.ends, "the reply settles it")
    until(no_orphans(victim), "the lane is closed")
    assert unsure.ends == [end], "settled once"
    assert lane.kept is None
