"""Calls of coroutines on one lane: matched by number, never blocking the loop, each failure its own."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from binderkit.driver.unix import frame, mux, translate
from binderkit.driver.unix.frame import HEADER, Entry
from binderkit.errors import CallTimeoutError, DeadObjectError, IpcError, ProtocolError, QuotaError
from binderkit.ipc.context import CallContext, current, own_identity
from binderkit.ipc.option import MessageOption
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence
from tests.driver.unix import hostile
from tests.driver.unix.hostile import WAIT, HostileOwner, Victim, int_bytes, reply_to, until

Warns = Callable[[str], None]
RECORD = bytes(24)


@pytest.fixture
def owner(victim: Victim) -> Iterator[HostileOwner]:
    """A process whose object the victim's client calls."""
    with HostileOwner(victim.client) as made:
        yield made


def run(main: Coroutine[Any, Any, None]) -> None:
    """Run a test's coroutine; it hangs for WAIT seconds at most."""
    asyncio.run(asyncio.wait_for(main, WAIT))


async def begin(
    owner: HostileOwner, number: int = 1, *, body: int = 0, timeout: float | None = None, code: int = 1
) -> asyncio.Task[int]:
    """Start a call; return its task when it was sent or queued. The task's result is the int of the reply."""

    async def call() -> int:
        data, reply = MessageSequence(), MessageSequence()
        data.write_int(number)
        if body:
            data.write_string("x" * (body // 2))
        option = None if timeout is None else MessageOption(timeout=timeout)
        await owner.proxy.send_message_request(code, data, reply, option)
        return reply.read_int()

    task = asyncio.create_task(call())
    await asyncio.sleep(0)  # one turn of the loop: the task runs up to where it waits
    return task


def next_frame(lane: socket.socket) -> frame.Frame:
    return frame.decode(lane.recv(frame.PACKET_MAX))


def lane_of(owner: HostileOwner) -> mux.MuxLane:
    """Return the running loop's lane to ``owner``."""
    connection: Any = owner.proxy._connection
    made: mux.MuxLane = connection.muxes[asyncio.get_running_loop()]
    return made


# --- replies --------------------------------------------------------------------------------------------


def test_replies_in_any_order_reach_their_own_calls(owner: HostileOwner) -> None:
    async def main() -> None:
        tasks = [await begin(owner, number) for number in range(200)]
        lane, first = owner.next_call()
        calls = [first] + [next_frame(lane) for _ in range(199)]
        assert len(owner.lanes) == 1, "all of them on one lane"
        for got in calls[::-1]:
            lane.send(reply_to(got, got.data))
            await asyncio.sleep(0)  # a turn of the loop: it reads what is there, or the lane would be full
        assert await asyncio.gather(*tasks) == list(range(200))

    run(main())


def test_the_number_of_a_reply_decides_not_its_place(owner: HostileOwner) -> None:
    async def main() -> None:
        task = await begin(owner)
        lane, got = owner.next_call()
        for wrong in (got.seq - 1 & 0xFFFFFFFF, got.seq + 1, got.seq + 1000):
            lane.send(frame.encode(frame.REPLY, 0, wrong, 0, 0, 0, 0, 0, int_bytes(666), [], 0))
        lane.send(reply_to(got, int_bytes(7)))
        assert await task == 7

    run(main())


def test_what_a_reply_to_nobody_carries_is_released(owner: HostileOwner) -> None:
    async def main() -> None:
        task = await begin(owner)
        lane, got = owner.next_call()
        stray = frame.encode(
            frame.REPLY, 0, got.seq + 9, 0, 0, 0, 0, 0, RECORD, [Entry(0, frame.OBJ_EXPORT, -1, 77, 0)], 0
        )
        lane.send(stray)
        lane.send(reply_to(got, int_bytes(7)))
        assert await task == 7
        assert frame.decode_pairs(owner.receive(frame.RELEASE))[1:] == [(77, 1)]

    run(main())


def test_a_failed_reply_fails_its_call_only(owner: HostileOwner) -> None:
    async def main() -> None:
        refused, other = await begin(owner), await begin(owner)
        lane, got = owner.next_call()
        lane.send(reply_to(got, b"\xff\xff\xff\x7f", flags=frame.FLAG_FAILED))
        lane.send(reply_to(next_frame(lane), int_bytes(8)))
        with pytest.raises(IpcError):
            await refused
        assert await other == 8

    run(main())


def test_descriptors_that_come_late_do_not_stop_the_loop(victim: Victim, owner: HostileOwner) -> None:
    async def main() -> None:
        data, reply = MessageSequence(), MessageSequence()
        task = asyncio.ensure_future(owner.proxy.send_message_request(1, data, reply))
        await asyncio.sleep(0)
        lane, got = owner.next_call()
        read, write = os.pipe()
        lane.send(reply_to(got, RECORD, [Entry(0, frame.OBJ_FD, 0, 0, 0)], fds=1))
        lane_here = lane_of(owner)
        while lane_here._begun is None:
            await asyncio.sleep(0)  # a turn of the loop, until it has read the frame
        data_there, reply_there = MessageSequence(), MessageSequence()
        data_there.write_int(1)
        await victim.proxy.send_message_request(hostile.ADD_ONE, data_there, reply_there)
        assert reply_there.read_int() == 2
        assert not task.done()
        socket.send_fds(lane, [frame.FDS_FOLLOW], [write])
        os.close(write)
        await task
        reply.reclaim()
        assert os.read(read, 1) == b"", "the descriptor arrived, and was closed with the reply"
        os.close(read)

    run(main())


LIES: dict[str, tuple[Callable[[frame.Frame], bytes], str]] = {
    "garbage": (lambda got: b"\xff" * 60, "version 255"),
    "a call": (lambda got: frame.encode(frame.CALL, 0, 1, 0, 1, 0, 1, 0, b"", [], 0), "lane of an asyncio client"),
    "truncated": (lambda got: reply_to(got, b"abcd")[:-1], "announces"),
    "unknown flags": (lambda got: HEADER.pack(1, 3, 128, got.seq, 0, 0, 0, 0, 0, 0, 0, 0, 0), "unknown flags"),
    "an object that is not ours": (lambda got: reply_to(got, RECORD, [Entry(0, frame.OBJ_HOME, -1, 9, 0)]), "9 home"),
    "a slot given back": (lambda got: HEADER.pack(1, 3, 0, got.seq, 0, 0, 0, 0, 0, 0, 0, 7, 0), "back shared slot 6"),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_disconnects_the_liar_and_fails_all_its_calls(
    victim: Victim, owner: HostileOwner, warns: Warns, lie: str
) -> None:
    make, words = LIES[lie]

    async def main() -> None:
        tasks = [await begin(owner) for _ in range(3)]
        lane, got = owner.next_call()
        lane.send(make(got))
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, (ProtocolError, DeadObjectError)) for result in results), results
        assert any(isinstance(result, ProtocolError) for result in results)

    run(main())
    warns(words)
    until(owner.proxy.is_object_dead, "it is disconnected")
    victim.check_usable()


def test_a_packet_shorter_than_a_header_fails_the_calls(victim: Victim, owner: HostileOwner) -> None:
    async def main() -> None:
        task = await begin(owner)
        lane, _ = owner.next_call()
        lane.send(b"x")
        with pytest.raises(DeadObjectError):
            await task

    run(main())
    victim.check_usable()


# --- sending --------------------------------------------------------------------------------------------


def echo(lane: socket.socket, count: int) -> list[int]:
    """Answer ``count`` calls with their int; return the numbers in the order they arrived."""
    seen = []
    for _ in range(count):
        got = next_frame(lane)
        seen.append(int.from_bytes(got.data[:4], "little"))
        lane.send(reply_to(got, got.data[:4]))
    return seen


def test_calls_wait_for_a_socket_that_is_full_and_keep_their_order(owner: HostileOwner) -> None:
    async def main() -> None:
        tasks = [await begin(owner, 0, body=60_000)]
        while len(lane_of(owner)._queue) < 5:
            tasks.append(await begin(owner, len(tasks), body=60_000))
        tasks.append(await begin(owner, len(tasks)))
        assert len(lane_of(owner)._queue) == 6, "a small one does not overtake the big ones"
        ((number, kind),) = frame.decode_pairs(owner.receive(frame.LANE))
        assert kind == frame.LANE_MUX
        seen = await asyncio.to_thread(echo, owner.lanes[number], len(tasks))
        assert seen == list(range(len(tasks)))
        assert await asyncio.gather(*tasks) == seen
        # Nothing is queued for the next call, and the loop no longer waits for room.
        assert not lane_of(owner)._queue
        assert not asyncio.get_running_loop().remove_writer(lane_of(owner).lane.sock.fileno())

    run(main())


async def fill(owner: HostileOwner, room: int = 0) -> list[asyncio.Task[int]]:
    """Make calls until ``room`` of them are queued."""
    tasks = [await begin(owner, 0, body=60_000)]
    while len(lane_of(owner)._queue) <= room:
        tasks.append(await begin(owner, 0, body=60_000))
    return tasks


def test_more_than_may_be_queued_is_refused_and_leaves_nothing_behind(
    victim: Victim, owner: HostileOwner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mux, "MAX_QUEUED", 2)

    async def main() -> None:
        tasks = await fill(owner, 1)
        data = MessageSequence()
        data.write_remote_object(RemoteObject("test.IRefused"))
        with pytest.raises(QuotaError, match="2 calls wait"):
            await owner.proxy.send_message_request(1, data, MessageSequence())
        assert victim.client.statistics()["held"] == 0
        owner.close()
        assert all(isinstance(end, DeadObjectError) for end in await asyncio.gather(*tasks, return_exceptions=True))

    run(main())


def test_what_is_queued_when_the_process_dies_is_taken_back(victim: Victim, owner: HostileOwner) -> None:
    undone: list[translate.Outgoing] = []

    async def main() -> None:
        tasks = await fill(owner)
        data = MessageSequence()
        data.write_remote_object(RemoteObject("test.IQueued"))
        waiting = asyncio.ensure_future(owner.proxy.send_message_request(1, data, MessageSequence()))
        await asyncio.sleep(0)
        undone.append(lane_of(owner)._queue[-1][1])
        assert victim.client.statistics()["held"] == 1
        owner.close()
        for task in [*tasks, waiting]:
            with pytest.raises(DeadObjectError):
                await task

    run(main())
    assert victim.client.statistics()["exports"] == 0
    assert not undone[0]._peer.held


def test_descriptors_that_find_the_socket_full_do_not_block_the_loop(victim: Victim, owner: HostileOwner) -> None:
    """The frame just fits, its descriptors do not: they leave when the other side has read."""

    async def main() -> None:
        first = await begin(owner, 1)
        lane, got = owner.next_call()
        ours = lane_of(owner).lane.sock
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        read, write = os.pipe()
        with MessageSequence() as data, MessageSequence() as reply:
            data.write_file_descriptor(write)
            os.close(write)
            # The largest packet the kernel takes: with its own book-keeping it fills the buffer to the brim.
            most = ours.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) - 32
            rest = most - frame.HEADER_SIZE - frame.ENTRY.size - data.get_size()
            data.write_raw_data_buffer(bytes((rest - 4) // 4 * 4), (rest - 4) // 4 * 4)
            call = asyncio.ensure_future(owner.proxy.send_message_request(1, data, reply))
            await asyncio.sleep(0)
            assert [packet for packet, _ in lane_of(owner)._queue] == [b""], "only the descriptors are left"
            last = await begin(owner, 3)
            victim.check_usable()  # the loop is here, not in the system call
            lane.send(reply_to(got, int_bytes(1)))
            assert await first == 1
            big = next_frame(lane)
            packet, fds = await asyncio.to_thread(receive_fds, lane)
            assert packet == frame.FDS_FOLLOW
            assert len(fds) == 1
            os.close(fds[0])
            lane.send(reply_to(big, int_bytes(2)))
            await call
        lane.send(reply_to(await asyncio.to_thread(next_frame, lane), int_bytes(3)))
        assert await last == 3
        assert os.read(read, 1) == b"", "no copy of the descriptor is left"
        os.close(read)

    run(main())


def receive_fds(sock: socket.socket) -> tuple[bytes, list[int]]:
    packet, fds, _, _ = socket.recv_fds(sock, 16, 4)
    return packet, list(fds)


def test_half_a_message_ends_the_lane(victim: Victim, owner: HostileOwner, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frame is out and its descriptors cannot follow: the other side must not take what is next for them."""

    def refuse(sock: socket.socket, fds: list[int]) -> None:
        raise BrokenPipeError("the other side hung up")

    async def main() -> None:
        other = await begin(owner)
        lane, _ = owner.next_call()
        monkeypatch.setattr(translate, "send_fds", refuse)
        read, write = os.pipe()
        with MessageSequence() as data, MessageSequence() as reply:
            data.write_file_descriptor(write)
            data.write_remote_object(RemoteObject("test.IHalf"))
            os.close(write)
            with pytest.raises(DeadObjectError):
                await owner.proxy.send_message_request(1, data, reply)
        os.close(read)
        with pytest.raises(DeadObjectError):
            await other
        next_frame(lane)
        assert lane.recv(1) == b"", "the lane is closed"
        assert victim.client.statistics()["held"] == 0, "what the message carried is taken back"
        # The next call opens a lane of its own.
        again = await begin(owner, 5)
        lane, got = owner.next_call()
        lane.send(reply_to(got, int_bytes(5)))
        assert await again == 5

    run(main())


# --- giving up --------------------------------------------------------------------------------------------


def test_a_cancelled_task_tells_the_other_side_and_its_late_reply_is_released(owner: HostileOwner) -> None:
    async def main() -> None:
        task, other = await begin(owner), await begin(owner)
        lane, got = owner.next_call()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        ((number, seq),) = frame.decode_pairs(owner.receive(frame.CANCEL))
        assert (owner.lanes[number], seq) == (lane, got.seq)
        assert lane_of(owner).given_up
        lane.send(reply_to(got, RECORD, [Entry(0, frame.OBJ_EXPORT, -1, 77, 0)]))
        lane.send(reply_to(next_frame(lane), int_bytes(8)))
        assert await other == 8, "the lane is used on"
        assert frame.decode_pairs(owner.receive(frame.RELEASE))[1:] == [(77, 1)]
        assert not lane_of(owner).given_up

    run(main())


def test_a_task_cancelled_after_its_reply_tells_nobody(owner: HostileOwner) -> None:
    async def main() -> None:
        task = await begin(owner)
        lane, got = owner.next_call()
        lane.send(reply_to(got, int_bytes(1)))
        lane_of(owner)._readable()  # the reply is here, the task has not run yet
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not lane_of(owner).given_up

    run(main())


def test_no_reply_before_the_deadline(owner: HostileOwner) -> None:
    async def main() -> None:
        task, other = await begin(owner, timeout=0.03), await begin(owner, timeout=WAIT)
        lane, got = owner.next_call()
        with pytest.raises(CallTimeoutError, match="no reply before"):
            await task
        assert 0 < got.remaining <= 30_000, "the time left travels in microseconds"
        assert frame.decode_pairs(owner.receive(frame.CANCEL))[0][1] == got.seq
        lane.send(reply_to(got, RECORD, [Entry(0, frame.OBJ_EXPORT, -1, 78, 0)]))
        lane.send(reply_to(next_frame(lane), int_bytes(9)))
        assert await other == 9
        assert frame.decode_pairs(owner.receive(frame.RELEASE))[1:] == [(78, 1)]

    run(main())


def test_past_the_deadline_of_the_call_being_handled_nothing_is_sent(owner: HostileOwner) -> None:
    async def main() -> None:
        current.set(CallContext(own_identity(), None, None, 0, 1, 1, 1.0, None))
        with pytest.raises(CallTimeoutError, match="nothing was sent"):
            await begin_and_wait(owner)
        current.set(None)
        task = await begin(owner, 4)
        lane, got = owner.next_call()
        assert got.data == int_bytes(4), "the first call on the lane"
        lane.send(reply_to(got, int_bytes(4)))
        assert await task == 4

    run(main())


async def begin_and_wait(owner: HostileOwner) -> int:
    return await (await begin(owner))


def test_the_death_of_the_process_fails_all_calls(victim: Victim, owner: HostileOwner) -> None:
    async def main() -> None:
        tasks = [await begin(owner) for _ in range(20)]
        owner.next_call()
        owner.close()
        for task in tasks:
            with pytest.raises(DeadObjectError):
                await task
        with pytest.raises(DeadObjectError):
            await begin_and_wait(owner)

    run(main())
    victim.check_usable()


def test_the_late_replies_of_a_loop_that_is_closed_are_released(victim: Victim, owner: HostileOwner) -> None:
    async def main() -> None:
        await begin(owner)

    run(main())  # its end cancels the task
    lane, got = owner.next_call()
    owner.receive(frame.CANCEL)
    until(lambda: victim.client.statistics()["orphans"] == 1, "the lane of the closed loop is looked after")
    lane.send(reply_to(got, RECORD, [Entry(0, frame.OBJ_EXPORT, -1, 79, 0)]))
    assert frame.decode_pairs(owner.receive(frame.RELEASE))[1:] == [(79, 1)]
    lane.close()
    until(lambda: victim.client.statistics()["orphans"] == 0, "its lane is closed")


def test_the_death_of_the_process_after_the_loop_was_closed(victim: Victim, owner: HostileOwner) -> None:
    async def main() -> None:
        task = await begin(owner)
        lane, got = owner.next_call()
        lane.send(reply_to(got, int_bytes(1)))
        assert await task == 1

    run(main())
    owner.close()
    until(owner.proxy.is_object_dead, "the death is seen")
    connection: Any = owner.proxy._connection
    (left,) = connection.muxes.values()
    until(lambda: left.lane.sock.fileno() < 0, "its lane is closed")


def test_a_lane_for_each_loop(victim: Victim) -> None:
    """Two threads with a loop each call the same object at the same time."""
    failures: list[BaseException] = []
    both = threading.Barrier(2, timeout=WAIT)

    async def one(number: int) -> None:
        data, reply = MessageSequence(), MessageSequence()
        data.write_int(number)
        await victim.proxy.send_message_request(hostile.ADD_ONE, data, reply)
        assert reply.read_int() == number + 1

    async def many(start: int) -> None:
        await one(start)
        await asyncio.to_thread(both.wait)
        await asyncio.gather(*(one(number) for number in range(start, start + 100)))
        await asyncio.to_thread(both.wait)
        assert victim.client.statistics()["lanes"] >= 2

    def thread(start: int) -> None:
        try:
            run(many(start))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=thread, args=(start,)) for start in (0, 10_000)]
    for made in threads:
        made.start()
    for made in threads:
        made.join(WAIT)
    assert not failures
    gc.collect()
    run(one(5))  # looks after the lanes of the closed loops
    connection: Any = victim.proxy._connection
    assert len(connection.muxes) == 1
