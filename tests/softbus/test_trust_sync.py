"""binderkit.softbus.trust_sync: members of a circle tell each other who belongs to it."""

from __future__ import annotations

import logging
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from binderkit import limits
from binderkit.errors import CallTimeoutError, DeadObjectError, IpcError, NotTrustedError, ProtocolError, SoftBusError
from binderkit.softbus.circle import remaining_life
from binderkit.softbus.trust import TrustStore
from binderkit.softbus.trust_sync import TrustSync
from tests.softbus.stores import Clock, admit, make

WAIT = 10


class Network:
    """Devices that can ask each other while both trust each other, and are not cut off."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.clock = Clock()
        self.stores: dict[str, TrustStore] = {}
        self.syncs: dict[str, TrustSync] = {}
        self.asked: list[tuple[str, str, int]] = []
        self._changed = threading.Condition()

    def add(self, name: str) -> TrustStore:
        store = make(self.directory, name, self.clock)
        self.stores[store.udid] = store
        store.listen(lambda _: self._tell())
        return store

    def start(self, *stores: TrustStore) -> None:
        for store in stores:
            self.syncs[store.udid] = TrustSync(store, self._asks(store))

    def meet(self, one: TrustStore, other: TrustStore) -> None:
        for here, there in ((one, other), (other, one)):
            if here.udid in self.syncs:
                self.syncs[here.udid].online(there.udid)

    def wait(self, condition: Callable[[], bool]) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, WAIT)

    def close(self) -> None:
        for sync in self.syncs.values():
            sync.close()

    def _asks(self, source: TrustStore) -> Callable[[str, bytes], bytes]:
        def ask(udid: str, payload: bytes) -> bytes:
            target = self.stores[udid]
            if udid not in source.snapshot().trusted or source.udid not in target.snapshot().trusted:
                raise DeadObjectError("nobody there")
            answer = self.syncs[udid].answer(source.udid, payload)
            self.asked.append((source.identity.name, target.identity.name, payload[0]))
            self._tell()
            return answer

        return ask

    def _tell(self) -> None:
        with self._changed:
            self._changed.notify_all()


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Network]:
    network = Network(tmp_path)
    yield network
    network.close()


def test_a_new_member_is_known_to_all_without_a_word_of_the_user(network: Network) -> None:
    owner, early, late = (network.add(name) for name in ("owner", "early", "late"))
    admit(owner, early)
    network.start(owner, early, late)
    network.meet(owner, early)
    late.join(owner.add(late.request()))
    network.wait(lambda: late.udid in early.trusted())
    assert owner.trusted().keys() == {early.udid, late.udid}


def test_a_revoked_device_is_cut_off_by_all(network: Network) -> None:
    owner, member, revoked = (network.add(name) for name in ("owner", "member", "revoked"))
    admit(owner, member, revoked)
    network.start(owner, member, revoked)
    network.meet(owner, member)
    network.meet(owner, revoked)
    owner.revoke(revoked.udid)
    network.wait(lambda: revoked.udid not in member.trusted())


def test_who_was_off_learns_from_any_member(network: Network) -> None:
    owner, one, off, revoked = (network.add(name) for name in ("owner", "one", "off", "revoked"))
    admit(owner, one, off, revoked)
    owner.revoke(revoked.udid)
    one.accept_roster(owner.roster())
    network.start(one, off)  # the owner is away
    network.syncs[off.udid].online(one.udid)  # it asks, and is told
    network.wait(lambda: revoked.udid not in off.trusted())


def test_who_has_the_newer_list_tells_it_unasked(network: Network) -> None:
    owner, one, off = (network.add(name) for name in ("owner", "one", "off"))
    admit(owner, one, off)
    owner.add(make(network.directory, "new").request())
    one.accept_roster(owner.roster())
    network.start(one, off)
    network.syncs[one.udid].online(off.udid)
    network.wait(lambda: len(off.trusted()) == 3)


def test_it_comes_to_rest(network: Network) -> None:
    """Nobody tells for ever what everybody knows."""
    stores = [network.add(name) for name in ("owner", "a", "b", "c")]
    admit(*stores)
    network.start(*stores)
    for one in stores:
        for other in stores:
            if one is not other:
                network.syncs[one.udid].online(other.udid)
    newcomer = network.add("new")
    stores[0].add(newcomer.request())
    network.wait(lambda: all(newcomer.udid in store.trusted() for store in stores))
    network.close()  # waits for what is under way
    assert len(network.asked) <= 4 * 3 * 3


def test_a_certificate_is_renewed_by_the_owner_when_both_meet(network: Network) -> None:
    owner, member = network.add("owner"), network.add("member")
    admit(owner, member)
    network.clock.now += limits.CERTIFICATE_LIFE * 0.7
    network.start(owner, member)
    network.meet(owner, member)
    network.wait(lambda: not member.renewal_due() and not owner.renewal_due())
    assert remaining_life(member.identity.certificate, network.clock.now) == limits.CERTIFICATE_LIFE


def test_only_the_owner_renews_and_only_for_who_asks(network: Network) -> None:
    owner, one, two = (network.add(name) for name in ("owner", "one", "two"))
    admit(owner, one, two)
    network.start(owner, one)
    with pytest.raises(SoftBusError, match="only the owner"):
        network.syncs[one.udid].answer(two.udid, b"\2" + two.renewal_request())
    with pytest.raises(NotTrustedError):
        network.syncs[owner.udid].answer(one.udid, b"\2" + two.renewal_request())


def test_a_device_that_cannot_be_asked_or_answers_nonsense_is_logged_and_asked_again(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    owner, member, other = (make(tmp_path, name) for name in ("owner", "member", "other"))
    admit(owner, member)
    answers: list[bytes | Exception] = [CallTimeoutError("late"), b"nonsense", other.roster(), b""]
    asked = threading.Semaphore(0)

    def ask(udid: str, payload: bytes) -> bytes:
        answer = answers.pop(0)
        asked.release()
        if isinstance(answer, Exception):
            raise answer
        return answer

    sync = TrustSync(member, ask)
    with caplog.at_level(logging.WARNING):
        for _ in range(4):
            sync.online(owner.udid)
            assert asked.acquire(timeout=WAIT)
        sync.close()
    assert caplog.text.count("could not be spoken with") == 3
    assert member.trusted().keys() == {owner.udid}


def test_a_device_that_comes_and_goes_leaves_nothing_behind(tmp_path: Path) -> None:
    store = make(tmp_path, "a")
    blocked, go_on = threading.Event(), threading.Event()

    def ask(udid: str, payload: bytes) -> bytes:
        blocked.set()
        assert go_on.wait(WAIT)
        return b""

    sync = TrustSync(store, ask)
    sync.online("00" * 32)
    assert blocked.wait(WAIT)
    for number in range(1000):
        sync.online(f"{number:064x}")
        sync.offline(f"{number:064x}")
    assert sync._waiting == set() and sync._online == set()
    go_on.set()
    sync.close()
    sync.close()


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=200), st.sampled_from([b"", b"\1", b"\2"]))
def test_any_request_is_answered_or_refused(data: bytes, start: bytes) -> None:
    with tempfile.TemporaryDirectory() as directory:
        owner = make(Path(directory), "owner")
        sync = TrustSync(owner, lambda udid, payload: b"")
        try:
            with pytest.raises(IpcError) as caught:
                sync.answer("ab" * 32, start + data)
            assert isinstance(caught.value, ProtocolError | NotTrustedError)
        finally:
            sync.close()
