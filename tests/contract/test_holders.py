"""How many other processes hold an object: counted by processes, whatever way it came to them and however they went."""

from __future__ import annotations

from tests.contract.messages import Call, transact
from tests.contract.service import Code
from tests.contract.world import World, eventually


def held_by(world: World, count: int) -> int:
    """Return what the driver says when ``count`` processes hold an object."""
    return count if world.counts_holders else min(count, 1)


def test_an_object_that_never_left_has_no_holders(world: World) -> None:
    assert world.holders(world.make_service()) == 0


def test_each_process_counts_once(world: World, call: Call) -> None:
    first, second = world.start(2)
    mine, other = world.make_service(), world.make_service()
    for name in ("one", "two"):  # the same process twice
        call(first.root, Code.KEEP, name, mine)
    assert world.holders(mine) == 1
    call(second.root, Code.KEEP, "three", mine)
    call(second.root, Code.KEEP, "other", other)
    assert (world.holders(mine), world.holders(other)) == (held_by(world, 2), 1)
    call(first.root, Code.DROP, "one")
    assert world.holders(mine) == held_by(world, 2)  # it has another name for it still
    call(first.root, Code.DROP, "two")
    eventually(lambda: world.holders(mine) == 1, "the first process gave it back")
    call(second.root, Code.DROP, "three")
    eventually(lambda: world.holders(mine) == 0, "nobody holds it")
    assert world.holders(other) == 1
    call(second.root, Code.DROP, "other")


def test_one_that_got_it_from_another_process_counts_and_our_own_use_does_not(world: World, call: Call) -> None:
    first, second = world.start(2)
    mine = world.make_service()
    call(first.root, Code.KEEP, "it", mine)
    again = call(first.root, Code.GIVE, "it").read_remote_object()
    assert again is mine and world.holders(mine) == 1
    call(second.root, Code.KEEP, "it", again)
    assert world.holders(mine) == held_by(world, 2)
    for other in (first, second):
        call(other.root, Code.DROP, "it")
    eventually(lambda: world.holders(mine) == 0, "nobody holds it")


def test_a_process_that_is_gone_holds_nothing(world: World) -> None:
    first, second = world.start(2)
    mine = world.make_service()
    for other in (first, second):
        transact(other.root, Code.KEEP, "it", mine)
    assert world.holders(mine) == held_by(world, 2)
    first.kill()
    eventually(lambda: world.holders(mine) == 1, "the dead process holds nothing")
    transact(second.root, Code.DROP, "it")
    eventually(lambda: world.holders(mine) == 0, "nobody holds it")
