"""lanes.py and lane.py: calls over streams, beside a simulated network: the quick way, and what when it ends."""

from __future__ import annotations

import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from binderkit import limits
from binderkit.errors import CallTimeoutError, DeadObjectError, QuotaError, RemoteError
from binderkit.softbus.bulk_port import Purpose
from binderkit.softbus.bulk_stream import Stream
from binderkit.softbus.calls import Calls, Request
from binderkit.softbus.engine import Kind
from binderkit.softbus.lanes import LaneEngine
from binderkit.softbus.memory import MemoryEngine, Network
from tests.softbus.ports import Devices, Side, devices

WAIT = 10.0
WAITS = b"wait"
Answering = Callable[[Request], bytes]


def until(true: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + WAIT
    while not true():
        assert time.monotonic() < deadline, f"never: {what}"
        time.sleep(0.002)  # the interval between two looks


class Gated:
    """Answers with what it is sent; what is sent as WAITS is answered when the gate is opened."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.begun = threading.Event()
        self.done = threading.Event()
        self.executed: Counter[bytes] = Counter()

    def __call__(self, request: Request) -> bytes:
        self.executed[request.payload] += 1
        if request.payload == WAITS:
            self.begun.set()
            assert self.gate.wait(WAIT)
            self.done.set()
        return request.payload


class CountedEngine(MemoryEngine):
    """Counts the calls that do not go over a lane."""

    calls = 0

    def request(
        self, udid: str, kind: Kind, target: int, header: bytes, payload: bytes, timeout: float, patience: float = 0.0
    ) -> bytes:
        self.calls += kind is Kind.CALL
        return super().request(udid, kind, target, header, payload, timeout, patience)


class Device:
    """A device with lanes."""

    def __init__(self, network: Network, side: Side, handler: Answering | None) -> None:
        self.side = side
        self.udid = side.udid
        self.executed: Counter[bytes] = Counter()
        self.below = CountedEngine(network, side.udid, side.udid[:8], "linux")
        self.engine = LaneEngine(self.below, side.port)
        self.calls = Calls(self.engine)
        self.calls.serve(handler or self._echo)
        side.port.start()

    def _echo(self, request: Request) -> bytes:
        self.executed[request.payload] += 1
        return request.payload

    def lanes(self, other: Device) -> int:
        """Return how many lanes there are to another device."""
        found = self.engine._lanes.get(other.udid)
        return 0 if found is None else len(found.all)

    def open_lane(self, other: Device) -> None:
        """Call until there is a lane."""

        def there() -> bool:
            self.calls.call(other.udid, 1, b"first", timeout=WAIT)
            return self.lanes(other) > 0

        until(there, "a lane")


class World:
    def __init__(self, made: Devices) -> None:
        self.network = Network(seed=1)
        self.made = made
        self.devices: list[Device] = []

    def pair(self, handler: Answering | None = None) -> tuple[Device, Device]:
        """Return two devices that trust each other; the second one answers with ``handler``."""
        one, two = self.made.pair(start=False)
        self.devices += [Device(self.network, one, None), Device(self.network, two, handler)]
        for side, device in zip((one, two), self.devices, strict=True):
            device.below.set_trust(side.device.trust(one.device, two.device))
        first, second = self.devices
        until(lambda: second.udid in first.engine.devices(), "they see each other")
        return first, second

    def close(self) -> None:
        for device in self.devices:
            device.calls.close()
        self.network.close()


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with devices(tmp_path) as made:
        world = World(made)
        try:
            yield world
        finally:
            world.close()


def test_the_first_call_opens_a_lane_and_the_next_go_over_it(world: World) -> None:
    one, two = world.pair()
    one.open_lane(two)
    before = one.below.calls
    for number in range(20):
        assert one.calls.call(two.udid, 7, b"%d" % number) == b"%d" % number
    assert one.below.calls == before
    assert one.lanes(two) == 1, "one at a time needs no second"


@pytest.mark.parametrize("size", [0, 1, 16 * 1024 - 60, 16 * 1024, 100_000, limits.RPC_PAYLOAD - 1])
def test_every_size_travels(world: World, size: int) -> None:
    one, two = world.pair()
    one.open_lane(two)
    before, data = one.below.calls, bytes(range(256)) * (size // 256 + 1)
    assert one.calls.call(two.udid, 1, data[:size], timeout=WAIT) == data[:size]
    assert one.below.calls == before


def test_who_calls_is_who_the_certificate_says(world: World) -> None:
    seen: list[Request] = []

    def handler(request: Request) -> bytes:
        seen.append(request)
        return b""

    one, two = world.pair(handler)
    one.open_lane(two)
    one.calls.call(two.udid, 0x1234, b"x")
    assert (seen[-1].source, seen[-1].target, seen[-1].oneway) == (one.udid, 0x1234, False)


def test_calls_at_once_get_lanes_of_their_own(world: World) -> None:
    handler = Gated()
    one, two = world.pair(handler)
    one.open_lane(two)
    with ThreadPoolExecutor(limits.RPC_LANES + 8) as pool:
        waiting = [pool.submit(one.calls.call, two.udid, 1, WAITS, timeout=30) for _ in range(limits.RPC_LANES + 8)]
        until(lambda: one.lanes(two) == limits.RPC_LANES, "as many as there may be")
        handler.gate.set()
        assert [call.result() for call in waiting] == [WAITS] * len(waiting)
    assert one.lanes(two) <= limits.RPC_LANES


def test_what_the_handler_raises_comes_back_and_the_lane_stays(world: World) -> None:
    def handler(request: Request) -> bytes:
        if request.payload == b"bad":
            raise KeyError("no such picture")
        return b""

    one, two = world.pair(handler)
    one.open_lane(two)
    with pytest.raises(RemoteError, match="no such picture"):
        one.calls.call(two.udid, 1, b"bad")
    before = one.below.calls
    one.calls.call(two.udid, 1, b"good")
    assert one.below.calls == before


def test_a_call_that_waits_longer_than_a_slice_keeps_its_lane(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "RPC_FIRST_SLICE", 0.02)
    handler = Gated()
    one, two = world.pair(handler)
    one.open_lane(two)
    before = one.below.calls
    with ThreadPoolExecutor(1) as pool:
        slow = pool.submit(one.calls.call, two.udid, 1, WAITS, timeout=WAIT)
        with pytest.raises(TimeoutError):
            slow.result(timeout=0.2)
        handler.gate.set()
        assert slow.result() == WAITS
    assert one.below.calls == before


def test_a_call_given_up_takes_its_lane_with_it(world: World) -> None:
    """Its answer, which comes late, must not pass for that of the next call."""
    handler = Gated()
    one, two = world.pair(handler)
    one.open_lane(two)
    with pytest.raises(CallTimeoutError, match="the outcome is unknown"):
        one.calls.call(two.udid, 1, WAITS, timeout=0.05)
    assert one.lanes(two) == 0
    handler.gate.set()
    for number in range(10):
        assert one.calls.call(two.udid, 1, b"%d" % number) == b"%d" % number


def test_a_lane_that_breaks_in_the_middle_costs_no_second_execution(world: World) -> None:
    handler = Gated()
    one, two = world.pair(handler)
    one.open_lane(two)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(one.calls.call, two.udid, 1, WAITS, timeout=30)
        assert handler.begun.wait(WAIT)
        for stream in list(two.engine._served):
            stream.abort("says the test")
        until(lambda: one.below.calls > 1, "it is asked again, through the engine")
        handler.gate.set()
        assert call.result() == WAITS
    assert handler.executed[WAITS] == 1


def test_a_device_that_leaves_ends_the_calls_on_its_lanes(world: World) -> None:
    handler = Gated()
    one, two = world.pair(handler)
    one.open_lane(two)
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(one.calls.call, two.udid, 1, WAITS, timeout=30)
        assert handler.begun.wait(WAIT)
        world.network.cut(one.udid)
        with pytest.raises(DeadObjectError, match="the outcome is unknown"):
            call.result(WAIT)
        handler.gate.set()
    assert one.lanes(two) == 0
    world.network.heal(one.udid)
    until(lambda: two.udid in one.engine.devices(), "it is back")
    one.open_lane(two)


def test_a_device_that_is_no_longer_trusted_loses_its_lanes(world: World) -> None:
    one, two = world.pair()
    one.open_lane(two)
    two.side.port.set_trust(two.side.device.trust())
    two.below.set_trust(two.side.device.trust())
    until(lambda: not two.engine._served, "they are ended")
    executed = two.executed.total()
    with pytest.raises((DeadObjectError, CallTimeoutError)):
        one.calls.call(two.udid, 1, b"let me in", timeout=0.3)
    assert two.executed.total() == executed and two.executed[b"let me in"] == 0


def test_one_that_cannot_be_opened_is_not_tried_at_every_call(world: World) -> None:
    one, two = world.pair()
    world.made.where[two.udid] = ()
    dials: list[str] = []
    dial = one.side.port.dial

    def counted(udid: str, purpose: Purpose, *, timeout: float) -> Stream:
        dials.append(udid)
        return dial(udid, purpose, timeout=timeout)

    one.side.port.dial = counted  # type: ignore[method-assign]
    for number in range(50):
        assert one.calls.call(two.udid, 1, b"%d" % number) == b"%d" % number
    assert len(dials) <= 2
    assert one.below.calls == 50


def test_a_lane_that_opens_when_its_device_was_away_meanwhile_is_dropped(world: World) -> None:
    """It counts with those of the device's last visit, which are gone."""
    one, two = world.pair()
    gate, dialling = threading.Event(), threading.Event()
    dial = one.side.port.dial
    opened: list[Stream] = []

    def late(udid: str, purpose: Purpose, *, timeout: float) -> Stream:
        dialling.set()
        assert gate.wait(WAIT)
        opened.append(dial(udid, purpose, timeout=timeout))
        return opened[-1]

    one.side.port.dial = late  # type: ignore[method-assign]
    one.calls.call(two.udid, 1, b"x")
    assert dialling.wait(WAIT)
    world.network.cut(one.udid)
    until(lambda: two.udid not in one.engine.devices() and two.udid not in one.engine._lanes, "it is away")
    world.network.heal(one.udid)
    until(lambda: two.udid in one.engine.devices(), "it is back")
    one.calls.call(two.udid, 1, b"y")
    gate.set()
    until(lambda: len(opened) == 2 and opened[0].ended, "the first one is closed")
    until(lambda: one.lanes(two) == 1, "the second one is used")
    assert one.engine._lanes[two.udid].opening == 0


def test_no_room_is_told_as_through_the_engine(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = world.pair()
    one.open_lane(two)
    monkeypatch.setattr(two.engine, "_handler", lambda incoming: incoming.busy())
    for stream in list(two.engine._served):
        stream.abort("so that the next lane has the other handler")
    until(lambda: not two.engine._served, "the lanes are gone")

    def refused() -> bool:
        try:
            one.calls.call(two.udid, 1, b"x", timeout=1)
        except QuotaError as error:
            assert "was not executed" in str(error)
            return True
        return False

    until(refused, "a lane that says there is no room")


def test_closing_waits_for_what_is_executed_and_leaves_nothing(world: World) -> None:
    handler = Gated()
    one, two = world.pair(handler)
    one.open_lane(two)
    with ThreadPoolExecutor(2) as pool:
        call = pool.submit(one.calls.call, two.udid, 1, WAITS, timeout=30)
        assert handler.begun.wait(WAIT)
        closing = pool.submit(two.calls.close)
        with pytest.raises(TimeoutError):
            closing.result(timeout=0.1)
        handler.gate.set()
        closing.result(timeout=WAIT)
        assert handler.done.is_set()
        with pytest.raises((DeadObjectError, CallTimeoutError)):
            call.result(WAIT)


# --- hostile bytes ---------------------------------------------------------------------------------------------


def dialled(one: Device, two: Device) -> Stream:
    return one.side.port.dial(two.udid, Purpose.CALLS, timeout=WAIT)


@pytest.mark.parametrize(
    "frame",
    [
        struct.pack("<I", 0xFFFFFFFF),
        struct.pack("<I", 0),
        struct.pack("<I", 11) + bytes(11),
        struct.pack("<IBBHQ", 12, 9, 0, 0, 1),
        struct.pack("<IBBHQ", 12, 2, 0, 0, 1),
        struct.pack("<IBBHQ", 12, 1, 0, 200, 1),
        struct.pack("<IBBHQ", 12 + 300, 1, 0, 300, 1) + bytes(300),
        struct.pack("<IBBHQ", 12, 1, 0, 0, 1) * 2,
    ],
    ids=["huge", "empty", "short", "unknown kind", "one-way", "no header", "long header", "two at once"],
)
def test_nonsense_ends_the_lane_and_nothing_else(world: World, frame: bytes) -> None:
    one, two = world.pair()
    one.open_lane(two)
    executed = two.executed.copy()
    stream = dialled(one, two)
    stream.send(frame, stall=WAIT)
    with pytest.raises(DeadObjectError):
        while True:
            stream.receive(1, stall=WAIT)
    stream.close()
    assert two.executed == executed
    assert one.calls.call(two.udid, 1, b"still there") == b"still there"


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(frame=st.binary(max_size=300))
def test_any_bytes_are_survived(world: World, frame: bytes) -> None:
    if not world.devices:
        world.pair()
    one, two = world.devices
    stream = dialled(one, two)
    try:
        stream.send(frame, stall=WAIT)
    finally:
        stream.close()
    assert one.calls.call(two.udid, 1, b"still there", timeout=WAIT) == b"still there"


def test_more_lanes_than_allowed_are_closed(world: World) -> None:
    one, two = world.pair()
    streams = [dialled(one, two) for _ in range(limits.RPC_LANES + 3)]
    try:
        until(lambda: len(two.engine._served) == limits.RPC_LANES, "so many are served")
        until(lambda: sum(stream.readable(0) for stream in streams) >= 3, "the others are closed")
    finally:
        for stream in streams:
            stream.close()


def test_an_answer_that_makes_no_sense_is_no_answer(world: World) -> None:
    """The other device answers with anything: the call is sent again through the engine."""
    one, two = world.pair()
    one.open_lane(two)
    (lane,) = one.engine._lanes[two.udid].free
    before = one.below.calls

    def lies(*_: object) -> bytes:
        raise lane._nonsense("nonsense, says the test")

    lane.__class__ = type("Liar", (type(lane),), {"__slots__": (), "_receive": lies})
    assert one.calls.call(two.udid, 1, b"again") == b"again"
    assert one.below.calls == before + 1
    assert two.executed[b"again"] == 1
