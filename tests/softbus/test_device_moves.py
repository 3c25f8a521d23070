"""A device whose addresses change, in network namespaces: Wi-Fi that comes, a new lease, no network for a while."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.softbus import stores
from tests.softbus.devices import Lan, Process, ip, namespaces_work

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not namespaces_work(), reason="needs root and network namespaces"),
]
FIRST, NEXT, LAST = (f"10.77.0.{number}" for number in (2, 22, 32))


class Two:
    """One device that stays where it is, and one that moves; they trust each other."""

    def __init__(self, lan: Lan, directory: Path) -> None:
        self._lan = lan
        still, moving = stores.make(directory, "still", time.time), stores.make(directory, "moving", time.time)
        stores.admit(still, moving)
        self.still_udid, self.udid = still.udid, moving.udid
        self.still, self.moving = (
            lan.run(number, "tests.softbus.moving_main", {"directory": str(store.directory), "settings": {}})
            for number, store in ((1, still), (2, moving))
        )
        self.boot = self.still.wait("online", self.udid)[2]
        self.moving.wait("online", self.still_udid)

    def gets(self, address: str) -> None:
        """Give the moving device an address (more), and the route that comes with it."""
        name = self._lan._name(2)
        ip("-n", name, "addr", "add", f"{address}/24", "dev", "eth0")
        ip("-n", name, "route", "replace", "default", "dev", "eth0")

    def loses_all(self) -> None:
        """Take its addresses away."""
        ip("-n", self._lan._name(2), "addr", "flush", "dev", "eth0")

    def listens_at(self, *addresses: str) -> None:
        """Wait until the moving device uses these."""
        self._until("hosts", *addresses)

    def is_back(self) -> None:
        """Wait until the moving device sees the other one, whether or not it ever missed it."""
        self._until("devices", self.still_udid)

    def _until(self, question: str, *answer: str) -> None:
        deadline = time.monotonic() + 20
        while True:
            self.moving.tell(question)
            if tuple(self.moving.wait(question)[1:]) == answer:
                return
            assert time.monotonic() < deadline, self.moving.said[-1]
            time.sleep(0.05)  # between two looks

    def talk(self, *addresses: str) -> None:
        """Calls and streams arrive in both directions, streams at one of these addresses."""
        for process, udid in ((self.still, self.udid), (self.moving, self.still_udid)):
            process.tell(f"call {udid} 0")
            assert process.wait("called") == ["called", "done"]
            process.tell(f"stream {udid}")
            where = process.wait("streamed")[1]
            assert where in (addresses if udid == self.udid else ("10.77.0.1",)), where


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    lan = Lan(2)
    try:
        yield Two(lan, tmp_path)
    finally:
        lan.close()


def began(process: Process, source: str) -> None:
    assert process.wait("began")[1] == source


def test_another_address_is_used_and_a_call_under_way_ends_well(two: Two) -> None:
    two.talk(FIRST)
    two.still.tell(f"call {two.udid} 4")
    began(two.moving, two.still_udid)
    two.gets(NEXT)
    two.listens_at(FIRST, NEXT)
    assert two.still.wait("called") == ["called", "done"]
    two.moving.all("")
    assert [line for line in two.moving.said if line[0] == "began"][1:] == [["began", two.still_udid]], "executed twice"
    two.talk(FIRST, NEXT)
    assert two.still.all("offline") == [], "it never left"


def test_a_new_address_in_place_of_the_old_one(two: Two) -> None:
    two.talk(FIRST)
    two.loses_all()
    two.gets(NEXT)
    two.listens_at(NEXT)
    two.is_back()
    two.talk(NEXT)


def test_no_address_for_a_while(two: Two) -> None:
    two.loses_all()
    two.still.wait("offline", two.udid)
    two.gets(LAST)
    two.listens_at(LAST)
    # Still the same life of the device: what others were told of it, they need not be told again.
    assert two.still.wait("online", two.udid)[2] == two.boot
    two.is_back()
    two.talk(LAST)


def test_the_same_address_comes_back(two: Two) -> None:
    two.loses_all()
    two.still.wait("offline", two.udid)
    two.gets(FIRST)
    two.still.wait("online", two.udid)
    two.is_back()
    two.talk(FIRST)
