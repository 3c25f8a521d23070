"""What processes leave at the context manager for each other, and what it tells of who holds an object."""

from __future__ import annotations

from typing import Any

import pytest

import binderkit as bk
from binderkit.driver.kernel import protocol as p
from binderkit.driver.kernel.meeting import MAX_OFFERED, TOKEN_SIZE, Offers
from binderkit.errors import InvalidObjectError, ParamValueError, QuotaError
from binderkit.ipc.context import Caller

PID = 77


class Elsewhere:
    """A connection to a process that does not matter."""

    caller = Caller(7, 8, -1)
    is_dead = False

    def transact(self, *_: Any) -> int:
        """Nobody calls it here."""
        raise AssertionError("the object is called")


def request(*values: Any) -> bk.MessageSequence:
    """Return a received request with numbers and objects."""
    written, received = bk.MessageSequence(), bk.MessageSequence()
    for value in values:
        if isinstance(value, int):
            written.write_long(value)
        else:
            written.write_remote_object(value)
    assert written._out is not None
    received._load(bytes(written._out), dict(written._objects) if written._objects else None)
    return received


def a_proxy() -> bk.RemoteProxy:
    return bk.RemoteProxy(Elsewhere(), 5)  # type: ignore[arg-type]


def test_what_is_offered_is_taken_once() -> None:
    offers, point, reply = Offers(lambda _: 0), bk.RemoteObject("tests.IPoint"), bk.MessageSequence()
    offers.answer(p.OFFER_TRANSACTION, request(1, -2, point), bk.MessageSequence(), PID)
    with pytest.raises(InvalidObjectError, match="nothing is offered"):
        offers.answer(p.TAKE_TRANSACTION, request(1, -3), reply, PID)
    offers.answer(p.TAKE_TRANSACTION, request(1, -2), reply, PID)
    assert reply._objects is not None and [value for _, value in reply._objects.values()] == [point]
    with pytest.raises(InvalidObjectError, match="any more"):
        offers.answer(p.TAKE_TRANSACTION, request(1, -2), reply, PID)


def test_what_waits_is_bounded_for_each_process() -> None:
    offers = Offers(lambda _: 0)
    for number in range(MAX_OFFERED):
        offers.offer(number.to_bytes(TOKEN_SIZE, "little"), bk.RemoteObject("tests.IPoint"), PID)
    with pytest.raises(QuotaError, match="start fewer at once"):
        offers.offer(b"x" * TOKEN_SIZE, bk.RemoteObject("tests.IPoint"), PID)
    offers.offer(b"y" * TOKEN_SIZE, bk.RemoteObject("tests.IPoint"), PID + 1)
    assert offers.take(bytes(TOKEN_SIZE))
    offers.offer(b"x" * TOKEN_SIZE, bk.RemoteObject("tests.IPoint"), PID)
    with pytest.raises(ParamValueError, match="16 bytes"):
        offers.offer(b"short", bk.RemoteObject("tests.IPoint"), PID)


@pytest.mark.parametrize(("kept", "told"), [(True, 3), (False, 2)])
def test_holders_are_told_without_the_reference_that_brought_the_object(kept: bool, told: int) -> None:
    offers, reply = Offers(lambda _: 3), bk.MessageSequence()
    proxy = a_proxy()
    asked = request(proxy)
    mine = proxy if kept else None
    del proxy
    offers.answer(p.HOLDERS_TRANSACTION, asked, reply, PID)
    assert request(told)._in == bytes(reply._out or b"")
    del mine


def test_the_managers_own_objects_are_not_counted() -> None:
    with pytest.raises(InvalidObjectError, match="own"):
        Offers(lambda _: 3).answer(
            p.HOLDERS_TRANSACTION, request(bk.RemoteObject("tests.IOwn")), bk.MessageSequence(), PID
        )
