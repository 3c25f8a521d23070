"""What a run in the guest found, told on the host: how many tests did what, and what they ran of the driver.

Owns: the reading of the results' JUnit files and the joining of their coverage data.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from tests.kernel.guest.errors import GuestError

MEASURED = ".coverage."
"""How the names of coverage data begin, one file for each process."""
JOINED = ".coverage"
TABLE = "coverage.txt"
JUNIT = "junit-*.xml"
KINDS = ("passed", "failed", "errors", "skipped")


def forget(folder: Path) -> None:
    """Remove the reports of a former run: those of a run that breaks off must not pass for its own."""
    for pattern in (JUNIT, JOINED, TABLE):
        for file in folder.glob(pattern):
            file.unlink()


def tests(results: Mapping[str, bytes]) -> str | None:
    """Return how many tests passed and how many did not, None if there is no report of tests."""
    found: Counter[str] = Counter()
    reports = [content for name, content in results.items() if Path(name).match(JUNIT)]
    for content in reports:
        for suite in ElementTree.fromstring(content).iter("testsuite"):
            counts = {name: int(suite.get(name, 0)) for name in ("tests", "failures", "errors", "skipped")}
            found["failed"] += counts["failures"]
            found["errors"] += counts["errors"]
            found["skipped"] += counts["skipped"]
            found["passed"] += counts["tests"] - counts["failures"] - counts["errors"] - counts["skipped"]
    return ", ".join(f"{found[kind]} {kind}" for kind in KINDS) if reports else None


def coverage(results: Mapping[str, bytes], folder: Path, root: Path) -> str | None:
    """Join the coverage data of all processes and return it as a table, None if there is none.

    Both are kept in ``folder`` too.

    Args:
        results: the files that came back.
        folder: where the reports go.
        root: the source tree that was measured, with the settings.

    Raises:
        GuestError: the data cannot be joined.
    """
    measured = {name: content for name, content in results.items() if name.startswith(MEASURED)}
    if not measured:
        return None
    data = f"--data-file={(folder / JOINED).absolute()}"
    with tempfile.TemporaryDirectory() as parts:
        for name, content in measured.items():
            Path(parts, name).write_bytes(content)
        _coverage(root, "combine", "--quiet", data, parts)
    table = _coverage(root, "report", "--show-missing", data)
    (folder / TABLE).write_text(table)
    return table


def _coverage(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        (sys.executable, "-m", "coverage", *arguments), cwd=root, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise GuestError(f"coverage {arguments[0]} failed ({done.returncode}): {done.stdout}{done.stderr}")
    return done.stdout
