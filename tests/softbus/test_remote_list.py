"""The list of what a device offers, as bytes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.errors import ProtocolError
from binderkit.samgr.remote import RemoteAbility
from binderkit.softbus import remote_list

NAMES = st.just("") | st.from_regex(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,127}", fullmatch=True)
ABILITIES = st.builds(RemoteAbility, st.integers(1, limits.MAX_ABILITY_ID), NAMES, st.booleans())


@given(st.lists(ABILITIES, max_size=20))
def test_a_list_arrives_as_it_was(abilities: list[RemoteAbility]) -> None:
    assert remote_list.decode(remote_list.encode(abilities)) == abilities


@given(st.binary(max_size=60))
def test_any_bytes_are_a_list_or_our_error(raw: bytes) -> None:
    try:
        found = remote_list.decode(raw)
    except ProtocolError:
        return
    assert remote_list.encode(found) == raw


@pytest.mark.parametrize(
    "raw",
    [
        b"\x01\x00\x00\x00\x01\x05abc",  # the name is cut off
        b"\x01\x00\x00\x00\x02\x00",  # neither running nor not
        b"\x00\x00\x00\x00\x00\x00",  # no id
        b"\x01\x00\x00\x00\x00\x02a\x1b",  # a name that would move a terminal's cursor
        remote_list.encode([RemoteAbility(1, "", True)]) * (limits.MAX_ABILITIES + 1),
    ],
)
def test_what_no_device_can_offer_is_refused(raw: bytes) -> None:
    with pytest.raises(ProtocolError):
        remote_list.decode(raw)
