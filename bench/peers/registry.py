"""Name -> contender, imported only when it is used: a client process must not pay for the other packages."""

from __future__ import annotations

from importlib import import_module, util
from pathlib import Path

from bench.peers.base import Peer

_RPC_NEEDS = ("zenoh", "cryptography", "zeroconf", "ifaddr", "spake2")
_WHERE = {
    "binderkit": ("bench.peers.own", "Own", "binderkit"),
    "multiprocessing.connection": ("bench.peers.mp_connection", "Connection", "multiprocessing"),
    "multiprocessing.managers": ("bench.peers.mp_managers", "Managers", "multiprocessing"),
    "rpyc": ("bench.peers.rpyc_service", "Rpyc", "rpyc"),
    "Pyro5": ("bench.peers.pyro5_daemon", "Pyro", "Pyro5"),
    "grpcio": ("bench.peers.grpc_bytes", "Grpc", "grpc"),
}
_REMOTE = {
    "binderkit RPC": ("bench.peers.rpc", "Rpc", *_RPC_NEEDS),
    "zenoh": ("bench.peers.bare_zenoh", "Zenoh", "zenoh", "cryptography"),
    "grpcio TLS": ("bench.peers.grpc_mtls", "GrpcTls", "grpc", "cryptography"),
}
_ALL: dict[str, tuple[str, ...]] = {**_WHERE, **_REMOTE}

OWN = "binderkit"
RPC = "binderkit RPC"
OURS = (OWN, RPC)
NAMES = tuple(_WHERE)
"""Between processes of one device."""
REMOTE_NAMES = tuple(_REMOTE)
"""Between devices."""


def installed(name: str) -> bool:
    """Return whether the packages of a contender can be imported."""
    return all(util.find_spec(package) is not None for package in _ALL[name][2:])


def make(name: str, folder: Path) -> Peer:
    """Return a contender, not started yet."""
    module, cls = _ALL[name][:2]
    peer: Peer = getattr(import_module(module), cls)(folder)
    return peer


def serve(name: str, folder: Path) -> None:
    """Run the server of a contender until it is killed."""
    import_module(_ALL[name][0]).serve(folder)
