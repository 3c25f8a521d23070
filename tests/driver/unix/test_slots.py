"""Shared memory between two processes: reused, given back, never seen by a third."""

from __future__ import annotations

import gc

import numpy
import pytest

from binderkit import limits
from binderkit.driver.unix import frame
from binderkit.driver.unix.frame import BODY_OFFSET, Entry
from binderkit.driver.unix.node import Node
from binderkit.driver.unix.peer import Peer
from binderkit.errors import DeadObjectError, ProtocolError, QuotaError
from binderkit.ipc.option import MessageOption
from binderkit.memory import pool
from binderkit.parcel import MessageSequence
from tests.driver.unix import hostile
from tests.driver.unix.hostile import Victim, join, until

SIZE = 100_000


def send_raw(proxy: hostile.RemoteProxy, fill: int, code: int) -> None:
    data, reply = MessageSequence(), MessageSequence()
    data.write_int(SIZE)
    data.write_raw_data_buffer(bytes([fill]) * SIZE, SIZE)
    proxy.send_request(code, data, reply)
    data.reclaim()


def test_a_slot_goes_round_and_round(victim: Victim) -> None:
    for fill in range(50):
        send_raw(victim.proxy, fill, hostile.SIZE_OF_RAW)
    assert pool.statistics()["bytes"] <= 3 * limits.SLOT_CLASSES[0]
    until(lambda: pool.statistics()["idle"] * limits.SLOT_CLASSES[0] == pool.statistics()["bytes"], "all come back")


def test_a_view_stays_valid_while_the_sender_goes_on(victim: Victim) -> None:
    send_raw(victim.proxy, 1, hostile.KEEP_RAW)
    assert victim.service.raw is not None
    kept = numpy.frombuffer(victim.service.raw, dtype=numpy.uint8)[10:]
    victim.service.raw = None
    for fill in range(2, 20):
        send_raw(victim.proxy, fill, hostile.SIZE_OF_RAW)
    assert set(kept.tolist()) == {1}
    del kept
    gc.collect()
    until(lambda: pool.statistics()["idle"] * limits.SLOT_CLASSES[0] == pool.statistics()["bytes"], "all come back")


def test_memory_is_never_shared_with_two_peers(victim: Victim) -> None:
    other = Node(title="other")
    other.become_context(hostile.Service())
    try:
        second = join(other, victim.client)
        for fill in range(10):
            send_raw(victim.proxy, fill, hostile.SIZE_OF_RAW)
            send_raw(second, fill, hostile.SIZE_OF_RAW)
        ours = [{id(slot) for slot in peer.slots._ours.values()} for peer in victim.client._peers.values()]
        assert len(ours) == 2
        assert all(ours)
        assert not ours[0] & ours[1]
    finally:
        other.close()


def test_one_sequence_sent_to_two_peers_is_copied(victim: Victim) -> None:
    other = Node(title="other")
    other.become_context(hostile.Service())
    try:
        second = join(other, victim.client)
        data = MessageSequence()
        data.write_int(SIZE)
        data.write_raw_data_buffer(bytes(SIZE), SIZE)
        for proxy in (victim.proxy, second, victim.proxy):
            reply = MessageSequence()
            proxy.send_request(hostile.SIZE_OF_RAW, data, reply)
            assert reply.read_int() == SIZE
        data.reclaim()
    finally:
        other.close()


def test_too_many_blocks_in_the_hands_of_one_peer(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_SLOTS_PER_PEER", 1)
    send_raw(victim.proxy, 1, hostile.KEEP_RAW)
    with pytest.raises(QuotaError, match="must drop views of large data"):
        send_raw(victim.proxy, 2, hostile.SIZE_OF_RAW)
    hostile.add_one(victim.proxy)
    victim.service.raw = None


def peer_of(node: Node) -> Peer:
    (peer,) = node._peers.values()
    return peer


def test_a_slot_that_a_killed_peer_gave_back_in_its_last_reply(victim: Victim) -> None:
    """Its end took all slots back before the thread that waited for the reply looked at it."""
    send_raw(victim.proxy, 1, hostile.KEEP_RAW)
    peer = peer_of(victim.client)
    (index,) = peer.slots._flying
    victim.client.bury(peer, "its process ended")
    peer.slots.given_back(index)
    assert not peer.slots._ours


def test_a_large_one_way_call_of_a_killed_process_is_still_executed(victim: Victim) -> None:
    victim.node.set_max_threads(1)
    send_raw(victim.proxy, 1, hostile.SIZE_OF_RAW)  # the victim knows the memory from now on
    peer = peer_of(victim.node)
    one_way = MessageOption(MessageOption.TF_ASYNC)
    victim.proxy.send_request(hostile.HOLD_ONE_WAY, MessageSequence(), MessageSequence(), one_way)
    assert victim.service.entered.acquire(timeout=hostile.WAIT)
    data = MessageSequence()
    data.write_int(SIZE)
    data.write_raw_data_buffer(bytes([7]) * SIZE, SIZE)
    victim.proxy.send_request(hostile.KEEP_RAW, data, MessageSequence(), one_way)
    assert len(peer_of(victim.client).slots._ours) == 1, "the same memory again"
    victim.client.close()
    until(lambda: not victim.node._peers, "the death is noticed")
    victim.service.gate.set()
    until(lambda: victim.service.raw is not None, "the call is executed")
    assert victim.service.raw == bytes([7]) * SIZE
    until(lambda: not peer.slots._mappings, "nothing of the dead process stays")


def test_memory_named_after_its_process_is_gone(victim: Victim) -> None:
    peer = peer_of(victim.node)
    entry = Entry(BODY_OFFSET, frame.OBJ_SLOT, -1, 3, SIZE)
    with pytest.raises(ProtocolError, match="shared slot 3 without its memory"):
        peer.slots.view(entry, None, SIZE)
    victim.node.bury(peer, "its process ended")
    with pytest.raises(DeadObjectError, match="its process ended"):
        peer.slots.view(entry, None, SIZE)
