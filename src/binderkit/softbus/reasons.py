"""The numbers of SoftBus sessions: why one ended, what kind of data it carries, how much, and the codes of errors.

Owns: what both ends of a session and the applications on them must agree on (reference 4.8). Pure.

The codes are OpenHarmony's: -((203 << 21) | (module << 16) | 0xFFFF) + n. They travel in errors of the types that
binderkit has anyway (a timeout is a ``CallTimeoutError`` …), so that a Python program catches types and a HarmonyOS
engineer recognises numbers.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Final

from binderkit.errors import (
    ERR_DEAD_OBJECT,
    CallCancelledError,
    CallTimeoutError,
    DeadObjectError,
    InvalidObjectError,
    IpcError,
    NotTrustedError,
    ParamValueError,
    PermissionDeniedError,
    QuotaError,
    RefusedError,
    TooBigError,
)

__all__ = ["DataType", "QosType", "ShutdownReason", "code_name", "error_of"]


class ShutdownReason(IntEnum):
    """Why a session ended, in the order of reference 4.8."""

    UNKNOWN = 0
    LOCAL = 1
    """We shut it down."""
    PEER = 2
    """The other application shut it down, or its process ended."""
    LNN_CHANGED = 3
    CONN_CHANGED = 4
    TIMEOUT = 5
    """Nothing came for the time of MAX_IDLE_TIMEOUT, or something was not acknowledged in 20 s."""
    SEND_FILE_ERR = 6
    RECV_FILE_ERR = 7
    RECV_DATA_ERR = 8
    """The other side broke the protocol of sessions."""
    UNEXPECTED = 9
    """Something failed on this side; the log says what."""
    SERVICE_DIED = 10
    """The softbus process ended, here or on the other device."""
    LNN_OFFLINE = 11
    """The other device left, or is trusted no more."""
    LINK_DOWN = 12
    """The connection broke without a word."""
    USER_SWITCH = 13
    PRIVILEGE = 14
    BLOCK_MODE = 15


class DataType(IntEnum):
    """What a session carries (reference 4.8); sockets of another type refuse it."""

    MESSAGE = 1
    """Short messages, each acknowledged by the other device."""
    BYTES = 2
    """Packets: the receiver gets whole ones, as they were sent."""
    FILE = 3
    """Not carried: send the contents as bytes."""
    RAW_STREAM = 4
    VIDEO_STREAM = 5
    AUDIO_STREAM = 6
    SLICE_STREAM = 7
    RAW_ENCRYPTED_STREAM = 8

    @property
    def is_stream(self) -> bool:
        """Whether it carries frames with a time stamp."""
        return DataType.RAW_STREAM <= self <= DataType.RAW_ENCRYPTED_STREAM


class QosType(IntEnum):
    """What can be asked of a session (reference 4.8). MAX_WAIT_TIMEOUT and MAX_IDLE_TIMEOUT have an effect here."""

    MIN_BW = 0
    MAX_WAIT_TIMEOUT = 1
    """Milliseconds a bind may take; 30 000 when not given."""
    MIN_LATENCY = 2
    RTT_LEVEL = 3
    MAX_BUFFER = 4
    FIRST_PACKAGE = 5
    MAX_IDLE_TIMEOUT = 6
    """Milliseconds without any data in either direction after which the session ends; never when not given."""
    TRANS_RELIABILITY = 7
    TRANS_CONTINUOUS = 8
    REUSE_BE = 9
    RATE_PREFERENCE = 10


_TRANS: Final = -((203 << 21) | (5 << 16) | 0xFFFF)
_PUBLIC: Final = -((203 << 21) | (10 << 16) | 0xFFFF)
_LNN: Final = -((203 << 21) | (4 << 16) | 0xFFFF)
_AUTH: Final = -((203 << 21) | (3 << 16) | 0xFFFF)

OK: Final = 0
INVALID_PARAM: Final = -426442749
PERMISSION_DENIED: Final = -426442743
TIMEOUT: Final = -426442750
NOT_FOUND: Final = -426442723
INVALID_SESSION_NAME: Final = -426115069
NAME_REPEATED: Final = -426115066
COUNT_LIMIT: Final = -426115065
SERVER_NOT_CREATED: Final = -426115064
HANDSHAKE_TIMEOUT: Final = -426115009
PEER_SERVER_MISSING: Final = -426115007
LENGTH_BEYOND_LIMIT: Final = -426115018
BIND_CANCELLED: Final = -426114956
BIND_TIMEOUT: Final = -426114940
NEGOTIATE_REJECTED: Final = -426114923
AUTH_NOT_TRUSTED: Final = -425983984
NODE_OFFLINE: Final = -426049520

_NAMES: Final = {
    OK: "ok",
    INVALID_PARAM: "invalid parameter",
    PERMISSION_DENIED: "permission denied",
    TIMEOUT: "timeout",
    NOT_FOUND: "not found",
    INVALID_SESSION_NAME: "invalid session name",
    NAME_REPEATED: "session name is in use",
    COUNT_LIMIT: "too many sessions",
    SERVER_NOT_CREATED: "session server not created",
    HANDSHAKE_TIMEOUT: "handshake timeout",
    PEER_SERVER_MISSING: "nobody listens under that name on the other device",
    LENGTH_BEYOND_LIMIT: "longer than the kind of session carries",
    BIND_CANCELLED: "bind cancelled by shutdown",
    BIND_TIMEOUT: "bind timed out",
    NEGOTIATE_REJECTED: "the listener rejected the session",
    AUTH_NOT_TRUSTED: "the devices do not trust each other",
    NODE_OFFLINE: "the device is offline",
}


def code_name(code: int) -> str:
    """Return what a SoftBus code means, in words; its module and number when it is not one of ours."""
    known = _NAMES.get(code)
    if known is not None:
        return known
    for module, base in (("authentication", _AUTH), ("network", _LNN), ("transmission", _TRANS), ("public", _PUBLIC)):
        if base <= code < base + 0x10000:
            return f"SoftBus {module} error {code - base}"
    return f"code {code}"


_TYPES: Final[dict[int, type[IpcError]]] = {
    ERR_DEAD_OBJECT: DeadObjectError,
    INVALID_PARAM: ParamValueError,
    INVALID_SESSION_NAME: ParamValueError,
    LENGTH_BEYOND_LIMIT: TooBigError,
    TIMEOUT: CallTimeoutError,
    BIND_TIMEOUT: CallTimeoutError,
    BIND_CANCELLED: CallCancelledError,
    PEER_SERVER_MISSING: InvalidObjectError,
    NOT_FOUND: InvalidObjectError,
    NAME_REPEATED: QuotaError,
    COUNT_LIMIT: QuotaError,
    PERMISSION_DENIED: PermissionDeniedError,
    AUTH_NOT_TRUSTED: NotTrustedError,
    NODE_OFFLINE: DeadObjectError,
}


def error_of(code: int, text: str) -> IpcError:
    """Return the error for a code that came from elsewhere; RefusedError for one that says nothing to us."""
    return _TYPES.get(code, RefusedError)(text, code=code)
