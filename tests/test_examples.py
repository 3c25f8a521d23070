"""Every example, and the program in the README, runs as a user runs it and prints what it promises."""

from __future__ import annotations

import os
import random
import re
import subprocess
import sys
from pathlib import Path

import pytest

import binderkit

ROOT = Path(__file__).parents[1]
EXAMPLES = ROOT / "examples"
HELLO = r"Hello Ada, I am process (\d+)\ntold of its end: True\n"

PRINTED = {
    "hello": HELLO,
    "callback": (
        "line 1 is done, says the counter\n"
        "line 2 is done, says the counter\n"
        "line 3 is done, says the counter\n"
        "10 words, counted by another process: True\n"
    ),
    "death": (
        "call in flight: DeadObjectError, code -32\n"
        "death notice: True\n"
        "later call: DeadObjectError, code -32\n"
        "ended by signal: 9\n"
        "a new one answers\n"
    ),
    "ashmem_numpy": (
        "the call carries 32 bytes for an image of 2073600\n"
        "pixels are now 120 to 120\n"
        "read-only now, so the other process gets MmapError\n"
    ),
    "asyncio_service": (
        "100 calls in flight at once, sum of the squares 328350\n"
        "timed out, code 502\n"
        "the handler was cancelled at the other side\n"
    ),
    "typed_photos": (
        "told of the count: 1 2\n"
        "refused torn: 10 pixels for 20 x 20\n"
        "the service is at 50%\n"
        "the service is at 100%\n"
        "garden, brighter: every pixel is \\{100\\}\n"
        "stairs has 40 x 30\n"
        "garden has 20 x 20\n"
        "and 2 photos are there\n"
    ),
    "on_demand": (
        "before: NOT_LOADED\n"
        "40 \\+ 2 = 42\n"
        "now: LOADED\n"
        "told that it was stopped: True\n"
        "now: NOT_LOADED\n"
        "asked again: 42\n"
        "killed, and asked again: 42\n"
    ),
    "connect_ability": (
        "la la Ode to Joy, volume 7\nla la Elise, volume 7\nPlayer is gone\nthe studio is not for us, code 16000004\n"
    ),
    "oneway": "1000 entries arrived, in order: True\ntold of the result: True\n",
    "samgr_service": (
        "40 \\+ 2 = 42\n"
        "registered: \\['binderkit.abilities', 'binderkit.events', 'binderkit.parameters', 'com.example.adder'\\]\n"
        "told that it came: True\n"
        "told that it went: True\n"
        "still registered: False\n"
    ),
    "two_devices": (
        "the tablet is online: True\n"
        "300000 bytes on 3 pages, for a device with a UDID of 64 digits\n"
        "called back for pages 1 2 3\n"
        "told that the printer is gone: True\n"
    ),
}
"""Name of the example -> regular expression that its whole output matches."""

LONELY = {"BINDERKIT_SOFTBUS_GROUP": f"224.0.0.224:{random.randrange(20_000, 60_000)}"}
"""The devices of an example see each other, and nobody else."""

LOGGED = {"ashmem_numpy": r"the handler of <Brightener stub .*> raised binderkit\.errors\.MmapError"}
"""What an example writes to its error output; the others write nothing."""


def run(program: Path) -> subprocess.CompletedProcess[str]:
    """Run a program with the package under test, warnings as errors."""
    source = str(Path(binderkit.__file__).parents[1])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH", "")]))
    return subprocess.run(
        [sys.executable, "-W", "error", str(program)],
        capture_output=True,
        text=True,
        timeout=50,
        stdin=subprocess.DEVNULL,
        env={**os.environ, **LONELY, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"},
    )


def readme_program() -> str:
    """Return the first Python block of the README."""
    found = re.search(r"^```python\n(.*?)^```$", (ROOT / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    assert found is not None, "the README has no Python block"
    return found.group(1)


SLOW = {"two_devices"}
"""Examples that take seconds: two devices are started and paired."""


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.slow] * (name in SLOW)) for name in sorted(PRINTED)]
)
def test_an_example_prints_what_it_promises(name: str) -> None:
    ended = run(EXAMPLES / f"{name}.py")
    assert ended.returncode == 0, ended.stderr
    assert re.fullmatch(PRINTED[name], ended.stdout), ended.stdout
    if name in LOGGED:
        assert re.match(LOGGED[name], ended.stderr), ended.stderr
    else:
        assert ended.stderr == ""


def test_every_example_is_run() -> None:
    assert {path.stem for path in EXAMPLES.glob("*.py")} == set(PRINTED)


def test_the_program_of_the_readme_runs_as_it_stands(tmp_path: Path) -> None:
    program = tmp_path / "hello.py"
    program.write_text(readme_program())
    ended = run(program)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert re.fullmatch(HELLO, ended.stdout), ended.stdout


def test_the_program_of_the_readme_is_the_hello_example() -> None:
    assert readme_program() == (EXAMPLES / "hello.py").read_text()
