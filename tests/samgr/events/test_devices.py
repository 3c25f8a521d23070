"""samgr/events/devices.py: on for each, off for the last."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from binderkit.samgr.events.devices import DeviceEvents
from binderkit.samgr.reason import ReasonId
from tests.samgr.events.doubles import Posted


def values(posted: Posted) -> list[tuple[str, str]]:
    assert all((event.id, event.name) == (ReasonId.DEVICE_ONLINE, "deviceonline") for event in posted)
    return [(event.value, event.extra["deviceId"]) for event in posted]


def test_devices_come_and_go() -> None:
    devices, posted = DeviceEvents(), Posted()
    devices.device_online("before")
    devices.start(posted)
    devices.device_online("a")
    devices.device_online("a")
    devices.device_offline("before")
    devices.device_offline("unknown")
    devices.device_offline("a")
    devices.close()
    devices.device_online("after")
    assert values(posted) == [("on", "before"), ("on", "a"), ("off", "a")]


@given(st.lists(st.tuples(st.booleans(), st.sampled_from("abc"))))
def test_off_comes_exactly_when_nobody_is_left(steps: list[tuple[bool, str]]) -> None:
    devices, posted, there = DeviceEvents(), Posted(), set[str]()
    devices.start(posted)
    expected = []
    for joins, name in steps:
        if joins:
            devices.device_online(name)
            expected += [] if name in there else [("on", name)]
            there.add(name)
        else:
            devices.device_offline(name)
            expected += [("off", name)] if there == {name} else []
            there.discard(name)
    assert values(posted) == expected
