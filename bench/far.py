"""A program on a device of the benchmark: ``python -m bench.far``, told what to do by lines of JSON.

Each line is ``[command, argument …]`` and is answered by one, ``{"ok": result}`` or ``{"failed": text}``. Times are
``time.monotonic_ns``, which all processes of a machine share.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import traceback
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

import binderkit as bk
from bench.peers.base import bind_to_parent, say_ready
from bench.services import Workbench
from binderkit import samgr
from binderkit.interface import proxy, within
from binderkit.samgr.remote import SOFTBUS_ID, SOFTBUS_WAIT, Problem
from binderkit.softbus.contracts import (
    OFFLINE,
    ONLINE,
    DeviceDescription,
    IDeviceWatcher,
    IFinder,
    IPairingWatcher,
    ISoftBus,
    NearbyDevice,
)

SECRET: Final = b"between the two devices of a benchmark"
WAIT: Final = 20.0
"""Seconds until what is waited for must have happened."""
_CAPABILITY: Final = 6
_PAIR_WAIT: Final = 30.0
_LIFETIME: Final = 60.0


def softbus() -> ISoftBus:
    """Return the softbus of the device this process runs on; starts it if need be."""
    return proxy(ISoftBus, samgr.load_system_ability(SOFTBUS_ID, timeout=SOFTBUS_WAIT))


def softbus_pid(bus: ISoftBus) -> int:
    """Return the process of it."""
    remote = bus.as_object()
    assert isinstance(remote, bk.RemoteProxy)
    return remote.owner.pid


def pair(bus: ISoftBus, port: int) -> str:
    """Take the offer of the other device; return its UDID."""
    return within(_PAIR_WAIT, bus.pair)("127.0.0.1", port, "", SECRET).udid


class Times:
    """Notes when things happened first."""

    def __init__(self) -> None:
        self._known = threading.Condition()
        self._at: dict[str, int] = {}

    def note(self, what: str) -> None:
        """It happened now."""
        now = monotonic_ns()
        with self._known:
            self._at.setdefault(what, now)
            self._known.notify_all()

    def wait(self, what: str, seconds: float = WAIT) -> int:
        """Return when it happened.

        Raises:
            AssertionError: it did not.
        """
        with self._known:
            if not self._known.wait_for(lambda: what in self._at, seconds):
                raise AssertionError(f"not within {seconds:g} s: {what}")
            return self._at[what]


class Watcher(IDeviceWatcher):
    """Notes "EVENT UDID"."""

    def __init__(self) -> None:
        self.times = Times()

    def device_changed(self, event: str, device: DeviceDescription) -> None:
        """Note it."""
        self.times.note(f"{event} {device.udid}")


class Finder(IFinder):
    """Notes the names of devices near by."""

    def __init__(self) -> None:
        self.times = Times()

    def found(self, number: int, device: NearbyDevice) -> None:
        """Note it."""
        self.times.note(device.name)

    def lost(self, number: int, device: NearbyDevice) -> None:
        """Whoever was seen was found."""


class Door(IPairingWatcher):
    """Kept while pairing is offered; how it went, the other side tells."""

    def paired(self, device: DeviceDescription) -> None:
        """A device came in."""

    def ended(self, code: int, text: str) -> None:
        """None did."""


class Program:
    """What it can be told; each method is a command."""

    def __init__(self) -> None:
        self._kept: list[object] = []
        self._watcher = Watcher()
        self._finder = Finder()

    def own(self) -> list[object]:
        """Return UDID, name and the pids of softbus and of this process."""
        bus = softbus()
        own = bus.own_device()
        return [own.udid, own.name, softbus_pid(bus), os.getpid()]

    def name(self, name: str) -> None:
        """Call this device so."""
        softbus().set_name(name)

    def offer(self) -> int:
        """Let a device with the secret in; return the port."""
        watcher = Door()
        self._kept.append(watcher)
        return softbus().offer_pairing(SECRET, _LIFETIME, watcher).port

    def pair(self, port: int) -> str:
        """Take the offer of the other device; return its UDID."""
        return pair(softbus(), port)

    def watch(self) -> None:
        """Note from now on which devices come and go."""
        self._watcher = Watcher()
        softbus().watch(self._watcher)

    def online(self, udid: str, seconds: float = WAIT) -> int:
        """Return when the device came, within so many seconds; ``watch`` first."""
        return self._watcher.times.wait(f"{ONLINE} {udid}", seconds)

    def offline(self, udid: str) -> int:
        """Return when the device went; ``watch`` first."""
        return self._watcher.times.wait(f"{OFFLINE} {udid}")

    def publish(self) -> None:
        """Announce this device, and look for others."""
        bus = softbus()
        bus.publish(1, _CAPABILITY, "", self._finder)
        bus.refresh(1, _CAPABILITY, self._finder)

    def found(self, name: str) -> int:
        """Return when the device was found; ``publish`` first."""
        return self._finder.times.wait(name)

    def register(self, ability: int) -> None:
        """Offer a Workbench to other devices."""
        stub = Workbench()
        self._kept.append(stub)
        samgr.add_system_ability(ability, stub, name=f"bench.far{ability}", distributed=True)


def _perform(program: Program, line: str) -> dict[str, Any]:
    command, *arguments = json.loads(line)
    work: Callable[..., object] = getattr(program, command)
    try:
        return {"ok": work(*arguments)}
    except Problem as problem:
        return {"failed": f"{command}: {problem.text} ({problem.code})"}
    except Exception as error:  # what went wrong is told to whoever asked, who ends the measurement
        traceback.print_exc()
        return {"failed": f"{command}: {type(error).__name__}: {error}"}


def main() -> None:
    """Do what the lines say until there are no more."""
    bind_to_parent()
    say_ready()
    program = Program()
    for line in sys.stdin:
        print(json.dumps(_perform(program, line)), flush=True)


if __name__ == "__main__":
    main()
