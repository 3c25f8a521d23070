"""numpy arrays.

Owns: their wire form: String16 of dtype.str, int32 dimensions, an int64 for each, then the elements in C order as a
block of bytes (buffers.py). Imported only for hints that name numpy, so that binderkit needs none.

A received array is read-only and points into the received data or shared memory: nothing is copied, and above 32 KiB
its sender could still change it; ``array.copy()`` is one's own. Rules upheld: only plain numbers (no objects, no
structures) and bools that are 0 or 1; sizes are checked against the block in whole numbers without limit before numpy
sees them.
"""

from __future__ import annotations

import re
from math import prod
from struct import error as StructError
from struct import pack, unpack_from
from typing import Any, Final

import numpy

from binderkit.interface.codec.base import Codec, MismatchType, MismatchValue
from binderkit.interface.codec.buffers import read_block, write_block
from binderkit.interface.codec.containers import read_tag
from binderkit.interface.codec.scalars import StrCodec
from binderkit.parcel import MessageSequence
from binderkit.parcel._arrays import buffer_bytes

__all__ = ["NdarrayCodec"]

_MAX_DIMENSIONS: Final = 32
_PLAIN: Final = re.compile(r"[<>|][biufc](1|2|4|8|16|32)")


class NdarrayCodec(Codec):
    """numpy.ndarray, of any plain number or of one.

    Args:
        scalar: the class of the elements the hint names (NDArray[numpy.float32]); subclasses of it are allowed
            (numpy.integer); None for any.
    """

    minimum = 16
    kinds = (numpy.ndarray,)

    def __init__(self, scalar: type | None) -> None:
        self._scalar = scalar
        self._text = StrCodec()

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append an array; one that is not in C order is copied first; see Codec."""
        if value.__class__ is not numpy.ndarray and value.__class__ is not numpy.memmap:
            raise MismatchType.of(f"{self.name()} (convert with numpy.asarray)", value)
        dtype = value.dtype
        if not _PLAIN.fullmatch(dtype.str) or value.ndim > _MAX_DIMENSIONS:
            raise MismatchValue("an array of plain numbers", f"one of dtype {dtype} and {value.ndim} dimensions")
        if self._scalar is not None and not issubclass(dtype.type, self._scalar):
            raise MismatchValue(self.name(), f"an array of {dtype}")
        self._text.write(out, dtype.str)
        target = out._out
        target += pack(f"<i{value.ndim}q", value.ndim, *value.shape)
        # As single bytes: not every dtype (">f4", float16) has a format a memoryview could cast.
        flat = numpy.ascontiguousarray(value).reshape(-1)
        write_block(out, buffer_bytes("ndarray", flat.view(numpy.uint8)))

    def read(self, data: MessageSequence) -> Any:
        """Return a read-only array; see Codec."""
        dtype = self._read_dtype(data)
        ndim = read_tag(data, "the dimensions of an ndarray", _MAX_DIMENSIONS + 1)
        try:
            shape = unpack_from(f"<{ndim}q", data._in, data._pos)
        except StructError as error:
            data._short("the shape of an ndarray", 8 * ndim, error)
        data._pos += 8 * ndim
        block = read_block(data)
        if (ndim and min(shape) < 0) or prod(shape) * dtype.itemsize != len(block):
            data._malformed("an ndarray", f"shape {shape} of {dtype} in {len(block)} bytes")
        try:
            array = numpy.ndarray(shape, dtype, block)
        except ValueError as error:  # no element, and dimensions whose product no address can hold
            data._malformed("an ndarray", str(error))
        if dtype.kind == "b" and len(block) and numpy.frombuffer(block, numpy.uint8).max() > 1:
            data._malformed("an ndarray", "a bool in it is neither 0 nor 1")
        return array

    def _read_dtype(self, data: MessageSequence) -> numpy.dtype[Any]:
        text = data.read_string()
        if not _PLAIN.fullmatch(text):
            data._malformed("the dtype of an ndarray", f"{text!r:.60} is no plain number")
        try:
            dtype = numpy.dtype(text)
        except TypeError as error:  # e.g. "<f1"
            data._malformed("the dtype of an ndarray", str(error))
        if self._scalar is not None and not issubclass(dtype.type, self._scalar):
            data._malformed(self.name(), f"its elements are {dtype}")
        return dtype

    def name(self) -> str:
        """Return e.g. "ndarray[float32]"."""
        return "ndarray" if self._scalar is None else f"ndarray[{self._scalar.__name__}]"
