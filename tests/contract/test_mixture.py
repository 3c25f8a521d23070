"""Everything at once from several threads: bodies, nested paths, objects, descriptors, blocks, timeouts."""

from __future__ import annotations

import os
import random
from concurrent.futures import ThreadPoolExecutor

import pytest

import binderkit as bk
from tests.contract.messages import body, message, transact
from tests.contract.service import Code, Service, read_levels
from tests.contract.world import World


class Client:
    """One thread's random calls to the processes of a world, each checked."""

    def __init__(self, world: World, mine: Service, seed: int) -> None:
        self.random = random.Random(seed)
        self.roots: list[bk.RemoteProxy] = [other.root for other in world.others]
        self.mine = mine
        self.world = world

    def run(self, calls: int) -> int:
        """Make ``calls`` calls; return how many were made."""
        kinds = (self.echo, self.nest, self.objects, self.made, self.descriptor, self.block, self.late)
        for _ in range(calls):
            self.random.choice(kinds)(self.random.choice(self.roots))
        return calls

    def echo(self, target: bk.RemoteProxy) -> None:
        payload = os.urandom(self.random.choice([0, 1, 100, 70_000, 150_000]))
        assert body(transact(target, Code.ECHO, payload)) == payload

    def nest(self, target: bk.RemoteProxy) -> None:
        choices: list[bk.IRemoteObject] = [*self.roots, self.mine]
        path = [self.random.choice(choices) for _ in range(self.random.randrange(8))]
        assert len(read_levels(transact(target, Code.NEST, path))) == len(path) + 1

    def objects(self, target: bk.RemoteProxy) -> None:
        row = [self.world.make_service(), *self.roots, self.mine, self.world.make_service()]
        back = transact(target, Code.OBJECTS, row).read_remote_object_array()
        assert all(one is other for one, other in zip(back, row[::-1], strict=True))

    def made(self, target: bk.RemoteProxy) -> None:
        made = transact(target, Code.MAKE, "service").read_remote_object()
        assert transact(self.random.choice(self.roots), Code.CALL, made).read_long() == made.owner.pid

    def descriptor(self, target: bk.RemoteProxy) -> None:
        with transact(target, Code.GIVE_FD, "through a pipe") as reply, os.fdopen(reply.read_file_descriptor()) as text:
            assert text.read() == "through a pipe"

    def block(self, target: bk.RemoteProxy) -> None:
        size = self.random.choice([40_000, 300_000])
        block = os.urandom(1) * size
        with message(size) as data, bk.MessageSequence() as reply:
            data.write_raw_data_buffer(block, size)
            target.send_request(Code.RAW, data, reply)
            assert reply.read_raw_data_buffer(size) == block

    def late(self, target: bk.RemoteProxy) -> None:
        with pytest.raises(bk.CallTimeoutError):
            transact(target, Code.WAIT_CANCELLED, option=bk.MessageOption(timeout=0.005))


def run_mixture(world: World, threads: int, calls: int) -> None:
    world.start(3)
    mine = world.make_service()
    with ThreadPoolExecutor(threads) as pool:
        runs = [pool.submit(Client(world, mine, seed).run, calls) for seed in range(threads)]
        assert [run.result() for run in runs] == [calls] * threads


def test_a_mixture_of_all_calls_from_several_threads(world: World) -> None:
    run_mixture(world, threads=4, calls=40)


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_long_mixture_of_all_calls_from_many_threads(world: World) -> None:
    run_mixture(world, threads=12, calls=600)
