"""rpyc over a UNIX socket, a thread per client.

Its zlib compression of messages above 3,000 bytes is switched off (it costs
more than it saves on one machine). Its async_ calls produce replies, so they
are no one-way calls and a flood of them dead-locks both ends: not offered.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import rpyc
from rpyc.core.channel import Channel
from rpyc.utils.server import ThreadedServer

from bench.measure import touch_pages
from bench.peers.base import Peer, say_ready

_LONG = {"sync_request_timeout": 60}


class _Service(rpyc.Service):  # type: ignore[misc]  # rpyc is not typed
    def exposed_echo(self, value: int) -> int:
        return value

    def exposed_put(self, data: bytes) -> int:
        return touch_pages(data)


class Rpyc(Peer):
    """The client; see the module head."""

    name = "rpyc"

    def connect(self) -> None:
        """Connect and fetch the methods once."""
        Channel.COMPRESSION_LEVEL = 0
        self._connection: Any = rpyc.utils.factory.unix_connect(str(self.folder / "socket"), config=_LONG)
        self._echo = self._connection.root.echo
        self._put = self._connection.root.put

    def echo(self, value: int) -> int:
        """Send an int and get it back."""
        return int(self._echo(value))

    def put(self, data: bytes) -> int:
        """Send bytes by value."""
        return int(self._put(data))


def serve(folder: Path) -> None:
    """Serve for ever."""
    Channel.COMPRESSION_LEVEL = 0
    server = ThreadedServer(_Service, socket_path=str(folder / "socket"), protocol_config=_LONG)
    server._listen()
    say_ready()
    server.start()
