"""A network in memory, with latency, loss and cuts, and an engine for each device on it.

Owns: ``Network`` (who reaches whom, and how well) and ``MemoryEngine``.

Why: what lies above an engine must survive a network at its worst, which a real
one shows rarely and never twice. Here every loss is drawn from a seed, per pair
of devices and direction, so a run with the same requests loses the same ones;
and everything is delivered on one thread, so order is what the network says.

How it differs from a real one: a lost request or answer stays lost (TCP would
send it again, late), so losses hurt more; a change of trust ends requests under
way at once; a device that closes is gone at once.

Rules upheld: those of ``engine``: the source is the engine that sent, never a
word in the message; both sides must trust each other.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from random import Random

from binderkit.errors import DeadObjectError
from binderkit.softbus.engine import (
    Busy,
    DeviceInfo,
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
from binderkit.softbus.timers import Timers
from binderkit.softbus.zenoh_config import check_name

__all__ = ["MemoryEngine", "Network"]


@dataclass(slots=True)
class _Link:
    """What one device's messages to another meet with."""

    random: Random
    latency: float
    jitter: float
    loss: float
    last_arrival: float = 0.0


@dataclass(eq=False, slots=True)
class _Request:
    """A request under way."""

    source: MemoryEngine
    target: str
    done: Callable[[Outcome], None]
    answered: bool = False


class Network:
    """Devices, and what lies between them.

    Args:
        seed: what losses and jitter are drawn from.
        latency: seconds one way; jitter: seconds added at random (order is kept).
        loss: share of messages lost, 0 … 1, requests and answers alike.
        detection: seconds until a cut is noticed by both sides.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        latency: float = 0.0,
        jitter: float = 0.0,
        loss: float = 0.0,
        detection: float = 0.05,
    ) -> None:
        self._seed = seed
        self._quality = (latency, jitter, loss)
        self._detection = detection
        self._links: dict[tuple[str, str], _Link] = {}
        self._cut: set[frozenset[str]] = set()
        self._noticed: set[frozenset[str]] = set()
        self._engines: dict[str, MemoryEngine] = {}
        self._requests: set[_Request] = set()
        self._timers = Timers("binderkit-network")
        # Guards all state here and the engines' lists of who is online; nobody else's code runs under it.
        self._lock = threading.Lock()

    def engine(self, udid: str, name: str = "", device_type: str = "linux") -> MemoryEngine:
        """Return a new engine: a device that is started, or started anew (another boot, another networkId)."""
        return MemoryEngine(self, udid, name or udid[:8], device_type)

    def set_quality(
        self, a: str, b: str, *, latency: float | None = None, jitter: float | None = None, loss: float | None = None
    ) -> None:
        """Change what messages between two devices meet with, in both directions."""
        with self._lock:
            for pair in ((a, b), (b, a)):
                link = self._link(*pair)
                link.latency = link.latency if latency is None else latency
                link.jitter = link.jitter if jitter is None else jitter
                link.loss = link.loss if loss is None else loss

    def cut(self, a: str, b: str | None = None) -> None:
        """Pull the cable between two devices, or between one and all others: noticed ``detection`` seconds later."""
        with self._lock:
            pairs = self._pairs(a, b)
            self._cut |= pairs
        self._timers.after(self._detection, partial(self._notice, pairs))

    def heal(self, a: str, b: str | None = None) -> None:
        """Plug the cable in again."""
        with self._lock:
            pairs = self._pairs(a, b)
            self._cut -= pairs
            self._noticed -= pairs
            self._refresh()

    def close(self) -> None:
        """Close all engines and end the network's thread."""
        for engine in list(self._engines.values()):
            engine.close()
        self._timers.close()

    # --- for the engines -----------------------------------------------------------------------

    def join(self, engine: MemoryEngine) -> None:
        """An engine opened; one of the same device that is still there is gone."""
        with self._lock:
            old = self._engines.get(engine.udid)
        if old is not None:
            old.close()
        with self._lock:
            self._engines[engine.udid] = engine
            self._refresh()

    def leave(self, engine: MemoryEngine) -> None:
        """An engine closed: what it waits for, and what waits for it, ends in NoAnswer."""
        with self._lock:
            if self._engines.get(engine.udid) is not engine:
                return
            del self._engines[engine.udid]
            self._end(lambda request: request.target == engine.udid)
            self._refresh()
            own = [request for request in self._requests if request.source is engine]
        # Here and now: the network's thread may be about to end, and whoever waits must be woken.
        for request in own:
            self._finish(request, NoAnswer("this device's engine was closed"))

    def trust_changed(self, engine: MemoryEngine) -> None:
        """An engine opened its session anew: what was under way ends in NoAnswer."""
        with self._lock:
            self._end(lambda request: request.source is engine or request.target == engine.udid)
            self._refresh()

    def renamed(self) -> None:
        """Some engine has another name."""
        with self._lock:
            self._refresh()

    def send(
        self,
        source: MemoryEngine,
        udid: str,
        message: tuple[Kind, int, bytes, bytes],
        timeout: float,
        done: Callable[[Outcome], None],
    ) -> None:
        """Bring a request on its way."""
        request = _Request(source, udid, done)
        with self._lock:
            self._requests.add(request)
            if not self._reaches(source, udid) or frozenset((source.udid, udid)) in self._noticed:
                outcome = NoAnswer(f"device {udid[:8]}… is not there, or does not trust this one")
                self._timers.after(0, partial(self._finish, request, outcome))
                return
            self._travel(source.udid, udid, partial(self._arrive, request, message))
        late = EngineTimeout(f"device {udid[:8]}… did not answer within {timeout} s")
        self._timers.after(timeout, partial(self._finish, request, late))

    # --- inside --------------------------------------------------------------------------------

    def _pairs(self, a: str, b: str | None) -> set[frozenset[str]]:
        others = [b] if b is not None else [udid for udid in self._engines if udid != a]
        return {frozenset((a, other)) for other in others}

    def _link(self, source: str, target: str) -> _Link:
        link = self._links.get((source, target))
        if link is None:
            link = _Link(Random(f"{self._seed}/{source}/{target}"), *self._quality)
            self._links[source, target] = link
        return link

    def _travel(self, source: str, target: str, arrive: Callable[[], None]) -> None:
        """Have ``arrive`` called when a message has come through, unless it is lost on the way."""
        link = self._link(source, target)
        # Both are always drawn, so that one message's fate does not depend on another's settings.
        chance, delay = link.random.random(), link.random.random() * link.jitter
        if chance < link.loss or frozenset((source, target)) in self._cut:
            return
        now = time.monotonic()
        due = max(now + link.latency + delay, link.last_arrival)
        link.last_arrival = due
        self._timers.at(due, arrive)

    def _reaches(self, source: MemoryEngine, udid: str) -> bool:
        target = self._engines.get(udid)
        return (
            target is not None
            and self._engines.get(source.udid) is source
            and udid in source.trusted
            and source.udid in target.trusted
        )

    def _arrive(self, request: _Request, message: tuple[Kind, int, bytes, bytes]) -> None:
        source = request.source
        with self._lock:
            target = self._engines.get(request.target)
            if target is None or not self._reaches(source, request.target):
                return
        kind, to, header, payload = message
        back = partial(self._answer, request)
        refuse = partial(back, Busy("the device has no room for the request"))
        target.deliver(Incoming(source.udid, kind, to, header, payload, back, refuse))

    def _answer(self, request: _Request, outcome: Outcome) -> None:
        with self._lock:
            if request.answered:
                return
            request.answered = True
            self._travel(request.target, request.source.udid, partial(self._finish, request, outcome))

    def _finish(self, request: _Request, outcome: Outcome) -> None:
        with self._lock:
            if request not in self._requests:
                return
            self._requests.remove(request)
        request.done(outcome)

    def _end(self, concerned: Callable[[_Request], bool]) -> None:
        for request in [request for request in self._requests if concerned(request)]:
            gone = NoAnswer(f"the link to device {request.target[:8]}… broke")
            self._timers.after(0, partial(self._finish, request, gone))

    def _notice(self, pairs: set[frozenset[str]]) -> None:
        with self._lock:
            noticed = pairs & self._cut
            self._noticed |= noticed
            self._end(lambda request: frozenset((request.source.udid, request.target)) in noticed)
            self._refresh()

    def _refresh(self) -> None:
        """Tell every engine what changed in who it can see."""
        for engine in list(self._engines.values()):
            seen = {
                other.udid: other.info
                for other in self._engines.values()
                if other is not engine
                and self._reaches(engine, other.udid)
                and frozenset((engine.udid, other.udid)) not in self._noticed
            }
            for event in engine.see(seen):
                self._timers.after(0, partial(engine.tell, event))


class MemoryEngine:
    """One device's engine on a ``Network``; see ``engine.Engine``."""

    def __init__(self, network: Network, udid: str, name: str, device_type: str) -> None:
        self._network = network
        self._info = DeviceInfo(udid, secrets.token_hex(16), secrets.token_hex(8), check_name(name), device_type)
        self._seen: dict[str, DeviceInfo] = {}
        self._handler: Handler | None = None
        self._presence: Callable[[Presence], None] | None = None
        self._closed = False
        self.trusted: frozenset[str] = frozenset()

    @property
    def udid(self) -> str:
        """This device's UDID."""
        return self._info.udid

    @property
    def info(self) -> DeviceInfo:
        """What this device says of itself."""
        return self._info

    def open(self, handler: Handler, presence: Callable[[Presence], None]) -> None:
        """Join the network."""
        self._handler, self._presence = handler, presence
        self._network.join(self)

    def request(
        self, udid: str, kind: Kind, target: int, header: bytes, payload: bytes, timeout: float, patience: float = 0.0
    ) -> bytes:
        """Send a request and wait for its answer."""
        ended = threading.Event()
        outcomes: list[Outcome] = []

        def done(outcome: Outcome) -> None:
            outcomes.append(outcome)
            ended.set()

        self.post(udid, kind, target, header, payload, timeout, done)
        ended.wait()
        # Taken out: an error knows the frames it went through, and the other device may keep ``done`` for long.
        outcome = outcomes.pop()
        if isinstance(outcome, bytes):
            return outcome
        raise outcome

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
        check_request(target, header, payload, timeout)
        if self._closed or self._handler is None:
            done(NoAnswer("this device's engine is closed, or was never opened"))
            return
        self._network.send(self, udid, (kind, target, bytes(header), bytes(payload)), timeout, done)

    def devices(self) -> Mapping[str, DeviceInfo]:
        """Return the trusted devices that are online."""
        return self._seen  # replaced, never changed

    def set_trust(self, trust: TrustSnapshot) -> None:
        """Take a new list of trusted devices; what is under way ends in NoAnswer."""
        self.trusted = trust.trusted - {self.udid}
        self._network.trust_changed(self)

    def set_name(self, name: str) -> None:
        """Change this device's name."""
        self._info = replace(self._info, name=check_name(name))
        self._network.renamed()

    def close(self) -> None:
        """Leave the network."""
        self._closed = True
        self._seen = {}
        self._network.leave(self)

    # --- for the network -----------------------------------------------------------------------

    def deliver(self, incoming: Incoming) -> None:
        """Hand a request to the handler, which may not execute it: this is the network's thread."""
        if self._handler is None:
            raise DeadObjectError("a request for an engine that was never opened")
        self._handler(incoming)

    def see(self, seen: dict[str, DeviceInfo]) -> list[Presence]:
        """Take note of who is there; returns what changed."""
        events: list[Presence] = []
        for udid, old in self._seen.items():
            now = seen.get(udid)
            if now is None or now.boot != old.boot:
                events.append(Presence(PresenceEvent.OFFLINE, old))
        for udid, info in seen.items():
            known = self._seen.get(udid)
            if known is None or known.boot != info.boot:
                events.append(Presence(PresenceEvent.ONLINE, info))
            elif known != info:
                events.append(Presence(PresenceEvent.CHANGED, info))
        self._seen = seen
        return events

    def tell(self, event: Presence) -> None:
        """Report a change."""
        if self._presence is not None and not self._closed:
            self._presence(event)
