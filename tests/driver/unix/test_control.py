"""Control messages: what each of them does, that every descriptor is used or closed, and who hangs up on whom."""

from __future__ import annotations

import select
import socket
from collections.abc import Callable
from typing import Any

import pytest

from binderkit import limits
from binderkit.driver.unix import frame, handshake
from binderkit.driver.unix.lanes import ServedLane, SharedLane
from binderkit.driver.unix.node import Node
from binderkit.driver.unix.oneway_lane import OnewayLane
from binderkit.driver.unix.peer import Peer
from binderkit.errors import DeadObjectError, DescriptorError
from binderkit.ipc.option import MessageOption
from binderkit.parcel import MessageSequence
from tests.driver.unix import hostile
from tests.driver.unix.hostile import WAIT, Hostile, HostileOwner, Victim, add_one, call, int_bytes, until

Warns = Callable[[str], None]


def seen_by(victim: Victim) -> Peer:
    """Return the hostile peer as the victim sees it."""
    (found,) = [peer for peer in list(victim.node._peers.values()) if peer.node_id != victim.client.id]
    return found


def in_step(peer: Hostile) -> None:
    """Return when the victim has handled every control message sent so far."""
    peer.post(frame.CREDIT_QUERY)
    peer.receive(frame.CREDIT)


# --- LANE ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "made"),
    [(frame.LANE_SYNC, ServedLane), (frame.LANE_MUX, SharedLane), (frame.LANE_ONEWAY, OnewayLane)],
)
def test_a_lane_of_each_kind(victim: Victim, kind: int, made: type[ServedLane]) -> None:
    with Hostile(victim) as peer:
        lane = peer.shake().lane(kind, 12)
        in_step(peer)
        served = seen_by(victim).served
        assert list(served) == [12]
        assert type(served[12]) is made
        lane.close()
        until(lambda: not served, "it ends with its other end")


def test_a_number_can_be_used_again_after_its_lane_ended(victim: Victim) -> None:
    with Hostile(victim) as peer:
        ended = peer.shake().lane(number=5)
        in_step(peer)
        ended.close()
        until(lambda: not seen_by(victim).served, "it is closed")
        lane = peer.lane(number=5)
        lane.send(call(int_bytes(1)))
        assert frame.decode(lane.recv(frame.PACKET_MAX)).data == int_bytes(2)


def test_a_second_lane_for_one_way_calls_would_break_their_order(victim: Victim, warns: Warns) -> None:
    with Hostile(victim) as peer:
        peer.shake().lane(frame.LANE_ONEWAY)
        second = peer.lane(frame.LANE_ONEWAY)
        assert peer.hung_up()
        warns("a second for one-way calls")
        assert second.recv(1) == b"", "its descriptor is closed"


def test_too_many_lanes(victim: Victim, warns: Warns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_LANES_PER_PEER", 3)
    with Hostile(victim) as peer:
        lanes = [peer.shake().lane(), peer.lane(), peer.lane()]
        in_step(peer)
        lanes.append(peer.lane())
        assert peer.hung_up()
        warns("or too many")
        for lane in lanes:
            assert lane.recv(1) == b""
    victim.check_usable()


# --- INTRODUCE --------------------------------------------------------------------------------------------------


def test_an_introduction_lets_a_third_process_in(victim: Victim) -> None:
    with Hostile(victim) as peer:
        peer.shake()
        ours, theirs = handshake.pair()
        peer.post(frame.INTRODUCE, (0, 0), fds=(theirs.fileno(),))
        theirs.close()
        guest = Node(title="guest")
        try:
            add_one(guest.join(ours))
        finally:
            guest.close()


def test_introductions_of_one_peer_are_bounded(victim: Victim, warns: Warns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_LANES_PER_PEER", 2)
    ends = []
    with Hostile(victim) as peer:
        peer.shake()
        for _ in range(4):
            ours, theirs = handshake.pair()
            ends.append(ours)
            peer.post(frame.INTRODUCE, (0, 0), fds=(theirs.fileno(),))
            theirs.close()
        assert peer.hung_up()
        warns("an introduction to handle 0")
    for end in ends:
        end.close()
    until(lambda: victim.node.statistics()["introductions"] == 0, "those under way end with their guests")
    victim.check_usable()


# --- RELEASE ----------------------------------------------------------------------------------------------------


def test_a_release_takes_back_what_was_granted(victim: Victim) -> None:
    with Hostile(victim) as peer:
        lane = peer.shake().lane()
        lane.send(call(code=hostile.MAKE))
        (entry,) = frame.decode(lane.recv(frame.PACKET_MAX)).entries
        assert seen_by(victim).held[entry.id].count == 1
        peer.post(frame.RELEASE, (0, 0), (entry.id, 1))
        in_step(peer)
        assert entry.id not in seen_by(victim).held
        lane.send(call(handle=entry.id, seq=2))
        assert "no object" in hostile.failure_text(lane.recv(frame.PACKET_MAX))


def test_an_empty_release_releases_nothing(victim: Victim) -> None:
    with Hostile(victim) as peer:
        peer.shake().post(frame.RELEASE)
        in_step(peer)
        assert {handle: held.count for handle, held in seen_by(victim).held.items()} == {0: 1}


@pytest.mark.parametrize("pairs", [((0, 2),), ((0, 1), (0, 1)), ((4, 1),), ((0, 0),)])
def test_more_than_it_holds(victim: Victim, warns: Warns, pairs: tuple[tuple[int, int], ...]) -> None:
    with Hostile(victim) as peer:
        peer.shake().post(frame.RELEASE, (0, 0), *pairs)
        assert peer.hung_up()
        warns("which it does not hold")
    victim.check_usable()


# --- CANCEL, CREDIT, SLOTS_FREED, HOME_RECEIVED --------------------------------------------------------------------


def test_a_cancel_reaches_the_handler(victim: Victim) -> None:
    with Hostile(victim) as peer:
        lane = peer.shake().lane()
        lane.send(call(code=hostile.HOLD_ONE_WAY, seq=4))
        assert victim.service.entered.acquire(timeout=WAIT)

        def given_up() -> list[bool]:
            return [context.cancelled for context in seen_by(victim).served[1].contexts()]

        peer.post(frame.CANCEL, (9, 4))
        in_step(peer)
        assert given_up() == [False], "another lane"
        peer.post(frame.CANCEL, (1, 7))  # the number of a call nested in it: the lane is given up whole
        in_step(peer)
        assert given_up() == [True]
        victim.service.gate.set()
        assert frame.decode(lane.recv(frame.PACKET_MAX)).seq == 4


def test_credit_lets_a_sender_go_on(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    option = MessageOption(MessageOption.TF_ASYNC)
    with HostileOwner(victim.client) as owner:
        connection: Any = owner.proxy._connection
        owner.proxy.send_request(1, MessageSequence(), MessageSequence(), option)
        sent = connection.oneway._credit.sent
        owner.post(frame.CREDIT, (sent - 1, 0), (sent, 0))
        until(lambda: connection.oneway._credit.acknowledged == sent, "the larger of both counts")


@pytest.mark.parametrize(
    ("kind", "pair", "words"),
    [(frame.CREDIT, (1, 0), "executed 1 bytes"), (frame.SLOTS_FREED, (3, 0), "gives back shared slot 3")],
)
def test_what_was_never_sent_cannot_be_acknowledged(
    victim: Victim, warns: Warns, kind: int, pair: tuple[int, int], words: str
) -> None:
    with Hostile(victim) as peer:
        peer.shake().post(kind, pair)
        assert peer.hung_up()
        warns(words)
    victim.check_usable()


def test_a_confirmation_of_nothing_does_nothing(victim: Victim) -> None:
    with Hostile(victim) as peer:
        peer.shake().post(frame.HOME_RECEIVED, (1, 0), (0, 0), (99, 0))
        in_step(peer)
        assert not seen_by(victim).is_dead


# --- GOODBYE and the end ---------------------------------------------------------------------------------------------


def test_a_goodbye_fails_calls_with_its_words(victim: Victim, caplog: pytest.LogCaptureFixture) -> None:
    with HostileOwner(victim.client) as owner:
        owner.sock.send(frame.encode_control(frame.GOODBYE, b"you owe me \xff bytes" + b"!" * 2000))
        until(owner.proxy.is_object_dead, "it is gone")
        with pytest.raises(DeadObjectError, match="it disconnected this process: you owe me \ufffd bytes!") as caught:
            add_one(owner.proxy)
        assert len(str(caught.value)) < frame.MAX_REASON + 200
    assert "disconnected this one: you owe me" in caplog.text
    victim.check_usable()


def test_descriptors_that_come_with_a_lie_are_closed(victim: Victim) -> None:
    for packet in (
        frame.encode_control(frame.GOODBYE, b"with a descriptor"),
        frame.encode_pairs(frame.RELEASE, [(0, 0)]),
        frame.encode_pairs(frame.LANE, []),
        frame.encode_pairs(frame.LANE, [(1, 1), (2, 1)]),
        b"too short",
    ):
        with Hostile(victim) as peer:
            peer.shake()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            peer.raw(packet, (theirs.fileno(),))
            theirs.close()
            assert peer.hung_up()
            assert ours.recv(1) == b"", f"closed: {packet[:20]!r}"
            ours.close()
    victim.check_usable()


def test_what_comes_after_a_lie_is_not_handled(victim: Victim) -> None:
    with Hostile(victim) as peer:
        peer.shake()
        seen = seen_by(victim)
        peer.raw(b"garbage")
        try:
            peer.lane()
        except OSError:
            pass  # it hung up before we were done
        assert peer.hung_up()
    assert not seen.served


def test_a_shortage_of_descriptors_loses_a_message_and_not_the_connection(
    victim: Victim, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The kernel dropped the descriptor: what it was for is lost, which its sender sees; the rest goes on."""
    receive = handshake.receive_with_fds
    short = [True]

    def one_is_lost(*arguments: Any) -> tuple[bytes, list[int]]:
        packet, fds = receive(*arguments)
        if fds and short:
            short.clear()
            handshake.close_all(fds)
            raise DescriptorError("none left, says the test")
        return packet, fds

    with Hostile(victim) as peer:
        peer.shake()
        monkeypatch.setattr(handshake, "receive_with_fds", one_is_lost)
        lost = peer.lane()
        assert lost.recv(1) == b""
        lane = peer.lane()
        lane.send(call(int_bytes(1)))
        assert frame.decode(lane.recv(frame.PACKET_MAX)).data == int_bytes(2)
    assert "none left, says the test" in caplog.text


def test_what_waits_is_sent_when_there_is_room_and_only_then(victim: Victim) -> None:
    """A control connection that is full is written by the monitor as the peer reads."""
    with Hostile(victim) as peer:
        peer.shake()
        in_step(peer)  # until then everything waits, and whoever finds more than MOST messages then hangs up
        seen = seen_by(victim)
        count = 0
        while not seen.outbox.post(frame.encode_pairs(frame.CREDIT, [(count, 0)]), []):
            count += 1
        victim.node.wants_to_write(seen, False)
        got = [frame.decode_pairs(peer.receive(frame.CREDIT))[0][0] for _ in range(count + 1)]
        assert got == list(range(count + 1)), "nothing lost, in order"
        in_step(peer)
        until(lambda: seen.outbox.flush() == 0, "nothing waits")


def test_what_is_posted_while_the_monitor_sends_the_rest_is_waited_for(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread finds the socket full again right after the monitor emptied the outbox: its wish must not get lost."""
    with Hostile(victim) as peer:
        peer.shake()
        seen = seen_by(victim)
        asked: list[int] = []
        monkeypatch.setattr(victim.node.monitor, "change", lambda fd, events: asked.append(events))
        send = seen.outbox.flush

        def flush_and_post() -> int:
            left = send()
            victim.node.wants_to_write(seen, False)
            return left

        monkeypatch.setattr(type(seen.outbox), "flush", lambda outbox: flush_and_post())
        victim.node.send_waiting(seen)
        assert asked[-1] & select.EPOLLOUT
