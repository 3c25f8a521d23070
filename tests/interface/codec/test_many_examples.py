"""The tests that run once per type, with many more examples than the quick run has time for."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.interface.codec.wire import EXAMPLES_VARIABLE

HERE = Path(__file__).parent
MANY = 200


@pytest.mark.slow
def test_every_type_with_many_examples() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "-k",
        "trips or hostile or small",
        str(HERE),
    ]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd=HERE.parents[2],
        env={**os.environ, EXAMPLES_VARIABLE: str(MANY)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
