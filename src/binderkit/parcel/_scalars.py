"""Scalars, strings, the interface token and the exception header of a MessageSequence.

Owns: the hot path of nearly every call. Hence the shape of these methods: the
struct functions are bound once at import, the good case is one ``try`` without
a test for anything that ``struct`` or ``None`` reports by itself, and the
failure path works out afterwards what was wrong.

Rules upheld (reference 1.1, 1.2): every item takes a multiple of 4 bytes,
little-endian; byte, short, char and boolean take a whole 32-bit word; a float
travels as a double; a number out of range is refused where OpenHarmony wraps
it; a read past the end raises where OpenHarmony returns 0.
"""

from __future__ import annotations

from codecs import utf_16_le_decode, utf_16_le_encode
from functools import lru_cache
from operator import index
from struct import Struct
from struct import error as StructError
from typing import Final, NoReturn

from binderkit import limits
from binderkit.errors import ParamTypeError, ParamValueError, ParcelReadError, RemoteError
from binderkit.parcel._base import Base, describe

__all__ = ["Scalars", "encode_string"]

_INT: Final = Struct("<i")
_LONG: Final = Struct("<q")
_DOUBLE: Final = Struct("<d")
_pack_int = _INT.pack
_pack_long = _LONG.pack
_pack_double = _DOUBLE.pack
_unpack_int = _INT.unpack_from
_unpack_long = _LONG.unpack_from
_unpack_double = _DOUBLE.unpack_from

_TRUE: Final = _pack_int(1)
_FALSE: Final = _pack_int(0)
_TAILS: Final = (b"\0\0\0\0", b"", b"\0\0")
"""The two-byte NUL and the padding, by the bytes of text modulo 4 (0 or 2)."""
_STRICT_POLICY: Final = 0x100
_TOKEN_HEADER: Final = _pack_int(_STRICT_POLICY) + _pack_int(0)
_FAILED: Final = (StructError, TypeError, OverflowError)


def encode_string(value: str) -> bytes:
    """Return the String16 of ``value``: int32 units, units, NUL, padding (reference 1.1).

    Lone surrogates pass, so that every string another language can hold round trips.

    Raises:
        TypeError: not a str; the caller names the method.
        ParamValueError: limits.MAX_STRING_UNITS units or more (401).
    """
    data = utf_16_le_encode(value, "surrogatepass")[0]
    size = len(data)
    if size >= 2 * limits.MAX_STRING_UNITS:
        raise ParamValueError(
            f"a string of {size // 2} UTF-16 units; it must be shorter than {limits.MAX_STRING_UNITS}: "
            "split it, or send it with write_raw_data_buffer"
        )
    return _pack_int(size >> 1) + data + _TAILS[size & 3]


@lru_cache(maxsize=256)
def _encode_token(token: str) -> bytes:
    return _TOKEN_HEADER + encode_string(token)


class Scalars(Base):
    """Adds the scalar reads and writes; use MessageSequence."""

    __slots__ = ()

    # --- numbers ------------------------------------------------------------------------------

    def write_byte(self, value: int) -> None:
        """Write -128 … 127 as a 32-bit word (reference 1.2).

        Raises:
            ParamTypeError, ParamValueError: not an int (a bool is none), or out of range (401).
            ParcelWriteError: received or reclaimed (1900009).
            TooBigError: over the limit of a transaction (1900009).
        """
        self._write_small("write_byte", value, -128, 127)

    def read_byte(self) -> int:
        """Return a byte, -128 … 127.

        Raises:
            ParcelReadError: end of the data, no byte, or reclaimed (1900010).
        """
        return self._read_small("a byte", -128, 127)

    def write_short(self, value: int) -> None:
        """Write -32 768 … 32 767 as a 32-bit word; raises as ``write_byte`` (reference 1.2)."""
        self._write_small("write_short", value, -32768, 32767)

    def read_short(self) -> int:
        """Return a short; raises as ``read_byte``."""
        return self._read_small("a short", -32768, 32767)

    def write_char(self, value: int) -> None:
        """Write 0 … 255 as a 32-bit word; raises as ``write_byte`` (reference 1.2: a char is a uint8)."""
        self._write_small("write_char", value, 0, 255)

    def read_char(self) -> int:
        """Return a char, 0 … 255; raises as ``read_byte``."""
        return self._read_small("a char", 0, 255)

    def write_int(self, value: int) -> None:
        """Write a signed 32-bit integer; raises as ``write_byte`` (reference 1.2)."""
        out = self._out
        try:
            data = _pack_int(value)
            if value is True or value is False:
                raise TypeError
            out += data
        except _FAILED as error:
            self._bad_integer("write_int", value, -0x80000000, 0x7FFFFFFF, error)
        if len(out) > self._limit:
            self._overflow(len(out) - 4)

    def read_int(self) -> int:
        """Return a signed 32-bit integer.

        Raises:
            ParcelReadError: end of the data, or reclaimed (1900010).
        """
        pos = self._pos
        try:
            (value,) = _unpack_int(self._in, pos)
        except _FAILED as error:
            self._short("an int", 4, error)
        self._pos = pos + 4
        return value  # type: ignore[no-any-return]

    def write_long(self, value: int) -> None:
        """Write a signed 64-bit integer, all of its range; raises as ``write_byte`` (reference 1.2)."""
        out = self._out
        try:
            data = _pack_long(value)
            if value is True or value is False:
                raise TypeError
            out += data
        except _FAILED as error:
            self._bad_integer("write_long", value, -(2**63), 2**63 - 1, error)
        if len(out) > self._limit:
            self._overflow(len(out) - 8)

    def read_long(self) -> int:
        """Return a signed 64-bit integer; raises as ``read_int``."""
        pos = self._pos
        try:
            (value,) = _unpack_long(self._in, pos)
        except _FAILED as error:
            self._short("a long", 8, error)
        self._pos = pos + 8
        return value  # type: ignore[no-any-return]

    def write_double(self, value: float) -> None:
        """Write an IEEE 754 double (reference 1.2).

        Raises:
            ParamTypeError, ParamValueError: no number (a bool is none), or an int too large for a double (401).
            ParcelWriteError: received or reclaimed (1900009).
            TooBigError: over the limit of a transaction (1900009).
        """
        out = self._out
        try:
            data = _pack_double(value)
            if value is True or value is False:
                raise TypeError
            out += data
        except _FAILED as error:
            self._bad_number("write_double", value, error)
        if len(out) > self._limit:
            self._overflow(len(out) - 8)

    def read_double(self) -> float:
        """Return a double; raises as ``read_int``."""
        pos = self._pos
        try:
            (value,) = _unpack_double(self._in, pos)
        except _FAILED as error:
            self._short("a double", 8, error)
        self._pos = pos + 8
        return value  # type: ignore[no-any-return]

    def write_float(self, value: float) -> None:
        """Write a float: a double on the wire, without loss; raises as ``write_double`` (reference 1.2)."""
        self.write_double(value)

    def read_float(self) -> float:
        """Return a float (a double on the wire); raises as ``read_int``."""
        return self.read_double()

    def write_boolean(self, value: bool) -> None:
        """Write True or False as a 32-bit 1 or 0 (reference 1.2).

        Raises:
            ParamTypeError: not a bool (401).
            ParcelWriteError: received or reclaimed (1900009).
            TooBigError: over the limit of a transaction (1900009).
        """
        out = self._out
        try:
            if value is True:
                out += _TRUE
            elif value is False:
                out += _FALSE
            else:
                raise TypeError
        except TypeError:
            self._writable()
            raise ParamTypeError(f"write_boolean takes a bool, got {describe(value)}; convert with bool()") from None
        if len(out) > self._limit:
            self._overflow(len(out) - 4)

    def read_boolean(self) -> bool:
        """Return a bool.

        Raises:
            ParcelReadError: end of the data, neither 0 nor 1 there, or reclaimed (1900010).
        """
        return self._read_small("a boolean", 0, 1) == 1

    def _write_small(self, what: str, value: int, low: int, high: int) -> None:
        out = self._out
        try:
            number = index(value)
            if value is True or value is False or not low <= number <= high:
                raise TypeError
            out += _pack_int(number)
        except _FAILED as error:
            self._bad_integer(what, value, low, high, error)
        if len(out) > self._limit:
            self._overflow(len(out) - 4)

    def _read_small(self, what: str, low: int, high: int) -> int:
        pos = self._pos
        try:
            (value,) = _unpack_int(self._in, pos)
        except _FAILED as error:
            self._short(what, 4, error)
        if not low <= value <= high:
            self._malformed(what, f"{value} is none ({low} … {high})")
        self._pos = pos + 4
        return value  # type: ignore[no-any-return]

    def _bad_number(self, what: str, value: object, error: Exception) -> NoReturn:
        self._writable()
        if isinstance(value, int) and not isinstance(value, bool):
            raise ParamValueError(f"{what}: {describe(value)} is too large for a double") from error
        raise ParamTypeError(f"{what} takes a number, got {describe(value)}") from error

    # --- strings ------------------------------------------------------------------------------

    def write_string(self, value: str) -> None:
        """Write a string of fewer than 40 960 UTF-16 units (reference 1.2).

        Raises:
            ParamTypeError, ParamValueError: not a str, or too long (401).
            ParcelWriteError: received or reclaimed (1900009).
            TooBigError: over the limit of a transaction (1900009).
        """
        out = self._out
        try:
            data = encode_string(value)
            out += data
        except TypeError as error:
            self._bad_string("write_string", value, error)
        if len(out) > self._limit:
            self._overflow(len(out) - len(data))

    def read_string(self) -> str:
        """Return a string.

        Raises:
            ParcelReadError: end of the data, a null string (length -1), no NUL after the text, or reclaimed (1900010).
        """
        pos = self._pos
        data = self._in
        try:
            (units,) = _unpack_int(data, pos)
        except _FAILED as error:
            self._short("a string", 8, error)
        start = pos + 4
        end = start + 2 * units
        after = start + (2 * units + 5 & ~3)
        if units < 0:
            self._malformed("a string", f"its length is {units}, a null string" if units == -1 else f"length {units}")
        if after > len(data):
            self._short("a string", after - pos)
        if data[end] or data[end + 1]:
            self._malformed("a string", f"no NUL after its {units} units")
        text = utf_16_le_decode(data[start:end], "surrogatepass", True)[0]
        self._pos = after
        return text

    def _bad_string(self, what: str, value: object, error: Exception) -> NoReturn:
        self._writable()
        raise ParamTypeError(f"{what} takes a str, got {describe(value)}") from error

    # --- interface token and exception header ------------------------------------------------------

    def write_interface_token(self, token: str) -> None:
        """Write the header of a request: which interface it is meant for (reference 1.1, 1.2).

        Args:
            token: the descriptor of the stub, fewer than 40 960 UTF-16 units.

        Raises:
            As ``write_string``.
        """
        out = self._out
        try:
            data = _encode_token(token)
            out += data
        except TypeError as error:
            self._bad_string("write_interface_token", token, error)
        if len(out) > self._limit:
            self._overflow(len(out) - len(data))

    def read_interface_token(self) -> str:
        """Return the interface token.

        Raises:
            ParcelReadError: no token at the read position, or reclaimed (1900010).
        """
        pos = self._pos
        try:
            (policy,) = _unpack_int(self._in, pos)
        except _FAILED as error:
            self._short("an interface token", 16, error)
        if policy != _STRICT_POLICY:
            self._malformed("an interface token", f"it starts with {policy:#x} instead of {_STRICT_POLICY:#x}")
        if pos + 8 > len(self._in):
            self._short("an interface token", 16)
        self._pos = pos + 8
        try:
            return self.read_string()
        except ParcelReadError:
            self._pos = pos
            raise

    def write_no_exception(self) -> None:
        """Write the header of a reply that holds results: int32 0 (reference 1.2).

        Raises:
            ParcelWriteError, TooBigError: as ``write_string`` (1900009).
        """
        self.write_int(0)

    def write_exception(self, code: int, text: str) -> None:
        """Write the header of a reply that holds an error instead of results.

        Args:
            code: any int32 but 0, which means "no exception".
            text: what ``read_exception`` raises at the other side.

        Raises:
            ParamValueError: ``code`` is 0; or as ``write_int`` and ``write_string``. Nothing is written then.
        """
        start = len(self._writable())
        self.write_int(code)
        try:
            if code == 0:
                raise ParamValueError("write_exception(0): 0 means no exception; call write_no_exception")
            self.write_string(text)
        except BaseException:
            self._truncate(start)
            raise

    def read_exception(self) -> None:
        """Read the header of a reply; returns when it announces results. Call it before reading them.

        Raises:
            RemoteError: the service wrote an exception; carries its code and text.
            ParcelReadError: no header at the read position, or reclaimed (1900010).
        """
        pos = self._pos
        code = self.read_int()
        if code == 0:
            return
        try:
            text = self.read_string()
        except ParcelReadError:
            self._pos = pos
            raise
        raise RemoteError(text or f"the service answered with exception {code}", code=code, text=text)
