from __future__ import annotations

import enum
import struct
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import ParamTypeError, ParamValueError, ParcelReadError
from binderkit.interface import packed
from binderkit.interface.codec import codec_for
from binderkit.interface.idl.layouts import RawData, RawUnion, UnionMember
from binderkit.parcel import MessageSequence


class Mode(enum.IntEnum):
    SLOW = 1
    FAST = 2


@packed
@dataclass
class Level(RawUnion):
    steps = UnionMember("<i", int)
    ratio = UnionMember("<f", float)
    mode = UnionMember("<i", Mode)
    wide = UnionMember("<Q", int)
    on = UnionMember("<?", bool)


@packed
@dataclass
class Blob(RawData):
    """Some bytes."""


def written(hint: object, value: object) -> bytes:
    with MessageSequence() as sequence:
        codec_for(hint).write(sequence, value)
        return bytes(sequence)


def read(hint: object, data: bytes) -> object:
    with MessageSequence.from_bytes(data) as sequence:
        value = codec_for(hint).read(sequence)
        assert sequence.get_readable_bytes() == 0
        return value


def test_the_members_of_a_union_share_its_bytes() -> None:
    level = Level()
    level.ratio = 1.5

    assert level.bits == int.from_bytes(struct.pack("<f", 1.5), "little")
    assert level.steps == struct.unpack("<i", struct.pack("<f", 1.5))[0]
    assert level.ratio == 1.5


def test_assigning_a_member_leaves_the_bytes_behind_it() -> None:
    level = Level(bits=2**64 - 1)
    level.steps = 0

    assert level.wide == 0xFFFFFFFF_00000000


def test_enums_and_booleans_come_as_themselves() -> None:
    level = Level()
    level.mode = Mode.FAST
    assert level.mode is Mode.FAST
    level.on = True
    assert level.on is True


@given(st.integers(-(2**31), 2**31 - 1))
def test_a_union_travels_as_its_eight_bytes(steps: int) -> None:
    level = Level()
    level.steps = steps
    data = struct.pack("<i4x", steps)

    assert written(Level, level) == data
    assert read(Level, data) == level


@pytest.mark.parametrize("value", ["1", 1.0, True, None])
def test_a_member_refuses_another_type(value: object) -> None:
    with pytest.raises(ParamTypeError, match=r"Level\.steps takes int"):
        Level().steps = value  # type: ignore[assignment]


def test_a_member_refuses_what_does_not_fit() -> None:
    level = Level()
    with pytest.raises(ParamValueError, match="does not fit its 4 bytes"):
        level.steps = 2**31
    with pytest.raises(ParamValueError, match=r"Level\.ratio"):
        level.ratio = 1e300
    assert level.bits == 0


def test_rawdata_travels_as_size_size_and_bytes() -> None:
    """uint32 size of rawdata, then what WriteRawData writes: int32 size and the bytes (reference 1.4, 5.5)."""
    data = struct.pack("<Ii", 5, 5) + b"hello\0\0\0"

    assert written(Blob, Blob.of(b"hello")) == data
    assert read(Blob, data) == Blob(5, b"hello")


def test_rawdata_whose_sizes_differ_is_refused() -> None:
    with pytest.raises(ParamValueError, match="size is 4, but there are 5 bytes"):
        Blob(4, b"hello")
    with pytest.raises(ParcelReadError, match="size is 4"):
        read(Blob, struct.pack("<Ii", 4, 5) + b"hello\0\0\0")
