"""Objects: identity, homecoming, passing on, and how long a stub lives."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from functools import partial

import pytest

import binderkit as bk
from binderkit import limits
from tests.contract.messages import Call, body, message, tell, transact
from tests.contract.service import Code, Service
from tests.contract.world import Other, World, eventually


def made_alive(other: Other) -> int:
    return transact(other.root, Code.MADE, 2).read_long()


def gone(reference: weakref.ref[Service], world: World) -> Callable[[], bool]:
    def look() -> bool:
        world.flush()
        gc.collect()
        return reference() is None

    return look


# --- identity ------------------------------------------------------------------------------------


def test_the_same_object_is_the_same_proxy(world: World, call: Call) -> None:
    other = world.one()
    call(other.root, Code.KEEP, "it", world.make_service())
    made = call(other.root, Code.MAKE, "service").read_remote_object()
    call(other.root, Code.KEEP, "made", made)
    assert call(other.root, Code.GIVE, "made").read_remote_object() is made
    assert call(other.root, Code.MAKE, "service").read_remote_object() is not made
    call(other.root, Code.DROP, "it")
    call(other.root, Code.DROP, "made")


def test_an_object_that_comes_home_is_the_original(world: World, call: Call) -> None:
    other, mine = world.one(), world.make_service()
    call(other.root, Code.KEEP, "mine", mine)
    assert call(other.root, Code.GIVE, "mine").read_remote_object() is mine
    call(other.root, Code.DROP, "mine")


def test_homecoming_again_and_again_keeps_no_reference(world: World, call: Call) -> None:
    """The confirmation that an object came home may overtake the sender's own notes about it."""
    other, mine = world.one(), world.make_service()
    reference = weakref.ref(mine)
    for _ in range(300):
        assert call(other.root, Code.OBJECTS, [mine]).read_remote_object_array() == [mine]
    del mine
    eventually(gone(reference, world), "the stub goes when nobody holds it", 5.0)


def test_their_object_that_goes_home_is_their_original(world: World, call: Call) -> None:
    other = world.one()
    assert call(other.root, Code.IS_ME, other.root).read_boolean()
    made = call(other.root, Code.MAKE, "service").read_remote_object()
    assert call(made, Code.IS_ME, made).read_boolean()
    assert not call(made, Code.IS_ME, other.root).read_boolean()


def test_an_array_of_objects_keeps_order_and_identity(world: World, call: Call) -> None:
    first, second = world.start(2)
    mine = world.make_service()
    row: list[bk.IRemoteObject] = [mine, first.root, second.root, mine, first.root]
    back = call(first.root, Code.OBJECTS, row).read_remote_object_array()
    assert all(one is other for one, other in zip(back, row[::-1], strict=True))


def test_many_objects_in_one_message_and_too_many(world: World) -> None:
    target = world.one().root
    row = [world.make_service() for _ in range(400)]
    assert transact(target, Code.OBJECTS, row).read_remote_object_array() == row[::-1]
    with pytest.raises(bk.TooBigError):
        transact(target, Code.OBJECTS, [row[0]] * (limits.MAX_OBJECTS_PER_MESSAGE + 1))
    del row


def test_a_proxy_that_went_through_two_processes_is_the_same(world: World) -> None:
    first, second = world.start(2)
    made = transact(first.root, Code.MAKE, "service").read_remote_object()
    transact(second.root, Code.KEEP, "made", made)
    transact(first.root, Code.PASS_ON, second.root, "again", made)
    assert transact(second.root, Code.IS_KEPT, "again", made).read_boolean()
    assert transact(first.root, Code.FETCH, second.root, "made").read_remote_object() is made
    for name in ("made", "again"):
        transact(second.root, Code.DROP, name)


# --- third parties -------------------------------------------------------------------------------


def test_an_object_of_a_third_process_can_be_called(world: World, call: Call) -> None:
    first, second = world.start(2)
    assert call(second.root, Code.CALL, first.root).read_long() == first.pid
    assert call(first.root, Code.CALL, second.root).read_long() == second.pid


def test_our_object_can_be_passed_on_and_called(world: World) -> None:
    first, second = world.start(2)
    mine = world.make_service()
    transact(first.root, Code.PASS_ON, second.root, "mine", mine)
    kept = transact(second.root, Code.GIVE, "mine").read_remote_object()
    assert kept is mine
    assert transact(second.root, Code.CALL, mine).read_long() == world.pid
    transact(second.root, Code.DROP, "mine")


def test_an_introduced_object_outlives_the_process_that_introduced_it(world: World) -> None:
    owner, introducer, user = world.start(3)
    made = transact(owner.root, Code.MAKE, "service").read_remote_object()
    transact(introducer.root, Code.KEEP, "made", made)
    transact(introducer.root, Code.PASS_ON, user.root, "made", made)
    introducer.kill()
    assert made_alive(owner) == 1
    del made
    kept = transact(user.root, Code.GIVE, "made").read_remote_object()
    transact(kept, Code.KEEP, "proof", user.root)
    assert transact(kept, Code.IS_KEPT, "proof", user.root).read_boolean()
    transact(kept, Code.DROP, "proof")
    transact(user.root, Code.DROP, "made")
    del kept
    eventually(lambda: world.flush() or made_alive(owner) == 0, "the object goes with its last holder")


def test_the_identity_of_an_introduced_caller_is_its_own(world: World) -> None:
    owner, user = world.start(2)
    mine = world.make_service()
    levels = transact(owner.root, Code.NEST, [user.root, mine])
    assert levels.read_long() == 3
    assert levels.read_long() == user.pid, "our object was called by the process it was passed to"


def test_passing_on_a_dead_object_is_refused_and_sends_nothing(world: World) -> None:
    first, second = world.start(2)
    first.kill()
    eventually(first.root.is_object_dead, "the death is noticed")
    with pytest.raises(bk.DeadObjectError):
        transact(second.root, Code.KEEP, "dead", first.root)
    assert body(transact(second.root, Code.ECHO, b"ok")) == b"ok"


# --- how long a stub lives -----------------------------------------------------------------------


def test_a_stub_lives_until_its_last_proxy_goes(world: World, call: Call) -> None:
    other, mine = world.one(), world.make_service()
    reference = weakref.ref(mine)
    call(other.root, Code.KEEP, "mine", mine)
    call(other.root, Code.KEEP, "again", mine)
    del mine
    gc.collect()
    call(other.root, Code.DROP, "mine")
    assert reference() is not None
    call(other.root, Code.DROP, "again")
    eventually(gone(reference, world), "the stub goes with the last proxy")


def test_a_made_object_lives_as_long_as_we_hold_its_proxy(world: World, call: Call) -> None:
    other = world.one()
    made = call(other.root, Code.MAKE, "service").read_remote_object()
    assert body(call(made, Code.ECHO, b"x")) == b"x"
    assert made_alive(other) == 1
    del made
    eventually(lambda: world.flush() or made_alive(other) == 0, "the object goes with our proxy")


def test_a_dead_holder_frees_what_it_held(world: World) -> None:
    other, mine = world.one(), world.make_service()
    reference = weakref.ref(mine)
    transact(other.root, Code.KEEP, "mine", mine)
    del mine
    gc.collect()
    assert reference() is not None
    other.kill()
    eventually(gone(reference, world), "the stub goes with the process that held it")


def test_an_object_nobody_read_is_released(world: World) -> None:
    other, mine = world.one(), world.make_service()
    reference = weakref.ref(mine)
    data = message(b"read", mine)
    other.root.send_request(Code.ECHO, data, bk.MessageSequence())
    del mine, data
    eventually(gone(reference, world), "the reference in the data nobody read is given back")


def test_a_refused_message_leaves_no_reference(world: World) -> None:
    first, second = world.start(2)
    mine = world.make_service()
    reference = weakref.ref(mine)
    second.kill()
    eventually(second.root.is_object_dead, "the death is noticed")
    with pytest.raises(bk.DeadObjectError) as caught:
        transact(first.root, Code.OBJECTS, [mine, second.root])
    del mine, caught
    eventually(gone(reference, world), "what a message that was not sent carried is given back")


def test_a_one_way_call_arrives_though_the_proxy_is_dropped_at_once(world: World) -> None:
    other = world.one()
    for number in range(50):
        made = transact(other.root, Code.MAKE, "service").read_remote_object()
        mine = world.make_service()
        tell(made, Code.SEND_ONEWAY, mine, number)
        del made
        eventually(partial(recorded, mine, number), "the one-way calls came")
    eventually(lambda: world.flush() or made_alive(other) == 0, "the objects go")


def recorded(service: bk.IRemoteObject, count: int) -> bool:
    return transact(service, Code.RECORDED, 0).read_long() == count


def test_a_stub_is_called_directly_in_its_own_process(world: World, call: Call) -> None:
    mine = world.make_service()
    reply = call(mine, Code.WHO)
    assert reply.read_long() == bk.IPCSkeleton.get_calling_pid()
    with pytest.raises(bk.errors.OnlyProxyPermittedError):
        mine.register_death_recipient(Silent())
    assert not mine.is_object_dead()


class Silent(bk.DeathRecipient):
    def on_remote_died(self) -> None:
        raise AssertionError("nobody died")


def test_a_proxy_has_no_local_interface_and_knows_its_descriptor(world: World) -> None:
    target = world.one().root
    assert target.get_descriptor() == "binderkit.tests.IService"
    with pytest.raises(bk.errors.OnlyRemoteObjectPermittedError):
        target.get_local_interface("binderkit.tests.IService")
