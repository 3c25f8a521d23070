"""grpcio as in grpc_bytes.py, over loopback with both sides proven by TLS certificates."""

from __future__ import annotations

from concurrent import futures
from pathlib import Path

import grpc

from bench.peers import certificates, grpc_bytes
from bench.peers.base import Peer, say_ready

_PORT = "port"


class GrpcTls(grpc_bytes.Grpc):
    """The client; see the module head."""

    name = "grpcio TLS"
    offers = Peer.offers | {"crowd"}

    def start(self) -> None:
        """Make the certificates, start the server and connect."""
        certificates.make(self.folder)
        super().start()

    def channel(self) -> grpc.Channel:
        """Return a channel to the server, checked by the name in its certificate."""
        ca, key, certificate = _files(self.folder, certificates.CLIENT)
        credentials = grpc.ssl_channel_credentials(ca, key, certificate)
        name = (self.folder / f"{certificates.SERVER}.name").read_text()
        options = [*grpc_bytes.OPTIONS, ("grpc.ssl_target_name_override", name)]
        return grpc.secure_channel(f"127.0.0.1:{(self.folder / _PORT).read_text()}", credentials, options=options)


def _files(folder: Path, side: str) -> tuple[bytes, bytes, bytes]:
    names = (certificates.CA, f"{side}.key", f"{side}.pem")
    ca, key, certificate = ((folder / name).read_bytes() for name in names)
    return ca, key, certificate


def serve(folder: Path) -> None:
    """Serve for ever."""
    ca, key, certificate = _files(folder, certificates.SERVER)
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16), options=grpc_bytes.OPTIONS)
    server.add_generic_rpc_handlers((grpc_bytes.handlers(),))
    credentials = grpc.ssl_server_credentials([(key, certificate)], ca, require_client_auth=True)
    port = server.add_secure_port("127.0.0.1:0", credentials)
    server.start()
    (folder / _PORT).write_text(str(port))
    say_ready()
    server.wait_for_termination()
