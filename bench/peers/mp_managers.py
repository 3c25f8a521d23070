"""multiprocessing.managers: proxies by pickle, a thread per client. No one-way calls, no callbacks."""

from __future__ import annotations

from multiprocessing.managers import BaseManager
from pathlib import Path

from bench.measure import touch_pages
from bench.peers.base import Peer, say_ready

_KEY = b"bench"


class Service:
    """The object that is served."""

    def echo(self, value: int) -> int:
        """Return the value."""
        return value

    def put(self, data: bytes) -> int:
        """Touch the data."""
        return touch_pages(data)


class _Manager(BaseManager):
    pass


class Managers(Peer):
    """The client; see the module head."""

    name = "multiprocessing.managers"

    def connect(self) -> None:
        """Connect and get the proxy."""
        _Manager.register("service", exposed=("echo", "put"))
        manager = _Manager(address=str(self.folder / "socket"), authkey=_KEY)
        manager.connect()
        self._service = manager.service()  # type: ignore[attr-defined]  # made by register()

    def echo(self, value: int) -> int:
        """Send an int and get it back."""
        return int(self._service.echo(value))

    def put(self, data: bytes) -> int:
        """Send bytes (pickled)."""
        return int(self._service.put(data))


def serve(folder: Path) -> None:
    """Serve for ever."""
    service = Service()
    _Manager.register("service", callable=lambda: service, exposed=("echo", "put"))
    server = _Manager(address=str(folder / "socket"), authkey=_KEY).get_server()
    say_ready()
    server.serve_forever()
