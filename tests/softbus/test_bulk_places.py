"""bulk_places.py: addresses come back, any bytes are addresses or refused, and each device is asked once."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.errors import DeadObjectError, ProtocolError
from binderkit.softbus.bulk_places import Places, decode_addresses, encode_addresses

_addresses = st.tuples(st.ip_addresses().map(str), st.integers(1, 65_535))


@given(st.lists(_addresses, max_size=limits.MAX_STREAM_ADDRESSES))
def test_addresses_come_back(addresses: list[tuple[str, int]]) -> None:
    assert list(decode_addresses(encode_addresses(addresses))) == addresses


@given(st.binary(max_size=80))
def test_any_bytes_are_few_numeric_addresses_or_refused(data: bytes) -> None:
    try:
        addresses = decode_addresses(data)
    except ProtocolError:
        return
    assert len(addresses) <= limits.MAX_STREAM_ADDRESSES and encode_addresses(addresses) == data
    for host, _ in addresses:
        ipaddress.ip_address(host)


def test_golden_bytes() -> None:
    assert encode_addresses([("10.0.0.1", 258)]) == b"\x02\x01\x04\x0a\0\0\x01"


def test_more_addresses_than_are_tried_are_not_sent_and_not_taken() -> None:
    many = [("10.0.0.1", 1)] * 9
    assert len(decode_addresses(encode_addresses(many))) == limits.MAX_STREAM_ADDRESSES
    with pytest.raises(ProtocolError):
        decode_addresses(encode_addresses(many[:1]) * 9)


def test_a_device_is_asked_once_until_it_is_forgotten() -> None:
    asked: list[str] = []

    def ask(udid: str) -> bytes:
        asked.append(udid)
        return encode_addresses([("10.0.0.1", len(asked))])

    places = Places(ask)
    assert places("one") == places("one") == (("10.0.0.1", 1),)
    places.forget("one")
    assert places("one") == (("10.0.0.1", 2),)
    assert asked == ["one", "one"]


def test_a_failure_is_not_remembered() -> None:
    answers = [DeadObjectError("gone"), None]

    def ask(udid: str) -> bytes:
        error = answers.pop(0)
        if error is not None:
            raise error
        return b""

    places = Places(ask)
    with pytest.raises(DeadObjectError):
        places("one")
    assert places("one") == ()


def test_what_a_device_says_by_itself_takes_the_place_of_what_was_known() -> None:
    places = Places(lambda _: encode_addresses([("10.0.0.1", 1)]))
    assert places("one") == (("10.0.0.1", 1),)
    places.learn("one", (("10.0.0.2", 2),))
    assert places("one") == (("10.0.0.2", 2),)
