"""Who holds which object: the tables against a small model, in every order hypothesis can think of."""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections import Counter, deque

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from binderkit import limits
from binderkit.driver.tables import Exports, Held, Imports
from binderkit.errors import ProtocolError, QuotaError
from binderkit.ipc.context import own_identity
from binderkit.ipc.remote import ForeignObject, RemoteObject
from binderkit.parcel import MessageSequence

STUBS = st.integers(0, 4)
PEERS = st.integers(0, 2)


class Tables(RuleBasedStateMachine):
    """Five stubs, three peers. The model: a Counter per peer, and the handle each living export has."""

    def __init__(self) -> None:
        super().__init__()
        self.exports = Exports()
        self.stubs = [RemoteObject(f"stub{number}") for number in range(5)]
        self.held: list[dict[int, Held]] = [{}, {}, {}]
        self.model: list[Counter[int]] = [Counter(), Counter(), Counter()]
        self.handles: dict[int, int] = {}
        self.seen: set[int] = set()

    def alive(self, stub: int) -> bool:
        return any(counts[stub] for counts in self.model)

    @rule(stub=STUBS, peer=PEERS)
    def grant(self, stub: int, peer: int) -> None:
        was_alive = self.alive(stub)
        handle = self.exports.grant(self.stubs[stub], self.held[peer])
        if was_alive:
            assert handle == self.handles[stub], "an export keeps its handle for as long as anybody holds it"
        else:
            assert handle not in self.seen, "a handle is never used for two objects"
        self.seen.add(handle)
        self.handles[stub] = handle
        self.model[peer][stub] += 1

    @rule(stub=STUBS, peer=PEERS, count=st.integers(1, 3))
    def release(self, stub: int, peer: int, count: int) -> None:
        handle = self.handles.get(stub, 999)
        if self.model[peer][stub] < count:
            before = {number: entry.count for number, entry in self.held[peer].items()}
            with pytest.raises(ProtocolError, match=f"gives back {count} references"):
                self.exports.release(self.held[peer], handle, count)
            assert {number: entry.count for number, entry in self.held[peer].items()} == before
            return
        gone = self.exports.release(self.held[peer], handle, count)
        self.model[peer][stub] -= count
        assert gone is (None if self.alive(stub) else self.stubs[stub])

    @rule(peer=PEERS, handle=st.one_of(st.just(0), st.integers(100, 2**63)), count=st.integers(-5, 2**32))
    def hostile_release(self, peer: int, handle: int, count: int) -> None:
        with pytest.raises(ProtocolError, match="does not hold"):
            self.exports.release(self.held[peer], handle, count)

    @rule(stub=STUBS, peer=PEERS, count=st.integers(-3, 0))
    def release_of_nothing(self, stub: int, peer: int, count: int) -> None:
        with pytest.raises(ProtocolError):
            self.exports.release(self.held[peer], self.handles.get(stub, 999), count)

    @rule(peer=PEERS)
    def peer_dies(self, peer: int) -> None:
        gone = self.exports.release_all(self.held[peer])
        held = {stub for stub, count in self.model[peer].items() if count}
        self.model[peer].clear()
        assert {id(stub) for stub in gone} == {id(self.stubs[stub]) for stub in held if not self.alive(stub)}
        assert self.held[peer] == {}

    @invariant()
    def tables_and_model_agree(self) -> None:
        for counts, held in zip(self.model, self.held, strict=True):
            expected = {self.handles[stub]: count for stub, count in counts.items() if count}
            assert {handle: entry.count for handle, entry in held.items()} == expected
            assert all(entry.export.handle == handle for handle, entry in held.items())
        assert len(self.exports) == sum(self.alive(stub) for stub in range(5))


Tables.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestTables = Tables.TestCase


def test_the_root_is_handle_0_and_stays() -> None:
    exports = Exports()
    root = RemoteObject("root")
    export = exports.set_root(root)
    held: dict[int, Held] = {}
    assert exports.grant(root, held) == 0
    assert exports.grant_export(export, held) == 0
    assert exports.release(held, 0, 2) is None
    assert exports.root is export
    assert len(exports) == 1


def test_a_held_stub_lives_and_a_released_one_goes() -> None:
    exports = Exports()
    stub = RemoteObject("mortal")
    watch = weakref.ref(stub)
    held: dict[int, Held] = {}
    handle = exports.grant(stub, held)
    del stub
    gc.collect()
    assert watch() is not None
    exports.release(held, handle, 1)
    gc.collect()
    assert watch() is None


def test_a_peer_that_keeps_too_much_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_REFERENCES_PER_PEER", 3)
    exports = Exports()
    stubs = [RemoteObject(str(number)) for number in range(4)]
    held: dict[int, Held] = {}
    for stub in stubs[:3]:
        exports.grant(stub, held)
    with pytest.raises(QuotaError, match="holds 3 objects of this one, the limit is 3"):
        exports.grant(stubs[3], held)
    assert len(exports) == 3, "what was refused leaves nothing behind"
    exports.grant(stubs[0], held)  # one it holds already costs nothing
    other: dict[int, Held] = {}
    exports.grant(stubs[3], other)  # another peer has its own limit


class Nowhere:
    """A connection nothing is sent over."""

    is_dead = False
    caller = own_identity()

    def transact(self, *_: object) -> int:
        raise AssertionError("never called")

    async def transact_async(self, *_: object) -> int:
        raise AssertionError("never called")

    def flush(self) -> None:
        """Nothing waits."""


def test_one_proxy_and_the_count_of_how_often_it_was_received() -> None:
    gone: list[tuple[int, int]] = []
    imports = Imports(Nowhere(), lambda handle, count: gone.append((handle, count)))
    proxy = imports.receive(5)
    assert imports.receive(5) is proxy
    assert imports.receive(6) is not proxy, "dropped at once"
    assert gone == [(6, 1)]
    assert imports.live() == [proxy]
    imports.forget(5)
    assert imports.receive(5) is proxy, "forgetting what lives does nothing"
    del proxy
    gc.collect()
    assert gone == [(6, 1), (5, 3)]
    again = imports.receive(5)
    imports.forget(5)
    assert imports.live() == [again], "the release of the one before does not take the new one away"


def test_too_many_objects_of_one_peer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_REFERENCES_PER_PEER", 2)
    imports = Imports(Nowhere(), lambda handle, count: None)
    kept = [imports.receive(1), imports.receive(2)]
    with pytest.raises(ProtocolError, match="hold more than 2 objects"):
        imports.receive(3)
    assert len(imports.live()) == len(kept)


def test_a_proxy_never_outlives_its_references() -> None:
    """Threads receive and drop one object all the time: whoever holds the proxy, the owner still counts it."""
    granted = [0, 0, 0, 0]
    queue: deque[int] = deque()
    imports = Imports(Nowhere(), lambda handle, count: queue.append(count))
    failures: list[str] = []

    def hammer(me: int) -> None:
        for _ in range(3000):
            granted[me] += 1
            proxy = imports.receive(1)
            released = sum(list(queue))
            if released >= sum(granted):
                failures.append(f"{released} of {sum(granted)} references given back while {proxy!r} is held")
            del proxy

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=hammer, args=(me,)) for me in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(interval)
    assert failures == []
    assert sum(queue) == sum(granted), "each reference is given back, once"


class _Foreign(ForeignObject):
    def on_reserved(self, code: int, data: MessageSequence, reply: MessageSequence) -> bool:
        return True


def test_objects_of_other_devices_have_handles_of_their_own() -> None:
    """Who receives such a handle knows that it stands for an object of another device (reference 0, C2)."""
    exports = Exports()
    held: dict[int, Held] = {}
    foreign, own = _Foreign("test.foreign"), RemoteObject("test.own")
    assert exports.grant(foreign, held) > limits.RPC_HANDLE_BASE
    assert 0 < exports.grant(own, held) < limits.RPC_HANDLE_BASE
    assert exports.grant(foreign, held) == exports.handle_of(foreign)
