"""A binder device for each test that needs one, a process that serves on it, and clients."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from binderkit.driver.kernel.node import KernelNode
from tests.driver.kernel.service import Served

FIRST, DEVICES = 16, 16
"""/dev/b16 to /dev/b31 are these tests' own; each device has a context of its own."""
if os.environ.get("BINDERKIT_TEST_GUEST"):
    # What needs no device runs on the host, which is many times faster.
    collect_ignore = [
        f"test_{name}.py"
        for name in (
            "calls", "device", "meeting", "nodes", "objects", "protocol",
            "reader", "refs", "serve", "target", "threads",
        )
    ]  # fmt: skip
_share, _shares = map(int, os.environ.get("SHARE", "0/1").split("/"))
_numbers = itertools.count(_share, _shares)


def next_device() -> str:
    """Return the path of a device nobody else uses now; skip without one."""
    path = f"/dev/b{FIRST + next(_numbers) % DEVICES}"
    if not os.path.exists(path):
        pytest.skip("needs a binder device: run by `make test-kernel`, in a virtual machine that has one")
    return path


@contextmanager
def serving(device: str) -> Iterator[Served]:
    """Have a process be the device's context manager."""
    with Served(device) as process:
        assert process.said == "ready"
        yield process


@pytest.fixture
def device() -> str:
    """The path of a device nobody else uses now."""
    return next_device()


@pytest.fixture
def served(device: str) -> Iterator[Served]:
    """A process that is the device's context manager."""
    with serving(device) as process:
        yield process


@pytest.fixture(scope="module")
def lasting() -> Iterator[Served]:
    """The same for all tests of a module: a start takes seconds in a virtual machine."""
    with serving(next_device()) as process:
        yield process


@pytest.fixture
def client(served: Served) -> Iterator[KernelNode]:
    """This process on the same device."""
    node = KernelNode(served.device)
    yield node
    node.close()
