"""How long our objects live for the kernel: any order of its returns, and messages on their way."""

from __future__ import annotations

import pytest

import binderkit as bk
from binderkit.driver.kernel.nodes import OwnNodes


def test_a_stub_stays_while_a_message_carries_it() -> None:
    nodes, stub = OwnNodes(), bk.RemoteObject("x")
    own = nodes.send(stub)
    assert nodes.send(stub) is own
    assert nodes.landed(own) is None
    assert nodes.by_number[own.number].stub is stub
    assert nodes.landed(own) is stub, "nobody took a reference: the call failed"
    assert not nodes.by_number and not nodes.is_held(stub)


def test_a_stub_stays_while_the_kernel_holds_it() -> None:
    nodes, stub = OwnNodes(), bk.RemoteObject("x")
    own = nodes.send(stub)
    nodes.acquired(own.number)
    assert nodes.landed(own) is None and nodes.is_held(stub)
    assert nodes.released(own.number) is stub
    assert len(nodes) == 0


def test_a_number_is_never_used_again() -> None:
    nodes, stub = OwnNodes(), bk.RemoteObject("x")
    first = nodes.send(stub)
    nodes.landed(first)
    second = nodes.send(stub)
    assert second.number != first.number
    assert nodes.landed(first) is None, "what is late and means the former one changes nothing"
    assert nodes.by_number[second.number] is second


def test_what_the_kernel_says_of_unknown_objects_changes_nothing() -> None:
    nodes = OwnNodes()
    nodes.acquired(77)
    assert nodes.released(77) is None
    assert len(nodes) == 0


def test_the_root_stays_for_ever_unless_the_device_refused() -> None:
    nodes, stub = OwnNodes(), bk.RemoteObject("root")
    nodes.set_root(stub)
    own = nodes.send(stub)
    assert own.number == 0 and nodes.landed(own) is None
    assert nodes.released(0) is None and nodes.by_number[0].stub is stub
    nodes.clear_root()
    assert len(nodes) == 0


@pytest.mark.parametrize(
    "order",
    [
        ("released", "acquired", "landed"),
        ("acquired", "released", "landed"),
        ("acquired", "landed", "released"),
    ],
)
def test_one_reference_ends_while_the_next_begins(order: tuple[str, ...]) -> None:
    """Two threads may read these returns in any order, but for the sender, who reads its own one after the other."""
    nodes, stub = OwnNodes(), bk.RemoteObject("x")
    own = nodes.send(stub)
    nodes.acquired(own.number)
    assert nodes.landed(own) is None
    nodes.send(stub)
    for what in order:
        if what == "acquired":
            nodes.acquired(own.number)
        else:
            gone = nodes.landed(own) if what == "landed" else nodes.released(own.number)
            assert gone is None
    assert nodes.released(own.number) is stub
