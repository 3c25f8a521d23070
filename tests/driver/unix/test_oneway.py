"""One-way calls: their budget, their order, and peers that do not read."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from binderkit import limits
from binderkit.driver.unix import frame
from binderkit.errors import DeadObjectError, QuotaError
from binderkit.ipc.option import MessageOption
from binderkit.parcel import MessageSequence
from tests.driver.unix import hostile
from tests.driver.unix.hostile import Attempt, HostileOwner, Victim, add_one, until

ONEWAY = MessageOption(MessageOption.TF_ASYNC)


def send(proxy: hostile.RemoteProxy, size: int = 1000, code: int = hostile.NOTHING) -> None:
    data = MessageSequence()
    data.write_string("x" * (size // 2))
    proxy.send_request(code, data, MessageSequence(), ONEWAY)


def flood(send_one: Callable[[], None]) -> None:
    while True:
        send_one()


def test_a_peer_that_reads_but_executes_nothing_stops_the_sender_at_the_budget(
    victim: Victim, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "ONEWAY_SEND_WAIT", 0.1)
    send(victim.proxy, code=hostile.HOLD_ONE_WAY)
    assert victim.service.entered.acquire(timeout=hostile.WAIT)
    with pytest.raises(QuotaError, match=r"cross the budget of 520192; this call was not sent"):
        flood(lambda: send(victim.proxy, 20_000))
    add_one(victim.proxy)  # synchronous calls are not affected
    victim.service.gate.set()

    def goes_again() -> bool:
        try:
            send(victim.proxy, 20_000)
        except QuotaError:
            return False
        return True

    until(goes_again, "there is credit again")
    victim.check_usable()


def test_a_peer_that_does_not_read_at_all(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error after ONEWAY_SEND_WAIT, not a hang: whether the socket or the budget is full first."""
    monkeypatch.setattr(limits, "ONEWAY_SEND_WAIT", 0.1)
    with HostileOwner(victim.client) as owner:
        begin = time.monotonic()
        with pytest.raises(QuotaError, match="was not sent"):
            flood(lambda: send(owner.proxy, 60_000))
        assert time.monotonic() - begin < hostile.WAIT
        victim.check_usable()


def test_dying_while_a_sender_waits_for_credit(victim: Victim) -> None:
    owner = HostileOwner(victim.client)
    attempt = Attempt(lambda: flood(lambda: send(owner.proxy, 60_000)))
    owner.receive(frame.LANE)
    owner.close()
    assert isinstance(attempt.over().error, DeadObjectError)
    victim.check_usable()


def test_credit_lies_disconnect(victim: Victim, warns: Callable[[str], None]) -> None:
    with HostileOwner(victim.client) as owner:
        send(owner.proxy, 100)
        owner.receive(frame.LANE)
        owner.post(frame.CREDIT, (10**6, 0))
        warns("executed 1000000 bytes of one-way calls")
        until(owner.proxy.is_object_dead, "the liar is disconnected")
        victim.check_usable()


def test_calls_are_numbered_in_the_order_sent_and_on_one_lane(victim: Victim) -> None:
    with HostileOwner(victim.client) as owner:
        for code in range(1, 51):
            send(owner.proxy, 10, code)
        lane, first = owner.next_call()
        calls = [first] + [frame.decode(lane.recv(frame.PACKET_MAX)) for _ in range(49)]
        assert [got.code for got in calls] == list(range(1, 51))
        assert [got.seq - first.seq for got in calls] == list(range(50))
        assert {got.kind for got in calls} == {frame.ONEWAY}


def test_sender_and_receiver_charge_the_same(victim: Victim) -> None:
    """Plain, with an object, with a shared body, with shared raw data: else honest peers would accuse each other."""
    for make in (
        lambda data: data.write_int(1),
        lambda data: data.write_remote_object(victim.service),
        lambda data: data.write_byte_array([1] * 25_000),
        lambda data: data.write_raw_data_buffer(bytes(100_000), 100_000),
    ):
        data = MessageSequence()
        make(data)
        victim.proxy.send_request(hostile.NOTHING, data, MessageSequence(), ONEWAY)
    (theirs,) = victim.node._peers.values()
    (ours,) = victim.client._peers.values()
    until(lambda: theirs.incoming.executed == ours.oneway._credit.sent > 200_000, "all is executed, all is charged")
