"""cli/demo/watching.py: what the program on the desk is told."""

from __future__ import annotations

from binderkit.cli.demo.watching import Finder, Watcher
from binderkit.softbus.contracts import DeviceDescription, NearbyDevice

UDID = "ab" * 32


def test_the_watcher_knows_when_something_happened_to_a_device() -> None:
    watcher = Watcher()
    device = DeviceDescription(UDID, "", "kitchen", "linux", True, False, 0)
    assert watcher.wait_for("online", UDID, 0) == 0.0
    watcher.device_changed("online", device)
    watcher.device_changed("offline", device)
    online, offline = watcher.wait_for("online", UDID, 0), watcher.wait_for("offline", UDID, 0)
    assert 0 < online <= offline
    assert watcher.wait_for("offline", "cd" * 32, 0) == 0.0
    watcher.forget()
    assert watcher.wait_for("online", UDID, 0) == 0.0


def test_the_finder_takes_the_device_that_offers_pairing_at_the_port() -> None:
    finder = Finder(4321)
    for port in (0, 1234):
        finder.found(1, NearbyDevice("aa", "kitchen", "linux", 64, "", ["127.0.0.1"], port, False))
    assert finder.wait(0) is None
    right = NearbyDevice("bb", "kitchen", "linux", 64, "", ["127.0.0.1"], 4321, False)
    finder.found(1, right)
    finder.lost(1, right)
    assert finder.wait(0) == right
