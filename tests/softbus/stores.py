"""Trust stores for tests: devices that were never paired, and devices that are, without a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from binderkit.softbus.trust import TrustStore

NOW = 1_800_000_000.0
"""A moment in 2027, later than any floor in the code."""


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self, now: float = NOW) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def make(directory: Path, name: str, clock: Callable[[], float] | None = None) -> TrustStore:
    """Return the store of the device ``name`` under ``directory``; the same one again when it was there."""
    return TrustStore(directory / name, name=name, clock=clock or Clock())


def admit(owner: TrustStore, *others: TrustStore) -> None:
    """Make devices members of a circle, and tell each of all the others."""
    for other in others:
        other.join(owner.add(other.request()))
    for other in others:
        other.accept_roster(owner.roster())


def clone(store: TrustStore, directory: Path) -> TrustStore:
    """Return a second store with the same key and files, as a copied disk has them."""
    directory.mkdir(mode=0o700)
    for name in ("device.key", "trust.json"):
        copy = directory / name
        copy.touch(mode=0o600)
        copy.write_bytes((store.directory / name).read_bytes())
    return TrustStore(directory, clock=Clock())
