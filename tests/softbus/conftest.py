"""The leak check of softbus, on top of the one around every test: its threads are no infrastructure of the process.

Everything softbus and dbinder start belongs to an object that a test closes, so all of it must be gone after the test:
threads, and the network namespaces of devices.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.leaks import SETTLE_TIME

_PARTS = (
    "acquaintances",
    "addresses",
    "calls",
    "dbinder",
    "discovery",
    "network",
    "new-trust",
    "offer",
    "pairing",
    "presence",
    "trust",
    "zenoh",
)
THREADS = tuple(f"binderkit-{part}" for part in _PARTS)
"""Beginnings of the names of their threads; those named "softbus-…" are seen by the check of every test."""


def _threads() -> set[threading.Thread]:
    return {thread for thread in threading.enumerate() if thread.name.startswith(THREADS)}


def _namespaces() -> set[str]:
    return {path.name for path in Path("/run/netns").glob(f"bk{os.getpid()}*")}


@pytest.fixture(autouse=True)
def nothing_of_softbus_is_left() -> Iterator[None]:
    """Fail a test after which something of softbus goes on."""
    threads, namespaces = _threads(), _namespaces()
    yield
    deadline = time.monotonic() + SETTLE_TIME
    while left := [thread.name for thread in _threads() - threads] + sorted(_namespaces() - namespaces):
        if time.monotonic() > deadline:
            pytest.fail(f"the test left behind: {', '.join(left)}", pytrace=False)
        time.sleep(0.01)  # the interval between two looks at the condition, not a wait for it to come true
