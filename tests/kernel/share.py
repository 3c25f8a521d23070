"""The tests in the guest, in several processes at once: ``python -m tests.kernel.share [--coverage] [for pytest …]``.

Owns: who runs what. Each process takes every n-th test and has a device of its own, so that the context objects do not
meet; most of a test's time passes while processes start, and the guest has more than one processor. It is also the
pytest plugin that picks the tests of one process (``SHARE=0/2`` in the environment).

With ``--coverage`` it is measured what these processes run of the kernel driver, each a client and a service on its
device. Not in their children: measuring hundreds of short lives would take longer than the tests.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, TypeVar

import pytest

from tests.halves import verdict

Item = TypeVar("Item")
DEVICE = "BINDERKIT_DEVICE"
RESULTS = "/results"
COVERAGE = "--coverage"


def own(items: list[Item], share: str) -> tuple[list[Item], list[Item]]:
    """Return the items of one share and the others.

    Args:
        items: all, in the same order in each process.
        share: which one of how many, such as ``"0/2"``.
    """
    number, count = map(int, share.split("/"))
    return items[number::count], [item for at, item in enumerate(items) if at % count != number]


def pytest_configure() -> None:
    """Have hypothesis expect an emulated machine: what takes it long here is its start, not what a test generates."""
    from hypothesis import HealthCheck, settings

    settings.register_profile("guest", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("guest")


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of the other processes out; last, when -k and -m have chosen."""
    items[:], others = own(items, os.environ["SHARE"])
    config.hook.pytest_deselected(items=others)


@dataclass(frozen=True)
class Share:
    """One of the processes.

    Attributes:
        number: which one, from 0.
        count: of how many.
        measured: whether coverage is.
    """

    number: int
    count: int
    measured: bool

    def command(self, arguments: list[str]) -> list[str]:
        """Return its command line.

        Args:
            arguments: of pytest.
        """
        program = ("coverage", "run", "-m", "pytest") if self.measured else ("pytest",)
        return [
            sys.executable, "-m", *program, "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest",
            "-p", "tests.kernel.share", f"--junitxml={RESULTS}/junit-{self.number}.xml", *arguments,
        ]  # fmt: skip

    def environment(self) -> dict[str, str]:
        """Return what its environment has beside ours."""
        own = {"SHARE": f"{self.number}/{self.count}", DEVICE: f"/dev/b{self.number}"}
        return own | {"COVERAGE_FILE": f"{RESULTS}/.coverage"} if self.measured else own

    def start(self, arguments: list[str], output: IO[str] | None) -> subprocess.Popen[bytes]:
        """Start it; without ``output`` it has ours."""
        errors = None if output is None else subprocess.STDOUT
        environment = {**os.environ, **self.environment()}
        return subprocess.Popen(self.command(arguments), env=environment, stdout=output, stderr=errors)


def main(words: list[str]) -> int:
    """Run all shares at once; the first one's output is shown as it comes, the others' afterwards."""
    measured = words[:1] == [COVERAGE]
    arguments = words[1:] if measured else words
    count = os.cpu_count() or 1
    with ExitStack() as files:
        outputs = [None, *(files.enter_context(tempfile.TemporaryFile("w+")) for _ in range(count - 1))]
        running = [Share(number, count, measured).start(arguments, output) for number, output in enumerate(outputs)]
        try:
            codes = [process.wait() for process in running]
        except KeyboardInterrupt:  # the time limit: each of them reports what it has
            for process in running:
                process.send_signal(signal.SIGINT)
            codes = [process.wait() for process in running]
        for output in outputs[1:]:
            _show(output)
    return verdict(codes)


def _show(output: IO[str] | None) -> None:
    if output is not None:
        output.seek(0)
        print(output.read(), end="", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
