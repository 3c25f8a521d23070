"""The bytes of sessions: frames over a stream. Pure.

Owns: the frame's header, the opening, the description of a stream's frame, and their checks.

    frame    length u32, kind u8, flags u8, 0 u16, number u32, then ``length`` bytes; little-endian
    OPEN     data type u8, then three texts: wanted name, own name, own package; each u16 length + UTF-8
    OPENED   code i32: 0, or a SoftBus code that says why not
    BYTES, MESSAGE   the application's bytes; ``number`` comes back in an ACK when the flag asks for it
    STREAM   the frame's description, u32 length of the extension, the extension, the data
    ACK      number; no bytes
    SHUTDOWN reason u8; nothing follows

Everything read here comes from another device: kinds, lengths and texts are checked before anything is allocated.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from binderkit import limits
from binderkit.errors import ParamValueError, ProtocolError
from binderkit.softbus.reasons import DataType, ShutdownReason

__all__ = [
    "HEADER_SIZE",
    "Header",
    "Kind",
    "Opening",
    "StreamFrameInfo",
    "decode_code",
    "decode_frame",
    "decode_header",
    "decode_opening",
    "decode_reason",
    "encode_code",
    "encode_frame",
    "encode_header",
    "encode_opening",
    "encode_reason",
]

_HEADER: Final = struct.Struct("<IBBHI")
HEADER_SIZE: Final = _HEADER.size
_CODE: Final = struct.Struct("<i")
_REASON: Final = struct.Struct("<B")
_LENGTH: Final = struct.Struct("<H")
_FRAME: Final = struct.Struct("<iqiiiiI")
"""frame type, time stamp, number, number of the slice, level, bit map, length of the extension."""
_ACK_WANTED: Final = 1


class Kind(IntEnum):
    """What a frame is."""

    OPEN = 1
    OPENED = 2
    BYTES = 3
    MESSAGE = 4
    STREAM = 5
    ACK = 6
    SHUTDOWN = 7


_LONGEST: Final = {
    Kind.OPEN: 1 + 3 * (_LENGTH.size + 4 * limits.MAX_SESSION_NAME),
    Kind.OPENED: _CODE.size,
    Kind.BYTES: limits.MAX_SESSION_BYTES,
    Kind.MESSAGE: limits.MAX_SESSION_MESSAGE,
    Kind.STREAM: limits.MAX_STREAM_FRAME + _FRAME.size,
    Kind.ACK: 0,
    Kind.SHUTDOWN: _REASON.size,
}
_KINDS: Final = frozenset(Kind)


@dataclass(frozen=True, slots=True)
class Header:
    """A frame's header. ``number`` counts what wants an acknowledgement (``ack``), else 0."""

    kind: Kind
    length: int
    number: int
    ack: bool


@dataclass(frozen=True, slots=True)
class Opening:
    """Who wants to talk to whom: the first frame of a session; all of it the other device's word.

    Attributes:
        wanted: name of the socket that is to listen.
        name, pkg_name: of the socket and application that ask.
        data_type: what the session carries.
    """

    wanted: str
    name: str
    pkg_name: str
    data_type: DataType


@dataclass(frozen=True, slots=True)
class StreamFrameInfo:
    """What describes one frame of a stream (reference 4.8); the numbers mean what the applications agree on.

    Attributes:
        frame_type, seq_num, seq_sub_num, level, bit_map: int32.
        time_stamp: int64.
    """

    frame_type: int = 0
    time_stamp: int = 0
    seq_num: int = 0
    seq_sub_num: int = 0
    level: int = 0
    bit_map: int = 0


def encode_header(kind: Kind, length: int, number: int = 0, *, ack: bool = False) -> bytes:
    """Return the header of a frame with ``length`` bytes."""
    return _HEADER.pack(length, kind, _ACK_WANTED if ack else 0, 0, number)


def decode_header(header: bytes | bytearray) -> Header:
    """Return a received header of HEADER_SIZE bytes.

    Raises:
        ProtocolError: unknown kind or flags, or longer than its kind may be (601).
    """
    length, kind, flags, zero, number = _HEADER.unpack(header)
    if kind not in _KINDS or flags & ~_ACK_WANTED or zero:
        raise ProtocolError(f"a session frame of kind {kind} with flags {flags:#x}; kinds 1 to 7 exist")
    longest = _LONGEST[Kind(kind)]
    if length > longest:
        raise ProtocolError(f"a session frame of kind {Kind(kind).name} with {length} bytes; it has at most {longest}")
    return Header(Kind(kind), length, number, bool(flags))


def encode_opening(opening: Opening) -> bytes:
    """Return the bytes of an opening whose texts were checked."""
    texts = (text.encode() for text in (opening.wanted, opening.name, opening.pkg_name))
    return bytes([opening.data_type]) + b"".join(_LENGTH.pack(len(text)) + text for text in texts)


def decode_opening(data: bytes | bytearray) -> Opening:
    """Return a received opening.

    Raises:
        ProtocolError: cut off, too long, no UTF-8, empty names, or an unknown type of data (601).
    """
    view = bytes(data)
    texts: list[str] = []
    at = 1
    for longest in (limits.MAX_SESSION_NAME, limits.MAX_SESSION_NAME, limits.MAX_PACKAGE_NAME):
        text, at = _text(view, at, longest)
        texts.append(text)
    if at != len(view):
        raise ProtocolError(f"{len(view) - at} bytes follow the opening of a session")
    try:
        data_type = DataType(view[0])
    except ValueError as error:
        raise ProtocolError(f"a session for data of type {view[0]}, which does not exist") from error
    if not texts[0] or not texts[1]:
        raise ProtocolError("a session between sockets without names")
    return Opening(texts[0], texts[1], texts[2], data_type)


def _text(data: bytes, at: int, longest: int) -> tuple[str, int]:
    begin = at + _LENGTH.size
    if begin > len(data):
        raise ProtocolError("the opening of a session is cut off")
    end = begin + int(_LENGTH.unpack_from(data, at)[0])
    if end > len(data):
        raise ProtocolError("the opening of a session is cut off")
    try:
        text = data[begin:end].decode()
    except UnicodeDecodeError as error:
        raise ProtocolError(f"a text in the opening of a session is not UTF-8: {error}") from error
    if len(text) > longest or not text.isprintable():
        raise ProtocolError(
            f"a text of {len(text)} characters in the opening of a session; {longest} printable ones go"
        )
    return text, end


def encode_code(code: int) -> bytes:
    """Return the bytes of an answer to an opening."""
    return _CODE.pack(code)


def decode_code(data: bytes | bytearray) -> int:
    """Return the code of a received answer.

    Raises:
        ProtocolError: not four bytes (601).
    """
    if len(data) != _CODE.size:
        raise ProtocolError(f"an answer to an opening has {_CODE.size} bytes, not {len(data)}")
    return int(_CODE.unpack(data)[0])


def encode_reason(reason: ShutdownReason) -> bytes:
    """Return the bytes of a shutdown."""
    return _REASON.pack(reason)


def decode_reason(data: bytes | bytearray) -> ShutdownReason:
    """Return the reason of a received shutdown; UNKNOWN for one that does not exist here.

    Raises:
        ProtocolError: not one byte (601).
    """
    if len(data) != _REASON.size:
        raise ProtocolError(f"a shutdown has {_REASON.size} byte, not {len(data)}")
    return ShutdownReason(data[0]) if data[0] in set(ShutdownReason) else ShutdownReason.UNKNOWN


def encode_frame(info: StreamFrameInfo, extension: bytes) -> bytes:
    """Return what goes before the data of a stream's frame.

    Raises:
        ParamValueError: a number does not fit (401).
    """
    try:
        head = _FRAME.pack(
            info.frame_type, info.time_stamp, info.seq_num, info.seq_sub_num, info.level, info.bit_map, len(extension)
        )
    except struct.error as error:
        raise ParamValueError(
            f"{info} does not fit: the time stamp is an int64, the others are int32: {error}"
        ) from error
    return head + extension


def decode_frame(data: bytes | bytearray) -> tuple[StreamFrameInfo, bytes, bytes]:
    """Return the description, the extension and the data of a received stream's frame.

    Raises:
        ProtocolError: cut off (601).
    """
    if len(data) < _FRAME.size:
        raise ProtocolError(f"a stream's frame has at least {_FRAME.size} bytes, not {len(data)}")
    *numbers, extension = _FRAME.unpack_from(data)
    begin = _FRAME.size + extension
    if begin > len(data):
        raise ProtocolError(f"a stream's frame of {len(data)} bytes with an extension of {extension}")
    view = memoryview(data)
    return StreamFrameInfo(*numbers), bytes(view[_FRAME.size : begin]), bytes(view[begin:])
