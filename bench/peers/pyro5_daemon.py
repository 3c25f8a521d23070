"""Pyro5 over a UNIX socket, with its default serializer (serpent, which turns bytes into base64 text)."""

from __future__ import annotations

import base64
import threading
from pathlib import Path

from Pyro5 import config
from Pyro5.api import Daemon, Proxy, expose, oneway

from bench.measure import touch_pages
from bench.peers.base import Peer, say_ready


@expose
class Service:
    """The object that is served."""

    def __init__(self) -> None:
        self._count = 0
        self._lock = threading.Lock()

    def echo(self, value: int) -> int:
        """Return the value."""
        return value

    def put(self, data: dict[str, str]) -> int:
        """Touch the data."""
        return touch_pages(base64.b64decode(data["data"]))

    @oneway
    def notify(self, value: int) -> None:
        """Count a one-way call (each runs on a thread of its own)."""
        with self._lock:
            self._count += 1

    def count(self) -> int:
        """Return how many were counted."""
        return self._count


class Pyro(Peer):
    """The client; see the module head."""

    name = "Pyro5"
    offers = Peer.offers | {"oneway"}

    def connect(self) -> None:
        """Connect and bind the proxy."""
        self._proxy = Proxy(f"PYRO:service@./u:{self.folder / 'socket'}")

    def echo(self, value: int) -> int:
        """Send an int and get it back."""
        return int(self._proxy.echo(value))

    def put(self, data: bytes) -> int:
        """Send bytes (base64 text on the way)."""
        return int(self._proxy.put(data))

    def notify(self, value: int) -> None:
        """Make a one-way call."""
        self._proxy.notify(value)

    def count(self) -> int:
        """Return how many the server has counted."""
        return int(self._proxy.count())


def serve(folder: Path) -> None:
    """Serve for ever, a thread per client."""
    config.SERVERTYPE = "thread"
    daemon = Daemon(unixsocket=str(folder / "socket"))
    daemon.register(Service(), "service")
    say_ready()
    daemon.requestLoop()
