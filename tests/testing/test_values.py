"""Made-up values: each is one its codec takes, and the limits come up."""

from __future__ import annotations

import collections.abc
import datetime
import os
import uuid
from decimal import Decimal
from pathlib import Path
from random import Random
from typing import Annotated, Any, BinaryIO, Literal, NamedTuple, NewType

import numpy
import numpy.typing
import pytest

import binderkit as bk
from binderkit.interface import codec
from binderkit.interface.codec import codec_for
from binderkit.testing.messages import Things
from binderkit.testing.values import NoValueError, Values
from tests.testing.interfaces import Box, Colour, IListener, Rights, Size, Tree


class Point(NamedTuple):
    """A named tuple."""

    x: int
    y: str = ""


HINTS: list[Any] = [
    bool, int, float, str, bytes, bytearray, memoryview, codec.Int8, codec.Int16, codec.Int32, codec.Int64, codec.UInt8,
    codec.UInt16, codec.UInt32, codec.UInt64, codec.Float32, codec.Char, list[int], list[str], set[int], frozenset[str],
    tuple[int, ...], tuple[int, str], dict[str, int], dict[int, list[Size]], int | None, int | str | None,
    Literal["a", 1], Colour, Rights, Size, Box[int], Box[Box[str]], Tree, Point, datetime.datetime, datetime.date,
    datetime.time, datetime.timedelta, uuid.UUID, Decimal, Path, numpy.ndarray,
    numpy.typing.NDArray[numpy.int16], bk.IRemoteObject, BinaryIO,
    codec.Fd, bk.Ashmem, Annotated[str, "note"],
]  # fmt: skip


@pytest.mark.parametrize("hint", HINTS, ids=str)
def test_every_value_can_be_written_and_read(hint: Any) -> None:
    things = Things()
    values, known = Values(Random(7), things), codec_for(hint)
    try:
        for _ in range(60):
            with bk.MessageSequence() as sequence:
                known.write(sequence, values.of(hint))
                received = known.read(sequence)
                if isinstance(received, bk.Ashmem):
                    received.close_ashmem()
                elif hasattr(received, "close"):
                    received.close()
                elif hint is codec.Fd:
                    os.close(received)
                assert sequence.get_readable_bytes() == 0
    finally:
        things.close()


def test_a_remote_interface_is_one_that_agrees_to_everything() -> None:
    things = Things()
    listener = Values(Random(1), things).of(IListener)
    assert isinstance(listener, IListener)
    assert listener.as_object() is things.remote
    things.close()


@pytest.mark.parametrize(
    ("hint", "low", "high"),
    [(codec.Int8, -128, 127), (codec.UInt64, 0, 2**64 - 1), (int, -(2**63), 2**63 - 1)],
)
def test_the_limits_come_up(hint: Any, low: int, high: int) -> None:
    things = Things()
    values = Values(Random(1), things)
    seen = {values.of(hint) for _ in range(500)}
    things.close()
    assert {low, high} <= seen
    assert all(low <= value <= high for value in seen)


class Picky:
    """No type of a contract."""


def test_what_cannot_be_made_up_is_named() -> None:
    things = Things()
    values = Values(Random(1), things)
    for hint in (Picky, list[Picky], NewType("Odd", Picky), collections.abc.Generator[int, None, None]):
        with pytest.raises(NoValueError, match="can be made up"):
            for _ in range(50):
                values.of(hint)
    things.close()
