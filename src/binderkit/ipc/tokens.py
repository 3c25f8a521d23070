"""Which access token a caller has: SAMgr is asked once per connection, and the answer kept with the caller.

Owns: the question to SAMgr (codes 110 … 112, samgr/token_service.py answers) and what is remembered of its answers.
Here and not in samgr/, because IPCSkeleton needs it; SAMgr itself is only reached as the context object.

Rules upheld: a token belongs to the process the kernel names, never to what a caller claims (reference 1.8): after the
answer the caller's process is looked at once more, so that a pid that was given to somebody else meanwhile brings no
token along. SAMgr is never started for this, and asked with a time limit. Callers of other devices have no token here.
"""

from __future__ import annotations

import logging
import os
import signal
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final, Protocol

from binderkit.errors import (
    DeadObjectError,
    IpcError,
    NoServiceManagerError,
    RefusedError,
    ServiceError,
    UnknownTransactionError,
)
from binderkit.ipc.context import current

if TYPE_CHECKING:
    from binderkit.ipc.context import Caller
    from binderkit.ipc.proxy import RemoteProxy
    from binderkit.parcel import MessageSequence

_log = logging.getLogger("binderkit.ipc")

MANAGER_DESCRIPTOR: Final = "OHOS.ISystemAbilityManager"
"""SAMgr's interface token; samgr/codes.py has the rest of its numbers."""
TOKEN_OF_PID: Final = 110
VERIFY_TOKEN: Final = 111
TOKEN_INFO: Final = 112
ASK_TIMEOUT: Final = 4.0
"""Seconds SAMgr may take: a handler must not hang because SAMgr does."""
RETRY_AFTER: Final = 1.0
"""Seconds before SAMgr is looked for again when there was none."""

Write = Callable[["MessageSequence"], None]


class TokenSource(Protocol):
    """Whoever knows tokens in SAMgr's own process (samgr/tokens.py)."""

    def token_of_caller(self, pid: int, uid: int) -> int:
        """Return the token of a process that the kernel vouched for with this uid, 0 when it has none."""

    def verify(self, token: int, permission: str) -> bool:
        """Whether the holder of ``token`` has ``permission``."""


class _State:
    """What this process remembers about SAMgr and about itself."""

    def __init__(self) -> None:
        self.source: TokenSource | None = None
        self.reached = False
        self.silent_until = 0.0
        self.own_token: int | None = None


_state = _State()


def use_source(source: TokenSource | None) -> None:
    """Answer questions from ``source`` instead of asking SAMgr: for SAMgr's own process. None: ask again."""
    _state.source = source
    _state.own_token = None


def source() -> TokenSource | None:
    """Return what ``use_source`` set."""
    return _state.source


def manager_was_reached() -> bool:
    """Whether SAMgr ever answered this process: then its silence is an outage, not a device without one."""
    return _state.reached


def manager_uid() -> int:
    """Return the uid SAMgr runs as, as the kernel vouches for it.

    Raises:
        NoServiceManagerError: none runs (1007).
    """
    return os.geteuid() if _state.source is not None else _manager().owner.uid


def token_of(caller: Caller) -> int:
    """Return the access token of a caller; 0 when it has none, runs on another device, or SAMgr cannot be asked."""
    if caller.token_known:
        return caller.token_id
    try:
        return known_token_of(caller)
    except IpcError as error:
        _log.debug("the token of %r is unknown: %s", caller, error)
        return 0


def known_token_of(caller: Caller) -> int:
    """Return the access token of a caller, 0 when it has none.

    Raises:
        NoServiceManagerError: no SAMgr runs (1007).
        RefusedError: we may not use the SAMgr of this runtime directory (303).
        DeadObjectError: SAMgr, or the caller, ended meanwhile (-32).
        CallTimeoutError: SAMgr did not answer within ASK_TIMEOUT (502).
    """
    known = _remembered(caller)
    if known is None:
        try:
            if _state.source is not None:
                known = _state.source.token_of_caller(caller.pid, caller.uid)
            else:
                known = ask(TOKEN_OF_PID, lambda data: _write_process(data, caller)).read_long()
        except UnknownTransactionError:
            known = 0  # a SAMgr without access tokens
        _remember(caller, known)
    return known


async def known_token_of_async(caller: Caller) -> int:
    """Return the same without blocking the event loop."""
    known = _remembered(caller)
    if known is None:
        try:
            if _state.source is not None:
                known = _state.source.token_of_caller(caller.pid, caller.uid)
            else:
                known = (await ask_async(TOKEN_OF_PID, lambda data: _write_process(data, caller))).read_long()
        except UnknownTransactionError:
            known = 0
        _remember(caller, known)
    return known


def ask(code: int, write: Write) -> MessageSequence:
    """Send SAMgr one of the codes above, return its reply behind the result.

    Raises:
        NoServiceManagerError, DeadObjectError, CallTimeoutError: as known_token_of.
        ServiceError: SAMgr answered with a code and a text (reference 2.3).
    """
    from binderkit.ipc.option import MessageOption

    data, reply = _request(write)
    _manager().send_request(code, data, reply, MessageOption(timeout=ASK_TIMEOUT))
    return _answer(reply)


async def ask_async(code: int, write: Write) -> MessageSequence:
    """Do the same without blocking the event loop."""
    from binderkit.ipc.option import MessageOption

    data, reply = _request(write)
    await _manager().send_message_request(code, data, reply, MessageOption(timeout=ASK_TIMEOUT))
    return _answer(reply)


def _manager() -> RemoteProxy:
    from binderkit.ipc.driver import current_driver  # only here: it needs the object model, which needs this file

    if time.monotonic() < _state.silent_until:
        raise NoServiceManagerError(f"SAMgr was not found when it was looked for, less than {RETRY_AFTER:g} s ago")
    try:
        return current_driver().context_object(start=False)
    except (NoServiceManagerError, RefusedError):
        _state.silent_until = time.monotonic() + RETRY_AFTER
        raise


def _request(write: Write) -> tuple[MessageSequence, MessageSequence]:
    from binderkit.parcel import MessageSequence

    data = MessageSequence()
    data.write_interface_token(MANAGER_DESCRIPTOR)
    write(data)
    return data, MessageSequence()


def _answer(reply: MessageSequence) -> MessageSequence:
    _state.reached = True
    result = reply.read_int()
    if result:
        raise ServiceError(reply.read_string(), code=result)
    return reply


def _write_process(data: MessageSequence, caller: Caller) -> None:
    data.write_int(caller.pid)
    data.write_long(caller.uid)


def _remembered(caller: Caller) -> int | None:
    if caller.token_known or caller.device_id:
        return caller.token_id
    if not caller.pid:
        return 0  # a one-way call over the kernel's Binder: nobody knows which process made it
    return _state.own_token if caller.pid == os.getpid() else None


def _remember(caller: Caller, token: int) -> None:
    if caller.pid == os.getpid():
        # Whoever started us gave the token before our first instruction, so it never changes.
        _state.own_token = token
        return
    context = current.get()
    if context is not None and context.origin is caller and not _is_there(context.peer):
        raise DeadObjectError(f"{caller!r} ended while its access token was looked up; its pid may be another's now")
    caller.token_id = token
    caller.token_known = True


def _is_there(peer: Any) -> bool:
    """Whether the process of a connection still has its pid (a zombie has)."""
    if peer is None:
        return True
    pidfd = getattr(peer, "pidfd", -1)
    if pidfd < 0:
        return not peer.is_dead
    try:
        signal.pidfd_send_signal(pidfd, 0)
    except PermissionError:
        return True  # of another user, and there
    except OSError:
        return False
    return True


def _after_fork() -> None:
    _state.source = None  # what the parent knows is the parent's
    _state.own_token = None
    _state.silent_until = 0.0


os.register_at_fork(after_in_child=_after_fork)
