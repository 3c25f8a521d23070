"""Objects between devices whose cables are pulled, or long and bad, and that lose their power. Needs root.

Each device is a network namespace with a softbus process as the real one, and an app in a process of its own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.softbus import stores
from tests.softbus.devices import Lan, Process, namespaces_work

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not namespaces_work(), reason="needs root and network namespaces"),
]
UNKNOWN = {"CallTimeoutError", "DeadObjectError"}
"""How a call may end that got no reply."""


class House:
    """Two paired devices on one switch; number 1 calls number 2."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        # Paired with clocks that were nearly a year ahead: those of the running devices have been set back since.
        one, two = (stores.make(directory, name, stores.Clock(time.time() + 300 * 86400)) for name in ("one", "two"))
        stores.admit(one, two)
        self.udids = {1: one.udid, 2: two.udid}
        self.lan = Lan(2)

    def start(self, number: int) -> Process:
        name = {1: "one", 2: "two"}[number]
        told = {"directory": str(self._directory / name), "host": self.lan.address(number)}
        return self.lan.run(number, "tests.dbinder.device_main", told)

    def both(self) -> tuple[Process, Process]:
        """Start both; return them when the first one has the diary of the second."""
        one, two = self.start(1), self.start(2)
        one.wait("online", self.udids[2])
        two.wait("online", self.udids[1])
        self.get(one)
        return one, two

    def get(self, one: Process) -> None:
        one.tell(f"get {self.udids[2]}")
        one.wait("got")


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    house = House(tmp_path)
    try:
        yield house
    finally:
        house.lan.close()


def check(one: Process, count: int, *lives: Process) -> Counter[str]:
    """Every call ended and says how; none was executed twice, in all ``lives`` of the other device together.

    Returns how they ended.
    """
    outcomes, ran = one.outcomes(), Counter(name for life in lives for name in life.all("ran"))
    assert len(outcomes) == count
    assert max(ran.values()) == 1, "a call was executed twice"
    for _, name, outcome, _, text in (line for line in one.said if line[0] == "ended"):
        if outcome == "ok":
            assert ran[name] == 1, f"{name} has a reply and was not executed"
            continue
        assert outcome in UNKNOWN, (name, outcome, text)
        if "unknown" not in text:
            assert outcome == "DeadObjectError" and ran[name] == 0, f"{name} was executed: {text}"
            assert "again" in text or "was not executed" in text, text
    return Counter(outcomes.values())


def works(one: Process, two: Process) -> None:
    """Calls, callbacks and what is large come through."""
    one.said.clear()
    one.tell("call 20 0")
    one.wait("done")
    assert Counter(one.outcomes().values()) == Counter(ok=20)
    one.tell("witness bird")
    assert one.wait("ended", "bird")[2] == "ok"
    one.tell("large 3000000")
    assert one.wait("ended", "large-3000000")[2] == "ok"


def nothing_held(*devices: Process) -> None:
    """Nobody holds an object of the other."""
    deadline = time.monotonic() + 20
    for device in devices:
        while True:
            device.tell("held")
            if device.wait("held")[1:] == [0, 0]:
                break
            assert time.monotonic() < deadline, f"still held: {device.said[-1]}"


def test_the_cable_is_pulled_in_the_middle_of_calls_and_plugged_in_again(house: House) -> None:
    one, two = house.both()
    one.tell("call 200 0.05")
    one.wait("ended", "call-20")
    house.lan.unplug(2)
    pulled = time.monotonic()
    one.wait("died")  # the app was told, as of any death
    assert time.monotonic() - pulled < 5
    two.wait("offline", house.udids[1])
    one.tell(f"get {house.udids[2]}")
    assert one.wait("refused")[1] == 108
    house.lan.plug(2)
    one.wait("online", house.udids[2])
    one.wait("done", timeout=40)
    ended = check(one, 200, two)
    assert ended["ok"] >= 20 and ended["DeadObjectError"] > 0
    house.get(one)
    works(one, two)
    one.tell("drop")
    nothing_held(one, two)


def test_the_cable_is_pulled_while_something_large_is_on_its_way(house: House) -> None:
    one, two = house.both()
    one.tell("large 1000")
    one.wait("ended", "large-1000")
    one.tell("large 120000000")
    house.lan.unplug(2)
    _, _, outcome, seconds, text = one.wait("ended", "large-120000000", timeout=40)
    assert outcome not in ("ok", "wrong"), "it came through a cable that was not there"
    assert seconds < 20.5, text
    two.wait("offline", house.udids[1])
    house.lan.plug(2)
    one.wait("online", house.udids[2])
    two.wait("online", house.udids[1])
    house.get(one)
    works(one, two)
    one.tell("drop")
    nothing_held(one, two)


def test_five_percent_loss_and_a_tenth_of_a_second(house: House) -> None:
    house.lan.worsen(2, loss=0.05, delay=0.05)
    one, two = house.both()
    one.tell("call 100 0.03")
    one.wait("done", timeout=60)
    ended = check(one, 100, two)
    assert ended["ok"] >= 98, ended
    took = sorted(line[3] for line in one.said if line[0] == "ended")
    assert 0.1 <= took[len(took) // 2] < 0.4  # the cable is as long as it should be
    assert took[-1] > 0.15  # and as bad: something was lost and sent again
    one.tell("jot 200")
    two.wait("noted", 199, timeout=60)
    assert [line[1] for line in two.said if line[0] == "noted"] == list(range(200))
    for size in (100_000, 1_000_000):  # over the messages' link, and over a stream
        one.tell(f"large {size}")
        assert one.wait("ended", f"large-{size}", timeout=40)[2] == "ok"
    one.tell("witness bird")
    assert one.wait("ended", "bird")[2] == "ok"
    one.tell("drop")
    nothing_held(one, two)


def test_a_device_that_loses_its_power_takes_its_objects_along(house: House) -> None:
    one, two = house.both()
    network_id = next(line for line in one.said if line[0] == "online")[2]
    one.tell("call 100 0.02")
    one.wait("ended", "call-20")
    # No link is closed, and the next life comes before the lease of the first is over.
    house.lan.unplug(2)
    house.lan.stop(two)
    house.lan.plug(2)
    again = house.start(2)
    assert one.wait("online", house.udids[2])[2] != network_id
    one.wait("done", timeout=40)
    ended = check(one, 100, two, again)
    assert ended["ok"] >= 20 and ended["DeadObjectError"] > 0
    assert [line for line in one.said if line[0] == "died"] == [["died"]]
    one.said.clear()
    one.tell("call 3 0")  # the old proxy stays dead
    one.wait("done")
    assert Counter(one.outcomes().values()) == Counter(DeadObjectError=3)
    house.get(one)
    works(one, again)
    one.tell("drop")
    nothing_held(one, again)
