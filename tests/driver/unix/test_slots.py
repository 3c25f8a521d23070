"""Shared memory between two processes: reused, given back, never seen by a third."""

from __future__ import annotations

import gc

import numpy
import pytest

from binderkit import limits
from binderkit.driver.unix.node import Node
from binderkit.errors import QuotaError
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
