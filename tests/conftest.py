"""Fixtures of every test: the leak check (always on) and a private runtime directory."""

from __future__ import annotations

import gc
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import leaks

pytest_plugins = ["pytester"]


def pytest_collection_finish() -> None:
    """What was imported stays: no collection of garbage, and the leak check makes many, needs to look at it again."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def no_leaks() -> Iterator[None]:
    """Fail a test that leaves threads, descriptors, shared memory or child processes behind.

    Autouse fixtures are set up first and torn down last, so what the test's
    own fixtures hold is released before the second look.
    """
    before = leaks.take_stock()
    yield
    _stop_handler_loop()
    found = leaks.left_behind(before)
    if found:
        pytest.fail("the test left behind:\n  " + "\n  ".join(found), pytrace=False)


def _stop_handler_loop() -> None:
    """End the background loop of async handlers, if the test used it: it would count as a leak of the first user."""
    loop = sys.modules.get("binderkit.ipc.loop")
    if loop is not None:
        loop.stop()


@pytest.fixture
def runtime_dir(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A device of its own: an empty runtime directory (mode 0700), named by BINDERKIT_RUNTIME_DIR during the test.

    Directly under the temporary directory, because a socket's path may have 107 bytes only.
    """
    path = Path(tempfile.mkdtemp(prefix="bk-"))  # mkdtemp makes it with mode 0700
    monkeypatch.setenv("BINDERKIT_RUNTIME_DIR", str(path))
    try:
        yield path
    finally:
        shutil.rmtree(path)
