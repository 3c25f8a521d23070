"""Calls over streams of their own ("lanes"): the quick way between two devices, beside the engine's.

Owns: ``LaneEngine``, its free lanes to each device, the thread that opens them, and who serves incoming ones.

Why: a request through Zenoh passes two threads of it on either side, and waking each costs more than all the rest of
a small call. Over a lane, whoever calls writes to the socket and reads from it, and whoever reads a request executes
it. Everything else (presence, one-way messages, control, and calls while there is no lane) goes through the engine
below. What makes a call safe does not change: its number is the same on both ways, so that a call whose lane broke is
sent again through the engine and executed once.

Rules upheld:

- A lane is a stream of bulk_port: both sides' certificates are proven, and the source of a request is that of the
  stream. Who loses our trust loses its lanes.
- Nobody waits for a lane: a call that finds none free goes through the engine, and another one is opened meanwhile.
- At most limits.RPC_LANES lanes to a device, and as many from it; one that cannot be opened is not tried again at once.
- A lane carries one call at a time; when it is given up, the lane is closed.

Locks: ``_lock`` guards the lists of lanes; nothing is called while it is held.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from queue import SimpleQueue
from typing import Final

from binderkit import limits
from binderkit.errors import CallTimeoutError, DeadObjectError, IpcError, ProtocolError
from binderkit.softbus.bulk_port import Purpose, StreamPort
from binderkit.softbus.bulk_stream import Stream
from binderkit.softbus.engine import (
    Busy,
    DeviceInfo,
    Engine,
    EngineTimeout,
    Handler,
    Incoming,
    Kind,
    NoAnswer,
    Outcome,
    Presence,
    PresenceEvent,
    TrustSnapshot,
    check_request,
)
from binderkit.softbus.lane import ANSWERED, NO_ROOM, Lane

__all__ = ["LaneEngine"]

_log = logging.getLogger("binderkit.softbus")
_DIAL_WAIT: Final = 2.0
_PAUSE: Final = 1.0
"""Seconds for opening a lane, and until the next try after one that failed."""


class _Lanes:
    """The lanes to one device."""

    def __init__(self) -> None:
        self.free: list[Lane] = []
        self.all: set[Lane] = set()
        self.opening = 0
        self.not_before = 0.0
        self.without = 0
        """calls under way that found no lane"""


class LaneEngine:
    """An engine (see ``engine.Engine``) with lanes beside another one; it opens and closes that one.

    Args:
        engine: carries everything that goes over no lane.
        port: where lanes come from and go to; not started yet.
    """

    def __init__(self, engine: Engine, port: StreamPort) -> None:
        self._engine = engine
        self._port = port
        self._lock = threading.Lock()
        self._lanes: dict[str, _Lanes] = {}
        self._served: set[Stream] = set()
        self._serving: Counter[str] = Counter()
        self._idle = threading.Condition(self._lock)
        self._handler: Handler | None = None
        self._closed = False
        self._wanted: SimpleQueue[tuple[str, _Lanes] | None] = SimpleQueue()
        self._opener = threading.Thread(target=self._open_lanes, name="binderkit-lanes", daemon=True)
        port.serve(Purpose.CALLS, self._serve)

    # --- as the engine below -----------------------------------------------------------------------

    @property
    def udid(self) -> str:
        """This device's UDID."""
        return self._engine.udid

    @property
    def info(self) -> DeviceInfo:
        """What this device says of itself."""
        return self._engine.info

    def devices(self) -> Mapping[str, DeviceInfo]:
        """Return the trusted devices that are online."""
        return self._engine.devices()

    def set_trust(self, trust: TrustSnapshot) -> None:
        """Take a new list of trusted devices (the port is told by its owner)."""
        self._engine.set_trust(trust)

    def set_name(self, name: str) -> None:
        """Change this device's name."""
        self._engine.set_name(name)

    def post(
        self,
        udid: str,
        kind: Kind,
        target: int,
        header: bytes,
        payload: bytes,
        timeout: float,
        done: Callable[[Outcome], None],
    ) -> None:
        """Send a request without waiting."""
        self._engine.post(udid, kind, target, header, payload, timeout, done)

    def open(self, handler: Handler, presence: Callable[[Presence], None]) -> None:
        """Join the network."""

        def seen(event: Presence) -> None:
            if event.event is PresenceEvent.OFFLINE:
                self._drop(event.device.udid, "the device left")
            presence(event)

        self._handler = handler
        self._opener.start()
        self._engine.open(handler, seen)

    def close(self) -> None:
        """Leave the network; requests that came over lanes and are being executed are waited for."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            served, udids = list(self._served), list(self._lanes)
        self._wanted.put(None)
        for udid in udids:
            self._drop(udid, "this device leaves the network")
        for stream in served:
            stream.abort("this device leaves the network")
        self._engine.close()
        with self._idle:
            self._idle.wait_for(lambda: not self._served)
        if self._opener.ident is not None:
            self._opener.join()

    # --- our calls ---------------------------------------------------------------------------------

    def request(
        self, udid: str, kind: Kind, target: int, header: bytes, payload: bytes, timeout: float, patience: float = 0.0
    ) -> bytes:
        """Send a request and wait for its answer.

        A lane notices by itself when it breaks, so a call on one is not cut into slices: it waits for ``patience``.
        """
        if kind is not Kind.CALL:
            return self._engine.request(udid, kind, target, header, payload, timeout, patience)
        lane = self._take(udid)
        if not isinstance(lane, Lane):
            try:
                return self._engine.request(udid, kind, target, header, payload, timeout, patience)
            finally:
                with self._lock:
                    lane.without -= 1
        check_request(target, header, payload, timeout)
        try:
            status, answer = lane.ask(kind, target, header, payload, time.monotonic() + max(timeout, patience))
        except CallTimeoutError as error:
            self._end(udid, lane)
            raise EngineTimeout(f"device {udid[:8]}… did not answer in time") from error
        except (DeadObjectError, ProtocolError) as error:
            self._end(udid, lane)
            raise NoAnswer(f"no reply from device {udid[:8]}…: {error}") from error
        except BaseException:
            self._end(udid, lane)  # an interrupt: its answer would pass for that of the next call
            raise
        self._give_back(udid, lane)
        if status == NO_ROOM:
            raise Busy(f"device {udid[:8]}… has no room for the request")
        return answer

    def _take(self, udid: str) -> Lane | _Lanes:
        """Return a free lane; if there is none, have one opened, and return where the call is counted meanwhile."""
        with self._lock:
            lanes = self._lanes.get(udid)
            if lanes is None:
                lanes = self._lanes[udid] = _Lanes()
            if lanes.free:
                return lanes.free.pop()
            lanes.without += 1
            full = len(lanes.all) + lanes.opening >= limits.RPC_LANES
            if full or lanes.opening >= lanes.without or time.monotonic() < lanes.not_before:
                return lanes
            lanes.opening += 1
        self._wanted.put((udid, lanes))
        return lanes

    def _give_back(self, udid: str, lane: Lane) -> None:
        with self._lock:
            lanes = self._lanes.get(udid)
            if lanes is not None and lane in lanes.all:
                lanes.free.append(lane)
                return
        lane.stream.close()  # the device left meanwhile

    def _end(self, udid: str, lane: Lane) -> None:
        with self._lock:
            lanes = self._lanes.get(udid)
            if lanes is not None:
                lanes.all.discard(lane)
        lane.stream.close()

    def _drop(self, udid: str, why: str) -> None:
        """The lanes to a device are of no use any more: whoever waits on one is woken, and closes it."""
        with self._lock:
            lanes = self._lanes.pop(udid, None)
        if lanes is None:
            return
        for lane in lanes.free:
            lane.stream.close()
        for lane in lanes.all.difference(lanes.free):
            lane.stream.abort(why)

    # --- on the thread that opens --------------------------------------------------------------------

    def _open_lanes(self) -> None:
        while (wanted := self._wanted.get()) is not None:
            udid, lanes = wanted
            lane: Lane | None = None
            if not self._closed and udid in self._engine.devices():
                try:
                    lane = Lane(self._port.dial(udid, Purpose.CALLS, timeout=_DIAL_WAIT))
                except IpcError as error:
                    _log.info("no lane to device %s for the moment: %s", udid[:8], error)
            self._opened(udid, lanes, lane)

    def _opened(self, udid: str, lanes: _Lanes, lane: Lane | None) -> None:
        with self._lock:
            lanes.opening -= 1
            if lane is None:
                lanes.not_before = time.monotonic() + _PAUSE
            elif self._lanes.get(udid) is lanes and not self._closed:
                lanes.all.add(lane)
                lanes.free.append(lane)
                return
        if lane is not None:
            lane.stream.close()

    # --- their calls ---------------------------------------------------------------------------------

    def _serve(self, stream: Stream) -> None:
        """Execute what comes over a lane of another device (a thread of the port for each)."""
        source, handler = stream.peer, self._handler
        if handler is None or not self._begin(stream):
            return
        lane = Lane(stream)
        try:
            while True:
                got = lane.next_request()
                if got.kind is not Kind.CALL:
                    raise ProtocolError(f"device {source[:8]}… sent a request of kind {got.kind} over a lane")
                reply, refuse = partial(_answer, lane, ANSWERED), partial(_answer, lane, NO_ROOM, b"")
                job = handler(Incoming(source, got.kind, got.target, got.header, got.payload, reply, refuse, True))
                if job is not None:
                    job()
                del got, reply, refuse, job
        except (DeadObjectError, CallTimeoutError) as error:
            _log.debug("a lane of device %s ended: %s", source[:8], error)
        finally:
            self._finish(stream)

    def _begin(self, stream: Stream) -> bool:
        with self._lock:
            if self._closed or self._serving[stream.peer] >= limits.RPC_LANES:
                return False
            self._serving[stream.peer] += 1
            self._served.add(stream)
            return True

    def _finish(self, stream: Stream) -> None:
        with self._idle:
            self._serving[stream.peer] -= 1
            self._serving += Counter()  # drops what is zero
            self._served.discard(stream)
            self._idle.notify_all()


def _answer(lane: Lane, status: int, payload: bytes) -> None:
    try:
        lane.answer(status, payload)
    except (DeadObjectError, CallTimeoutError) as error:
        # The caller has gone, or given up: it asks again if it still wants to know.
        _log.debug("an answer could not be sent: %s", error)
