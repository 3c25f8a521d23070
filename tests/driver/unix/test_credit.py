"""The budget of one-way calls, sender and receiver side by side with a plain model."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.driver.unix.credit import REPORT_EVERY, Receiving, Sending
from binderkit.errors import ProtocolError

BUDGET = limits.ONEWAY_BUDGET


def test_the_budget_is_half_of_binders_buffer() -> None:
    assert BUDGET == 520_192


def test_exactly_the_budget_fits() -> None:
    sending = Sending()
    assert sending.fits(BUDGET)
    assert not sending.fits(BUDGET + 1)
    sending.sent = BUDGET
    assert not sending.fits(1)
    sending.acknowledge(1)
    assert sending.fits(1)


def test_more_than_was_sent_cannot_be_acknowledged() -> None:
    sending = Sending()
    sending.sent = 10
    with pytest.raises(ProtocolError, match="executed 11 bytes of one-way calls, 10 were sent"):
        sending.acknowledge(11)
    assert sending.acknowledged == 0


def test_an_old_report_takes_nothing_back() -> None:
    sending = Sending()
    sending.sent = 10
    sending.acknowledge(8)
    sending.acknowledge(3)
    assert sending.acknowledged == 8


def test_a_sender_that_ignores_its_budget_is_noticed() -> None:
    receiving = Receiving()
    receiving.receive(BUDGET)
    with pytest.raises(ProtocolError, match="the budget is 520192"):
        receiving.receive(1)


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 100_000)), max_size=80))
def test_sender_and_receiver_agree(steps: list[tuple[bool, int]]) -> None:
    """A sender that asks before it sends never overruns, and never stays blocked once all is executed."""
    sending, receiving = Sending(), Receiving()
    waiting: list[int] = []
    for send, size in steps:
        if send and sending.fits(size):
            sending.sent += size
            receiving.receive(size)
            waiting.append(size)
        elif not send and waiting and receiving.execute(waiting.pop(0)):
            sending.acknowledge(receiving.report())
        assert sending.sent - sending.acknowledged >= sum(waiting)
        assert receiving.executed - receiving.reported < REPORT_EVERY
    for size in waiting:
        receiving.execute(size)
    sending.acknowledge(receiving.report())
    assert sending.acknowledged == sending.sent
    assert sending.fits(BUDGET)
