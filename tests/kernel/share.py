"""The tests in the guest, in several processes at once: ``python -m tests.kernel.share [arguments of pytest …]``.

Owns: who runs what. Each process takes every n-th test and has a device of its own, so that the context objects do not
meet; most of a test's time passes while processes start, and the guest has more than one processor. It is also the
pytest plugin that picks the tests of one process (``SHARE=0/2`` in the environment).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from contextlib import ExitStack
from typing import IO, TypeVar

import pytest

from tests.halves import verdict

Item = TypeVar("Item")
DEVICE = "BINDERKIT_DEVICE"
RESULTS = "/results"


def own(items: list[Item], share: str) -> tuple[list[Item], list[Item]]:
    """Return the items of one share and the others.

    Args:
        items: all, in the same order in each process.
        share: which one of how many, such as ``"0/2"``.
    """
    number, count = map(int, share.split("/"))
    return items[number::count], [item for at, item in enumerate(items) if at % count != number]


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the tests of the other processes out; last, when -k and -m have chosen."""
    items[:], others = own(items, os.environ["SHARE"])
    config.hook.pytest_deselected(items=others)


def command(number: int, arguments: list[str]) -> list[str]:
    """Return the command line of one process."""
    return [
        sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest",
        "-p", "tests.kernel.share", f"--junitxml={RESULTS}/junit-{number}.xml", *arguments,
    ]  # fmt: skip


def main(arguments: list[str]) -> int:
    """Run all shares at once; the first one's output is shown as it comes, the others' afterwards."""
    count = os.cpu_count() or 1
    with ExitStack() as files:
        outputs = [None, *(files.enter_context(tempfile.TemporaryFile("w+")) for _ in range(count - 1))]
        running = [_start(number, count, arguments, output) for number, output in enumerate(outputs)]
        try:
            codes = [process.wait() for process in running]
        except KeyboardInterrupt:  # the time limit: each of them reports what it has
            for process in running:
                process.send_signal(signal.SIGINT)
            codes = [process.wait() for process in running]
        for output in outputs[1:]:
            _show(output)
    return verdict(codes)


def _start(number: int, count: int, arguments: list[str], output: IO[str] | None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "SHARE": f"{number}/{count}", DEVICE: f"/dev/b{number}"}
    errors = None if output is None else subprocess.STDOUT
    return subprocess.Popen(command(number, arguments), env=environment, stdout=output, stderr=errors)


def _show(output: IO[str] | None) -> None:
    if output is not None:
        output.seek(0)
        print(output.read(), end="", flush=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
