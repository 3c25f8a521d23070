"""What other devices ask of this one: from a received message to the object and back.

Owns: nothing; the tables are the service's.

Rules upheld: bytes are hostile until decoded; nothing reaches an object before the sender's generations and its right
to the object were checked (603), and a message that was given up never runs; whatever fails becomes a reply, with the
code, type name and text of the failure; references of a refused message are given back.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Final

from binderkit import limits
from binderkit.dbinder.peers import Admission, Peer
from binderkit.dbinder.wire import Action, Memory, Message, ObjectRef, Reply, decode_message, encode_reply
from binderkit.errors import (
    ERR_DATABUS_INVALID_DATA,
    ERR_DEAD_OBJECT,
    ERR_NOT_SUPPORTED,
    DeadObjectError,
    InvalidCodeError,
    IpcError,
    ProtocolError,
    QuotaError,
    RemoteError,
    RpcLimitError,
    ServiceError,
    TooBigError,
    TransactionError,
)
from binderkit.ipc import invocation
from binderkit.ipc.context import CallContext, RemoteCaller, current
from binderkit.ipc.dispatch import Failure, failure_of, handle_reserved
from binderkit.ipc.option import RECEIVED_ASYNC, RECEIVED_SYNC, MessageOption
from binderkit.ipc.proxy import INTERFACE_TRANSACTION, PING_TRANSACTION, REMOTE_TRANSACTION, RemoteProxy
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence

if TYPE_CHECKING:
    from binderkit.dbinder.exports import Export
    from binderkit.dbinder.service import DBinderService
    from binderkit.ipc.remote import IRemoteObject
    from binderkit.softbus.calls import Request

__all__ = ["Serving"]

_log = logging.getLogger("binderkit.dbinder")
_ONE_WAY: Final = MessageOption(MessageOption.TF_ASYNC)
_RESERVED: Final = (PING_TRANSACTION, INTERFACE_TRANSACTION)
_NO_ROOM: Final = 60.0
"""Seconds a one-way call waits for a process that takes no more: one that hangs must not keep our threads for ever."""
_FIRST_PAUSE: Final = 0.002
_LONGEST_PAUSE: Final = 0.05
"""Seconds between two looks whether it does; a driver tells nobody when there is room."""
_NOT_AVAILABLE: Final = 113
_BAD_ID: Final = 114


class Serving:
    """Handles the requests of other devices (the handler given to Calls)."""

    def __init__(self, service: DBinderService) -> None:
        self._service = service
        self._refused: Counter[str] = Counter()

    def serve(self, request: Request) -> bytes:
        """Return the reply to a request; never raises for what the other device sent."""
        peer = self._service.peer(request.source)
        mine = peer.mine
        try:
            message = decode_message(request.payload)
        except ProtocolError as error:
            self._complain(request.source, error)
            return encode_reply(Reply(mine, Failure(ERR_DATABUS_INVALID_DATA, "", str(error.args[0]), "")))
        outdated = self._outdated(peer, message)
        if outdated is not None:
            return encode_reply(Reply(peer.mine, outdated))
        try:
            reply = self._handle(peer, mine, message, request)
        except Exception as error:
            reply = Reply(mine, _failure(error))
        return encode_reply(reply)

    def _complain(self, device: str, error: IpcError) -> None:
        """Log a refusal; the 1st, 2nd, 4th, 8th … of a device, so that none can fill the log."""
        self._refused[device] += 1
        number = self._refused[device]
        if number & (number - 1) == 0:
            _log.warning("refused message number %d of device %s: %s", number, device[:8], error)

    def _outdated(self, peer: Peer, message: Message) -> Failure | None:
        """Return why a message is not for us as we are now."""
        admission = self._service.learn(peer, message.own)
        if admission is Admission.OUTDATED:
            return Failure(ERR_DEAD_OBJECT, "", "the message is of an earlier life of the device that sent it", "")
        if message.known not in (0, peer.mine):
            text = "the connection of the two devices broke, or this one was started anew; get its objects again"
            return Failure(ERR_DEAD_OBJECT, "", text, "")
        return None

    def _handle(self, peer: Peer, mine: int, message: Message, request: Request) -> Reply:
        action = message.action
        if action is Action.CALL or action is Action.ONEWAY:
            return self._call(peer, mine, message, request)
        if message.data or message.objects:
            raise ProtocolError(f"{action.name} with data or objects")
        if action is Action.GET:
            return self._get(peer, mine, message, request)
        if action is Action.WATCH:
            self._watch(peer, message)
        elif action is Action.RELEASE:
            self._service.release(peer.udid, message.object_id, message.code)
        elif action is Action.OBITUARY:
            stub = self._service.stand_in(peer.udid, message.object_id)
            if stub is not None:
                stub.died(f"the process of {stub!r} ended; get the object again")
        else:
            return Reply(mine, None, self._settle(peer, message))
        return Reply(mine)

    # --- calls ---------------------------------------------------------------------------------------

    def _call(self, peer: Peer, mine: int, message: Message, request: Request) -> Reply:
        oneway = message.action is Action.ONEWAY
        try:
            if oneway != request.oneway or request.target != message.object_id:
                raise ProtocolError("a call that is not what, or not to whom, it was sent as")
            _check_code(message.code)
            if oneway:
                _check_oneway_size(message)
            if not oneway:
                self._begin(peer, message)
            export = self._find(peer, message)
        except (ProtocolError, RpcLimitError, InvalidCodeError) as error:
            self._complain(peer.udid, error)
            raise
        unpacked = self._service.translator.unpack(peer.udid, message.objects, message.own)
        data, reply = MessageSequence(), MessageSequence()
        token = current.set(self._context(peer, message, request))
        try:
            body = message.data
            if isinstance(export.target, RemoteProxy) and message.code <= limits.MAX_TRANSACTION_ID:
                # The one copy on this device: what says who calls goes behind the data.
                flags = MessageOption.TF_ASYNC if oneway else MessageOption.TF_SYNC
                body = b"".join((body, invocation.trailer(message.code, self._caller(peer, message), flags)))
            unpacked.fill(data, body)
            self._invoke(export.target, message, data, reply, oneway)
            return Reply(mine) if oneway else self._reply(peer, mine, message, reply)
        finally:
            current.reset(token)
            data._objects = None  # a failure's frames may outlive us; what came with the call goes now

    def _begin(self, peer: Peer, message: Message) -> None:
        with self._service.lock:
            may_run = peer.fates.begin(message.number)
        if not may_run:
            raise ProtocolError(f"message {message.number} was given up by its sender, or came before")

    def _find(self, peer: Peer, message: Message) -> Export:
        """Return the object that is called; if it cannot be, give back what the message brought."""
        try:
            return self._service.find(peer.udid, message.object_id)
        except IpcError:
            for value in message.objects.values():
                if isinstance(value, ObjectRef) and value.owner == peer.udid:
                    self._service.give_back(peer.udid, value.object_id, message.own)
            raise

    def _context(self, peer: Peer, message: Message, request: Request) -> CallContext:
        caller = self._caller(peer, message)
        return CallContext(caller, None, None, threading.get_ident(), 0, message.chain, request.deadline, None)

    def _caller(self, peer: Peer, message: Message) -> RemoteCaller:
        return RemoteCaller(peer.udid, self._service.udid, message.pid, message.uid, message.token)

    def _invoke(
        self, target: IRemoteObject, message: Message, data: MessageSequence, reply: MessageSequence, oneway: bool
    ) -> None:
        if isinstance(target, RemoteProxy):
            code = message.code if message.code in _RESERVED else REMOTE_TRANSACTION
            if oneway:
                self._hand_over(target, code, data)
            else:
                target._transact(target._handle, code, data, reply, None)
            return
        assert isinstance(target, RemoteObject)
        context = current.get()
        assert context is not None and isinstance(context.caller, RemoteCaller)
        if message.code in _RESERVED:
            handle_reserved(target, message.code, data, reply)
            return
        received = RECEIVED_ASYNC if oneway else RECEIVED_SYNC
        result = invocation.handle_here(target, message.code, data, reply, received, context.caller, context)
        if isinstance(result, Awaitable):
            from binderkit.ipc import loop  # asyncio: only who has coroutine handlers pays for it

            loop.run(result, context)

    def _hand_over(self, target: RemoteProxy, code: int, data: MessageSequence) -> None:
        """Make a one-way call; wait while the object's process has no room, so that the sender's credit fills up.

        Raises:
            QuotaError: it had none for _NO_ROOM seconds; the call is lost, and that logged.
        """
        until, pause = time.monotonic() + _NO_ROOM, _FIRST_PAUSE
        while True:
            try:
                target._transact(target._handle, code, data, MessageSequence(), _ONE_WAY)
                return
            except QuotaError as error:
                if time.monotonic() > until or self._service.closing.wait(pause):
                    _log.error("a one-way call of another device is lost: %s", error)
                    raise
                pause = min(2 * pause, _LONGEST_PAUSE)

    def _reply(
        self, peer: Peer, mine: int, message: Message, reply: MessageSequence, *, ability: bool = False
    ) -> Reply:
        """Return the reply, its objects counted for the device; nothing of it if nobody waits any more."""
        packed = self._service.translator.pack(peer.udid, reply, ability=ability)
        answer = Reply(mine, None, packed.data, packed.objects)
        if not packed.objects:
            with self._service.lock:
                peer.fates.end(message.number, ())
            return answer
        if (size := len(encode_reply(answer))) >= limits.RPC_PAYLOAD:
            self._service.translator.undo(peer.udid, packed)
            raise TooBigError(f"a reply of {size} bytes to another device, the limit is {limits.RPC_MAX}")
        with self._service.lock:
            wanted = peer.mine == mine and peer.theirs == message.own
            wanted = wanted and peer.fates.end(message.number, packed.granted)
        if not wanted:
            self._service.translator.undo(peer.udid, packed)
            raise DeadObjectError("the device that called left, or gave the call up")
        return answer

    # --- the rest ------------------------------------------------------------------------------------

    def _get(self, peer: Peer, mine: int, message: Message, request: Request) -> Reply:
        if not limits.MIN_ABILITY_ID <= message.code <= limits.MAX_ABILITY_ID:
            raise ServiceError(f"{message.code:#x} is no id of a system ability", code=_BAD_ID)
        self._begin(peer, message)
        token = current.set(self._context(peer, message, request))
        try:
            found = self._service.get_local(message.code)
        finally:
            current.reset(token)
        if found is None:
            text = f"device {self._service.udid[:8]} has no system ability {message.code}, or cannot load it"
            raise ServiceError(text, code=_NOT_AVAILABLE)
        reply = MessageSequence()
        reply.write_remote_object(found)
        return self._reply(peer, mine, message, reply, ability=True)

    def _watch(self, peer: Peer, message: Message) -> None:
        export = self._service.find(peer.udid, message.object_id)
        if not export.ability:
            raise RpcLimitError("the death of an anonymous object is not told between devices", code=ERR_NOT_SUPPORTED)
        self._service.watched(peer.udid, export)

    def _settle(self, peer: Peer, message: Message) -> bytes:
        with self._service.lock:
            arrived, granted = peer.fates.settle(message.object_id)
        self._service.take_back(peer.udid, list(granted))
        return b"\1" if arrived else b"\0"


def _check_code(code: int) -> None:
    if not limits.MIN_TRANSACTION_ID <= code <= limits.MAX_TRANSACTION_ID and code not in _RESERVED:
        raise InvalidCodeError(f"transaction code {code:#x} is not for calls between devices")


def _check_oneway_size(message: Message) -> None:
    """Refuse a one-way call no process ever has room for; a device whose own driver let it through means harm."""
    size = len(message.data) + sum(value.size for value in message.objects.values() if isinstance(value, Memory))
    if size + limits.KIB > limits.ONEWAY_BUDGET:
        raise ProtocolError(f"a one-way call of {size} bytes; the budget of all together is {limits.ONEWAY_BUDGET}")


def _failure(error: Exception) -> Failure:
    """Return what the caller on the other device gets."""
    if isinstance(error, RemoteError):
        return Failure(error.code, error.type_name, error.text or str(error.args[0]), error.remote_traceback)
    if isinstance(error, (TransactionError, ServiceError, ProtocolError)):
        return Failure(error.code, "", str(error.args[0]), "")
    return failure_of(None, error)
