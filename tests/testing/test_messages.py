"""Messages: whatever is done to one, a driver could still deliver it; and everything follows from the seed."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binderkit as bk
from binderkit.ipc.proxy import check_code
from binderkit.parcel import MessageSequence
from binderkit.parcel.objects import KIND_BLOB, KIND_FD, KIND_REMOTE, RECORD_SIZE
from binderkit.testing.messages import DAMAGES, Message, RawMessages, Things, cut, insert
from tests.testing.services import Echo

Damage = Callable[[Random, Message, Things], Message]


@pytest.fixture(scope="module")
def things() -> Iterator[Things]:
    """Objects for all cases."""
    made = Things()
    yield made
    made.close()


def rich(things: Things, code: int = 1) -> Message:
    """Return a message with an object of every kind."""
    with MessageSequence() as sequence:
        sequence.write_interface_token("com.example.IRich")
        sequence.write_remote_object(Echo())
        sequence.write_int(7)
        sequence.write_file_descriptor(things.descriptor)
        sequence.write_raw_data_buffer(bytes(40_000), 40_000)
        sequence.write_string("end")
        return Message.of(code, sequence, things)


def deliver(message: Message) -> None:
    """Do with a message what a driver does; its own checks raise if it could not have come."""
    with message.sequence() as sent:
        objects = dict(sent._objects or {})
        with MessageSequence() as received:
            received._load(bytes(sent), {offset: pair for offset, pair in objects.items() if pair[0] != KIND_FD})
        ends = 0
        for offset in objects:
            assert offset >= ends
            ends = offset + RECORD_SIZE
        assert ends <= len(message.body)


def test_a_message_can_be_sent_any_number_of_times(things: Things) -> None:
    message = rich(things)
    assert [kind for _, kind, _ in message.objects] == [KIND_REMOTE, KIND_FD, KIND_BLOB]
    for _ in range(3):
        with message.sequence() as sequence:
            assert sequence.read_interface_token() == "com.example.IRich"
            assert sequence.read_remote_object() is things.remote
            assert sequence.read_int() == 7
            os.close(sequence.read_file_descriptor())
            assert len(sequence.read_raw_data_buffer(40_000)) == 40_000
            assert sequence.read_string() == "end"
    assert message.weight == len(message.body) + 40_000
    assert "object at" in str(message)
    assert bytes.fromhex("".join(line[7:] for line in str(message).splitlines()[:-3])) == message.body


@given(seed=st.integers(0, 2**32), damages=st.lists(st.sampled_from(DAMAGES), max_size=12))
def test_damaged_messages_can_still_be_delivered(things: Things, seed: int, damages: list[Damage]) -> None:
    rng = Random(seed)
    message = rich(things)
    for damage in damages:
        message = damage(rng, message, things)
        deliver(message)


@pytest.mark.parametrize("damage", DAMAGES)
def test_an_empty_message_stands_every_damage(things: Things, damage: Damage) -> None:
    for seed in range(50):
        deliver(damage(Random(seed), Message(1, b""), things))


@pytest.mark.parametrize("damage", dict.fromkeys(DAMAGES))
def test_every_damage_does_something(things: Things, damage: Damage) -> None:
    message = rich(things)
    assert any(damage(Random(seed), message, things) != message for seed in range(20))


def test_cut_and_insert_move_the_objects_behind(things: Things) -> None:
    body = bytes(range(96))
    message = Message(1, body, ((24, KIND_REMOTE, things.remote), (72, KIND_REMOTE, things.remote)))
    assert [offset for offset, _, _ in cut(message, 48, 72).objects] == [24, 48]
    assert [offset for offset, _, _ in cut(message, 30, 34).objects] == [68]
    assert [offset for offset, _, _ in insert(message, 24, b"1234").objects] == [28, 76]
    assert [offset for offset, _, _ in insert(message, 30, b"1234").objects] == [76]
    assert insert(message, 24, b"1234").body == body[:24] + b"1234" + body[24:]


@pytest.mark.parametrize("samples", [[], [(3, b"\1\0\0\0")]])
def test_every_message_has_a_code_that_can_be_sent(things: Things, samples: list[tuple[int, bytes]]) -> None:
    messages = RawMessages(Random(4), "com.example.IAny", [1, 2, 3], samples, things)
    made = [messages.next() for _ in range(3000)]
    for message in made:
        check_code(message.code)
        deliver(message)
    codes = [message.code for message in made]
    assert {1, 2, 3} <= set(codes)
    assert sum(1000 < code <= 0x00FFFFFF for code in codes) > 50
    assert sum(code > 0x00FFFFFF for code in codes) > 5
    assert not any(message.oneway for message in made if message.code > 0x00FFFFFF)
    assert sum(message.oneway for message in made) > 100


def test_the_seed_decides_everything(things: Things) -> None:
    def made(seed: int) -> list[Message]:
        messages = RawMessages(Random(seed), "com.example.IAny", [1], [(1, b"abcd")], things)
        return [messages.next() for _ in range(200)]

    def plain(seed: int) -> list[tuple[int, bytes, bool]]:
        return [(one.code, one.body, one.oneway) for one in made(seed)]

    assert plain(9) == plain(9)
    assert plain(9) != plain(10)


def test_duplicates_are_counted(things: Things) -> None:
    before = things.duplicates()
    duplicate = things.descriptor.dup()
    assert things.duplicates() == before + 1
    os.close(duplicate)
    assert things.duplicates() == before


def test_the_agreeable_object_says_yes(things: Things) -> None:
    with MessageSequence() as data, MessageSequence() as reply:
        assert things.remote.send_request(12, data, reply) == 0
    assert isinstance(things.remote, bk.RemoteObject)
