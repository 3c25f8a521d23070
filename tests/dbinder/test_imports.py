"""The table of other devices' objects that are held here."""

from __future__ import annotations

import gc
from typing import Any

import pytest

from binderkit import limits
from binderkit.dbinder.imports import Imports, Returned
from binderkit.dbinder.wire import ObjectRef
from binderkit.errors import ProtocolError

DEVICE = "aa" * 32


class Stub:
    """A stand-in that does nothing."""

    def __init__(self, reference: ObjectRef, generation: int) -> None:
        self.reference = reference
        self.generation = generation


@pytest.fixture
def returned() -> list[Returned]:
    return []


@pytest.fixture
def imports(returned: list[Returned]) -> Imports:
    return Imports(Stub, returned.append)


def reference(number: int = 1) -> ObjectRef:
    return ObjectRef(DEVICE, number, False, "")


def test_one_stand_in_per_object(imports: Imports) -> None:
    first = imports.receive(reference(), 5)
    assert imports.receive(reference(), 5) is first
    assert imports.find(DEVICE, 1) is first
    assert imports.receive(reference(2), 5) is not first
    assert imports.find(DEVICE, 3) is None


def test_exactly_what_was_received_goes_back(imports: Imports, returned: list[Returned]) -> None:
    stubs: list[Any] = [imports.receive(reference(), 5) for _ in range(3)]
    assert len(imports) == 1
    stubs.clear()
    gc.collect()
    assert returned == [(DEVICE, 5, 1, 3)]
    imports.forget(DEVICE, 1)
    assert len(imports) == 0


def test_an_object_received_again_before_its_return_was_noted(imports: Imports, returned: list[Returned]) -> None:
    del_me = imports.receive(reference(), 5)
    del del_me
    gc.collect()
    again = imports.receive(reference(), 5)
    imports.forget(DEVICE, 1)
    assert imports.find(DEVICE, 1) is again
    assert returned == [(DEVICE, 5, 1, 1)]


def test_nothing_goes_back_to_a_device_that_left(imports: Imports, returned: list[Returned]) -> None:
    stub = imports.receive(reference(), 5)
    assert imports.drop_device(DEVICE) == [stub]
    assert imports.find(DEVICE, 1) is None
    del stub
    gc.collect()
    assert returned == []


def test_a_device_cannot_make_us_hold_too_much(imports: Imports, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_REFERENCES_PER_PEER", 2)
    stubs = [imports.receive(reference(number), 5) for number in (1, 2)]
    with pytest.raises(ProtocolError, match="made us hold"):
        imports.receive(reference(3), 5)
    assert len(stubs) == 2
