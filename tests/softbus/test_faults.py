"""Devices as network namespaces: cables pulled in the middle of calls, bad cables, reboots. Needs root."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from binderkit.softbus.engine import Kind
from binderkit.softbus.zenoh_config import request_key
from tests.softbus.certificates import Circle, Device
from tests.softbus.devices import Lan, Process, namespaces_work

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(120),
    pytest.mark.skipif(not namespaces_work(), reason="needs root and network namespaces"),
]
UNKNOWN = {"CallTimeoutError", "DeadObjectError"}
"""How a call may end that got no reply."""


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Device, Device]:
    circle = Circle(tmp_path)
    return circle.device(), circle.device()


@pytest.fixture
def lan() -> Iterator[Lan]:
    lan = Lan(2)
    yield lan
    lan.close()


def start(lan: Lan, a: Device, b: Device) -> tuple[Process, Process]:
    one, two = lan.start(1, a, b), lan.start(2, b, a)
    one.wait("online", b.udid)
    two.wait("online", a.udid)
    return one, two


def calls_work(one: Process, b: Device) -> None:
    """Twenty more calls, which all get their replies."""
    one.tell(f"call {b.udid} 20 0")
    one.wait("done")
    assert {one.outcomes()[f"call-{number}"] for number in range(20)} == {"ok"}


def check(one: Process, count: int, *lives: Process) -> Counter[str]:
    """Every call ended and says how, none was executed twice, in all ``lives`` of the other device together.

    Returns how they ended.
    """
    outcomes, ran = one.outcomes(), Counter(name for life in lives for name in life.all("ran"))
    assert len(outcomes) == count
    assert max(ran.values()) == 1, "a call was executed twice"
    for _, name, outcome, _, text in (line for line in one.said if line[0] == "ended"):
        if outcome == "ok":
            assert ran[name] == 1, f"{name} has a reply and was not executed"
        elif "was not executed" in text:
            assert outcome in UNKNOWN and ran[name] == 0, f"{name} was executed: {text}"
        else:
            assert outcome in UNKNOWN and "unknown" in text, (name, outcome, text)
    return Counter(outcomes.values())


def test_trusted_devices_find_each_other_within_a_second(lan: Lan, pair: tuple[Device, Device]) -> None:
    a, b = pair
    one = lan.start(1, a, b)
    two = lan.start(2, b, a)
    begin = time.monotonic()
    one.wait("online", b.udid)
    two.wait("online", a.udid)
    assert time.monotonic() - begin < 1.0


def test_a_device_without_a_cable_loses_our_trust_and_the_others_notice_nothing(tmp_path: Path) -> None:
    """A link that is dead holds up the closing of the session; the other devices must not count as gone meanwhile."""
    circle, lan = Circle(tmp_path), Lan(3)
    a, b, c = (circle.device() for _ in range(3))
    try:
        one, two, three = lan.start(1, a, b, c), lan.start(2, b, a), lan.start(3, c, a)
        one.wait("online", b.udid)
        one.wait("online", c.udid)
        two.wait("online", a.udid)
        three.wait("online", a.udid)
        lan.unplug(2)
        one.tell(f"send {b.udid} 200")
        one.tell(f"trust {c.udid}")
        assert one.wait("trusts")[1] < 5
        one.tell(f"call {c.udid} 20 0")
        one.wait("done")
        assert set(one.outcomes().values()) == {"ok"}, one.said
        assert c.udid not in one.all("offline")
        assert a.udid not in three.all("offline")
    finally:
        lan.close()


def test_the_cable_is_pulled_in_the_middle_of_calls_and_plugged_in_again(lan: Lan, pair: tuple[Device, Device]) -> None:
    a, b = pair
    one, two = start(lan, a, b)
    one.tell(f"call {b.udid} 200 0.05")
    one.wait("ended", "call-20")
    lan.unplug(2)
    pulled = time.monotonic()
    one.wait("offline", b.udid)
    assert time.monotonic() - pulled < 5
    two.wait("offline", a.udid)
    lan.plug(2)
    one.wait("online", b.udid)
    one.wait("done", timeout=40)
    ended = check(one, 200, two)
    assert ended["ok"] >= 20 and sum(ended[name] for name in UNKNOWN) > 0
    calls_work(one, b)


def test_a_short_outage_is_not_an_event_and_loses_no_call(lan: Lan, pair: tuple[Device, Device]) -> None:
    a, b = pair
    one, two = start(lan, a, b)
    one.tell(f"call {b.udid} 80 0.05")
    one.wait("ended", "call-20")
    lan.unplug(2)
    time.sleep(0.8)  # the length of the outage, not synchronisation
    lan.plug(2)
    one.wait("done", timeout=40)
    assert check(one, 80, two) == Counter(ok=80)
    assert not one.all("offline") and not two.all("offline")


def test_five_percent_loss_and_a_tenth_of_a_second(lan: Lan, pair: tuple[Device, Device]) -> None:
    a, b = pair
    lan.worsen(2, loss=0.05, delay=0.05)
    one, two = start(lan, a, b)
    one.tell(f"call {b.udid} 150 0.03")
    one.wait("done", timeout=60)
    ended = check(one, 150, two)
    assert ended["ok"] >= 148, ended
    took = sorted(line[3] for line in one.said if line[0] == "ended")
    assert 0.1 <= took[len(took) // 2] < 0.3  # the cable is as long as it should be
    assert took[-1] > 0.15  # and as bad: something was lost and sent again
    one.tell(f"send {b.udid} 200")
    two.wait("sent", "199", timeout=60)
    assert two.all("sent") == [str(number) for number in range(200)]


def test_a_device_that_is_rebooted_is_another_life(lan: Lan, pair: tuple[Device, Device]) -> None:
    a, b = pair
    one, two = start(lan, a, b)
    _, _, boot, network_id = next(line for line in one.said if line[0] == "online")
    one.tell(f"call {b.udid} 100 0.02")
    one.wait("ended", "call-20")
    # As a loss of power: no link is closed, and the next life comes before the lease of the first is over.
    lan.unplug(2)
    lan.stop(two)
    lan.plug(2)
    again = lan.start(2, b, a)
    _, _, new_boot, new_network_id = one.wait("online", b.udid)
    assert new_boot != boot and new_network_id != network_id
    one.wait("done", timeout=40)
    assert check(one, 100, two, again)["ok"] >= 20


def test_a_softbus_that_is_killed_and_restarted(lan: Lan, pair: tuple[Device, Device]) -> None:
    a, b = pair
    one, two = start(lan, a, b)
    _, _, boot, _ = next(line for line in one.said if line[0] == "online")
    one.tell(f"call {b.udid} 100 0.02")
    one.wait("ended", "call-20")
    lan.stop(two)
    killed = time.monotonic()
    one.wait("offline", b.udid)
    assert time.monotonic() - killed < 1  # the kernel closes its links: no lease has to run out
    again = lan.start(2, b, a)
    assert one.wait("online", b.udid)[2] != boot
    one.wait("done", timeout=40)
    assert check(one, 100, two, again)["ok"] >= 20
    calls_work(one, b)


def test_a_device_that_hangs_is_gone_within_five_seconds_and_comes_back(lan: Lan, pair: tuple[Device, Device]) -> None:
    a, b = pair
    one, two = start(lan, a, b)
    one.tell(f"call {b.udid} 200 0.05")
    one.wait("ended", "call-20")
    two.freeze()
    frozen = time.monotonic()
    one.wait("offline", b.udid)
    assert time.monotonic() - frozen < 5
    two.thaw()
    one.wait("online", b.udid)
    one.wait("done", timeout=40)
    ended = check(one, 200, two)
    assert ended["ok"] >= 20 and sum(ended[name] for name in UNKNOWN) > 0
    calls_work(one, b)


# --- hostile devices on the same network ------------------------------------------------------------------


@pytest.fixture
def three() -> Iterator[Lan]:
    lan = Lan(3)
    yield lan
    lan.close()


def connected(hostile: Process, least: int) -> None:
    """Return when a hostile device has links to so many others: its requests have a way now."""
    deadline = time.monotonic() + 20
    while True:
        hostile.tell("links")
        if hostile.wait("links")[1] >= least:
            return
        assert time.monotonic() < deadline, "the hostile device never got a link"


def answers(hostile: Process, *keys: str) -> list[int]:
    """Return how many replies each of its requests got."""
    got = []
    for key in keys:
        hostile.tell(f"ask {key}")
        got.append(hostile.wait("asked")[1])
    return got


def attempts(victim: Device, *names: Device | str) -> list[str]:
    """Return requests of every kind to a device, under these names."""
    udids = [name if isinstance(name, str) else name.udid for name in names]
    return [request_key(victim.udid, udid, kind, 1) for udid in udids for kind in Kind]


def unharmed(one: Process, two: Process, b: Device) -> None:
    """Nobody but ``b`` got a request through, and calls work as before."""
    one.tell(f"call {b.udid} 20 0")
    one.wait("done")
    assert check(one, 20, two) == Counter(ok=20)
    assert set(one.all("incoming")) <= {b.udid}
    assert not one.all("ran") and not one.all("sent")
    assert set(one.all("online")) == {b.udid} and not one.all("offline")


def test_an_unpaired_device_reaches_no_handler(three: Lan, tmp_path: Path) -> None:
    """Its certificate is of the circle, so it gets a link; nobody trusts it, so it gets nothing else."""
    circle = Circle(tmp_path)
    a, b, stranger = (circle.device() for _ in range(3))
    one, two = start(three, a, b)
    hostile = three.start(3, stranger, a, b, program="hostile_main")
    connected(hostile, 2)
    hostile.tell(f"live {stranger.udid}")
    hostile.wait("announced")
    assert not any(answers(hostile, *attempts(a, stranger, b, a, "*"), f"sb/rpc/{a.udid}/**"))
    unharmed(one, two, b)


@pytest.mark.parametrize("knows_the_circle", [True, False])
def test_a_device_of_another_circle_gets_no_link(three: Lan, tmp_path: Path, knows_the_circle: bool) -> None:
    """It even has the UDID of a trusted device, and may accept the certificates of those it attacks."""
    circle = Circle(tmp_path)
    a, b = circle.device(), circle.device()
    (tmp_path / "rogue").mkdir()
    rogue = Circle(tmp_path / "rogue").device(b.udid)
    if knows_the_circle:
        rogue = replace(rogue, ca_pem=circle.ca_pem)
    hostile = three.start(3, rogue, a, program="hostile_main")
    one, two = start(three, a, b)  # two who are welcome found each other: so did the rogue, which was there before
    assert not any(answers(hostile, *attempts(a, b, a)))
    hostile.tell("links")
    assert hostile.wait("links")[1] == 0
    unharmed(one, two, b)


def test_a_trusted_device_that_claims_to_be_another_reaches_no_handler(three: Lan, tmp_path: Path) -> None:
    circle = Circle(tmp_path)
    a, b, evil = (circle.device() for _ in range(3))
    one, two = three.start(1, a, b, evil), three.start(2, b, a)
    one.wait("online", b.udid)
    two.wait("online", a.udid)
    hostile = three.start(3, evil, a, b, program="hostile_main")
    connected(hostile, 1)
    deadline = time.monotonic() + 20
    while evil.udid not in one.all("incoming"):  # under its own name it is heard: that is what it is trusted for
        answers(hostile, *attempts(a, evil)[:1])
        assert time.monotonic() < deadline, "the hostile device never got through with its own name"
    hostile.tell(f"live {b.udid}")
    hostile.wait("announced")
    assert not any(answers(hostile, *attempts(a, b, a, "*"), f"sb/rpc/{a.udid}/**"))
    # Its own name may still come in, late: what it asked before.
    assert set(one.all("incoming")) == {evil.udid}
    one.tell(f"call {b.udid} 20 0")
    one.wait("done")
    assert check(one, 20, two) == Counter(ok=20)
    assert not one.all("ran") and Counter(one.all("online"))[b.udid] == 1
