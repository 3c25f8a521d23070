"""Parcels that a hostile caller could send: random ones, and valid ones that were damaged.

Owns: ``Message`` (a call that can be repeated), ``RawMessages`` (makes them) and the ways to damage one. A message is
whatever a driver could deliver: any bytes, with any objects, but their records never overlap, because every driver
checks that before a handler sees anything.

Everything random comes from one ``random.Random``, so that a seed stands for the whole run.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final, TypeAlias

from binderkit import limits
from binderkit.errors import ParamTypeError
from binderkit.ipc.option import MessageOption
from binderkit.ipc.proxy import (
    DUMP_TRANSACTION,
    INTERFACE_TRANSACTION,
    PING_TRANSACTION,
    SYNCHRONIZE_REFERENCE,
)
from binderkit.ipc.remote import RemoteObject
from binderkit.memory.ashmem import Ashmem
from binderkit.memory.pool import Slot
from binderkit.parcel import MessageSequence
from binderkit.parcel.objects import KIND_BLOB, KIND_FD, KIND_REMOTE, RECORD_SIZE, OwnedFd

__all__ = ["DAMAGES", "Message", "RawMessages", "Sample", "Things"]

Sample: TypeAlias = tuple[int, MessageSequence | bytes]
"""A valid call: its code and its arguments."""
Item: TypeAlias = tuple[int, int, object]
"""Where an object's record stands, its kind, the object."""

EDGES: Final = (
    0, 1, 2, 3, 4, 5, 7, 8, 31, 64, 255, 256, 0x7FFF, 0x8000, 0xFFFF, 32_768, 32_769, 40_959, 40_960, 102_400, 102_401,
    204_800, 0x00FFFFFF, 0x01000000, 0x10000000, 0x3FFFFFFF, 0x40000000, 0x7FFFFFFF,
    -1, -2, -4, -128, -129, -0x8000, -0x8001, -0x40000000, -0x80000000,
)  # fmt: skip
"""Words that are sizes, counts, tags or numbers at a limit."""
RESERVED: Final = (PING_TRANSACTION, DUMP_TRANSACTION, INTERFACE_TRANSACTION, SYNCHRONIZE_REFERENCE)
"""Codes every object answers by itself; a subclass has a part in DUMP only (on_dump)."""
_KIND_NAMES: Final = {KIND_REMOTE: "remote object", KIND_FD: "descriptor", KIND_BLOB: "shared memory"}


@dataclass(frozen=True)
class Message:
    """A call that can be sent any number of times.

    Attributes:
        code: the transaction code.
        body: the data area.
        objects: what travels along, by position.
        oneway: whether nobody waits for it.
    """

    code: int
    body: bytes
    objects: tuple[Item, ...] = ()
    oneway: bool = False

    @classmethod
    def of(cls, code: int, sequence: MessageSequence, things: Things) -> Message:
        """Return the message a written sequence makes; remote objects are replaced by ``things.remote``."""
        body = bytes(sequence)
        objects = [
            (offset, kind, _portable(kind, value, body, offset, things))
            for offset, (kind, value) in (sequence._objects or {}).items()
        ]
        return cls(code, body, tuple(objects))

    def sequence(self) -> MessageSequence:
        """Return the arguments, ready to be sent once."""
        sequence = MessageSequence()
        sequence._out += self.body
        sequence._objects = {
            offset: (kind, OwnedFd(value.dup()) if isinstance(value, OwnedFd) else value)
            for offset, kind, value in self.objects
        }
        return sequence

    @property
    def weight(self) -> int:
        """Bytes it makes the receiver hold: data and shared memory."""
        blobs = sum(value.nbytes for _, _, value in self.objects if isinstance(value, memoryview))
        return len(self.body) + blobs

    @property
    def has_descriptors(self) -> bool:
        """Whether a descriptor travels along."""
        return any(kind == KIND_FD for _, kind, _ in self.objects)

    def __str__(self) -> str:
        words = [self.body[at : at + 32].hex(" ", 4) for at in range(0, len(self.body), 32)]
        lines = [f"{32 * row:6}: {text}" for row, text in enumerate(words)]
        lines += [f"  object at {offset}: {_KIND_NAMES[kind]}" for offset, kind, _ in self.objects]
        return "\n".join(lines)


def _portable(kind: int, value: object, body: bytes, offset: int, things: Things) -> object:
    """Return an object that outlives the sequence it was written to."""
    if kind == KIND_REMOTE:
        return things.remote
    if isinstance(value, OwnedFd):
        things.watch(value.fileno())
        return OwnedFd(value.dup())
    if isinstance(value, Slot):
        (size,) = struct.unpack_from("<i", body, offset - 4)
        value = value.view(size)
    assert isinstance(value, memoryview)
    return memoryview(value.tobytes())


class _Agreeable(RemoteObject):
    """Says yes to every call, with an empty reply."""

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> bool:
        return True


class Things:
    """Objects that messages carry; ``close`` gives them back."""

    def __init__(self) -> None:
        self.remote: RemoteObject = _Agreeable("binderkit.testing.IAgreeable")
        # A file nobody else has, so that its duplicates can be counted.
        self.descriptor = OwnedFd(os.memfd_create("binderkit-fuzz"))
        self.file = open(self.descriptor.dup(), "r+b", buffering=0)
        self._ashmem: Ashmem | None = None
        self._watched: set[tuple[int, int]] = {_identity(self.descriptor.fileno())}

    @property
    def ashmem(self) -> Ashmem:
        """A small shared memory."""
        if self._ashmem is None:
            self._ashmem = Ashmem.create("fuzz", 4096)
        return self._ashmem

    def watch(self, fd: int) -> None:
        """Count the duplicates of ``fd``, too."""
        self._watched.add(_identity(fd))

    def duplicates(self) -> int:
        """Return how many descriptors of this process lead to what messages carry."""
        return sum(_identity(int(name)) in self._watched for name in os.listdir("/proc/self/fd"))

    def some(self, rng: Random) -> tuple[int, object]:
        """Return a kind and an object of it."""
        kind = rng.choice((KIND_REMOTE, KIND_FD, KIND_BLOB))
        if kind == KIND_REMOTE:
            return kind, self.remote
        if kind == KIND_FD:
            return kind, self.descriptor
        return kind, memoryview(bytes(rng.choice((0, 1, 4096, limits.RAW_DATA_INLINE + 1))))

    def close(self) -> None:
        """Close the file, the descriptor and the shared memory."""
        self.file.close()
        self.descriptor.close()
        if self._ashmem is not None:
            self._ashmem.close_ashmem()


def _identity(fd: int) -> tuple[int, int]:
    """Return what all duplicates of a descriptor have in common; (-1, -1) for one that is not open (any more)."""
    try:
        found = os.fstat(fd)
    except OSError:
        return -1, -1
    return found.st_dev, found.st_ino


class RawMessages:
    """Makes messages for an object of which only descriptor, codes and samples are known.

    Args:
        rng: the source of chance.
        descriptor: of the object's interface; messages begin with its token half of the time.
        codes: what the object may know.
        samples: valid calls.
        things: what messages carry.
    """

    def __init__(
        self, rng: Random, descriptor: str, codes: Sequence[int], samples: Iterable[Sample], things: Things
    ) -> None:
        self.rng = rng
        self.descriptor = descriptor
        self.codes = list(codes)
        self.things = things
        self.blind: set[str] = set()
        self.samples = [_sampled(sample, things) for sample in samples]

    def next(self) -> Message:
        """Return one more message."""
        rng = self.rng
        message = self.valid() if rng.random() < 0.6 else None
        if message is None:
            message = self.scrambled()
        elif rng.random() < 0.85:
            message = self.damaged(message)
        draw = rng.random()
        if draw < 0.01:
            return replace(message, code=rng.choice(RESERVED), oneway=False)
        if draw < 0.05:
            message = replace(message, code=self.wrong_code())
        return replace(message, oneway=rng.random() < 0.1)

    def valid(self) -> Message | None:
        """Return a message the object can handle, None when no such message is known."""
        return self.rng.choice(self.samples) if self.samples else None

    def damaged(self, message: Message) -> Message:
        """Return ``message`` after one to four mishaps."""
        for _ in range(self.rng.choice((1, 1, 1, 2, 3, 4))):
            message = self.rng.choice(DAMAGES)(self.rng, message, self.things)
        return message

    def scrambled(self) -> Message:
        """Return a message made of nothing that is known: a token or none, and bytes or well-formed values."""
        rng = self.rng
        sequence = MessageSequence()
        draw = rng.random()
        if draw < 0.55:
            sequence.write_interface_token(self.descriptor)
        elif draw < 0.65:
            sequence.write_interface_token(rng.choice(("", "x", "com.example.IWrong", self.descriptor + "2")))
        if rng.random() < 0.5:
            sequence._out += rng.randbytes(4 * rng.randrange(16))
        else:
            for _ in range(rng.randrange(8)):
                self.put_something(sequence)
        return Message.of(self.some_code(), sequence, self.things)

    def put_something(self, sequence: MessageSequence) -> None:
        """Write one well-formed value."""
        rng = self.rng
        draw = rng.randrange(9)
        if draw < 3:
            sequence.write_int(rng.choice(EDGES))
        elif draw == 3:
            sequence.write_long(rng.choice(EDGES) << rng.choice((0, 31)))
        elif draw == 4:
            sequence.write_double(rng.choice((0.0, -1.5, float("nan"), float("inf"), 1e308)))
        elif draw == 5:
            sequence.write_string(rng.choice(("", "a", "äöü", "\ud800", "x" * 100)))
        elif draw == 6:
            sequence.write_long_array([rng.choice(EDGES) for _ in range(rng.randrange(5))])
        elif draw == 7:
            sequence.write_raw_data_buffer(bytes(40_000), rng.choice((1, 3, 32_000)))
        elif rng.random() < 0.5:
            sequence.write_remote_object(self.things.remote)
        else:
            sequence.write_file_descriptor(self.things.descriptor)

    def some_code(self) -> int:
        """Return a code the object may know."""
        return self.rng.choice(self.codes)

    def wrong_code(self) -> int:
        """Return a code far from those the object may know."""
        low = min(max(self.codes) + 1000, 0x00800000)
        return self.rng.randrange(low, 0x00F00000)


def _sampled(sample: object, things: Things) -> Message:
    if not (isinstance(sample, tuple) and len(sample) == 2 and isinstance(sample[0], int)):
        raise ParamTypeError(f"a sample is a pair (code, MessageSequence or bytes), got {sample!r}")
    code, data = sample
    if isinstance(data, MessageSequence):
        return Message.of(code, data, things)
    if isinstance(data, bytes):
        return Message(code, data)
    raise ParamTypeError(f"the data of a sample is a MessageSequence or bytes, got {type(data).__name__}")


# --- damage: each returns another message ----------------------------------------------------------------


def cut(message: Message, start: int, end: int) -> Message:
    """Take the bytes from ``start`` to ``end`` out, with the objects that stood there."""
    objects = [
        (offset if offset < start else offset - (end - start), kind, value)
        for offset, kind, value in message.objects
        if offset + RECORD_SIZE <= start or offset >= end
    ]
    return replace(message, body=message.body[:start] + message.body[end:], objects=tuple(objects))


def insert(message: Message, at: int, more: bytes) -> Message:
    """Put bytes in between; an object whose record they split is lost."""
    objects = [
        (offset if offset < at else offset + len(more), kind, value)
        for offset, kind, value in message.objects
        if not offset < at < offset + RECORD_SIZE
    ]
    return replace(message, body=message.body[:at] + more + message.body[at:], objects=tuple(objects))


def _place(rng: Random, message: Message) -> int:
    """Return a position; mostly that of a word."""
    at = rng.randrange(len(message.body) + 1)
    return at if rng.random() < 0.1 else at & ~3


def _flip_a_bit(rng: Random, message: Message, things: Things) -> Message:
    if not message.body:
        return message
    body = bytearray(message.body)
    body[rng.randrange(len(body))] ^= 1 << rng.randrange(8)
    return replace(message, body=bytes(body))


def _replace_a_word(rng: Random, message: Message, things: Things) -> Message:
    at = _place(rng, message)
    word = struct.pack("<i", rng.choice(EDGES))
    return replace(message, body=message.body[:at] + word + message.body[at + 4 :])


def _truncate(rng: Random, message: Message, things: Things) -> Message:
    return cut(message, _place(rng, message), len(message.body))


def _lengthen(rng: Random, message: Message, things: Things) -> Message:
    return replace(message, body=message.body + rng.randbytes(rng.choice((1, 4, 64, 4096))))


def _remove(rng: Random, message: Message, things: Things) -> Message:
    start = _place(rng, message)
    return cut(message, start, min(len(message.body), start + rng.choice((1, 4, 8, 24, 32))))


def _insert_words(rng: Random, message: Message, things: Things) -> Message:
    words = [rng.choice(EDGES) for _ in range(rng.choice((1, 1, 2, 6)))]
    return insert(message, _place(rng, message), struct.pack(f"<{len(words)}i", *words))


def _repeat(rng: Random, message: Message, things: Things) -> Message:
    start = _place(rng, message)
    piece = message.body[start : start + rng.choice((4, 8, 24, 64))]
    return insert(message, start, piece * rng.choice((1, 2, 50)))


def _lose_an_object(rng: Random, message: Message, things: Things) -> Message:
    """Its record stays, the object is not there."""
    if not message.objects:
        return message
    lost = rng.randrange(len(message.objects))
    return replace(message, objects=message.objects[:lost] + message.objects[lost + 1 :])


def _swap_an_object(rng: Random, message: Message, things: Things) -> Message:
    """Another object stands in its place; in a message without objects one appears."""
    kind, value = things.some(rng)
    if not message.objects:
        return _slip_in(message, _place(rng, message), kind, value)
    at = rng.randrange(len(message.objects))
    swapped = (message.objects[at][0], kind, value)
    return replace(message, objects=(*message.objects[:at], swapped, *message.objects[at + 1 :]))


def _slip_in(message: Message, at: int, kind: int, value: object) -> Message:
    made = insert(message, at, bytes(RECORD_SIZE))
    return replace(made, objects=((at, kind, value),))


def _change_the_token(rng: Random, message: Message, things: Things) -> Message:
    """A letter of the interface token changes (it starts behind two words and a length)."""
    if len(message.body) < 16:
        return message
    at = 12 + 2 * rng.randrange(min(8, (len(message.body) - 12) // 2))
    return replace(message, body=message.body[:at] + b"\x3f" + message.body[at + 1 :])


DAMAGES: Final[Sequence[Callable[[Random, Message, Things], Message]]] = (
    _flip_a_bit, _replace_a_word, _replace_a_word, _replace_a_word, _truncate, _truncate, _lengthen, _remove,
    _insert_words, _repeat, _lose_an_object, _swap_an_object, _change_the_token,
)  # fmt: skip
