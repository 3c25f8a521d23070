"""The header of a request between devices, and the answer to it, as bytes. Pure.

Owns: ``CallHeader``, ``OnewayHeader``, ``Answer`` and their codecs.

    call, control   version u8, 0 u8, slot u16, sequence u64, boot of the sender 8, boot of the receiver 8,
                    remaining time u32 (microseconds)
    one-way         version u8, 0 u8, 0 u16, sequence u64, boot of the sender 8, boot of the receiver 8, stream u64
    answer          status u8, then: TAKEN: the result; FAILED: code i32, three texts (u32 size, UTF-8): type, text,
                    traceback; anything else: nothing

Everything little-endian. The boots are what makes a repeat safe: a receiver
that was started anew must not execute what its predecessor may have executed.

Rules upheld: any bytes either decode or raise ProtocolError; sizes are checked
before anything is cut out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from binderkit import limits
from binderkit.errors import ProtocolError
from binderkit.ipc.dispatch import MAX_ERROR_TEXT, MAX_TRACEBACK, Failure

__all__ = [
    "Answer",
    "CallHeader",
    "OnewayHeader",
    "Status",
    "decode_answer",
    "decode_call",
    "decode_oneway",
    "encode_call",
    "encode_failure",
    "encode_oneway",
    "encode_result",
    "encode_status",
]

VERSION: Final = 1
_CALL: Final = struct.Struct("<BBHQ8s8sI")
_ONEWAY: Final = struct.Struct("<BBHQ8s8sQ")
_CODE: Final = struct.Struct("<i")
_SIZE: Final = struct.Struct("<I")
_LONGEST: Final = (MAX_ERROR_TEXT * 4, MAX_ERROR_TEXT * 4, MAX_TRACEBACK * 4)
"""Bytes of the three texts of a failure: four per character."""


class Status(IntEnum):
    """How a request was received."""

    TAKEN = 0
    FAILED = 1
    """The handler raised."""
    STALE = 2
    """A repeat of something long answered, or of an earlier life of the sender: not executed (again)."""
    OTHER_BOOT = 3
    """Meant for an earlier life of the receiver: not executed by this one."""
    LOST = 4
    """Executed, but its reply is no longer kept."""
    MALFORMED = 5
    """The header made no sense: not executed."""


@dataclass(frozen=True, slots=True)
class CallHeader:
    """What stands before a call: which one it is (slot and sequence), of and to which boot, and its time."""

    slot: int
    sequence: int
    source_boot: bytes
    target_boot: bytes
    remaining: float


@dataclass(frozen=True, slots=True)
class OnewayHeader:
    """What stands before a one-way message: its place in a stream, of and to which boot."""

    stream: int
    sequence: int
    source_boot: bytes
    target_boot: bytes


@dataclass(frozen=True, slots=True)
class Answer:
    """A decoded answer: ``result`` when TAKEN, ``failure`` when FAILED."""

    status: Status
    result: bytes = b""
    failure: Failure | None = None


def encode_call(slot: int, sequence: int, source_boot: bytes, target_boot: bytes, remaining: float) -> bytes:
    """Return the header of a call; ``remaining`` is seconds, at most limits.MAX_WAIT_TIME."""
    return _CALL.pack(VERSION, 0, slot, sequence, source_boot, target_boot, max(1, int(remaining * 1e6)))


def decode_call(header: bytes) -> CallHeader:
    """Return what a call's header says.

    Raises:
        ProtocolError: wrong size, version, slot or time (601).
    """
    if len(header) != _CALL.size:
        raise ProtocolError(f"the header of a call has {len(header)} bytes; {_CALL.size} were expected")
    version, _, slot, sequence, source, target, micros = _CALL.unpack(header)
    _check_version(version)
    if slot >= limits.RPC_CALLS_PER_DEVICE:
        raise ProtocolError(f"slot {slot} of a call; there are {limits.RPC_CALLS_PER_DEVICE}")
    if not 0 < micros <= limits.MAX_WAIT_TIME * 1_000_000:
        raise ProtocolError(f"a call that may take {micros} µs; 1 to {limits.MAX_WAIT_TIME} s were expected")
    return CallHeader(slot, sequence, source, target, micros / 1e6)


def encode_oneway(stream: int, sequence: int, source_boot: bytes, target_boot: bytes) -> bytes:
    """Return the header of a one-way message."""
    return _ONEWAY.pack(VERSION, 0, 0, sequence, source_boot, target_boot, stream)


def decode_oneway(header: bytes) -> OnewayHeader:
    """Return what a one-way message's header says.

    Raises:
        ProtocolError: wrong size or version, or a sequence of 0 (601).
    """
    if len(header) != _ONEWAY.size:
        raise ProtocolError(f"the header of a one-way message has {len(header)} bytes; {_ONEWAY.size} were expected")
    version, _, _, sequence, source, target, stream = _ONEWAY.unpack(header)
    _check_version(version)
    if sequence == 0:
        raise ProtocolError("a one-way message with sequence 0; a stream starts at 1")
    return OnewayHeader(stream, sequence, source, target)


def _check_version(version: int) -> None:
    if version != VERSION:
        raise ProtocolError(f"a request of version {version}; this device speaks version {VERSION}: update the older")


def encode_result(result: bytes) -> bytes:
    """Return the answer that carries a handler's result."""
    return b"\x00" + result


def encode_status(status: Status) -> bytes:
    """Return an answer without content."""
    return bytes((status,))


def encode_failure(failure: Failure) -> bytes:
    """Return the answer that says why a handler failed."""
    parts = [bytes((Status.FAILED,)), _CODE.pack(failure.status)]
    for text in (failure.type_name, failure.text, failure.remote_traceback):
        data = text.encode(errors="replace")
        parts += (_SIZE.pack(len(data)), data)
    return b"".join(parts)


def decode_answer(data: bytes) -> Answer:
    """Return what an answer says.

    Raises:
        ProtocolError: empty, an unknown status, or a failure that is cut off or too long (601).
    """
    if not data:
        raise ProtocolError("an empty answer; its first byte must be a status")
    if data[0] == Status.TAKEN:
        return Answer(Status.TAKEN, data[1:])
    if data[0] > max(Status):
        raise ProtocolError(f"an answer with status {data[0]}; the highest known is {max(Status)}")
    status = Status(data[0])
    if status is Status.FAILED:
        return Answer(status, failure=_decode_failure(data))
    return Answer(status)


def _decode_failure(data: bytes) -> Failure:
    at = 1 + _CODE.size
    if len(data) < at:
        raise ProtocolError("an answer says that the handler failed and ends before the code")
    (code,) = _CODE.unpack_from(data, 1)
    texts: list[str] = []
    for longest in _LONGEST:
        if len(data) < at + _SIZE.size:
            raise ProtocolError("the failure in an answer is cut off")
        (size,) = _SIZE.unpack_from(data, at)
        at += _SIZE.size
        if size > longest or len(data) < at + size:
            raise ProtocolError(f"a text of {size} bytes in the failure of an answer; {longest} are allowed")
        texts.append(data[at : at + size].decode(errors="replace"))
        at += size
    return Failure(code, *texts)
