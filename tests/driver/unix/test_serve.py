"""Served lanes and those who lie on them: the liar is disconnected, everybody else is served."""

from __future__ import annotations

import fcntl
import os
import socket
import time
from collections.abc import Callable

import pytest

from binderkit import limits
from binderkit.driver.unix import frame
from binderkit.driver.unix.frame import BODY_OFFSET, HEADER, Entry
from binderkit.parcel.objects import BINDER_TYPE_FD, pack_record
from tests.driver.unix import hostile
from tests.driver.unix.hostile import Hostile, Victim, call, failure_text, int_bytes, until

Warns = Callable[[str], None]
RECORD = bytes(24)
FD_RECORD = pack_record(BINDER_TYPE_FD, 0, 0, 0)
SLOT = limits.SLOT_CLASSES[0]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def memfd(size: int = SLOT, seals: int = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW) -> int:
    """Return shared memory as a peer would offer it."""
    fd = os.memfd_create("hostile", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


def test_an_honest_raw_call(victim: Victim) -> None:
    """The tools of these tests speak the protocol: what is refused below is refused for its lie."""
    with Hostile(victim) as peer:
        lane = peer.shake().lane()
        lane.send(call(int_bytes(41), seq=7))
        got = frame.decode(lane.recv(frame.PACKET_MAX))
        assert (got.kind, got.seq, got.data) == (frame.REPLY, 7, int_bytes(42))


LIES: dict[str, tuple[bytes, str]] = {
    "garbage": (b"\xff" * 100, "version 255"),
    "one byte": (b"\1", "a frame of 1 bytes"),
    "half a header": (call()[:-1], "a frame of 47 bytes"),
    "size too large": (call(b"abcd")[:-1], "announces 52 bytes came with 51"),
    "oversize": (call(bytes(frame.PACKET_MAX + 100)), "announces"),
    "an unknown flag": (HEADER.pack(1, 1, 64, 1, 0, 1, 0, 1, 0, 0, 0, 0, 0), "unknown flags"),
    "a failed call": (call(flags=frame.FLAG_FAILED), "expected"),
    "a reply nobody waits for": (call(kind=frame.REPLY), "expected"),
    "a one-way call on the lane of another kind": (call(kind=frame.ONEWAY), "expected"),
    "objects that are not there": (HEADER.pack(1, 1, 0, 1, 0, 1, 0, 1, 0, 3, 0, 0, 0), "announces"),
    "a handle of ours it does not hold, sent home": (
        call(RECORD, [Entry(0, frame.OBJ_HOME, -1, 555, 0)]),
        "sent handle 555 home",
    ),
    "a slot it does not have, given back": (call(freed=9), "gives back shared slot 8"),
    "a slot it never shared": (call(b"", [Entry(BODY_OFFSET, frame.OBJ_SLOT, -1, 3, 70_000)]), "without its memory"),
}


@pytest.mark.parametrize("kind", [frame.LANE_SYNC, frame.LANE_MUX])
@pytest.mark.parametrize("lie", LIES)
def test_a_lie_on_a_lane(victim: Victim, warns: Warns, lie: str, kind: int) -> None:
    packet, words = LIES[lie]
    with Hostile(victim) as peer:
        peer.shake().lane(kind).send(packet)
        assert peer.hung_up()
        warns(words)
        victim.check_usable()


@pytest.mark.parametrize(
    ("packet", "words"), [(b"x", "a frame of 1 bytes"), (call(kind=frame.CALL), "expected"), (call(b"x")[:-1], "came")]
)
def test_a_lie_on_the_one_way_lane(victim: Victim, warns: Warns, packet: bytes, words: str) -> None:
    with Hostile(victim) as peer:
        peer.shake().lane(frame.LANE_ONEWAY).send(packet)
        assert peer.hung_up()
        warns(words)
        victim.check_usable()


def test_a_call_to_an_object_it_does_not_hold_is_refused(victim: Victim) -> None:
    made = hostile.MessageSequence(), hostile.MessageSequence()
    victim.proxy.send_request(hostile.MAKE, *made)
    secret = made[1].read_remote_object()
    with Hostile(victim) as peer:
        lane = peer.shake().lane()
        lane.send(call(handle=secret._handle))
        assert "no object" in failure_text(lane.recv(frame.PACKET_MAX))
        victim.check_usable()


# --- descriptors -------------------------------------------------------------------------------------


def test_descriptors_nobody_announced_are_not_installed(victim: Victim) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    with Hostile(victim) as peer:
        lane = peer.shake().lane()
        lane.send(call(int_bytes(1)))
        lane.recv(frame.PACKET_MAX)
        before = descriptors()
        for _ in range(20):
            socket.send_fds(lane, [call(int_bytes(1))], [null] * 50)
            assert frame.decode(lane.recv(frame.PACKET_MAX)).data == int_bytes(2)
        assert descriptors() == before
    os.close(null)
    victim.check_usable()


FD_CALL = call(RECORD * 2, [Entry(0, frame.OBJ_FD, 0, 0, 0), Entry(24, frame.OBJ_FD, 1, 0, 0)], fds=2)


@pytest.mark.parametrize(("sent", "follow"), [(1, frame.FDS_FOLLOW), (3, frame.FDS_FOLLOW), (2, b"XXX")])
def test_other_descriptors_than_announced(victim: Victim, sent: int, follow: bytes) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    with Hostile(victim) as peer:
        lane = peer.shake().lane()
        lane.send(call(int_bytes(1)))
        lane.recv(frame.PACKET_MAX)
        before = descriptors()
        lane.send(FD_CALL)
        socket.send_fds(lane, [follow], [null] * sent)
        assert lane.recv(frame.PACKET_MAX) == b"", "the lane is closed"
        until(lambda: descriptors() < before, "all are closed, and the lane")
        victim.check_usable()
    os.close(null)


def test_descriptors_that_come_late_still_count(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sender may be stopped between the frame and its descriptors for longer than a lane is parked."""
    monkeypatch.setattr(limits, "PARK_TIME", 0.001)
    read, write = os.pipe()
    os.write(write, b"text")
    begin = time.monotonic()
    with Hostile(victim) as peer:
        lane = peer.shake().lane()
        lane.send(call(FD_RECORD, [Entry(0, frame.OBJ_FD, 0, 0, 0)], code=hostile.READ_FD, fds=1))
        until(lambda: time.monotonic() - begin > 0.1, "many times PARK_TIME has passed")
        victim.check_usable()
        socket.send_fds(lane, [frame.FDS_FOLLOW], [read])
        got = frame.decode(lane.recv(frame.PACKET_MAX))
        assert not got.flags
        victim.check_usable()
    os.close(read)
    os.close(write)


def test_hanging_up_between_a_frame_and_its_descriptors(victim: Victim) -> None:
    with Hostile(victim) as peer:
        peer.shake().lane().send(FD_CALL)
    until(lambda: victim.node.statistics()["peers"] == 1, "it is gone")
    victim.check_usable()


# --- shared memory ----------------------------------------------------------------------------------


def slot_call(size: int, argument: int, number: int = 0) -> bytes:
    entry = Entry(BODY_OFFSET, frame.OBJ_NEW_SLOT, 0, number, size << 32 | argument)
    return call(b"", [entry], code=hostile.ADD_ONE, fds=1)


@pytest.mark.parametrize(
    ("make", "size", "used", "words"),
    [
        (lambda: memfd(seals=0), SLOT, 70_000, "size is not sealed"),
        (lambda: memfd(seals=fcntl.F_SEAL_GROW), SLOT, 70_000, "size is not sealed"),
        (lambda: memfd(4096), SLOT, 70_000, "differs from what was announced"),
        (memfd, 12_345, 70_000, "a shared slot of 12345 bytes"),
        (memfd, SLOT, SLOT + 1, "bytes announced in a shared slot"),
        (memfd, SLOT, limits.MAX_CAPACITY + 1, "are allowed here"),
        (lambda: os.open("/dev/null", os.O_RDONLY), SLOT, 70_000, "not a memfd"),
        (lambda: os.open("/proc/self/exe", os.O_RDONLY), SLOT, 70_000, "not a memfd"),
    ],
)
def test_bad_shared_memory(
    victim: Victim, warns: Warns, make: Callable[[], int], size: int, used: int, words: str
) -> None:
    before = descriptors()
    with Hostile(victim) as peer:
        lane = peer.shake().lane()
        fd = make()
        lane.send(slot_call(size, used))
        socket.send_fds(lane, [frame.FDS_FOLLOW], [fd])
        os.close(fd)
        assert peer.hung_up()
        warns(words)
        victim.check_usable()
    until(lambda: descriptors() <= before + 2, "the memory is not kept")


def test_a_slot_that_is_reused_while_it_is_looked_at(victim: Victim, warns: Warns) -> None:
    raw = 40_000
    with Hostile(victim) as peer:
        lane = peer.shake().lane()
        fd = memfd()
        data = int_bytes(raw) + int_bytes(raw) + RECORD
        kept = Entry(8, frame.OBJ_NEW_SLOT, 0, 0, SLOT << 32 | raw)
        lane.send(call(data, [kept], code=hostile.KEEP_RAW, fds=1))
        socket.send_fds(lane, [frame.FDS_FOLLOW], [fd])
        os.close(fd)
        got = frame.decode(lane.recv(frame.PACKET_MAX))
        assert not got.flags, failure_text(frame.encode(*got[:9], [], 0))
        lane.send(call(data, [Entry(8, frame.OBJ_SLOT, -1, 0, raw)], code=hostile.SIZE_OF_RAW))
        assert peer.hung_up()
        warns("still in use here")
        victim.check_usable()
    assert victim.service.raw is not None
    assert len(bytes(victim.service.raw)) == raw, "a view stays valid after its sender is gone"
    victim.service.raw = None


def test_one_slot_number_twice_and_too_many_slots(
    victim: Victim, warns: Warns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "MAX_SLOTS_PER_PEER", 2)
    for numbers in ((0, 0), (0, 1, 2)):
        with Hostile(victim) as peer:
            lane = peer.shake().lane()
            for number in numbers:
                fd = memfd()
                lane.send(slot_call(SLOT, 70_000, number))
                socket.send_fds(lane, [frame.FDS_FOLLOW], [fd])
                os.close(fd)
            assert peer.hung_up()
            warns("too many slots, or one twice")
            victim.check_usable()


# --- floods -------------------------------------------------------------------------------------------


def test_a_one_way_flood_that_ignores_its_budget(victim: Victim, warns: Warns) -> None:
    with Hostile(victim) as peer:
        lane = peer.shake().lane(frame.LANE_ONEWAY)
        lane.send(call(kind=frame.ONEWAY, seq=1, code=hostile.HOLD_ONE_WAY))
        assert victim.service.entered.acquire(timeout=hostile.WAIT)
        try:
            for seq in range(2, 200):
                lane.send(call(bytes(50_000), kind=frame.ONEWAY, seq=seq, code=hostile.NOTHING))
        except OSError:
            pass  # it hung up while we were at it
        assert peer.hung_up()
        warns("the budget is 520192")
        victim.service.gate.set()
        victim.check_usable()


def test_one_way_calls_to_objects_it_does_not_hold(victim: Victim, warns: Warns) -> None:
    with Hostile(victim) as peer:
        peer.shake().lane(frame.LANE_ONEWAY).send(call(kind=frame.ONEWAY, handle=66))
        warns("names object 66, which it does not hold")
        victim.check_usable()


def test_a_peer_that_does_not_read_its_replies(victim: Victim, warns: Warns, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody may keep a worker by not reading: the send gives up and the lane is closed."""
    monkeypatch.setattr(limits, "ONEWAY_SEND_WAIT", 0.05)
    with Hostile(victim) as peer:
        lane = peer.shake().lane()
        lane.settimeout(hostile.WAIT)
        with pytest.raises(OSError):
            while True:
                lane.send(call(int_bytes(15_000), code=hostile.BIG))
        warns("has not read replies")
        victim.check_usable()


@pytest.mark.parametrize("count", [2000])
def test_idle_lanes_cost_no_threads(victim: Victim, count: int) -> None:
    """Thousands of clients that say nothing: here the lanes of several peers, 200 each."""
    peers = []
    try:
        for _ in range(count // 200):
            peer = Hostile(victim)
            peers.append(peer)
            peer.shake()
            for _ in range(200):
                peer.lane()
        until(lambda: victim.node.statistics()["served_lanes"] >= count, "all lanes are served")
        for peer in peers:
            peer.lanes[0].send(call(int_bytes(1)))
            peer.lanes[0].recv(frame.PACKET_MAX)
        assert victim.node.statistics()["threads"] <= limits.DEFAULT_WORK_THREADS
        victim.check_usable()
    finally:
        for peer in peers:
            peer.close()
    until(lambda: victim.node.statistics()["peers"] == 1, "all are gone")
