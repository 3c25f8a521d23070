"""service.py: devices for programs: who is there, who is near, pairing, and who may change what."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from binderkit.driver.loopback import LoopbackNetwork
from binderkit.errors import RefusedError, ServiceError
from binderkit.interface import proxy
from binderkit.ipc.context import CallContext, Caller, RemoteCaller, current
from binderkit.ipc.remote import RemoteObject
from binderkit.samgr.remote import NO_DEVICE, Problem
from binderkit.softbus.contracts import (
    CHANGED,
    OFFLINE,
    ONLINE,
    TRUSTED,
    UNTRUSTED,
    DeviceDescription,
    IDeviceWatcher,
    IFinder,
    IPairingWatcher,
    NearbyDevice,
)
from binderkit.softbus.device import SoftBusDevice
from binderkit.softbus.identity import device_hash
from binderkit.softbus.service import SoftBusService
from tests.softbus.local_devices import WAIT, LocalDevices, until
from tests.softbus.zenoh_devices import warm_up

SECRET = b"a secret of the whole fleet"
REFUSED, INVALID = -425983984, 401


class Watcher(IDeviceWatcher):
    def __init__(self) -> None:
        self.said: queue.Queue[tuple[str, DeviceDescription]] = queue.Queue()

    def device_changed(self, event: str, device: DeviceDescription) -> None:
        self.said.put((event, device))

    def wait(self, event: str, *, past: str = "") -> DeviceDescription:
        """Return the next news, which must be this event; ``past``: what may come before it."""
        said, device = self.said.get(timeout=WAIT)
        while said == past:
            said, device = self.said.get(timeout=WAIT)
        assert said == event
        return device


class Finder(IFinder):
    def __init__(self) -> None:
        self.said: queue.Queue[tuple[str, int, NearbyDevice]] = queue.Queue()

    def found(self, number: int, device: NearbyDevice) -> None:
        self.said.put(("found", number, device))

    def lost(self, number: int, device: NearbyDevice) -> None:
        self.said.put(("lost", number, device))

    def wait(self, device: SoftBusDevice) -> tuple[str, int, NearbyDevice]:
        """Return the next news of this device: those of other tests that run now are near by, too."""
        while True:
            said = self.said.get(timeout=WAIT)
            if said[2].device_id == device_hash(device.udid):
                return said


class PairingWatcher(IPairingWatcher):
    def __init__(self) -> None:
        self.said: queue.Queue[Any] = queue.Queue()

    def paired(self, device: DeviceDescription) -> None:
        self.said.put(device)

    def ended(self, code: int, text: str) -> None:
        self.said.put((code, text))


@contextmanager
def serving(device: SoftBusDevice) -> Iterator[SoftBusService]:
    service = SoftBusService(device)
    try:
        yield service
    finally:
        service.close()


@pytest.fixture(scope="module", autouse=True)
def started(tmp_path_factory: pytest.TempPathFactory) -> None:
    warm_up(tmp_path_factory.mktemp("warm"))


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SoftBusDevice, SoftBusDevice]]:
    """Two devices that trust each other; the first owns the circle. No test changes that."""
    devices = LocalDevices(tmp_path_factory.mktemp("pair"))
    try:
        one, two = devices.make("one"), devices.make("two")
        devices.join(one, two)
        yield one, two
    finally:
        devices.close()


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[LocalDevices]:
    made = LocalDevices(tmp_path)
    try:
        yield made
    finally:
        made.close()


@contextmanager
def called_by(caller: Caller) -> Iterator[None]:
    token = current.set(CallContext(caller, None, None, 0, 0, 0, None, None))
    try:
        yield
    finally:
        current.reset(token)


def problem(call: Callable[[], object]) -> Problem:
    with pytest.raises(Problem) as caught:
        call()
    return caught.value


# --- devices ------------------------------------------------------------------------------------------


def test_this_device_and_the_others_are_described(pair: tuple[SoftBusDevice, SoftBusDevice]) -> None:
    one, two = pair
    with serving(one) as service:
        own, (other,) = service.own_device(), service.trusted_devices()
    now = time.time()
    assert (own.udid, own.network_id) == (one.udid, one.calls.engine.info.network_id)
    assert (own.online, own.owner, own.since) == (True, True, 0) and now - own.last_seen < 10
    assert (other.udid, other.network_id) == (two.udid, two.calls.engine.info.network_id)
    assert (other.online, other.owner) == (True, False)
    assert now - other.since < 600 and now - other.last_seen < 10


def test_a_device_is_named_by_udid_its_beginning_network_id_or_name(pair: tuple[SoftBusDevice, SoftBusDevice]) -> None:
    one, two = pair
    with serving(one) as service:
        name = service.trusted_devices()[0].name
        # Both have the name of this machine.
        with pytest.raises(ServiceError, match=f"2 devices are called '{name}'; use a UDID"):
            service.resolve(name)
        for word in (two.udid, two.udid[:8], two.calls.engine.info.network_id):
            assert service.resolve(word).udid == two.udid
        assert service.resolve(one.udid[:12]).udid == one.udid
        for word in (two.udid[:7], "", "nobody", "f" * 64):
            with pytest.raises(ServiceError, match="knows no device") as caught:
                service.resolve(word)
            assert caught.value.code == NO_DEVICE


def test_a_watcher_hears_first_who_is_there_then_what_changes(pair: tuple[SoftBusDevice, SoftBusDevice]) -> None:
    one, two = pair
    watcher = Watcher()
    with serving(one) as service, serving(two) as other:
        service.watch(watcher)
        assert watcher.wait(ONLINE).udid == two.udid
        other.set_name("garden")
        changed = watcher.wait(CHANGED)
        assert (changed.name, changed.udid, changed.online) == ("garden", two.udid, True)
        assert service.resolve("garden").udid == two.udid
        assert service.unwatch(watcher) is True
        assert service.unwatch(watcher) is False
        assert problem(lambda: service.set_name("")).code == INVALID


def test_a_watcher_whose_program_ended_is_forgotten(pair: tuple[SoftBusDevice, SoftBusDevice]) -> None:
    network = LoopbackNetwork()
    softbus, program = network.process(), network.process()
    try:
        with serving(pair[0]) as service:
            stub = Watcher().as_object()
            assert isinstance(stub, RemoteObject)
            seen = proxy(IDeviceWatcher, program.offer(stub, softbus))
            service.watch(seen)
            program.kill()
            until(lambda: seen.as_object() not in service._watchers._known, "the watcher is forgotten")
            assert problem(lambda: service.watch(seen)).code == -32
            assert service.unwatch(seen) is False
    finally:
        network.close()


# --- near by ------------------------------------------------------------------------------------------


def test_devices_near_by_are_found_until_their_announcement_ends(devices: LocalDevices) -> None:
    second = devices.make("two")
    with serving(devices.make("one")) as one, serving(second) as two:
        two.set_name("kitchen")
        finder, holder = Finder(), Finder()
        one.refresh(7, 6, finder)
        two.publish(1, 6, "hello", holder)
        kind, number, near = finder.wait(second)
        assert (kind, number, near.name, near.data, near.known) == ("found", 7, "kitchen", "hello", False)
        assert near.addresses == ["127.0.0.1"] and near.pairing_port == 0
        assert two.stop_publish(1) is True
        assert finder.wait(second)[:2] == ("lost", 7)
        assert two.stop_publish(1) is False
        assert one.stop_refresh(7) is True
        assert one.stop_refresh(7) is False
        assert holder.said.empty()


def test_what_cannot_be_announced_is_refused_with_words(devices: LocalDevices) -> None:
    with serving(devices.make("one")) as service:
        finder = Finder()
        assert "no capability" in problem(lambda: service.publish(1, 99, "", finder)).text
        assert "no capability" in problem(lambda: service.refresh(1, -1, finder)).text
        assert problem(lambda: service.publish(1, 6, "x" * 513, finder)).code == INVALID


# --- pairing ------------------------------------------------------------------------------------------


def test_an_offer_is_announced_taken_once_and_told(devices: LocalDevices) -> None:
    first, second = devices.make("one"), devices.make("two")
    with serving(first) as one, serving(second) as two:
        watcher, news = PairingWatcher(), Watcher()
        one.watch(news)
        offer = one.offer_pairing(b"", 60.0, watcher)
        assert offer.pin.isdecimal() and offer.addresses == ["127.0.0.1"]
        finder = Finder()
        two.refresh(1, 6, finder)
        # The offer alone announces this device, with no capability: it is found by whoever publishes too.
        one.publish(1, 6, "", Finder())
        while (near := finder.wait(first)[2]).pairing_port != offer.port:
            assert near.pairing_port == 0
        assert "already" in problem(lambda: one.offer_pairing(b"", 60.0, PairingWatcher())).text
        paired = two.pair("127.0.0.1", offer.port, offer.pin, b"")
        assert (paired.udid, paired.owner) == (first.udid, True)
        assert watcher.said.get(timeout=WAIT).udid == second.udid
        assert news.wait(TRUSTED).udid == second.udid
        assert news.wait(ONLINE).udid == second.udid
        assert one.withdraw_offer() is False


def test_a_wrong_pin_and_a_withdrawn_offer_pair_nobody(devices: LocalDevices) -> None:
    with serving(devices.make("one")) as one, serving(devices.make("two")) as two:
        watcher = PairingWatcher()
        offer = one.offer_pairing(b"", 60.0, watcher)
        wrong = "000000" if offer.pin != "000000" else "111111"
        refused = problem(lambda: two.pair("127.0.0.1", offer.port, wrong, b""))
        assert refused.code == REFUSED and "PIN" in refused.text
        assert one.withdraw_offer() is True
        assert one.withdraw_offer() is False
        code, text = watcher.said.get(timeout=WAIT)
        assert code < 0 and text
        assert problem(lambda: two.pair("127.0.0.1", offer.port, offer.pin, b"")).code < 0
        assert one.trusted_devices() == two.trusted_devices() == []


@pytest.mark.slow
def test_an_offer_ends_with_its_program(devices: LocalDevices) -> None:
    network = LoopbackNetwork()
    softbus, program = network.process(), network.process()
    try:
        with serving(devices.make("one")) as service:
            watcher = PairingWatcher()
            stub = watcher.as_object()
            assert isinstance(stub, RemoteObject)
            service.offer_pairing(b"", 60.0, proxy(IPairingWatcher, program.offer(stub, softbus)))
            offer = service._offer
            assert offer is not None
            program.kill()
            with pytest.raises(Exception, match="withdrawn"):
                offer.wait(WAIT)
            # The door is free for the next one.
            assert service.offer_pairing(SECRET, 60.0, watcher).pin == ""
            assert service.withdraw_offer() is True
    finally:
        network.close()


def test_an_offer_that_cannot_be_made_is_refused(pair: tuple[SoftBusDevice, SoftBusDevice]) -> None:
    with serving(pair[0]) as service:
        for secret, lifetime in ((b"short", 60.0), (b"", 0.0), (b"", 1e9)):
            refused = problem(partial(service.offer_pairing, secret, lifetime, PairingWatcher()))
            assert refused.code == INVALID, refused.text
        assert service.withdraw_offer() is False


@pytest.mark.slow
def test_what_is_not_trusted_any_more_is_told_with_its_name(devices: LocalDevices) -> None:
    first, second = devices.make("one"), devices.make("two")
    devices.join(first, second)
    with serving(first) as one, serving(second) as two:
        news, theirs = Watcher(), Watcher()
        two.set_name("kitchen")
        one.watch(news)
        two.watch(theirs)
        assert (news.wait(ONLINE).udid, theirs.wait(ONLINE).udid) == (second.udid, first.udid)
        while one.trusted_devices()[0].name != "kitchen":
            assert news.wait(CHANGED).name == "kitchen"
        assert "only the owner" in problem(lambda: two.revoke(first.udid)).text
        assert one.revoke("kitchen") is True
        assert problem(lambda: one.revoke("kitchen")).code == NO_DEVICE
        assert news.wait(UNTRUSTED, past=CHANGED).name == "kitchen"
        assert news.wait(OFFLINE).udid == second.udid
        assert theirs.wait(OFFLINE).udid == first.udid
        assert first.acquaintances.of(second.udid) is None
        two.leave()
        assert theirs.wait(UNTRUSTED).udid == first.udid
        assert two.trusted_devices() == []


@pytest.mark.slow
def test_a_device_that_is_off_keeps_its_name_over_restarts(devices: LocalDevices) -> None:
    first, second = devices.make("one"), devices.make("two")
    devices.join(first, second)
    with serving(first) as one, serving(second) as two:
        news = Watcher()
        one.watch(news)
        assert news.wait(ONLINE).udid == second.udid
        two.set_name("kitchen")
        assert news.wait(CHANGED).name == "kitchen"
        before = int(time.time())
        devices.end(second)
        gone = news.wait(OFFLINE)
        assert (gone.name, gone.online) == ("kitchen", False)
    devices.end(first)
    with serving(devices.make("one")) as one:
        (known,) = one.trusted_devices()
        assert (known.name, known.network_id, known.online) == ("kitchen", "", False)
        assert before <= known.last_seen <= time.time()
        assert one.resolve("kitchen").udid == second.udid


# --- who may ------------------------------------------------------------------------------------------

CHANGES: dict[str, Callable[[SoftBusService], object]] = {
    "set_name": lambda service: service.set_name("x"),
    "offer_pairing": lambda service: service.offer_pairing(b"", 60.0, PairingWatcher()),
    "withdraw_offer": lambda service: service.withdraw_offer(),
    "pair": lambda service: service.pair("127.0.0.1", 1, "123456", b""),
    "unpair": lambda service: service.unpair("x"),
    "revoke": lambda service: service.revoke("x"),
    "leave": lambda service: service.leave(),
}
LOOKS: dict[str, Callable[[SoftBusService], object]] = {
    "own_device": lambda service: service.own_device(),
    "trusted_devices": lambda service: service.trusted_devices(),
    "watch": lambda service: service.watch(Watcher()),
    "publish": lambda service: service.publish(1, 6, "", Finder()),
    "stop_publish": lambda service: service.stop_publish(1),
    "refresh": lambda service: service.refresh(1, 6, Finder()),
    "stop_refresh": lambda service: service.stop_refresh(1),
    "sessions": lambda service: service.sessions(),
}


def test_only_this_devices_user_and_root_change_whom_it_trusts(pair: tuple[SoftBusDevice, SoftBusDevice]) -> None:
    with serving(pair[0]) as service:
        for name, call in CHANGES.items():
            with called_by(Caller(4711, os.geteuid() + 1, 0)), pytest.raises(RefusedError, match="may not pair"):
                call(service)
            assert service.own_device().name != "x", name
        with called_by(Caller(4711, os.geteuid() + 1, 0)):
            assert service.own_device().udid == pair[0].udid
        assert len(service.trusted_devices()) == 1


def test_programs_of_other_devices_have_nothing_to_say(pair: tuple[SoftBusDevice, SoftBusDevice]) -> None:
    with serving(pair[0]) as service:
        for call in (*CHANGES.values(), *LOOKS.values()):
            with (
                called_by(RemoteCaller("f" * 64, "0" * 64, 1, 0, 0)),
                pytest.raises(RefusedError, match="its own device only"),
            ):
                call(service)
