"""From a request to the stub's handler and back: the part every driver shares.

Owns: which handler is called, the reserved codes and who may use them
(reference 1.12), and how a handler's outcome becomes a status that can travel.

Rules upheld: a service's exception crosses as a code, a type name and a text,
never as data that is executed; a handler's own DeadObjectError is not the death
of the connection the request came on.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from binderkit.errors import (
    ERR_INVALID_PARAM,
    ERR_UNKNOWN_TRANSACTION,
    ERR_WAIT_REPLY_TIMEOUT,
    CallCancelledError,
    InterfaceMismatchError,
    IpcError,
    QuotaError,
    RefusedError,
    TransactionError,
    UnknownTransactionError,
    error_from_status,
)
from binderkit.ipc.context import CallContext, current, own_identity
from binderkit.ipc.option import RECEIVED_SYNC, MessageOption
from binderkit.ipc.proxy import (
    DUMP_TRANSACTION,
    INTERFACE_TRANSACTION,
    PING_TRANSACTION,
    REMOTE_TRANSACTION,
    SYNCHRONIZE_REFERENCE,
    check_code,
    check_sequences,
)
from binderkit.ipc.remote import ForeignObject, NoHandler, RemoteObject, bound_handler

if TYPE_CHECKING:
    from binderkit.parcel import MessageSequence

_log = logging.getLogger("binderkit.ipc")

DUMP_UIDS: Final = frozenset({0, 2000, 1212})
"""root, shell and hidumper (reference 1.12); the service's own user is added on Linux."""
MAX_ERROR_TEXT: Final = 4096
MAX_TRACEBACK: Final = 16384


class Failure(NamedTuple):
    """Why a request failed, as it travels to the caller."""

    status: int
    type_name: str
    text: str
    remote_traceback: str

    def error(self) -> TransactionError:
        """Return what the caller raises."""
        return error_from_status(*self)


class NotHandled(Exception):
    """A handler answered something else than True."""


class Forwarded(Exception):
    """A call that was passed on to another device failed there, or on its way; the caller gets ``failure`` as it is."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.text)
        self.failure = failure


def check_handled(stub: RemoteObject, code: int, result: object) -> None:
    """Raise NotHandled unless the handler said that it handled the request."""
    if not result:
        raise NotHandled(
            f"the handler of {stub.get_descriptor()!r} returned {result!r} for code {code}: "
            "it does not know this code (a handler returns True for what it handled)"
        )


def failure_of(stub: RemoteObject | None, error: BaseException) -> Failure:
    """Return how ``error``, raised while ``stub`` handled a request, travels to the caller."""
    if isinstance(error, Forwarded):
        return error.failure
    if isinstance(error, NotHandled):
        return Failure(ERR_UNKNOWN_TRANSACTION, "", str(error), "")
    if isinstance(error, NoHandler):
        return Failure(ERR_INVALID_PARAM, "NoHandler", str(error), "")
    if isinstance(error, CallCancelledError):
        # Nobody waits any more, or the deadline passed here a moment before it does at the caller.
        return Failure(ERR_WAIT_REPLY_TIMEOUT, "", "the handler stopped because the deadline passed", "")
    text = _text(error)
    if isinstance(error, (RefusedError, UnknownTransactionError, QuotaError, InterfaceMismatchError)):
        return Failure(error.code, "", text, "")
    own_code = isinstance(error, IpcError) and not isinstance(error, TransactionError)
    status = error.code if own_code else ERR_UNKNOWN_TRANSACTION  # type: ignore[attr-defined]
    kind = type(error)
    name = kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    remote_traceback = ""
    if stub is not None and getattr(stub, "send_tracebacks", False):
        import traceback

        remote_traceback = "".join(traceback.format_exception(error))[-MAX_TRACEBACK:]
    _log.warning("the handler of %r raised %s: %s", stub, name, text, exc_info=error)
    return Failure(status or ERR_UNKNOWN_TRANSACTION, name[:MAX_ERROR_TEXT], text, remote_traceback)


def _text(error: BaseException) -> str:
    try:
        text = str(error.args[0]) if isinstance(error, IpcError) and error.args else str(error)
    except Exception as bad:  # the exception's own __str__ failed; say so instead of losing the call
        text = f"<its text cannot be made: {type(bad).__name__}>"
    return text[:MAX_ERROR_TEXT]


def handle_reserved(stub: RemoteObject, code: int, data: MessageSequence, reply: MessageSequence) -> Any:
    """Handle a code above 0x00FFFFFF (reference 1.12).

    Returns:
        True, or what the handler of a call from another device returned (an awaitable for a coroutine).

    Raises:
        RefusedError: this caller may not use the code (303).
        UnknownTransactionError: no such code (305).
    """
    if isinstance(stub, ForeignObject):
        return stub.on_reserved(code, data, reply)
    if code == PING_TRANSACTION:
        return True
    if code == INTERFACE_TRANSACTION:
        reply.write_string(stub.get_descriptor())
        return True
    if code == SYNCHRONIZE_REFERENCE:
        reply.write_int(sys.getrefcount(stub))
        return True
    if code == DUMP_TRANSACTION:
        return _dump(stub, data)
    if code == REMOTE_TRANSACTION:
        from binderkit.ipc import invocation  # only processes that other devices call pay for it

        return invocation.handle(stub, data, reply)
    if code in _INTERNAL_CODES:
        raise RefusedError(f"code {code:#x} is answered only inside SAMgr or between devices")
    raise UnknownTransactionError(f"{stub.get_descriptor()!r} does not know the reserved code {code:#x}")


_INTERNAL_CODES: Final = frozenset(
    int.from_bytes(name, "big")
    for name in (
        b"_ILT",
        b"_GRI",
        b"_GPU",
        b"_GSN",
        b"_GSP",
        b"_GGS",
        b"_RSN",
        b"_DCS",
        b"_DOT",
        b"_DIT",
        b"_DDT",
        b"_DAC",
    )
)


def _dump(stub: RemoteObject, data: MessageSequence) -> bool:
    """DUMP: a file descriptor and a list of strings, from root, shell, hidumper or our own user."""
    context = current.get()
    caller = own_identity() if context is None else context.caller
    if caller.device_id or (caller.uid not in DUMP_UIDS and caller.uid != os.getuid()):
        raise RefusedError(f"DUMP is allowed for uids {sorted(DUMP_UIDS)} and the service's own, not for {caller!r}")
    descriptor = data.read_file_descriptor()
    try:
        stub.on_dump(descriptor, list(data.read_string_array()))
    finally:
        os.close(descriptor)
    return True


def call_local(
    stub: RemoteObject, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None
) -> int:
    """Call a stub of this process directly, on this thread, as ourselves; return 0 (reference 1.7, trap 1)."""
    check_code(code)
    check_sequences(data, reply)
    token = current.set(_local_context())
    try:
        result: Any = _invoke(stub, code, data, reply, option)
        if isinstance(result, Awaitable):
            result = _loop_runner(result)
        check_handled(stub, code, result)
    except Exception as error:
        raise failure_of(stub, error).error() from error
    finally:
        current.reset(token)
    return 0


async def call_local_async(
    stub: RemoteObject, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None
) -> int:
    """The same from a coroutine; an async handler runs on the running loop."""
    check_code(code)
    check_sequences(data, reply)
    token = current.set(_local_context())
    try:
        result: Any = _invoke(stub, code, data, reply, option)
        if isinstance(result, Awaitable):
            result = await result
        check_handled(stub, code, result)
    except Exception as error:
        raise failure_of(stub, error).error() from error
    finally:
        current.reset(token)
    return 0


def _local_context() -> CallContext | None:
    """Return the context of a direct call: we are the caller, chain and deadline of the request being handled go on."""
    outer = current.get()
    if outer is None:
        return None
    return CallContext(
        own_identity(), outer.peer, outer.lane, outer.thread, outer.seq, outer.chain, outer.deadline, outer
    )


def _invoke(
    stub: RemoteObject, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None
) -> Any:
    if code > 0x00FFFFFF:
        return handle_reserved(stub, code, data, reply)
    return bound_handler(stub)(code, data, reply, option if option is not None else RECEIVED_SYNC)


def settle(stub: RemoteObject, code: int, result: Any, context: CallContext) -> None:
    """Finish a handler that did not return True at once, on a worker thread: await it, then judge it."""
    if isinstance(result, Awaitable):
        result = _loop_runner(result, context)
    check_handled(stub, code, result)


def _loop_runner(awaitable: Awaitable[Any], context: CallContext | None = None) -> Any:
    from binderkit.ipc.loop import run

    return run(awaitable, context)
