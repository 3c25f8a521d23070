"""Devices that join and leave, as events that start and stop abilities (reference 2.6).

Owns: which devices are there. Whoever knows devices calls it (the SoftBus; tests). Pure.

Rules upheld: "on" for every device that joins, "off" only when the last one leaves.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from binderkit.samgr.conditions import DEVICE_EVENT, OnDemandEvent
from binderkit.samgr.reason import ReasonId


class DeviceEvents:
    """The devices of the network, this one not counted."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._devices: set[str] = set()
        self._post: Callable[[OnDemandEvent], object] | None = None

    def start(self, post: Callable[[OnDemandEvent], object]) -> None:
        """Hand events to ``post`` from now on, first of the devices that are there."""
        with self._lock:
            self._post = post
            devices = sorted(self._devices)
        for device in devices:
            post(_event("on", device))

    def close(self) -> None:
        """Post nothing more."""
        self._post = None

    def device_online(self, device_id: str) -> None:
        """Note that a device joined; one that is there already changes nothing."""
        with self._lock:
            if device_id in self._devices:
                return
            self._devices.add(device_id)
            post = self._post
        if post is not None:
            post(_event("on", device_id))

    def device_offline(self, device_id: str) -> None:
        """Note that a device left; one that was not there changes nothing."""
        with self._lock:
            if device_id not in self._devices:
                return
            self._devices.remove(device_id)
            post = None if self._devices else self._post
        if post is not None:
            post(_event("off", device_id))


def _event(value: str, device_id: str) -> OnDemandEvent:
    return OnDemandEvent(ReasonId.DEVICE_ONLINE, DEVICE_EVENT, value, {"deviceId": device_id})
