"""Objects of messages between devices: what becomes of each, and that a message leaves with all of them or none."""

from __future__ import annotations

import os
from typing import Any

import pytest

import binderkit as bk
from binderkit import limits
from binderkit.dbinder.exports import Export, Exports
from binderkit.dbinder.stub import RemoteStub
from binderkit.dbinder.translate import Translator
from binderkit.dbinder.wire import Memory, ObjectRef
from binderkit.errors import InvalidObjectError, ParcelWriteError, ProtocolError, QuotaError, RpcLimitError, TooBigError
from binderkit.memory.pool import Slot
from tests.dbinder.devices import SharedBulk

HERE, THERE, THIRD = "aa" * 32, "bb" * 32, "cc" * 32


class Tables:
    """Counts."""

    def __init__(self) -> None:
        self.exports = Exports()
        self.received: list[ObjectRef] = []
        self.given_back: list[int] = []
        self.fail_at = -1

    def grant(self, device: str, target: Any) -> Export:
        return self.exports.grant(device, target)

    def take_back(self, device: str, granted: list[int]) -> None:
        for number in granted:
            self.exports.release(device, number, 1)

    def receive(self, reference: ObjectRef, generation: int) -> Any:
        if reference.object_id == self.fail_at:
            raise ProtocolError("too many")
        self.received.append(reference)
        return RemoteStub(None, reference, generation)  # type: ignore[arg-type]

    def give_back(self, device: str, object_id: int, generation: int) -> None:
        self.given_back.append(object_id)


class Side:
    def __init__(self) -> None:
        self.tables = Tables()
        self.bulk = SharedBulk()
        self.translator = Translator(HERE, self.bulk.port(HERE), self.tables)
        # What the other device would do with it.
        self.other = Translator(THERE, self.bulk.port(THERE), self.tables)


@pytest.fixture
def side() -> Side:
    return Side()


def sequence(*objects: Any) -> bk.MessageSequence:
    made = bk.MessageSequence()
    for thing in objects:
        made.write_remote_object(thing)
    return made


def stub(name: str = "test.I") -> bk.RemoteObject:
    return bk.RemoteObject(name)


def test_an_object_of_ours_becomes_a_number(side: Side) -> None:
    thing = stub()
    packed = side.translator.pack(THERE, sequence(thing, thing))
    first, second = packed.objects.values()
    assert first == second == ObjectRef(HERE, packed.granted[0], False, "test.I")
    assert side.tables.exports.held_by(THERE) == 2
    side.translator.undo(THERE, packed)
    assert len(side.tables.exports) == 0


def test_an_ability_stays_one(side: Side) -> None:
    thing = stub()
    (first,) = side.translator.pack(THERE, sequence(thing), ability=True).objects.values()
    (again,) = side.translator.pack(THERE, sequence(thing)).objects.values()
    assert first == again
    assert isinstance(first, ObjectRef)
    assert first.ability


@pytest.mark.parametrize(("owner", "text"), [(THERE, "cannot be sent back"), (THIRD, "cannot be sent on")])
def test_an_object_of_another_device_does_not_travel(side: Side, owner: str, text: str) -> None:
    foreign = RemoteStub(None, ObjectRef(owner, 1, False, ""), 1)  # type: ignore[arg-type]
    with pytest.raises(RpcLimitError, match=text) as caught:
        side.translator.pack(THERE, sequence(stub(), foreign))
    assert caught.value.code == 505
    assert len(side.tables.exports) == 0


def test_a_descriptor_does_not_travel(side: Side) -> None:
    made = sequence(stub())
    made.write_file_descriptor(0)
    with pytest.raises(RpcLimitError) as caught:
        side.translator.pack(THERE, made)
    assert caught.value.code == 507
    assert len(side.tables.exports) == 0
    made.reclaim()


def test_raw_data_whose_message_does_not_leave_is_not_kept(side: Side) -> None:
    made = bk.MessageSequence()
    made.write_raw_data_buffer(bytes(500_000), 500_000)
    packed = side.translator.pack(THERE, made)
    assert len(side.bulk.offers) == 1
    side.translator.undo(THERE, packed)
    assert side.bulk.offers == {}


@pytest.mark.parametrize("size", [40_000, 600_000])
def test_raw_data_arrives(side: Side, size: int) -> None:
    content = os.urandom(size)
    made = bk.MessageSequence()
    made.write_raw_data_buffer(content, size)
    packed = side.translator.pack(THERE, made)
    got = bk.MessageSequence()
    unpacked = side.other.unpack(HERE, packed.objects, 1)
    unpacked.fill(got, bytes(packed.data))
    assert bytes(got.read_raw_data_buffer(size)) == content
    assert isinstance(next(iter(unpacked.objects.values()))[1], Slot) == (size > limits.RPC_INLINE_BLOB)


@pytest.mark.parametrize("read_only", [False, True])
@pytest.mark.parametrize("size", [5_000, 600_000])
def test_the_contents_of_an_ashmem_arrive(side: Side, size: int, read_only: bool) -> None:
    content = os.urandom(size)
    made = bk.MessageSequence()
    with bk.Ashmem.create("test", size) as memory:
        memory.map_read_write_ashmem()
        memory.write_data_to_ashmem(content, size, 0)
        memory.unmap_ashmem()
        if read_only:
            memory.set_protection_type(bk.Ashmem.PROT_READ)
        made.write_ashmem(memory)
    packed = side.translator.pack(THERE, made)
    got = bk.MessageSequence()
    side.other.unpack(HERE, packed.objects, 1).fill(got, bytes(packed.data))
    with got.read_ashmem() as arrived:
        arrived.map_readonly_ashmem()
        assert arrived.read_data_from_ashmem(size, 0) == content
        assert bool(arrived._protection() & bk.Ashmem.PROT_WRITE) is not read_only
    got.reclaim()
    made.reclaim()


def test_room_for_memory_in_a_message_is_shared(side: Side) -> None:
    made = bk.MessageSequence()
    memories = [bk.Ashmem.create(f"test{number}", 200_000) for number in range(7)]
    for memory in memories:
        made.write_ashmem(memory)
        memory.close_ashmem()
    packed = side.translator.pack(THERE, made)
    assert sum(len(value.content) for value in packed.objects.values() if isinstance(value, Memory)) < limits.RPC_MAX
    assert len(side.bulk.offers) == 2
    made.reclaim()


def test_too_much_data(side: Side) -> None:
    made = bk.MessageSequence()
    made.set_capacity(limits.MAX_CAPACITY)
    made.write_long_array([0] * (limits.RPC_DATA // 8))
    with pytest.raises(TooBigError):
        side.translator.pack(THERE, made)


def test_an_ashmem_above_the_limit(side: Side) -> None:
    made = bk.MessageSequence()
    with bk.Ashmem.create("test", limits.MAX_RAW_DATA + 1) as memory:
        made.write_ashmem(memory)
    with pytest.raises(TooBigError, match="send it in parts"):
        side.translator.pack(THERE, made)
    made.reclaim()


def test_a_reclaimed_sequence(side: Side) -> None:
    made = sequence()
    made.reclaim()
    with pytest.raises(ParcelWriteError):
        side.translator.pack(THERE, made)


def test_when_a_device_holds_too_much_nothing_is_counted(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_REFERENCES_PER_PEER", 2)
    with pytest.raises(QuotaError):
        side.translator.pack(THERE, sequence(stub(), stub(), stub()))
    assert len(side.tables.exports) == 0


def test_what_cannot_be_taken_in_is_given_back_once(side: Side) -> None:
    references = {offset: ObjectRef(THERE, offset + 1, False, "") for offset in (0, 24, 48)}
    side.tables.fail_at = 25
    with pytest.raises(ProtocolError):
        side.translator.unpack(THERE, dict(references), 1)
    # The first was received: it goes back with its stand-in. The others nobody counted.
    assert [reference.object_id for reference in side.tables.received] == [1]
    assert side.tables.given_back == [25, 49]


def test_memory_that_is_gone_takes_in_nothing(side: Side) -> None:
    objects = {0: ObjectRef(THERE, 1, False, ""), 28: Memory(300_000, b"no ticket", True, False)}
    with pytest.raises(InvalidObjectError):
        side.translator.unpack(THERE, objects, 1)  # type: ignore[arg-type]
    assert side.tables.received == []
    assert side.tables.given_back == [1]


@pytest.mark.parametrize("ashmem", [False, True])
def test_a_ticket_for_memory_of_another_size(side: Side, ashmem: bool) -> None:
    ticket = side.bulk.port(THERE).put(HERE, memoryview(bytes(300_000)))
    with pytest.raises(ProtocolError, match="were announced"):
        side.translator.unpack(THERE, {28: Memory(300_001, ticket, True, ashmem)}, 1)


def test_a_device_sends_only_objects_of_its_own(side: Side) -> None:
    for owner in (HERE, THIRD):
        with pytest.raises(ProtocolError, match="sends an object of device"):
            side.translator.unpack(THERE, {0: ObjectRef(owner, 1, False, "")}, 1)
    assert side.tables.received == []


def test_shared_memory_of_calls_that_are_over_is_used_again(side: Side) -> None:
    size = limits.RPC_INLINE_BLOB + 1
    slots = set()
    for _ in range(3):
        ticket = side.bulk.port(THERE).put(HERE, memoryview(bytes(size)))
        unpacked = side.translator.unpack(THERE, {8: Memory(size, ticket, True, False, True)}, 1)
        _, slot = unpacked.objects[8]
        slots.add(slot)
        received = bk.MessageSequence()
        unpacked.fill(received, bytes(32))
        del received, unpacked
    assert len(slots) == 1
