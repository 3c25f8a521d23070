"""References to objects of others: one for each handle, given back once, whatever comes while one is let go."""

from __future__ import annotations

import gc
import threading
import weakref

import pytest

from binderkit import limits
from binderkit.driver.kernel import protocol as p
from binderkit.errors import QuotaError
from tests.driver.kernel.fakes import FakeNode, commands


@pytest.fixture
def node() -> FakeNode:
    """Tables on no device."""
    return FakeNode()


def words(node: FakeNode) -> list[tuple[int, int]]:
    """Return the commands written since the last look, with their handles."""
    found = [(fields[0], fields[1]) for fields in commands(node.here.written)]
    node.here.written.clear()
    return found


TAKEN = [p.BC_ACQUIRE, p.BC_REQUEST_DEATH_NOTIFICATION]
GIVEN_BACK = [p.BC_CLEAR_DEATH_NOTIFICATION, p.BC_RELEASE]


def test_a_handle_is_taken_once_and_has_one_proxy(node: FakeNode) -> None:
    proxy = node.targets.receive(node.here, 7, 0)
    assert node.targets.receive(node.here, 7, 0) is proxy
    assert words(node) == [(word, 7) for word in TAKEN]
    assert node.targets.live() == [proxy]


def test_a_proxy_that_ends_gives_its_reference_back_once(node: FakeNode) -> None:
    proxy = node.targets.receive(node.here, 7, 0)
    target = proxy._connection
    words(node)
    del proxy
    gc.collect()
    assert node.targets.dropped.get_nowait() is target
    assert words(node) == [], "a finalizer writes nothing"
    for _ in range(2):
        node.targets.give_back(node.here, target)
    assert words(node) == [(word, 7) for word in GIVEN_BACK]
    assert node.targets.all() == []


def test_a_handle_that_comes_again_before_its_end_was_worked_off_is_kept(node: FakeNode) -> None:
    proxy = node.targets.receive(node.here, 7, 0)
    words(node)
    del proxy
    again = node.targets.receive(node.here, 7, 0)
    target = node.targets.dropped.get_nowait()
    assert target is not None
    node.targets.give_back(node.here, target)
    assert words(node) == []
    assert node.targets.live() == [again]


def test_a_handle_that_comes_after_its_end_is_taken_anew_under_another_cookie(node: FakeNode) -> None:
    first = node.targets.receive(node.here, 7, 0)._connection
    node.targets.give_back(node.here, first)  # type: ignore[arg-type]
    second = node.targets.receive(node.here, 7, 0)
    assert second._connection is not first
    assert second._connection.cookie != first.cookie  # type: ignore[attr-defined]
    words(node)
    node.targets.give_back(node.here, first)  # type: ignore[arg-type]
    assert words(node) == [], "what is late means the former one"


def test_a_death_belongs_to_its_cookie(node: FakeNode) -> None:
    proxy = node.targets.receive(node.here, 7, 0)
    target = proxy._connection
    assert node.targets.died(target.cookie) is target  # type: ignore[attr-defined]
    assert node.targets.died(99) is None
    target.is_dead = True
    assert node.targets.live() == []


def test_only_a_dead_context_manager_is_replaced(node: FakeNode) -> None:
    node.targets.replace_dead_root(node.here)
    proxy = node.targets.receive(node.here, 0, 0)
    node.targets.replace_dead_root(node.here)
    words(node)
    proxy._connection.is_dead = True  # type: ignore[misc]
    node.targets.replace_dead_root(node.here)
    assert words(node) == [(word, 0) for word in GIVEN_BACK]
    assert node.targets.receive(node.here, 0, 0) is not proxy


def test_there_is_a_limit_and_what_is_held_stays(node: FakeNode, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_REFERENCES_PER_PEER", 2)
    kept = [node.targets.receive(node.here, handle, 0) for handle in (1, 2)]
    words(node)
    with pytest.raises(QuotaError, match="holds 2 objects of others, the limit is 2; drop proxies"):
        node.targets.receive(node.here, 3, 0)
    assert words(node) == []
    assert node.targets.receive(node.here, 2, 0) is kept[1]


def test_only_flags_of_ours_are_kept(node: FakeNode) -> None:
    proxy = node.targets.receive(node.here, 7, 0xFFFFFFFF & ~p.NODE_FOREIGN)
    assert proxy._connection.flags == p.NODE_OURS  # type: ignore[attr-defined]


def test_coming_and_going_on_many_threads_ends_with_nothing(node: FakeNode) -> None:
    """Whatever the order: the references taken are those given back, and a proxy in hand always has one."""
    errors: list[BaseException] = []
    taken: list[weakref.ref[object]] = []

    def come_and_go() -> None:
        try:
            for _ in range(300):
                proxy = node.targets.receive(node.here, 7, 0)
                assert node.targets.receive(node.here, 7, 0) is proxy
                taken.append(weakref.ref(proxy))
                del proxy
                while not node.targets.dropped.empty():
                    target = node.targets.dropped.get()
                    assert target is not None
                    node.targets.give_back(node.here, target)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=come_and_go) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    while not node.targets.dropped.empty():
        target = node.targets.dropped.get()
        assert target is not None
        node.targets.give_back(node.here, target)
    found = [word for word, _ in words(node)]
    assert found.count(p.BC_ACQUIRE) == found.count(p.BC_RELEASE) > 0
    assert node.targets.all() == []
    assert not [ref for ref in taken if ref() is not None]
