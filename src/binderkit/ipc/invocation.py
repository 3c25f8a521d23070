"""A call of another device, as the process that speaks for the device hands it to the process of the object.

Owns: the trailer that carries who calls behind the data area, who may send such a call, and the context in which the
handler sees the caller. A trailer and not a header: the object records keep their places, nothing is copied to read.

Rules upheld: only the process that speaks for the device (dbinder, in softbus) may say who calls: the process itself,
or one whose access token has the permission below; everybody else is refused with 303, or any local process could
claim to be another device. Its pid, uid and token are what the other device says: they never stand where numbers of
this device stand (reference 4.3). The codes another device may use are those of ordinary calls.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Awaitable
from struct import Struct
from typing import TYPE_CHECKING, Any, Final

from binderkit import limits
from binderkit.errors import IpcError, ProtocolError, RefusedError
from binderkit.ipc import tokens
from binderkit.ipc.context import CallContext, Caller, RemoteCaller, current
from binderkit.ipc.dispatch import check_handled
from binderkit.ipc.option import ReceivedOption
from binderkit.ipc.remote import RemoteObject, bound_handler
from binderkit.parcel import MessageSequence

if TYPE_CHECKING:
    from binderkit.ipc.option import MessageOption

__all__ = ["PERMISSION", "TRAILER_SIZE", "handle", "handle_here", "speaks_for_devices", "trailer"]

PERMISSION: Final = "ohos.permission.DISTRIBUTED_SOFTBUS_CENTER"
_TRAILER: Final = Struct("<IiqQI64s64s4s")
"""code, pid, uid, token, flags of the option, calling device, this device, magic."""
TRAILER_SIZE: Final = _TRAILER.size
_MAGIC: Final = b"_RPC"
_speakers = threading.local()


def trailer(code: int, caller: RemoteCaller, flags: int) -> bytes:
    """Return the bytes to put behind the data area of a call of ``caller``."""
    pid, uid, token = caller.remote_pid, caller.remote_uid, caller.remote_token_id
    devices = caller.device_id.encode("ascii"), caller.local_device_id.encode("ascii")
    return _TRAILER.pack(code, pid, uid, token, flags, *devices, _MAGIC)


def handle(stub: RemoteObject, data: MessageSequence, reply: MessageSequence) -> Any:
    """Handle REMOTE_TRANSACTION: call the handler as the process of another device that the trailer names.

    Returns:
        True, or an awaitable for a coroutine.

    Raises:
        RefusedError: the caller does not speak for this device (303).
        ProtocolError: no proper trailer (601).
    """
    outer = current.get()
    if outer is None or not speaks_for_devices(outer.caller):
        raise RefusedError(
            "only the process that speaks for this device (softbus) may hand over calls of other devices; "
            f"it needs {PERMISSION}"
        )
    body = data._in
    at = len(body) - TRAILER_SIZE
    if at < 0:
        raise ProtocolError(f"a call of another device in {len(body)} bytes; what says who calls has {TRAILER_SIZE}")
    code, pid, uid, token, flags, device, here, magic = _TRAILER.unpack_from(body, at)
    if magic != _MAGIC or not 1 <= code <= limits.MAX_TRANSACTION_ID:
        raise ProtocolError(f"a call of another device with code {code:#x} and magic {magic!r}")
    caller = RemoteCaller(_text(device), _text(here), pid, uid, token)
    objects, data._objects = data._objects, None
    inner = MessageSequence._received(memoryview(body)[:at], objects)
    return handle_here(stub, code, inner, reply, ReceivedOption(flags), caller, outer)


def handle_here(
    stub: RemoteObject,
    code: int,
    data: MessageSequence,
    reply: MessageSequence,
    option: MessageOption,
    caller: RemoteCaller,
    outer: CallContext,
) -> Any:
    """Call the handler of ``stub``, an object of this process, as ``caller`` inside the call ``outer``.

    Returns:
        True, or an awaitable for a coroutine. ``data`` belongs to the handler and is let go after it.
    """
    context = CallContext(caller, outer.peer, outer.lane, outer.thread, outer.seq, outer.chain, outer.deadline, outer)
    token = current.set(context)
    outer.on_cancel(context.cancel)
    later = False
    try:
        result: Any = bound_handler(stub)(code, data, reply, option)
        if isinstance(result, Awaitable):
            later = True
            return _later(stub, code, data, result, context)
        check_handled(stub, code, result)
        return True
    finally:
        current.reset(token)
        if not later:
            outer.on_cancel(None)
            data._objects = None


def _text(device: bytes) -> str:
    return device.rstrip(b"\0").decode("ascii", "replace")


async def _later(
    stub: RemoteObject, code: int, data: MessageSequence, awaitable: Awaitable[Any], context: CallContext
) -> bool:
    """Run a coroutine handler in its context; whoever runs this cancels it with the call."""
    token = current.set(context)
    try:
        check_handled(stub, code, await awaitable)
        return True
    finally:
        current.reset(token)
        data._objects = None


def speaks_for_devices(caller: Caller) -> bool:
    """Whether ``caller`` may say that another device calls: this very process, or a holder of the permission.

    SAMgr is asked once per connection. Without one, only this process itself may.
    """
    if caller.device_id:
        return False
    if caller.pid == os.getpid():
        return True
    known = getattr(_speakers, "known", None)
    if known is not None and known[0] is caller:
        return bool(known[1])
    try:
        allowed = _has_permission(tokens.known_token_of(caller))
    except IpcError as error:
        raise RefusedError(f"whether {caller!r} speaks for this device could not be asked: {error}") from error
    _speakers.known = (caller, allowed)
    return allowed


def _has_permission(token: int) -> bool:
    if token == 0:
        return False
    source = tokens.source()
    if source is not None:
        return source.verify(token, PERMISSION)

    def question(data: MessageSequence) -> None:
        data.write_long(token)
        data.write_string(PERMISSION)

    return tokens.ask(tokens.VERIFY_TOKEN, question).read_boolean()
