"""From tokens to events."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from binderkit.softbus.engine import DeviceInfo, Presence, PresenceEvent
from binderkit.softbus.presence import PresenceTable

ONLINE, OFFLINE, CHANGED = PresenceEvent.ONLINE, PresenceEvent.OFFLINE, PresenceEvent.CHANGED
B = DeviceInfo("b" * 64, "net", "1" * 16, "tv", "linux")


def kinds(events: list[Presence]) -> list[PresenceEvent]:
    return [event.event for event in events]


def test_a_device_comes_and_goes() -> None:
    table = PresenceTable(debounce=0.3, grace=3.0)
    assert table.put("t1", B) == [Presence(ONLINE, B)]
    assert table.put("t1", B) == []
    assert dict(table.devices) == {B.udid: B}
    assert table.delete("t1", B.udid, 10.0) == []
    assert table.next_deadline() == 10.3
    assert table.due(10.2) == [] and B.udid in table.devices
    assert table.due(10.3) == [Presence(OFFLINE, B)]
    assert not table.devices and table.next_deadline() is None


def test_a_session_opened_anew_is_no_event() -> None:
    table = PresenceTable(debounce=0.3, grace=3.0)
    table.put("t1", B)
    table.delete("t1", B.udid, 10.0)
    assert table.put("t2", B) == []
    # The end of the old session may be seen after the beginning of the new one.
    assert table.put("t3", B) == [] and table.delete("t2", B.udid, 11.0) == []
    assert table.next_deadline() is None and table.due(99.0) == []


def test_a_device_that_said_it_would_be_back_has_more_time() -> None:
    table = PresenceTable(debounce=0.3, grace=3.0)
    table.put("t1", B)
    table.back_soon(B.udid)
    table.delete("t1", B.udid, 10.0)
    assert table.due(12.9) == [] and kinds(table.due(13.0)) == [OFFLINE]
    table.back_soon(B.udid)  # of nobody: nothing
    table.put("t2", B)
    table.delete("t2", B.udid, 20.0)
    assert kinds(table.due(20.3)) == [OFFLINE]


def test_another_boot_ends_the_earlier_life_at_once() -> None:
    table = PresenceTable()
    table.put("t1", B)
    again = replace(B, boot="2" * 16, network_id="net2")
    assert table.put("t2", again) == [Presence(OFFLINE, B), Presence(ONLINE, again)]
    # The token of the earlier life goes when its lease ends, perhaps while the present one opens its session anew.
    table.delete("t2", B.udid, 10.0)
    assert table.delete("t1", B.udid, 10.1) == []
    assert dict(table.devices) == {B.udid: again}
    assert table.put("t3", again) == []


def test_another_name_is_a_change() -> None:
    table = PresenceTable()
    table.put("t1", B)
    named = replace(B, name="kitchen")
    assert table.put("t2", named) == [Presence(CHANGED, named)]
    assert table.delete("t1", B.udid, 1.0) == []
    assert table.devices[B.udid].name == "kitchen"


def test_who_is_no_longer_trusted_is_gone_at_once() -> None:
    table = PresenceTable()
    table.put("t1", B)
    assert table.restrict(frozenset((B.udid,))) == []
    assert table.restrict(frozenset()) == [Presence(OFFLINE, B)]
    assert not table.devices and table.delete("t1", B.udid, 1.0) == []


def test_our_own_session_opened_anew_gives_everybody_time() -> None:
    table = PresenceTable(debounce=0.3, grace=3.0)
    table.put("t1", B)
    table.lose_all(10.0)
    assert B.udid in table.devices
    assert table.put("t1", B) == [] and table.next_deadline() is None
    table.lose_all(20.0)
    assert kinds(table.due(23.0)) == [OFFLINE]


def test_a_device_cannot_make_us_keep_many_tokens() -> None:
    table = PresenceTable()
    for number in range(1000):
        table.put(f"t{number}", B)
    assert len(table._nodes[B.udid].tokens) <= 8


tokens = st.sampled_from(("t1", "t2", "t3"))
infos = st.sampled_from((B, replace(B, boot="2" * 16), replace(B, name="x")))
steps = st.one_of(st.tuples(st.just("put"), tokens, infos), st.tuples(st.just("delete"), tokens, infos), st.just("due"))


@given(st.lists(steps))
def test_events_alternate_and_agree_with_the_list(script: list[tuple[str, str, DeviceInfo] | str]) -> None:
    table = PresenceTable(debounce=1.0)
    there: DeviceInfo | None = None
    for now, step in enumerate(script):
        if isinstance(step, str):
            events = table.due(float(now))
        elif step[0] == "put":
            events = table.put(step[1], step[2])
        else:
            events = table.delete(step[1], B.udid, float(now))
        for event in events:
            assert (event.event is ONLINE) == (there is None)
            there = None if event.event is OFFLINE else event.device
        assert table.devices.get(B.udid) == there
