"""Every error binderkit raises, and what its code means.

One root, ``IpcError``, which always carries ``.code``: the number OpenHarmony
uses for the same situation (reference 1.10), so that a HarmonyOS engineer
recognises it. The *type* says who is to blame:

    IpcError
    ├── ParamError                     401  we passed something that cannot work
    │   ├── ParamTypeError             401  (also a TypeError)
    │   ├── ParamValueError            401  (also a ValueError)
    │   └── IdlError                   401  an IDL file breaks a rule of the language; shows where
    ├── AshmemError                         shared memory
    │   ├── MmapError                  1900001
    │   ├── ProtectionError            1900002
    │   ├── AshmemWriteError           1900003
    │   └── AshmemReadError            1900004
    ├── OnlyProxyPermittedError        1900005  asked a stub what only a proxy can do
    ├── OnlyRemoteObjectPermittedError 1900006  asked a proxy what only a stub can do
    ├── CommunicationError             1900007  the peer's answer made no sense
    ├── InvalidObjectError             1900008  no object there, or freed
    ├── ParcelWriteError               1900009
    │   └── TooBigError                1900009  over a size limit (also a ValueError)
    ├── ParcelReadError                1900010
    ├── ParcelMemoryError              1900011
    ├── ParcelableError                1900012
    ├── DescriptorError                1900013  (also an OSError)
    ├── TransactionError                    a call did not work; .code is the native result
    │   ├── DeadObjectError            -32      the other process is gone
    │   ├── CallTimeoutError           502      (also a TimeoutError)
    │   ├── CallCancelledError         10       the caller gave up; raised in the handler
    │   ├── RefusedError               303      the other side does not allow it (also a PermissionError)
    │   │   ├── PermissionDeniedError  201      the caller's access token lacks a permission
    │   │   └── RpcLimitError          505      what cannot be done with an object of another device
    │   ├── QuotaError                 29201    somebody's budget is used up
    │   ├── InvalidCodeError           204      a transaction code outside the allowed range
    │   ├── UnknownTransactionError    305      the stub does not know this code
    │   │   └── UnknownMethodError     305      the service's contract has no such method
    │   ├── InterfaceMismatchError     1        the object does not have this interface, or not in this version
    │   └── RemoteError                4        the handler failed; carries its type name and text
    ├── ProtocolError                  601      the peer broke the protocol; it was disconnected
    ├── ForkedError                    10       used in a forked child
    ├── SoftBusError                        devices and the network between them
    │   ├── NotTrustedError        -425983984  the other device is not one of this device's circle (a PermissionError)
    │   └── PairingError           -425983984  two devices did not become trusted; nothing was changed
    │       ├── WrongPinError      -425983984  PIN or secret differ, or somebody sits in between
    │       └── PairingLockedError -425983984  too many wrong PINs: wait
    ├── AbilityError               16000050 an ability cannot be connected, started or stopped
    └── ServiceError                        SAMgr
        ├── ServiceNotFoundError       1008
        ├── NoServiceManagerError      1007     no SAMgr runs in this runtime directory
        └── ProfileError               1002     a profile or manifest file has mistakes (also a ValueError)
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "AbilityError",
    "AshmemError",
    "AshmemReadError",
    "AshmemWriteError",
    "CallCancelledError",
    "CallTimeoutError",
    "CommunicationError",
    "DeadObjectError",
    "DescriptorError",
    "ForkedError",
    "IdlError",
    "InterfaceMismatchError",
    "InvalidCodeError",
    "InvalidObjectError",
    "IpcError",
    "MmapError",
    "NoServiceManagerError",
    "NotTrustedError",
    "OnlyProxyPermittedError",
    "OnlyRemoteObjectPermittedError",
    "PairingError",
    "PairingLockedError",
    "ParamError",
    "ParamTypeError",
    "ParamValueError",
    "ParcelMemoryError",
    "ParcelReadError",
    "ParcelWriteError",
    "ParcelableError",
    "PermissionDeniedError",
    "ProfileError",
    "ProtectionError",
    "ProtocolError",
    "QuotaError",
    "RefusedError",
    "RemoteError",
    "RpcLimitError",
    "ServiceError",
    "ServiceNotFoundError",
    "SoftBusError",
    "TooBigError",
    "TransactionError",
    "UnknownMethodError",
    "UnknownTransactionError",
    "WrongPinError",
]

# Native result codes that travel in replies (reference 1.10).
ERR_NONE: Final = 0
ERR_TRANSACTION_FAILED: Final = 1
ERR_UNKNOWN_TRANSACTION: Final = 4
ERR_INVALID_STATE: Final = 10
ERR_PERMISSION_DENIED: Final = 201
ERR_INVALID_CODE: Final = 204
ERR_STUB_REFUSED: Final = 303
ERR_STUB_UNKNOWN_TRANSACTION: Final = 305
ERR_PASSED_ON: Final = 407
ERR_INVALID_PARAM: Final = 408
ERR_WAIT_REPLY_TIMEOUT: Final = 502
ERR_SENT_HOME: Final = 505
ERR_NOT_TRANSLATABLE: Final = 507
ERR_NOT_SUPPORTED: Final = 510
ERR_DATABUS_INVALID_DATA: Final = 601
ERR_NOT_AUTHORISED: Final = 603
ERR_DEAD_OBJECT: Final = -32
ERR_FAILED_REPLY: Final = 29201


class IpcError(Exception):
    """Root of all errors of this package; ``code`` is OpenHarmony's number for the situation."""

    code: int = ERR_INVALID_STATE

    def __init__(self, message: str = "", *, code: int | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code

    def __str__(self) -> str:
        return f"{super().__str__()} [code {self.code}]"


class ParamError(IpcError):
    """An argument cannot be used: wrong type, range or length (401)."""

    code = 401


class ParamTypeError(ParamError, TypeError):
    """An argument of the wrong type (401)."""


class ParamValueError(ParamError, ValueError):
    """An argument out of range or too long (401)."""


class IdlError(ParamError):
    """An IDL file, or a contract that is to become one, breaks a rule of the language (401).

    Attributes:
        reason: what is wrong, what was expected and what to do, in one sentence.
        file: the file's name; "" when there is none (a contract that is to become IDL).
        line, column: where, counted from 1; 0 when there is no place in a file.
        text: the offending line, without its end.
    """

    def __init__(self, reason: str, *, file: str = "", line: int = 0, column: int = 0, text: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.file = file
        self.line = line
        self.column = column
        self.text = text

    def __str__(self) -> str:
        """Return file:line:column, the reason, and below it the line with a caret under the place."""
        if not self.line:
            return f"{self.file}: {self.reason}" if self.file else self.reason
        # Tabs stay tabs in front of the caret, so that it stands under its character in every terminal.
        indent = "".join("\t" if character == "\t" else " " for character in self.text[: self.column - 1])
        return f"{self.file}:{self.line}:{self.column}: {self.reason}\n    {self.text}\n    {indent}^"


class AshmemError(IpcError):
    """Something about shared memory failed."""

    code = 1900001


class MmapError(AshmemError):
    """The region could not be created or mapped (1900001)."""


class ProtectionError(AshmemError):
    """The protection of a region can only be narrowed (1900002)."""

    code = 1900002


class AshmemWriteError(AshmemError):
    """Write outside the region, not mapped, or no write right (1900003)."""

    code = 1900003


class AshmemReadError(AshmemError):
    """Read outside the region, not mapped, or no read right (1900004)."""

    code = 1900004


class OnlyProxyPermittedError(IpcError):
    """Only a proxy can do this, and the object is a stub of this process (1900005)."""

    code = 1900005


class OnlyRemoteObjectPermittedError(IpcError):
    """Only a stub can do this, and the object is a proxy (1900006)."""

    code = 1900006


class CommunicationError(IpcError):
    """The peer gave no usable answer (1900007)."""

    code = 1900007


class InvalidObjectError(IpcError):
    """There is no remote object, or it was freed (1900008)."""

    code = 1900008


class ParcelWriteError(IpcError):
    """Nothing can be written: reclaimed, received, or marshalling failed (1900009)."""

    code = 1900009


class TooBigError(ParcelWriteError, ValueError):
    """The data crosses a size limit; the text names size, limit and what to do instead (1900009)."""


class ParcelReadError(IpcError):
    """Nothing (of that kind) can be read here (1900010)."""

    code = 1900010


class ParcelMemoryError(IpcError):
    """The capacity asked for cannot be had (1900011)."""

    code = 1900011


class ParcelableError(IpcError):
    """A Parcelable failed to read itself, or no Parcelable is there (1900012)."""

    code = 1900012


class DescriptorError(IpcError, OSError):
    """A file descriptor could not be duplicated (1900013)."""

    code = 1900013


class TransactionError(IpcError):
    """A call did not work; ``code`` is the native result (reference 1.10)."""


class DeadObjectError(TransactionError):
    """The process of the object is gone, or this connection to it (-32)."""

    code = ERR_DEAD_OBJECT


class CallTimeoutError(TransactionError, TimeoutError):
    """The deadline passed before the reply came; the call may still be executed (502)."""

    code = ERR_WAIT_REPLY_TIMEOUT


class CallCancelledError(TransactionError):
    """Raised in a handler that asks: its caller gave up waiting (10)."""

    code = ERR_INVALID_STATE


class RefusedError(TransactionError, PermissionError):
    """The other side does not allow this caller to do that (303)."""

    code = ERR_STUB_REFUSED


class PermissionDeniedError(RefusedError):
    """The caller's access token lacks a permission; the text names both and what to do (201, reference 3.1)."""

    code = ERR_PERMISSION_DENIED


class RpcLimitError(RefusedError):
    """What cannot be done with an object of another device, or sent there; the text says what to do instead.

    ``code`` tells which limit (reference 0, 4.2): 407 a proxy passed on between processes of this device, 505 a proxy
    sent to another device than the one it may stay on, 507 a file descriptor sent to another device, 510 a death
    notice of an object that is no registered ability, 603 an object this device was not given.
    """

    code = ERR_SENT_HOME


class QuotaError(TransactionError):
    """A budget (bytes, descriptors, objects, lanes, threads) is used up (29201)."""

    code = ERR_FAILED_REPLY


class InvalidCodeError(TransactionError, ValueError):
    """The transaction code lies outside 1 … 0x00FFFFFF and is not a reserved one (204)."""

    code = ERR_INVALID_CODE


class UnknownTransactionError(TransactionError):
    """The stub does not know this transaction code (305)."""

    code = ERR_STUB_UNKNOWN_TRANSACTION


class UnknownMethodError(UnknownTransactionError):
    """The service's version of the contract has no such method (305)."""


class InterfaceMismatchError(TransactionError):
    """The object does not have this interface, or has an older version of it (1)."""

    code = ERR_TRANSACTION_FAILED


class RemoteError(TransactionError):
    """The handler failed. What happened there is text; nothing of it is executed or imported here.

    Attributes:
        type_name: qualified name of the exception type at the service ("" when it returned False).
        text: the exception's text.
        remote_traceback: the traceback as text when the service sends it, else "".
    """

    code = ERR_UNKNOWN_TRANSACTION

    def __init__(
        self,
        message: str = "",
        *,
        code: int | None = None,
        type_name: str = "",
        text: str = "",
        remote_traceback: str = "",
    ) -> None:
        super().__init__(message, code=code)
        self.type_name = type_name
        self.text = text
        self.remote_traceback = remote_traceback


class ProtocolError(IpcError):
    """The peer sent something that the protocol does not allow; the connection was closed (601)."""

    code = ERR_DATABUS_INVALID_DATA


class ForkedError(IpcError):
    """A forked child must not use its parent's connections or objects (10)."""

    code = ERR_INVALID_STATE


class SoftBusError(IpcError):
    """Something between devices failed; ``code`` is SoftBus's number for it (reference 4.8)."""

    code = -426442749


class NotTrustedError(SoftBusError, PermissionError):
    """The other device does not belong to this device's circle, or what it claims is not proven (-425983984)."""

    code = -425983984


class PairingError(SoftBusError):
    """Two devices did not become trusted; the text says why and what to do (-425983984, in time -425983980)."""

    code = -425983984


class WrongPinError(PairingError):
    """PIN or secret are not the same on both sides, or somebody sits in between (-425983984)."""


class PairingLockedError(PairingError):
    """Too many wrong PINs: pairing is locked for a while; the text says for how long (-425983984)."""


class AbilityError(IpcError):
    """An ability cannot be connected, started or stopped; ``code`` says why (codes of reference 3.1)."""

    code = 16000050


class ServiceError(IpcError):
    """SAMgr could not do what was asked (codes of reference 2.3)."""

    code = 1001


class ServiceNotFoundError(ServiceError, LookupError):
    """No such system ability is registered (1008)."""

    code = 1008


class NoServiceManagerError(ServiceError):
    """No SAMgr runs in this runtime directory and none may be started (1007)."""

    code = 1007


class ProfileError(ServiceError, ValueError):
    """A profile or a manifest cannot be used (1002).

    Attributes:
        problems: every mistake found, each as "file: field: what is wrong and what is allowed".
    """

    code = 1002

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


_BY_STATUS: Final[dict[int, type[TransactionError]]] = {
    ERR_DEAD_OBJECT: DeadObjectError,
    ERR_WAIT_REPLY_TIMEOUT: CallTimeoutError,
    ERR_STUB_REFUSED: RefusedError,
    ERR_PERMISSION_DENIED: PermissionDeniedError,
    ERR_TRANSACTION_FAILED: InterfaceMismatchError,
    ERR_FAILED_REPLY: QuotaError,
    ERR_INVALID_CODE: InvalidCodeError,
    ERR_STUB_UNKNOWN_TRANSACTION: UnknownTransactionError,
    ERR_PASSED_ON: RpcLimitError,
    ERR_SENT_HOME: RpcLimitError,
    ERR_NOT_TRANSLATABLE: RpcLimitError,
    ERR_NOT_SUPPORTED: RpcLimitError,
    ERR_NOT_AUTHORISED: RpcLimitError,
}


def error_from_status(status: int, type_name: str, text: str, remote_traceback: str) -> TransactionError:
    """Return the error a caller gets for a reply whose status is not 0.

    ``type_name`` and ``text`` are what the service said about it; both may be empty.
    """
    message = text or f"the handler answered with status {status}"
    kind = _BY_STATUS.get(status)
    if kind is not None and not type_name:
        return kind(message, code=status)
    if type_name:
        message = f"{type_name}: {text}" if text else type_name
        if remote_traceback:
            message = f"{message}\n\nRemote traceback:\n{remote_traceback.rstrip()}\n"
    return RemoteError(message, code=status, type_name=type_name, text=text, remote_traceback=remote_traceback)
