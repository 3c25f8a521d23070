"""Arrays of scalars and strings, and array buffers.

Owns: everything with a count in front. Rules upheld: the size of a write is
known and checked before anything is packed; a count from the wire is checked
against the bytes that are left before anything is unpacked; an array is
written whole or not at all.

Formats (reference 1.1, 1.2 and OpenHarmony's own bytes): int32 count, then
4 bytes per byte, short, char, int or boolean, 8 per long, float (a double) or
double. Array buffers: int32 count of elements, then packed and padded to 4,
except INT16, whose elements are widened to 32 bits.

Element checks run in C: packing as the narrow type proves the range, and a
bool can only hide where a packed 0 or 1 is found.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import error as StructError
from struct import pack, unpack_from
from typing import Any, Final, NoReturn, TypeVar, cast

from binderkit.errors import ParamTypeError, ParamValueError, ParcelReadError
from binderkit.parcel._base import describe
from binderkit.parcel._scalars import Scalars, encode_string
from binderkit.parcel.typecode import ELEMENT_FORMATS, ELEMENT_SIZES, TypeCode

__all__ = ["Arrays", "buffer_bytes"]

T = TypeVar("T")

_RANGES: Final = {
    "b": "-128 … 127",
    "h": "-32768 … 32767",
    "B": "0 … 255",
    "i": "a signed 32-bit integer",
    "q": "a signed 64-bit integer",
    "d": "a number that fits a double",
}
_BOOL_WORDS: Final = {letter: (pack("<" + letter, 0), pack("<" + letter, 1)) for letter in "iqd"}
_PROBES: Final = 16
"""Zeros and ones looked at one by one before looking at all elements is quicker."""
_BOOL_TYPES: Final = {bool}
_INTEGERS: Final = frozenset("bBhHiIlLqQ")
_FLOATS: Final = frozenset("fd")
_PADDING: Final = (b"", b"\0\0\0", b"\0\0", b"\0")


class Arrays(Scalars):
    """Adds arrays; use MessageSequence."""

    __slots__ = ()

    # --- arrays of numbers ------------------------------------------------------------------------

    def write_byte_array(self, values: Iterable[int]) -> None:
        """Write an array of -128 … 127, 4 bytes each (reference 1.2).

        Args:
            values: a list, tuple, array.array, numpy array or any other iterable.

        Raises:
            ParamTypeError, ParamValueError: no array, an element of the wrong type, or out of range (401).
            ParcelWriteError: received or reclaimed (1900009).
            TooBigError: over the limit of a transaction (1900009).
        """
        self._write_numbers("write_byte_array", values, "i", "b")

    def read_byte_array(self, out: list[int] | None = None) -> list[int]:
        """Return an array of bytes; given a list, fill that (its length becomes the array's) and return it.

        Raises:
            ParamTypeError: ``out`` is not a list (401).
            ParcelReadError: end of the data, no such array there, or reclaimed (1900010).
        """
        return self._read_numbers("a byte array", "i", "b", out)

    def write_short_array(self, values: Iterable[int]) -> None:
        """Write an array of shorts, 4 bytes each; as ``write_byte_array``."""
        self._write_numbers("write_short_array", values, "i", "h")

    def read_short_array(self, out: list[int] | None = None) -> list[int]:
        """Return an array of shorts; as ``read_byte_array``."""
        return self._read_numbers("a short array", "i", "h", out)

    def write_char_array(self, values: Iterable[int]) -> None:
        """Write an array of 0 … 255, 4 bytes each; as ``write_byte_array``."""
        self._write_numbers("write_char_array", values, "i", "B")

    def read_char_array(self, out: list[int] | None = None) -> list[int]:
        """Return an array of chars; as ``read_byte_array``."""
        return self._read_numbers("a char array", "i", "B", out)

    def write_int_array(self, values: Iterable[int]) -> None:
        """Write an array of 32-bit integers; as ``write_byte_array``."""
        self._write_numbers("write_int_array", values, "i", "i")

    def read_int_array(self, out: list[int] | None = None) -> list[int]:
        """Return an array of 32-bit integers; as ``read_byte_array``."""
        return self._read_numbers("an int array", "i", "i", out)

    def write_long_array(self, values: Iterable[int]) -> None:
        """Write an array of 64-bit integers; as ``write_byte_array``."""
        self._write_numbers("write_long_array", values, "q", "q")

    def read_long_array(self, out: list[int] | None = None) -> list[int]:
        """Return an array of 64-bit integers; as ``read_byte_array``."""
        return self._read_numbers("a long array", "q", "q", out)

    def write_double_array(self, values: Iterable[float]) -> None:
        """Write an array of doubles; as ``write_byte_array``."""
        self._write_numbers("write_double_array", values, "d", "d")

    def read_double_array(self, out: list[float] | None = None) -> list[float]:
        """Return an array of doubles; as ``read_byte_array``."""
        return self._read_numbers("a double array", "d", "d", out)

    def write_float_array(self, values: Iterable[float]) -> None:
        """Write an array of floats: doubles on the wire, without loss; as ``write_byte_array``."""
        self._write_numbers("write_float_array", values, "d", "d")

    def read_float_array(self, out: list[float] | None = None) -> list[float]:
        """Return an array of floats (doubles on the wire); as ``read_byte_array``."""
        return self._read_numbers("a float array", "d", "d", out)

    def write_boolean_array(self, values: Iterable[bool]) -> None:
        """Write an array of bools, 4 bytes each; as ``write_byte_array``, and only bools are taken."""
        values = _elements("write_boolean_array", values)
        out = self._room(4 + 4 * len(values))
        if not {*map(type, values)} <= _BOOL_TYPES:
            wrong = next(value for value in values if type(value) is not bool)
            raise ParamTypeError(f"write_boolean_array takes bools, got {describe(wrong)}; convert with bool()")
        out += pack(f"<i{len(values)}i", len(values), *values)

    def read_boolean_array(self, out: list[bool] | None = None) -> list[bool]:
        """Return an array of bools; as ``read_byte_array``."""
        _check_out("read_boolean_array", out)
        count, start, end = self._count("a boolean array", 4)
        numbers = unpack_from(f"<{count}i", self._in, start)
        if not {*numbers} <= {0, 1}:
            self._malformed("a boolean array", "an element is neither 0 nor 1")
        self._pos = end
        return _deliver([number == 1 for number in numbers], out)

    def _write_numbers(self, what: str, values: Iterable[float], wire: str, narrow: str) -> None:
        values = _elements(what, values)
        count = len(values)
        out = self._room(4 + count * (4 if wire == "i" else 8))
        try:
            if narrow != wire:
                pack(f"<{count}{narrow}", *values)
            data = pack(f"<i{count}{wire}", count, *values)
        except (StructError, TypeError, OverflowError) as error:
            _bad_element(what, values, narrow, error)
        if _holds_bool(data, wire, values):
            raise ParamTypeError(f"{what}: element {[*map(type, values)].index(bool)} is a bool, not a number")
        out += data

    def _read_numbers(self, what: str, wire: str, narrow: str, out: list[Any] | None) -> list[Any]:
        _check_out(what, out)
        count, start, end = self._count(what, 4 if wire == "i" else 8)
        values = unpack_from(f"<{count}{wire}", self._in, start)
        if narrow != wire:
            try:
                pack(f"<{count}{narrow}", *values)
            except StructError:
                self._malformed(what, f"an element is outside {_RANGES[narrow]}")
        self._pos = end
        return _deliver(list(values), out)

    def _count(self, what: str, width: int) -> tuple[int, int, int]:
        """Return count, start and end of an array at the read position after checking that all of it is there."""
        data = self._readable()
        start = self._pos + 4
        if start > len(data):
            self._short(what, 4)
        (count,) = unpack_from("<i", data, self._pos)
        if count < 0:
            self._malformed(what, f"its length is {count}")
        end = start + count * width
        if end > len(data):
            self._short(what, end - self._pos)
        return count, start, end

    # --- arrays of strings ------------------------------------------------------------------------

    def write_string_array(self, values: Iterable[str]) -> None:
        """Write an array of strings, each of fewer than 40 960 UTF-16 units (reference 1.2).

        Raises:
            ParamTypeError, ParamValueError: no array, an element that is no str, or too long (401).
            ParcelWriteError: received or reclaimed (1900009).
            TooBigError: over the limit of a transaction (1900009).
        """
        values = _elements("write_string_array", values)
        room = self._limit - len(self._writable()) - 4
        parts = [pack("<i", len(values))]
        for index, value in enumerate(values):
            try:
                parts.append(encode_string(value))
            except TypeError as error:
                raise ParamTypeError(f"write_string_array: element {index} is {describe(value)}, no str") from error
            room -= len(parts[-1])
            if room < 0:
                break
        data = b"".join(parts)
        out = self._room(len(data))
        out += data

    def read_string_array(self, out: list[str] | None = None) -> list[str]:
        """Return an array of strings; given a list, fill that and return it.

        Raises:
            ParamTypeError: ``out`` is not a list (401).
            ParcelReadError: end of the data, no such array there, or reclaimed (1900010).
        """
        _check_out("read_string_array", out)
        start = self._pos
        count, self._pos, _ = self._count("a string array", 8)
        try:
            values = [self.read_string() for _ in range(count)]
        except ParcelReadError:
            self._pos = start
            raise
        return _deliver(values, out)

    # --- array buffers ------------------------------------------------------------------------------

    def write_array_buffer(self, buffer: Any, type_code: int) -> None:
        """Write the elements of a buffer in one copy (reference 1.2).

        Args:
            buffer: bytes, bytearray, memoryview, array.array, numpy array or anything else with a C-contiguous
                buffer. A buffer of single bytes is taken as the elements' bytes, any other must
                have little-endian elements of the size and sort (integer, float) that ``type_code`` says.
            type_code: a TypeCode.

        Raises:
            ParamTypeError: no such buffer, or other elements (401).
            ParamValueError: no TypeCode, or a length that is no multiple of the element size (401).
            ParcelWriteError: received or reclaimed (1900009).
            TooBigError: over the limit of a transaction (1900009).
        """
        code = _type_code("write_array_buffer", type_code)
        view = buffer_bytes("write_array_buffer", buffer)
        _check_elements("write_array_buffer", buffer, code)
        width = ELEMENT_SIZES[code]
        count, rest = divmod(len(view), width)
        if rest:
            raise ParamValueError(f"write_array_buffer: {len(view)} bytes are no multiple of {width} ({code.name})")
        size = count * (4 if code is TypeCode.INT16_ARRAY else width)
        out = self._room(4 + (size + 3 & ~3))
        out += pack("<i", count)
        if code is TypeCode.INT16_ARRAY:
            out += pack(f"<{count}i", *unpack_from(f"<{count}h", view))
            return
        out += view
        out += _PADDING[size & 3]

    def read_array_buffer(self, type_code: int) -> memoryview:
        """Return the elements as a read-only memoryview whose format is that of ``type_code``.

        In a received sequence it points into the received data (no copy; it keeps that alive; not always aligned);
        numpy.frombuffer and array.array take it as it is. INT16 elements, and data this very sequence still writes,
        are copied.

        Raises:
            ParamTypeError, ParamValueError: no TypeCode (401).
            ParcelReadError: end of the data, no such array there, or reclaimed (1900010).
        """
        code = _type_code("read_array_buffer", type_code)
        letter = ELEMENT_FORMATS[code]
        if code is TypeCode.INT16_ARRAY:
            numbers = self._read_numbers("an array buffer", "i", letter, None)
            return memoryview(pack(f"<{len(numbers)}h", *numbers)).cast("h")
        _, start, end = self._count("an array buffer", ELEMENT_SIZES[code])
        after = start + (end - start + 3 & ~3)
        if after > len(self._in):
            self._short("an array buffer", after - self._pos)
        view = self._slice(start, end)
        self._pos = after
        return cast(memoryview, cast(Any, view).cast(letter))

    def _slice(self, start: int, end: int) -> memoryview:
        """Return a read-only view of received data, or of a copy of data that is still written.

        A view of a bytearray would keep it from growing.
        """
        data = self._in
        if data is self._out:
            return memoryview(bytes(data[start:end]))
        return memoryview(data)[start:end].toreadonly()


def buffer_bytes(what: str, buffer: Any) -> memoryview:
    """Return the bytes of a caller's buffer without copying.

    Raises:
        ParamTypeError: no C-contiguous buffer (401).
    """
    try:
        view = memoryview(buffer)
    except TypeError as error:
        raise ParamTypeError(f"{what} takes a buffer (bytes, memoryview, array …), got {describe(buffer)}") from error
    if not view.c_contiguous:
        raise ParamTypeError(f"{what}: the buffer is not C-contiguous; copy it first")
    if view.nbytes == 0:  # a shape with a zero in it cannot be cast
        return memoryview(b"")
    return view.cast("B")


def _check_elements(what: str, buffer: Any, code: TypeCode) -> None:
    """Refuse a typed buffer whose elements are not what ``code`` says; single bytes are taken as raw memory."""
    view = memoryview(buffer)
    letters = _FLOATS if ELEMENT_FORMATS[code] in _FLOATS else _INTEGERS
    if view.itemsize == 1 or (view.itemsize == ELEMENT_SIZES[code] and view.format.lstrip("@=<") in letters):
        return
    raise ParamTypeError(
        f"{what}: elements of {view.itemsize} bytes in format {view.format!r} are not {code.name}; convert them first"
    )


def _type_code(what: str, type_code: int) -> TypeCode:
    if isinstance(type_code, bool) or not isinstance(type_code, int):
        raise ParamTypeError(f"{what} takes a TypeCode, got {describe(type_code)}")
    try:
        return TypeCode(type_code)
    except ValueError as error:
        raise ParamValueError(f"{what}: {type_code} is no TypeCode (0 … {max(TypeCode)})") from error


def _elements(what: str, values: Iterable[T]) -> Sequence[T]:
    if type(values) is list or type(values) is tuple:
        return values
    if isinstance(values, str):
        raise ParamTypeError(f"{what} takes an array, got {describe(values)}")
    to_list = getattr(values, "tolist", None)  # array.array, memoryview and numpy make plain numbers in C
    try:
        return list(values if to_list is None else to_list())
    except TypeError as error:
        raise ParamTypeError(f"{what} takes an array, got {describe(values)}") from error


def _holds_bool(data: bytes, wire: str, values: Sequence[object]) -> bool:
    """Return whether an element is a bool, looking only at those packed as 0 or 1 while they are few.

    Args:
        data: int32 count and the packed elements.
    """
    words = _BOOL_WORDS[wire]
    width = len(words[0])
    for word in words:
        at = data.find(word, 4)
        for _ in range(_PROBES):
            if at < 0:
                break
            index, rest = divmod(at - 4, width)
            if not rest and type(values[index]) is bool:
                return True
            at = data.find(word, at + 1)
        else:
            return bool in map(type, values)
    return False


def _bad_element(what: str, values: Sequence[object], narrow: str, error: Exception) -> NoReturn:
    for index, value in enumerate(values):
        try:
            pack("<" + narrow, value)
        except (StructError, TypeError, OverflowError):
            number = hasattr(value, "__index__") or (narrow == "d" and hasattr(value, "__float__"))
            kind = ParamValueError if number else ParamTypeError
            raise kind(f"{what}: element {index} is {describe(value)}, expected {_RANGES[narrow]}") from error
    raise ParamTypeError(f"{what}: the elements changed while they were written") from error


def _check_out(what: str, out: list[Any] | None) -> None:
    if out is not None and not isinstance(out, list):
        raise ParamTypeError(f"{what}: the array to fill must be a list, got {describe(out)}")


def _deliver(values: list[T], out: list[T] | None) -> list[T]:
    if out is None:
        return values
    out[:] = values
    return out
