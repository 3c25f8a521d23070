"""A device in name only, for tests of what the driver makes of bytes: nothing here needs the kernel's driver."""

from __future__ import annotations

import contextlib
import ctypes
import os
import struct
from collections.abc import Iterator
from typing import Any

from binderkit.driver.kernel import protocol as p
from binderkit.driver.kernel.device import Channel
from binderkit.driver.kernel.nodes import OwnNodes
from binderkit.driver.kernel.objects import Placed
from binderkit.driver.kernel.refs import Targets

BASE = 0x7F0000000000


class FakeDevice:
    """What a message is read from."""

    path = "/dev/fake"
    base = BASE
    closed = True  # so that no thread wants to leave it
    fd = -1

    def __init__(self) -> None:
        self.pid = os.getpid()
        self.memory = memoryview(b"")
        self.failure = 0

    def last_error(self) -> int:
        """Return the error number a test set."""
        return self.failure


class FakeChannel(Channel):
    """Keeps what would be written."""

    def __init__(self, device: Any) -> None:
        super().__init__(device)
        self.written = bytearray()

    def exchange(self, room: int = 0) -> int:
        """Take the commands; nothing ever comes back."""
        self.written += self.out
        self.out.clear()
        self.staged = False
        return 0


class FakeNode:
    """The tables of a driver, without its threads and its device."""

    def __init__(self) -> None:
        self.device = FakeDevice()
        self.nodes = OwnNodes()
        self.targets = Targets(self)  # type: ignore[arg-type]
        self.here = FakeChannel(self.device)
        self.settled = 0
        self.offers: Any = None
        self.admission: Any = None
        self.cancellable: dict[int, Any] = {}
        self.loopers = self
        self.waits = 0

    @contextlib.contextmanager
    def outgoing(self) -> Iterator[None]:
        """Count how often the thread waited for something else."""
        self.waits += 1
        yield

    def channel(self) -> FakeChannel:
        """Return the only thread's buffers."""
        return self.here

    def settle(self, channel: Channel) -> None:
        """Count, and do what the driver does."""
        self.settled += 1
        for own in channel.sent:
            self.nodes.landed(own)
        channel.sent, channel.held = [], []

    def deliver(self, placed: Placed, flags: int = 0, code: int = 1) -> tuple[int, ...]:
        """Do what the kernel does with a message to this very process; return its fields.

        Own objects and handles come as they went, a descriptor as a duplicate.
        """
        size, address, offsets_size, offsets_address = placed
        data = bytearray(ctypes.string_at(address, size))
        table = ctypes.string_at(offsets_address, offsets_size)
        for (offset,) in struct.iter_unpack("=Q", table):
            kind, _, value, _ = p.OBJECT.unpack_from(data, offset)
            if kind == p.TYPE_FD:
                struct.pack_into("=Q", data, offset + 8, os.dup(value))
        return self.arrive(bytes(data), table, flags, code)

    def arrive(self, data: bytes, table: bytes, flags: int = 0, code: int = 1) -> tuple[int, ...]:
        """Put a message into the mapping; return its fields."""
        start = len(data) + 7 & ~7
        self.device.memory = memoryview(data + bytes(start - len(data)) + table)
        return (0, 0, code, flags, os.getpid(), os.getuid(), len(data), len(table), BASE, BASE + start)


def commands(written: bytes | bytearray) -> list[tuple[int, ...]]:
    """Return commands as (word, its fields as 32-bit numbers …)."""
    found, at = [], 0
    while at < len(written):
        (word,) = struct.unpack_from("=I", written, at)
        size = word >> 16 & 0x3FFF
        found.append((word, *struct.unpack_from(f"={size // 4}I", written, at + 4)))
        at += 4 + size
    return found
