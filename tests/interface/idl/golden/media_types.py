# Types that several interfaces of the example share.

"""Types of contracts. Written from MediaTypes.idl by `binderkit idl to-python`: change that file, not this one."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from binderkit.interface import Int16, UInt32, packed
from binderkit.interface.idl.layouts import RawUnion, UnionMember


class Format(IntEnum):
    """What a frame holds."""

    UNKNOWN = 0
    # Eight bits a channel.
    RGB = 1
    RGBA = 2
    YUV = 6
    None_ = 16
    name_ = 128


class MoreFormats(IntEnum):
    UNKNOWN = 0
    # Eight bits a channel.
    RGB = 1
    RGBA = 2
    YUV = 6
    None_ = 16
    name_ = 128
    RAW = 127
    LAST = 128


@packed
@dataclass(frozen=True)
class Size:
    """Width and height in pixels."""

    width: UInt32
    height: UInt32


@packed
@dataclass(frozen=True)
class Frame(Size):
    """A frame and what is known about it.

    Indented: kept.
    """

    format: Format
    timestamp_ns: int
    tags: list[str]
    levels: dict[str, float]
    # Names of Python are no problem.
    class_: bool
    list_: list[list[Int16]]


@packed
@dataclass
class Level(RawUnion):
    steps = UnionMember("<i", int)
    ratio = UnionMember("<f", float)
    format = UnionMember("<i", Format)
    bits_ = UnionMember("<Q", int)
    on = UnionMember("<?", bool)
