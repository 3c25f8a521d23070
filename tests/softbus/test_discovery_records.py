"""binderkit.softbus.discovery_records: what devices tell strangers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.errors import ParamValueError
from binderkit.softbus.discovery_records import (
    Announcement,
    Capability,
    FoundDevice,
    Medium,
    PublishInfo,
    SubscribeInfo,
    read_announcement,
    usable_addresses,
    write_announcement,
)

ID = "0123456789abcdef" * 2
PRINTABLE = st.text(min_size=0, max_size=600).filter(str.isprintable)


def raw(announcement: Announcement) -> dict[bytes, bytes | None]:
    return {key.encode(): value for key, value in write_announcement(announcement).items()}


@given(
    PRINTABLE.filter(lambda name: 0 < len(name) <= 62),
    st.sampled_from(["linux", "smart-tv", "x" * limits.MAX_DEVICE_TYPE]),
    st.integers(0, 2**19 - 1),
    PRINTABLE.filter(lambda data: len(data.encode()) <= limits.MAX_CAPABILITY_DATA),
)
def test_an_announcement_is_read_back_and_fits_its_strings(name: str, kind: str, bits: int, data: str) -> None:
    announcement = Announcement(ID, name, kind, bits, data)
    assert read_announcement(raw(announcement)) == announcement
    assert all(len(key) + 1 + len(value) <= 255 for key, value in write_announcement(announcement).items())


def test_the_longest_name_is_cut_at_a_character() -> None:
    read = read_announcement(raw(Announcement(ID, "𝒳" * limits.MAX_DEVICE_NAME, "linux", 0)))
    assert read is not None and read.name == "𝒳" * 62


GOOD = raw(Announcement(ID, "name", "linux", 64, "data"))


@given(st.dictionaries(st.sampled_from([*GOOD, b"d1", b"d2", b"d3", b"z"]), st.none() | st.binary(max_size=255)))
def test_any_record_is_an_announcement_within_the_limits_or_none(change: dict[bytes, bytes | None]) -> None:
    read = read_announcement({**GOOD, **change})
    if read is None:
        return
    assert 0 < len(read.name) <= limits.MAX_DEVICE_NAME and read.name.isprintable()
    assert len(read.data.encode()) <= limits.MAX_CAPABILITY_DATA and read.data.isprintable()
    assert 0 <= read.capabilities < 2**32
    assert read_announcement(raw(read)) == read or len(read.name.encode()) > 250


@pytest.mark.parametrize(
    "change",
    [
        {b"v": b"2"},
        {b"v": None},
        {b"h": ID[:-1].encode()},
        {b"h": ID.upper().encode()},
        {b"n": b""},
        {b"n": b"\x1b[2Jevil"},
        {b"n": "a\u202eb".encode()},
        {b"n": b"\xff"},
        {b"n": b"x" * 65},
        {b"t": b"a b"},
        {b"c": b"-1"},
        {b"c": b"123456789"},
        {b"d0": b"\n"},
        {b"d0": b"x" * 200, b"d1": b"x" * 200, b"d2": b"x" * 200},
    ],
)
def test_what_breaks_a_rule_is_no_announcement(change: dict[bytes, bytes | None]) -> None:
    assert read_announcement(GOOD) is not None
    assert read_announcement({**GOOD, **change}) is None
    assert read_announcement({}) is None


def test_data_and_media_are_checked_before_anything_is_announced() -> None:
    PublishInfo(1, data="四" * 170).check()
    for data in ("x" * 513, "四" * 171, "a\nb"):
        with pytest.raises(ParamValueError):
            PublishInfo(1, data=data).check()
    for medium in Medium:
        if medium in (Medium.AUTO, Medium.COAP, Medium.COAP1):
            SubscribeInfo(1, medium=medium).check()
            continue
        with pytest.raises(ParamValueError, match="use AUTO or COAP"):
            SubscribeInfo(1, medium=medium).check()
        with pytest.raises(ParamValueError):
            PublishInfo(1, medium=medium).check()


def test_capabilities_have_openharmony_numbers() -> None:
    assert (Capability.HICALL, Capability.DDMP, Capability.OSD, Capability.MEETING_2M) == (0, 6, 7, 18)
    device = FoundDevice(ID, "n", "t", 1 << 6, "", (), 0, False)
    assert device.offers(Capability.DDMP) and not device.offers(Capability.OSD)


def test_addresses_one_cannot_connect_to_are_left_out() -> None:
    given = ["10.0.0.2", "224.0.0.1", "0.0.0.0", "nonsense", "fe80::1", "10.0.0.2", "::"]
    assert usable_addresses(given) == ("10.0.0.2", "fe80::1")
    assert len(usable_addresses([f"10.0.0.{number}" for number in range(255)])) == 16
