"""Calls within calls: callbacks, cycles, threads, identity at every level."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

import binderkit as bk
from tests.contract.messages import Call, message, transact
from tests.contract.service import Code, read_levels
from tests.contract.world import World


@pytest.mark.parametrize("depth", [1, 2, 20])
def test_callbacks_run_on_the_waiting_thread_with_the_right_caller(world: World, depth: int) -> None:
    other, mine = world.one(), world.make_service()
    path = [mine if level % 2 else other.root for level in range(1, depth + 1)]
    levels = read_levels(transact(other.root, Code.NEST, path))
    assert len(levels) == depth + 1
    by_process: dict[int, set[int]] = {world.pid: {threading.get_ident()}, other.pid: set()}
    for at, (before, after, pid, thread, _) in enumerate(reversed(levels)):
        assert before == after == (world.pid if at % 2 == 0 else other.pid), f"level {at}"
        assert pid == (other.pid if at % 2 == 0 else world.pid)
        by_process[pid].add(thread)
    assert by_process[world.pid] == {threading.get_ident()}, "a callback ran on another thread than the waiting one"
    assert len(by_process[other.pid]) == 1
    assert len({chain for *_, chain in levels}) == 1


def test_a_cycle_through_three_processes_keeps_its_chain(world: World) -> None:
    first, second = world.start(2)
    mine = world.make_service()
    levels = read_levels(transact(first.root, Code.NEST, [second.root, mine, first.root, second.root]))
    assert [pid for _, _, pid, _, _ in levels] == [second.pid, first.pid, world.pid, second.pid, first.pid]
    assert [before for before, *_ in levels] == [first.pid, world.pid, second.pid, first.pid, world.pid]
    assert len({chain for *_, chain in levels}) == 1
    other_chain = read_levels(transact(first.root, Code.NEST, []))[0][4]
    assert other_chain not in (0, levels[0][4])


def test_callbacks_from_a_coroutine_reach_us(world: World, call: Call) -> None:
    other, mine = world.one(), world.make_service()
    path = [mine, other.root, mine]
    levels = read_levels(call(other.root, Code.NEST, path))
    assert [pid for _, _, pid, _, _ in levels] == [world.pid, other.pid, world.pid, other.pid]
    assert len({chain for *_, chain in levels}) == 1


def test_the_caller_is_known_outside_and_inside_a_call(world: World, call: Call) -> None:
    other = world.one()
    seen = call(other.root, Code.WHO)
    assert (seen.read_long(), seen.read_long(), seen.read_string()) == (world.pid, os.getuid(), "")
    assert seen.read_long() == other.pid
    seen.read_long(), seen.read_long()
    assert (seen.read_boolean(), seen.read_boolean()) == (True, True)
    assert bk.IPCSkeleton.get_calling_pid() == os.getpid()
    assert not bk.IPCSkeleton.is_handling_transaction()
    assert other.root.owner.pid == other.pid


def test_the_identity_can_be_reset_and_restored(world: World, call: Call) -> None:
    other = world.one()
    reply = call(other.root, Code.IDENTITY)
    assert reply.read_long() == world.pid
    assert reply.read_boolean(), "while reset, the caller is the service's own process"
    assert reply.read_long() == world.pid
    assert reply.read_string() == str(os.getuid() << 32 | world.pid)
    assert bk.IPCSkeleton.reset_calling_identity() == ""


@pytest.mark.parametrize("size", [1, 2])
def test_chains_through_exhausted_pools_finish(world: World, size: int) -> None:
    """A -> B -> A -> B with a single worker each: whoever waits in a call does not count."""
    first, second = world.start(2)
    mine = world.make_service()
    world.set_max_threads(size)
    for other in (first, second):
        transact(other.root, Code.THREADS, size)
    paths: list[list[bk.IRemoteObject]] = [
        [mine, first.root, mine, first.root],
        [second.root, mine, first.root, second.root, mine],
        [second.root, first.root, second.root, first.root],
    ]
    with ThreadPoolExecutor(6) as pool:
        runs = [pool.submit(transact, first.root, Code.NEST, paths[at % 3]) for at in range(18)]
        depths = [len(read_levels(run.result(30))) for run in runs]
    world.set_max_threads(16)
    assert depths == [len(paths[at % 3]) + 1 for at in range(18)]


def test_more_callers_than_threads_are_all_served_within_the_limit(world: World) -> None:
    other, callers, limit = world.one(), 12, 3
    transact(other.root, Code.THREADS, limit)
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    with ThreadPoolExecutor(callers) as pool:
        # Each holds its thread until it gets a byte, and there is one more byte whenever one has ended.
        runs = [pool.submit(transact_fd, other.root, reading) for _ in range(callers)]
        os.write(writing, bytes(callers))
        for run in runs:
            run.result(30)
    os.close(reading)
    os.close(writing)
    seen = transact(other.root, Code.WAITING)
    assert (seen.read_long(), world.service_threads and seen.read_long() > limit) == (0, False)


def transact_fd(target: bk.IRemoteObject, fd: int) -> None:
    data = message()
    data.write_file_descriptor(fd)
    target.send_request(Code.WAIT_FD, data, bk.MessageSequence())


def test_a_reply_can_carry_objects_at_every_level(world: World) -> None:
    first, second = world.start(2)
    mine = world.make_service()
    transact(second.root, Code.KEEP, "mine", mine)
    fetched = transact(first.root, Code.FETCH, second.root, "mine").read_remote_object()
    assert fetched is mine
    transact(second.root, Code.DROP, "mine")
