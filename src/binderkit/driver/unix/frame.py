"""Frames of the socket driver: bytes <-> fields. Pure: no socket, no clock, no table.

Owns: every layout of PROTOCOL.md. One packet (SEQPACKET) is one frame.

    call, one-way, reply:  header (48) | data area | object table (24 each) | extensions
    control messages:      header (16) | payload

All received bytes are hostile: a decoder checks lengths first and either returns
or raises ProtocolError, nothing else.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple

from binderkit import limits
from binderkit.errors import ProtocolError

VERSION: Final = 1

# Kinds of frames on lanes.
CALL: Final = 1
ONEWAY: Final = 2
REPLY: Final = 3

# Kinds of messages on control connections.
HELLO: Final = 16
DECIDE: Final = 17
GRANTED: Final = 18
REFUSED: Final = 19
LANE: Final = 20
INTRODUCE: Final = 21
RELEASE: Final = 22
CANCEL: Final = 23
CREDIT: Final = 24
CREDIT_QUERY: Final = 25
SLOTS_FREED: Final = 26
GOODBYE: Final = 27
HOME_RECEIVED: Final = 28

# Flags of a lane frame.
FLAG_EXTENSIONS: Final = 1
"""Extensions follow the object table; a receiver skips those it does not know."""
FLAG_FAILED: Final = 2
"""A reply whose data area tells why the call failed (status in the code field)."""
KNOWN_FLAGS: Final = FLAG_EXTENSIONS | FLAG_FAILED

HEADER: Final = struct.Struct("<BBHIQiIQIHHII")
"""version, kind, flags, seq, handle, code/status, remaining µs, chain, data size, objects, fds, freed slot + 1,
extension bytes"""
HEADER_SIZE: Final = HEADER.size
ENTRY: Final = struct.Struct("<IHHQQ")
"""offset of the record in the data area, kind, index of its descriptor + 1, id, argument"""
EXTENSION: Final = struct.Struct("<HHI")
"""id, reserved (0), size of what follows"""
MAX_EXTENSIONS: Final = 4096
PACKET_MAX: Final = HEADER_SIZE + limits.INLINE_BODY + limits.MAX_OBJECTS_PER_MESSAGE * ENTRY.size + MAX_EXTENSIONS

# Kinds of entries of the object table.
OBJ_EXPORT: Final = 1
"""an object of the sender; id = its handle"""
OBJ_HOME: Final = 2
"""an object of the receiver that comes home; id = its handle"""
OBJ_INTRODUCED: Final = 3
"""an object of a third process; the descriptor is a connection to that process"""
OBJ_FD: Final = 4
"""a file descriptor"""
OBJ_SLOT: Final = 5
"""shared memory the receiver has mapped; id = slot, argument = bytes used"""
OBJ_NEW_SLOT: Final = 6
"""the same, mapped now: the descriptor is the memfd; argument = slot size << 32 | bytes used"""
BODY_OFFSET: Final = 0xFFFFFFFF
"""offset of the entry that carries the whole data area in shared memory"""

MAX_REASON: Final = 1024
"""bytes of the words that go with REFUSED and GOODBYE"""
FDS_FOLLOW: Final = b"FDS"
"""what the packet with the descriptors contains"""

RECORD: Final = 24
"""bytes of an object record in the data area (parcel/objects.py)"""
_WITH_FD: Final = frozenset({OBJ_INTRODUCED, OBJ_FD, OBJ_NEW_SLOT})
_SHARED: Final = frozenset({OBJ_SLOT, OBJ_NEW_SLOT})

LANE_SYNC: Final = 1
LANE_MUX: Final = 2
LANE_ONEWAY: Final = 3

CONTROL: Final = struct.Struct("<4sBBHII")
"""magic, version, kind, flags (0), count, payload size"""
CONTROL_SIZE: Final = CONTROL.size
MAGIC: Final = b"BKIT"
CONTROL_MAX: Final = 16 * limits.KIB
_HELLO: Final = struct.Struct("<HHI16s")
"""lowest and highest version spoken, features, node id"""
_PAIR: Final = struct.Struct("<QI")
MAX_PAIRS: Final = (CONTROL_MAX - CONTROL_SIZE) // _PAIR.size


class Entry(NamedTuple):
    """One row of an object table."""

    offset: int
    kind: int
    fd: int
    """index of the descriptor that belongs to it, -1 = none"""
    id: int
    argument: int


class Frame(NamedTuple):
    """A call, one-way call or reply."""

    kind: int
    flags: int
    seq: int
    handle: int
    code: int
    remaining: int
    chain: int
    freed: int
    data: bytes
    entries: tuple[Entry, ...]
    fds: int

    def shared_bytes(self) -> int:
        """Return the bytes that travel in shared memory beside the packet."""
        return sum(entry.argument & 0xFFFFFFFF for entry in self.entries if entry.kind in (OBJ_SLOT, OBJ_NEW_SLOT))


def decode(packet: bytes) -> Frame:
    """Take a lane packet apart.

    Raises:
        ProtocolError: anything that does not add up; nothing was allocated by a claimed length.
    """
    if len(packet) < HEADER_SIZE:
        raise ProtocolError(f"a frame of {len(packet)} bytes; the header alone has {HEADER_SIZE}")
    version, kind, flags, seq, handle, code, remaining, chain, size, objects, fds, freed, extra = HEADER.unpack_from(
        packet
    )
    if version != VERSION:
        raise ProtocolError(f"a frame of version {version}; this connection speaks {VERSION}")
    if not CALL <= kind <= REPLY:
        raise ProtocolError(f"a frame of unknown kind {kind}")
    if flags & ~KNOWN_FLAGS:
        raise ProtocolError(f"a frame with unknown flags {flags:#x}")
    if objects > limits.MAX_OBJECTS_PER_MESSAGE or fds > limits.MAX_FDS_PER_MESSAGE or extra > MAX_EXTENSIONS:
        raise ProtocolError(f"a frame that announces {objects} objects, {fds} descriptors, {extra} extension bytes")
    if bool(extra) != bool(flags & FLAG_EXTENSIONS):
        raise ProtocolError("a frame whose flags and extension size disagree")
    table = HEADER_SIZE + size
    end = table + objects * ENTRY.size + extra
    if end != len(packet):
        raise ProtocolError(f"a frame that announces {end} bytes came with {len(packet)}")
    if extra:
        _check_extensions(packet, end - extra, end)
    entries = _entries(packet, table, objects, fds, size) if objects else ()
    if fds and not objects:
        raise ProtocolError("a frame whose descriptors are not each used once")
    return Frame(kind, flags, seq, handle, code, remaining, chain, freed, packet[HEADER_SIZE:table], entries, fds)


def _entries(packet: bytes, table: int, objects: int, fds: int, size: int) -> tuple[Entry, ...]:
    entries = []
    used: set[int] = set()
    last = -1
    end = table + objects * ENTRY.size
    # Offsets ascend, so the entry of a body in shared memory is the last one. With one, the offsets are checked
    # once the body's size is known (translate.py).
    limit = BODY_OFFSET if ENTRY.unpack_from(packet, end - ENTRY.size)[0] == BODY_OFFSET else size - RECORD
    for offset, kind, fd, number, argument in ENTRY.iter_unpack(packet[table:end]):
        if not OBJ_EXPORT <= kind <= OBJ_NEW_SLOT:
            raise ProtocolError(f"an object of unknown kind {kind}")
        if offset <= last:
            raise ProtocolError("an object table that is not in ascending order")
        last = offset
        if offset > limit:
            raise ProtocolError(f"an object record at {offset} of a data area of {size} bytes")
        if (fd != 0) != (kind in _WITH_FD):
            raise ProtocolError(f"an object of kind {kind} and its descriptor do not belong together")
        if fd:
            if fd > fds or fd in used:
                raise ProtocolError("an object that names a descriptor which is not there, or another's")
            used.add(fd)
        if offset == BODY_OFFSET and (kind not in _SHARED or size):
            raise ProtocolError("a shared body beside an inline one, or of the wrong kind")
        entries.append(Entry(offset, kind, fd - 1, number, argument))
    if len(used) != fds:
        raise ProtocolError("a frame whose descriptors are not each used once")
    return tuple(entries)


def _check_extensions(packet: bytes, at: int, end: int) -> None:
    """Walk the extensions, all unknown to this version: each must end inside the frame."""
    while at < end:
        if at + EXTENSION.size > end:
            raise ProtocolError("a truncated extension header")
        _, _, size = EXTENSION.unpack_from(packet, at)
        at += EXTENSION.size + size
    if at != end:
        raise ProtocolError("an extension that reaches past the end of its frame")


def encode(
    kind: int,
    flags: int,
    seq: int,
    handle: int,
    code: int,
    remaining: int,
    chain: int,
    freed: int,
    data: bytes | bytearray | memoryview,
    entries: list[Entry],
    fds: int,
) -> bytes:
    """Put a lane packet together (the general form; plain calls are packed in place, see peer.py)."""
    header = HEADER.pack(
        VERSION, kind, flags, seq, handle, code, remaining, chain, len(data), len(entries), fds, freed, 0
    )
    table = b"".join(ENTRY.pack(e.offset, e.kind, e.fd + 1, e.id, e.argument) for e in entries)
    return b"".join((header, data, table))


class Control(NamedTuple):
    """A message of a control connection."""

    kind: int
    number: int
    payload: bytes


def encode_control(kind: int, payload: bytes = b"", count: int = 0) -> bytes:
    """Put a control message together."""
    return CONTROL.pack(MAGIC, VERSION, kind, 0, count, len(payload)) + payload


def decode_control(packet: bytes) -> Control:
    """Take a control message apart; raise ProtocolError when it does not add up."""
    if len(packet) < CONTROL_SIZE:
        raise ProtocolError(f"a control message of {len(packet)} bytes; the header alone has {CONTROL_SIZE}")
    magic, version, kind, flags, count, size = CONTROL.unpack_from(packet)
    if magic != MAGIC:
        raise ProtocolError("the other side does not speak binderkit's protocol")
    # HELLO has the same layout in every version, so that versions can be negotiated in words.
    if version != VERSION and kind not in (HELLO, REFUSED):
        raise ProtocolError(f"a control message of version {version}; this connection speaks {VERSION}")
    if not HELLO <= kind <= HOME_RECEIVED or flags:
        raise ProtocolError(f"a control message of unknown kind {kind}, flags {flags:#x}")
    if CONTROL_SIZE + size != len(packet):
        raise ProtocolError(f"a control message that announces {size} bytes came with {len(packet) - CONTROL_SIZE}")
    return Control(kind, count, packet[CONTROL_SIZE:])


def encode_hello(node: bytes) -> bytes:
    """Say which versions we speak and which process this is."""
    return encode_control(HELLO, _HELLO.pack(VERSION, VERSION, 0, node))


def decode_hello(message: Control) -> bytes:
    """Return the node id of a HELLO.

    Raises:
        ProtocolError: not a HELLO, or no common version; the text can be sent back.
    """
    if message.kind != HELLO or len(message.payload) < _HELLO.size:
        raise ProtocolError(f"expected HELLO, got kind {message.kind} with {len(message.payload)} bytes")
    lowest, highest, _, node = _HELLO.unpack_from(message.payload)
    if not lowest <= VERSION <= highest:
        raise ProtocolError(f"no common version: we speak {VERSION}, the other side {lowest} to {highest}")
    return bytes(node)


def encode_pairs(kind: int, pairs: list[tuple[int, int]]) -> bytes:
    """Encode a list of pairs; PROTOCOL.md says what they mean for each kind."""
    return encode_control(kind, b"".join(_PAIR.pack(*pair) for pair in pairs), len(pairs))


def decode_pairs(message: Control) -> list[tuple[int, int]]:
    """Return the pairs of such a message; raise ProtocolError when count and size disagree."""
    if message.number > MAX_PAIRS or message.number * _PAIR.size != len(message.payload):
        raise ProtocolError(f"a message of {message.number} pairs with {len(message.payload)} bytes")
    return [_PAIR.unpack_from(message.payload, at * _PAIR.size) for at in range(message.number)]
