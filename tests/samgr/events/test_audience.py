"""samgr/events/audience.py: who is told, how many there may be, and who is gone."""

from __future__ import annotations

import threading
from collections.abc import Hashable

import pytest

from binderkit.errors import DeadObjectError, QuotaError
from binderkit.interface import proxy
from binderkit.ipc.context import Caller
from binderkit.samgr.events.audience import MAX_PER_PROCESS, Audience
from binderkit.samgr.events.contracts import CommonEvent, ICommonEventSubscriber
from binderkit.testing import loopback
from tests.samgr.events.doubles import Hearer, Workers

ONE, TWO = Caller(1, 100, 100), Caller(2, 100, 100)
EVENT = CommonEvent("n")
WAIT = 10.0


def test_only_those_that_want_it_are_told() -> None:
    workers = Workers()
    audience: Audience[str] = Audience(workers)
    yes, no = Hearer(), Hearer()
    audience.add(ONE, yes, "yes")
    audience.add(TWO, no, "no")
    audience.tell(lambda wish: wish == "yes", lambda target: target.on_event(EVENT))
    audience.add(TWO, no, "yes")
    assert len(audience) == 2
    audience.tell(lambda wish: wish == "yes", lambda target: target.on_event(EVENT))
    audience.tell_one(Hearer(), lambda target: target.on_event(EVENT))
    workers.run()
    assert (len(yes.heard), len(no.heard)) == (2, 1)


def test_who_left_hears_nothing_more() -> None:
    workers = Workers()
    audience: Audience[str] = Audience(workers)
    hearer = Hearer()
    audience.add(ONE, hearer, "")
    audience.tell(lambda wish: True, lambda target: target.on_event(EVENT))
    assert audience.remove(hearer) and not audience.remove(hearer)
    workers.run()
    assert hearer.heard == [] and len(audience) == 0


def test_a_process_has_a_quota_that_comes_back() -> None:
    audience: Audience[str] = Audience(Workers())
    hearers = [Hearer() for _ in range(MAX_PER_PROCESS + 1)]
    for hearer in hearers[:-1]:
        audience.add(ONE, hearer, "")
    audience.add(ONE, hearers[0], "again")
    with pytest.raises(QuotaError, match="process 1 has 256 subscribers"):
        audience.add(ONE, hearers[-1], "")
    audience.add(TWO, hearers[-1], "")
    audience.remove(hearers[0])
    audience.add(ONE, Hearer(), "")
    audience.close()
    assert len(audience) == 0


def test_a_subscriber_whose_process_dies_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    audience: Audience[str] = Audience(Workers())
    dropped, drop = threading.Event(), audience._gone

    def dropping(remote: Hashable) -> None:
        drop(remote)
        dropped.set()

    monkeypatch.setattr(audience, "_gone", dropping)
    with loopback() as pair:
        hearer = proxy(ICommonEventSubscriber, pair.offer(Hearer()))
        audience.add(ONE, hearer, "")
        audience.add(ONE, hearer, "again")
        assert len(audience) == 1
        pair.kill_service()
        assert dropped.wait(WAIT)
        assert len(audience) == 0
        with pytest.raises(DeadObjectError):
            audience.add(ONE, hearer, "")
        assert len(audience) == 0


def test_leaving_takes_the_death_recipient_back() -> None:
    audience: Audience[str] = Audience(Workers())
    with loopback() as pair:
        remote = pair.offer(Hearer())
        audience.add(ONE, proxy(ICommonEventSubscriber, remote), "")
        assert remote._recipients
        assert audience.remove(proxy(ICommonEventSubscriber, remote))
        assert not remote._recipients
