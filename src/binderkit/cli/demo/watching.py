"""What the program on the desk is told of other devices."""

from __future__ import annotations

import threading
import time

from binderkit.softbus.contracts import DeviceDescription, IDeviceWatcher, IFinder, NearbyDevice


class Watcher(IDeviceWatcher):
    """Remembers which devices came and went.

    Attributes:
        events: (what happened, UDID, when by time.perf_counter) in order.
    """

    def __init__(self) -> None:
        self.events: list[tuple[str, str, float]] = []
        self._changed = threading.Condition()

    def device_changed(self, event: str, device: DeviceDescription) -> None:
        """Note it."""
        with self._changed:
            self.events.append((event, device.udid, time.perf_counter()))
            self._changed.notify_all()

    def forget(self) -> None:
        """Wait for later events only."""
        with self._changed:
            self.events.clear()

    def wait_for(self, event: str, udid: str, timeout: float) -> float:
        """Wait until ``event`` happened to a device; return when it did, 0.0 if not within ``timeout`` seconds."""
        with self._changed:
            self._changed.wait_for(lambda: self._when(event, udid) > 0, timeout)
            return self._when(event, udid)

    def _when(self, event: str, udid: str) -> float:
        return next((when for what, who, when in self.events if (what, who) == (event, udid)), 0.0)


class Finder(IFinder):
    """Waits for the device near by that offers pairing at a port: names prove nothing, and others may be called so."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._found: NearbyDevice | None = None
        self._there = threading.Event()

    def found(self, number: int, device: NearbyDevice) -> None:
        """Note it, if it is the one."""
        if device.pairing_port == self._port:
            self._found = device
            self._there.set()

    def lost(self, number: int, device: NearbyDevice) -> None:
        """Whoever goes meanwhile will be missed at once."""

    def wait(self, timeout: float) -> NearbyDevice | None:
        """Return the device; None if it was not found within ``timeout`` seconds."""
        self._there.wait(timeout)
        return self._found
