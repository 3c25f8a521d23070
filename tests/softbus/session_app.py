"""An application of a process of its own that uses sessions through the softbus process, for tests."""

from __future__ import annotations

import threading

from binderkit.interface import Int32, Interface, method
from binderkit.ipc.remote import IRemoteObject
from binderkit.softbus.reasons import DataType
from binderkit.softbus.session_client import RemoteSessions
from binderkit.softbus.session_socket import Socket, SocketListener


class IApp(Interface, descriptor="test.ISessionApp"):
    @method
    def serve(self, service: IRemoteObject, name: str, data_type: Int32) -> None:
        """Listen, and send everything back."""

    @method
    def talk(self, service: IRemoteObject, name: str, network_id: str, data_type: Int32, count: int, size: int) -> int:
        """Bind, send packets, and return how many came back as they were sent."""


class _Echo(SocketListener):
    def on_bytes(self, socket: Socket, data: bytes) -> None:
        socket.send_bytes(data)

    def on_message(self, socket: Socket, data: bytes) -> None:
        socket.send_message(data)


class _Counting(SocketListener):
    def __init__(self, wanted: int) -> None:
        self._wanted = wanted
        self.seen: list[bytes] = []
        self.done = threading.Event()

    def on_bytes(self, socket: Socket, data: bytes) -> None:
        self.seen.append(data)
        if len(self.seen) == self._wanted:
            self.done.set()

    on_message = on_bytes


class App(IApp):
    def __init__(self) -> None:
        self._serving: list[RemoteSessions] = []

    def serve(self, service: IRemoteObject, name: str, data_type: int) -> None:
        sessions = RemoteSessions(service)
        self._serving.append(sessions)
        sessions.socket(name, data_type=DataType(data_type)).listen(_Echo())

    def talk(self, service: IRemoteObject, name: str, network_id: str, data_type: int, count: int, size: int) -> int:
        sessions = RemoteSessions(service)
        listener = _Counting(count)
        with sessions.socket(
            "talker", peer_name=name, peer_network_id=network_id, data_type=DataType(data_type)
        ) as socket:
            socket.bind(listener)
            sent = [bytes([number % 256]) * size for number in range(count)]
            for packet in sent:
                (socket.send_bytes if data_type == DataType.BYTES else socket.send_message)(packet)
            listener.done.wait(30)
        sessions.close()
        return sum(one == two for one, two in zip(sent, listener.seen, strict=False))
