"""Messages between the dbinder services of two devices <-> bytes. Pure.

Owns: the header, the objects of a message, and the reply. Little-endian, versioned. Everything received is hostile:
lengths are checked against what is there before anything is made of them, counts against limits.

    message  header (76 bytes), data area, objects
    reply    header (40 bytes), failure texts or data area, objects
    object   offset u32, kind u8, what belongs to the kind

An object of the message's sender travels as (owner, id, flags, descriptor): the owner's UDID, so that a receiver can
refuse what does not belong to the sender; the id is the owner's number for it (64 bits, random start); flags say
whether it is a registered system ability. Raw data and the contents of Ashmem travel inside the message while there is
room, else as the ticket of a stream (softbus/bulk.py).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from struct import Struct
from struct import error as StructError
from typing import Any, Final

from binderkit import limits
from binderkit.errors import ProtocolError
from binderkit.ipc.dispatch import MAX_ERROR_TEXT, MAX_TRACEBACK, Failure
from binderkit.parcel.objects import RECORD_SIZE

__all__ = [
    "Action",
    "Memory",
    "Message",
    "ObjectRef",
    "Reply",
    "Value",
    "decode_message",
    "decode_reply",
    "encode_message",
    "encode_reply",
]

VERSION: Final = 1
_HEADER: Final = Struct("<BBHQQQQIiqQQIHH")
_REPLY: Final = Struct("<BBHQiIIIIIHH")
_ENTRY: Final = Struct("<IB")
_OBJECT: Final = Struct("<32sQBI")
_BLOB: Final = Struct("<IBI")
_REPLY_KIND: Final = 0x80
_MAX_TICKET: Final = 1024
_MAX_DESCRIPTOR: Final = 4 * limits.MAX_STRING_UNITS
_KIND_OBJECT: Final = 1
_KIND_RAW: Final = 2
_KIND_ASHMEM: Final = 3
_FLAG_ABILITY: Final = 1
_FLAG_TICKET: Final = 1
_FLAG_READ_ONLY: Final = 2


class Action(IntEnum):
    """What a message asks for."""

    CALL = 1
    """Call an object; ``code`` is the transaction."""
    ONEWAY = 2
    GET = 3
    """Give me your system ability ``code``."""
    WATCH = 4
    """Tell me when ``object_id`` dies."""
    RELEASE = 5
    """Take back ``code`` of my references to ``object_id``."""
    OBITUARY = 6
    """My object ``object_id``, which you watch, is dead."""
    SETTLE = 7
    """What became of my message ``object_id``, whose reply I never got? It shall have no further effect."""


@dataclass(slots=True, frozen=True)
class ObjectRef:
    """An object of the sender.

    Attributes:
        owner: UDID of its device; object_id: its number there.
        ability: whether it is a registered system ability.
        descriptor: its interface, "" when the sender was never told.
    """

    owner: str
    object_id: int
    ability: bool
    descriptor: str


@dataclass(slots=True, frozen=True)
class Memory:
    """Raw data, or the contents of an Ashmem.

    Attributes:
        size: bytes.
        content: the bytes, or the ticket they are fetched with.
        is_ticket: which of the two.
        ashmem: whether it is an Ashmem; read_only: whether nobody may write it.
    """

    size: int
    content: bytes | memoryview
    is_ticket: bool
    ashmem: bool
    read_only: bool = False


Value = ObjectRef | Memory


@dataclass(slots=True)
class Message:
    """A request.

    Attributes:
        own: the sender's generation towards the receiver; known: the receiver's as the sender knows it, 0 if not yet.
        number: the sender's number for this message.
        object_id, code: see Action.
        pid, uid, token: the calling process, as the sender's device says.
        chain: id of the call chain.
        data: data area; objects: offset of each record -> what it stands for, ascending.
    """

    action: Action
    own: int
    known: int
    number: int
    object_id: int = 0
    code: int = 0
    pid: int = -1
    uid: int = -1
    token: int = 0
    chain: int = 0
    data: bytes | bytearray | memoryview = b""
    objects: dict[int, Value] = field(default_factory=dict)


@dataclass(slots=True)
class Reply:
    """What came of a request: ``failure``, or data and objects.

    Attributes:
        own: the generation of whoever replies.
    """

    own: int
    failure: Failure | None = None
    data: bytes | bytearray | memoryview = b""
    objects: dict[int, Value] = field(default_factory=dict)


def encode_message(message: Message) -> bytes:
    """Return the bytes of a message."""
    header = _HEADER.pack(
        VERSION,
        message.action,
        0,
        message.own,
        message.known,
        message.number,
        message.object_id,
        message.code,
        message.pid,
        message.uid,
        message.token,
        message.chain,
        len(message.data),
        len(message.objects),
        0,
    )
    if not message.objects:
        return header + message.data
    return b"".join([header, message.data, *_encode_objects(message.objects)])


def decode_message(packet: bytes) -> Message:
    """Return the message in ``packet``; its data is a view into it.

    Raises:
        ProtocolError: the bytes are no message of this version (601).
    """
    if len(packet) < _HEADER.size:
        raise ProtocolError(f"a message of {len(packet)} bytes; the header alone has {_HEADER.size}")
    version, action, _, own, known, number, target, code, pid, uid, token, chain, size, count, _ = _HEADER.unpack_from(
        packet
    )
    if version != VERSION:
        raise ProtocolError(f"a message of version {version}, this device speaks {VERSION}; update the older device")
    if action not in _ACTIONS:
        raise ProtocolError(f"an unknown action {action}")
    data, objects = _decode_body(packet, _HEADER.size, size, count)
    return Message(_ACTIONS[action], own, known, number, target, code, pid, uid, token, chain, data, objects)


_ACTIONS: Final = {int(action): action for action in Action}


def encode_reply(reply: Reply) -> bytes:
    """Return the bytes of a reply; texts that are too long are cut."""
    failure = reply.failure
    if failure is None:
        header = _REPLY.pack(VERSION, _REPLY_KIND, 0, reply.own, 0, 0, 0, 0, len(reply.data), 0, len(reply.objects), 0)
        if not reply.objects:
            return header + reply.data
        return b"".join([header, reply.data, *_encode_objects(reply.objects)])
    texts = [
        _utf8(failure.type_name[:MAX_ERROR_TEXT]),
        _utf8(failure.text[:MAX_ERROR_TEXT]),
        _utf8(failure.remote_traceback[-MAX_TRACEBACK:]),
    ]
    sizes = [len(text) for text in texts]
    return b"".join([_REPLY.pack(VERSION, _REPLY_KIND, 0, reply.own, failure.status, *sizes, 0, 0, 0, 0), *texts])


def decode_reply(packet: bytes) -> Reply:
    """Return the reply in ``packet``; its data is a view into it.

    Raises:
        ProtocolError: the bytes are no reply of this version (601).
    """
    if len(packet) < _REPLY.size:
        raise ProtocolError(f"a reply of {len(packet)} bytes; the header alone has {_REPLY.size}")
    version, kind, _, own, status, name, text, trace, size, _, count, _ = _REPLY.unpack_from(packet)
    if version != VERSION or kind != _REPLY_KIND:
        raise ProtocolError(f"a reply of version {version} and kind {kind}, expected {VERSION} and {_REPLY_KIND}")
    if status == 0:
        if name or text or trace:
            raise ProtocolError("a reply that succeeded and says why it failed")
        data, objects = _decode_body(packet, _REPLY.size, size, count)
        return Reply(own, None, data, objects)
    if size or count or max(name, text) > 4 * MAX_ERROR_TEXT or trace > 4 * MAX_TRACEBACK:
        raise ProtocolError("a failure with data, or with texts over the limit")
    reader = _Reader(packet, _REPLY.size)
    failure = Failure(status, reader.text(name), reader.text(text), reader.text(trace))
    reader.end()
    return Reply(own, failure)


def _encode_objects(objects: dict[int, Value]) -> list[bytes | memoryview]:
    parts: list[bytes | memoryview] = []
    for offset, value in objects.items():
        if isinstance(value, ObjectRef):
            descriptor = _utf8(value.descriptor)
            parts.append(_ENTRY.pack(offset, _KIND_OBJECT))
            flags = _FLAG_ABILITY if value.ability else 0
            parts.append(_OBJECT.pack(bytes.fromhex(value.owner), value.object_id, flags, len(descriptor)))
            parts.append(descriptor)
            continue
        parts.append(_ENTRY.pack(offset, _KIND_ASHMEM if value.ashmem else _KIND_RAW))
        flags = (_FLAG_TICKET if value.is_ticket else 0) | (_FLAG_READ_ONLY if value.read_only else 0)
        parts.append(_BLOB.pack(value.size, flags, len(value.content)))
        parts.append(value.content)
    return parts


def _decode_body(packet: bytes, at: int, size: int, count: int) -> tuple[memoryview, dict[int, Value]]:
    if size > limits.RPC_MAX or count > limits.MAX_OBJECTS_PER_MESSAGE:
        raise ProtocolError(f"{size} bytes of data and {count} objects in one message")
    reader = _Reader(packet, at)
    data = reader.view(size)
    objects: dict[int, Value] = {}
    end = 0
    for _ in range(count):
        offset, kind = reader.unpack(_ENTRY)
        # Room for the record, and for the four bytes raw data has in front and an Ashmem behind.
        if offset < end or offset + RECORD_SIZE > size:
            raise ProtocolError(f"an object record at {offset}, outside the data or over another one")
        end = offset + RECORD_SIZE
        decode = _DECODERS.get(kind)
        if decode is None:
            raise ProtocolError(f"an object of unknown kind {kind}")
        objects[offset] = decode(reader)
        _check_size(data, offset, objects[offset])
    reader.end()
    return data, objects


def _check_size(data: memoryview, offset: int, value: Value) -> None:
    """The size of memory stands in the data area too; both must agree."""
    if isinstance(value, ObjectRef):
        return
    at = offset + RECORD_SIZE if value.ashmem else offset - 4
    if at < 0 or int.from_bytes(data[at : at + 4], "little") != value.size:
        raise ProtocolError(f"memory of {value.size} bytes whose data area says otherwise")


def _decode_object(reader: _Reader) -> ObjectRef:
    owner, object_id, flags, length = reader.unpack(_OBJECT)
    if length > _MAX_DESCRIPTOR:
        raise ProtocolError(f"a descriptor of {length} bytes")
    descriptor = reader.text(length)
    if len(descriptor) >= limits.MAX_STRING_UNITS:
        raise ProtocolError(f"a descriptor of {len(descriptor)} characters")
    return ObjectRef(owner.hex(), object_id, bool(flags & _FLAG_ABILITY), descriptor)


def _decode_memory(reader: _Reader, *, ashmem: bool) -> Memory:
    size, flags, length = reader.unpack(_BLOB)
    is_ticket = bool(flags & _FLAG_TICKET)
    if not 0 < size <= limits.MAX_RAW_DATA:
        raise ProtocolError(f"memory of {size} bytes, the limit is {limits.MAX_RAW_DATA}")
    if (length > _MAX_TICKET) if is_ticket else (length != size):
        raise ProtocolError(f"memory of {size} bytes in {length} bytes")
    return Memory(size, reader.view(length), is_ticket, ashmem, bool(flags & _FLAG_READ_ONLY))


_DECODERS: Final[dict[int, Callable[[_Reader], Value]]] = {
    _KIND_OBJECT: _decode_object,
    _KIND_RAW: lambda reader: _decode_memory(reader, ashmem=False),
    _KIND_ASHMEM: lambda reader: _decode_memory(reader, ashmem=True),
}


class _Reader:
    """Reads on from a position; never past the end."""

    def __init__(self, packet: bytes, at: int) -> None:
        self._view = memoryview(packet)
        self._at = at

    def unpack(self, layout: Struct) -> tuple[Any, ...]:
        try:
            values = layout.unpack_from(self._view, self._at)
        except StructError:
            raise ProtocolError("a message that ends in the middle of an object") from None
        self._at += layout.size
        return values

    def view(self, size: int) -> memoryview:
        end = self._at + size
        if end > len(self._view):
            raise ProtocolError(f"{size} bytes announced where {len(self._view) - self._at} are left")
        view = self._view[self._at : end]
        self._at = end
        return view

    def text(self, size: int) -> str:
        try:
            return str(self.view(size), "utf-8")
        except UnicodeDecodeError:
            raise ProtocolError("a text that is no UTF-8") from None

    def end(self) -> None:
        if self._at != len(self._view):
            raise ProtocolError(f"{len(self._view) - self._at} bytes behind the end of a message")


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")
