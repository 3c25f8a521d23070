"""Shortening: it keeps what matters, and always ends."""

from __future__ import annotations

from random import Random

from hypothesis import given
from hypothesis import strategies as st

from binderkit.parcel.objects import KIND_REMOTE
from binderkit.testing.messages import Message
from binderkit.testing.shrink import TRIES, shrunk


def test_only_what_matters_stays() -> None:
    body = Random(1).randbytes(1000) + b"BUG!" + Random(2).randbytes(500)
    shortest = shrunk(Message(1, body), lambda message: b"BUG!" in message.body)
    assert shortest.body.count(b"BUG!") == 1
    assert len(shortest.body) <= 12


def test_what_is_not_needed_becomes_zero() -> None:
    shortest = shrunk(Message(1, bytes(range(1, 41))), lambda message: len(message.body) >= 40)
    assert shortest.body == bytes(40)


def test_objects_and_the_one_way_go_if_they_can() -> None:
    message = Message(1, bytes(60), ((0, KIND_REMOTE, None), (24, KIND_REMOTE, None)), oneway=True)
    shortest = shrunk(message, lambda candidate: len(candidate.objects) >= 1)
    assert (len(shortest.objects), len(shortest.body), shortest.oneway) == (1, 24, False)


def test_a_failure_that_does_not_come_again_leaves_the_message() -> None:
    message = Message(1, bytes(range(200)))
    assert shrunk(message, lambda _: False) is message


@given(seed=st.integers(0, 10**6), size=st.integers(0, 3000))
def test_it_ends_for_a_service_that_changes_its_mind(seed: int, size: int) -> None:
    rng, asked = Random(seed), []

    def fails(candidate: Message) -> bool:
        asked.append(candidate)
        return rng.random() < 0.3

    shortest = shrunk(Message(1, rng.randbytes(size)), fails)
    assert len(asked) <= TRIES
    assert len(shortest.body) <= size
