"""The proxy side of the object model: RemoteProxy and DeathRecipient.

Owns: a proxy's connection and handle, and its list of death recipients.
There is one proxy per remote object and process (the driver's import table
sees to that).

Rules upheld: recipients are one-shot, duplicates are allowed, each is called outside every lock (reference 1.7).

Locks: ``_recipients_lock`` guards the recipient lists of all proxies; nothing is called while it is held.
"""

from __future__ import annotations

import logging
import os
import threading
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, ClassVar, Final

from binderkit import limits
from binderkit.errors import (
    ERR_PASSED_ON,
    CommunicationError,
    DeadObjectError,
    InvalidCodeError,
    OnlyRemoteObjectPermittedError,
    ParamTypeError,
    RpcLimitError,
)
from binderkit.ipc.option import MessageOption, RequestResult
from binderkit.ipc.remote import IRemoteBroker, IRemoteObject, checked_descriptor
from binderkit.parcel import MessageSequence

if TYPE_CHECKING:
    from binderkit.ipc.context import Caller
    from binderkit.ipc.driver import Connection

_log = logging.getLogger("binderkit.ipc")
_recipients_lock = threading.Lock()

PING_TRANSACTION: Final = 0x5F504E47
DUMP_TRANSACTION: Final = 0x5F444D50
INTERFACE_TRANSACTION: Final = 0x5F4E5446
SYNCHRONIZE_REFERENCE: Final = 0x5F535943
REMOTE_TRANSACTION: Final = 0x5F525043
"""_RPC: a call of another device, made by the process that speaks for it (ipc/invocation.py); nobody else sends it."""
OBITUARY_TRANSACTION: Final = 0x5F444F54
"""_DOT: asks the stand-in of another device's object to tell of its death (reference 4.4); carries whom to tell."""
_SENDABLE_RESERVED: Final = frozenset(
    {PING_TRANSACTION, DUMP_TRANSACTION, INTERFACE_TRANSACTION, SYNCHRONIZE_REFERENCE}
)


class DeathRecipient(ABC):
    """Gets told when the process of a remote object ends."""

    @abstractmethod
    def on_remote_died(self) -> None:
        """Called once, in a worker thread, after the process of the object ended, however it ended."""


class RemoteProxy(IRemoteObject):
    """Stands for an object of another process. Made by the driver, never by users.

    A proxy that nobody holds any more gives its reference back; the death
    recipients registered on it go with it, so keep the proxy for as long as you want to be told.
    """

    PING_TRANSACTION: ClassVar[int] = PING_TRANSACTION
    DUMP_TRANSACTION: ClassVar[int] = DUMP_TRANSACTION
    INTERFACE_TRANSACTION: ClassVar[int] = INTERFACE_TRANSACTION
    MIN_TRANSACTION_ID: ClassVar[int] = limits.MIN_TRANSACTION_ID
    MAX_TRANSACTION_ID: ClassVar[int] = limits.MAX_TRANSACTION_ID

    __slots__ = (
        "__weakref__",
        "_connection",
        "_descriptor",
        "_handle",
        "_recipients",
        "_transact",
    )

    def __init__(self, connection: Connection, handle: int) -> None:
        self._connection = connection
        self._handle = handle
        self._descriptor: str | None = None
        self._recipients: list[DeathRecipient] | None = None
        self._transact = connection.transact

    def send_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None = None
    ) -> int:
        """Call the object; wait for the reply unless ``option`` says one-way.

        Args:
            code: 1 … 0x00FFFFFF, or a reserved code (reference 1.12).
            data: the arguments; at most 200 KB of data area.
            reply: filled with the results; untouched by a one-way call.
            option: MessageOption, None for a plain synchronous call.

        Returns:
            0.

        Raises:
            InvalidCodeError: the code is out of range (204).
            DeadObjectError: the process of the object is gone (-32).
            CallTimeoutError: the timeout of the option, or of the call being handled, passed (502).
            RemoteError: the handler returned False or raised (4).
            UnknownTransactionError, RefusedError, QuotaError, InvalidObjectError: see their texts.
        """
        if code.__class__ is not int or not 1 <= code <= 0x00FFFFFF:
            check_code(code)
        if reply.__class__ is not MessageSequence or data.__class__ is not MessageSequence:
            check_sequences(data, reply)
        return self._transact(self._handle, code, data, reply, option)

    async def send_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None = None
    ) -> RequestResult:
        """Call the object from a coroutine; many calls may be in flight at once.

        Arguments and errors as send_request. Cancelling the task tells the handler.

        Returns:
            RequestResult with err_code 0 (every other outcome is raised).
        """
        if code.__class__ is not int or not 1 <= code <= 0x00FFFFFF:
            check_code(code)
        if reply.__class__ is not MessageSequence or data.__class__ is not MessageSequence:
            check_sequences(data, reply)
        await self._connection.transact_async(self._handle, code, data, reply, option)
        return RequestResult(0, code, data, reply)

    def ping(self, *, timeout: float | None = None) -> None:
        """Return when the object's process answered; raise DeadObjectError or CallTimeoutError otherwise."""
        self.send_request(PING_TRANSACTION, MessageSequence(), MessageSequence(), MessageOption(timeout=timeout))

    def get_descriptor(self) -> str:
        """Return the descriptor of the object's interface (asked once, then remembered).

        Raises:
            CommunicationError: the peer gave an empty answer (1900007).
            DeadObjectError: the process is gone (-32).
        """
        if self._descriptor is None:
            with MessageSequence() as data, MessageSequence() as reply:
                self.send_request(INTERFACE_TRANSACTION, data, reply)
                descriptor = reply.read_string()
            if not descriptor:
                raise CommunicationError(f"{self!r} answered with an empty interface descriptor")
            self._descriptor = descriptor
        return self._descriptor

    def is_object_dead(self) -> bool:
        """Whether the object's process is known to be gone."""
        return self._connection.is_dead

    def register_death_recipient(self, recipient: DeathRecipient, flags: int = 0) -> None:
        """Have ``recipient.on_remote_died()`` called once when the object's process ends.

        Args:
            recipient: may be registered several times; it is called once per registration.
            flags: reserved, use 0.

        Raises:
            ParamTypeError: not a DeathRecipient, or flags not an int (401).
            DeadObjectError: the process is gone already (OpenHarmony ignores this silently) (-32).
        """
        _check_recipient(recipient, flags)
        with _recipients_lock:
            if not self.is_object_dead():
                if self._recipients is None:
                    self._recipients = []
                self._recipients.append(recipient)
                return
        raise DeadObjectError(f"{self!r} is dead already, nobody would be told; look the object up again")

    def unregister_death_recipient(self, recipient: DeathRecipient, flags: int = 0) -> bool:
        """Take one registration of ``recipient`` back; return whether there was one (False after it fired)."""
        _check_recipient(recipient, flags)
        with _recipients_lock:
            recipients = self._recipients or []
            for at, known in enumerate(recipients):
                if known is recipient:
                    del recipients[at]
                    return True
        return False

    def get_local_interface(self, descriptor: str) -> IRemoteBroker | None:
        """Refused: only a stub has a local interface (1900006)."""
        checked_descriptor(descriptor)
        raise OnlyRemoteObjectPermittedError(f"{self!r} lives in another process; it has no local interface")

    def query_local_interface(self, descriptor: str) -> None:
        """Return None: a proxy has no local interface (reference 1.7)."""
        checked_descriptor(descriptor)

    @property
    def _transact_async(self) -> Callable[..., Awaitable[int]]:
        """How coroutines call the object: the connection's way, or that of a subclass."""
        return self._connection.transact_async

    @property
    def owner(self) -> Caller:
        """Identity of the process that owns the object, as the kernel vouches for it."""
        return self._connection.caller

    def obituary(self) -> None:
        """Call every recipient once (driver only: the object's process ended)."""
        with _recipients_lock:
            recipients, self._recipients = self._recipients, None
        for recipient in recipients or ():
            try:
                recipient.on_remote_died()
            except Exception:
                _log.exception("a death recipient of %r raised; the others are still told", self)

    @property
    def has_recipients(self) -> bool:
        """Whether somebody is to be told of the death (a registration under way counts)."""
        with _recipients_lock:
            return bool(self._recipients)

    def __repr__(self) -> str:
        name = f" {self._descriptor!r}" if self._descriptor else ""
        return f"<{type(self).__name__}{name} handle={self._handle} of {self._connection!r}>"


def passed_on(proxy: RemoteProxy) -> RpcLimitError:
    """Return the error of a proxy of another device's object that is passed on on this device (reference 0, C4)."""
    return RpcLimitError(
        f"{proxy!r} is a proxy of another device's object and cannot be passed on to another process of this device; "
        "let that process get the object itself, e.g. by get_system_ability(..., device_id=...)",
        code=ERR_PASSED_ON,
    )


def check_code(code: int) -> None:
    """Raise unless ``code`` may be sent: 1 … 0x00FFFFFF or a reserved code everybody may send (reference 1.12)."""
    if isinstance(code, bool) or not isinstance(code, int):
        raise ParamTypeError(f"a transaction code is an int, got {type(code).__name__}")
    if 1 <= code <= limits.MAX_TRANSACTION_ID or code in _SENDABLE_RESERVED:
        return
    raise InvalidCodeError(
        f"transaction code {code:#x} is outside 1 … {limits.MAX_TRANSACTION_ID:#x} "
        "and is not PING, DUMP, INTERFACE or SYNCHRONIZE_REFERENCE"
    )


def check_sequences(data: object, reply: object) -> None:
    """Raise ParamTypeError unless both are MessageSequences (401)."""
    for name, value in (("data", data), ("reply", reply)):
        if not isinstance(value, MessageSequence):
            raise ParamTypeError(f"{name} must be a MessageSequence, got {type(value).__name__}")


def _check_recipient(recipient: object, flags: object) -> None:
    if not isinstance(recipient, DeathRecipient):
        raise ParamTypeError(f"expected a DeathRecipient, got {type(recipient).__name__}")
    if not isinstance(flags, int):
        raise ParamTypeError(f"flags is reserved and must be an int (use 0), got {type(flags).__name__}")


def _after_fork() -> None:
    global _recipients_lock
    _recipients_lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
