"""The parts of softbus put together: identity and trust, the engine, streams, sessions, discovery and pairing.

Owns: who gets whom, the order of their beginning and end, and which of them hears what. Each part is an object that
knows nothing of the others. Objects of other devices stand above this (dbinder).

Control requests between devices, by their target: trust_sync.TARGET, PLACES (where the other one's streams arrive; with
content: where the sender's do, after its addresses changed), ABILITIES (what it offers to others).

Rules upheld: what other devices say is decoded by its part, with limits; a change of trust is carried out on a thread
of its own, because it opens the engine's session anew, and so is a change of addresses; both never at once; what a
device left behind goes when it leaves or starts anew; nothing is done with the state directory before it is this
process's alone.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

from binderkit.errors import IpcError, SoftBusError, UnknownTransactionError
from binderkit.samgr.remote import RemoteAbility
from binderkit.softbus import remote_list, trust_sync
from binderkit.softbus.acquaintances import Acquaintances
from binderkit.softbus.addresses import LOOK, AddressWatch, only_loopback, own_addresses
from binderkit.softbus.bulk import BulkPort
from binderkit.softbus.bulk_places import Places, decode_addresses, encode_addresses
from binderkit.softbus.bulk_port import StreamPort
from binderkit.softbus.calls import Calls, Request
from binderkit.softbus.discovery import Discovery
from binderkit.softbus.engine import Presence, PresenceEvent
from binderkit.softbus.lanes import LaneEngine
from binderkit.softbus.latest import Latest
from binderkit.softbus.pairing import Pairing
from binderkit.softbus.sessions import Sessions
from binderkit.softbus.settings import Settings, load_settings
from binderkit.softbus.state import StateDirectory
from binderkit.softbus.trust import TrustChange, TrustStore
from binderkit.softbus.trust_sync import TrustSync
from binderkit.softbus.zenoh_config import ZenohSettings
from binderkit.softbus.zenoh_engine import ZenohEngine

__all__ = ["ABILITIES", "PLACES", "SoftBusDevice"]

_log = logging.getLogger("binderkit.softbus")
PLACES: Final = 0x504C414345  # "PLACE"
ABILITIES: Final = 0x4C495354  # "LIST"
_PLACE_WAIT: Final = 4.0
"""Seconds a device may take to say where its streams arrive."""


def engine_settings(settings: Settings, hosts: tuple[str, ...]) -> ZenohSettings:
    """Return what the engine is told: where to listen, and whom to look for how."""
    places = (f"[{host}]" if ":" in host else host for host in hosts)
    return ZenohSettings(
        listen=tuple(f"tls/{place}:{settings.port}" for place in places),
        connect=tuple(f"tls/{place}" for place in settings.connect),
        interface=_interface(settings.group, hosts),
        multicast_address=settings.group,
    )


def _interface(group: str, hosts: tuple[str, ...]) -> str:
    """Return the interfaces for multicast. By address: the engine looks at the names once in the life of a process.

    So "auto" would be the addresses of that moment, and a device that moved would look for the others where it was.
    """
    if only_loopback(hosts):
        return "lo"
    six = group.startswith("[")
    return ",".join(host for host in hosts if (":" in host) == six) or "auto"


class _Network:
    """Names of devices, for the sessions."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls

    def udid_of(self, network_id: str) -> str | None:
        return next((udid for udid, info in self._calls.devices().items() if info.network_id == network_id), None)

    def network_id_of(self, udid: str) -> str:
        info = self._calls.devices().get(udid)
        return "" if info is None else info.network_id


class SoftBusDevice:
    """This device among the others. Make it, give ``calls`` a handler (dbinder), ``close`` it.

    Args:
        directory: where the device's key, its list of trusted devices and its settings are.
        abilities: returns what this device offers to the one that asks, by its UDID; to others at all, for "".
        settings: default: those of the directory and of the environment.
        addresses: returns this machine's addresses, for settings that name none. look: seconds between two looks.

    Raises:
        SoftBusError, NotTrustedError: files that cannot be used, or that another process uses (-426442749,
            -425983984). IpcError: the network cannot be joined (10). ParamValueError, ProfileError, ServiceError: the
            settings (see load_settings), or an address that is not this machine's (401).
    """

    def __init__(
        self,
        directory: Path,
        *,
        abilities: Callable[[str], Iterable[RemoteAbility]],
        settings: Settings | None = None,
        addresses: Callable[[], tuple[str, ...]] = own_addresses,
        look: float = LOOK,
    ) -> None:
        self._abilities = abilities
        with ExitStack() as undo:
            self._state = StateDirectory(directory)
            undo.callback(self._state.close)
            self._settings = load_settings(directory) if settings is None else settings
            self.hosts = self._settings.listen or addresses()
            self.store = TrustStore(directory)
            self.pairing = Pairing(self.store)
            self.discovery = Discovery(self.store, interfaces=self._interfaces())
            identity, trust = self.store.identity, self.store.snapshot()
            self._places = Places(self._ask_place)
            self._port = StreamPort(trust, self._places, hosts=self.hosts, unreached=self._places.forget)
            undo.callback(self._port.close)
            self._engine = ZenohEngine(
                trust,
                engine_settings(self._settings, self.hosts),
                name=identity.name,
                device_type=identity.device_type,
            )
            self.calls = Calls(LaneEngine(self._engine, self._port))
            undo.pop_all()
        self.acquaintances = Acquaintances(directory, self.store.trusted())
        self.bulk = BulkPort(self._port)
        self.sessions = Sessions(self._port, _Network(self.calls))
        self._sync = TrustSync(self.store, lambda udid, load: self.calls.control(udid, trust_sync.TARGET, load))
        # Held while the session is opened anew: for the trust or for the addresses, not for both at once.
        self._changing = threading.Lock()
        self._watch = AddressWatch(
            self.hosts, self._apply_addresses, look=lambda: self._settings.listen or addresses(), interval=look
        )
        self._trust = Latest(self._apply_trust, "binderkit-new-trust")
        self._end_listening = self.store.listen(self._trust_changed)
        self.calls.serve_control(self._control)
        self._port.start()
        self.calls.on_device(self._presence)

    @property
    def udid(self) -> str:
        """This device's UDID."""
        return self.store.udid

    def set_name(self, name: str) -> None:
        """Give this device another name; trusted devices and those near by are told.

        Raises:
            ParamValueError: no usable name (401). SoftBusError: there is no network to announce it on (-426442749).
        """
        self.store.set_name(name)
        self.calls.engine.set_name(name)
        self.discovery.announce_again()

    def abilities_of(self, udid: str, timeout: float) -> list[RemoteAbility]:
        """Return what another device offers.

        Raises:
            DeadObjectError, CallTimeoutError, QuotaError: see Calls.call. ProtocolError: nonsense (601).
        """
        return remote_list.decode(self.calls.control(udid, ABILITIES, b"", timeout=timeout))

    def own_abilities(self) -> list[RemoteAbility]:
        """Return what this device offers."""
        return list(self._abilities(""))

    def leave_network(self) -> None:
        """Serve other devices no more; dbinder is closed after this, and ``close`` called last."""
        self._watch.close()
        self._end_listening()
        self.acquaintances.close(self.calls.devices())
        self.pairing.close()
        self.discovery.close()
        self.calls.close()

    def close(self) -> None:
        """End the rest."""
        self._trust.close()
        self._sync.close()
        self.sessions.close()
        self.bulk.close()
        self._port.close()
        self._state.close()

    @property
    def door(self) -> str:
        """The address at which pairing is offered; "" for all: this machine's may change while somebody pairs."""
        return self.hosts[0] if len(self._settings.listen) == 1 or only_loopback(self.hosts) else ""

    def _interfaces(self) -> list[str] | None:
        """Return the addresses that strangers near by are told; None for all there are, whatever they are then."""
        return list(self.hosts) if self._settings.listen or only_loopback(self.hosts) else None

    def _ask_place(self, udid: str) -> bytes:
        return self.calls.control(udid, PLACES, b"", timeout=_PLACE_WAIT)

    def _control(self, request: Request) -> bytes:
        if request.target == trust_sync.TARGET:
            return self._sync.answer(request.source, request.payload)
        if request.target == PLACES:
            if request.payload:
                self._places.learn(request.source, decode_addresses(request.payload))
            return encode_addresses(self._port.addresses())
        if request.target == ABILITIES:
            return remote_list.encode(self._abilities(request.source))
        raise UnknownTransactionError(f"there is no control request {request.target:#x}")

    def _presence(self, presence: Presence) -> None:
        udid = presence.device.udid
        if udid in self.store.snapshot().trusted:
            self.acquaintances.note(presence.device)
        if presence.event is PresenceEvent.ONLINE:
            self._sync.online(udid)
        elif presence.event is PresenceEvent.OFFLINE:
            self._sync.offline(udid)
            self._places.forget(udid)
            self.bulk.forget(udid)
            self.sessions.device_offline(udid)

    def _trust_changed(self, change: TrustChange) -> None:
        if change.removed:
            self.acquaintances.restrict(self.store.trusted())
        self._trust.due()

    def _apply_trust(self) -> None:
        with self._changing:
            trust = self.store.snapshot()
            self._port.set_trust(trust)
            try:
                self._engine.set_trust(trust)
            except IpcError as error:
                _log.error("the network cannot be joined with the new list of trusted devices: %s", error)
                self._watch.again()

    def _apply_addresses(self, hosts: tuple[str, ...]) -> None:
        with self._changing:
            self._port.set_hosts(hosts)
            self._engine.set_settings(engine_settings(self._settings, hosts))
            self.hosts = hosts
        try:
            self.discovery.set_interfaces(self._interfaces())
        except SoftBusError as error:
            _log.warning("this device cannot be announced at its new addresses: %s", error)
        for udid in self.calls.devices():
            self._tell_place(udid)

    def _tell_place(self, udid: str) -> None:
        try:
            self.calls.control(udid, PLACES, encode_addresses(self._port.addresses()), timeout=_PLACE_WAIT)
        except IpcError as error:
            # It asks when it finds nobody at the old ones.
            _log.info("device %s was not told of the new addresses: %s", udid, error)
