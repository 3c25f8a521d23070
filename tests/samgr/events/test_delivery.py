"""samgr/events/delivery.py: in order, apart from each other, all or nothing."""

from __future__ import annotations

from collections.abc import Callable, Hashable

from binderkit.errors import DeadObjectError
from binderkit.samgr.events.delivery import MAX_PENDING, Deliveries
from tests.samgr.events.doubles import Workers


def noting(into: list[str], word: str) -> Callable[[], object]:
    return lambda: into.append(word)


def test_each_process_has_a_queue_of_its_own_and_one_worker() -> None:
    workers, told, gone = Workers(), list[str](), list[Hashable]()
    deliveries = Deliveries(gone.append, workers)
    for word in ("a1", "b1", "a2", "b2"):
        deliveries.post(ord(word[0]), word, noting(told, word))
    assert len(workers.tasks) == 2 and told == []
    workers.tasks.pop(1)()
    assert told == ["b1", "b2"]
    workers.run()
    assert told == ["b1", "b2", "a1", "a2"]
    deliveries.post(ord("a"), "a3", noting(told, "a3"))
    workers.run()
    assert told[-1] == "a3" and gone == []


def test_what_is_posted_while_telling_is_told_by_the_same_worker() -> None:
    workers, told, gone = Workers(), list[str](), list[Hashable]()
    deliveries = Deliveries(gone.append, workers)
    deliveries.post(1, "s", lambda: deliveries.post(1, "s", noting(told, "second")))
    (task,) = workers.tasks
    task()
    assert told == ["second"] and len(workers.tasks) == 1 and gone == []


def test_who_cannot_be_told_is_given_up_with_all_that_waits_for_it() -> None:
    workers, told, gone = Workers(), list[str](), list[Hashable]()
    deliveries = Deliveries(gone.append, workers)

    def fail() -> None:
        raise DeadObjectError("gone")

    deliveries.post(1, "dead", fail)
    deliveries.post(1, "dead", noting(told, "dead"))
    deliveries.post(1, "alive", noting(told, "alive"))
    workers.run()
    assert told == ["alive"] and gone == ["dead"]


def test_a_process_that_does_not_read_is_given_up() -> None:
    workers, told, gone = Workers(), list[str](), list[Hashable]()
    deliveries = Deliveries(gone.append, workers)
    for _ in range(MAX_PENDING):
        deliveries.post(1, "slow", noting(told, "slow"))
    deliveries.post(2, "other", noting(told, "other"))
    assert gone == []
    deliveries.post(1, "slow", noting(told, "slow"))
    assert gone == ["slow"]
    workers.run()
    assert told == ["other"]
