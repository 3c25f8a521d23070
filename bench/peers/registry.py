"""Name -> contender, imported only when it is used: a client process must not pay for the other packages."""

from __future__ import annotations

from importlib import import_module, util
from pathlib import Path

from bench.peers.base import Peer

_WHERE = {
    "binderkit": ("bench.peers.own", "Own", "binderkit"),
    "multiprocessing.connection": ("bench.peers.mp_connection", "Connection", "multiprocessing"),
    "multiprocessing.managers": ("bench.peers.mp_managers", "Managers", "multiprocessing"),
    "rpyc": ("bench.peers.rpyc_service", "Rpyc", "rpyc"),
    "Pyro5": ("bench.peers.pyro5_daemon", "Pyro", "Pyro5"),
    "grpcio": ("bench.peers.grpc_bytes", "Grpc", "grpc"),
}

OWN = "binderkit"
NAMES = tuple(_WHERE)


def installed(name: str) -> bool:
    """Return whether the package of a contender can be imported."""
    return util.find_spec(_WHERE[name][2]) is not None


def make(name: str, folder: Path) -> Peer:
    """Return a contender, not started yet."""
    module, cls, _ = _WHERE[name]
    peer: Peer = getattr(import_module(module), cls)(folder)
    return peer


def serve(name: str, folder: Path) -> None:
    """Run the server of a contender until it is killed."""
    import_module(_WHERE[name][0]).serve(folder)
