"""trust_state.py: states and what follows from a change, without a store."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from binderkit.errors import NotTrustedError, SoftBusError
from binderkit.softbus.circle import Member
from binderkit.softbus.identity import DeviceKey
from binderkit.softbus.trust_state import TrustState, difference, founded, read_state
from tests.softbus.stores import NOW

OTHER = Member("0" * 64, "tv", "tv", 5)


@pytest.fixture
def key(tmp_path: Path) -> DeviceKey:
    return DeviceKey(tmp_path / "device.key")


@pytest.fixture
def alone(key: DeviceKey) -> TrustState:
    return founded(key, "kitchen", "linux", frozenset(), NOW)


def test_whoever_founds_a_circle_signs_for_it_and_trusts_nobody(key: DeviceKey, alone: TrustState) -> None:
    assert alone.signer("admit") is alone.authority
    assert alone.trusted(key.udid) == frozenset() and alone.devices(key.udid) == {}
    assert read_state(alone.document, key, Path("x")).roster == alone.roster


def test_members_are_trusted_but_those_that_are_blocked(key: DeviceKey, alone: TrustState) -> None:
    two = alone.with_members(key.udid, {**alone.roster.members, OTHER.udid: OTHER}, NOW)
    assert two.roster.version > alone.roster.version
    assert {one.name for one in two.devices(key.udid).values()} == {"tv"}
    blocked = replace(two, document=replace(two.document, blocked=frozenset({OTHER.udid})))
    assert blocked.trusted(key.udid) == frozenset()
    assert blocked.unblocked(OTHER.udid).trusted(key.udid) == {OTHER.udid}
    change = difference(two, blocked, key.udid)
    assert change is not None and (change.added, change.removed) == (frozenset(), {OTHER.udid})
    assert difference(two, two, key.udid) is difference(two, replace(two), key.udid) is None


def test_a_clock_set_back_never_signs_an_older_list(key: DeviceKey, alone: TrustState) -> None:
    later = alone.with_members(key.udid, dict(alone.roster.members), NOW)
    assert later.with_members(key.udid, dict(alone.roster.members), 0).roster.version == later.roster.version + 1


def test_only_the_owner_signs_and_who_it_is_is_said(alone: TrustState) -> None:
    member = replace(alone, authority=None)
    with pytest.raises(SoftBusError, match="only the owner of the circle can admit: do it on 'kitchen'"):
        member.signer("admit")


def test_a_document_of_another_key_is_refused(tmp_path: Path, alone: TrustState) -> None:
    with pytest.raises(NotTrustedError, match=r"trust\.json is not of this other\.key"):
        read_state(alone.document, DeviceKey(tmp_path / "other.key"), Path("trust.json"))
