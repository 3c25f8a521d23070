"""AndroidParcel: a MessageSequence as Android's Binder programs write and read it, where that differs from OpenHarmony.

Owns: the four generations of Android's wire format (``Wire``, the names are libgbinder's), and a view that writes and
reads what they differ in: the header of a request, the word behind each object, null objects, strings that may be null
and the exceptions of a reply. Everything else (int, long, double, boolean as a 32-bit word, descriptors) is the same on
both sides: use the sequence itself.

    | wire | Android | a request starts with                              | behind an object     | empty string8 |
    |------|---------|----------------------------------------------------|----------------------|---------------|
    | aidl | to 9    | policy, interface                                  |                      | length        |
    | aidl2| 10      | policy, work source, interface                     |                      | length        |
    | aidl3| 11, 13…| policy, work source, 'SYST' or 'VNDR', interface   | stability            | length, NUL   |
    | aidl4| 12      | the same                                           | {1, 0, 0, stability} | length, NUL   |

All numbers are 32-bit and little-endian; ``interface`` is a string16, which is OpenHarmony's string: length in UTF-16
units, text, NUL, padding to 4 bytes. A null string is the length -1 alone.

Rules upheld: nothing half-written stays after a failed write; a failed read leaves the read position alone; any bytes
either decode or raise ParcelReadError (reference kernel-binder 6).
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Any, Final, NamedTuple

from binderkit.errors import InvalidObjectError, IpcError, ParamTypeError, ParamValueError, RemoteError
from binderkit.ipc.remote import IRemoteObject
from binderkit.parcel import MessageSequence
from binderkit.parcel._scalars import encode_string
from binderkit.parcel.objects import BINDER_TYPE_BINDER, RECORD_SIZE, pack_record, unpack_record

STRICT_MODE_POLICY: Final = 0x400000
"""What native programs send: gather violations of strict mode. Nobody here acts on it."""
NO_WORK_SOURCE: Final = -1
SYSTEM_TAG: Final = 0x53595354
"""'SYST': written by a program of Android's system partition, or of an ordinary Linux."""
VENDOR_TAG: Final = 0x564E4452
"""'VNDR': written by a program of the vendor's partition."""

# Exceptions of a reply. The two headers announce something else than an exception.
EX_SECURITY: Final = -1
EX_ILLEGAL_ARGUMENT: Final = -3
EX_ILLEGAL_STATE: Final = -5
EX_UNSUPPORTED_OPERATION: Final = -7
EX_SERVICE_SPECIFIC: Final = -8
_EX_NOTED_APPOPS_HEADER: Final = -127
_EX_REPLY_HEADER: Final = -128

_INT: Final = Struct("<i")
_UINT: Final = Struct("<I")
_NULL_STRING: Final = _INT.pack(-1)
_NULL_RECORD: Final = pack_record(BINDER_TYPE_BINDER, 0, 0, 0)


class Stability(IntEnum):
    """What an object promises about its interface, and so which programs of an Android may use it."""

    UNDECLARED = 0
    """Of null objects, and of objects that say nothing."""
    VENDOR = 0x03
    SYSTEM = 0x0C
    VINTF = 0x3F


_LEVELS: Final = {int(level): level for level in Stability}


@dataclass(frozen=True, slots=True)
class Wire:
    """One generation of Android's wire format.

    Attributes:
        name: libgbinder's name of it.
        work_source: whether a request's header has one.
        tag: whether a request's header has 'SYST' or 'VNDR'.
        stability: (version, shift) of the word behind each object, ``version | level << shift``; None: no word.
        short_empty_string8: whether an empty string8 is its length alone, without NUL.
    """

    name: str
    work_source: bool
    tag: bool
    stability: tuple[int, int] | None
    short_empty_string8: bool

    @property
    def interface_offset(self) -> int:
        """Bytes in front of the interface in a request; which generations agree in it cannot be told apart by that."""
        return 4 + 4 * self.work_source + 4 * self.tag

    def __str__(self) -> str:
        return self.name


AIDL: Final = Wire("aidl", work_source=False, tag=False, stability=None, short_empty_string8=True)
AIDL2: Final = Wire("aidl2", work_source=True, tag=False, stability=None, short_empty_string8=True)
AIDL3: Final = Wire("aidl3", work_source=True, tag=True, stability=(0, 0), short_empty_string8=False)
AIDL4: Final = Wire("aidl4", work_source=True, tag=True, stability=(1, 24), short_empty_string8=False)


class RequestHeader(NamedTuple):
    """What a request starts with. What its wire does not have is ``NO_WORK_SOURCE`` or 0.

    Attributes:
        interface: whom it is meant for.
        policy: strict-mode flags, 0 … 2**32 - 1.
        work_source: uid that the work is done for, or NO_WORK_SOURCE; claimed by the sender, proves nothing.
        tag: SYSTEM_TAG or VENDOR_TAG.
    """

    interface: str
    policy: int = STRICT_MODE_POLICY
    work_source: int = NO_WORK_SOURCE
    tag: int = 0


class BinderRecord(NamedTuple):
    """An object as it was read: None for null, and its stability (UNDECLARED where the wire does not tell)."""

    remote: IRemoteObject | None
    stability: Stability


def layout_of(sequence: MessageSequence, interface: str) -> Wire | None:
    """Return the generation of the header at the read position, if it is one for ``interface``; reads nothing.

    AIDL3 stands for AIDL4 too: their headers are equal. Never raises for what was received.
    """
    data, pos = sequence._readable(), sequence._pos
    name = encode_string(interface)
    for wire in (AIDL3, AIDL2, AIDL):
        start = pos + wire.interface_offset
        if data[start : start + len(name)] == name and (not wire.tag or _UINT.unpack_from(data, pos + 8)[0] in _TAGS):
            return wire
    return None


_TAGS: Final = (SYSTEM_TAG, VENDOR_TAG)


class AndroidParcel:
    """A view of one sequence; the positions are the sequence's, so both may be used in turns.

    Args:
        sequence: what is written or read.
        wire: AIDL, AIDL2, AIDL3 or AIDL4: what the other side speaks.
    """

    __slots__ = ("sequence", "wire")

    def __init__(self, sequence: MessageSequence, wire: Wire) -> None:
        self.sequence = sequence
        self.wire = wire

    # --- the header of a request ----------------------------------------------------------------

    def write_interface_token(
        self,
        interface: str,
        *,
        policy: int = STRICT_MODE_POLICY,
        work_source: int = NO_WORK_SOURCE,
        tag: int = SYSTEM_TAG,
    ) -> None:
        """Write the header of a request; what the wire does not have is left out.

        Args:
            interface: the interface that is called, fewer than 40 960 UTF-16 units.
            policy: strict-mode flags, 0 … 2**32 - 1.
            work_source: uid that the work is done for.
            tag: SYSTEM_TAG or VENDOR_TAG.

        Raises:
            ParamTypeError, ParamValueError: a wrong type, or out of range (401).
            ParcelWriteError, TooBigError: received or reclaimed, or over the limit of a transaction (1900009).
        """
        if tag not in _TAGS:
            raise ParamValueError(f"the tag of a request is SYSTEM_TAG or VENDOR_TAG, got {tag:#x}")
        head = _packed("policy", _UINT, policy)
        if self.wire.work_source:
            head += _packed("work_source", _INT, work_source)
        if self.wire.tag:
            head += _UINT.pack(tag)
        self._append(head + _string16("write_interface_token", interface))

    def read_interface_token(self) -> RequestHeader:
        """Return the header of a request.

        Raises:
            ParcelReadError: none of this wire is there, or reclaimed (1900010).
        """
        sequence, wire = self.sequence, self.wire
        with self._back_on_error() as start:
            policy = sequence.read_int() & 0xFFFFFFFF
            work_source = sequence.read_int() if wire.work_source else NO_WORK_SOURCE
            tag = sequence.read_int() if wire.tag else 0
            if wire.tag and tag not in _TAGS:
                sequence._pos = start
                sequence._malformed(f"a request header of {wire}", f"{tag:#x} stands where 'SYST' or 'VNDR' should")
            return RequestHeader(sequence.read_string(), policy, work_source, tag)

    # --- objects ----------------------------------------------------------------------------------

    def write_binder(self, remote: IRemoteObject | None, stability: Stability = Stability.SYSTEM) -> None:
        """Write an object, or null.

        Args:
            remote: a stub, a proxy, or None.
            stability: what it promises; left out where the wire has no word for it. Null is always UNDECLARED.

        Raises:
            InvalidObjectError: no remote object (1900008).
            ParcelWriteError, TooBigError: received or reclaimed, or over a limit (1900009).
        """
        word = self._stability_word(Stability.UNDECLARED if remote is None else stability)
        sequence = self.sequence
        sequence._room(RECORD_SIZE + len(word))
        if remote is None:
            self._append(_NULL_RECORD + word)  # no object: the driver must not see a record there
            return
        sequence.write_remote_object(remote)
        self._append(word)

    def read_binder(self) -> BinderRecord:
        """Return an object, or None for null, and its stability.

        Raises:
            ParcelReadError: neither is there, no such stability, a null object with one, or reclaimed (1900010).
        """
        with self._back_on_error() as start:
            remote = self._read_record(start)
            level = self._read_stability()
            if remote is None and level:
                self.sequence._pos = start
                self.sequence._malformed("an object", f"it is null, but has the stability {level.name}")
            return BinderRecord(remote, level)

    def _read_record(self, start: int) -> IRemoteObject | None:
        sequence = self.sequence
        try:
            remote: Any = sequence.read_remote_object()
        except InvalidObjectError:
            self._skip_null(start)
            return None
        if not isinstance(remote, IRemoteObject):
            sequence._pos = start
            sequence._malformed("an object", "it is no remote object")
        return remote

    def _skip_null(self, start: int) -> None:
        """Step over a null object. Only bytes say that it is one: it is in no table of objects."""
        sequence = self.sequence
        data = sequence._readable()
        if start + RECORD_SIZE > len(data):
            sequence._short("an object", RECORD_SIZE)
        kind, _, binder, cookie = unpack_record(data, start)
        if start in (sequence._objects or {}) or (kind, binder, cookie) != (BINDER_TYPE_BINDER, 0, 0):
            sequence._malformed("an object", "there is none, and no null one")
        sequence._pos = start + RECORD_SIZE

    def _stability_word(self, level: Stability) -> bytes:
        form = self.wire.stability
        if level not in _LEVELS:
            raise ParamValueError(
                f"{level!r} is no stability; there are {', '.join(level.name for level in Stability)}"
            )
        if form is None:
            return b""
        version, shift = form
        return _UINT.pack(version | level << shift)

    def _read_stability(self) -> Stability:
        form = self.wire.stability
        if form is None:
            return Stability.UNDECLARED
        sequence = self.sequence
        version, shift = form
        word = sequence.read_int() & 0xFFFFFFFF
        level = _LEVELS.get(word >> shift)
        if level is None or word & (1 << shift) - 1 != version:
            sequence._malformed("the stability of an object", f"{word:#x} is none of the wire {self.wire}")
        return level

    # --- strings ----------------------------------------------------------------------------------

    def write_string16(self, value: str | None) -> None:
        """Write a string as UTF-16, or null; fewer than 40 960 units; raises as ``write_interface_token``."""
        self._append(_NULL_STRING if value is None else _string16("write_string16", value))

    def read_string16(self) -> str | None:
        """Return a string that was written as UTF-16, None for null.

        Raises:
            ParcelReadError: none is there, or reclaimed (1900010).
        """
        sequence = self.sequence
        with self._back_on_error() as start:
            if sequence.read_int() == -1:
                return None
            sequence._pos = start
            return sequence.read_string()

    def write_string8(self, value: str | None) -> None:
        """Write a string as UTF-8, or null.

        Raises:
            ParamTypeError, ParamValueError: no str, or one with lone surrogates, which UTF-8 does not have (401).
            ParcelWriteError, TooBigError: as ``write_interface_token`` (1900009).
        """
        if value is None:
            self._append(_NULL_STRING)
            return
        if not isinstance(value, str):
            raise ParamTypeError(f"write_string8 takes a str or None, got {type(value).__name__}")
        try:
            text = value.encode()
        except UnicodeEncodeError as error:
            raise ParamValueError(f"write_string8: {error}; write it as string16") from None
        head = _INT.pack(len(text))
        if not text and self.wire.short_empty_string8:
            self._append(head)
            return
        self._append(head + text + bytes(4 - len(text) % 4))

    def read_string8(self) -> str | None:
        """Return a string that was written as UTF-8, None for null.

        Raises:
            ParcelReadError: none is there, no NUL after it, no UTF-8, or reclaimed (1900010).
        """
        sequence = self.sequence
        with self._back_on_error() as start:
            size = sequence.read_int()
            if size == -1:
                return None
            if size == 0 and self.wire.short_empty_string8:
                return ""
            return self._string8_at(start, size)

    def _string8_at(self, start: int, size: int) -> str:
        sequence = self.sequence
        data = sequence._readable()
        text = start + 4
        end = text + size
        after = text + (size // 4 + 1) * 4
        sequence._pos = start
        if size < 0:
            sequence._malformed("a string8", f"its length is {size}")
        if after > len(data):
            sequence._short("a string8", after - start)
        if data[end]:
            sequence._malformed("a string8", f"no NUL after its {size} bytes")
        try:
            value = bytes(data[text:end]).decode()
        except UnicodeDecodeError as error:
            sequence._malformed("a string8", str(error))
        sequence._pos = after
        return value

    # --- exceptions of a reply ----------------------------------------------------------------------

    def write_no_exception(self) -> None:
        """Write what a reply with results starts with: int32 0."""
        self.sequence.write_no_exception()

    def write_exception(self, code: int, text: str) -> None:
        """Write a reply that is an exception: code, text, and an empty trace of the other side's stack.

        Args:
            code: EX_SECURITY, EX_ILLEGAL_ARGUMENT or another negative one of those that consist of a text alone.
            text: for people, fewer than 40 960 UTF-16 units.

        Raises:
            ParamValueError: not such a code; or as ``write_string16`` (401). Nothing is written then.
            ParcelWriteError, TooBigError: as ``write_interface_token`` (1900009).
        """
        if not EX_SERVICE_SPECIFIC < code < 0:
            raise ParamValueError(f"write_exception: {code} is no exception that consists of a text (-7 … -1)")
        self._append(_packed("code", _INT, code) + _string16("write_exception", text) + _INT.pack(0))

    def read_exception(self) -> None:
        """Read what a reply starts with; returns when results follow.

        Raises:
            RemoteError: the service wrote an exception; carries its code (a service's own one if it has) and text.
            ParcelReadError: nothing such is there, or reclaimed (1900010).
        """
        sequence = self.sequence
        with self._back_on_error():
            code = sequence.read_int()
            if code == _EX_NOTED_APPOPS_HEADER:
                self._skip_header()
                code = sequence.read_int()
            if code == _EX_REPLY_HEADER:
                self._skip_header()
                return
            if code == 0:
                return
            text = self.read_string16() or ""
            self._skip(sequence.read_int())  # the trace of the other side's stack
            number = sequence.read_int() if code == EX_SERVICE_SPECIFIC else code
        raise RemoteError(text or f"the service answered with exception {code}", code=number, text=text)

    def _skip_header(self) -> None:
        """Step over a block whose first word is its size, that word included."""
        self._skip(self.sequence.read_int() - 4)

    def _skip(self, size: int) -> None:
        sequence = self.sequence
        if size < 0:
            sequence._malformed("a reply's header", f"its size is {size}")
        if size > sequence.get_readable_bytes():
            sequence._short("a reply's header", size)
        sequence._pos += size

    # --- both -----------------------------------------------------------------------------------------

    def _append(self, data: bytes) -> None:
        out = self.sequence._room(len(data))
        out += data

    @contextmanager
    def _back_on_error(self) -> Iterator[int]:
        """Give the read position, and go back there if the block fails."""
        start = self.sequence.get_read_position()
        try:
            yield start
        except IpcError:
            self.sequence._pos = start
            raise

    def __repr__(self) -> str:
        return f"<AndroidParcel {self.wire} of {self.sequence!r}>"


def _string16(what: str, value: str) -> bytes:
    if not isinstance(value, str):
        raise ParamTypeError(f"{what} takes a str, got {type(value).__name__}")
    return encode_string(value)


def _packed(what: str, form: Struct, value: int) -> bytes:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ParamTypeError(f"{what} takes an int, got {type(value).__name__}")
    low, high = (0, 2**32 - 1) if form is _UINT else (-(2**31), 2**31 - 1)
    if not low <= value <= high:
        raise ParamValueError(f"{what} takes {low} … {high}, got {value}")
    return form.pack(value)
