"""cli/demo/report.py: what the demo prints."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from binderkit.cli.demo.report import Report, StepFailed, check


def test_steps_are_numbered_and_timed_and_a_failed_one_is_marked() -> None:
    out = io.StringIO()
    report = Report(Console(file=out, width=200))
    report.title("title", "explanation")
    with report.step("first [not markup]"):
        report.note("a note [1]")
    with pytest.raises(StepFailed, match="because"), report.step("second"):
        check(False, "because")
    report.failure("because")
    report.end("over")
    text = out.getvalue()
    assert re.search(r" 1  first \[not markup\]\n    a note \[1\]\s*\n    ✓ \d+\.\d ms\n", text)
    assert " 2  second\n    ✗ failed" in text
    assert "The demo failed: because" in text and re.search(r"✓ over \d+\.\d s", text)


def test_a_check_that_holds_says_nothing() -> None:
    check(True, "never shown")
