"""The driver's beginning and end, on a device: what it refuses, and that nothing is left of it."""

from __future__ import annotations

import os
import threading

import pytest

import binderkit as bk
from binderkit.driver.kernel.node import KernelNode
from tests.driver.kernel.raw import Raw, own
from tests.driver.kernel.service import Code, Served, Service, add_one, ask
from tests.driver.kernel.state import kernel_lines, threads, until


@pytest.fixture
def served(lasting: Served) -> Served:
    """One process for all of this."""
    return lasting


def named(title: str) -> list[str]:
    """Return the names of a driver's threads that run."""
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(f"binderkit-{title}-")]


def test_the_end_leaves_nothing_and_may_come_twice(served: Served) -> None:
    node = KernelNode(served.device, title="ending")
    assert add_one(node.context_object(start=False)) == 2
    assert threads(os.getpid(), served.device) >= 1
    for _ in range(2):
        node.close()
    assert named("ending") == []
    until(lambda: not kernel_lines(os.getpid(), served.device), "the kernel has let go of it")


def test_after_the_end_everything_says_so(served: Served) -> None:
    node = KernelNode(served.device)
    proxy = node.context_object(start=False)
    node.close()
    for use in (
        lambda: add_one(proxy),
        lambda: node.context_object(start=False),
        lambda: node.become_context(bk.RemoteObject("x")),
    ):
        with pytest.raises(bk.DeadObjectError, match="closed"):
            use()
    assert proxy.is_object_dead()


def test_a_process_has_one_root_and_is_not_its_own_client(device: str) -> None:
    node = KernelNode(device)
    try:
        node.become_context(Service(node))
        with pytest.raises(bk.RefusedError, match="already offers"):
            node.become_context(bk.RemoteObject("another"))
        with pytest.raises(bk.errors.NoServiceManagerError, match="it cannot call itself"):
            node.context_object(start=False)
    finally:
        node.close()


def test_a_refused_root_is_forgotten(served: Served) -> None:
    node = KernelNode(served.device)
    try:
        stub = bk.RemoteObject("second")
        with pytest.raises(bk.RefusedError, match="another process is it already"):
            node.become_context(stub)
        assert node.holders(stub) == 0
        assert node.statistics()["exports"] == 0
        assert add_one(node.context_object(start=False)) == 2, "it can still be a client"
    finally:
        node.close()


def test_an_object_lives_for_as_long_as_another_process_holds_it(served: Served) -> None:
    node = KernelNode(served.device)
    try:
        proxy = node.context_object(start=False)
        stub = bk.RemoteObject("held")
        data = bk.MessageSequence()
        data.write_remote_object(stub)
        proxy.send_request(Code.KEEP, data, bk.MessageSequence())
        data.reclaim()
        assert node.holders(stub) == 1
        ask(proxy, Code.DROP)
        until(lambda: node.holders(stub) == 0, "it was let go")
        # Asking who holds it was a message that carried it, which the kernel gives back by itself.
        until(lambda: node.statistics()["exports"] == 0, "the kernel has let it go, too")
    finally:
        node.close()


def test_objects_of_a_process_that_goes_are_told_dead_once(served: Served) -> None:
    node = KernelNode(served.device)
    told: list[str] = []

    class Recipient(bk.DeathRecipient):
        def on_remote_died(self) -> None:
            told.append(threading.current_thread().name)

    try:
        root = node.context_object(start=False)
        with Raw(served.device) as other:
            other.free(other.call(Code.KEEP, own(1), [0]))
            proxy = ask(root, Code.GIVE).read_remote_object()
            proxy.register_death_recipient(Recipient())
        until(lambda: told, "the death is told")
        assert proxy.is_object_dead()
        assert len(told) == 1
        assert "-task" in told[0]
        with pytest.raises(bk.DeadObjectError):
            add_one(proxy)
        ask(root, Code.DROP)
    finally:
        node.close()
