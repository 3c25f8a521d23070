"""multiprocessing.connection: pickled tuples over a UNIX socket, a thread per client. The standard library's floor.

It carries messages, not calls: the few lines of protocol below (a kind and a
value) are what its user would write.
"""

from __future__ import annotations

import threading
from multiprocessing.connection import Client, Listener
from multiprocessing.connection import Connection as _Connection
from pathlib import Path

from bench.measure import touch_pages
from bench.peers.base import Peer, say_ready

ECHO, PUT, NOTIFY, COUNT = range(4)


class Connection(Peer):
    """The client; see the module head."""

    name = "multiprocessing.connection"
    offers = Peer.offers | {"oneway"}

    def connect(self) -> None:
        """Connect to the server's socket."""
        self._connection = Client(str(self.folder / "socket"), "AF_UNIX")

    def echo(self, value: int) -> int:
        """Send an int and get it back."""
        self._connection.send((ECHO, value))
        return int(self._connection.recv())

    def echo_any(self, value: object) -> object:
        """Send anything that can be pickled and get it back."""
        self._connection.send((ECHO, value))
        return self._connection.recv()

    def put(self, data: bytes) -> int:
        """Send bytes by send_bytes, which does not pickle them."""
        self._connection.send((PUT, 0))
        self._connection.send_bytes(data)
        return int(self._connection.recv())

    def notify(self, value: int) -> None:
        """Send an int; the server counts it."""
        self._connection.send((NOTIFY, value))

    def count(self) -> int:
        """Return how many the server has counted."""
        self._connection.send((COUNT, 0))
        return int(self._connection.recv())


def _serve_client(connection: _Connection) -> None:
    counted = 0
    while True:
        try:
            kind, value = connection.recv()
        except EOFError:
            return
        if kind == ECHO:
            connection.send(value)
        elif kind == PUT:
            connection.send(touch_pages(connection.recv_bytes()))
        elif kind == NOTIFY:
            counted += 1
        else:
            connection.send(counted)


def serve(folder: Path) -> None:
    """Accept clients for ever."""
    with Listener(str(folder / "socket"), "AF_UNIX") as listener:
        say_ready()
        while True:
            threading.Thread(target=_serve_client, args=(listener.accept(),), daemon=True).start()
