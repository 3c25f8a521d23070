"""Devices for the tests of dbinder: a simulated network, and on each device "processes" of a loopback network.

``Devices`` trust each other; each ``Device`` has a process that speaks for it (softbus), and apps. What an app gets of
another device it gets through a real local driver, as it would from the real softbus process.
"""

from __future__ import annotations

import gc
import hashlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import binderkit as bk
from binderkit.dbinder.service import DBinderService
from binderkit.dbinder.stub import RemoteStub
from binderkit.driver.loopback import LoopbackNetwork, LoopbackProcess
from binderkit.errors import InvalidObjectError
from binderkit.ipc.remote import IRemoteObject
from binderkit.ipc.rpc_proxy import RpcProxy
from binderkit.softbus.calls import Calls
from binderkit.softbus.engine import TrustSnapshot
from binderkit.softbus.memory import Network

PATIENCE = 10.0


def eventually(condition: Callable[[], object], what: str | Callable[[], str], patience: float = PATIENCE) -> None:
    """Return when ``condition()`` is true; fail if it never is."""
    end = time.monotonic() + patience
    while not condition():
        assert time.monotonic() < end, f"never happened: {what if isinstance(what, str) else what()}"
        time.sleep(0.002)  # the interval between two looks, not a wait for it to come true


class SharedBulk:
    """Memory too large for a message, carried by a dictionary that all devices share."""

    def __init__(self) -> None:
        self.offers: dict[bytes, tuple[str, bytes]] = {}
        self.put_sizes: list[int] = []

    def port(self, udid: str) -> BulkSide:
        return BulkSide(self, udid)


class BulkSide:
    """One device's side of it."""

    def __init__(self, shared: SharedBulk, udid: str) -> None:
        self._shared = shared
        self._udid = udid

    def put(self, udid: str, data: memoryview) -> bytes:
        ticket = os.urandom(16) + len(data).to_bytes(4, "little")
        self._shared.offers[ticket] = (udid, bytes(data))
        self._shared.put_sizes.append(len(data))
        return ticket

    def drop(self, ticket: bytes) -> bool:
        return self._shared.offers.pop(ticket, None) is not None

    def take(self, source: str, ticket: bytes, *, into: Callable[[int], memoryview] | None = None) -> memoryview:
        assert into is not None
        found = self._shared.offers.pop(ticket, None)
        if found is None or found[0] != self._udid:
            raise InvalidObjectError("nothing under this ticket")
        target = into(len(found[1]))
        target[:] = found[1]
        return target


class Device:
    """One device: who speaks for it, and its apps."""

    def __init__(self, devices: Devices, name: str) -> None:
        self.name = name
        self.udid = hashlib.sha256(name.encode()).hexdigest()
        self.local = LoopbackNetwork()
        # The handlers of apps accept calls of other devices from this very process only, or with a permission.
        self.softbus = self.local.process(pid=os.getpid())
        self.abilities: dict[int, IRemoteObject] = {}
        self.devices = devices
        self.start()

    def start(self) -> None:
        """Start softbus (again)."""
        self.calls = Calls(self.devices.network.engine(self.udid, self.name))
        self.dbinder = DBinderService(
            self.calls, self.devices.bulk.port(self.udid), self.abilities.get, udid=self.udid, driver=self.softbus
        )

    def stop(self) -> None:
        """End softbus: the network sees it go."""
        self.calls.close()
        self.dbinder.close()

    def trust(self, *others: Device) -> None:
        udids = frozenset(other.udid for other in others)
        self.calls.engine.set_trust(TrustSnapshot(self.udid, udids, b"", b"", Path("unused")))

    def app(self) -> LoopbackProcess:
        return self.local.process()

    def offer(self, ability_id: int, stub: bk.RemoteObject, app: LoopbackProcess) -> None:
        """Make an object of an app a system ability of this device."""
        self.abilities[ability_id] = app.offer(stub, self.softbus)

    def get(self, other: Device, ability_id: int, app: LoopbackProcess) -> RpcProxy:
        """Return an app's proxy of a system ability of another device."""
        stub = self.dbinder.get(other.udid, ability_id)
        assert isinstance(stub, RemoteStub)
        proxy = self.softbus.offer(stub, app)
        assert isinstance(proxy, RpcProxy)
        return proxy

    def settle(self) -> dict[str, int]:
        """Deliver what waits; return what is held."""
        self.local.flush()
        assert self.dbinder.outbox.flush(PATIENCE)
        return self.dbinder.statistics()

    def close(self) -> None:
        self.stop()
        self.abilities.clear()
        self.local.close()


class Devices:
    """Devices that trust each other."""

    def __init__(self, *names: str, **quality: float) -> None:
        self.network = Network(**quality)  # type: ignore[arg-type]
        self.bulk = SharedBulk()
        self.all = [Device(self, name) for name in names]
        self.pair()

    def pair(self) -> None:
        """All trust all, and see each other."""
        for device in self.all:
            device.trust(*self.all)
        for device in self.all:
            eventually(lambda d=device: len(d.calls.devices()) == len(self.all) - 1, "all devices are online")  # type: ignore[misc]
            eventually(
                lambda d=device: len(d.dbinder._devices) == len(self.all) - 1,  # type: ignore[misc]
                "dbinder knows that all devices are online",
            )

    def nothing_held(self) -> None:
        """Fail unless nobody holds an object of another device."""
        nothing = {"exports": 0, "imports": 0}

        def settled() -> bool:
            # Every device each time: what one gives back, another has to hear of.
            # The network's thread remembers its last task, and with it the frames of a call that timed out.
            self.network._timers.after(0, _nothing)
            if [device.settle() for device in self.all] == [nothing] * len(self.all):
                return True
            gc.collect()
            return False

        eventually(settled, lambda: f"nobody holds anything: {[device.dbinder.statistics() for device in self.all]}")

    def close(self) -> None:
        for device in self.all:
            device.close()
        self.network.close()


@contextmanager
def running(*names: str, **quality: float) -> Iterator[Devices]:
    devices = Devices(*names, **quality)
    try:
        yield devices
    finally:
        devices.close()


class Recipient(bk.DeathRecipient):
    """Counts how often it was told."""

    def __init__(self) -> None:
        self.told = 0
        self.event = threading.Event()

    def on_remote_died(self) -> None:
        self.told += 1
        self.event.set()


def _nothing() -> None:
    """What the network's thread does instead of remembering."""
