"""grpcio, synchronous, over a UNIX socket: generic handlers on plain bytes, so no protoc and no message classes.

Its only way to send without an answer is a client stream, which is one call
with many messages: not offered as one-way calls.
"""

from __future__ import annotations

import struct
from concurrent import futures
from pathlib import Path

import grpc

from bench.measure import touch_pages
from bench.peers.base import Peer, say_ready

_INT = struct.Struct("<i")
OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def _address(folder: Path) -> str:
    return f"unix:{folder / 'socket'}"


class Grpc(Peer):
    """The client; see the module head."""

    name = "grpcio"

    def connect(self) -> None:
        """Open the channel."""
        channel = self.channel()
        self._echo = channel.unary_unary("/bench.Service/echo")
        self._put = channel.unary_unary("/bench.Service/put")

    def channel(self) -> grpc.Channel:
        """Return a channel to the server."""
        return grpc.insecure_channel(_address(self.folder), options=OPTIONS)

    def echo(self, value: int) -> int:
        """Send an int and get it back."""
        return int(_INT.unpack(self._echo(_INT.pack(value)))[0])

    def put(self, data: bytes) -> int:
        """Send bytes."""
        return int(_INT.unpack(self._put(data))[0])


def _on_echo(request: bytes, context: object) -> bytes:
    return _INT.pack(_INT.unpack(request)[0])


def _on_put(request: bytes, context: object) -> bytes:
    return _INT.pack(touch_pages(request))


def handlers() -> grpc.GenericRpcHandler:
    """Return what the server offers."""
    methods = {
        "echo": grpc.unary_unary_rpc_method_handler(_on_echo),
        "put": grpc.unary_unary_rpc_method_handler(_on_put),
    }
    return grpc.method_handlers_generic_handler("bench.Service", methods)


def serve(folder: Path) -> None:
    """Serve for ever."""
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=OPTIONS)
    server.add_generic_rpc_handlers((handlers(),))
    server.add_insecure_port(_address(folder))
    server.start()
    say_ready()
    server.wait_for_termination()
