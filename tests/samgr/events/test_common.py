"""samgr/events/common.py: publish, subscribe, sticky events, and who may what."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from binderkit.errors import QuotaError, RefusedError
from binderkit.samgr.conditions import OnDemandEvent
from binderkit.samgr.events.common import MAX_STICKY_PER_USER, CommonEventService
from binderkit.samgr.events.contracts import CommonEvent, EventFilter
from binderkit.samgr.reason import ReasonId
from tests.samgr.events.doubles import Hearer, Posted, Workers, called_by

STRANGER = 54321


@pytest.fixture
def workers() -> Workers:
    return Workers()


@pytest.fixture
def service(workers: Workers) -> Iterator[CommonEventService]:
    service = CommonEventService(submit=workers)
    yield service
    service.close()


def test_subscribers_hear_what_they_want_in_order_and_from_whom(service: CommonEventService, workers: Workers) -> None:
    hearer, other = Hearer(), Hearer()
    service.subscribe(EventFilter(("a", "b")), hearer)
    service.subscribe(EventFilter(("a",), publisher_uid=STRANGER), other)
    service.publish(CommonEvent("a", 5, "data", {"k": "v"}, publisher_pid=1, publisher_uid=2))
    with called_by(77, STRANGER):
        service.publish(CommonEvent("b"))
        service.publish(CommonEvent("a"))
    service.publish(CommonEvent("c"))
    assert hearer.heard == []
    workers.run()
    mine = CommonEvent("a", 5, "data", {"k": "v"}, publisher_pid=os.getpid(), publisher_uid=os.getuid())
    theirs = CommonEvent("a", publisher_pid=77, publisher_uid=STRANGER)
    assert [event.name for event in hearer.heard] == ["a", "b", "a"]
    assert (hearer.heard[0], hearer.heard[2], other.heard) == (mine, theirs, [theirs])
    assert service.unsubscribe(hearer) and not service.unsubscribe(hearer)
    service.publish(CommonEvent("a"))
    workers.run()
    assert len(hearer.heard) == 3


def test_every_event_is_posted_with_all_it_says(service: CommonEventService) -> None:
    posted = Posted()
    service.publish(CommonEvent("before"))
    service.start(posted)
    service.publish(CommonEvent("a", -1, "data", {"k": "v"}))
    assert posted == [OnDemandEvent(ReasonId.COMMON_EVENT, "a", "-1", {"k": "v"}, "data")]
    service.close()
    service.publish(CommonEvent("after"))
    assert len(posted) == 1


def test_who_comes_late_hears_sticky_events(service: CommonEventService, workers: Workers) -> None:
    service.publish(CommonEvent("a", 1, sticky=True))
    service.publish(CommonEvent("a", 2, sticky=True))
    service.publish(CommonEvent("b"))
    hearer = Hearer()
    service.subscribe(EventFilter(("a", "b")), hearer)
    workers.run()
    assert [event.code for event in hearer.heard] == [2]
    sticky = service.sticky("a")
    assert sticky is not None and sticky.code == 2 and service.sticky("b") is None
    assert service.remove_sticky("a") and not service.remove_sticky("a")
    assert service.sticky("a") is None


def test_what_another_user_may_not(service: CommonEventService) -> None:
    service.publish(CommonEvent("usual.event.BOOT", sticky=True))
    service.publish(CommonEvent("a", sticky=True))
    with called_by(77, STRANGER):
        with pytest.raises(RefusedError, match=r"uid 54321 may not publish 'usual\.event\.X'"):
            service.publish(CommonEvent("usual.event.X"))
        with pytest.raises(RefusedError, match=f"belongs to uid {os.getuid()}"):
            service.publish(CommonEvent("a", 1, sticky=True))
        service.publish(CommonEvent("a", 1))
        assert not service.remove_sticky("a")
        for number in range(MAX_STICKY_PER_USER):
            service.publish(CommonEvent(f"s{number}", sticky=True))
        service.publish(CommonEvent("s0", 5, sticky=True))
        with pytest.raises(QuotaError, match="has 64 sticky events"):
            service.publish(CommonEvent("one more", sticky=True))
    sticky = service.sticky("a")
    assert sticky is not None and sticky.code == 0
    assert service.remove_sticky("s0")


def test_its_dump_says_what_it_keeps(service: CommonEventService) -> None:
    service.publish(CommonEvent("a", sticky=True))
    reader, writer = os.pipe()
    service.on_dump(writer, [])
    os.close(writer)
    with open(reader) as text:
        assert text.read() == "subscribers: 0\nsticky events: 1\n  a\n"
