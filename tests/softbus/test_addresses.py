"""addresses.py, and what a device does when its addresses change."""

from __future__ import annotations

import ipaddress
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import ifaddr
import pytest

from binderkit import limits
from binderkit.errors import IpcError, SoftBusError
from binderkit.softbus import addresses
from binderkit.softbus.addresses import LOOPBACK, AddressWatch, only_loopback, own_addresses
from binderkit.softbus.bulk_port import Purpose
from binderkit.softbus.bulk_stream import Stream
from binderkit.softbus.device import SoftBusDevice, engine_settings
from binderkit.softbus.settings import Settings
from tests.softbus.local_devices import LocalDevices, Moving, until
from tests.softbus.zenoh_devices import free_port, warm_up


@pytest.fixture(scope="module", autouse=True)
def started(tmp_path_factory: pytest.TempPathFactory) -> None:
    warm_up(tmp_path_factory.mktemp("warm"))


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[LocalDevices]:
    made = LocalDevices(tmp_path)
    try:
        yield made
    finally:
        made.close()


def test_addresses_are_numeric_in_order_and_loopback_when_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    found = own_addresses()
    assert found == LOOPBACK or not any(ipaddress.ip_address(one).is_loopback for one in found)

    def adapters(*there: str) -> None:
        ips = [ifaddr.IP(one, 24, "eth0") for one in there]
        monkeypatch.setattr(addresses, "ifaddr", SimpleNamespace(get_adapters=lambda: [SimpleNamespace(ips=ips)]))

    adapters("10.0.0.10", "127.0.0.1", "10.0.0.9", "10.0.0.9")
    assert own_addresses() == ("10.0.0.9", "10.0.0.10")
    adapters("127.0.0.1")
    assert own_addresses() == LOOPBACK
    adapters()
    assert own_addresses() == LOOPBACK
    assert only_loopback(("127.0.0.2", "::1")) and not only_loopback(("127.0.0.1", "10.0.0.9"))


class Looks:
    """An AddressWatch whose thread does not look: the test does."""

    def __init__(self, current: tuple[str, ...]) -> None:
        self.now = current
        self.told: list[tuple[str, ...]] = []
        self.problems: list[Exception] = []
        self.time = 0.0
        self.watch = AddressWatch(current, self._changed, look=lambda: self.now, interval=3600, clock=lambda: self.time)

    def _changed(self, found: tuple[str, ...]) -> None:
        if self.problems:
            raise self.problems.pop()
        self.told.append(found)

    def look(self, *found: str) -> list[tuple[str, ...]]:
        self.now = found
        self.watch.look_once()
        told, self.told = self.told, []
        return told


@pytest.fixture
def looks() -> Iterator[Looks]:
    made = Looks(("10.0.0.1",))
    try:
        yield made
    finally:
        made.watch.close()


def test_a_change_is_told_once_when_two_looks_agree_on_it(looks: Looks) -> None:
    assert looks.look("10.0.0.1") == []
    assert looks.look("10.0.0.1", "10.0.0.2") == []
    assert looks.look("10.0.0.1", "10.0.0.3") == []
    assert looks.look("10.0.0.1", "10.0.0.3") == [("10.0.0.1", "10.0.0.3")]
    assert looks.look("10.0.0.1", "10.0.0.3") == looks.look("10.0.0.1", "10.0.0.3") == []


def test_an_address_that_is_gone_counts_when_its_links_are_given_up(looks: Looks) -> None:
    assert looks.look("10.0.0.2") == looks.look("10.0.0.2") == []
    looks.time += limits.RPC_LEASE - 0.1
    assert looks.look("10.0.0.2") == []
    looks.time += 0.2
    assert looks.look("10.0.0.2") == [("10.0.0.2",)]
    # It is counted from when it went, also while there was no address at all, and anew when it came back meanwhile.
    looks.look(*LOOPBACK)
    looks.time += 60
    assert looks.look("10.0.0.3") == []
    assert looks.look("10.0.0.3") == [("10.0.0.3",)]
    looks.look("10.0.0.4")
    looks.look("10.0.0.3")
    looks.time += 60
    assert looks.look("10.0.0.4") == looks.look("10.0.0.4") == []


def test_no_network_at_all_is_no_change(looks: Looks) -> None:
    for _ in range(3):
        assert looks.look(*LOOPBACK) == []
    assert looks.look("10.0.0.1") == looks.look("10.0.0.1") == []


@pytest.mark.parametrize("problem", [IpcError("cannot join"), OSError("no such address")])
def test_a_change_that_failed_is_tried_again(looks: Looks, problem: Exception) -> None:
    looks.problems.append(problem)
    looks.look("10.0.0.1", "10.0.0.2")
    with pytest.raises(type(problem)):
        looks.look("10.0.0.1", "10.0.0.2")
    # Even if the old address is back: what it was used for is closed by now.
    looks.look("10.0.0.1")
    assert looks.look("10.0.0.1") == [("10.0.0.1",)]


def test_addresses_that_could_not_be_used_are_told_again(looks: Looks) -> None:
    looks.watch.again()
    assert looks.look("10.0.0.1") == [("10.0.0.1",)]
    assert looks.look("10.0.0.1") == []


def test_the_thread_looks_and_goes_on_after_an_error(caplog: pytest.LogCaptureFixture) -> None:
    told, problems = threading.Event(), [OSError("busy")]

    def changed(_: tuple[str, ...]) -> None:
        if problems:
            raise problems.pop()
        told.set()

    watch = AddressWatch(("10.0.0.1",), changed, look=lambda: ("10.0.0.1", "10.0.0.2"), interval=0.005)
    assert told.wait(10)
    watch.close()
    assert "cannot be used yet: busy" in caplog.text


def test_the_engine_is_told_port_places_and_group() -> None:
    made = engine_settings(Settings((), 7447, ("tv.lan:1", "[fe80::1]:2"), "239.0.0.1:5"), ("10.0.0.1", "fe80::2"))
    assert made.listen == ("tls/10.0.0.1:7447", "tls/[fe80::2]:7447")
    assert made.connect == ("tls/tv.lan:1", "tls/[fe80::1]:2")
    # By address: what the engine takes for "auto" stays what it was at the start of the process.
    assert (made.interface, made.multicast_address) == ("10.0.0.1", "239.0.0.1:5")
    assert engine_settings(Settings(), ("10.0.0.1", "10.0.0.2")).interface == "10.0.0.1,10.0.0.2"
    assert engine_settings(Settings(group="[ff02::1]:7446"), ("10.0.0.1", "fe80::2")).interface == "fe80::2"
    assert engine_settings(Settings(), ("fe80::2",)).interface == "auto"
    assert engine_settings(Settings(), LOOPBACK).interface == "lo"


def talks(one: SoftBusDevice, other: SoftBusDevice) -> bool:
    """Return whether a call and a stream arrive."""
    assert [ability.name for ability in one.abilities_of(other.udid, 10)]
    with_data = one._port.dial(other.udid, Purpose.SESSION, timeout=5)
    address = with_data.address[0]
    with_data.close()
    return address in {host for host, _ in other._port.addresses()}


@pytest.mark.parametrize(
    "there", [("127.0.0.1", "127.0.0.2"), pytest.param(("127.0.0.2",), marks=pytest.mark.slow)], ids=["more", "others"]
)
def test_new_addresses_are_used_and_told(devices: LocalDevices, there: tuple[str, ...]) -> None:
    where = Moving("127.0.0.1")
    still, moving = devices.make("still"), devices.make("moving", addresses=where)
    for one in (still, moving):
        one._port.serve(Purpose.SESSION, Stream.close)
    devices.join(still, moving)
    assert talks(still, moving) and talks(moving, still)
    boot = moving.calls.engine.info.boot
    where.now = there
    until(lambda: moving.hosts == there, "the new addresses are used")
    until(lambda: still._places(moving.udid) == moving._port.addresses(), "the other one is told")
    devices.see(still, moving)
    assert talks(still, moving) and talks(moving, still)
    # It did not leave: what others hold of it is still good.
    assert still.calls.devices()[moving.udid].boot == boot == moving.calls.engine.info.boot


@pytest.mark.slow
def test_what_was_missed_is_asked_for_after_a_failure(devices: LocalDevices) -> None:
    one, two = devices.make("one"), devices.make("two")
    two._port.serve(Purpose.SESSION, Stream.close)
    devices.join(one, two)
    one._places.learn(two.udid, (("127.0.0.1", free_port()),))
    with pytest.raises(IpcError):
        one._port.dial(two.udid, Purpose.SESSION, timeout=5)
    assert talks(one, two)


@pytest.mark.slow
def test_a_network_that_could_not_be_joined_is_joined_later(
    devices: LocalDevices, caplog: pytest.LogCaptureFixture
) -> None:
    """The trust changes while the address is away: the session cannot be opened, until the address is back."""
    one, two = devices.make("one"), devices.make("two")
    broken = [True]
    opened = two._engine._open_session

    def fails() -> None:
        if broken:
            broken.clear()
            raise IpcError("no such address")
        opened()

    two._engine._open_session = fails  # type: ignore[method-assign]
    devices.join(one, two)
    assert "no such address" in caplog.text and not broken


def test_devices_find_each_other_by_address_where_multicast_ends(devices: LocalDevices) -> None:
    port = free_port()
    groups = [f"224.0.0.224:{free_port()}" for _ in range(2)]
    one = devices.make("one", settings=Settings(("127.0.0.1",), port, (), groups[0]))
    two = devices.make("two", settings=Settings(("127.0.0.1",), 0, (f"localhost:{port}",), groups[1]))
    devices.join(one, two)
    assert two.abilities_of(one.udid, 10)[0].name == "tests.one"


def test_a_second_softbus_with_the_same_state_is_refused(devices: LocalDevices) -> None:
    first = devices.make("one")
    with pytest.raises(SoftBusError, match="would be the same device"):
        devices.make("one")
    udid = first.udid
    devices.end(first)
    assert devices.make("one").udid == udid


def test_a_device_that_cannot_begin_leaves_nothing_behind(devices: LocalDevices) -> None:
    with pytest.raises(IpcError, match=r"192\.0\.2\.1"):
        devices.make("one", settings=Settings(("192.0.2.1",), group=devices.group))
    devices.make("one")
