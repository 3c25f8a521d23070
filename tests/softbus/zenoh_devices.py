"""Devices on the loopback interface with real Zenoh sessions, for the tests."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from pathlib import Path

from binderkit.softbus.calls import Calls, Request
from binderkit.softbus.engine import Incoming, Presence, PresenceEvent, TrustSnapshot
from binderkit.softbus.zenoh_config import ZenohSettings
from binderkit.softbus.zenoh_engine import ZenohEngine
from tests import leaks
from tests.softbus.certificates import Circle, Device


def warm_up(directory: Path) -> None:
    """Start what Zenoh keeps for the life of a process (its runtimes), so that no test is blamed for it."""
    with leaks.foreign():
        loopback = Loopback(directory)
        try:
            one, _, _, b, _ = loopback.pair(lambda request: request.payload)
            one.call(b.udid, 1, b"")
        finally:
            loopback.close()


def free_port(kind: socket.SocketKind = socket.SOCK_STREAM) -> int:
    with socket.socket(socket.AF_INET, kind) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Watch:
    """Presence events, and waiting for one of them."""

    def __init__(self) -> None:
        self.events: list[Presence] = []
        self._changed = threading.Condition()

    def __call__(self, event: Presence) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait(self, event: PresenceEvent, udid: str, count: int = 1, timeout: float = 10) -> Presence:
        def found() -> list[Presence]:
            return [seen for seen in self.events if seen.event is event and seen.device.udid == udid]

        with self._changed:
            assert self._changed.wait_for(lambda: len(found()) >= count, timeout), f"no {event} of {udid[:8]}"
            return found()[-1]


class Loopback:
    """One network on the loopback interface: its multicast port sets it apart from others."""

    def __init__(self, directory: Path) -> None:
        self.circle = Circle(directory)
        self._group = f"224.0.0.224:{free_port(socket.SOCK_DGRAM)}"
        self._closing: list[Callable[[], None]] = []

    def settings(self, *, lease: float = 2.5) -> ZenohSettings:
        return ZenohSettings(
            listen=("tls/127.0.0.1:0",), multicast=True, interface="lo", lease=lease, multicast_address=self._group
        )

    def engine(
        self, trust: TrustSnapshot, handler: Callable[[Incoming], None] | None = None, *, name: str = "device"
    ) -> tuple[ZenohEngine, Watch]:
        """Return an open engine."""
        engine, watch = ZenohEngine(trust, self.settings(), name=name), Watch()
        self._closing.append(engine.close)
        engine.open(handler or (lambda incoming: incoming.answer(incoming.payload)), watch)
        return engine, watch

    def calls(self, trust: TrustSnapshot, handler: Callable[[Request], bytes]) -> tuple[Calls, Watch]:
        """Return open calls, and who comes and goes."""
        calls, watch = Calls(ZenohEngine(trust, self.settings(), name="device")), Watch()
        self._closing.append(calls.close)
        calls.serve(handler)
        calls.on_device(watch)
        return calls, watch

    def pair(self, handler: Callable[[Request], bytes]) -> tuple[Calls, Calls, Device, Device, Watch]:
        """Return calls of two devices that see each other, the devices, and who comes and goes at the first."""
        a, b = self.circle.device(), self.circle.device()
        first, watch = self.calls(a.trust(b), handler)
        second, other = self.calls(b.trust(a), handler)
        watch.wait(PresenceEvent.ONLINE, b.udid)
        other.wait(PresenceEvent.ONLINE, a.udid)
        return first, second, a, b, watch

    def close(self) -> None:
        for close in self._closing:
            close()
