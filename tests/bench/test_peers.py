"""Every contender that is installed does what it offers (the other packages are there after `make bench`)."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bench import worker
from bench.measure import payload
from bench.peers import base, registry

OTHERS = [name for name in registry.NAMES if name != registry.OWN and registry.installed(name)]


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
