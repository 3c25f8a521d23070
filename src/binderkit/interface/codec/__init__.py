"""Codecs: how the types of hints travel."""

from binderkit.interface.codec.base import (
    Codec,
    Mismatch,
    MismatchType,
    MismatchValue,
    Quick,
    Reference,
    owns_descriptors,
)
from binderkit.interface.codec.build import codec_for
from binderkit.interface.codec.objects import Fd, closing_on_error, reader
from binderkit.interface.codec.plan import Plan
from binderkit.interface.codec.scalars import (
    Char,
    Float32,
    FloatSize,
    Int8,
    Int16,
    Int32,
    Int64,
    IntSize,
    UInt8,
    UInt16,
    UInt32,
    UInt64,
)
from binderkit.interface.codec.structs import packed
from binderkit.parcel.objects import OwnedFd

__all__ = [
    "Char",
    "Codec",
    "Fd",
    "Float32",
    "FloatSize",
    "Int8",
    "Int16",
    "Int32",
    "Int64",
    "IntSize",
    "Mismatch",
    "MismatchType",
    "MismatchValue",
    "OwnedFd",
    "Plan",
    "Quick",
    "Reference",
    "UInt8",
    "UInt16",
    "UInt32",
    "UInt64",
    "closing_on_error",
    "codec_for",
    "owns_descriptors",
    "packed",
    "reader",
]
