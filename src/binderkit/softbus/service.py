"""Devices for the programs of this device: the object of system ability 4700.

Owns: who watches, looks, publishes and offers pairing, and the names of devices. What is done is done by the parts in
device.py.

Rules upheld: no handler waits for another device but ``pair``, whose time is limited; what a program asked for ends
with its process; programs of other devices have nothing to say here (303).
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from binderkit.errors import IpcError, PairingError, RefusedError, ServiceError
from binderkit.ipc.context import Caller, known_caller
from binderkit.ipc.remote import IRemoteObject
from binderkit.samgr.remote import NO_DEVICE, Problem
from binderkit.softbus.contracts import (
    TRUSTED,
    UNTRUSTED,
    DeviceDescription,
    IDeviceWatcher,
    IFinder,
    IPairingWatcher,
    ISoftBus,
    NearbyDevice,
    PairingOffer,
)
from binderkit.softbus.device import SoftBusDevice
from binderkit.softbus.discovery_records import Capability, FoundDevice, PublishInfo, SubscribeInfo
from binderkit.softbus.engine import Presence, PresenceEvent
from binderkit.softbus.listeners import Listeners, tell
from binderkit.softbus.pairing import Offer
from binderkit.softbus.session_contracts import ISessions
from binderkit.softbus.session_service import SessionService
from binderkit.softbus.trust import TrustChange, TrustedDevice

__all__ = ["SoftBusService", "check_local", "problems"]

_log = logging.getLogger("binderkit.softbus")
_PREFIX = 8
"""Digits of a UDID that are enough to name a device, if no other one has them."""


@contextmanager
def problems() -> Iterator[None]:
    """Turn what the parts raise into what the contract says."""
    try:
        yield
    except IpcError as error:
        raise Problem(error.code, str(error.args[0] if error.args else error)) from error
    except OSError as error:
        raise Problem(ServiceError.code, f"a file cannot be written, or a port not be had: {error}") from error


def check_local() -> Caller:
    """Return the calling process of this device.

    Raises:
        RefusedError: another device calls: somebody handed it this object (303).
    """
    caller = known_caller()
    if caller.device_id:
        raise RefusedError("softbus serves the programs of its own device only")
    return caller


def _package() -> str:
    """Return the name under which discovery counts what the calling process wants (RefusedError: see check_local)."""
    return f"pid-{check_local().pid}"


def _check_manager() -> None:
    """Let only this process's user and root change whom the device trusts and what it is called.

    Raises:
        RefusedError: another user, or another device (303).
    """
    caller = check_local()
    if caller.uid not in (0, os.geteuid()):
        raise RefusedError(
            f"uid {caller.uid} may not pair, unpair or rename this device: only uid {os.geteuid()}, whose softbus it "
            "is, and root may"
        )


class SoftBusService(ISoftBus):
    """The devices of ``device``; whoever made that closes it, after this."""

    def __init__(self, device: SoftBusDevice) -> None:
        self._device = device
        self._watchers: Listeners[IDeviceWatcher] = Listeners()
        # Guards who is online as far as watchers were told, and with it that each hears everything once and in order;
        # they are told one-way, so it is held for moments only.
        self._telling = threading.RLock()
        self._online: dict[str, DeviceDescription] = {}
        self._finders: Listeners[IFinder] = Listeners(self._finder_gone)
        self._packages: dict[IRemoteObject, str] = {}
        self._offers: Listeners[IPairingWatcher] = Listeners(lambda _: self._close_offer())
        self._lock = threading.Lock()
        self._offer: Offer | None = None
        self._sessions = SessionService(device.sessions)
        # Who was trusted before a change: a removed one is known nowhere else by then.
        self._trusted = device.store.trusted()
        self._end_listening = device.store.listen(self._trust_changed)
        device.calls.on_device(self._presence)

    def close(self) -> None:
        """Tell nobody any more."""
        self._end_listening()
        self._close_offer()
        for listeners in (self._watchers, self._finders, self._offers):
            listeners.clear()

    # --- devices ------------------------------------------------------------------------------------

    def own_device(self) -> DeviceDescription:
        """Return this device."""
        check_local()
        identity, info = self._device.store.identity, self._device.calls.engine.info
        owner = self._device.store.owns_circle
        return DeviceDescription(
            identity.udid, info.network_id, identity.name, identity.device_type, True, owner, 0, int(time.time())
        )

    def set_name(self, name: str) -> None:
        """Rename this device."""
        _check_manager()
        with problems():
            self._device.set_name(name)

    def trusted_devices(self) -> list[DeviceDescription]:
        """Return the devices this one trusts."""
        check_local()
        return [self._described(one) for one in self._device.store.trusted().values()]

    def resolve(self, device: str) -> DeviceDescription:
        """Return the device a word names: UDID (or the unique first 8 digits or more), network id, or unique name.

        Raises:
            ServiceError: none, or several (108).
        """
        devices = [self.own_device(), *self.trusted_devices()]
        for one in devices:
            if device == one.udid or (one.online and device == one.network_id):
                return one
        found = [one for one in devices if device == one.name]
        if not found and len(device) >= _PREFIX:
            found = [one for one in devices if one.udid.startswith(device)]
        if len(found) == 1:
            return found[0]
        if found:
            which = ", ".join(one.udid[:16] for one in found)
            raise ServiceError(f"{len(found)} devices are called {device!r}; use a UDID: {which}", code=NO_DEVICE)
        raise ServiceError(
            f"this device knows no device {device!r}; 'binderkit device list' shows those it trusts, 'binderkit device "
            "pair' adds one",
            code=NO_DEVICE,
        )

    def _described(self, device: TrustedDevice) -> DeviceDescription:
        info = self._device.calls.devices().get(device.udid)
        known = self._device.acquaintances.of(device.udid)
        # The list of members has the name it was paired with.
        said = info or known or device
        seen = 0 if known is None else known.seen
        return DeviceDescription(
            udid=device.udid,
            network_id="" if info is None else info.network_id,
            name=said.name,
            device_type=said.device_type,
            online=info is not None,
            owner=device.owner,
            since=device.since,
            last_seen=seen if info is None else max(seen, int(time.time())),
        )

    def watch(self, watcher: IDeviceWatcher) -> None:
        """Tell ``watcher`` of devices."""
        check_local()
        with problems(), self._telling:
            self._watchers.add(watcher)
            for device in self._online.values():
                tell(lambda one=device: watcher.device_changed(PresenceEvent.ONLINE.value, one))  # type: ignore[misc]

    def unwatch(self, watcher: IDeviceWatcher) -> bool:
        """Tell it nothing more."""
        return self._watchers.remove(watcher)

    def _presence(self, presence: Presence) -> None:
        info = presence.device
        device = self._device.store.trusted().get(info.udid)
        online = presence.event is not PresenceEvent.OFFLINE
        described = DeviceDescription(
            info.udid,
            info.network_id,
            info.name,
            info.device_type,
            online,
            device is not None and device.owner,
            0 if device is None else device.since,
            int(time.time()),
        )
        with self._telling:
            if online:
                self._online[info.udid] = described
            else:
                self._online.pop(info.udid, None)
            self._watchers.tell(lambda watcher: watcher.device_changed(presence.event.value, described))

    def _trust_changed(self, change: TrustChange) -> None:
        with self._lock:
            before, self._trusted = self._trusted, self._device.store.trusted()
            now = self._trusted
        for event, udids, known in ((TRUSTED, change.added, now), (UNTRUSTED, change.removed, before)):
            for udid in sorted(udids & known.keys()):
                self._tell_trust(event, known[udid])

    def _tell_trust(self, event: str, device: TrustedDevice) -> None:
        described = self._described(device)
        self._watchers.tell(lambda watcher: watcher.device_changed(event, described))

    # --- near by ------------------------------------------------------------------------------------

    def publish(self, number: int, capability: int, data: str, holder: IFinder) -> None:
        """Announce this device."""
        package = _package()
        with problems():
            self._hold(holder, package)
            self._device.discovery.publish(package, PublishInfo(number, _capability(capability), data))

    def stop_publish(self, number: int) -> bool:
        """Take a publication back."""
        package = _package()
        with problems():
            return self._device.discovery.stop_publish(package, number)

    def refresh(self, number: int, capability: int, finder: IFinder) -> None:
        """Look for devices."""
        package = _package()

        def teller(call: Callable[[int, NearbyDevice], None]) -> Callable[[FoundDevice], None]:
            return lambda device: tell(lambda: call(number, _nearby(device)))

        with problems():
            self._hold(finder, package)
            self._device.discovery.refresh(
                package, SubscribeInfo(number, _capability(capability)), teller(finder.found), teller(finder.lost)
            )

    def stop_refresh(self, number: int) -> bool:
        """Look no more."""
        package = _package()
        with problems():
            return self._device.discovery.stop_refresh(package, number)

    def _hold(self, finder: IFinder, package: str) -> None:
        self._packages[finder.as_object()] = package
        self._finders.add(finder)

    def _finder_gone(self, finder: IFinder) -> None:
        package = self._packages.pop(finder.as_object(), None)
        if package is not None:
            try:
                self._device.discovery.forget(package)
            except IpcError as error:
                _log.warning("what %s announced could not be taken back: %s", package, error)

    # --- pairing ------------------------------------------------------------------------------------

    def offer_pairing(self, secret: bytes, lifetime: float, watcher: IPairingWatcher) -> PairingOffer:
        """Open the door."""
        _check_manager()
        with problems(), self._lock:
            if self._offer is not None and not self._offer.over:
                raise PairingError("this device offers pairing already; withdraw that offer first")
            self._offers.clear()
            self._offers.add(watcher)
            hosts = self._device.hosts
            offer = self._offer = self._device.pairing.offer(
                secret=secret or None,
                lifetime=lifetime,
                host=self._device.door,
                paired=lambda device: tell(lambda: watcher.paired(self._described(device))),
            )
        self._announce_offer(offer.port)
        threading.Thread(target=self._await_end, args=(offer, watcher), name="binderkit-offer", daemon=True).start()
        return PairingOffer(offer.pin, list(hosts), offer.port)

    def _await_end(self, offer: Offer, watcher: IPairingWatcher) -> None:
        if offer.pin:
            try:
                offer.wait()
            except PairingError as error:
                code, text = error.code, str(error.args[0])
                tell(lambda: watcher.ended(code, text))
            self._announce_offer(0)

    def _announce_offer(self, port: int) -> None:
        try:
            self._device.discovery.set_pairing_port(port)
        except IpcError as error:
            _log.warning("that this device offers pairing cannot be announced; it works by address: %s", error)

    def withdraw_offer(self) -> bool:
        """Close the door."""
        _check_manager()
        return self._close_offer()

    def _close_offer(self) -> bool:
        with self._lock:
            offer, self._offer = self._offer, None
        if offer is None:
            return False
        was_open = not offer.over
        offer.close()
        if not offer.pin:
            self._announce_offer(0)
        return was_open

    def pair(self, host: str, port: int, pin: str, secret: bytes) -> DeviceDescription:
        """Take an offer."""
        _check_manager()
        with problems():
            return self._described(self._device.pairing.join((host, port), pin or secret))

    def unpair(self, device: str) -> bool:
        """Trust a device no more."""
        _check_manager()
        with problems():
            return self._device.store.remove(self.resolve(device).udid)

    def revoke(self, device: str) -> bool:
        """Put a device out of the circle."""
        _check_manager()
        with problems():
            return self._device.store.revoke(self.resolve(device).udid)

    def leave(self) -> None:
        """Leave the circle."""
        _check_manager()
        with problems():
            self._device.store.leave()

    def sessions(self) -> ISessions:
        """Return the sessions of applications."""
        check_local()
        return self._sessions


def _capability(number: int) -> Capability:
    try:
        return Capability(number)
    except ValueError:
        raise ServiceError(f"{number} is no capability: use one of softbus.discovery_records.Capability") from None


def _nearby(device: FoundDevice) -> NearbyDevice:
    return NearbyDevice(
        device.device_id,
        device.name,
        device.device_type,
        device.capabilities,
        device.data,
        list(device.addresses),
        device.pairing_port,
        device.known,
    )
