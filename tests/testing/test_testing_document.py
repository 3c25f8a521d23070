"""The examples of docs/testing.md run as they stand."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

import pytest

DOCUMENT = Path(__file__).parents[2] / "docs" / "testing.md"


def test_the_examples_run(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```$", DOCUMENT.read_text(), re.DOTALL | re.MULTILINE)
    tests = sum(block.count("\ndef test_") + block.startswith("def test_") for block in blocks)
    assert tests == 7
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    pytester.makepyfile(test_examples="\n\n".join(blocks))
    done = pytester.runpytest_subprocess("-q", "-W", "error", "-p", "no:cacheprovider", timeout=50)
    done.assert_outcomes(passed=tests)
