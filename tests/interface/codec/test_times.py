"""Dates, times, durations, UUIDs, decimal numbers, paths."""

from __future__ import annotations

import decimal
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePath, PurePosixPath
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.interface.codec import MismatchType, MismatchValue
from tests.interface.codec.wire import (
    examples,
    hostile,
    int64,
    malformed,
    mutated,
    read_from,
    refused,
    returned,
    sent,
    string16,
    survives,
)


def _zone(offset: timedelta) -> timezone:
    return timezone(timedelta(seconds=offset // timedelta(seconds=1)))


zones = st.none() | st.timedeltas(timedelta(hours=-23), timedelta(hours=23)).map(_zone)
TRIPS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (datetime, st.datetimes(timezones=zones)),
    (date, st.dates()),
    (time, st.times(timezones=zones)),
    (timedelta, st.timedeltas(timedelta(days=-100_000_000), timedelta(days=100_000_000))),
    (UUID, st.uuids()),
    (Decimal, st.decimals(allow_nan=False)),
    (Path, st.text(st.characters(codec="utf-8", exclude_characters="\0")).map(Path)),
    (PurePath, st.text(st.characters(codec="utf-8")).map(PurePath)),
    (PurePosixPath, st.text(st.characters(codec="utf-8")).map(PurePosixPath)),
]
IDS = [hint.__name__ for hint, _ in TRIPS]


@pytest.mark.parametrize("hint, values", TRIPS, ids=IDS)
@examples
@given(data=st.data())
def test_trips(hint: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    value = data.draw(values)
    again = returned(hint, value)
    assert again == value
    assert isinstance(again, hint)
    if isinstance(value, datetime):
        assert again.utcoffset() == value.utcoffset()


@pytest.mark.parametrize("hint, values", TRIPS, ids=IDS)
@examples
@given(data=st.data())
def test_hostile_bytes(hint: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    survives(hint, data.draw(hostile | values.flatmap(lambda value: mutated(sent(hint, value)))))


@pytest.mark.parametrize(
    "hint, value, data",
    [
        (datetime, datetime(2024, 2, 29, 12, 30, tzinfo=UTC), string16("2024-02-29T12:30:00+00:00")),
        (date, date(2024, 2, 29), string16("2024-02-29")),
        (time, time(12, 30, 0, 5), string16("12:30:00.000005")),
        (timedelta, timedelta(seconds=-1), int64(-1_000_000)),
        (UUID, UUID(int=1), bytes(15) + b"\1"),
        (Decimal, Decimal("1.50"), string16("1.50")),
        (Path, Path("/a/b"), string16("/a/b")),
    ],
)
def test_the_bytes(hint: Any, value: Any, data: bytes) -> None:
    assert sent(hint, value) == data
    assert read_from(hint, data) == value


@pytest.mark.parametrize(
    "hint, text",
    [
        (datetime, "yesterday"),
        (datetime, "2024-13-01T00:00:00"),
        (datetime, "2024-01-01T00:00:00+01:00:00.5"),
        (time, "00:00:00+01:00:00.500000"),
        (date, "2024-02-30"),
        (date, ""),
        (time, "25:00"),
        (Decimal, "one"),
        (Decimal, ""),
        (Decimal, "1" + "e" + "9" * 30),
    ],
)
def test_text_that_is_none_is_malformed(hint: Any, text: str) -> None:
    assert malformed(hint, string16(text)).startswith(f"cannot read {hint.__name__.lower()}")


@pytest.mark.parametrize(
    "hint, wrong",
    [
        (datetime, date(2024, 1, 1)),
        (datetime, "2024-01-01"),
        (date, datetime(2024, 1, 1)),
        (time, timedelta(1)),
        (timedelta, 5),
        (UUID, "0" * 32),
        (Decimal, 1.5),
        (Decimal, 1),
        (Path, "/a"),
        (Path, PurePosixPath("/a")),
    ],
)
def test_what_does_not_fit(hint: Any, wrong: Any) -> None:
    assert isinstance(refused(hint, wrong), MismatchType)


def test_a_duration_beyond_64_bits() -> None:
    assert isinstance(refused(timedelta, timedelta.max), MismatchValue)
    assert returned(timedelta, timedelta(microseconds=2**63 - 1)) == timedelta(microseconds=2**63 - 1)
    assert returned(timedelta, timedelta(microseconds=-(2**63))) == timedelta(microseconds=-(2**63))


@pytest.mark.parametrize("microseconds", [1, 999_999, 3_600_000_001, -1])
def test_an_offset_with_a_fraction_of_a_second_is_refused(microseconds: int) -> None:
    zone = timezone(timedelta(microseconds=microseconds))
    for hint, value in [(datetime, datetime(2024, 1, 1, tzinfo=zone)), (time, time(1, tzinfo=zone))]:
        error = refused(hint, value)
        assert isinstance(error, MismatchValue)
        assert "whole seconds" in error.expected


def test_special_decimals() -> None:
    assert returned(Decimal, Decimal("NaN")).is_nan()
    assert returned(Decimal, Decimal("sNaN")).is_snan()
    assert returned(Decimal, Decimal("-Infinity")) == Decimal("-Infinity")


def test_the_readers_context_does_not_turn_nonsense_into_nan() -> None:
    with decimal.localcontext() as context:
        context.traps[decimal.InvalidOperation] = False
        assert "cannot read decimal" in malformed(Decimal, string16("nonsense"))


def test_a_path_of_undecodable_bytes_travels() -> None:
    path = Path("/tmp/\udcff")
    assert returned(Path, path) == path


def test_a_text_that_is_too_long() -> None:
    assert isinstance(refused(Decimal, Decimal("1" * 41_000)), MismatchValue)
