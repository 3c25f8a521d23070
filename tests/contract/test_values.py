"""What travels arrives: every kind of value, bodies around every boundary, raw data."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor

import pytest

import binderkit as bk
from binderkit import limits
from tests.contract.messages import Call, body, message, transact
from tests.contract.service import KINDS, Code
from tests.contract.world import World

VALUES = (
    -128, -32768, -(2**31), -(2**63), 0.5, 1e300, True, 255, "größer 🎉", "com.example.IThing",
    [-1, 2], [-3, 4], [2**31 - 1], [2**63 - 1, 0], [0.25], [-1e-300], [True, False], [0, 255], ["", "zwei"],
)  # fmt: skip


def send(world: World, data: bk.MessageSequence, code: int) -> bk.MessageSequence:
    reply = bk.MessageSequence()
    world.one().root.send_request(code, data, reply)
    return reply


def test_every_kind_of_value_comes_back(world: World) -> None:
    data = bk.MessageSequence()
    for kind, value in zip(KINDS, VALUES, strict=True):
        getattr(data, f"write_{kind}")(value)
    import array

    data.write_array_buffer(array.array("d", [1.5, -2.5]), bk.TypeCode.FLOAT64_ARRAY)
    reply = send(world, data, Code.VALUES)
    assert [getattr(reply, f"read_{kind}")() for kind in KINDS] == list(VALUES)
    assert list(reply.read_array_buffer(bk.TypeCode.FLOAT64_ARRAY)) == [1.5, -2.5]
    assert reply.get_readable_bytes() == 0


def test_bodies_around_every_boundary(world: World, call: Call) -> None:
    target = world.one().root
    overhead = len(message(b"")) or 8
    for total in (8, 64, 4096, limits.INLINE_BODY, limits.MAX_TRANSACTION):
        for size in {total - overhead - 4, total - overhead}:
            payload = bytes(index * 7 & 0xFF for index in range(256)) * (max(size, 0) // 256 + 1)
            payload = payload[: max(size, 0)]
            assert body(call(target, Code.ECHO, payload)) == payload


@pytest.mark.parametrize("more", [-8, -4, 0, 4, 8])
def test_the_boundary_of_inline_bodies_is_exact(world: World, more: int) -> None:
    payload = bytes(limits.INLINE_BODY + more - len(message(b"\1" * 4)) + 4)
    data = message(payload)
    assert len(data) == limits.INLINE_BODY + more
    reply = send(world, data, Code.ECHO)
    assert body(reply) == payload


def test_exactly_the_limit_of_a_transaction_passes_and_one_more_sends_nothing(world: World) -> None:
    target = world.one().root
    overhead = len(message(b"\1" * 4)) - 4
    full = message(bytes(limits.MAX_TRANSACTION - overhead))
    assert len(full) == limits.MAX_TRANSACTION
    reply = bk.MessageSequence()
    target.send_request(Code.ECHO, full, reply)
    assert len(reply) == limits.MAX_TRANSACTION
    with pytest.raises(bk.TooBigError, match=r"204804.*204800.*(?s:.*)[Aa]shmem"):
        full.write_int(1)
    assert len(full) == limits.MAX_TRANSACTION
    with pytest.raises(bk.TooBigError):
        message(bytes(limits.MAX_TRANSACTION - overhead + 1))


@pytest.mark.parametrize("size", [1, 32 * 1024, 32 * 1024 + 1, 1 << 20, 16 << 20])
def test_raw_data_both_ways(world: World, size: int) -> None:
    block = bytes(range(256)) * (size // 256) + bytes(size % 256)
    data = message(size)
    data.write_raw_data_buffer(block, size)
    reply = send(world, data, Code.RAW)
    view = reply.read_raw_data_buffer(size)
    assert view.readonly
    assert view == block
    data.reclaim()
    assert view == block, "the view must not change when the sender's block is reused"


def test_raw_data_again_and_again_reuses_nothing_that_is_looked_at(world: World) -> None:
    target, size = world.one().root, 300_000
    views = []
    for number in range(8):
        with message(size) as data:
            data.write_raw_data_buffer(bytes([number]) * size, size)
            reply = bk.MessageSequence()
            target.send_request(Code.RAW, data, reply)
            views.append(reply.read_raw_data_buffer(size))
    assert [bytes(view[:: size - 1]) for view in views] == [bytes([number] * 2) for number in range(8)]


def test_a_second_large_block_is_refused(world: World) -> None:
    data = bk.MessageSequence()
    data.write_raw_data_buffer(bytes(40_000), 40_000)
    before = len(data)
    with pytest.raises(bk.errors.ParcelWriteError) as caught:
        data.write_raw_data_buffer(bytes(40_000), 40_000)
    assert caught.value.code == 1900009
    assert len(data) == before


def test_a_sequence_can_be_sent_twice_and_a_reclaimed_one_not_at_all(world: World, call: Call) -> None:
    target = world.one().root
    data, reply = message(b"twice"), bk.MessageSequence()
    for _ in range(2):
        target.send_request(Code.ECHO, data, reply)
        assert body(reply) == b"twice"
    data.reclaim()
    with pytest.raises(bk.errors.ParcelWriteError):
        target.send_request(Code.ECHO, data, reply)
    assert body(call(target, Code.ECHO, b"next")) == b"next"


def test_a_received_sequence_can_be_sent_on(world: World) -> None:
    target = world.one().root
    first, second = bk.MessageSequence(), bk.MessageSequence()
    target.send_request(Code.ECHO, message(b"round"), first)
    target.send_request(Code.ECHO, first, second)
    assert body(second) == b"round"


def test_many_large_calls_at_once(world: World) -> None:
    """More at once than the mapping of a binder device holds."""
    target = world.one().root
    with ThreadPoolExecutor(12) as pool:
        bodies = [random.randbytes(150_000) for _ in range(24)]
        replies = pool.map(lambda sent: body(transact(target, Code.ECHO, sent)), bodies)
        assert list(replies) == bodies


def test_large_calls_with_objects_at_once(world: World) -> None:
    target = world.one().root
    mine = world.make_service()

    def ask(number: int) -> bool:
        with message(bytes([number]) * 150_000, mine) as data, bk.MessageSequence() as reply:
            target.send_request(Code.TURNED, data, reply)
            return reply.read_remote_object() is mine and body(reply) == bytes([number]) * 150_000

    with ThreadPoolExecutor(12) as pool:
        assert all(pool.map(ask, range(24)))
