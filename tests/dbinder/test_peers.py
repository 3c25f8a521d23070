"""Generations: what one device knows of another, and when it is outdated."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from binderkit.dbinder.peers import Admission, Peer


def test_the_first_generation_is_learnt() -> None:
    peer = Peer("x")
    assert peer.admit(5) is Admission.FINE
    assert peer.admit(5) is Admission.FINE
    assert peer.theirs == 5


def test_a_new_generation_outdates_the_old() -> None:
    peer = Peer("x")
    peer.admit(5)
    assert peer.admit(6) is Admission.RENEWED
    assert peer.admit(5) is Admission.OUTDATED
    assert peer.theirs == 6


def test_no_generation_is_outdated() -> None:
    assert Peer("x").admit(0) is Admission.OUTDATED


def test_a_device_that_was_seen_to_leave_may_go_on() -> None:
    peer = Peer("x")
    peer.admit(5)
    mine = peer.mine
    peer.left()
    assert peer.mine != mine
    assert peer.admit(5) is Admission.FINE


def test_fates_are_of_one_generation() -> None:
    peer = Peer("x")
    peer.admit(5)
    peer.fates.begin(1)
    peer.admit(6)
    assert peer.fates.begin(1)


@given(st.lists(st.booleans(), max_size=30))
def test_two_devices_agree_after_any_breaks(breaks: list[bool]) -> None:
    """Whoever sees a break, after two messages each way both know the other's generation, and nobody renews more."""
    a, b = Peer("a"), Peer("b")
    for at_a in breaks:
        (a if at_a else b).left()
        for _ in range(2):
            b.admit(a.mine)
            a.admit(b.mine)
        assert (a.theirs, b.theirs) == (b.mine, a.mine)
        assert a.admit(b.mine) is Admission.FINE
        assert b.admit(a.mine) is Admission.FINE
