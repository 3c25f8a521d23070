"""binderkit.softbus.pairing_session: both sides of a pairing, without a network, and everybody in between."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from spake2 import SPAKE2_A, SPAKE2_B

from binderkit import limits
from binderkit.errors import (
    IpcError,
    NotTrustedError,
    PairingError,
    PairingLockedError,
    ParamValueError,
    ProtocolError,
    WrongPinError,
)
from binderkit.softbus.circle import Member, Roster
from binderkit.softbus.fields import pack, unpack
from binderkit.softbus.pairing_session import (
    _TEXTS,
    Admits,
    Party,
    Reason,
    Steps,
    _Kind,
    _message,
    _read,
    decide,
    join_steps,
    offer_steps,
    password_of_pin,
    password_of_secret,
    reason_of,
    refusal,
)
from binderkit.softbus.trust import TrustStore
from tests.softbus.stores import admit, clone, make

PIN = password_of_pin("123456")
BINDING = bytes(32)
Tamper = Callable[[int, bytes], bytes]
"""Gets the number of a message and the message; returns what arrives."""


def judge(right: bool) -> None:
    if not right:
        raise WrongPinError("wrong")


@dataclass
class Run:
    """What became of a pairing: for each side the device it trusts now, or the error that ended it."""

    offerer: object = None
    joiner: object = None
    messages: list[bytes] = field(default_factory=list)


def run(
    offerer: TrustStore,
    joiner: TrustStore,
    tamper: Tamper = lambda _, message: message,
    *,
    pins: tuple[bytes, bytes] = (PIN, PIN),
    bindings: tuple[bytes, bytes] = (BINDING, BINDING),
) -> Run:
    """Let two devices pair; each end that fails tells the other, as the connection's owner does."""
    result = Run()
    offering = offer_steps(offerer, pins[0], bindings[0], judge)
    assert next(offering) == b""
    joining = join_steps(joiner, pins[1], bindings[1])
    sides: list[tuple[str, Steps]] = [("offerer", offering), ("joiner", joining)]
    message = next(joining)
    while message:
        result.messages.append(message)
        arrived = tamper(len(result.messages) - 1, message)
        name, steps = sides[0]
        sides.reverse()
        if getattr(result, name) is not None:
            break  # its side is over
        message = step(steps, arrived, name, result)
    offering.close()
    joining.close()
    return result


def step(steps: Steps, arrived: bytes, name: str, result: Run) -> bytes:
    try:
        return steps.send(arrived)
    except StopIteration as end:
        device, last = end.value
        setattr(result, name, device)
        return bytes(last)
    except IpcError as error:
        setattr(result, name, error)
        return refusal(reason_of(error))


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[tuple[TrustStore, TrustStore]]:
    yield make(tmp_path, "offers"), make(tmp_path, "joins")


def assert_paired(result: Run, offerer: TrustStore, joiner: TrustStore) -> None:
    assert result.offerer == offerer.trusted()[joiner.udid]
    assert result.joiner == joiner.trusted()[offerer.udid]
    assert offerer.circle == joiner.circle


def test_two_fresh_devices_pair_and_the_one_that_shows_the_pin_owns_the_circle(
    stores: tuple[TrustStore, TrustStore],
) -> None:
    result = run(*stores)
    assert_paired(result, *stores)
    assert stores[0].owns_circle and not stores[1].owns_circle
    assert len(result.messages) == 8


def test_a_wrong_pin_changes_nothing(stores: tuple[TrustStore, TrustStore]) -> None:
    before = [store.snapshot() for store in stores]
    result = run(*stores, pins=(PIN, password_of_pin("123457")))
    assert isinstance(result.offerer, WrongPinError) and isinstance(result.joiner, WrongPinError)
    assert [store.snapshot() for store in stores] == before


def test_a_pin_is_not_a_secret_of_the_same_bytes() -> None:
    assert password_of_pin("123456") != password_of_secret(b"1234561234561234")
    for pin in ("", "12345", "1234567", "12345a", "١٢٣٤٥٦", "-12345"):
        with pytest.raises(ParamValueError):
            password_of_pin(pin)
    for secret in (b"", b"x" * 15, b"x" * 1025):
        with pytest.raises(ParamValueError, match="random"):
            password_of_secret(secret)


def test_somebody_in_between_is_a_wrong_pin(stores: tuple[TrustStore, TrustStore]) -> None:
    """Who ends TLS in between shows the joiner another certificate than the offerer has, and passes everything on."""
    result = run(*stores, bindings=(b"\1" * 32, b"\2" * 32))
    assert isinstance(result.offerer, WrongPinError) and isinstance(result.joiner, WrongPinError)
    assert stores[0].alone and stores[1].alone


def test_who_a_device_is_stays_unsaid_until_the_pin_was_proven(stores: tuple[TrustStore, TrustStore]) -> None:
    result = run(*stores, pins=(PIN, password_of_pin("000000")))
    said = b"".join(result.messages)
    for store in stores:
        for secret in (store.udid.encode(), store.key.spki, store.identity.name.encode(), store.circle.encode()):
            assert secret not in said


def test_an_offerer_proves_nothing_to_who_does_not_know_the_pin(stores: tuple[TrustStore, TrustStore]) -> None:
    """The joiner proves first: otherwise each connection would be a guess that costs nothing."""
    counted: list[bool] = []

    def count(right: bool) -> None:
        counted.append(right)
        judge(right)

    steps = offer_steps(stores[0], PIN, BINDING, count)
    next(steps)
    pake = SPAKE2_A(b"pin\x00000000", idA=b"a", idB=b"b")
    challenge = steps.send(_message(_Kind.HELLO, b"1", pake.start()))
    assert challenge[0] == _Kind.CHALLENGE and counted == []
    with pytest.raises(WrongPinError):
        steps.send(_message(_Kind.CONFIRM, bytes(32)))
    assert counted == [False]


def test_an_offerer_that_does_not_know_the_pin_is_found_out(stores: tuple[TrustStore, TrustStore]) -> None:
    def rogue(number: int, message: bytes) -> bytes:
        return _message(_Kind.CONFIRM, bytes(32)) if number == 3 else message

    result = run(*stores, rogue)
    assert isinstance(result.joiner, WrongPinError)
    assert stores[0].alone and stores[1].alone


def test_a_message_cannot_be_sent_back_to_who_wrote_it(stores: tuple[TrustStore, TrustStore]) -> None:
    for side in (b"A", b"B"):
        steps = join_steps(stores[1], PIN, BINDING)
        _, mine = unpack(next(steps)[1:], 2)
        with pytest.raises(ProtocolError):
            steps.send(_message(_Kind.CHALLENGE, side + mine[1:]))


def test_degenerate_points_are_refused(stores: tuple[TrustStore, TrustStore]) -> None:
    zero = b"\1" + bytes(31)
    order_8 = bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05")
    for point in (zero, order_8, bytes(32), b"\xff" * 32, b"", b"\2" * 33):
        steps = offer_steps(stores[0], PIN, BINDING, judge)
        next(steps)
        with pytest.raises(ProtocolError):
            steps.send(_message(_Kind.HELLO, b"1", b"A" + point))


def test_a_replayed_pairing_gets_nowhere(stores: tuple[TrustStore, TrustStore], tmp_path: Path) -> None:
    recorded = run(*stores).messages
    steps = offer_steps(stores[0], PIN, BINDING, judge)
    next(steps)
    steps.send(recorded[0])
    with pytest.raises(WrongPinError):
        steps.send(recorded[2])


def test_a_device_that_claims_to_be_another_is_refused(tmp_path: Path) -> None:
    """It knows the PIN and has the victim's public data, but not the victim's key."""
    offerer, rogue, victim = (make(tmp_path, name) for name in ("offers", "rogue", "victim"))
    rogue.request = victim.request  # type: ignore[method-assign]
    result = run(offerer, rogue)
    assert isinstance(result.offerer, NotTrustedError)
    assert offerer.alone and rogue.alone


def test_a_signature_of_another_pairing_or_role_is_refused(tmp_path: Path) -> None:
    offerer, rogue, victim = (make(tmp_path, name) for name in ("offers", "rogue", "victim"))
    rogue.request = victim.request  # type: ignore[method-assign]
    stolen = run(victim, make(tmp_path, "other")).messages[5]  # what the victim said and signed when it offered
    signature = unpack(stolen[1:], 2)[1]
    rogue.key.sign = lambda data: signature  # type: ignore[method-assign]
    assert isinstance(run(offerer, rogue).offerer, NotTrustedError)
    assert offerer.alone


def test_a_device_shows_only_circles_it_belongs_to(tmp_path: Path) -> None:
    offerer, rogue, other = (make(tmp_path, name) for name in ("offers", "rogue", "other"))
    rogue.roster = other.roster  # type: ignore[method-assign]
    rogue.snapshot = other.snapshot  # type: ignore[method-assign]
    result = run(offerer, rogue)
    assert isinstance(result.offerer, NotTrustedError)


def test_a_device_that_is_in_a_circle_stays_in_it(tmp_path: Path) -> None:
    owner, member, fresh = (make(tmp_path, name) for name in ("owner", "member", "fresh"))
    admit(owner, member)
    assert_paired(run(fresh, owner), fresh, owner)  # the one that joins admits the one that offers
    assert owner.owns_circle and not fresh.owns_circle
    assert set(fresh.trusted()) == {owner.udid, member.udid}


def test_a_member_cannot_admit_and_says_who_can(tmp_path: Path) -> None:
    owner, member, fresh = (make(tmp_path, name) for name in ("owner", "member", "fresh"))
    admit(owner, member)
    for result in (run(member, fresh), run(fresh, member)):
        for error in (result.offerer, result.joiner):
            assert isinstance(error, PairingError) and "pair with the owner" in str(error)
    assert fresh.alone


def test_two_circles_are_not_joined(tmp_path: Path) -> None:
    a, b, c, d = (make(tmp_path, name) for name in "abcd")
    admit(a, b)
    admit(c, d)
    result = run(a, c)
    for error in (result.offerer, result.joiner):
        assert isinstance(error, PairingError) and "leave its circle" in str(error)
    assert a.trusted().keys() == {b.udid} and c.trusted().keys() == {d.udid}


def test_two_members_that_do_not_know_each_other_yet_learn_it(tmp_path: Path) -> None:
    for order in (0, 1):
        owner, early, late = (make(tmp_path / str(order), name) for name in ("owner", "early", "late"))
        early.join(owner.add(early.request()))
        late.join(owner.add(late.request()))
        assert late.udid not in early.trusted()
        pair = (early, late) if order else (late, early)
        assert_paired(run(*pair), *pair)


def test_pairing_again_takes_an_unpairing_back(tmp_path: Path) -> None:
    owner, one, two = (make(tmp_path, name) for name in ("owner", "one", "two"))
    admit(owner, one, two)
    one.remove(two.udid)
    two.remove(one.udid)
    assert_paired(run(one, two), one, two)
    owner.remove(one.udid)
    one.remove(owner.udid)
    for pair in ((owner, one), (one, owner)):
        assert_paired(run(*pair), *pair)


def test_a_revoked_device_cannot_come_back_through_a_member(tmp_path: Path) -> None:
    owner, member, revoked = (make(tmp_path, name) for name in ("owner", "member", "revoked"))
    admit(owner, member, revoked)
    owner.revoke(revoked.udid)
    member.accept_roster(owner.roster())
    for pair in ((member, revoked), (revoked, member)):
        result = run(*pair)
        assert isinstance(result.offerer, PairingError) and isinstance(result.joiner, PairingError)
    assert revoked.udid not in member.trusted()
    assert_paired(run(owner, revoked), owner, revoked)  # the owner may change its mind


def test_a_full_circle_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    owner, member, fresh = (make(tmp_path, name) for name in ("owner", "member", "fresh"))
    admit(owner, member)
    monkeypatch.setattr(limits, "MAX_CIRCLE_DEVICES", 2)
    result = run(owner, fresh)
    assert isinstance(result.offerer, ParamValueError)
    assert isinstance(result.joiner, PairingError) and "revoke one" in str(result.joiner)


def test_a_copied_disk_is_not_another_device(tmp_path: Path) -> None:
    one = make(tmp_path, "one")
    result = run(one, clone(one, tmp_path / "copy"))
    assert isinstance(result.offerer, PairingError) and "itself" in str(result.offerer)


def test_another_version_is_refused_with_words(stores: tuple[TrustStore, TrustStore]) -> None:
    def newer(number: int, message: bytes) -> bytes:
        return _message(_Kind.HELLO, b"2", unpack(message[1:], 2)[1]) if number == 0 else message

    result = run(*stores, newer)
    for error in (result.offerer, result.joiner):
        assert isinstance(error, PairingError) and "update the older one" in str(error)


# --- hostile messages -------------------------------------------------------------------------------


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    which=st.integers(0, 6),
    how=st.sampled_from(["flip", "cut", "other", "kind"]),
    place=st.floats(0, 1, exclude_max=True),
    change=st.integers(1, 255),
    other=st.binary(max_size=100),
)
def test_whatever_is_changed_on_the_way_ends_in_an_error_of_ours(
    which: int, how: str, place: float, change: int, other: bytes
) -> None:
    def tamper(number: int, message: bytes) -> bytes:
        if number != which:
            return message
        at = 0 if how == "kind" else int(place * len(message))
        if how == "other":
            return other
        if how == "cut":
            return message[:at]
        return message[:at] + bytes([message[at] ^ change]) + message[at + 1 :]

    with tempfile.TemporaryDirectory() as directory:
        offerer, joiner = make(Path(directory), "offers"), make(Path(directory), "joins")
        result = run(offerer, joiner, tamper)
        assert isinstance(result.offerer, IpcError) or isinstance(result.joiner, IpcError)
        # The offerer admits after message 4, the joiner after message 5; before, nothing may have changed.
        assert offerer.alone or (which > 4 and set(offerer.trusted()) == {joiner.udid})
        assert joiner.alone or (which > 5 and set(joiner.trusted()) == {offerer.udid})


@given(st.binary(max_size=120), st.sampled_from(list(_Kind)), st.integers(0, 4))
def test_any_bytes_are_a_message_or_refused(data: bytes, kind: _Kind, count: int) -> None:
    try:
        fields = _read(data, kind, count)
    except (ProtocolError, PairingError):
        return
    assert _message(kind, *fields) == data


@pytest.mark.parametrize("reason", list(Reason))
def test_every_reason_arrives_with_a_text_of_our_own(reason: Reason) -> None:
    with pytest.raises(PairingError) as caught:
        _read(refusal(reason), _Kind.DONE, 1)
    assert reason_of(caught.value) is reason
    assert str(caught.value).startswith(_TEXTS[reason])
    kinds = {Reason.WRONG_PIN: WrongPinError, Reason.LOCKED: PairingLockedError}
    assert isinstance(caught.value, kinds.get(reason, PairingError))


def test_reasons_that_do_not_exist_are_refused() -> None:
    for wrong in (pack(b""), pack(b"\xee"), b"", pack(b"a", b"b")):
        with pytest.raises(ProtocolError):
            _read(bytes([_Kind.REFUSED]) + wrong, _Kind.DONE, 1)


def test_unexpected_errors_are_told_without_their_text() -> None:
    assert reason_of(OSError("/secret/path")) is Reason.FAILED
    assert b"secret" not in refusal(Reason.FAILED)


# --- who admits whom --------------------------------------------------------------------------------

UDIDS = [f"{number:02x}" * 32 for number in range(4)]
CIRCLES = ["c1" * 32, "c2" * 32]


def parties() -> st.SearchStrategy[Party]:
    return st.builds(
        lambda me, others, owner, circle, version: Party(
            me, Roster(circle, version, owner, {one: Member(one, "n", "t", 0) for one in {me, owner, *others}})
        ),
        st.sampled_from(UDIDS),
        st.sets(st.sampled_from(UDIDS)),
        st.sampled_from(UDIDS),
        st.sampled_from(CIRCLES),
        st.integers(1, 3),
    )


@given(parties(), parties())
def test_only_owners_admit_and_nobody_in_a_circle_with_others_changes_it(offerer: Party, joiner: Party) -> None:
    try:
        admits = decide(offerer, joiner)
    except PairingError:
        return
    same = offerer.roster.circle == joiner.roster.circle
    if admits is Admits.NOBODY:
        assert same
        return
    host, guest = (offerer, joiner) if admits is Admits.OFFERER else (joiner, offerer)
    assert host.owns
    assert same or guest.roster.alone


def test_pake_messages_have_the_length_that_is_checked() -> None:
    assert len(SPAKE2_A(b"x").start()) == len(SPAKE2_B(b"x").start()) == 33
