"""Every contender that is installed does what it offers (the other packages are there after `make bench`)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import worker
from bench.measure import payload
from bench.peers import base, registry

OTHERS = [name for name in registry.NAMES if name != registry.OWN and registry.installed(name)]

REMOTE = [name for name in registry.REMOTE_NAMES if registry.installed(name)]


@pytest.fixture(params=["multiprocessing.connection", "multiprocessing.managers"])
def peer(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[base.Peer]:
    made = registry.make(request.param, tmp_path)
    made.start()
    yield made
    made.close()
    made.__dict__.clear()  # the connection goes with its last reference


def test_calls_and_payloads_arrive(peer: base.Peer) -> None:
    assert peer.echo(-5) == -5
    assert peer.put(payload(100_000)) == 100_000


def test_clients_in_processes_of_their_own_are_counted(peer: base.Peer) -> None:
    assert peer.load(2, 0.05) > 0


def test_oneway_calls_are_all_handled_before_the_rate_is_taken(peer: base.Peer) -> None:
    if "oneway" not in peer.offers:
        with pytest.raises(NotImplementedError, match="offers no one-way"):
            peer.notify(1)
        return
    assert worker.oneway(peer, 0.02, 0)["per_second"] > 0
    assert peer.count() % 64 == 0


@pytest.mark.slow
@pytest.mark.parametrize("name", REMOTE)
def test_every_installed_package_can_be_measured_between_devices(name: str, tmp_path: Path) -> None:
    from bench.runner import Workers

    with Workers(tmp_path) as workers:
        client = workers.get(name)
        assert client.ask("echo", 0.02, 0)["calls"] >= 3
        assert client.ask("payload", 0.02, 2**20)["calls"] >= 3
        assert client.ask("crowd", 0.05, 4)["per_second"] > 0
    assert not [pid for pid in client.pids if os.path.exists(f"/proc/{pid}")]


_CALL = """
import sys
from pathlib import Path
from bench.peers import registry
if sys.argv[1] == "zenoh":
    from bench.peers import bare_zenoh
    bare_zenoh.CONNECT_TIME = float(sys.argv[3])
client = registry.make(sys.argv[1], Path(sys.argv[2]))
client.connect()
print("answered", client.echo(7))
"""


def _one_call(name: str, folder: Path, patience: float) -> str:
    """Return what a client says that makes one call; in a process of its own, for what the packages keep for life."""
    command = [sys.executable, "-c", _CALL, name, str(folder), str(patience)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, cwd=Path(__file__).parents[2])
    return done.stdout or done.stderr.strip()


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in REMOTE if name != registry.RPC])
def test_who_is_not_of_the_circle_gets_no_call_through(name: str, tmp_path: Path) -> None:
    """Else the comparison would not be with mutual TLS."""
    from bench.peers import certificates

    stranger, server = tmp_path / "stranger", tmp_path / "server"
    for folder in (stranger, server):
        folder.mkdir()
        certificates.make(folder)
    running = base.start_module("bench.peers.serve", name, str(server))
    try:
        assert _one_call(name, server, 10) == "answered 7\n"
        for suffix in ("pem", "key"):
            path = server / f"{certificates.CLIENT}.{suffix}"
            path.write_bytes((stranger / path.name).read_bytes())
        assert re.search("channel is empty and closed|UNAVAILABLE", _one_call(name, server, 0.5))
    finally:
        base.stop(running)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_every_installed_package_can_be_measured(name: str, tmp_path: Path) -> None:
    from bench.runner import Workers

    with Workers(tmp_path) as workers:
        client = workers.get(name)
        assert client.ask("echo", 0.02, 0)["calls"] >= 3
        assert client.ask("payload", 0.02, 65536)["calls"] >= 3
        assert client.ask("clients", 0.05, 2)["per_second"] > 0
        if "oneway" in client.offers:
            assert client.ask("oneway", 0.02, 0)["per_second"] > 0


def test_a_server_that_does_not_start_is_an_error() -> None:
    with pytest.raises(RuntimeError, match="did not start"):
        base.start_module("bench.peers.serve", "no such package", "/nowhere")
