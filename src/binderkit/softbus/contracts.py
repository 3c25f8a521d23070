"""What programs and the softbus process say to each other about devices: the contract of system ability 4700.

Owns: the interface, the callbacks and what travels in them. Imports nothing of the network: a client needs none of the
packages that softbus needs. Objects of other devices are another interface of the same object (samgr/remote.py).

Rules upheld: what a client is told, it is told one-way: softbus waits for no program; everything a client asked for
ends with its process.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from binderkit.interface import Int32, Interface, method, oneway, raises
from binderkit.samgr.remote import Problem
from binderkit.softbus.session_contracts import ISessions

__all__ = [
    "CHANGED",
    "OFFLINE",
    "ONLINE",
    "TRUSTED",
    "UNTRUSTED",
    "DeviceDescription",
    "IDeviceWatcher",
    "IFinder",
    "IPairingWatcher",
    "ISoftBus",
    "NearbyDevice",
    "PairingOffer",
]

ONLINE: Final = "online"
OFFLINE: Final = "offline"
CHANGED: Final = "changed"
TRUSTED: Final = "trusted"
UNTRUSTED: Final = "untrusted"
"""What a watcher hears: a device came, went, changed its name; was paired, or is not trusted any more."""


@dataclass(frozen=True)
class DeviceDescription:
    """A device: this one, or one it trusts.

    Attributes:
        udid: its stable identity, 64 hexadecimal digits. network_id: its name until its softbus starts anew, "" while
            it is offline. name, device_type: for people. online: whether it is there.
        owner: whether it owns the circle, so that it can admit and revoke. since: when it was paired, seconds since
            1970; 0 for this device. last_seen: when it was last online, seconds since 1970 by this device's clock; 0:
            never. For a device that is offline the name is the one it had then.
    """

    udid: str
    network_id: str
    name: str
    device_type: str
    online: bool
    owner: bool
    since: int
    last_seen: int = 0


@dataclass(frozen=True)
class NearbyDevice:
    """A device that announces itself. Nothing in it is proven: see ``FoundDevice``."""

    device_id: str
    name: str
    device_type: str
    capabilities: int
    data: str
    addresses: list[str]
    pairing_port: Int32
    known: bool


@dataclass(frozen=True)
class PairingOffer:
    """An open door: show ``pin`` to the person at the other device; the addresses are for where nothing is found."""

    pin: str
    addresses: list[str]
    port: Int32


class IDeviceWatcher(Interface, descriptor="binderkit.softbus.IDeviceWatcher"):
    """What a program offers to be told of devices."""

    @method
    @oneway
    def device_changed(self, event: str, device: DeviceDescription) -> None:
        """Something happened to a device: ONLINE, OFFLINE, CHANGED, TRUSTED or UNTRUSTED."""


class IFinder(Interface, descriptor="binderkit.softbus.IFinder"):
    """What a program offers while it publishes or looks: its publications end with it."""

    @method
    @oneway
    def found(self, number: Int32, device: NearbyDevice) -> None:
        """A device is near, or says something new of itself."""

    @method
    @oneway
    def lost(self, number: Int32, device: NearbyDevice) -> None:
        """A device is not near any more."""


class IPairingWatcher(Interface, descriptor="binderkit.softbus.IPairingWatcher"):
    """What a program offers to be told how its offer went."""

    @method
    @oneway
    def paired(self, device: DeviceDescription) -> None:
        """A device was paired; an offer with a PIN is over now."""

    @method
    @oneway
    def ended(self, code: Int32, text: str) -> None:
        """The offer is over without."""


class ISoftBus(Interface, descriptor="ohos.softbus.ISoftBus"):
    """Devices: this one, those it trusts, and those near by."""

    @method
    def own_device(self) -> DeviceDescription:
        """Return this device."""

    @method
    @raises(Problem)
    def set_name(self, name: str) -> None:
        """Give this device another name, 1 to 64 printable characters; the others are told."""

    @method
    def trusted_devices(self) -> list[DeviceDescription]:
        """Return the devices this one trusts, online or not."""

    @method
    @raises(Problem)
    def watch(self, watcher: IDeviceWatcher) -> None:
        """Tell ``watcher`` of devices, first ONLINE for each that is there."""

    @method
    def unwatch(self, watcher: IDeviceWatcher) -> bool:
        """Tell it nothing more; returns whether it watched."""

    @method
    @raises(Problem)
    def publish(self, number: Int32, capability: Int32, data: str, holder: IFinder) -> None:
        """Announce this device to strangers near by, until ``stop_publish`` or the end of the holder's process."""

    @method
    @raises(Problem)
    def stop_publish(self, number: Int32) -> bool:
        """Take a publication of the caller's back; returns whether there was one."""

    @method
    @raises(Problem)
    def refresh(self, number: Int32, capability: Int32, finder: IFinder) -> None:
        """Look for devices near by, until ``stop_refresh`` or the end of the finder's process."""

    @method
    @raises(Problem)
    def stop_refresh(self, number: Int32) -> bool:
        """Look no more; returns whether the caller looked."""

    @method
    @raises(Problem)
    def offer_pairing(self, secret: bytes, lifetime: float, watcher: IPairingWatcher) -> PairingOffer:
        """Open the door to another device: one with the PIN, or with ``secret``; it closes with the caller's process.

        Args:
            secret: of 16 to 1024 bytes for unattended pairing; empty: a PIN is made. lifetime: seconds of the PIN.
        """

    @method
    def withdraw_offer(self) -> bool:
        """Close the door; returns whether it was open."""

    @method
    @raises(Problem)
    def pair(self, host: str, port: Int32, pin: str, secret: bytes) -> DeviceDescription:
        """Take the offer of another device, by its PIN, or by ``secret`` if ``pin`` is empty; takes up to 20 s."""

    @method
    @raises(Problem)
    def unpair(self, device: str) -> bool:
        """Trust a device no more, on this device alone; returns whether it was trusted."""

    @method
    @raises(Problem)
    def revoke(self, device: str) -> bool:
        """Put a device out of the circle, for every member; only its owner can."""

    @method
    @raises(Problem)
    def leave(self) -> None:
        """Leave the circle: this device trusts nobody then."""

    @method
    def sessions(self) -> ISessions:
        """Return the sessions of applications (``RemoteSessions`` uses it)."""
