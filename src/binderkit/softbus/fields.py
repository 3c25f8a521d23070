"""Lists of byte strings as one byte string. Pure.

Owns: the layout in which everything that devices sign, send while they pair,
or keep about each other is written: every field is its length (32 bits,
little-endian) and its bytes, nothing else.

Why not JSON: what is signed must have one spelling only, and what a stranger
sends must not be able to nest.

Rules upheld: a length is compared with what is there before anything is taken;
the number of fields is the reader's, not the sender's, choice; bytes left over
are a mistake.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from binderkit.errors import ProtocolError

__all__ = ["pack", "read_text", "unpack", "unpack_all"]

_LENGTH: Final = struct.Struct("<I")


def pack(*fields: bytes) -> bytes:
    """Return the fields as one byte string."""
    return b"".join(part for field in fields for part in (_LENGTH.pack(len(field)), field))


def unpack(data: bytes, count: int) -> tuple[bytes, ...]:
    """Return the ``count`` fields of ``data``.

    Raises:
        ProtocolError: another number of fields, or a length that reaches past the end (601).
    """
    fields = unpack_all(data, count)
    if len(fields) != count:
        raise ProtocolError(f"{len(fields)} fields came where {count} are expected")
    return fields


def unpack_all(data: bytes, limit: int) -> tuple[bytes, ...]:
    """Return all fields of ``data``, at most ``limit``.

    Raises:
        ProtocolError: more fields, or a length that reaches past the end (601).
    """
    return tuple(_fields(data, limit))


def _fields(data: bytes, limit: int) -> Iterable[bytes]:
    position, end = 0, len(data)
    while position < end:
        if limit == 0:
            raise ProtocolError("more fields came than are expected")
        limit -= 1
        if end - position < _LENGTH.size:
            raise ProtocolError("a field's length is cut off")
        (length,) = _LENGTH.unpack_from(data, position)
        position += _LENGTH.size
        if length > end - position:
            raise ProtocolError(f"a field claims {length} bytes, {end - position} are there")
        yield data[position : position + length]
        position += length


def read_text(field: bytes, limit: int) -> str:
    """Return a field as text of at most ``limit`` characters, all printable.

    Raises:
        ProtocolError: not UTF-8, too long, empty, or with characters that could deceive a reader's terminal (601).
    """
    try:
        text = field.decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"a text is not UTF-8: {error}") from None
    if not 0 < len(text) <= limit or not text.isprintable():
        raise ProtocolError(f"a text must have 1 to {limit} printable characters")
    return text
