"""Zenoh alone, as little of it as makes a call: get to queryable, peer to peer, TLS with both sides proven.

What binderkit's calls between devices are compared with, so it gets the options that are quickest for a call and that
binderkit uses too: no shared memory (it would reach past TLS), express, the first reply at once, the handler on Zenoh's
own thread. What binderkit adds is left out: access control, discovery, at-most-once, objects, other processes.
"""

from __future__ import annotations

import json
import socket
import struct
import time
from pathlib import Path
from typing import Any

import zenoh

from bench.measure import touch_pages
from bench.peers import certificates
from bench.peers.base import Peer, say_ready

_INT = struct.Struct("<i")
_ECHO = "bench/echo"
_PUT = "bench/put"
_ADDRESS = "address"
_CALL_TIME = 8.0
CONNECT_TIME = 10.0
"""Seconds until the first call must have been answered."""


class Zenoh(Peer):
    """The client; see the module head."""

    name = "zenoh"
    offers = Peer.offers | {"crowd"}

    def start(self) -> None:
        """Make the certificates, start the server and connect."""
        certificates.make(self.folder)
        super().start()

    def connect(self) -> None:
        """Open the session, and call until the server answers: it knows of the server a moment after it is open."""
        endpoint = (self.folder / _ADDRESS).read_text()
        self._session = zenoh.open(_config(self.folder, certificates.CLIENT, connect=endpoint))
        deadline = time.monotonic() + CONNECT_TIME
        while True:
            try:
                self.echo(1)
                return
            except zenoh.ZError:
                if time.monotonic() > deadline:
                    self._session.close()
                    raise
            time.sleep(0.005)  # the interval between two tries

    def echo(self, value: int) -> int:
        """Send an int and get it back."""
        return self._call(_ECHO, _INT.pack(value))

    def put(self, data: bytes) -> int:
        """Send bytes."""
        return self._call(_PUT, data)

    def close(self) -> None:
        """Leave, and end the server."""
        self._session.close()
        super().close()

    def _call(self, key: str, payload: bytes) -> int:
        replies = self._session.get(
            key,
            payload=payload,
            timeout=_CALL_TIME,
            target=zenoh.QueryTarget.BEST_MATCHING,
            consolidation=zenoh.ConsolidationMode.NONE,
            congestion_control=zenoh.CongestionControl.BLOCK,
            express=True,
        )
        ok = replies.recv().ok
        if ok is None:
            raise RuntimeError("the queryable answered with an error")
        return int(_INT.unpack(ok.payload.to_bytes())[0])


def _config(folder: Path, side: str, *, listen: str = "", connect: str = "") -> zenoh.Config:
    certificate, key = str(folder / f"{side}.pem"), str(folder / f"{side}.key")
    settings: dict[str, Any] = {
        "mode": "peer",
        "listen": {"endpoints": [listen] if listen else []},
        "connect": {"endpoints": [connect] if connect else []},
        "scouting": {"multicast": {"enabled": False}, "gossip": {"enabled": False}, "delay": 0},
        "transport": {
            "link": {
                "protocols": ["tls"],
                "tls": {
                    "root_ca_certificate": str(folder / certificates.CA),
                    "listen_certificate": certificate,
                    "listen_private_key": key,
                    "connect_certificate": certificate,
                    "connect_private_key": key,
                    "enable_mtls": True,
                    "verify_name_on_connect": False,
                },
            },
            "shared_memory": {"enabled": False, "transport_optimization": {"enabled": False}},
        },
    }
    return zenoh.Config.from_json5(json.dumps(settings))


def _on_echo(query: zenoh.Query) -> None:
    assert query.payload is not None
    query.reply(_ECHO, _INT.pack(_INT.unpack(query.payload.to_bytes())[0]), express=True)
    query.drop()


def _on_put(query: zenoh.Query) -> None:
    assert query.payload is not None
    query.reply(_PUT, _INT.pack(touch_pages(query.payload.to_bytes())), express=True)
    query.drop()


def serve(folder: Path) -> None:
    """Serve for ever."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        endpoint = f"tls/127.0.0.1:{probe.getsockname()[1]}"
    with zenoh.open(_config(folder, certificates.SERVER, listen=endpoint)) as session:
        direct = zenoh.handlers.Callback
        session.declare_queryable(_ECHO, direct(_on_echo, indirect=False), complete=True)
        session.declare_queryable(_PUT, direct(_on_put, indirect=False), complete=True)
        (folder / _ADDRESS).write_text(endpoint)
        say_ready()
        while True:
            time.sleep(3600)  # until it is killed
