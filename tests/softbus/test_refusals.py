"""What was refused is logged, once a second at most."""

from __future__ import annotations

import logging
import threading

import pytest

from binderkit.softbus import refusals
from binderkit.softbus.refusals import Refusals
from binderkit.softbus.timers import Timers


def test_a_flood_is_two_lines(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_INTERVAL", 0.1)
    timers = Timers("test")
    noted, over = Refusals(timers), threading.Event()
    with caplog.at_level(logging.WARNING):
        noted.note("the first")
        for number in range(1000):
            noted.note(f"number {number}")
        timers.after(0.3, over.set)
        assert over.wait(10)
    timers.close()
    lines = [record.getMessage() for record in caplog.records]
    assert noted.total == 1001
    assert 1 <= len(lines) <= 3
    assert "number 999" in lines[-1] and "more within a second" in lines[-1]


def test_later_ones_are_told_again(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(refusals, "_INTERVAL", 0.01)
    timers = Timers("test")
    noted = Refusals(timers)
    for text in ("one", "two"):
        pause = threading.Event()
        noted.note(text)
        timers.after(0.05, pause.set)
        assert pause.wait(10)
    timers.close()
    assert [record.getMessage() for record in caplog.records] == ["refused: one", "refused: two"]
