"""bulk_offers.py: tickets against a simple model; whose they are, until when, and how much may wait."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, invariant, rule

from binderkit import limits
from binderkit.errors import ParamValueError, ProtocolError, QuotaError, TooBigError
from binderkit.softbus.bulk_offers import TICKET_SIZE, Offer, Offers, ticket_size


@given(st.binary(max_size=40))
def test_any_bytes_as_ticket_give_a_size_in_its_limits_or_an_error(ticket: bytes) -> None:
    try:
        size = ticket_size(ticket)
    except ProtocolError:
        return
    assert len(ticket) == TICKET_SIZE and 0 < size <= limits.MAX_RAW_DATA


def test_a_ticket_tells_its_size_and_no_two_are_alike() -> None:
    offers = Offers()
    tickets = {offers.put("one", memoryview(b"abc"), 0.0) for _ in range(100)}
    assert len(tickets) == 100
    assert {ticket_size(ticket) for ticket in tickets} == {3}


def test_too_much_and_nothing_are_refused_with_words() -> None:
    offers = Offers()
    with pytest.raises(ParamValueError, match="leave it out"):
        offers.put("one", memoryview(b""), 0.0)
    with pytest.raises(TooBigError, match="send it in parts"):
        offers.put("one", memoryview(bytes(limits.MAX_RAW_DATA + 1)), 0.0)
    assert len(offers) == 0


def test_two_of_the_largest_may_wait_for_a_device_and_others_are_not_in_their_way() -> None:
    offers, largest = Offers(), memoryview(bytes(limits.MAX_RAW_DATA))
    tickets = [offers.put("one", largest, 0.0) for _ in range(2)]
    with pytest.raises(QuotaError, match="already wait for device one"):
        offers.put("one", memoryview(b"x"), 0.0)
    offers.put("two", largest, 0.0)
    assert offers.drop(tickets[0])
    assert not offers.drop(tickets[0])
    offers.put("one", memoryview(b"x"), 0.0)


def test_many_small_ones_are_limited_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BULK_OFFERS", 2)
    offers = Offers()
    for _ in range(2):
        offers.put("one", memoryview(b"x"), 0.0)
    with pytest.raises(QuotaError):
        offers.put("one", memoryview(b"x"), 0.0)
    offers.put("one", memoryview(b"x"), limits.BULK_KEPT)  # the first two are forgotten by now


class Tickets(RuleBasedStateMachine):
    """Offers against a dictionary."""

    tickets = Bundle("tickets")
    transfers = Bundle("transfers")

    def __init__(self) -> None:
        super().__init__()
        self.offers = Offers()
        self.now = 0.0
        self.model: dict[bytes, tuple[str, bytes]] = {}
        self.expires: dict[bytes, float] = {}
        self.under_way: dict[bytes, int] = {}

    def _sweep(self) -> None:
        for ticket in [one for one, at in self.expires.items() if at <= self.now and not self.under_way.get(one)]:
            self._gone(ticket)

    def _gone(self, ticket: bytes) -> None:
        self.model.pop(ticket, None)
        self.expires.pop(ticket, None)

    @rule(target=tickets, udid=st.sampled_from(["one", "two"]), data=st.binary(min_size=1, max_size=9))
    def put(self, udid: str, data: bytes) -> bytes:
        self._sweep()
        ticket = self.offers.put(udid, memoryview(data), self.now)
        self.model[ticket] = udid, data
        self.expires[ticket] = self.now + limits.BULK_KEPT
        return ticket

    @rule(target=transfers, ticket=tickets, udid=st.sampled_from(["one", "two"]))
    def begin(self, ticket: bytes, udid: str) -> Offer | None:
        self._sweep()
        offer = self.offers.begin(udid, ticket, self.now)
        known = self.model.get(ticket)
        if known is None or known[0] != udid:
            assert offer is None
            return None
        assert offer is not None and bytes(offer.data) == known[1]
        self.under_way[ticket] = self.under_way.get(ticket, 0) + 1
        return offer

    @rule(offer=transfers, taken=st.booleans())
    def end(self, offer: Offer | None, taken: bool) -> None:
        if offer is None or not self.under_way.get(offer.ticket):
            return
        self.offers.end(offer, self.now, taken=taken)
        self.under_way[offer.ticket] -= 1
        if taken:
            self._gone(offer.ticket)
        elif offer.ticket in self.model:
            self.expires[offer.ticket] = self.now + limits.BULK_KEPT

    @rule(ticket=tickets)
    def drop(self, ticket: bytes) -> None:
        assert self.offers.drop(ticket) == (ticket in self.model)
        self._gone(ticket)

    @rule(udid=st.sampled_from(["one", "two"]))
    def forget(self, udid: str) -> None:
        self.offers.forget(udid)
        for ticket in [one for one, (owner, _) in self.model.items() if owner == udid]:
            self._gone(ticket)

    @rule(seconds=st.sampled_from([1.0, limits.BULK_KEPT / 2, limits.BULK_KEPT]))
    def later(self, seconds: float) -> None:
        self.now += seconds
        self.offers.sweep(self.now)
        self._sweep()

    @invariant()
    def counts_agree(self) -> None:
        for udid in ("one", "two"):
            mine = [data for owner, data in self.model.values() if owner == udid]
            assert self.offers.waiting(udid) == (len(mine), sum(map(len, mine)))
        assert len(self.offers) == len(self.model)


TestTickets = Tickets.TestCase
TestTickets.settings = settings(max_examples=40, deadline=None)
