"""Runs the quick tests in two processes at once: ``python tests/halves.py [arguments of pytest …]``.

Owns: which folders are the second half. Most of the time of a test passes while processes start and end, so two halves
on two processors take little more than half as long. Each half is a whole pytest run with its own leak checks.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).parent
SECOND = (
    "samgr",
    "ability",
    "daemon",
    "dbinder",
    "cli",
    "bench",
    "test_demo.py",
    "test_documents.py",
    "test_examples.py",
)
"""What belongs to services and devices above the engine; everything else is the first half."""
DEVICE = Path("/dev/binder")
NOTHING_SELECTED = 5
"""pytest's exit code when no test fits its arguments."""


def commands(arguments: list[str]) -> list[list[str]]:
    """Return the command line of each half."""
    second = [str(HERE / name) for name in SECOND]
    pytest = [sys.executable, "-m", "pytest", "-q", *arguments]
    return [
        [*pytest, str(HERE), *(f"--ignore={path}" for path in second)],
        [*pytest, "-o", "cache_dir=.pytest_cache/second", *second],
    ]


def verdict(codes: list[int]) -> int:
    """Return the exit code of the whole: the worst of both, but one half may have nothing to do."""
    told = [code for code in codes if code != NOTHING_SELECTED]
    return max(told, key=abs, default=NOTHING_SELECTED)


def main(arguments: list[str]) -> int:
    """Run both halves, print one after the other, and return the exit code."""
    began = time.monotonic()
    first, second = commands(arguments)
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(second, stdout=output, stderr=subprocess.STDOUT) as running:
            codes = [subprocess.run(first, check=False).returncode]
            codes.append(running.wait())
        output.seek(0)
        print(output.read().decode(errors="replace"), end="", flush=True)
    print(f"both halves took {time.monotonic() - began:.0f} s")
    if not DEVICE.exists():
        print(
            "most skipped tests need a binder device, which is not here; make test-kernel boots a machine that has one"
        )
    return verdict(codes)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
