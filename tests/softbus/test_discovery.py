"""binderkit.softbus.discovery: devices that find each other by real mDNS, over loopback."""

from __future__ import annotations

import json
import logging
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from zeroconf import ServiceInfo, Zeroconf

from binderkit import limits
from binderkit.errors import ParamValueError, QuotaError
from binderkit.softbus import discovery as module
from binderkit.softbus.discovery import Discovery
from binderkit.softbus.discovery_records import Capability, FoundDevice, Medium, PublishInfo, SubscribeInfo
from binderkit.softbus.identity import device_hash
from tests.softbus.devices import ROOT, Lan, namespaces_work
from tests.softbus.stores import admit, make

LOOPBACK = ["127.0.0.1"]
WAIT = 10
"""Seconds after which something will not come any more."""


@pytest.fixture(autouse=True)
def kind_of_our_own(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> str:
    """Announce another kind of service in each test: all that runs on this machine shares one loopback."""
    kind = f"_sb{abs(hash((request.node.name, time.monotonic_ns()))) % 10**9}._udp.local."
    monkeypatch.setattr(module, "_SERVICE", kind)
    return kind


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Shorten the pauses between the three times that mDNS says everything, but where times are measured."""
    if "within" not in request.node.name:
        for name in ("_REGISTER_TIME", "_UNREGISTER_TIME"):
            monkeypatch.setattr(f"zeroconf._core.{name}", 10, raising=False)


class Device:
    """A device that looks and announces; what it is told waits in ``heard``."""

    def __init__(self, directory: Path, name: str) -> None:
        self.store = make(directory, name)
        self.discovery = Discovery(self.store, interfaces=LOOPBACK)
        self.heard: queue.Queue[tuple[str, FoundDevice]] = queue.Queue()

    @property
    def id(self) -> str:
        return device_hash(self.store.udid)

    def look(self, number: int = 1, capability: Capability = Capability.DDMP, package: str = "test") -> None:
        self.discovery.refresh(
            package,
            SubscribeInfo(number, capability),
            lambda device: self.heard.put(("found", device)),
            lambda device: self.heard.put(("lost", device)),
        )

    def next(self) -> tuple[str, FoundDevice]:
        return self.heard.get(timeout=WAIT)


@pytest.fixture
def devices(tmp_path: Path) -> Iterator[tuple[Device, Device]]:
    pair = Device(tmp_path, "announces"), Device(tmp_path, "looks")
    yield pair
    for device in pair:
        device.discovery.close()


def test_a_device_that_comes_is_found_within_three_seconds_and_lost_when_it_goes(
    devices: tuple[Device, Device],
) -> None:
    announces, looks = devices
    looks.look()
    start = time.monotonic()
    announces.discovery.publish("app", PublishInfo(1, data="hello"))
    assert looks.next() == (
        "found",
        FoundDevice(announces.id, "announces", "linux", 1 << 6, "hello", ("127.0.0.1",), 0, False),
    )
    assert time.monotonic() - start < 3
    assert [device.device_id for device in looks.discovery.devices()] == [announces.id]
    assert announces.discovery.stop_publish("app", 1) and not announces.discovery.stop_publish("app", 1)
    event, device = looks.next()
    assert (event, device.device_id, looks.discovery.devices()) == ("lost", announces.id, [])


def test_a_device_that_is_there_is_found_by_who_comes_later(devices: tuple[Device, Device]) -> None:
    announces, looks = devices
    announces.discovery.publish("app", PublishInfo(1))
    looks.look()
    assert looks.next()[1].device_id == announces.id
    looks.look(2)  # a second subscription hears of what is known at once
    assert looks.heard.get_nowait()[1].device_id == announces.id


def test_what_a_device_says_anew_is_reported(devices: tuple[Device, Device]) -> None:
    announces, looks = devices
    looks.look()
    announces.discovery.publish("app", PublishInfo(1))
    assert looks.next()[1].pairing_port == 0
    announces.discovery.set_pairing_port(4700)
    assert looks.next()[1].pairing_port == 4700
    announces.discovery.publish("other", PublishInfo(1, Capability.OSD, "text"))
    device = looks.next()[1]
    assert device.capabilities == 1 << 6 | 1 << 7 and device.data == "text"
    announces.discovery.stop_publish("app", 1)
    announces.discovery.forget("other")  # the port is still announced
    while device.capabilities:
        device = {one.device_id: one for one in looks.discovery.devices()}.get(announces.id, device)
    assert device.pairing_port == 4700
    with pytest.raises(ParamValueError):
        announces.discovery.set_pairing_port(65536)


def test_only_devices_with_the_capability_are_reported(devices: tuple[Device, Device]) -> None:
    announces, looks = devices
    looks.look(1, Capability.OSD)
    looks.look(2, Capability.DDMP)
    announces.discovery.publish("app", PublishInfo(1, Capability.DDMP))
    assert looks.next()[1].device_id == announces.id
    assert looks.heard.empty()  # the one for OSD was asked first
    announces.discovery.publish("app", PublishInfo(2, Capability.OSD))
    assert {looks.next()[1].capabilities for _ in range(2)} == {1 << 6 | 1 << 7}


def test_a_device_does_not_find_itself(devices: tuple[Device, Device]) -> None:
    one, two = devices
    one.look()
    one.discovery.publish("app", PublishInfo(1))
    two.discovery.publish("app", PublishInfo(1))
    assert one.next()[1].device_id == two.id
    assert [device.device_id for device in one.discovery.devices()] == [two.id]


def test_a_trusted_device_is_marked_as_known_and_its_udid_is_not_shown(devices: tuple[Device, Device]) -> None:
    announces, looks = devices
    admit(announces.store, looks.store)
    looks.look()
    announces.discovery.publish("app", PublishInfo(1))
    device = looks.next()[1]
    assert device.known
    assert announces.store.udid not in repr(device) and announces.store.udid[:32] not in repr(device)


def test_a_new_name_is_announced(devices: tuple[Device, Device]) -> None:
    announces, looks = devices
    looks.look()
    announces.discovery.publish("app", PublishInfo(1))
    assert looks.next()[1].name == "announces"
    announces.store.set_name("other")
    announces.discovery.announce_again()
    seen = [looks.next()]
    while seen[-1] != ("found", seen[-1][1]) or seen[-1][1].name != "other":
        seen.append(looks.next())


def test_who_looks_hears_of_everything_again_after_its_network_changed(devices: tuple[Device, Device]) -> None:
    announces, looks = devices
    announces.discovery.publish("app", PublishInfo(1))
    looks.look()
    assert looks.next()[0] == "found"
    looks.discovery.announce_again()
    assert [looks.next()[0], looks.next()[0]] == ["lost", "found"]


def test_a_callback_may_use_the_discovery_and_stop_it(devices: tuple[Device, Device]) -> None:
    announces, looks = devices
    done: queue.Queue[bool] = queue.Queue()

    def found(device: FoundDevice) -> None:
        looks.discovery.publish("app", PublishInfo(1))
        looks.discovery.stop_publish("app", 1)
        done.put(looks.discovery.stop_refresh("test", 1))  # the last subscription: the browser ends

    looks.discovery.refresh("test", SubscribeInfo(1), found)
    announces.discovery.publish("app", PublishInfo(1))
    assert done.get(timeout=WAIT)
    looks.look(2)
    assert looks.next()[1].device_id == announces.id


def test_a_callback_that_fails_does_not_stop_the_others(
    devices: tuple[Device, Device], caplog: pytest.LogCaptureFixture
) -> None:
    announces, looks = devices

    def fails(device: FoundDevice) -> None:
        raise ZeroDivisionError("on purpose")

    looks.discovery.refresh("test", SubscribeInfo(9), fails)
    looks.look()
    with caplog.at_level(logging.ERROR):
        announces.discovery.publish("app", PublishInfo(1))
        assert looks.next()[1].device_id == announces.id
    assert "on purpose" in caplog.text


def test_nothing_runs_while_nobody_publishes_or_looks(devices: tuple[Device, Device]) -> None:
    announces, _ = devices
    before = threading.active_count()
    announces.look()
    announces.discovery.publish("app", PublishInfo(1))
    assert threading.active_count() > before
    announces.discovery.forget("test")
    announces.discovery.forget("app")
    assert threading.active_count() == before
    assert not announces.discovery.stop_refresh("test", 1)


def test_strangers_cannot_fill_the_memory_or_the_log_with_nonsense(
    devices: tuple[Device, Device],
    kind_of_our_own: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A stranger announces more devices than are remembered, and some that break every rule."""
    _, looks = devices
    monkeypatch.setattr(limits, "MAX_FOUND_DEVICES", 3)
    looks.look()
    good = {"v": "1", "h": "", "n": "stranger", "t": "linux", "c": "40"}
    records = [{**good, "h": f"{number:032x}"} for number in range(5)]
    nonsense = [{**good, "h": "ff" * 16, "n": "\x1b[2J"}, {}, {**good, "h": "x"}, {"v": "9" * 200}]
    stranger = Zeroconf(interfaces=LOOPBACK)
    try:
        with caplog.at_level(logging.WARNING):
            for number, record in enumerate([*nonsense, *records]):
                name = f"stranger {number}.{kind_of_our_own}"
                info = ServiceInfo(kind_of_our_own, name, 1, properties=record, parsed_addresses=LOOPBACK, server="s.")
                stranger.registry.async_add(info)
            for info in stranger.registry.async_get_service_infos():
                stranger.generate_service_broadcast(info, None)
            found = {looks.next()[1].device_id for _ in range(3)}
        assert found <= {record["h"] for record in records}
        assert len(looks.discovery.devices()) == 3
    finally:
        stranger.close()


_KILLED = """
import os, signal, sys
from pathlib import Path
from binderkit.softbus import discovery
from binderkit.softbus.discovery_records import PublishInfo
from binderkit.softbus.trust import TrustStore
discovery._SERVICE = sys.argv[2]
announces = discovery.Discovery(TrustStore(Path(sys.argv[1]), name="killed"), interfaces=["127.0.0.1"])
announces.publish("app", PublishInfo(1))
print("ready", flush=True)
sys.stdin.read()
"""


def test_a_device_that_was_killed_is_found_again_when_it_is_back(
    devices: tuple[Device, Device], tmp_path: Path, kind_of_our_own: str
) -> None:
    """mDNS does not notice a crash (its records last for minutes); the engine's presence is for that."""
    _, looks = devices
    looks.look()
    command = [sys.executable, "-c", _KILLED, str(tmp_path / "killed"), kind_of_our_own]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        assert looks.next()[1].name == "killed"
        process.kill()
    again = Discovery(make(tmp_path, "killed"), interfaces=LOOPBACK)
    again.publish("app", PublishInfo(1, data="back"))
    assert looks.next()[1].data == "back"
    again.close()
    assert looks.next()[0] == "lost"


def test_arguments_and_quotas_are_checked(devices: tuple[Device, Device], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PUBLICATIONS", 1)
    one, _ = devices
    for package in ("", "x" * 65):
        with pytest.raises(ParamValueError):
            one.discovery.publish(package, PublishInfo(1))
    with pytest.raises(ParamValueError):
        one.discovery.publish("app", PublishInfo(1, medium=Medium.BLE))
    one.discovery.publish("app", PublishInfo(1))
    one.discovery.publish("app", PublishInfo(1, data="again"))
    with pytest.raises(QuotaError):
        one.discovery.publish("app", PublishInfo(2))
    one.look(1)
    with pytest.raises(QuotaError):
        one.look(2)
    one.look(2, package="another")


@pytest.mark.slow
@pytest.mark.skipif(not namespaces_work(), reason="network namespaces need root")
@pytest.mark.parametrize(("loss", "delay"), [(0.0, 0.0), (0.05, 0.05)])
def test_two_devices_on_one_network_find_each_other_and_pair_within_seconds(
    tmp_path: Path, loss: float, delay: float
) -> None:
    """Unknown devices find each other within 3 s; with 5 % loss and 100 ms there and back they still pair."""
    lan = Lan(2)
    running: list[subprocess.Popen[str]] = []

    def start(number: int, name: str, role: str) -> subprocess.Popen[str]:
        command = ["ip", "netns", "exec", lan._name(number), sys.executable, "-W", "error"]
        command += ["-m", "tests.softbus.nearby_main", str(tmp_path / name), name, role]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        pipe = subprocess.PIPE
        running.append(subprocess.Popen(command, text=True, cwd=ROOT, env=environment, stdin=pipe, stdout=pipe))
        return running[-1]

    def said(process: subprocess.Popen[str]) -> list[object]:
        assert process.stdout is not None
        words: list[object] = json.loads(process.stdout.readline())
        return words

    try:
        if delay:
            lan.worsen(2, loss=loss, delay=delay)
        offers, joins = start(1, "offers", "offer"), start(2, "joins", "join")
        (_, offering), (_, joining) = said(offers), said(joins)
        assert joins.stdin is not None
        joins.stdin.write("\n")
        joins.stdin.flush()
        _, name, addresses, port, after = said(joins)
        assert (name, addresses) == ("offers", ["10.77.0.1"]) and isinstance(port, int) and port > 0
        assert isinstance(after, float) and (delay or after < 3)
        assert said(joins) == ["paired", offering]
        assert said(offers) == ["paired", joining]
        for process in (joins, offers):
            process.communicate("\n", timeout=20)
            assert process.returncode == 0
    finally:
        for process in running:
            process.kill()
            process.communicate()
        lan.close()
