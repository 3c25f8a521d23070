"""contracts.py: the numbers on the wire stay, softbus waits for no program, a client needs none of its packages."""

from __future__ import annotations

import subprocess
import sys

import pytest

from binderkit.interface import Interface, proxy
from binderkit.softbus.contracts import (
    DeviceDescription,
    IDeviceWatcher,
    IFinder,
    IPairingWatcher,
    ISoftBus,
    NearbyDevice,
)

SOFTBUS = (
    "own_device set_name trusted_devices watch unwatch publish stop_publish refresh stop_refresh offer_pairing "
    "withdraw_offer pair unpair revoke leave sessions"
)


@pytest.mark.parametrize(
    ("interface", "methods"),
    [
        (ISoftBus, SOFTBUS),
        (IDeviceWatcher, "device_changed"),
        (IFinder, "found lost"),
        (IPairingWatcher, "paired ended"),
    ],
)
def test_methods_keep_their_numbers(interface: type[Interface], methods: str) -> None:
    found = {method.code: name for name, method in interface.__contract__.methods.items()}
    assert found == dict(enumerate(methods.split(), start=1))


@pytest.mark.parametrize("interface", [IDeviceWatcher, IFinder, IPairingWatcher])
def test_what_programs_are_told_is_one_way(interface: type[Interface]) -> None:
    assert all(method.oneway for method in interface.__contract__.methods.values())


def test_nothing_that_is_asked_is_one_way() -> None:
    assert not any(method.oneway for method in ISoftBus.__contract__.methods.values())


def test_descriptions_arrive_as_they_were() -> None:
    device = DeviceDescription("0" * 64, "ab", "kitchen", "tv", True, False, 2**40, 2**41)
    near = NearbyDevice("0" * 32, "kitchen", "tv", 2**62, "data", ["10.0.0.1", "fe80::1"], 65535, True)
    heard: list[object] = []

    class Watcher(IDeviceWatcher):
        def device_changed(self, event: str, device: DeviceDescription) -> None:
            heard.append((event, device))

    class Finder(IFinder):
        def found(self, number: int, device: NearbyDevice) -> None:
            heard.append((number, device))

        def lost(self, number: int, device: NearbyDevice) -> None:
            heard.append((-number, device))

    proxy(IDeviceWatcher, Watcher().as_object()).device_changed("online", device)
    finder = proxy(IFinder, Finder().as_object())
    finder.found(1, near)
    finder.lost(1, near)
    assert heard == [("online", device), (1, near), (-1, near)]


def test_a_client_needs_none_of_the_packages_of_softbus() -> None:
    code = (
        "import sys, binderkit.softbus.contracts, binderkit.softbus.settings\n"
        "print(sorted({'zenoh', 'cryptography', 'zeroconf', 'ifaddr', 'spake2', 'msgspec'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
