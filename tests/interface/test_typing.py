"""What type checkers see: expected types hold (assert_type), and every wrong line is refused, no other.

Both checkers run without any plugin, on a file written as users write theirs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).parent / "typing" / "contract.py"


def expected() -> set[int]:
    """Lines the checkers must refuse."""
    lines = SAMPLE.read_text().splitlines()
    marked = {number for number, line in enumerate(lines, 1) if line.endswith("# error")}
    assert len(marked) > 10
    return marked


def mypy_lines() -> set[int]:
    command = [sys.executable, "-m", "mypy", "--strict", "--no-error-summary", "--show-error-codes", str(SAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=SAMPLE.parents[3])
    assert done.returncode == 1, done.stdout + done.stderr
    return {int(number) for number in re.findall(r"contract\.py:(\d+): error", done.stdout)}


def pyright_lines() -> set[int]:
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable, str(SAMPLE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=SAMPLE.parents[3])
    assert done.returncode == 1, done.stdout + done.stderr
    told = json.loads(done.stdout)["generalDiagnostics"]
    return {one["range"]["start"]["line"] + 1 for one in told if one["severity"] == "error"}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("checker", [mypy_lines, pyright_lines], ids=["mypy --strict", "pyright"])
def test_a_checker_accepts_what_is_right_and_refuses_what_is_wrong(checker: object) -> None:
    assert callable(checker)
    assert checker() == expected()
