"""System abilities of all characters, named by entries in the tests of the host."""

from __future__ import annotations

import asyncio
import os
import threading
from typing import Any

import binderkit as bk
from binderkit.samgr.reason import OnDemandReason
from binderkit.samgr.system_ability import SystemAbility

made: list[Recorded] = []
"""Every ability made, newest last."""
gate = threading.Event()
"""What abilities that hang wait for."""


borrowed: list[bk.IRemoteObject] = []
"""Objects of other processes, to publish."""


class Thing(bk.RemoteObject):
    """An object to offer."""

    def __init__(self) -> None:
        super().__init__("tests.Thing")


class Recorded(SystemAbility):
    """Publishes a Thing, and notes what is asked of it."""

    def __init__(self) -> None:
        self.events: list[tuple[Any, ...]] = []
        self.idle: Any = 0
        self.threads: set[int] = set()
        made.append(self)

    def note(self, *what: Any) -> None:
        self.events.append(what)

    def on_start(self, reason: OnDemandReason) -> None:
        self.note("start", reason.name)
        self.publish(Thing())

    def on_stop(self, reason: OnDemandReason) -> None:
        self.note("stop", reason.name)

    def on_idle(self, reason: OnDemandReason) -> Any:
        self.note("idle", reason.name)
        if isinstance(self.idle, Exception):
            raise self.idle
        return self.idle

    def on_active(self, reason: OnDemandReason) -> None:
        self.note("active", reason.name)

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        self.note("added", ability_id)

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        self.note("removed", ability_id)

    def on_dump(self, descriptor: int, arguments: list[str]) -> Any:
        os.write(descriptor, f"recorded {arguments}".encode())

    def on_extension(self, name: str, data: bytes) -> Any:
        return data[::-1] if name == "backup" else 5


class Waiting(Recorded):
    """The same with coroutines."""

    async def on_start(self, reason: OnDemandReason) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().on_start(reason)

    async def on_stop(self, reason: OnDemandReason) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().on_stop(reason)

    async def on_idle(self, reason: OnDemandReason) -> int:
        await asyncio.sleep(0)
        return 250

    async def on_extension(self, name: str, data: bytes) -> bytes:
        await asyncio.sleep(0)
        return b"async " + data

    async def on_dump(self, descriptor: int, arguments: list[str]) -> None:
        await asyncio.sleep(0)
        os.write(descriptor, b"async dump")


class Both(SystemAbility, bk.RemoteObject):
    """An ability that is its own object and dumps in a coroutine."""

    def __init__(self) -> None:
        bk.RemoteObject.__init__(self, "tests.Both")

    def on_start(self, reason: OnDemandReason) -> None:
        self.publish(self)

    async def on_dump(self, descriptor: int, arguments: list[str]) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        os.write(descriptor, b"both")


class Itself(SystemAbility, bk.RemoteObject):
    """An ability that is its own object."""

    def __init__(self) -> None:
        bk.RemoteObject.__init__(self, "tests.Itself")

    def on_start(self, reason: OnDemandReason) -> None:
        self.publish(self)


class Crashes(Recorded):
    def on_start(self, reason: OnDemandReason) -> None:
        self.publish(Thing())
        self.add_system_ability_listener(77)
        raise ValueError("no camera")


class Exits(Recorded):
    def on_start(self, reason: OnDemandReason) -> None:
        raise SystemExit(3)


class CannotBeMade(SystemAbility):
    def __init__(self) -> None:
        raise RuntimeError("no licence")


class Hangs(Recorded):
    def on_start(self, reason: OnDemandReason) -> None:
        self.note("start", reason.name)
        gate.wait(20)
        self.publish(Thing())


class Silent(Recorded):
    def on_start(self, reason: OnDemandReason) -> None:
        self.note("start", reason.name)


class PublishesNothing(Recorded):
    def on_start(self, reason: OnDemandReason) -> None:
        self.publish(None)  # type: ignore[arg-type]


class StopsBadly(Recorded):
    def on_stop(self, reason: OnDemandReason) -> None:
        raise OSError("disk full")


class HangsInStop(Recorded):
    def on_stop(self, reason: OnDemandReason) -> None:
        self.note("stop", reason.name)
        gate.wait(20)


def nothing() -> None:
    """An entry that returns None."""


class Borrows(SystemAbility):
    """Publishes an object of another process."""

    def on_start(self, reason: OnDemandReason) -> None:
        self.publish(borrowed[0])
