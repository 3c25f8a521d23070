"""Finding devices near by before there is trust: publish, look, stop (reference 4.5), over mDNS.

Owns: ``Discovery``: the publications and subscriptions of all packages, and the
one mDNS service of this device that they add up to.

Why mDNS and not the engine's own scouting: that shows strangers an address and
nothing else, no name, no type, no port for pairing. Trusted devices find each
other through the engine; this is for the moment before.

Rules upheld: callbacks are made outside the lock, so that one may call this
again; nothing found is believed, only shown; what strangers announce is
remembered up to limits.MAX_FOUND_DEVICES; while nobody publishes or looks,
nothing is sent and no thread runs.
"""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from zeroconf import Error as ZeroconfError
from zeroconf import InterfaceChoice, ServiceInfo, Zeroconf

from binderkit import limits
from binderkit.errors import ParamValueError, QuotaError, SoftBusError
from binderkit.softbus.addresses import own_addresses
from binderkit.softbus.discovery_browser import Browser
from binderkit.softbus.discovery_records import (
    Announcement,
    FoundDevice,
    PublishInfo,
    SubscribeInfo,
    read_announcement,
    usable_addresses,
    write_announcement,
)
from binderkit.softbus.identity import device_hash
from binderkit.softbus.trust import TrustStore

__all__ = ["Discovery"]

_log: Final = logging.getLogger("binderkit.softbus")
_SERVICE: Final = "_softbus._udp.local."
_Key = tuple[str, int]


@dataclass(eq=False)
class _Subscription:
    info: SubscribeInfo
    found: Callable[[FoundDevice], None]
    lost: Callable[[FoundDevice], None] | None
    reported: dict[str, FoundDevice] = field(default_factory=dict)


@dataclass
class _Network:
    """What runs while anybody publishes or looks."""

    zeroconf: Zeroconf
    service: ServiceInfo | None = None
    browser: Browser | None = None


class Discovery:
    """Announces this device to strangers near by, and finds others.

    Args:
        store: of this device, for its name, its type and whom it knows.
        interfaces: addresses of the interfaces to use; None for all but loopback.
    """

    def __init__(self, store: TrustStore, *, interfaces: list[str] | None = None) -> None:
        self._store = store
        self._interfaces = interfaces
        self._own = device_hash(store.udid)
        self._port = 0
        self._network: _Network | None = None
        self._change = threading.Lock()  # held while mDNS is told something, which takes a moment
        self._guard = threading.Lock()  # held for the tables only
        self._published: dict[_Key, PublishInfo] = {}
        self._subscribed: dict[_Key, _Subscription] = {}
        self._near: dict[str, FoundDevice] = {}  # by the name of the mDNS service
        self._browser: Browser | None = None  # the one that is listened to
        self._retired: list[Callable[[], None]] = []  # what is left to do once self._change was let go

    # --- publishing -----------------------------------------------------------------------------

    def publish(self, package: str, info: PublishInfo) -> None:
        """Announce a capability of this device; the same id again replaces it. Others see it within a second.

        Args:
            package: who publishes, at most limits.MAX_PACKAGE_NAME characters.
            info: what; see there.

        Raises:
            ParamValueError: a limit is crossed, or the medium is not supported (401).
            QuotaError: the package has limits.MAX_PUBLICATIONS already (29201).
            SoftBusError: there is no network to announce on (-426442749).
        """
        info.check()
        key = _key(package, info.id)
        with self._changing():
            with self._guard:
                _check_room(self._published, key)
                before = self._published.pop(key, None)  # popped first: the latest one is the last one
                self._published[key] = info
            try:
                self._announce()
            except SoftBusError:
                with self._guard:
                    del self._published[key]
                    if before is not None:
                        self._published[key] = before
                raise

    def stop_publish(self, package: str, number: int) -> bool:
        """Take a publication back; return whether there was one.

        Raises:
            SoftBusError: the network is gone (-426442749).
        """
        with self._changing():
            with self._guard:
                gone = self._published.pop((package, number), None)
            if gone is not None:
                self._announce()
        return gone is not None

    def set_pairing_port(self, port: int) -> None:
        """Announce where this device offers pairing; 0 when it does not (any more).

        Raises:
            ParamValueError: no port (401). SoftBusError: the network is gone (-426442749).
        """
        if not 0 <= port < 65536:
            raise ParamValueError(f"{port} is no port: use 0 to 65535")
        with self._changing():
            self._port = port
            self._announce()

    def announce_again(self) -> None:
        """Announce anew, after this device's name or its addresses changed; not from a callback.

        Whoever looks is told that all devices are gone, and then of those that are there.

        Raises:
            SoftBusError: there is no network to announce on (-426442749).
        """
        with self._changing():
            self._stop_network()
        # The old announcement is taken back by now, and cannot be taken for the end of the new one.
        with self._changing():
            self._announce()
            self._look()

    def set_interfaces(self, interfaces: list[str] | None) -> None:
        """Use other interfaces from now on, or the same ones with new addresses; see ``announce_again``."""
        with self._change:
            self._interfaces = interfaces
        self.announce_again()

    # --- looking --------------------------------------------------------------------------------

    def refresh(
        self,
        package: str,
        info: SubscribeInfo,
        found: Callable[[FoundDevice], None],
        lost: Callable[[FoundDevice], None] | None = None,
    ) -> None:
        """Look for devices with a capability; the same id again replaces the subscription.

        Args:
            package: who looks, at most limits.MAX_PACKAGE_NAME characters.
            info: for what.
            found: called for every device that is near, comes, or says something new of itself; on a thread of the
                discovery, or on this one for those that are known already. It may call the discovery again, and should
                not block: others wait behind it.
            lost: called for a device that took its announcement back, or let it run out.

        Raises:
            ParamValueError, QuotaError, SoftBusError: as for ``publish``.
        """
        info.check()
        key = _key(package, info.id)
        subscription = _Subscription(info, found, lost)
        with self._changing():
            with self._guard:
                _check_room(self._subscribed, key)
                self._subscribed[key] = subscription
            try:
                self._look()
            except SoftBusError:
                with self._guard:
                    del self._subscribed[key]
                raise
        for device in self.devices():
            self._report(device, subscription)

    def stop_refresh(self, package: str, number: int) -> bool:
        """Look no more; return whether there was such a subscription. A callback under way may still end after it."""
        with self._changing():
            with self._guard:
                gone = self._subscribed.pop((package, number), None)
            self._rest()
        return gone is not None

    def forget(self, package: str) -> None:
        """End everything a package publishes and looks for: its process died."""
        with self._changing():
            with self._guard:
                published = [key for key in self._published if key[0] == package]
                for key in published:
                    del self._published[key]
                for key in [key for key in self._subscribed if key[0] == package]:
                    del self._subscribed[key]
            if published:
                self._announce()
            self._rest()

    def devices(self) -> list[FoundDevice]:
        """Return the devices that are near now, as far as somebody looks."""
        with self._guard:
            return list(self._near.values())

    def close(self) -> None:
        """End everything; others are told that this device is gone. May be called twice; not from a callback."""
        with self._changing():
            with self._guard:
                self._published.clear()
                self._subscribed.clear()
            self._stop_network()

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold ``self._change``, and end what the change made needless after it was let go.

        After it: ending waits for threads that make callbacks, and a callback may be waiting for the lock.
        """
        retired: list[Callable[[], None]] = []
        try:
            with self._change:
                try:
                    yield
                finally:
                    retired, self._retired = self._retired, []
        finally:
            for end in retired:
                end()

    # --- telling mDNS (self._change is held) ------------------------------------------------------

    def _announce(self) -> None:
        """Make the mDNS service say what the publications add up to."""
        with self._guard:
            infos = list(self._published.values())
        if not infos and not self._port:
            self._withdraw()
            return
        service = self._service(infos)
        network = self._started()
        try:
            if network.service is None:
                # The name is the hash of a key: nobody else has it, so there is no need to ask for 0.5 s whether.
                network.zeroconf.register_service(service, cooperating_responders=True)
            else:
                network.zeroconf.update_service(service)
        except (ZeroconfError, OSError, TimeoutError) as error:
            raise SoftBusError(f"this device cannot be announced: {error!r}") from error
        network.service = service

    def _service(self, infos: list[PublishInfo]) -> ServiceInfo:
        identity = self._store.identity
        bits = 0
        for info in infos:
            bits |= 1 << info.capability
        data = next((info.data for info in reversed(infos) if info.data), "")
        said = Announcement(self._own, identity.name, identity.device_type, bits, data)
        return ServiceInfo(
            _SERVICE,
            f"{self._own}.{_SERVICE}",
            port=self._port,
            properties=dict(write_announcement(said)),
            server=f"{self._own}.local.",
            parsed_addresses=self._interfaces or list(own_addresses()),
        )

    def _withdraw(self) -> None:
        network = self._network
        if network is None or network.service is None:
            return
        try:
            network.zeroconf.unregister_service(network.service)
        except (ZeroconfError, OSError, TimeoutError) as error:
            raise SoftBusError(f"the announcement of this device cannot be taken back: {error!r}") from error
        network.service = None
        self._rest()

    def _look(self) -> None:
        with self._guard:
            wanted = bool(self._subscribed)
        if not wanted:
            return
        network = self._started()
        if network.browser is not None:
            return
        browser = Browser(network.zeroconf, _SERVICE, self._seen, self._gone)
        with self._guard:
            self._browser = browser
        network.browser = browser
        browser.start()

    def _started(self) -> _Network:
        if self._network is None:
            try:
                self._network = _Network(Zeroconf(interfaces=self._interfaces or InterfaceChoice.All))
            except (OSError, RuntimeError, ZeroconfError) as error:
                raise SoftBusError(f"there is no network on which devices could be found: {error}") from error
        return self._network

    def _rest(self) -> None:
        """Stop what nobody needs any more."""
        with self._guard:
            looking = bool(self._subscribed)
        network = self._network
        if network is None or looking:
            return
        if network.service is None:
            self._stop_network()
        elif network.browser is not None:
            self._retire(network.browser, None)
            network.browser = None

    def _stop_network(self) -> None:
        network, self._network = self._network, None
        if network is not None:
            self._retire(network.browser, network.zeroconf)

    def _retire(self, browser: Browser | None, zeroconf: Zeroconf | None) -> None:
        with self._guard:
            if browser is not None:
                self._browser = None
            near, self._near = self._near, {}
            told = [(device, one) for device in near.values() for one in self._without(device)]

        def end() -> None:
            if browser is not None:
                browser.end()
            if zeroconf is not None:
                zeroconf.close()  # takes the announcement back, too
            _tell_lost(told)

        if browser is not None and browser.on_own_thread():
            # A thread cannot wait for itself.
            end = threading.Thread(target=end, name="binderkit-discovery-end", daemon=True).start
        self._retired.append(end)

    # --- hearing (threads of the browser) -----------------------------------------------------------

    def _seen(self, browser: Browser, name: str, info: ServiceInfo) -> None:
        said = read_announcement(info.properties)
        if said is None or said.device_id == self._own:
            return
        device = FoundDevice(
            said.device_id,
            said.name,
            said.device_type,
            said.capabilities,
            said.data,
            usable_addresses(info.parsed_addresses()),
            info.port or 0,
            any(device_hash(udid) == said.device_id for udid in self._store.trusted()),
        )
        with self._guard:
            if browser is not self._browser:
                return
            if name not in self._near and len(self._near) >= limits.MAX_FOUND_DEVICES:
                _log.warning("%d devices announce themselves; %r is left out", len(self._near), said.name)
                return
            self._near[name] = device
            subscriptions = list(self._subscribed.values())
        for subscription in subscriptions:
            self._report(device, subscription)

    def _gone(self, browser: Browser, name: str) -> None:
        with self._guard:
            device = self._near.pop(name, None) if browser is self._browser else None
            if device is None:
                return
            told = [(device, one) for one in self._without(device)]
        _tell_lost(told)

    def _without(self, device: FoundDevice) -> list[_Subscription]:
        """Return the subscriptions that were told of a device which is gone now (``self._guard`` is held)."""
        return [one for one in self._subscribed.values() if one.reported.pop(device.device_id, None)]

    def _report(self, device: FoundDevice, subscription: _Subscription) -> None:
        with self._guard:
            if not device.offers(subscription.info.capability):
                return
            if subscription.reported.get(device.device_id) == device:
                return
            subscription.reported[device.device_id] = device
        _call(subscription.found, device)


def _tell_lost(told: list[tuple[FoundDevice, _Subscription]]) -> None:
    for device, subscription in told:
        if subscription.lost is not None:
            _call(subscription.lost, device)


def _call(callback: Callable[[FoundDevice], None], device: FoundDevice) -> None:
    try:
        callback(device)
    except Exception:
        _log.exception("a callback of the discovery failed")


def _key(package: str, number: int) -> _Key:
    if not 0 < len(package) <= limits.MAX_PACKAGE_NAME:
        raise ParamValueError(f"{package!r} is no package name: use 1 to {limits.MAX_PACKAGE_NAME} characters")
    return package, number


def _check_room(table: dict[_Key, PublishInfo] | dict[_Key, _Subscription], key: _Key) -> None:
    if key not in table and sum(package == key[0] for package, _ in table) >= limits.MAX_PUBLICATIONS:
        raise QuotaError(f"{key[0]} has {limits.MAX_PUBLICATIONS} already: stop one first")
