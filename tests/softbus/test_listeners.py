"""Callback objects of programs."""

from __future__ import annotations

import threading

import pytest

from binderkit.driver.loopback import LoopbackNetwork
from binderkit.errors import DeadObjectError, QuotaError
from binderkit.interface import proxy
from binderkit.ipc.remote import RemoteObject
from binderkit.softbus import listeners
from binderkit.softbus.contracts import DeviceDescription, IDeviceWatcher
from binderkit.softbus.listeners import Listeners, tell

DEVICE = DeviceDescription("0" * 64, "", "kitchen", "tv", False, False, 0)


class Watcher(IDeviceWatcher):
    def __init__(self) -> None:
        self.heard: list[str] = []

    def device_changed(self, event: str, device: DeviceDescription) -> None:
        self.heard.append(event)


def test_each_is_told_once_until_it_is_removed() -> None:
    known: Listeners[IDeviceWatcher] = Listeners()
    one, two = Watcher(), Watcher()
    for watcher in (one, one, two):
        known.add(watcher)
    known.tell(lambda watcher: watcher.device_changed("online", DEVICE))
    assert known.remove(one) is True
    assert known.remove(one) is False
    known.tell(lambda watcher: watcher.device_changed("offline", DEVICE))
    known.clear()
    known.tell(lambda watcher: watcher.device_changed("changed", DEVICE))
    assert (one.heard, two.heard) == (["online"], ["online", "offline"])


def test_there_is_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listeners, "MOST", 1)
    known: Listeners[IDeviceWatcher] = Listeners()
    first = Watcher()
    known.add(first)
    with pytest.raises(QuotaError):
        known.add(Watcher())
    known.add(first)


def test_one_whose_program_ends_goes_and_its_keeper_hears_of_it() -> None:
    network = LoopbackNetwork()
    softbus, program = network.process(), network.process()
    gone: list[IDeviceWatcher] = []
    heard = threading.Event()

    def on_gone(watcher: IDeviceWatcher) -> None:
        gone.append(watcher)
        heard.set()

    known: Listeners[IDeviceWatcher] = Listeners(on_gone)
    try:
        watcher = Watcher()
        stub = watcher.as_object()
        assert isinstance(stub, RemoteObject)
        seen = proxy(IDeviceWatcher, program.offer(stub, softbus))
        known.add(seen)
        program.kill()
        assert heard.wait(10)
        assert gone == [seen]
        assert known.remove(seen) is False
    finally:
        network.close()


def test_one_that_cannot_be_told_is_passed_over() -> None:
    def dead() -> None:
        raise DeadObjectError("gone")

    def full() -> None:
        raise QuotaError("no room")

    tell(dead)
    tell(full)
