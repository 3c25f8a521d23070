"""A device that means harm: what it sends reaches no object, and what it claims is not believed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import binderkit as bk
from binderkit.dbinder.wire import Action, Memory, Message, ObjectRef, Reply, decode_reply, encode_message
from binderkit.ipc.proxy import DUMP_TRANSACTION, REMOTE_TRANSACTION
from tests.dbinder.devices import Device, Devices, eventually, running
from tests.dbinder.service import Code, Service, call, echo

ABILITY = 5000


class Attack:
    """Device b speaks to device a's dbinder in bytes of its own."""

    def __init__(self, devices: Devices) -> None:
        self.devices = devices
        self.victim, self.evil = devices.all[:2]
        self.service = Service()
        self.victim.offer(ABILITY, self.service, self.victim.app())
        self.own = 77
        self.number = 1000

    def send(self, action: Action, *, target: int | None = None, **fields: Any) -> Reply:
        """Send a message as a call and return the reply."""
        self.number += 1
        message = Message(action, fields.pop("own", self.own), fields.pop("known", 0), self.number)
        for name, value in fields.items():
            setattr(message, name, value)
        to = message.object_id if target is None else target
        return decode_reply(self.evil.calls.call(self.victim.udid, to, encode_message(message)))

    def status(self, action: Action, **fields: Any) -> int:
        reply = self.send(action, **fields)
        return 0 if reply.failure is None else reply.failure.status

    def get(self) -> ObjectRef:
        reply = self.send(Action.GET, code=ABILITY)
        (reference,) = reply.objects.values()
        assert isinstance(reference, ObjectRef)
        return reference


@pytest.fixture
def attack() -> Iterator[Attack]:
    with running("victim", "evil", "other") as devices:
        yield Attack(devices)


def text(value: str) -> bytes:
    sequence = bk.MessageSequence()
    sequence.write_string(value)
    return bytes(sequence)


def test_a_device_that_was_given_an_object_may_call_it(attack: Attack) -> None:
    got = attack.send(Action.CALL, object_id=attack.get().object_id, code=int(Code.ECHO), data=text("ok"))
    assert got.failure is None
    assert bk.MessageSequence.from_bytes(got.data).read_string() == "ok"


def test_an_object_that_was_given_to_somebody_else(attack: Attack, caplog: pytest.LogCaptureFixture) -> None:
    other = attack.devices.all[2]
    stub = other.dbinder.get(attack.victim.udid, ABILITY)
    for object_id in (stub.object_id, stub.object_id + 1, 0, 2**64 - 1):
        assert attack.status(Action.CALL, object_id=object_id, code=int(Code.NOTE), data=bytes(4)) == 603
        assert attack.status(Action.WATCH, object_id=object_id) == 603
        assert attack.status(Action.RELEASE, object_id=object_id, code=1) == 601
    assert attack.service.notes == []
    assert "was not given object" in caplog.text
    stub.on_reserved(0x5F504E47, bk.MessageSequence(), bk.MessageSequence())


def test_giving_back_more_than_was_given(attack: Attack) -> None:
    reference = attack.get()
    assert attack.status(Action.RELEASE, object_id=reference.object_id, code=2) == 601
    assert attack.status(Action.RELEASE, object_id=reference.object_id, code=0) == 601
    assert attack.status(Action.CALL, object_id=reference.object_id, code=int(Code.ECHO), data=text("x")) == 0
    assert attack.status(Action.RELEASE, object_id=reference.object_id, code=1) == 0
    assert attack.status(Action.CALL, object_id=reference.object_id, code=int(Code.ECHO), data=text("x")) == 603


@pytest.mark.parametrize("code", [REMOTE_TRANSACTION, DUMP_TRANSACTION, 0, 0x01000000, 2**32 - 1])
def test_codes_that_do_not_go_between_devices(attack: Attack, code: int) -> None:
    assert attack.status(Action.CALL, object_id=attack.get().object_id, code=code, data=bytes(200)) == 204


def test_a_call_that_was_addressed_to_another_object(attack: Attack) -> None:
    reference = attack.get()
    assert attack.status(Action.CALL, target=5, object_id=reference.object_id, code=int(Code.ECHO)) == 601


def test_a_call_cannot_pass_for_a_one_way_message(attack: Attack) -> None:
    assert attack.status(Action.ONEWAY, object_id=attack.get().object_id, code=int(Code.NOTE), data=bytes(4)) == 601


def test_an_object_of_a_third_device(attack: Attack) -> None:
    """Nobody can make us call somebody else in its name."""
    reference = ObjectRef(attack.devices.all[2].udid, 5, True, "test")
    status = attack.status(
        Action.CALL, object_id=attack.get().object_id, code=int(Code.KEEP), data=bytes(24), objects={0: reference}
    )
    assert status == 601
    assert attack.service.kept == []
    assert attack.victim.settle()["imports"] == 0


def test_our_own_object_sent_to_us(attack: Attack) -> None:
    mine = attack.get()
    status = attack.status(
        Action.CALL, object_id=mine.object_id, code=int(Code.KEEP), data=bytes(24), objects={0: mine}
    )
    assert status == 601
    assert attack.service.kept == []


def test_memory_with_a_ticket_of_somebody_else(attack: Attack) -> None:
    ticket = attack.victim.dbinder.translator._bulk.put(attack.devices.all[2].udid, memoryview(b"x" * 50_000))
    data = (50_000).to_bytes(4, "little") + bytes(24)
    memory = Memory(50_000, ticket, True, False)
    status = attack.status(
        Action.CALL, object_id=attack.get().object_id, code=int(Code.RAW), data=data, objects={4: memory}
    )
    assert status == 1900008


def test_a_message_that_came_before(attack: Attack) -> None:
    reference = attack.get()
    attack.send(Action.CALL, object_id=reference.object_id, code=int(Code.NOTE), data=bytes(4))
    attack.number -= 1
    assert attack.status(Action.CALL, object_id=reference.object_id, code=int(Code.NOTE), data=bytes(4)) == 601
    assert len(attack.service.notes) == 1


def test_a_message_of_an_earlier_life(attack: Attack) -> None:
    reference = attack.get()
    attack.send(Action.GET, own=78, code=ABILITY)
    assert attack.status(Action.CALL, own=77, object_id=reference.object_id, code=int(Code.ECHO)) == -32
    assert attack.status(Action.CALL, own=78, known=5, object_id=reference.object_id, code=int(Code.ECHO)) == -32


def test_a_claimed_uid_is_not_a_uid_of_ours(attack: Attack) -> None:
    got = attack.send(Action.CALL, object_id=attack.get().object_id, code=int(Code.WHO), pid=1, uid=0, token=9)
    reply = bk.MessageSequence.from_bytes(got.data)
    assert reply.read_string() == attack.evil.udid
    assert (reply.read_int(), reply.read_int()) == (-1, -1)
    assert (reply.read_int(), reply.read_long()) == (1, 0)
    assert reply.read_boolean() is False


def test_an_obituary_for_what_is_not_ours_to_hear(attack: Attack) -> None:
    stub = attack.devices.all[2].dbinder
    held = attack.victim.dbinder
    attack.devices.all[2].offer(ABILITY, Service(), attack.devices.all[2].app())
    real = held.get(stub.udid, ABILITY)
    assert attack.status(Action.OBITUARY, object_id=real.object_id) == 0
    assert not real.is_object_dead()


def test_control_messages_carry_nothing(attack: Attack) -> None:
    for action in (Action.GET, Action.WATCH, Action.RELEASE, Action.OBITUARY, Action.SETTLE):
        assert attack.status(action, data=b"1234") == 601


def test_settling_a_message_that_never_came(attack: Attack) -> None:
    reference = attack.get()
    number = attack.number + 100
    assert bytes(attack.send(Action.SETTLE, object_id=number).data) == b"\0"
    attack.number = number - 1
    assert attack.status(Action.CALL, object_id=reference.object_id, code=int(Code.NOTE), data=bytes(4)) == 601
    assert attack.service.notes == []


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(packet=st.binary(max_size=200), oneway=st.booleans())
def test_any_bytes_get_a_reply_and_reach_nothing(attack: Attack, packet: bytes, oneway: bool) -> None:
    if oneway:
        attack.evil.calls.send(attack.victim.udid, 1, packet)
        return
    assert decode_reply(attack.evil.calls.call(attack.victim.udid, 1, packet)).failure is not None
    assert attack.service.notes == []


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    action=st.sampled_from(Action),
    step=st.sampled_from([None, 0, 1]),
    known=st.sampled_from([0, 1]),
    object_id=st.sampled_from([0, 1, 2**64 - 1, -1]),
    code=st.sampled_from([0, 1, 3, 5, 10, ABILITY, 2**32 - 1]),
    data=st.binary(max_size=60),
)
def test_well_formed_nonsense(
    attack: Attack, action: Action, step: int | None, known: int, object_id: int, code: int, data: bytes
) -> None:
    attack.own += step or 0
    if object_id == -1:
        object_id = attack.get().object_id
    attack.send(action, own=0 if step is None else attack.own, known=known, object_id=object_id, code=code, data=data)
    assert _still_serves(attack.victim, attack.devices.all[2])


def _still_serves(victim: Device, other: Device) -> bool:
    app = other.app()
    try:
        return echo(other.get(victim, ABILITY, app)) == "hello"
    finally:
        app.close()


def test_one_way_nonsense_is_only_logged(attack: Attack) -> None:
    reference = attack.get()
    message = Message(Action.ONEWAY, 77, 0, 5, reference.object_id, 12345, data=os.urandom(20))
    attack.evil.calls.send(attack.victim.udid, reference.object_id, encode_message(message))
    good = Message(Action.ONEWAY, 77, 0, 6, reference.object_id, int(Code.NOTE), data=(8).to_bytes(4, "little"))
    attack.evil.calls.send(attack.victim.udid, reference.object_id, encode_message(good))
    eventually(lambda: attack.service.notes == [8], "what follows nonsense is executed")


def test_what_a_refused_call_brought_is_given_back(attack: Attack) -> None:
    """The sender counts an object that came with a call to nobody: it hears that we do not hold it."""
    a, b = attack.victim, attack.evil
    a.abilities.clear()
    a.offer(ABILITY, attack.service, a.app())
    app = b.app()
    proxy = b.get(a, ABILITY, app)
    stub = b.dbinder._imports.find(a.udid, next(iter(a.dbinder._exports._by_id)))
    a.dbinder.release(b.udid, stub.object_id, 1)  # as if a had lost it
    with pytest.raises(bk.IpcError):
        call(proxy, Code.KEEP, lambda data: data.write_remote_object(Service()))
    eventually(lambda: (a.settle(), b.settle())[1]["exports"] == 0, "the object was given back")


def test_a_flood_of_refusals_does_not_fill_the_log(attack: Attack, caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(40):
        assert attack.status(Action.CALL, object_id=5, code=1) == 603
    assert len([record for record in caplog.records if record.name == "binderkit.dbinder"]) == 6


def test_a_one_way_call_nobody_has_room_for_is_refused_at_once(
    attack: Attack, caplog: pytest.LogCaptureFixture
) -> None:
    reference = attack.get()
    data = bytes(600_000)
    for number, message in enumerate(
        (
            Message(Action.ONEWAY, 77, 0, 5, reference.object_id, int(Code.NOTE), data=data),
            Message(
                Action.ONEWAY,
                77,
                0,
                6,
                reference.object_id,
                int(Code.RAW),
                data=(600_000).to_bytes(4, "little") + bytes(24),
                objects={4: Memory(600_000, b"ticket", True, False)},
            ),
        ),
        start=1,
    ):
        attack.evil.calls.send(attack.victim.udid, reference.object_id, encode_message(message))
        eventually(lambda number=number: attack.victim.dbinder and _complaints(caplog) == number, "it was refused")  # type: ignore[misc]
    assert attack.service.notes == []


def _complaints(caplog: pytest.LogCaptureFixture) -> int:
    return sum("a one-way call of 600" in record.getMessage() for record in caplog.records)
