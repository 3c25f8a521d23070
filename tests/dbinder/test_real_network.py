"""dbinder over the real thing: Zenoh with mutual TLS for messages, mutual-TLS streams for what is large."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import binderkit as bk
from binderkit import limits
from binderkit.dbinder.service import DBinderService
from binderkit.driver.loopback import LoopbackNetwork
from binderkit.errors import DeadObjectError, ServiceError
from binderkit.ipc.rpc_proxy import RpcProxy
from binderkit.softbus.calls import Calls
from binderkit.softbus.zenoh_engine import ZenohEngine
from tests.dbinder.devices import Recipient, eventually
from tests.dbinder.service import Code, Service, call, echo
from tests.softbus.certificates import Device as Certified
from tests.softbus.ports import Devices as Ports
from tests.softbus.zenoh_devices import Loopback, warm_up

ABILITY = 5000


@pytest.fixture(scope="module", autouse=True)
def _warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    warm_up(tmp_path_factory.mktemp("warm"))


class Side:
    """One device: its certificate, its session, its streams, and an app."""

    def __init__(self, network: Loopback, ports: Ports, device: Certified, other: Certified) -> None:
        self.udid = device.udid
        self.local = LoopbackNetwork()
        self.softbus = self.local.process(pid=os.getpid())
        self.app = self.local.process()
        self.abilities: dict[int, Any] = {}
        self.calls = Calls(ZenohEngine(device.trust(other), network.settings(), name="device"))
        bulk = ports.add(device, [other]).bulk
        self.dbinder = DBinderService(self.calls, bulk, self.abilities.get, udid=self.udid, driver=self.softbus)

    def get(self, other: Side) -> RpcProxy:
        proxy = self.softbus.offer(self.dbinder.get(other.udid, ABILITY), self.app)
        assert isinstance(proxy, RpcProxy)
        return proxy

    def leave(self) -> None:
        self.calls.close()
        self.dbinder.close()

    def close(self) -> None:
        self.leave()
        self.abilities.clear()
        self.local.close()


class Pair:
    """Two devices of one circle."""

    def __init__(self, directory: Path) -> None:
        self.network = Loopback(directory)
        self.ports = Ports(self.network.circle)
        one, two = self.network.circle.device(), self.network.circle.device()
        self.a = Side(self.network, self.ports, one, two)
        self.b = Side(self.network, self.ports, two, one)
        self.service = Service()
        self.b.abilities[ABILITY] = self.b.app.offer(self.service, self.b.softbus)
        eventually(lambda: self.a.dbinder._devices and self.b.dbinder._devices, "the devices see each other", 20)

    def close(self) -> None:
        self.a.close()
        self.b.close()
        self.ports.close()
        self.network.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    try:
        yield pair
    finally:
        pair.close()


def test_calls_callbacks_and_identity(pair: Pair) -> None:
    proxy = pair.a.get(pair.b)
    assert echo(proxy) == "hello"
    assert call(proxy, Code.WHO).read_string() == pair.a.udid
    mine = Service("test.ICallback")

    def write(data: Any) -> None:
        data.write_remote_object(mine)
        data.write_string("ping")

    assert call(proxy, Code.CALL_BACK, write).read_string() == f"ping via {pair.a.udid[:4]}"
    for number in range(50):
        call(proxy, Code.NOTE, lambda data, n=number: data.write_int(n), bk.MessageOption(1))
    eventually(lambda: pair.service.notes == list(range(50)), "one-way calls arrive in order")


def test_raw_data_and_ashmem_over_streams(pair: Pair) -> None:
    proxy = pair.a.get(pair.b)
    content = os.urandom(2_500_000)

    def write(data: Any) -> None:
        data.write_int(len(content))
        data.write_raw_data_buffer(content, len(content))

    reply = call(proxy, Code.RAW, write)
    assert bytes(reply.read_raw_data_buffer(len(content))) == content[::-1]
    size = 2 * limits.RPC_INLINE_BLOB
    with bk.Ashmem.create("test", size) as memory:
        memory.map_read_write_ashmem()
        memory.write_data_to_ashmem(content, size, 0)
        answer = call(proxy, Code.ASHMEM, lambda data: data.write_ashmem(memory))
    with answer.read_ashmem() as got:
        got.map_readonly_ashmem()
        assert got.read_data_from_ashmem(size, 0) == content[:size][::-1]
    answer.reclaim()


def test_a_device_that_leaves(pair: Pair) -> None:
    proxy, recipient = pair.a.get(pair.b), Recipient()
    proxy.register_death_recipient(recipient)
    pair.b.leave()
    assert recipient.event.wait(10)
    with pytest.raises(DeadObjectError):
        echo(proxy)
    with pytest.raises(ServiceError) as caught:
        pair.a.get(pair.b)
    assert caught.value.code == 108
