"""Devices with a port for streams, in one process, for tests: each finds the others by a table."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from binderkit.softbus.bulk import BulkPort
from binderkit.softbus.bulk_port import StreamPort
from binderkit.softbus.bulk_stream import Address
from tests.softbus.certificates import Circle, Device


@dataclass
class Side:
    """One device: its port, its raw data."""

    device: Device
    port: StreamPort
    bulk: BulkPort

    @property
    def udid(self) -> str:
        return self.device.udid


@dataclass
class Devices:
    """Several devices. ``where`` is what all of them believe about addresses; a test may change it."""

    circle: Circle
    where: dict[str, tuple[Address, ...]] = field(default_factory=dict)
    sides: list[Side] = field(default_factory=list)

    def add(self, device: Device, trusted: list[Device], *, start: bool = True) -> Side:
        port = StreamPort(device.trust(*trusted), lambda udid: self.where.get(udid, ()))
        side = Side(device, port, BulkPort(port))
        self.sides.append(side)
        self.where[device.udid] = port.addresses()
        if start:
            port.start()
        return side

    def pair(self, *, start: bool = True) -> tuple[Side, Side]:
        """Return two devices that trust each other."""
        one, two = self.circle.device(), self.circle.device()
        return self.add(one, [two], start=start), self.add(two, [one], start=start)

    def close(self) -> None:
        for side in self.sides:
            side.bulk.close()
            side.port.close()


@contextlib.contextmanager
def devices(directory: Path) -> Iterator[Devices]:
    """Close every device at the end, whatever the test did."""
    made = Devices(Circle(directory))
    try:
        yield made
    finally:
        made.close()
