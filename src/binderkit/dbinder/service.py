"""DBinderService: remote objects between this device and the others, in the process that speaks for the device.

Owns: the tables of what goes back and forth (exports, imports, peers), and both directions of a call:

    app --local driver--> RemoteStub --forward--> Calls ))) ((( Calls --_serve--> proxy --local driver--> app

Everything of the local driver (identity, death, deadlines, nested calls) holds on both ends, and Calls brings each
message over at most once. What stands here is what neither knows: which device holds which object.

Rules upheld (ARCHITECTURE; reference 0, 4): a device reaches only objects it was given (603); a message leaves with
all of its references or none, and one whose fate is unknown is settled as soon as that device can be asked; what a
device gave is dead when it leaves or starts anew; one-way calls to an object stay in order, and so does giving it
back behind them; who calls is proven by the device's certificate, its process numbers never pass for ours.

Locks: ``_lock`` guards exports and peers for a few statements; nothing is called while it is held.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import count
from typing import TYPE_CHECKING, Final, Protocol

from binderkit import limits
from binderkit.dbinder.exports import Export, Exports
from binderkit.dbinder.imports import Imports, Returned
from binderkit.dbinder.outbox import Outbox
from binderkit.dbinder.peers import Admission, Peer
from binderkit.dbinder.serving import Serving
from binderkit.dbinder.stub import RemoteStub
from binderkit.dbinder.translate import BulkPort, Packed, Translator
from binderkit.dbinder.wire import Action, Message, ObjectRef, decode_reply, encode_message
from binderkit.errors import (
    ERR_DEAD_OBJECT,
    CallTimeoutError,
    DeadObjectError,
    IpcError,
    ProtocolError,
    QuotaError,
    ServiceError,
    TooBigError,
)
from binderkit.ipc.context import calling_identity, current, new_chain
from binderkit.ipc.dispatch import Failure, Forwarded
from binderkit.ipc.driver import Driver, current_driver
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy
from binderkit.parcel import MessageSequence
from binderkit.softbus.engine import PresenceEvent

if TYPE_CHECKING:
    from binderkit.ipc.remote import IRemoteObject
    from binderkit.softbus.calls import Request
    from binderkit.softbus.engine import DeviceInfo, Presence

__all__ = ["DBinderService", "RemoteCalls"]

_log = logging.getLogger("binderkit.dbinder")
_SETTLE_TRIES: Final = 5
_SETTLE_WAIT: Final = 4.0
"""Seconds for the answer to one try."""
_ONEWAY_TRIES: Final = 12
"""Times limits.ONEWAY_SEND_WAIT seconds a one-way call waits for a device that takes no more, before it is lost (and
that logged): a device that hangs must not keep our threads for ever."""
_NEGOTIATION: Final = range(100, 117)
"""Codes of the search for a system ability (reference 1.10): they reach the caller as ServiceError."""


class RemoteCalls(Protocol):
    """What brings messages to other devices (softbus/calls.py)."""

    def call(self, udid: str, target: int, payload: bytes, *, timeout: float = ...) -> bytes:
        """Call a device, at most once, and return its reply."""

    def send(self, udid: str, target: int, payload: bytes) -> None:
        """Send a one-way message, in order per device and target."""

    def serve(self, handler: Callable[[Request], bytes]) -> None:
        """Have ``handler`` called for what other devices send."""

    def on_device(self, listener: Callable[[Presence], None]) -> None:
        """Have ``listener`` told who comes and goes."""


class DBinderService:
    """Remote objects of this device and of the others. Close it after the ``Calls`` it was given."""

    def __init__(
        self,
        calls: RemoteCalls,
        bulk: BulkPort,
        get_local: Callable[[int], IRemoteObject | None],
        *,
        udid: str,
        driver: Driver | None = None,
    ) -> None:
        """Begin to serve other devices.

        Args:
            calls: messages to and from them.
            bulk: memory too large for a message.
            get_local: returns the system ability another device asks for; called on a worker, in the context of the
                call (IPCSkeleton tells the device). None: not there (113); it may raise ServiceError with a code of
                reference 1.10 (114 no such id, 115 not distributed).
            udid: this device, 64 hexadecimal digits.
            driver: whose processes the objects of this device live in; this process's driver by default.
        """
        self.udid = udid
        self.driver = current_driver() if driver is None else driver
        self._calls = calls
        self._get_local = get_local
        self._lock = threading.Lock()
        self._exports = Exports()
        self._peers: dict[str, Peer] = {}
        self._devices: dict[str, DeviceInfo] = {}
        self._numbers = count(1)
        self._closed = False
        self._on_lost: list[Callable[[str, str], None]] = []
        self.closing = threading.Event()
        """Set when other devices are not served any more: whoever waits for one of our processes gives up."""
        self.outbox = Outbox(self.driver.submit)
        self._imports = Imports(partial(RemoteStub, self), _give_back(self))
        self.translator = Translator(udid, bulk, self)
        calls.on_device(self._presence)
        calls.serve(Serving(self).serve)

    # --- for this device ---------------------------------------------------------------------------

    def get(self, device: str, ability_id: int, *, timeout: float = limits.DEFAULT_WAIT_TIME) -> RemoteStub:
        """Return the stand-in of a system ability of another device; it is loaded there when need be.

        Args:
            device: its network id or UDID.
            timeout: seconds.

        Raises:
            ServiceError: that device does not have it (113), no such id (114), not distributed (115), no such device
                here (108) (reference 1.10).
            DeadObjectError, CallTimeoutError, QuotaError: see Calls.call.
        """
        udid = self.resolve(device)
        peer = self.peer(udid)
        message = self._message(peer, Action.GET, 0, ability_id)
        message.known = 0  # it names nothing that device gave us, so it does not matter whether that is still valid
        try:
            objects = self._exchange(peer, message, 0, Packed(b""), timeout)
        except Forwarded as forwarded:
            failure = forwarded.failure
            if failure.status in _NEGOTIATION:
                raise ServiceError(failure.text, code=failure.status) from None
            raise failure.error() from None
        stub = objects.read_remote_object()
        if not isinstance(stub, RemoteStub):
            raise ProtocolError(f"device {udid[:8]} answered with {stub!r} instead of an object of its own")
        return stub

    def resolve(self, device: str) -> str:
        """Return the UDID of a device that is known by its network id or UDID.

        Raises:
            ServiceError: nobody of this name is online (108).
        """
        with self._lock:
            for udid, info in self._devices.items():
                if device in (udid, info.network_id):
                    return udid
        raise ServiceError(
            f"no device {device!r} is online; list the devices, and pair with it if it is not trusted yet", code=108
        )

    def forward(
        self, stub: RemoteStub, code: int, data: MessageSequence, reply: MessageSequence, *, oneway: bool
    ) -> None:
        """Bring a call of a process of this device to an object of another one; fill ``reply``.

        Raises:
            Forwarded: what the caller is to get.
            RpcLimitError, TooBigError, QuotaError, InvalidObjectError: it was not sent.
        """
        context = current.get()
        peer = self.peer(stub.device)
        caller = calling_identity()
        message = self._message(peer, Action.ONEWAY if oneway else Action.CALL, stub.object_id, code)
        message.known = stub.generation
        message.pid, message.uid, message.token = caller.pid, caller.uid, caller.token_id
        message.chain = new_chain() if context is None else context.chain
        packed = self.translator.pack(stub.device, data)
        if oneway:
            self._send(peer, message, packed)
            return
        remaining = None if context is None else context.remaining()
        answer = self._exchange(peer, message, stub.object_id, packed, _patience(remaining), stub)
        if answer._objects is None:
            reply._out += answer._in
            return
        hold = answer._blob
        reply._load(answer._in, answer._objects)
        reply._blob = hold
        answer._objects = answer._blob = None

    def watch(self, stub: RemoteStub) -> None:
        """Have the device of ``stub`` tell us of its death.

        Raises:
            Forwarded: what the caller is to get.
        """
        peer = self.peer(stub.device)
        message = self._message(peer, Action.WATCH, stub.object_id, 0)
        message.known = stub.generation
        context = current.get()
        remaining = None if context is None else context.remaining()
        self._exchange(peer, message, stub.object_id, Packed(b""), _patience(remaining), stub)

    def on_device_lost(self, listener: Callable[[str, str], None]) -> None:
        """Have ``listener(udid, why)`` called after what a device gave us died and what we gave it went.

        For whoever keeps something for a device; call it before other devices are there. It must not block.
        """
        self._on_lost.append(listener)

    def close(self) -> None:
        """Serve nobody any more: what other devices gave us is dead. Idempotent."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            peers = list(self._peers)
        self.closing.set()
        for udid in peers:
            self._drop(udid, "this device's dbinder was closed")
        self.outbox.close()

    def statistics(self) -> dict[str, int]:
        """Return counts for leak checks: our objects other devices hold, theirs that we hold."""
        with self._lock:
            exports = len(self._exports)
        return {"exports": exports, "imports": len(self._imports)}

    # --- sending -------------------------------------------------------------------------------------

    def _message(self, peer: Peer, action: Action, object_id: int, code: int) -> Message:
        with self._lock:
            return Message(action, peer.mine, peer.theirs, next(self._numbers), object_id, code)

    def _send(self, peer: Peer, message: Message, packed: Packed) -> None:
        with self._undo_unsent(peer.udid, packed), self.driver.outgoing(peer):
            payload = _encoded(message, packed)
            for last in (*(False,) * (_ONEWAY_TRIES - 1), True):
                try:
                    self._calls.send(peer.udid, message.object_id, payload)
                    return
                except QuotaError:
                    # Our caller has returned already: waiting here fills its budget, so that it is the one told.
                    if last:
                        raise

    @contextmanager
    def _undo_unsent(self, device: str, packed: Packed) -> Iterator[None]:
        """Take back what a message gives if it certainly did not leave."""
        try:
            yield
        except BaseException as error:
            self.translator.undo(device, packed)
            if isinstance(error, (DeadObjectError, CallTimeoutError)):
                raise _forwarded(error) from None
            raise

    def _exchange(
        self, peer: Peer, message: Message, target: int, packed: Packed, timeout: float, stub: RemoteStub | None = None
    ) -> MessageSequence:
        """Send a message and return what came back.

        Raises:
            Forwarded: it failed there, or its outcome is unknown.
            TooBigError, QuotaError: it was not sent.
        """
        udid = peer.udid
        try:
            payload = _encoded(message, packed)
            with self.driver.outgoing(stub or peer):
                packet = self._calls.call(udid, target, payload, timeout=timeout)
        except (DeadObjectError, CallTimeoutError) as error:
            self._unsettled(peer, message, packed)
            raise _forwarded(error) from None
        except BaseException:
            self.translator.undo(udid, packed)
            raise
        reply = decode_reply(packet)
        self.learn(peer, reply.own)
        if reply.failure is not None:
            if stub is not None and reply.failure.status == ERR_DEAD_OBJECT and not reply.failure.type_name:
                stub.died(reply.failure.text)
            raise Forwarded(reply.failure)
        answer = MessageSequence()
        if not reply.objects:
            answer._in = reply.data
            answer._out = None
            return answer
        if peer.mine != message.own:
            raise Forwarded(Failure(ERR_DEAD_OBJECT, "", f"device {udid[:8]} left while its reply was on the way", ""))
        self.translator.unpack(udid, reply.objects, reply.own).fill(answer, reply.data)
        return answer

    def _unsettled(self, peer: Peer, message: Message, packed: Packed) -> None:
        """Nobody knows what became of a message: ask as soon as the device answers, or forget it when it left."""
        if not self._closed:
            self.outbox.add(peer.udid, partial(self._settle, peer, message.own, message.number, packed))

    def _settle(self, peer: Peer, generation: int, number: int, packed: Packed) -> None:
        for _ in range(_SETTLE_TRIES):
            if peer.mine != generation or self._closed:
                return  # the device left: everything went with it
            question = self._message(peer, Action.SETTLE, 0, 0)
            question.object_id = number
            try:
                packet = self._calls.call(peer.udid, 0, encode_message(question), timeout=_SETTLE_WAIT)
            except CallTimeoutError:
                continue
            reply = decode_reply(packet)
            self.learn(peer, reply.own)
            if reply.failure is None and bytes(reply.data) == b"\0" and peer.mine == generation:
                self.translator.undo(peer.udid, packed)
            return
        _log.warning(
            "device %s does not say what became of message %d; its references stay until it leaves",
            peer.udid[:8],
            number,
        )

    # --- references ----------------------------------------------------------------------------------

    def grant(self, device: str, target: IRemoteObject) -> Export:
        """Count one more reference of ``device`` to an object of this one.

        Raises:
            DeadObjectError: the object's process ended. QuotaError: see Exports.grant.
        """
        with self._lock:
            export = self._exports.grant(device, target)
            fresh = export.recipient is None and isinstance(target, RemoteProxy)
            if fresh:
                export.recipient = _Recipient(self, export)
        if fresh:
            assert export.recipient is not None
            try:
                target.register_death_recipient(export.recipient)
            except BaseException:
                self.take_back(device, [export.object_id])
                raise
        return export

    def take_back(self, device: str, granted: list[int]) -> None:
        """Undo grants: each number once per reference. What the device does not hold any more is gone already."""
        for object_id in granted:
            try:
                self.release(device, object_id, 1)
            except ProtocolError as error:
                _log.debug("nothing to take back: %s", error)

    def release(self, device: str, object_id: int, number: int) -> None:
        """Take references of ``device`` back.

        Raises:
            ProtocolError: more than it holds (601).
        """
        with self._lock:
            export = self._exports.release(device, object_id, number)
        if export is not None:
            _let_go(export)

    def find(self, device: str, object_id: int) -> Export:
        """Return the object of ours that ``device`` names (see Exports.find)."""
        with self._lock:
            return self._exports.find(device, object_id)

    def watched(self, device: str, export: Export) -> None:
        """``device`` is to be told of the death of an object it holds."""
        with self._lock:
            self._exports.find(device, export.object_id).watchers.add(device)
        if export.target.is_object_dead():
            self.object_died(export)  # before its recipient could hear of it

    def object_died(self, export: Export) -> None:
        """The process of an object of ours ended: tell the devices that asked."""
        with self._lock:
            watchers = self._exports.died(export)
        for device in watchers:
            self.outbox.add(device, partial(self._tell_of_death, device, export.object_id))

    def _tell_of_death(self, device: str, object_id: int) -> None:
        message = self._message(self.peer(device), Action.OBITUARY, object_id, 0)
        self._calls.send(device, 0, encode_message(message))

    def give_back(self, device: str, object_id: int, generation: int) -> None:
        """Give one reference back that was received in that generation of the device, and that nobody took over."""
        self.outbox.add(device, partial(self._release, device, generation, object_id, 1))

    def _release(self, device: str, generation: int, object_id: int, number: int) -> None:
        """Say that we hold ``number`` references less; behind the one-way calls to the object (outbox)."""
        message = self._message(self.peer(device), Action.RELEASE, object_id, number)
        # Not the generation we know now: there, the object may have been received anew.
        message.known = generation
        self._calls.send(device, object_id, encode_message(message))

    def returned(self, returned: Returned) -> None:
        """A stand-in went: its references go back if its device is still the one that gave it (outbox)."""
        device, generation, object_id, number = returned
        self._imports.forget(device, object_id)
        if self.peer(device).theirs == generation and not self._closed:
            self._release(device, generation, object_id, number)

    def receive(self, reference: ObjectRef, generation: int) -> RemoteStub:
        """Count that an object of another device was received once more; return its stand-in."""
        stub: RemoteStub = self._imports.receive(reference, generation)
        stub.learn(reference)
        return stub

    def stand_in(self, device: str, object_id: int) -> RemoteStub | None:
        """Return the stand-in of an object of another device, None when nobody here holds it."""
        stub: RemoteStub | None = self._imports.find(device, object_id)
        return stub

    # --- devices -------------------------------------------------------------------------------------

    def peer(self, udid: str) -> Peer:
        """Return what is kept for a device (only trusted ones get here)."""
        with self._lock:
            peer = self._peers.get(udid)
            if peer is None:
                peer = self._peers[udid] = Peer(udid)
            return peer

    @property
    def lock(self) -> threading.Lock:
        """Guards exports and peers."""
        return self._lock

    def learn(self, peer: Peer, generation: int) -> Admission:
        """A message or reply of that generation came from a device; forget what was of an earlier one."""
        with self._lock:
            admission = peer.admit(generation)
        if admission is Admission.RENEWED:
            self._forget(peer.udid, f"device {peer.udid[:8]} began anew; get its objects again")
        return admission

    def get_local(self, ability_id: int) -> IRemoteObject | None:
        """Return the system ability of this device that another one asks for."""
        return self._get_local(ability_id)

    def _presence(self, presence: Presence) -> None:
        device = presence.device
        peer = self.peer(device.udid)
        offline = presence.event is PresenceEvent.OFFLINE
        with self._lock:
            restarted = bool(peer.boot) and peer.boot != device.boot
            peer.boot = "" if offline else device.boot
            if offline:
                self._devices.pop(device.udid, None)
            else:
                self._devices[device.udid] = device
        if offline or restarted:
            what = "left" if offline else "was started anew"
            self._drop(device.udid, f"device {device.name!r} ({device.udid[:8]}) {what}; get its objects again")

    def _drop(self, udid: str, why: str) -> None:
        with self._lock:
            peer = self._peers.get(udid)
            if peer is not None:
                peer.left()
        self._forget(udid, why)

    def _forget(self, udid: str, why: str) -> None:
        """What a device gave us is dead; what we gave it is not held any more."""
        with self._lock:
            gone = self._exports.release_device(udid)
        for export in gone:
            _let_go(export)
        for stub in self._imports.drop_device(udid):
            stub.died(why)
        for listener in self._on_lost:
            listener(udid, why)


class _Recipient(DeathRecipient):
    """Hears of the end of the process of an object of ours."""

    def __init__(self, service: DBinderService, export: Export) -> None:
        self._service = service
        self._export = weakref.ref(export)

    def on_remote_died(self) -> None:
        """Tell the devices that asked."""
        export = self._export()
        if export is not None:
            self._service.object_died(export)


def _let_go(export: Export) -> None:
    """No device holds the object any more. Outside of locks: the end of a stub runs user code."""
    if export.recipient is not None:
        export.target.unregister_death_recipient(export.recipient)
        export.recipient = None


def _give_back(service: DBinderService) -> Callable[[Returned], None]:
    """Return what the collector calls when a stand-in goes: it only enqueues."""
    outbox = service.outbox

    def gone(returned: Returned) -> None:
        outbox.add(returned[0], partial(service.returned, returned))

    return gone


def _encoded(message: Message, packed: Packed) -> bytes:
    message.data, message.objects = packed.data, packed.objects
    payload = encode_message(message)
    if len(payload) >= limits.RPC_PAYLOAD:
        raise TooBigError(
            f"a message of {len(payload)} bytes to another device, the limit is {limits.RPC_MAX}; send fewer objects, "
            "or large parts as raw data or in an Ashmem"
        )
    return payload


def _patience(remaining: float | None) -> float:
    """Return how long to wait for a reply: a little less than our caller, so that it hears why."""
    if remaining is None:
        return float(limits.DEFAULT_WAIT_TIME)
    return max(0.001, min(remaining - min(0.1, remaining / 10), limits.MAX_WAIT_TIME))


def _forwarded(error: IpcError) -> Forwarded:
    text = str(error.args[0]) if error.args else str(error)
    return Forwarded(Failure(error.code, "", text, ""))
