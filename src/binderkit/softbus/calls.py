"""Calls and one-way messages between devices: at most once, in order, over any engine.

Owns: ``Calls`` and the ``Request`` its handler gets. The rules themselves are
pure and stand in ``windows``; here are the locks, the repeats and the clock.

Why: an engine loses requests, and cannot say whether a lost one was executed.
So every call is numbered and sent again under the same number until its time is
over, and the receiver keeps the reply until it cannot be asked for any more.

Rules upheld (reference: softbus-engine 7):

- A call is executed at most once, whatever the network does. It ends in its
  reply, in an error that says that it was not executed, or in one that says that
  nobody knows.
- A call is bound to the boot of the device it was meant for: a device that was
  started anew never executes a call to its predecessor.
- One-way messages of one device to one target are executed one at a time, in
  the order sent; to different targets concurrently.
- A message counts until its execution begins: that is what slows a sender down.
- Nothing here blocks the engine's thread.

Locks: one per other device; nothing of anybody else's is called under it.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

from binderkit import limits
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    ParamValueError,
    ProtocolError,
    QuotaError,
    TooBigError,
    UnknownTransactionError,
)
from binderkit.ipc.dispatch import failure_of
from binderkit.softbus import messages
from binderkit.softbus.engine import (
    Busy,
    DeviceInfo,
    Engine,
    EngineTimeout,
    Incoming,
    Kind,
    NoAnswer,
    Presence,
    PresenceEvent,
)
from binderkit.softbus.messages import Status
from binderkit.softbus.oneway import Inbox, Outbox
from binderkit.softbus.refusals import Refusals
from binderkit.softbus.timers import Timers
from binderkit.softbus.windows import Boots, OnewayReceiver, Replies, Slots, Verdict
from binderkit.softbus.workers import Queue, Workers

__all__ = ["Calls", "Request"]

_log = logging.getLogger("binderkit.softbus")
_FIRST_PAUSE = 0.005
_LONGEST_PAUSE = 0.25
"""Seconds between two tries of a call whose device is there but did not answer."""
_ANSWERING = 4
"""Threads that may give one device answers without executing anything."""


@dataclass(frozen=True, slots=True)
class Request:
    """A request of another device, for the handler.

    Attributes:
        source: UDID of the device, proven by its certificate.
        target: to whom, as the sender gave it.
        payload: its bytes: hostile until checked.
        oneway: whether nobody waits; what the handler returns is dropped then.
        deadline: moment of the clock given to ``Calls`` (time.monotonic) at which the caller stops waiting; None for
            one-way messages.
    """

    source: str
    target: int
    payload: bytes
    oneway: bool
    deadline: float | None


Handler = Callable[[Request], bytes]


class _Life:
    """What one boot of another device asked of us: its calls and its one-way messages."""

    def __init__(self, queue: Queue) -> None:
        self.replies: Replies[Incoming] = Replies()
        self.inbox = Inbox(OnewayReceiver(), queue)


class _Peer:
    """What is kept for one other device."""

    def __init__(self, calls: Calls, udid: str) -> None:
        self.udid = udid
        self.lock = threading.Lock()
        self.changed = threading.Condition(self.lock)
        # Towards it: calls and one-way messages to its present boot.
        self.boot = ""
        self.slots = Slots()
        self.outbox: Outbox | None = None
        # From it.
        self.boots = Boots()
        self.queue = calls.workers.queue()
        # Apart, so that they do not wait behind this device's own slow calls.
        self.answers = calls.workers.queue(_ANSWERING)
        self.life = _Life(self.queue)


class Calls:
    """Calls and one-way messages to and from the trusted devices.

    Opens the engine, and closes it.

    Args:
        engine: what carries the requests; not opened yet.
        workers: threads that execute requests of other devices (more are started only when all of them wait).
        clock: for deadlines; monotonic seconds.
    """

    def __init__(
        self, engine: Engine, *, workers: int = limits.DEFAULT_WORK_THREADS, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._engine = engine
        self._clock = clock
        self._boot = bytes.fromhex(engine.info.boot)
        self._timers = Timers("binderkit-calls")
        self._refusals = Refusals(self._timers)
        self.workers = Workers("binderkit-calls", workers, self._timers)
        self._lock = threading.Lock()
        self._peers: dict[str, _Peer] = {}
        self._handlers: dict[Kind, Handler] = {}
        self._told: dict[str, DeviceInfo] = {}
        self._listeners: list[Callable[[Presence], None]] = []
        # Presence is told in order, on a thread of its own: the engine's must not wait for listeners.
        self._news = Timers("binderkit-presence")
        self._closed = False
        engine.open(self._incoming, self._presence)

    @property
    def engine(self) -> Engine:
        """What carries the requests."""
        return self._engine

    # --- the caller's side -----------------------------------------------------------------------

    def call(self, udid: str, target: int, payload: bytes, *, timeout: float = limits.DEFAULT_WAIT_TIME) -> bytes:
        """Call another device and wait for the result.

        Args:
            udid: the device; target: meaning left to both sides (0 … 2**64 - 1).
            payload: at most limits.RPC_PAYLOAD bytes.
            timeout: seconds, above 0 and at most limits.MAX_WAIT_TIME (reference 1.5: 1–3000, default 8).

        Returns:
            What the handler there returned.

        Raises:
            CallTimeoutError: no reply in time; nobody knows whether the call was, or will be, executed (502).
            DeadObjectError: the device is not there, went away, or was started anew; the text says whether the call
                may have been executed (-32).
            QuotaError: the other device has no room for it, or too many calls to it wait; not executed (29201).
            TooBigError, ParamValueError: the payload, the timeout or the target is outside its limits; nothing was
                sent (1900009, 401).
            TransactionError: what the handler there raised.
        """
        return self._call(udid, Kind.CALL, target, payload, timeout)

    def control(self, udid: str, target: int, payload: bytes, *, timeout: float = limits.DEFAULT_WAIT_TIME) -> bytes:
        """Call the handler of ``serve_control`` of another device; everything else as ``call``."""
        return self._call(udid, Kind.CONTROL, target, payload, timeout)

    def send(self, udid: str, target: int, payload: bytes) -> None:
        """Send a one-way message; returns as soon as it has its place in the queue to the device.

        Messages sent by one thread to one target are executed in that order. What was sent and not yet taken when
        the device goes away is lost (its going away is told).

        Raises:
            DeadObjectError: the device is not there (-32).
            QuotaError: limits.RPC_ONEWAY_MESSAGES messages or limits.RPC_ONEWAY_BYTES bytes have been on their way
                for limits.ONEWAY_SEND_WAIT seconds: the other side is too slow (29201).
            TooBigError, ParamValueError: the payload or the target is outside its limits (1900009, 401).
        """
        _check(target, payload)
        peer, boot = self._peer_at(udid)
        with peer.lock:
            if peer.outbox is None or peer.outbox.ended:
                peer.outbox = Outbox(self._engine, self._timers, udid, self._boot, bytes.fromhex(boot), peer.changed)
            outbox = peer.outbox
        outbox.send(target, payload)

    def serve(self, handler: Handler) -> None:
        """Have ``handler`` called, on a worker, for every call and one-way message; once.

        What it raises goes back to the caller as code, type name and text. Requests that came before wait.
        """
        self._handlers[Kind.CALL] = self._handlers[Kind.ONEWAY] = handler
        self.workers.start()

    def serve_control(self, handler: Handler) -> None:
        """Have ``handler`` called for every ``control`` call; before ``serve``, or control calls fail with 305."""
        self._handlers[Kind.CONTROL] = handler

    def on_device(self, listener: Callable[[Presence], None]) -> None:
        """Have ``listener`` called when a device comes, goes or changes, and at once for those that are there.

        In order, one at a time, on a thread that may wait a little but holds up the others' news.
        """
        with self._lock:
            self._listeners.append(listener)
            # What was told so far, not what the engine knows by now: its news is still to come.
            for info in self._told.values():
                self._news.after(0, partial(listener, Presence(PresenceEvent.ONLINE, info)))

    def devices(self) -> Mapping[str, DeviceInfo]:
        """Return the trusted devices that are online, by UDID."""
        return self._engine.devices()

    def close(self) -> None:
        """Leave the network: calls under way end in DeadObjectError; handlers that run are waited for."""
        with self._lock:
            self._closed = True
            peers = list(self._peers.values())
        self._engine.close()
        for peer in peers:
            self._drop_outbox(peer)
            with peer.changed:
                peer.changed.notify_all()
        self.workers.close()
        self._timers.close()
        self._news.close()

    def _call(self, udid: str, kind: Kind, target: int, payload: bytes, timeout: float) -> bytes:
        _check(target, payload)
        if not 0 < timeout <= limits.MAX_WAIT_TIME:
            raise ParamValueError(
                f"a timeout of {timeout} s; it must lie above 0 and be at most {limits.MAX_WAIT_TIME}"
            )
        deadline = self._clock() + timeout
        peer, boot = self._peer_at(udid)
        with peer.lock:
            taken = peer.slots.take()
        if taken is None:
            raise QuotaError(
                f"{limits.RPC_CALLS_PER_DEVICE} calls to device {udid[:8]}… wait for their replies; "
                "wait for some of them before the next"
            )
        slot, sequence = taken
        boots = (self._boot, bytes.fromhex(boot))
        try:
            return self._try(peer, boot, kind, target, payload, deadline, (slot, sequence, *boots))
        finally:
            with peer.lock:
                peer.slots.give_back(slot)

    def _try(
        self,
        peer: _Peer,
        boot: str,
        kind: Kind,
        target: int,
        payload: bytes,
        deadline: float,
        name: tuple[int, int, bytes, bytes],
    ) -> bytes:
        """Send a call under its ``name`` until it has an answer, its time is over, or its device is gone."""
        pause, longest = _FIRST_PAUSE, limits.RPC_FIRST_SLICE
        request, clock, udid = self._engine.request, self._clock, peer.udid
        while (remaining := deadline - clock()) > 0:
            header = messages.encode_call(*name, remaining)
            try:
                answer = request(udid, kind, target, header, payload, min(remaining, longest), remaining)
            except EngineTimeout:
                longest = min(2 * longest, limits.RPC_SLICE)
                continue
            except Busy:
                raise QuotaError(
                    f"device {udid[:8]}… has no room for more calls; this one was not executed: try again later"
                ) from None
            except NoAnswer:
                self._wait_while_there(peer, boot, min(pause, max(0.0, deadline - clock())))
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            return _result(udid, answer)
        raise CallTimeoutError(
            f"no reply from device {udid[:8]}… in time; the outcome is unknown: "
            "the call may have been executed, or may still be"
        )

    def _wait_while_there(self, peer: _Peer, boot: str, pause: float) -> None:
        """Wait before the next try.

        Raises:
            DeadObjectError: the device is gone, or was started anew (-32).
        """
        with peer.changed:
            if self._boot_of(peer.udid) == boot:
                peer.changed.wait(pause)
        if self._boot_of(peer.udid) != boot:
            raise DeadObjectError(
                f"device {peer.udid[:8]}… went away during the call; the outcome is unknown: it may have been executed"
            )

    def _boot_of(self, udid: str) -> str | None:
        info = self._engine.devices().get(udid)
        return None if info is None or self._closed else info.boot

    def _peer_at(self, udid: str) -> tuple[_Peer, str]:
        """Return what is kept for a device, and its present boot.

        Raises:
            DeadObjectError: it is not there (-32).
        """
        boot = self._boot_of(udid)
        if boot is None:
            raise DeadObjectError(
                f"device {udid[:8]}… is not online, or not trusted; the call was not executed"
                if not self._closed
                else "the connection of this device to the others is closed"
            )
        peer = self._peer(udid)
        if peer.boot != boot:
            self._new_boot(peer, boot)
        return peer, boot

    def _peer(self, udid: str) -> _Peer:
        peer = self._peers.get(udid)
        if peer is not None:
            return peer
        with self._lock:
            # Only trusted devices get here, so their number is bounded by the list of them.
            return self._peers.setdefault(udid, _Peer(self, udid))

    def _new_boot(self, peer: _Peer, boot: str) -> None:
        with peer.lock:
            if peer.boot == boot:
                return
            # The slots go on counting: a sequence is never used twice, whatever boots come and go.
            peer.boot = boot
        self._drop_outbox(peer)

    def _drop_outbox(self, peer: _Peer) -> None:
        with peer.lock:
            outbox, peer.outbox = peer.outbox, None
        if outbox is not None:
            outbox.give_up()

    # --- the network's news ------------------------------------------------------------------------

    def _presence(self, event: Presence) -> None:
        device = event.device
        peer = self._peer(device.udid)
        if event.event is PresenceEvent.OFFLINE and peer.boot == device.boot:
            self._drop_outbox(peer)
        with peer.changed:
            if event.event is PresenceEvent.ONLINE and self._boot_of(device.udid) == device.boot:
                self._begin_boot(peer, bytes.fromhex(device.boot))
            peer.changed.notify_all()
        with self._lock:
            if event.event is PresenceEvent.OFFLINE:
                self._told.pop(device.udid, None)
            else:
                self._told[device.udid] = device
            for listener in self._listeners:
                self._news.after(0, partial(listener, event))

    @staticmethod
    def _begin_boot(peer: _Peer, boot: bytes) -> None:
        """Under the peer's lock: requests of its earlier boots are over."""
        if peer.boots.begin(boot):
            peer.life = _Life(peer.queue)

    # --- the callee's side -------------------------------------------------------------------------

    def _incoming(self, incoming: Incoming) -> Callable[[], None] | None:
        """On the engine's thread: decide what the request is; return it or hand it over."""
        try:
            if incoming.kind is not Kind.ONEWAY:
                return self._call_arrived(incoming, messages.decode_call(incoming.header))
            self._oneway_arrived(incoming, messages.decode_oneway(incoming.header))
        except ProtocolError as error:
            self._refuse(incoming, Status.MALFORMED, str(error))
        return None

    def _refusal(self, peer: _Peer, source_boot: bytes, target_boot: bytes) -> Status | None:
        """Under the peer's lock: why the request is of, or for, another life; None when it is not."""
        if target_boot != self._boot:
            return Status.OTHER_BOOT
        if source_boot == peer.boots.current:
            return None
        there = self._engine.devices().get(peer.udid)
        announced = None if there is None else bytes.fromhex(there.boot)
        if not peer.boots.accepts(source_boot, announced):
            return Status.STALE
        peer.life = _Life(peer.queue)
        return None

    def _call_arrived(self, incoming: Incoming, header: messages.CallHeader) -> Callable[[], None] | None:
        now = self._clock()
        peer = self._peer(incoming.source)
        slot, sequence = header.slot, header.sequence
        deadline = now + header.remaining
        with peer.lock:
            refusal = self._refusal(peer, header.source_boot, header.target_boot)
            replies = peer.life.replies
            if refusal is None:
                verdict, reply = replies.begin(slot, sequence, incoming, deadline + limits.RPC_REPLY_KEPT)
        if refusal is not None:
            self._refuse(incoming, refusal, "of, or for, an earlier life")
        elif verdict is Verdict.NEW:
            request = Request(incoming.source, incoming.target, incoming.payload, False, deadline)
            name = (slot, sequence)
            job = partial(self._execute, peer, replies, name, incoming.kind, request)
            if incoming.may_execute and self.workers.is_started:
                return job
            if not peer.queue.submit(job):
                with peer.lock:
                    replies.forget(slot, sequence)
                self._answer(incoming, incoming.busy)
        elif verdict is Verdict.STORED:
            self._answer(incoming, partial(incoming.answer, reply))
        elif verdict is Verdict.LOST:
            self._refuse(incoming, Status.LOST, "a repeat of a call whose reply is no longer kept")
        elif verdict is Verdict.STALE:
            self._refuse(incoming, Status.STALE, "a repeat of a call that was answered long ago")
        return None

    def _refuse(self, incoming: Incoming, status: Status, why: str) -> None:
        self._refusals.note(f"a request of device {incoming.source}: {why}")
        self._answer(incoming, partial(incoming.answer, messages.encode_status(status)))

    def _answer(self, incoming: Incoming, answer: Callable[[], None]) -> None:
        """Answer without executing anything; on a worker, because a device that takes nothing could hold us up.

        One whose answers pile up gets none: to it, that is a lost request.
        """
        if not self._peer(incoming.source).answers.submit(answer):
            self._refusals.note(f"a request of device {incoming.source}, which does not take its answers")

    def _execute(
        self,
        peer: _Peer,
        replies: Replies[Incoming],
        name: tuple[int, int],
        kind: Kind,
        request: Request,
    ) -> None:
        answer = _outcome(self._handlers.get(kind), request)
        with peer.lock:
            waiters = replies.finish(*name, answer)
            replies.expire(self._clock())
        for waiter in waiters:
            waiter.answer(answer)

    def _oneway_arrived(self, incoming: Incoming, header: messages.OnewayHeader) -> None:
        peer = self._peer(incoming.source)
        with peer.lock:
            refusal = self._refusal(peer, header.source_boot, header.target_boot)
            inbox = peer.life.inbox
        if refusal is not None:
            self._refuse(incoming, refusal, "of, or for, an earlier life")
            return
        answer = inbox.accept(incoming, header, self._execute_oneway)
        if answer is not None:
            self._answer(incoming, answer)

    def _execute_oneway(self, incoming: Incoming) -> None:
        handler = self._handlers.get(Kind.ONEWAY)
        _outcome(handler, Request(incoming.source, incoming.target, incoming.payload, True, None))


def _check(target: int, payload: bytes) -> None:
    if len(payload) >= limits.RPC_PAYLOAD:
        raise TooBigError(
            f"a message of {len(payload)} bytes to another device; at most {limits.RPC_MAX} are carried "
            "(reference 4.2): send more with write_raw_data or as Ashmem"
        )
    if not 0 <= target < 2**64:
        raise ParamValueError(f"target {target} does not fit 64 bits: use 0 to 2**64 - 1")


def _outcome(handler: Handler | None, request: Request) -> bytes:
    """Return the answer to a request: what the handler returned, or why it failed."""
    try:
        if handler is None:
            raise UnknownTransactionError("this device does not serve such requests: nothing registered for them")
        result = handler(request)
        if len(result) >= limits.RPC_PAYLOAD:
            raise TooBigError(
                f"a reply of {len(result)} bytes to another device; at most {limits.RPC_MAX} are carried: "
                "send more with write_raw_data or as Ashmem"
            )
    except Exception as error:
        return messages.encode_failure(failure_of(None, error))
    return messages.encode_result(result)


def _result(udid: str, data: bytes) -> bytes:
    """Return the result in an answer, or raise what it says."""
    if data[:1] == b"\x00":
        return data[1:]
    answer = messages.decode_answer(data)
    if answer.failure is not None:
        raise answer.failure.error()
    if answer.status is Status.OTHER_BOOT:
        raise DeadObjectError(
            f"device {udid[:8]}… was started anew; whether its predecessor executed the call is unknown"
        )
    if answer.status is Status.MALFORMED:
        raise ProtocolError(f"device {udid[:8]}… does not understand our calls: its version differs; update the older")
    if answer.status is Status.LOST:
        raise CallTimeoutError(
            f"device {udid[:8]}… has executed the call, and no longer keeps its reply: the outcome is unknown"
        )
    raise DeadObjectError(f"device {udid[:8]}… takes this call for one of our past: it was not executed (again)")
