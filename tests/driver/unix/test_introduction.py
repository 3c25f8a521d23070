"""An object handed to a third process: both ends, and parties that end on the way."""

from __future__ import annotations

import os

import pytest

from binderkit import limits
from binderkit.driver.tables import Export
from binderkit.driver.unix import frame, handshake
from binderkit.driver.unix.node import Node
from binderkit.driver.unix.peer import Peer
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence
from tests.driver.unix import hostile
from tests.driver.unix.hostile import Hostile, Victim, add_one, join, until


def keep(proxy: hostile.RemoteProxy, value: RemoteObject | hostile.RemoteProxy) -> None:
    data = MessageSequence()
    data.write_remote_object(value)
    proxy.send_request(hostile.KEEP, data, MessageSequence())


def test_the_introduced_talk_directly(victim: Victim) -> None:
    """The honest client hands the victim's object to a third node, then leaves; the object is still reached."""
    service = hostile.Service()
    third = Node(title="third")
    third.become_context(service)
    try:
        keep(join(third, victim.client), victim.proxy)
        assert isinstance(service.kept, hostile.RemoteProxy)
        victim.client.close()
        add_one(service.kept)
        assert third.statistics()["introductions"] == 0
    finally:
        service.kept = None
        third.close()


def test_a_guest_that_never_comes_lets_the_hold_go(victim: Victim) -> None:
    before = victim.node.statistics()
    with Hostile(victim) as peer:
        peer.shake()
        ours, theirs = handshake.pair()
        peer.post(frame.INTRODUCE, (0, 0), fds=(theirs.fileno(),))
        theirs.close()
        handshake.receive_hello(ours)  # the owner waits for a guest
        ours.close()  # who is gone
        until(lambda: victim.node.statistics()["introductions"] == 0, "the owner gives up at once")
    until(lambda: victim.node.statistics()["held"] == before["held"], "no reference is left")
    victim.check_usable()


def test_an_owner_that_is_gone_gives_a_dead_proxy(victim: Victim) -> None:
    """A raw client sends an introduction whose other end is closed already."""
    record = bytes(24)
    with Hostile(victim) as peer:
        lane = peer.shake().lane()
        ours, theirs = handshake.pair()
        ours.close()
        entry = frame.Entry(0, frame.OBJ_INTRODUCED, 0, 0, 0)
        lane.send(hostile.call(record, [entry], code=hostile.NOTHING, fds=1))
        hostile.socket.send_fds(lane, [frame.FDS_FOLLOW], [theirs.fileno()])
        theirs.close()
        assert frame.decode(lane.recv(frame.PACKET_MAX)).flags == 0, "the call goes on, its argument is dead"
        victim.check_usable()


def test_what_is_no_connection_as_an_introduction(victim: Victim) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    with Hostile(victim) as peer:
        lane = peer.shake().lane()
        entry = frame.Entry(0, frame.OBJ_INTRODUCED, 0, 0, 0)
        lane.send(hostile.call(bytes(24), [entry], code=hostile.NOTHING, fds=1))
        hostile.socket.send_fds(lane, [frame.FDS_FOLLOW], [null])
        assert peer.hung_up()
        victim.check_usable()
    until(lambda: len(os.listdir("/proc/self/fd")) <= before + 2, "it is closed")
    os.close(null)


@pytest.mark.parametrize("node_id", [bytes(16), b"\xff" * 16], ids=["the guest decides", "the owner decides"])
def test_nothing_overtakes_the_end_of_the_handshake(
    victim: Victim, monkeypatch: pytest.MonkeyPatch, node_id: bytes
) -> None:
    """Another thread finds the peer in the table as soon as it is decided, and opens a lane to it."""
    grant = victim.node.grant_export

    def lane_first(peer: Peer, export: Export) -> int:
        peer.open_lane(frame.LANE_SYNC)
        return grant(peer, export)

    monkeypatch.setattr(victim.node, "grant_export", lane_first)
    with Hostile(victim, node_id) as peer:
        peer.hello()
        if node_id < peer.other:
            peer.sock.send(frame.encode_control(frame.DECIDE, count=1))
        kinds = []
        for _ in range(2):
            packet, fds = handshake.receive_with_fds(peer.sock, frame.CONTROL_MAX, 1)
            kinds.append(frame.decode_control(packet).kind)
            handshake.close_all(fds)
        assert kinds == [frame.GRANTED, frame.LANE]


def test_two_that_are_introduced_to_each_other_at_once(victim: Victim) -> None:
    """The guest says it has a connection to the victim already: one where the victim is the guest, which ends later."""
    with Hostile(victim, bytes(16)) as peer:
        peer.hello()
        peer.sock.send(frame.encode_control(frame.DECIDE, count=0))
        until(lambda: waiting_for_peer(victim.node), "the victim looks for that connection")
        peer.sock.settimeout(limits.HANDSHAKE_WAIT / 2)
        with hostile.HostileOwner(victim.node, bytes(16)):
            assert frame.decode_pairs(peer.receive(frame.GRANTED)) == [(0, 0)]
    victim.check_usable()


def waiting_for_peer(node: Node) -> bool:
    return any(introduction._waits_for_peer for introduction in node.introductions())
