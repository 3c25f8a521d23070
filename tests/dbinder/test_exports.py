"""The table of our objects that other devices hold."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

import binderkit as bk
from binderkit import limits
from binderkit.dbinder.exports import Exports
from binderkit.errors import DeadObjectError, ProtocolError, QuotaError, RpcLimitError

DEVICES = ["a", "b", "c"]


def stub() -> bk.RemoteObject:
    return bk.RemoteObject("test")


def test_an_object_has_one_number_for_all_devices() -> None:
    exports, thing = Exports(), stub()
    assert exports.grant("a", thing) is exports.grant("b", thing)
    assert exports.grant("a", stub()).object_id != exports.grant("a", thing).object_id


def test_a_device_names_only_what_it_was_given() -> None:
    exports = Exports()
    export = exports.grant("a", stub())
    assert exports.find("a", export.object_id) is export
    for device, number in (("b", export.object_id), ("a", export.object_id + 1)):
        with pytest.raises(RpcLimitError) as caught:
            exports.find(device, number)
        assert caught.value.code == 603


def test_more_than_was_given_does_not_come_back() -> None:
    exports = Exports()
    export = exports.grant("a", stub())
    for device, number in (("a", 2), ("a", 0), ("a", -1), ("b", 1)):
        with pytest.raises(ProtocolError):
            exports.release(device, export.object_id, number)
    assert exports.release("a", export.object_id, 1) is export
    assert len(exports) == 0


def test_a_dead_object_is_told_once_and_stays_known() -> None:
    exports, thing = Exports(), stub()
    export = exports.grant("a", thing)
    exports.grant("b", thing)
    export.watchers |= {"a", "b"}
    assert exports.died(export) == ["a", "b"]
    assert exports.died(export) == []
    with pytest.raises(DeadObjectError):
        exports.find("a", export.object_id)
    assert exports.grant("a", thing) is not export
    exports.release("a", export.object_id, 1)
    assert exports.release_device("b") == [export]


def test_a_device_that_leaves_is_not_told() -> None:
    exports = Exports()
    export = exports.grant("a", stub())
    export.watchers.add("a")
    exports.release_device("a")
    assert exports.died(export) == []


def test_a_device_cannot_make_us_hold_too_much(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_REFERENCES_PER_PEER", 3)
    exports, things = Exports(), [stub() for _ in range(3)]
    for thing in things:
        exports.grant("a", thing)
    with pytest.raises(QuotaError, match="must drop proxies"):
        exports.grant("a", stub())
    assert len(exports) == 3
    exports.grant("a", things[0])
    exports.grant("b", stub())


def test_numbers_wrap_and_are_never_zero() -> None:
    exports = Exports(first=2**64 - 1)
    numbers = [exports.grant("a", thing).object_id for thing in (stub(), stub())]
    assert numbers == [2**64 - 1, 1]


class Model(RuleBasedStateMachine):
    """Grants and releases in any order against a Counter."""

    grants = Bundle("grants")

    def __init__(self) -> None:
        super().__init__()
        self.exports = Exports()
        self.things = [stub() for _ in range(4)]
        self.held: Counter[tuple[str, int]] = Counter()

    @rule(target=grants, device=st.sampled_from(DEVICES), which=st.integers(0, 3))
    def grant(self, device: str, which: int) -> tuple[str, int]:
        export = self.exports.grant(device, self.things[which])
        assert export.target is self.things[which]
        self.held[device, export.object_id] += 1
        return device, export.object_id

    @rule(given=consumes(grants))
    def release(self, given: tuple[str, int]) -> None:
        device, number = given
        if not self.held[given]:
            with pytest.raises(ProtocolError):
                self.exports.release(device, number, 1)
            return
        gone = self.exports.release(device, number, 1)
        self.held[given] -= 1
        others = sum(self.held[other, number] for other in DEVICES)
        assert (gone is not None) == (others == 0)

    @rule(device=st.sampled_from(DEVICES))
    def leave(self, device: str) -> None:
        self.exports.release_device(device)
        for key in [key for key in self.held if key[0] == device]:
            del self.held[key]

    @invariant()
    def counts_agree(self) -> None:
        for device in DEVICES:
            held = sum(number for (holder, _), number in self.held.items() if holder == device)
            assert self.exports.held_by(device) == held
        assert len(self.exports) == len({number for (_, number), times in self.held.items() if times})


Model.TestCase.settings = settings(max_examples=30, stateful_step_count=30, deadline=None)
TestModel = Model.TestCase
