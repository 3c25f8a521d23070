"""Streams when the other device is killed, or falls silent: real processes, real kills, real network namespaces."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from binderkit.errors import CallTimeoutError, DeadObjectError
from binderkit.softbus.reasons import ShutdownReason
from tests.softbus.certificates import Device
from tests.softbus.ports import Devices
from tests.softbus.session_pairs import Heard, Station, stations


@contextmanager
def _remote(
    one: Station, device: Device, *, host: str = "127.0.0.1", offer: int = 1000, namespace: str = ""
) -> Iterator[tuple[subprocess.Popen[str], tuple[str, int]]]:
    """Run a device in a process of its own; yields it and its address."""
    command = ["ip", "netns", "exec", namespace] if namespace else []
    process = subprocess.Popen(
        [*command, sys.executable, "-m", "tests.softbus.stream_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(["src", "."])},
    )
    given = {
        "own": device.udid,
        "trusted": one.udid,
        "ca": device.ca_pem.decode(),
        "certificate": device.certificate_pem.decode(),
        "key": str(device.key_file),
        "host": host,
        "offer": offer,
    }
    assert process.stdin is not None and process.stdout is not None
    with process:
        try:
            process.stdin.write(json.dumps(given) + "\n")
            process.stdin.flush()
            address, *_ = json.loads(process.stdout.readline())
            yield process, (address[0], address[1])
        finally:
            if process.poll() is None:
                os.kill(process.pid, signal.SIGCONT)
                process.kill()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[tuple[Devices, Station, Device]]:
    with stations(tmp_path, 1) as (made, (one,)):
        device = made.circle.device()
        one.side.port.set_trust(one.side.device.trust(device))
        yield made, one, device


class _Names:
    """Network ids that are UDIDs."""

    def udid_of(self, network_id: str) -> str | None:
        return network_id

    def network_id_of(self, udid: str) -> str:
        return udid


def _bound(world: tuple[Devices, Station, Device], address: tuple[str, int]) -> tuple[Heard, bytes]:
    """Return what is heard of an open session, and the ticket that came first."""
    made, one, device = world
    made.where[device.udid] = (address,)
    one.sessions._network = _Names()
    heard = Heard()
    socket = one.sessions.socket("client", peer_name="server", peer_network_id=device.udid)
    socket.bind(heard)
    heard.socket()
    ticket: bytes = heard.next("bytes")[1]
    socket.send_bytes(b"echo")
    assert heard.next("bytes") == (socket, b"echo")
    return heard, ticket


def test_a_killed_softbus_is_noticed_at_once(world: tuple[Devices, Station, Device]) -> None:
    with _remote(world[1], world[2]) as (process, address):
        heard, _ = _bound(world, address)
        begun = time.monotonic()
        process.kill()
        assert heard.next("shutdown")[1] is ShutdownReason.LINK_DOWN
        assert time.monotonic() - begun < 1


def test_a_kill_in_the_middle_of_a_transfer_is_an_error(world: tuple[Devices, Station, Device]) -> None:
    _, one, device = world
    with _remote(one, device, offer=100 << 20) as (process, address):
        _, ticket = _bound(world, address)

        def into(size: int) -> memoryview:
            process.kill()
            process.wait()
            return memoryview(bytearray(size))

        with pytest.raises(DeadObjectError):
            one.side.bulk.take(device.udid, ticket, into=into)


def test_a_stopped_softbus_ends_a_take_in_its_time_and_goes_on_afterwards(
    world: tuple[Devices, Station, Device],
) -> None:
    _, one, device = world
    with _remote(one, device) as (process, address):
        _, ticket = _bound(world, address)
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(CallTimeoutError):
            one.side.bulk.take(device.udid, ticket, timeout=0.3)
        os.kill(process.pid, signal.SIGCONT)
        assert bytes(one.side.bulk.take(device.udid, ticket)) == bytes(1000)


_cables = itertools.count()


@pytest.fixture
def cable() -> Iterator[tuple[str, str, Callable[[], None]]]:
    """A network namespace behind a veth pair: its name, its address, and what cuts it off."""
    unique = f"{os.getpid() % 100_000}x{next(_cables)}"
    name, near, far = f"bk{unique}", f"bkn{unique}", f"bkf{unique}"
    third = os.getpid() % 250
    here, there = f"10.213.{third}.1", f"10.213.{third}.2"
    commands = [
        f"ip netns add {name}",
        f"ip link add {near} type veth peer name {far} netns {name}",
        f"ip addr add {here}/24 dev {near}",
        f"ip link set {near} up",
        f"ip -n {name} addr add {there}/24 dev {far}",
        f"ip -n {name} link set {far} up",
        f"ip -n {name} link set lo up",
    ]

    def cut() -> None:
        # A foreign neighbour on both sides makes packets vanish without a word, as a cable behind a switch does.
        for command in (
            f"ip neigh replace {there} lladdr 02:00:00:00:00:01 dev {near} nud permanent",
            f"ip -n {name} neigh replace {here} lladdr 02:00:00:00:00:01 dev {far} nud permanent",
        ):
            subprocess.run(command.split(), check=True)

    try:
        for command in commands:
            subprocess.run(command.split(), check=True, capture_output=True)
        yield name, there, cut
    finally:
        # The namespace may go later than its last process; its end of the cable must not stay until then.
        for command in (f"ip link del {near}", f"ip netns del {name}"):
            subprocess.run(command.split(), check=False, capture_output=True)


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("ip") is None, reason="network namespaces need root and ip")
@pytest.mark.parametrize("busy", [False, True])
def test_a_silent_device_is_noticed_within_five_seconds(
    world: tuple[Devices, Station, Device], cable: tuple[str, str, Callable[[], None]], busy: bool
) -> None:
    namespace, there, cut = cable
    with _remote(world[1], world[2], host=there, namespace=namespace) as (_, address):
        heard, ticket = _bound(world, address)
        cut()
        begun = time.monotonic()
        with ThreadPoolExecutor(1) as pool:
            if busy:
                taking = pool.submit(world[1].side.bulk.take, world[2].udid, ticket)
            assert heard.next("shutdown")[1] is ShutdownReason.LINK_DOWN
            assert time.monotonic() - begun <= 5
            if busy:
                with pytest.raises((DeadObjectError, CallTimeoutError)):
                    taking.result(20)
