"""Whole softbus devices in the process of a test: real Zenoh, streams and discovery on the loopback network."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from binderkit.samgr.remote import RemoteAbility
from binderkit.softbus.device import SoftBusDevice
from binderkit.softbus.settings import Settings
from tests.softbus.zenoh_devices import free_port

WAIT = 15.0
"""Seconds after which something that should come is missing."""


def until(true: Callable[[], object], what: str) -> None:
    """Wait for what other threads do."""
    deadline = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.005)


class Moving:
    """The addresses of a machine, which a test may change."""

    def __init__(self, *addresses: str) -> None:
        self.now = addresses
        self.looked = 0
        self._changed = threading.Condition()

    def __call__(self) -> tuple[str, ...]:
        with self._changed:
            self.looked += 1
            return self.now


class LocalDevices:
    """Devices that could see each other. ``make`` one, ``join`` two, ``close`` all."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.group = f"224.0.0.224:{free_port(socket.SOCK_DGRAM)}"
        self._made: list[SoftBusDevice] = []

    def make(
        self, name: str, *, settings: Settings | None = None, addresses: Callable[[], tuple[str, ...]] | None = None
    ) -> SoftBusDevice:
        """Return a device with the state in ``name``; ``addresses`` that may change, else 127.0.0.1 for ever."""
        if settings is None:
            settings = Settings(() if addresses else ("127.0.0.1",), group=self.group)
        offered = [RemoteAbility(0x5000, f"tests.{name}", True)]
        device = SoftBusDevice(
            self.directory / name,
            abilities=lambda *_: offered,
            settings=settings,
            addresses=addresses or (lambda: ("127.0.0.1",)),
            look=0.02,
        )
        device.calls.serve(lambda request: request.payload)
        self._made.append(device)
        return device

    def join(self, owner: SoftBusDevice, *others: SoftBusDevice) -> None:
        """Make the others members of the owner's circle, and wait until all are online."""
        for other in others:
            other.store.join(owner.store.add(other.store.request()))
        for other in others:
            other.store.accept_roster(owner.store.roster())
        self.see(owner, *others)

    @staticmethod
    def see(*devices: SoftBusDevice) -> None:
        """Wait until each sees all the others."""
        udids = {one.udid for one in devices}
        for one in devices:
            until(lambda one=one: udids <= {one.udid, *one.calls.devices()}, "all devices see each other")  # type: ignore[misc]

    def end(self, device: SoftBusDevice) -> None:
        """Close one device."""
        self._made.remove(device)
        device.leave_network()
        device.close()

    def close(self) -> None:
        """Close those that run."""
        for device in list(self._made):
            self.end(device)
