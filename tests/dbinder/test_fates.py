"""What became of messages whose sender never heard."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.dbinder.fates import Fates


def test_a_message_that_did_not_arrive_never_runs() -> None:
    fates = Fates()
    assert fates.settle(1) == (False, ())
    assert fates.begin(1) is False
    assert fates.settle(1) == (False, ())


def test_a_message_runs_once() -> None:
    fates = Fates()
    assert fates.begin(1)
    assert not fates.begin(1)
    assert fates.end(1, [7])
    assert not fates.begin(1)


def test_what_a_reply_carried_is_taken_back_once() -> None:
    fates = Fates()
    fates.begin(1)
    fates.end(1, [7, 7])
    assert fates.settle(1) == (True, (7, 7))
    assert fates.settle(1) == (True, ())


def test_a_reply_that_was_given_up_while_it_was_made_does_not_go() -> None:
    fates = Fates()
    fates.begin(1)
    assert fates.settle(1) == (True, ())
    assert fates.end(1, [7]) is False


def test_only_so_many_are_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RPC_SETTLED", 3)
    fates = Fates()
    for number in range(1, 6):
        assert fates.begin(number)
        assert fates.end(number, [number])
    assert fates.settle(1) == (True, ())
    assert fates.settle(5) == (True, (5,))
    assert fates.settle(6) == (False, ())


@given(st.permutations(["begin", "end", "settle", "settle"]))
def test_in_any_order_the_two_sides_count_alike(order: list[str]) -> None:
    """One object each way: the sender's is counted at the receiver if it ran, the receiver's is taken back once."""
    fates = Fates()
    ran = replied = False
    answers = []
    for step in order:
        if step == "begin":
            ran = fates.begin(1)
        elif step == "end":
            if not ran:
                continue  # nothing ends that did not begin
            replied = fates.end(1, [9])
        else:
            answers.append(fates.settle(1))
    if answers and order.index("settle") < order.index("begin"):
        assert not ran
    assert {arrived for arrived, _ in answers} == {ran}
    taken_back = sum(len(granted) for _, granted in answers)
    ended_first = ran and "end" in order and order.index("begin") < order.index("end") < _last(order, "settle")
    assert taken_back == (1 if replied and ended_first else 0)


def _last(order: list[str], step: str) -> int:
    return len(order) - 1 - order[::-1].index(step)
