"""Devices whose softbus processes tell each other of system abilities, for the tests of Abilities and its parts."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from contextlib import contextmanager

import binderkit as bk
from binderkit.dbinder.objects import Abilities
from binderkit.dbinder.peer_abilities import PeerAbilities
from binderkit.driver.loopback import LoopbackProcess
from binderkit.errors import ServiceError, ServiceNotFoundError
from binderkit.interface import proxy
from binderkit.samgr.ability import AbilityKey
from binderkit.samgr.listener import SystemAbilityListener
from binderkit.samgr.remote import NO_DEVICE, SOFTBUS_ID, IAbilityWatcher, IDBinder, RemoteAbility
from binderkit.softbus.contracts import DeviceDescription
from tests.dbinder.devices import PATIENCE, Device, Devices, running
from tests.dbinder.service import Service


class Registry:
    """What SAMgr knows on one device, and which devices may have it.

    Attributes:
        there: id -> name. refused: (id, device) -> code. declared: what this device may ask others for.
        asked: for what it was looked up there.
    """

    def __init__(self) -> None:
        self.there: dict[int, str] = {}
        self.refused: dict[tuple[int, str], int] = {}
        self.declared: set[AbilityKey] = set()
        self.asked: list[AbilityKey] = []
        self.listeners: list[tuple[AbilityKey, SystemAbilityListener]] = []
        self.refusal: Exception | None = None

    def subscribe(self, key: AbilityKey, listener: SystemAbilityListener) -> None:
        if self.refusal is not None:
            raise self.refusal
        self.listeners.append((key, listener))
        for ability, name in self.there.items():
            if key in (ability, name):
                listener.on_add_system_ability(ability, "")

    def unsubscribe(self, key: AbilityKey, listener: SystemAbilityListener) -> None:
        try:
            self.listeners.remove((key, listener))
        except ValueError:
            raise ServiceError("not subscribed") from None

    def check(self, key: AbilityKey, device: str = "") -> int:
        if not device:
            declared = key in self.declared
            self.asked.append(key)  # now: whoever waits for this may change what is declared
            if not declared:
                raise ServiceError(f"this device does not declare {key!r}", code=1024)
            return 0
        assert isinstance(key, int)
        if key not in self.there:
            raise ServiceNotFoundError("not there")
        code = self.refused.get((key, device))
        if code is not None:
            raise ServiceError("not for that device", code=code)
        return key

    def add(self, ability: int, name: str = "") -> None:
        self.there[ability] = name
        for key, listener in list(self.listeners):
            if key in (ability, name):
                listener.on_add_system_ability(ability, "")

    def remove(self, ability: int) -> None:
        name = self.there.pop(ability)
        for key, listener in list(self.listeners):
            if key in (ability, name):
                listener.on_remove_system_ability(ability, "")


class Heard(IAbilityWatcher):
    """Puts what it hears into a queue."""

    def __init__(self) -> None:
        self.events: queue.Queue[tuple[str, int, bool]] = queue.Queue()

    def ability_changed(self, device: str, ability: int, there: bool) -> None:
        self.events.put((device, ability, there))

    def next(self) -> tuple[str, int, bool]:
        return self.events.get(timeout=PATIENCE)


class Place:
    """One device, with the softbus object of its programs."""

    def __init__(self, world: World, device: Device) -> None:
        self.world = world
        self.device = device
        self.registry = Registry()
        self.refusal: Exception | None = None
        self.begin()

    @property
    def udid(self) -> str:
        return self.device.udid

    def begin(self) -> None:
        """Start the parts, or start them again with a new dbinder."""
        self.peers = PeerAbilities(self.device.dbinder, self.registry)
        self.device.abilities[SOFTBUS_ID] = self.peers.as_object()
        self.abilities = Abilities(self.device.dbinder, self, self.registry.check, self.permit)
        self.device.calls.on_device(self.abilities.watches.presence)

    def permit(self) -> None:
        if self.refusal is not None:
            raise self.refusal

    def restart(self) -> None:
        """End softbus and start it again: another boot."""
        self.abilities.watches.close()
        self.peers.close()
        self.device.stop()
        self.device.start()
        self.begin()
        self.device.trust(*self.world.devices.all)

    def for_app(self, app: LoopbackProcess) -> IDBinder:
        """Return what a program gets as system ability 4700."""
        stub = self.abilities.as_object()
        assert isinstance(stub, bk.RemoteObject)
        return proxy(IDBinder, self.device.softbus.offer(stub, app))

    def offer(self, ability: int, name: str = "") -> Service:
        """Register a system ability in a process of its own."""
        service = Service()
        self.device.offer(ability, service, self.device.app())
        self.registry.add(ability, name)
        return service

    # --- what Abilities asks of softbus ----------------------------------------------------------

    def resolve(self, device: str) -> DeviceDescription:
        for place in self.world.places:
            if device in (place.device.name, place.udid):
                online = place is self or place.udid in self.device.calls.devices()
                return DeviceDescription(place.udid, "", place.device.name, "", online, False, 0)
        raise ServiceError(f"no device {device!r}", code=NO_DEVICE)

    def abilities_of(self, udid: str, timeout: float) -> list[RemoteAbility]:
        (place,) = (one for one in self.world.places if one.udid == udid)
        return [
            RemoteAbility(ability, name, True)
            for ability, name in place.registry.there.items()
            if (ability, self.udid) not in place.registry.refused
        ]

    def own_abilities(self) -> list[RemoteAbility]:
        return [RemoteAbility(ability, name, True) for ability, name in self.registry.there.items()]


class World:
    """Devices a and b."""

    def __init__(self, devices: Devices) -> None:
        self.devices = devices
        self.places: list[Place] = []
        self.places += [Place(self, device) for device in devices.all]
        self.a, self.b = self.places
        self.app = self.a.device.app()
        self.dbinder = self.a.for_app(self.app)

    def close(self) -> None:
        for place in self.places:
            place.abilities.watches.close()
            place.peers.close()


@contextmanager
def world() -> Iterator[World]:
    with running("a", "b") as devices:
        made = World(devices)
        try:
            yield made
        finally:
            made.close()
