"""A victim for hostile peers, closed after each test, and the log it must write."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator

import pytest

from binderkit.memory import pool
from tests.driver.unix.hostile import Victim, until, warned


@pytest.fixture
def victim() -> Iterator[Victim]:
    """A node that serves an object, with an honest client."""
    made = Victim()
    yield made
    made.close()
    pool.trim()


@pytest.fixture
def warns(caplog: pytest.LogCaptureFixture) -> Callable[[str], None]:
    """Wait until the log contains a warning with the given words."""
    caplog.set_level(logging.WARNING, logger="binderkit")

    def wait(words: str) -> None:
        until(lambda: warned(caplog.records, words), f"a warning with {words!r}; the log: {caplog.text}")

    return wait
