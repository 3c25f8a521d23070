"""Where the calls of a proxy go: whose it is, and that its end only enqueues."""

from __future__ import annotations

from typing import Any

import pytest

import binderkit as bk
from binderkit.driver.kernel import calls
from binderkit.driver.kernel.target import Target
from binderkit.ipc.context import Caller
from tests.driver.kernel.fakes import FakeNode


@pytest.fixture
def target() -> Any:
    """An object of another process."""
    return Target(FakeNode(), 7, 1, 0)  # type: ignore[arg-type]


def test_the_owner_is_asked_once(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Target] = []

    def ask(target: Target) -> Caller:
        asked.append(target)
        return Caller(12, 34, -1)

    monkeypatch.setattr(calls, "ask_owner", ask)
    assert [target.caller.pid for _ in range(3)] == [12] * 3
    assert asked == [target]


def test_who_brought_its_own_object_is_believed_without_asking(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(calls, "ask_owner")
    target.learn_owner(Caller(12, 34, -1))
    assert (target.caller.pid, target.caller.uid) == (12, 34)
    assert "12" in repr(target)


def test_the_dead_are_not_asked(target: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(calls, "ask_owner")
    target.is_dead = True
    assert (target.caller.pid, target.caller.uid) == (0, -1)
    assert repr(target).endswith("dead>")


def test_an_object_that_is_not_ours_is_not_asked(target: Any) -> None:
    assert (target.caller.pid, target.caller.uid) == (0, -1)
    assert not target.node.here.written


def test_the_end_of_a_proxy_only_enqueues(target: Any) -> None:
    target.proxy_gone(None)
    assert target.node.targets.dropped.get_nowait() is target
    assert not target.node.here.written


def test_an_object_that_is_gone_says_what_to_do(target: Any) -> None:
    error = target.dead_error()
    assert isinstance(error, bk.DeadObjectError)
    assert "look the object up again" in str(error)
