"""Meeting points: a secret works once, one process cannot use up all room, and what is gone makes room."""

from __future__ import annotations

from typing import Any

import pytest

import binderkit as bk
from binderkit.driver.kernel import meeting
from binderkit.driver.kernel import protocol as p
from binderkit.driver.kernel.meeting import MAX_OFFERED, MeetingPoint, Offers
from binderkit.errors import InvalidObjectError, ParamValueError, QuotaError
from binderkit.ipc.option import MessageOption
from binderkit.parcel import MessageSequence
from tests.driver.kernel.fakes import FakeNode

SYNC = MessageOption()


def token(number: int) -> bytes:
    """Return a token."""
    return number.to_bytes(16, "little")


def test_a_token_works_once() -> None:
    offers, point = Offers(lambda _: 0), bk.RemoteObject("point")
    offers.offer(token(1), point, 10)
    with pytest.raises(InvalidObjectError, match="nothing is offered under this token"):
        offers.take(token(2))
    assert offers.take(token(1)) is point
    with pytest.raises(InvalidObjectError, match="any more"):
        offers.take(token(1))


@pytest.mark.parametrize("size", [0, 15, 17])
def test_a_token_has_its_size(size: int) -> None:
    with pytest.raises(ParamValueError, match="16 bytes"):
        Offers(lambda _: 0).offer(bytes(size), bk.RemoteObject("point"), 10)


def test_each_process_has_room_of_its_own_and_gets_it_back() -> None:
    offers = Offers(lambda _: 0)
    for number in range(MAX_OFFERED):
        offers.offer(token(number), bk.RemoteObject("point"), 10)
    with pytest.raises(QuotaError, match="of process 10 wait already"):
        offers.offer(token(1000), bk.RemoteObject("point"), 10)
    offers.offer(token(1000), bk.RemoteObject("point"), 11)
    offers.take(token(0))
    offers.offer(token(1001), bk.RemoteObject("point"), 10)


def test_points_of_the_dead_make_room() -> None:
    node, offers = FakeNode(), Offers(lambda _: 0)
    for number in range(MAX_OFFERED):
        offers.offer(token(number), node.targets.receive(node.here, number + 1, 0), 10)
    for target in node.targets.all():
        target.is_dead = True
    offers.offer(token(1000), bk.RemoteObject("point"), 10)
    with pytest.raises(InvalidObjectError):
        offers.take(token(0))


def test_both_calls_of_others_are_answered() -> None:
    offers, point = Offers(lambda _: 0), bk.RemoteObject("point")
    data, reply = meeting._with_token(token(2**127 + 5)), MessageSequence()
    data.write_remote_object(point)
    offers.answer(p.OFFER_TRANSACTION, data, reply, 10)
    assert reply.get_size() == 0
    offers.answer(p.TAKE_TRANSACTION, meeting._with_token(token(2**127 + 5)), reply, 11)
    assert reply.read_remote_object() is point


def test_a_meeting_point_takes_one_object_of_another_process() -> None:
    node, point = FakeNode(), MeetingPoint()

    def come(value: Any) -> bool:
        data = MessageSequence()
        data.write_remote_object(value)
        return point.on_remote_message_request(1, data, MessageSequence(), SYNC)

    assert not come(bk.RemoteObject("own"))
    assert not point.on_remote_message_request(2, MessageSequence(), MessageSequence(), SYNC)
    assert not point.came.is_set()
    root = node.targets.receive(node.here, 5, 0)
    assert come(root)
    assert point.root is root
    assert point.came.is_set()
    assert not come(node.targets.receive(node.here, 6, 0)), "it is taken"
    assert point.root is root


def test_a_meeting_point_of_this_process_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a context manager that lies answers with that."""
    reply = MessageSequence()
    reply.write_remote_object(bk.RemoteObject("own"))
    monkeypatch.setattr(meeting, "_ask", lambda *_, **__: reply)
    with pytest.raises(InvalidObjectError, match="which is of this process"):
        meeting.meet(FakeNode(), token(1), bk.RemoteObject("root"))  # type: ignore[arg-type]
