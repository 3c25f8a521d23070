"""samgr/subscriptions.py: quotas, and queues that keep their order."""

from __future__ import annotations

import pytest

from binderkit import limits
from binderkit.errors import ServiceError
from binderkit.samgr import SystemAbilityListener, codes
from binderkit.samgr.ability import AbilityInfo
from binderkit.samgr.subscriptions import MAX_PENDING, Event, Outbox, Subscriptions


def test_256_subscriptions_per_process_counted_for_each_process() -> None:
    subscriptions = Subscriptions()
    listener = SystemAbilityListener()
    for ability in range(1, limits.MAX_SUBSCRIPTIONS_PER_PID + 1):
        assert subscriptions.add(10, ability, listener)
    with pytest.raises(ServiceError) as caught:
        subscriptions.add(10, 1000, listener)
    assert caught.value.code == codes.SUBSCRIBE_LIMIT
    assert subscriptions.add(11, 1000, SystemAbilityListener())
    assert subscriptions.remove(10, 1, listener)
    assert subscriptions.add(10, 1000, listener)


def test_subscribing_twice_counts_once() -> None:
    subscriptions, listener = Subscriptions(), SystemAbilityListener()
    assert subscriptions.add(10, 1, listener)
    assert not subscriptions.add(10, 1, listener)
    assert len(subscriptions) == 1


def test_a_process_cannot_end_the_subscription_of_another() -> None:
    subscriptions, listener = Subscriptions(), SystemAbilityListener()
    subscriptions.add(10, 1, listener)
    assert not subscriptions.remove(11, 1, listener)
    assert subscriptions.holds(listener)


def test_a_listener_of_id_and_name_is_told_once() -> None:
    subscriptions, listener, other = Subscriptions(), SystemAbilityListener(), SystemAbilityListener()
    subscriptions.add(10, 1, listener)
    subscriptions.add(10, "one", listener)
    subscriptions.add(11, "one", other)
    assert subscriptions.of(AbilityInfo(1, "one", 5, 0)) == {listener: 10, other: 11}
    assert subscriptions.of(AbilityInfo(2, "", 5, 0)) == {}


def test_removing_a_listener_ends_all_its_subscriptions_and_frees_its_quota() -> None:
    subscriptions, listener = Subscriptions(), SystemAbilityListener()
    for ability in (1, 2, 3):
        subscriptions.add(10, ability, listener)
    subscriptions.remove_listener(listener)
    assert not subscriptions.holds(listener)
    assert len(subscriptions) == 0 and subscriptions.rows() == []


def test_a_queue_is_emptied_in_order_by_one_at_a_time() -> None:
    outbox, listener = Outbox(), SystemAbilityListener()
    for ability in (1, 2):
        outbox.post(10, Event(listener, 1, ability))
    assert outbox.claim() == [10]
    assert outbox.claim() == []
    outbox.post(10, Event(listener, 1, 3))
    seen = [outbox.next(10) for _ in range(4)]
    assert [event.ability if event else None for event in seen] == [1, 2, 3, None]
    assert outbox.claim() == []
    outbox.post(10, Event(listener, 1, 4))
    assert outbox.claim() == [10]


def test_a_full_queue_takes_no_more_and_other_processes_are_not_affected() -> None:
    outbox, listener = Outbox(), SystemAbilityListener()
    for ability in range(MAX_PENDING):
        assert outbox.post(10, Event(listener, 1, ability))
    assert not outbox.post(10, Event(listener, 1, 0))
    assert outbox.post(11, Event(listener, 1, 0))


def test_forgetting_a_listener_keeps_the_events_of_others() -> None:
    outbox, listener, other = Outbox(), SystemAbilityListener(), SystemAbilityListener()
    outbox.post(10, Event(listener, 1, 1))
    outbox.post(10, Event(other, 1, 2))
    outbox.forget(10, listener)
    outbox.claim()
    assert outbox.next(10) == Event(other, 1, 2)
    assert outbox.next(10) is None
