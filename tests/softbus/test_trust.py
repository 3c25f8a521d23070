"""binderkit.softbus.trust: the circle of a device and every change to it."""

from __future__ import annotations

import logging
import multiprocessing
import os
import stat
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from binderkit import limits
from binderkit.errors import NotTrustedError, ParamValueError, ProtocolError, SoftBusError
from binderkit.softbus.circle import check_certificate, remaining_life
from binderkit.softbus.engine import EngineTimeout, Kind, NoAnswer, PresenceEvent
from binderkit.softbus.fields import pack, unpack
from binderkit.softbus.identity import DeviceKey, write_private
from binderkit.softbus.trust import TrustChange, TrustStore
from binderkit.softbus.trust_state import read_request
from tests.softbus.stores import NOW, Clock, admit, clone, make
from tests.softbus.zenoh_devices import Loopback, warm_up


def names(store: TrustStore) -> set[str]:
    return {device.name for device in store.trusted().values()}


def test_a_fresh_device_has_a_circle_of_its_own_and_trusts_nobody(tmp_path: Path) -> None:
    store = make(tmp_path, "a")
    snapshot = store.snapshot()
    assert (snapshot.own, snapshot.trusted, store.trusted()) == (store.udid, frozenset(), {})
    assert check_certificate(snapshot.certificate_pem, snapshot.ca_pem) == store.udid
    assert store.owns_circle and store.alone
    assert store.identity.name == "a" and store.identity.key_file == snapshot.key_file


def test_files_and_directory_are_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make(tmp_path, "a")
    finally:
        os.umask(before)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "a").iterdir()}
    assert modes == {"device.key": 0o600, "trust.json": 0o600, "trust.lock": 0o600}
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o700


def test_a_device_is_the_same_after_a_restart(tmp_path: Path) -> None:
    a, b = make(tmp_path, "a"), make(tmp_path, "b")
    admit(a, b)
    for store in (a, b):
        again = TrustStore(store.directory, clock=Clock())
        assert again.snapshot() == store.snapshot()
        assert (again.identity, again.trusted(), again.owns_circle) == (
            store.identity,
            store.trusted(),
            store.owns_circle,
        )


def test_the_owner_admits_and_all_members_trust_each_other(tmp_path: Path) -> None:
    a, b, c = (make(tmp_path, name) for name in "abc")
    admit(a, b, c)
    assert [names(store) for store in (a, b, c)] == [{"b", "c"}, {"a", "c"}, {"a", "b"}]
    assert len({store.circle for store in (a, b, c)}) == 1
    assert [store.owns_circle for store in (a, b, c)] == [True, False, False]
    assert [device.owner for device in b.trusted().values() if device.name == "a"] == [True]
    assert b.snapshot().ca_pem == a.snapshot().ca_pem


def test_the_key_of_the_circle_never_leaves_its_owner(tmp_path: Path) -> None:
    a, b = make(tmp_path, "a"), make(tmp_path, "b")
    admission = a.add(b.request())
    b.join(admission)
    assert b"PRIVATE" not in admission + a.roster() + a.renew(b.udid, b.renewal_request())
    assert '"authority_pem": ""' in (b.directory / "trust.json").read_text()


def test_only_the_owner_can_admit_revoke_and_renew(tmp_path: Path) -> None:
    a, b, c = (make(tmp_path, name) for name in "abc")
    admit(a, b)
    for action in (lambda: b.add(c.request()), lambda: b.revoke(a.udid), b.renew_own):
        with pytest.raises(SoftBusError, match=r"only the owner of the circle can .*'a'"):
            action()


def test_a_device_in_a_circle_with_others_must_leave_before_it_joins(tmp_path: Path) -> None:
    a, b, c = (make(tmp_path, name) for name in "abc")
    admit(a, b)
    with pytest.raises(SoftBusError, match="leave it first"):
        b.join(c.add(b.request()))
    assert names(b) == {"a"}
    b.leave()
    assert b.trusted() == {}
    b.join(c.add(b.request()))
    assert names(b) == {"c"}


def test_an_admission_of_another_device_is_refused(tmp_path: Path) -> None:
    a, b, c = (make(tmp_path, name) for name in "abc")
    admission = a.add(b.request())
    with pytest.raises(NotTrustedError, match="another device"):
        c.join(admission)
    ca_pem, _, roster = unpack(admission, 3)
    mixed = pack(ca_pem, c.identity.certificate, roster)  # of its own circle
    with pytest.raises(NotTrustedError):
        c.join(mixed)
    for nonsense in (b"", b"x", pack(b"", b"", b""), pack(ca_pem, b"", roster)):
        with pytest.raises((ProtocolError, NotTrustedError)):
            c.join(nonsense)
    assert c.alone


def test_a_request_with_the_udid_of_another_device_is_refused(tmp_path: Path) -> None:
    a, b, c = (make(tmp_path, name) for name in "abc")
    spki, _ = unpack(c.request(), 2)
    _, said = unpack(b.request(), 2)
    with pytest.raises(NotTrustedError, match="not that of its key"):
        a.add(pack(spki, said))
    assert read_request(b.request())[1].udid == b.udid
    with pytest.raises(ParamValueError):
        a.add(a.request())


def test_unpairing_concerns_this_device_only_and_pairing_again_takes_it_back(tmp_path: Path) -> None:
    a, b, c = (make(tmp_path, name) for name in "abc")
    admit(a, b, c)
    assert b.remove(c.udid) and not b.remove(c.udid)
    assert (names(b), names(c)) == ({"a"}, {"a", "b"})
    a.add(make(tmp_path, "d").request())
    b.accept_roster(a.roster())  # a newer list does not bring it back
    assert names(TrustStore(b.directory)) == {"a", "d"}
    b.trust_again(c.udid)
    assert names(b) == {"a", "c", "d"}
    a.remove(b.udid)
    assert names(a) == {"c", "d"}
    b.join(a.add(b.request()))
    assert names(a) == {"b", "c", "d"}


def test_a_revoked_device_is_out_everywhere_and_learns_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    a, b, c = (make(tmp_path, name) for name in "abc")
    admit(a, b, c)
    old = a.roster()
    assert a.revoke(b.udid) and not a.revoke(b.udid)
    assert names(a) == {"c"}
    assert c.accept_roster(a.roster())
    assert names(c) == {"a"}
    assert not c.accept_roster(old)  # who replays the old list does not bring it back
    assert names(c) == {"a"}
    circle = b.circle
    with caplog.at_level(logging.WARNING):
        assert b.accept_roster(a.roster())
    assert "put out of its circle" in caplog.text
    assert b.trusted() == {} and b.circle != circle and b.owns_circle
    with pytest.raises(NotTrustedError):
        a.renew(b.udid, b.renewal_request())
    with pytest.raises(ParamValueError):
        a.revoke(a.udid)


def test_a_revoked_device_can_be_admitted_again_before_it_learns_of_it(tmp_path: Path) -> None:
    a, b = make(tmp_path, "a"), make(tmp_path, "b")
    admit(a, b)
    a.revoke(b.udid)
    b.join(a.add(b.request()))
    assert (names(a), names(b)) == ({"b"}, {"a"})


def test_a_list_of_another_circle_is_refused(tmp_path: Path) -> None:
    a, b, c = (make(tmp_path, name) for name in "abc")
    admit(a, b)
    for wrong in (c.roster(), b"", bytes(200), a.roster()[:-1]):
        with pytest.raises((NotTrustedError, ProtocolError)):
            b.accept_roster(wrong)
    assert names(b) == {"a"}


def test_a_list_may_come_from_anybody(tmp_path: Path) -> None:
    a, b, c = (make(tmp_path, name) for name in "abc")
    b.join(a.add(b.request()))
    c.join(a.add(c.request()))
    assert names(b) == {"a"}
    assert b.accept_roster(c.roster())
    assert names(b) == {"a", "c"}


def test_an_owner_restored_from_an_old_backup_takes_its_own_newer_list_and_goes_on(tmp_path: Path) -> None:
    clock = Clock()
    a, b, c = make(tmp_path, "a", clock), make(tmp_path, "b"), make(tmp_path, "c")
    old = clone(a, tmp_path / "backup")
    clock.now += 10
    admit(a, b)
    assert old.trusted() == {}
    assert old.accept_roster(b.roster())
    assert old.owns_circle and names(old) == {"b"}
    c.join(old.add(c.request()))
    assert b.accept_roster(c.roster())
    assert names(b) == {"a", "c"}


def test_a_full_circle_admits_nobody_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_CIRCLE_DEVICES", 2)
    a, b, c = (make(tmp_path, name) for name in "abc")
    admit(a, b)
    before = a.roster()
    with pytest.raises(ParamValueError, match="at most 2"):
        a.add(c.request())
    assert a.roster() == before


# --- certificates ---------------------------------------------------------------------------------


def test_certificates_are_renewed_in_time(tmp_path: Path) -> None:
    clock = Clock()
    a, b = make(tmp_path, "a", clock), make(tmp_path, "b", clock)
    admit(a, b)
    assert not a.renewal_due() and not b.renewal_due()
    clock.now += limits.CERTIFICATE_LIFE * 0.7
    assert a.renewal_due() and b.renewal_due()
    a.renew_own()
    b.accept_certificate(a.renew(b.udid, b.renewal_request()))
    assert not a.renewal_due() and not b.renewal_due()
    for store in (a, b):
        assert remaining_life(store.identity.certificate, clock.now) == limits.CERTIFICATE_LIFE
        assert TrustStore(store.directory).identity == store.identity


def test_a_certificate_is_renewed_for_its_own_device_only(tmp_path: Path) -> None:
    a, b, c = (make(tmp_path, name) for name in "abc")
    admit(a, b)
    for source, request in ((b.udid, c.renewal_request()), (c.udid, c.renewal_request()), (b.udid, b"")):
        with pytest.raises(NotTrustedError):
            a.renew(source, request)


def test_a_certificate_of_others_or_an_older_one_is_not_taken(tmp_path: Path) -> None:
    clock = Clock()
    a, b, c = make(tmp_path, "a", clock), make(tmp_path, "b"), make(tmp_path, "c")
    admit(a, b)
    old = b.identity.certificate
    clock.now += 100
    fresh = a.renew(b.udid, b.renewal_request())
    b.accept_certificate(fresh)
    for wrong in (old, a.identity.certificate, c.identity.certificate, b"nonsense"):
        with pytest.raises(NotTrustedError):
            b.accept_certificate(wrong)
    assert b.identity.certificate == fresh


def test_a_clock_that_is_set_back_changes_nothing(tmp_path: Path) -> None:
    clock = Clock()
    a, b, c = make(tmp_path, "a", clock), make(tmp_path, "b"), make(tmp_path, "c")
    admit(a, b)
    clock.now = -5.0
    c.join(a.add(c.request()))
    assert b.accept_roster(a.roster()) and names(b) == {"a", "c"}
    assert not a.renewal_due()
    assert remaining_life(c.identity.certificate, NOW - 100 * 86_400) > 0


# --- listeners ------------------------------------------------------------------------------------


def test_listeners_hear_what_changed_after_it_is_on_disk(tmp_path: Path) -> None:
    a, b = make(tmp_path, "a"), make(tmp_path, "b")
    heard: list[TrustChange] = []
    on_disk: list[frozenset[str]] = []

    def listener(change: TrustChange) -> None:
        heard.append(change)
        on_disk.append(TrustStore(b.directory).snapshot().trusted)

    end = b.listen(listener)
    b.join(a.add(b.request()))
    b.remove(a.udid)
    b.accept_certificate(a.renew(b.udid, b.renewal_request()))
    b.set_name("other")  # no change of trust
    b.accept_roster(a.roster())
    end()
    end()
    b.leave()
    just_a, nobody = frozenset({a.udid}), frozenset[str]()
    assert heard == [
        TrustChange(just_a, nobody, True),
        TrustChange(nobody, just_a, False),
        TrustChange(nobody, nobody, True),
    ]
    assert on_disk == [just_a, nobody, nobody]


def test_a_listener_may_change_trust_and_one_that_fails_does_not_stop_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    a, b = make(tmp_path, "a"), make(tmp_path, "b")
    heard: list[TrustChange] = []

    def fails(change: TrustChange) -> None:
        raise ZeroDivisionError("on purpose")

    def unpairs(change: TrustChange) -> None:
        if change.added:
            thread = threading.Thread(target=b.remove, args=(a.udid,))  # the lock is free
            thread.start()
            thread.join(5)

    for listener in (fails, unpairs, heard.append):
        b.listen(listener)
    with caplog.at_level(logging.ERROR):
        b.join(a.add(b.request()))
    assert "on purpose" in caplog.text
    assert len(heard) == 2 and b.trusted() == {}


# --- with the real engine ---------------------------------------------------------------------------


@pytest.fixture
def loopback(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loopback]:
    network = Loopback(tmp_path_factory.mktemp("network"))
    yield network
    network.close()


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    warm_up(tmp_path_factory.mktemp("warm"))


@pytest.mark.usefixtures("warm")
def test_what_is_paired_speaks_over_the_real_engine_and_what_is_not_or_was_revoked_does_not(
    tmp_path: Path, loopback: Loopback, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "RPC_SESSION_AGE", 0.25)
    a, b, c = (make(tmp_path, name) for name in "abc")
    engine, watch = loopback.engine(a.snapshot())  # a device alone has a session as well
    a.listen(lambda _: engine.set_trust(a.snapshot()))
    stranger, _ = loopback.engine(c.snapshot())
    admit(a, b)
    other, others = loopback.engine(b.snapshot())
    watch.wait(PresenceEvent.ONLINE, b.udid)
    others.wait(PresenceEvent.ONLINE, a.udid)
    assert engine.request(b.udid, Kind.CALL, 1, b"", b"hello", 5) == b"hello"
    assert other.request(a.udid, Kind.CALL, 1, b"", b"hello", 5) == b"hello"
    for own in (a, b):
        with pytest.raises(NoAnswer):
            stranger.request(own.udid, Kind.CALL, 1, b"", b"hello", 1)
    assert stranger.devices() == {}
    a.revoke(b.udid)
    watch.wait(PresenceEvent.OFFLINE, b.udid)
    with pytest.raises((NoAnswer, EngineTimeout)):
        other.request(a.udid, Kind.CALL, 1, b"", b"hello", 1)


# --- the disk -------------------------------------------------------------------------------------


def test_what_cannot_be_written_did_not_happen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = make(tmp_path, "a"), make(tmp_path, "b")
    admit(a, b)
    before = (a.snapshot(), a.roster(), (a.directory / "trust.json").read_bytes())
    heard: list[TrustChange] = []
    a.listen(heard.append)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    for action in (lambda: a.remove(b.udid), lambda: a.revoke(b.udid), a.leave, a.renew_own, lambda: a.set_name("x")):
        with pytest.raises(OSError, match="No space"):
            action()
    assert (a.snapshot(), a.roster(), (a.directory / "trust.json").read_bytes()) == before
    assert heard == [] and a.identity.name == "a"


def test_files_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    a, b = make(tmp_path, "a"), make(tmp_path, "b")
    write_private(a.directory / "device.key", (b.directory / "device.key").read_bytes())
    with pytest.raises(NotTrustedError, match=r"not of this device\.key"):
        TrustStore(a.directory)


def test_a_damaged_file_is_an_error_not_a_new_beginning(tmp_path: Path) -> None:
    a = make(tmp_path, "a")
    path = a.directory / "trust.json"
    damaged = path.read_bytes().replace(a.roster().hex().encode(), b"00")
    write_private(path, damaged)
    with pytest.raises(SoftBusError, match="restore it"):
        TrustStore(a.directory)
    assert path.read_bytes() == damaged


def _udid_of(directory: Path, results: multiprocessing.Queue[str]) -> None:
    results.put(TrustStore(directory).udid)


@pytest.mark.slow
def test_two_processes_that_start_at_once_are_one_device(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    results = spawn.Queue()
    processes = [spawn.Process(target=_udid_of, args=(tmp_path / "a", results)) for _ in range(2)]
    for process in processes:
        process.start()
    found = {results.get(timeout=30) for _ in processes}
    for process in processes:
        process.join()
        process.close()
    results.close()
    results.join_thread()
    assert found == {DeviceKey(tmp_path / "a" / "device.key").udid}


def test_names_are_checked(tmp_path: Path) -> None:
    store = make(tmp_path, "a")
    for name in ("", "x" * 65, "a\nb"):
        with pytest.raises(ParamValueError):
            store.set_name(name)
    store.set_name("四" * 64)
    assert TrustStore(store.directory).identity.name == "四" * 64
    with pytest.raises(ParamValueError):
        TrustStore(tmp_path / "b", name="b", device_type="a b")
    assert 0 < len(TrustStore(tmp_path / "c").identity.name) <= limits.MAX_DEVICE_NAME


# --- the model ------------------------------------------------------------------------------------


class Circles(RuleBasedStateMachine):
    """Four devices against a model: an owner's list, who has seen which version, who blocked whom."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.stores = [make(Path(self._directory.name), name) for name in "oabc"]
        self.udids = [store.udid for store in self.stores]
        self.owner = self.stores[0]
        self.members: list[frozenset[int]] = [frozenset({0})]  # of each version of the owner's list
        self.seen: list[int | None] = [0, None, None, None]  # the version each device has; None: not in the circle
        self.blocked: list[set[int]] = [set(), set(), set(), set()]

    def teardown(self) -> None:
        self._directory.cleanup()

    @rule(one=st.integers(1, 3))
    def pair(self, one: int) -> None:
        self.stores[one].join(self.owner.add(self.stores[one].request()))
        self.members.append(self.members[-1] | {one})
        self.seen[0] = self.seen[one] = len(self.members) - 1
        self.blocked[0].discard(one)
        self.blocked[one].discard(0)

    @rule(one=st.integers(1, 3))
    def revoke(self, one: int) -> None:
        assert self.owner.revoke(self.udids[one]) == (one in self.members[-1])
        if one in self.members[-1]:
            self.members.append(self.members[-1] - {one})
            self.seen[0] = len(self.members) - 1

    @rule(giver=st.integers(0, 3), taker=st.integers(0, 3))
    def tell(self, giver: int, taker: int) -> None:
        brought, had = self.seen[giver], self.seen[taker]
        if brought is None or had is None:
            return
        assert self.stores[taker].accept_roster(self.stores[giver].roster()) == (brought > had)
        if brought > had:
            self.seen[taker] = brought if taker in self.members[brought] else None

    @rule(one=st.integers(0, 3), other=st.integers(0, 3))
    def unpair(self, one: int, other: int) -> None:
        assert self.stores[one].remove(self.udids[other]) == (other in self.expected(one))
        if other in self.expected(one):
            self.blocked[one].add(other)

    @rule(one=st.integers(0, 3), other=st.integers(0, 3))
    def trust_again(self, one: int, other: int) -> None:
        self.stores[one].trust_again(self.udids[other])
        self.blocked[one].discard(other)

    @rule(one=st.integers(1, 3))
    def leave(self, one: int) -> None:
        self.stores[one].leave()
        self.seen[one] = None

    @rule(one=st.integers(0, 3))
    def restart(self, one: int) -> None:
        self.stores[one] = TrustStore(self.stores[one].directory, clock=Clock())
        self.owner = self.stores[0]

    def expected(self, one: int) -> set[int]:
        version = self.seen[one]
        return set() if version is None else set(self.members[version] - {one} - self.blocked[one])

    @invariant()
    def trusts_exactly_the_members_it_knows_and_did_not_remove(self) -> None:
        for one, store in enumerate(self.stores):
            assert store.snapshot().trusted == {self.udids[other] for other in self.expected(one)}
            assert check_certificate(store.identity.certificate, store.snapshot().ca_pem) == store.udid


Circles.TestCase.settings = settings(max_examples=10, stateful_step_count=20, deadline=None)
TestCircles = Circles.TestCase
