"""What is measured: the table of cases, and the bars binderkit holds itself to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

ONE_CPU = "one cpu"
FREE = "free"

Unit = Literal["us", "ms", "s", "MB/s", "GB/s", "/s", "MB", "threads"]
KIB = 1024
MIB = 1024 * KIB


@dataclass(frozen=True)
class Bar:
    """A bar on a value, or on its ratio to the base of the case.

    Attributes:
        limit: the highest (``at_most``) or lowest number that is still ok.
        of_ratio: the limit is on the ratio, not on the value.
        strict: the limit itself is not ok any more (``at_most`` only).
    """

    limit: float
    at_most: bool
    of_ratio: bool = False
    strict: bool = False

    def met(self, value: float, ratio: float | None) -> bool:
        """Return whether a result is within the bar (a missing ratio is not)."""
        number = ratio if self.of_ratio else value
        if number is None:
            return False
        if self.strict:
            return number < self.limit
        return number <= self.limit if self.at_most else number >= self.limit

    def __str__(self) -> str:
        sign = "<" if self.strict else "≤" if self.at_most else "≥"
        return f"{sign} {self.limit:,g}{' x' if self.of_ratio else ''}"


@dataclass(frozen=True)
class Case:
    """One line of the plan.

    Attributes:
        name: for ``--only``.
        title: for the table.
        action: what a contender's client process is asked to do (bench/worker.py, bench/peers/own.py).
        number: bytes, clients or calls in flight, depending on the action.
        unit: of the value; bars are in this unit.
        base: mode of the C program that the ratio is taken to; "own:ACTION" for another action of the contender
            itself; "peer:NAME" for the same action of another contender; None where there is nothing to compare with.
        bar: the bar and the placement it holds for.
        placements: where the processes run.
        peers: whether the other packages take part.
        between_devices: whether those take part that call from device to device, not from process to process.
        rounds: how many rounds of the usual number (some cases start new processes for each sample).
        length: factor on the time of one measurement.
    """

    name: str
    title: str
    action: str
    unit: Unit
    number: int = 0
    base: str | None = None
    bar: Bar | None = None
    bar_placement: str = ONE_CPU
    placements: tuple[str, ...] = (ONE_CPU, FREE)
    peers: bool = False
    between_devices: bool = False
    rounds: float = 1.0
    length: float = 1.0


def at_most(limit: float) -> Bar:
    """A bar on the value."""
    return Bar(limit, at_most=True)


def at_least(limit: float) -> Bar:
    """A bar on the value."""
    return Bar(limit, at_most=False)


def at_most_times(limit: float) -> Bar:
    """A bar on the ratio to the base."""
    return Bar(limit, at_most=True, of_ratio=True)


def less_than_times(limit: float) -> Bar:
    """A bar on the ratio to the base that must be passed, not only reached."""
    return Bar(limit, at_most=True, of_ratio=True, strict=True)


def at_least_times(limit: float) -> Bar:
    """A bar on the ratio to the base, from below."""
    return Bar(limit, at_most=False, of_ratio=True)


def _payload(name: str, title: str, size: int, bar: float | None, *, peers: bool) -> Case:
    return Case(
        f"payload-{name}",
        f"payload {title}",
        "payload",
        "GB/s",
        number=size,
        base="payload",
        bar=None if bar is None else at_least(bar),
        peers=peers,
        rounds=0.6,
    )


CASES = (
    Case("echo", "call, an int each way", "echo", "us", base="echo", bar=at_most_times(1.8), peers=True),
    Case("nested", "call with a nested callback (ratio: to the plain call)", "nested", "us", base="own:echo",
         bar=at_most_times(2.2)),
    Case("oneway", "one-way calls, one client", "oneway", "/s", base="oneway", bar=at_least(150_000), peers=True,
         rounds=0.6),
    Case("clients", "8 client processes", "clients", "/s", number=8, base="clients", bar=at_least(55_000),
         bar_placement=FREE, placements=(FREE,), peers=True, rounds=0.6, length=2),
    Case("inflight", "64 in flight, asyncio, one client", "inflight", "/s", number=64, bar=at_least(60_000),
         length=2),
    _payload("64k", "64 KiB", 64 * KIB, None, peers=True),
    _payload("200k", "200 KiB", 200 * KIB, 5, peers=True),
    _payload("1m", "1 MiB", MIB, 8, peers=True),
    _payload("16m", "16 MiB", 16 * MIB, 10, peers=True),
    _payload("128m", "128 MiB", 128 * MIB, 10, peers=False),
    _payload("256m", "256 MiB (Ashmem)", 256 * MIB, None, peers=False),
    Case("typed", "typed call, an int each way (ratio: to the raw call)", "typed-echo", "us", base="own:echo",
         bar=at_most_times(1.35)),
    Case("typed-dataclass", "typed call, a dataclass of 10 fields each way (to the raw call)", "typed-record", "us",
         base="own:echo", bar=at_most_times(2.2)),
    Case("typed-list", "typed call, 1,000 ints each way (to multiprocessing.connection)", "typed-list", "us",
         base="own:pickled-list", bar=at_most_times(1)),
    Case("typed-array", "typed call, a numpy array of 1 MiB (to the same through Ashmem)", "typed-array", "GB/s",
         number=MIB, base="own:ashmem", bar=at_least_times(1)),
    Case("introduction", "third-party introduction, the first between two processes", "introduction", "ms", number=5,
         bar=at_most(1), bar_placement=FREE, placements=(FREE,), rounds=0.4),
    Case("introduction-again", "an object of a third process, already known", "again", "ms", number=5,
         placements=(FREE,), rounds=0.4),
    Case("get", "get a running ability of a process never met", "get", "ms", number=5, bar=at_most(1),
         bar_placement=FREE, placements=(FREE,), rounds=0.4),
    Case("get-again", "get a running ability, its proxy forgotten", "get-again", "us", rounds=0.6),
    Case("get-crowded", "get beside 1,000 abilities, 256 subscriptions (ratio: to get-again)", "get-crowded", "us",
         base="own:get-again", bar=at_most_times(1.2), rounds=0.6),
    Case("connect", "connect to a service ability that does not run, first reply", "connect", "ms", number=3,
         placements=(FREE,), rounds=0.4),
    Case("death", "death notice after kill -9", "death", "ms", number=5, bar=at_most(5), bar_placement=FREE,
         placements=(FREE,), rounds=0.4),
    Case("memory", "client process after its first call, resident", "footprint", "MB", bar=at_most(16),
         bar_placement=FREE, placements=(FREE,), rounds=0.4),
    Case("remote", "call to another device, an int each way (to bare Zenoh)", "echo", "us", base="peer:zenoh",
         bar=at_most_times(2), between_devices=True),
    Case("remote-grpc", "call to another device, an int each way (to gRPC)", "echo", "us", base="peer:grpcio TLS",
         bar=less_than_times(1), between_devices=True),
    Case("remote-crowd", "call to another device, 64 threads in flight", "crowd", "/s", number=64, bar=at_least(2500),
         bar_placement=FREE, peers=True, between_devices=True, length=2),
    Case("remote-1mib", "to another device, an argument of 1 MiB", "payload", "MB/s", number=MIB, bar=at_least(300),
         bar_placement=FREE, peers=True, between_devices=True, rounds=0.6),
    Case("remote-raw", "to another device, 64 MiB of raw data", "payload", "MB/s", number=64 * MIB, bar=at_least(400),
         bar_placement=FREE, peers=True, between_devices=True, rounds=0.6),
    Case("remote-death", "death notice after kill -9 on another device", "death", "ms", number=5, bar=at_most(50),
         bar_placement=FREE, placements=(FREE,), between_devices=True, rounds=0.4),
    Case("remote-silent", "death notice after another device fell silent", "silent", "s", bar=at_most(5),
         bar_placement=FREE, placements=(FREE,), between_devices=True, rounds=0.4),
    Case("discovery", "two unknown devices find each other", "strangers", "s", bar=at_most(3),
         bar_placement=FREE, placements=(FREE,), between_devices=True, rounds=0.4),
    Case("discovery-trusted", "two trusted devices see each other, one just started", "trusted", "s", bar=at_most(1),
         bar_placement=FREE, placements=(FREE,), between_devices=True, rounds=0.4),
)  # fmt: skip

EXTRA_NAMES = ("import", "idle", "on-demand")
"""Cases with a shape of their own: bench/startup.py, bench/crowd.py, bench/on_demand.py."""

IDLE_CLIENTS = 2000
IDLE_CLIENTS_QUICK = 200

NAMES = tuple(case.name for case in CASES) + EXTRA_NAMES
