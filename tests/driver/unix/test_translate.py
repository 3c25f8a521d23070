"""What travels instead of objects: a message leaves with all of its references or none, and what nobody reads goes."""

from __future__ import annotations

import gc
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from binderkit import limits
from binderkit.driver.unix import frame, handshake, translate
from binderkit.driver.unix.frame import BODY_OFFSET, Entry
from binderkit.driver.unix.node import Node
from binderkit.driver.unix.peer import Lane, Peer
from binderkit.driver.unix.undelivered import Incomplete
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    InvalidObjectError,
    ParcelWriteError,
    ProtocolError,
    TooBigError,
)
from binderkit.ipc.context import own_identity
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import RemoteObject
from binderkit.memory import pool
from binderkit.parcel import MessageSequence
from binderkit.parcel.objects import BINDER_TYPE_FD, pack_record
from tests.driver.unix import hostile
from tests.driver.unix.hostile import Hostile, HostileOwner, Victim, int_bytes, until

RECORD = bytes(24)
RAW = 100_000


def peer_of(proxy: RemoteProxy) -> Peer:
    connection = proxy._connection
    assert isinstance(connection, Peer)
    return connection


@pytest.fixture
def peer(victim: Victim) -> Peer:
    """The victim's node, as its honest client sees it."""
    return peer_of(victim.proxy)


@pytest.fixture
def third(victim: Victim) -> Iterator[RemoteProxy]:
    """A proxy of the client's whose owner is a third process."""
    node = Node(title="third")
    node.become_context(hostile.Service())
    yield hostile.join(node, victim.client)
    node.close()


def with_raw(size: int = RAW) -> MessageSequence:
    data = MessageSequence()
    data.write_raw_data_buffer(bytes(size), size)
    return data


def slot_of(data: MessageSequence) -> pool.Slot:
    ((_, slot),) = (data._objects or {}).values()
    assert isinstance(slot, pool.Slot)
    return slot


# --- a message that does not leave -------------------------------------------------------------------------


def a_stub(victim: Victim, third: RemoteProxy) -> MessageSequence:
    data = MessageSequence()
    data.write_remote_object(RemoteObject("test.IStub"))
    return data


def its_own(victim: Victim, third: RemoteProxy) -> MessageSequence:
    data = MessageSequence()
    data.write_remote_object(victim.proxy)
    return data


def a_third(victim: Victim, third: RemoteProxy) -> MessageSequence:
    data = MessageSequence()
    data.write_remote_object(third)
    return data


def a_descriptor(victim: Victim, third: RemoteProxy) -> MessageSequence:
    read, write = os.pipe()
    data = MessageSequence()
    data.write_file_descriptor(read)
    os.close(read)
    os.close(write)
    return data


def raw_data(victim: Victim, third: RemoteProxy) -> MessageSequence:
    return with_raw()


def a_large_body(victim: Victim, third: RemoteProxy) -> MessageSequence:
    data = MessageSequence()
    for _ in range(3):
        data.write_string("x" * 20_000)
    return data


def all_kinds(victim: Victim, third: RemoteProxy) -> MessageSequence:
    data = a_large_body(victim, third)
    data.write_remote_object(RemoteObject("test.IStub"))
    data.write_remote_object(victim.proxy)
    data.write_remote_object(third)
    data.write_raw_data_buffer(bytes(RAW), RAW)
    return data


Make = Callable[[Victim, RemoteProxy], MessageSequence]
KINDS: list[Make] = [a_stub, its_own, a_third, a_descriptor, raw_data, a_large_body, all_kinds]


def state(peer: Peer) -> dict[str, object]:
    """Return everything a message may leave behind at ``peer``."""
    return {
        "held": {handle: held.count for handle, held in peer.held.items()},
        "exports": len(peer.node.exports),
        "home": dict(peer._home),
        "slots": (dict(peer.slots._ours), set(peer.slots._flying)),
    }


@pytest.mark.parametrize("kind", [frame.CALL, frame.REPLY])
@pytest.mark.parametrize("make", KINDS)
def test_undo_takes_everything_back(victim: Victim, peer: Peer, third: RemoteProxy, make: Make, kind: int) -> None:
    before = state(peer)
    with make(victim, third) as data:
        descriptors = len(os.listdir("/proc/self/fd"))
        message = translate.Outgoing(peer, data, kind)
        assert message.entries
        if make is a_large_body:
            assert len(message.body) == 0, "it travels in shared memory"
        message.undo()
        del message
        assert state(peer) == before
        introduced = peer_of(third).node
        until(lambda: introduced.statistics()["introductions"] == 0, "nobody is expected any more")
        pool.trim()
        until(lambda: len(os.listdir("/proc/self/fd")) <= descriptors, "sockets and memory are closed")
    victim.check_usable()


@pytest.mark.parametrize("make", KINDS)
def test_a_send_that_fails_takes_everything_back(victim: Victim, peer: Peer, third: RemoteProxy, make: Make) -> None:
    before = state(peer)
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    with ours, make(victim, third) as data:
        with pytest.raises(DeadObjectError):
            peer.send_general(Lane(ours, 99), frame.CALL, 0, 1, 0, hostile.NOTHING, 0, 1, data)
        assert state(peer) == before
        # The same sequence can be sent again, to a lane that works.
        with MessageSequence() as reply:
            victim.proxy.send_request(hostile.NOTHING, data, reply)
    victim.check_usable()


def test_an_error_halfway_leaves_nothing(victim: Victim, peer: Peer, third: RemoteProxy) -> None:
    before = state(peer)
    foreign = RemoteProxy(OtherDriver(), 1)
    with all_kinds(victim, third) as data:
        data.write_remote_object(foreign)
        with pytest.raises(InvalidObjectError, match="another driver"):
            translate.Outgoing(peer, data, frame.REPLY)
    assert state(peer) == before


# --- limits and refusals --------------------------------------------------------------------------------------


class OtherDriver:
    """A connection of another driver: it cannot introduce."""

    is_dead = False
    caller = own_identity()

    def transact(self, *_: object) -> int:
        raise AssertionError("never called")

    async def transact_async(self, *_: object) -> int:
        raise AssertionError("never called")

    def flush(self) -> None:
        """Nothing waits."""


def test_a_proxy_of_another_driver_is_refused(peer: Peer) -> None:
    with MessageSequence() as data:
        data.write_remote_object(RemoteProxy(OtherDriver(), 1))
        with pytest.raises(InvalidObjectError, match="another driver"):
            translate.Outgoing(peer, data, frame.CALL)


def test_a_proxy_of_another_node_is_refused(victim: Victim, peer: Peer) -> None:
    other = Node(title="other")
    try:
        with MessageSequence() as data:
            data.write_remote_object(hostile.join(victim.node, other))
            with pytest.raises(InvalidObjectError, match="another driver"):
                translate.Outgoing(peer, data, frame.CALL)
    finally:
        other.close()


def test_a_dead_proxy_is_refused(victim: Victim, peer: Peer) -> None:
    owner = HostileOwner(victim.client)
    owner.close()
    until(owner.proxy.is_object_dead, "it is dead")
    with MessageSequence() as data:
        data.write_remote_object(owner.proxy)
        with pytest.raises(DeadObjectError, match="cannot be passed on"):
            translate.Outgoing(peer, data, frame.CALL)


def test_too_many_descriptors(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_FDS_PER_MESSAGE", 3)
    before = state(peer)
    read, write = os.pipe()
    with MessageSequence() as data:
        data.write_remote_object(RemoteObject("test.IFirst"))
        for _ in range(4):
            data.write_file_descriptor(read)
        with pytest.raises(TooBigError, match="more than 3 descriptors"):
            translate.Outgoing(peer, data, frame.CALL)
        assert state(peer) == before
        monkeypatch.setattr(limits, "MAX_FDS_PER_MESSAGE", 4)
        message = translate.Outgoing(peer, data, frame.CALL)
        assert len(message.fds) == 4
        message.undo()
    os.close(read)
    os.close(write)


def test_too_many_objects(peer: Peer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_OBJECTS_PER_MESSAGE", 4)
    before = state(peer)
    stub = RemoteObject("test.IStub")
    with MessageSequence() as data:
        for _ in range(3):
            data.write_remote_object(stub)
        translate.Outgoing(peer, data, frame.CALL).undo()
        data.write_remote_object(stub)
        with pytest.raises(TooBigError, match="4 objects in one message, the limit is 3"):
            translate.Outgoing(peer, data, frame.CALL)
    assert state(peer) == before


def test_a_reclaimed_sequence_is_refused(peer: Peer) -> None:
    data = MessageSequence()
    data.reclaim()
    with pytest.raises(ParcelWriteError, match="reclaimed"):
        translate.readable(data)


# --- shared memory --------------------------------------------------------------------------------------------


def test_a_slot_shared_with_another_peer_is_copied(peer: Peer, third: RemoteProxy) -> None:
    """What was written for one process is never in memory that another has mapped."""
    other = peer_of(third)
    with with_raw() as data:
        mine = slot_of(data)
        first = translate.Outgoing(peer, data, frame.CALL)
        assert (mine.shared_with, first.fds) == (peer, [mine.fd])
        second = translate.Outgoing(other, data, frame.CALL)
        assert mine.shared_with is peer
        assert mine.fd not in second.fds
        (copied,) = other.slots._ours.values()
        assert (copied.shared_with, second.fds) == (other, [copied.fd])
        assert copied.buffer[:RAW] == mine.buffer[:RAW]
        first.undo()
        second.undo()


def test_a_slot_in_flight_is_copied_and_one_given_back_is_reused(peer: Peer) -> None:
    with with_raw() as data:
        mine = slot_of(data)
        first = translate.Outgoing(peer, data, frame.CALL)
        first.sent()
        second = translate.Outgoing(peer, data, frame.CALL)
        assert second.fds != [mine.fd]
        second.undo()
        peer.slots.given_back(mine.index)
        third = translate.Outgoing(peer, data, frame.CALL)
        assert [(entry.kind, entry.id) for entry in third.entries] == [(frame.OBJ_SLOT, mine.index)], "mapped there"
        assert third.fds == []
        third.undo()


def test_the_charge_counts_the_packet_and_what_is_shared(peer: Peer) -> None:
    with with_raw() as data:
        message = translate.Outgoing(peer, data, frame.ONEWAY)
        assert message.charge == frame.HEADER_SIZE + data.get_size() + frame.ENTRY.size + RAW
        message.undo()


# --- objects that go home -----------------------------------------------------------------------------------------


def test_a_proxy_that_goes_home_in_a_reply_is_kept_until_confirmed(victim: Victim) -> None:
    with Hostile(victim) as peer:
        lane = peer.shake().lane()
        lane.send(hostile.call(RECORD, [Entry(0, frame.OBJ_EXPORT, -1, 5, 0)], code=hostile.KEEP))
        assert not frame.decode(lane.recv(frame.PACKET_MAX)).flags
        lane.send(hostile.call(code=hostile.GIVE_BACK, seq=2))
        (entry,) = frame.decode(lane.recv(frame.PACKET_MAX)).entries
        assert (entry.kind, entry.id) == (frame.OBJ_HOME, 5)
        assert entry.argument, "a token to confirm"
        assert isinstance(victim.service.kept, RemoteProxy)
        seen = peer_of(victim.service.kept)
        victim.service.kept = None
        gc.collect()
        victim.node.flush_released()
        assert list(seen._home) == [entry.argument], "the service dropped it, its release waits"
        assert not seen.is_dead
        peer.post(frame.HOME_RECEIVED, (entry.argument, 0))
        assert frame.decode_pairs(peer.receive(frame.RELEASE))[1:] == [(5, 1)]
        assert not seen._home


def test_a_proxy_that_goes_home_in_a_call_needs_no_confirmation(victim: Victim, peer: Peer) -> None:
    with its_own(victim, victim.proxy) as data:
        message = translate.Outgoing(peer, data, frame.CALL)
        (entry,) = message.entries
        assert (entry.kind, entry.argument) == (frame.OBJ_HOME, 0)
        assert not peer._home
        message.undo()


# --- what arrives --------------------------------------------------------------------------------------------------


def arrived(data: bytes, entries: list[Entry], fds: int = 0) -> frame.Frame:
    return frame.decode(frame.encode(frame.REPLY, 0, 1, 0, 0, 0, 0, 0, data, entries, fds))


def test_dispose_releases_an_object(victim: Victim) -> None:
    with HostileOwner(victim.client) as owner:
        translate.dispose(peer_of(owner.proxy), arrived(RECORD, [Entry(0, frame.OBJ_EXPORT, -1, 44, 0)]), [])
        assert frame.decode_pairs(owner.receive(frame.RELEASE))[1:] == [(44, 1)]


def test_dispose_confirms_what_came_home(victim: Victim) -> None:
    with HostileOwner(victim.client) as owner:
        entries = [Entry(0, frame.OBJ_HOME, -1, 3, 12), Entry(24, frame.OBJ_HOME, -1, 4, 12)]
        translate.dispose(peer_of(owner.proxy), arrived(RECORD * 2, entries), [])
        assert frame.decode_pairs(owner.receive(frame.HOME_RECEIVED)) == [(12, 0)]


@pytest.mark.parametrize("kind", [frame.OBJ_FD, frame.OBJ_INTRODUCED])
def test_dispose_closes_descriptors(victim: Victim, kind: int) -> None:
    with HostileOwner(victim.client) as owner:
        ours, theirs = handshake.pair()
        translate.dispose(peer_of(owner.proxy), arrived(RECORD, [Entry(0, kind, 0, 0, 0)], 1), [theirs.detach()])
        assert ours.recv(1) == b"", "the other end is closed"
        ours.close()


def test_dispose_gives_shared_memory_back_and_keeps_it_mapped(victim: Victim) -> None:
    slot = pool.take(RAW)
    with HostileOwner(victim.client) as owner:
        here = peer_of(owner.proxy)
        fd = os.dup(slot.fd)
        new = Entry(BODY_OFFSET, frame.OBJ_NEW_SLOT, 0, 6, slot.size << 32 | RAW)
        translate.dispose(here, arrived(b"", [new], 1), [fd])
        assert frame.decode_pairs(owner.receive(frame.SLOTS_FREED)) == [(6, 0)]
        # Sent once more, now without its memory: it was kept.
        known = Entry(BODY_OFFSET, frame.OBJ_SLOT, -1, 6, RAW)
        translate.dispose(here, arrived(b"", [known]), [])
        assert frame.decode_pairs(owner.receive(frame.SLOTS_FREED)) == [(6, 0)]
    slot.release()


def test_an_object_record_outside_a_shared_body_is_a_lie(victim: Victim) -> None:
    slot = pool.take(RAW)
    read, write = os.pipe()
    with HostileOwner(victim.client) as owner:
        entries = [
            Entry(RAW, frame.OBJ_FD, 0, 0, 0),
            Entry(BODY_OFFSET, frame.OBJ_NEW_SLOT, 1, 6, slot.size << 32 | RAW),
        ]
        with pytest.raises(ProtocolError, match="outside the data area"):
            translate.accept(peer_of(owner.proxy), arrived(b"", entries, 2), [write, os.dup(slot.fd)])
        gc.collect()
        assert os.read(read, 1) == b"", "its descriptors are closed"
    os.close(read)
    slot.release()


def test_accept_closes_all_descriptors_of_a_message_with_a_lie(victim: Victim) -> None:
    read, write = os.pipe()
    with HostileOwner(victim.client) as owner:
        entries = [Entry(0, frame.OBJ_FD, 0, 0, 0), Entry(24, frame.OBJ_HOME, -1, 99, 0)]
        with pytest.raises(ProtocolError, match="99 home"):
            translate.accept(peer_of(owner.proxy), arrived(RECORD * 2, entries, 1), [write])
        gc.collect()
        assert os.read(read, 1) == b""
    os.close(read)


def test_accept_makes_what_was_sent(victim: Victim) -> None:
    read, write = os.pipe()
    with HostileOwner(victim.client) as owner:
        here = peer_of(owner.proxy)
        record = pack_record(BINDER_TYPE_FD, 0, 0, 0)
        entries = [Entry(0, frame.OBJ_EXPORT, -1, 21, 0), Entry(24, frame.OBJ_FD, 0, 0, 0)]
        data, objects = translate.accept(here, arrived(RECORD + record, entries, 1), [write])
        assert objects is not None
        assert bytes(data) == RECORD + record
        proxy: Any = objects[0][1]
        assert (proxy._connection, proxy._handle) == (here, 21)
        opened: Any = objects[24][1]
        os.write(opened.fileno(), b"x")
        assert os.read(read, 1) == b"x"
        opened.close()
        del proxy, objects
    os.close(read)


# --- descriptors behind a frame ------------------------------------------------------------------------------------


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Both ends of a lane."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


Ends = tuple[socket.socket, socket.socket]
ONE_FD = arrived(RECORD, [Entry(0, frame.OBJ_FD, 0, 0, 0)], 1)


def test_a_frame_without_descriptors_reads_nothing(ends: Ends) -> None:
    ends[1].send(b"the next packet")
    assert translate.receive_fds(ends[0], arrived(int_bytes(1), [])) == []
    assert ends[0].recv(100) == b"the next packet"


def test_descriptors_that_are_not_there_yet(ends: Ends) -> None:
    ends[0].setblocking(False)
    with pytest.raises(Incomplete):
        translate.receive_fds(ends[0], ONE_FD)
    translate.send_fds(ends[1], [ends[1].fileno()])
    (fd,) = translate.receive_fds(ends[0], ONE_FD)
    os.close(fd)


def test_a_lane_that_ends_before_its_descriptors(ends: Ends) -> None:
    ends[1].close()
    with pytest.raises(ConnectionResetError):
        translate.receive_fds(ends[0], ONE_FD)


@pytest.mark.parametrize(("word", "count"), [(frame.FDS_FOLLOW, 0), (b"XXX", 1), (frame.FDS_FOLLOW, 2)])
def test_other_descriptors_than_announced_are_closed(ends: Ends, word: bytes, count: int) -> None:
    read, write = os.pipe()
    socket.send_fds(ends[1], [word], [write] * count)
    os.close(write)
    with pytest.raises(ProtocolError):
        translate.receive_fds(ends[0], ONE_FD)
    assert os.read(read, 1) == b"", "all copies are closed"
    os.close(read)


def test_who_waits_for_descriptors_does_so_for_a_while(ends: Ends, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_WAIT", 0.02)
    begin = time.monotonic()
    with pytest.raises(ProtocolError, match=r"did not come within 0.02 s"):
        translate.await_fds(ends[0], ONE_FD)
    assert time.monotonic() - begin >= 0.02
    with pytest.raises(CallTimeoutError):
        translate.wait_readable(ends[0], begin)
