"""Devices with sessions, in one process, and a listener that records, for tests."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from binderkit.softbus.reasons import DataType, ShutdownReason
from binderkit.softbus.session_frames import StreamFrameInfo
from binderkit.softbus.session_socket import PeerSocketInfo, Socket, SocketListener
from binderkit.softbus.sessions import Sessions
from tests.softbus.ports import Devices, Side, devices

WAIT = 10.0


class Names:
    """Network ids that are "net-" and the beginning of the UDID; a test may hide a device."""

    def __init__(self, made: Devices) -> None:
        self._devices = made
        self.hidden: set[str] = set()

    def udid_of(self, network_id: str) -> str | None:
        for side in self._devices.sides:
            if self.network_id_of(side.udid) == network_id and side.udid not in self.hidden:
                return side.udid
        return None

    def network_id_of(self, udid: str) -> str:
        return f"net-{udid[:8]}"


class Heard(SocketListener):
    """Puts everything it hears in ``events``: (name of the method, the socket, what came)."""

    def __init__(self, *, takes: bool = True) -> None:
        self.events: SimpleQueue[tuple[Any, ...]] = SimpleQueue()
        self.takes = takes

    def next(self, name: str) -> tuple[Any, ...]:
        """Return the next event without its name, which must be ``name``."""
        event = self.events.get(timeout=WAIT)
        assert event[0] == name, event
        return event[1:]

    def socket(self) -> Socket:
        """Return the socket of the next on_bind."""
        made: Socket = self.next("bind")[0]
        return made

    def on_negotiate(self, socket: Socket, peer: PeerSocketInfo) -> bool:
        return self.takes

    def on_bind(self, socket: Socket, peer: PeerSocketInfo) -> None:
        self.events.put(("bind", socket, peer))

    def on_error(self, socket: Socket, code: int) -> None:
        self.events.put(("error", socket, code))

    def on_bytes(self, socket: Socket, data: bytes) -> None:
        self.events.put(("bytes", socket, data))

    def on_message(self, socket: Socket, data: bytes) -> None:
        self.events.put(("message", socket, data))

    def on_stream(self, socket: Socket, data: bytes, extension: bytes, info: StreamFrameInfo) -> None:
        self.events.put(("stream", socket, data, extension, info))

    def on_bytes_sent(self, socket: Socket, number: int, code: int) -> None:
        self.events.put(("bytes_sent", socket, number, code))

    def on_message_sent(self, socket: Socket, number: int, code: int) -> None:
        self.events.put(("message_sent", socket, number, code))

    def on_shutdown(self, socket: Socket, reason: ShutdownReason) -> None:
        self.events.put(("shutdown", socket, reason))


@dataclass
class Station:
    """A device with sessions."""

    side: Side
    sessions: Sessions
    names: Names

    @property
    def udid(self) -> str:
        return self.side.udid

    @property
    def network_id(self) -> str:
        return self.names.network_id_of(self.side.udid)

    def listen(self, listener: SocketListener, data_type: DataType = DataType.BYTES, name: str = "server") -> Socket:
        socket = self.sessions.socket(name, pkg_name="com.example.server", data_type=data_type)
        socket.listen(listener)
        return socket

    def to(self, other: Station, data_type: DataType = DataType.BYTES, name: str = "server") -> Socket:
        """Return a socket that can be bound to a name on another device."""
        return self.sessions.socket(
            "client",
            peer_name=name,
            peer_network_id=other.network_id,
            pkg_name="com.example.client",
            data_type=data_type,
        )


@contextlib.contextmanager
def stations(directory: Path, count: int = 2) -> Iterator[tuple[Devices, list[Station]]]:
    """Return devices that all trust each other; closes everything."""
    with devices(directory) as made:
        members = [made.circle.device() for _ in range(count)]
        names = Names(made)
        found = []
        for member in members:
            side = made.add(member, [other for other in members if other is not member], start=False)
            found.append(Station(side, Sessions(side.port, names), names))
            side.port.start()
        try:
            yield made, found
        finally:
            for station in found:
                station.sessions.close()


def open_pair(pair: tuple[Station, Station], data_type: DataType) -> tuple[Socket, Heard, Socket, Heard]:
    """Return a client's socket and what it hears, and the same of the server."""
    one, two = pair
    here, there = Heard(), Heard()
    two.listen(there, data_type)
    socket = one.to(two, data_type)
    socket.bind(here)
    assert here.socket() is socket
    return socket, here, there.socket(), there
