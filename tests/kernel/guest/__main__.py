"""``python -m tests.kernel.guest``: run a command, or the kernel driver's tests, in the guest.

Exit status: the command's; 77 if this machine cannot have the guest (nothing was tested), 1 if the guest failed, 124 if
the command ran into its time limit.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.kernel.guest import image, machine, packages, report, tree
from tests.kernel.guest.errors import SKIPPED, GuestError, GuestUnavailable

SHARE = "exec python3 -m tests.kernel.share"
PYTEST = f"{SHARE} --timeout=120"
TESTS = (
    "python3 -m tests.kernel.hello_binder && "
    f"{SHARE} --coverage --timeout=120 -rfEs -k kernel tests/contract tests/driver/kernel"
)
"""What runs without a command: first whether the device works at all, then the driver's tests."""
RESULTS = Path("build/kernel-tests")
STATUS = "status"
"""The file among the results with the exit status: a program in between, such as make, may not pass it on."""


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    parsed = argparse.ArgumentParser(
        prog="python -m tests.kernel.guest",
        description="Run a command in a small virtual machine whose kernel has the Binder driver; without a command, "
        "the kernel driver's tests, with their JUnit reports and the driver's coverage. It runs as root in this source "
        "tree; files that it leaves in /results come back.",
        epilog="Exit status: the command's; 77: this machine cannot have the guest, nothing was tested; "
        "1: the guest failed; 124: the command ran into its time limit.",
    )
    parsed.add_argument("command", nargs="*", help="the command and its arguments, after --")
    parsed.add_argument("--shell-command", metavar="LINES", help="instead: lines of a shell script")
    parsed.add_argument(
        "--time-limit", type=_positive, default=900, metavar="SECONDS", help="for the command (%(default)s)"
    )
    parsed.add_argument(
        "--results", type=Path, default=RESULTS, metavar="FOLDER", help="where the files of /results go (%(default)s)"
    )
    parsed.add_argument("--pytest", metavar="ARGUMENTS", help="instead: pytest with these arguments, in one word")
    parsed.add_argument("--memory", type=_positive, default=768, metavar="MIB", help="of the guest (%(default)s)")
    parsed.add_argument("--processors", type=_positive, default=2, metavar="COUNT", help="of the guest (%(default)s)")
    parsed.add_argument("--prepare", action="store_true", help="only make everything ready, run nothing")
    return parsed


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(f"{number} is not positive")
    return number


def script(arguments: argparse.Namespace) -> str:
    """Return the lines of shell script that the guest runs.

    Raises:
        ValueError: there is more than one thing to run.
    """
    named = arguments.shell_command, arguments.pytest, arguments.command or None
    if sum(one is not None for one in named) > 1:
        raise ValueError("only one of a command, --shell-command and --pytest")
    if arguments.shell_command is not None:
        return str(arguments.shell_command)
    if arguments.pytest is not None:
        return f"{PYTEST} {arguments.pytest}"
    return f"exec {tree.shell_line(arguments.command)}" if arguments.command else TESTS


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    grammar = parser()
    arguments = grammar.parse_args(words)
    try:
        lines = script(arguments)
    except ValueError as error:
        grammar.error(str(error))
    report.forget(arguments.results)
    status = _status(arguments, lines)
    _keep({STATUS: f"{status}\n".encode()}, arguments.results)
    return status


def _status(arguments: argparse.Namespace, lines: str) -> int:
    try:
        return _run(arguments, lines)
    except GuestUnavailable as error:
        print(f"guest: SKIPPED, nothing was tested: {error}", file=sys.stderr)
        return SKIPPED
    except GuestError as error:
        print(f"guest: FAILED: {error}", file=sys.stderr)
        return 1


def _run(arguments: argparse.Namespace, lines: str) -> int:
    began = time.monotonic()
    qemu = packages.ensure_qemu()
    cache = image.cache_folder()
    with image.locked(cache):
        built = image.prepare(cache)
        site = tree.site(built)
    ready = time.monotonic()
    print(f"guest: ready after {ready - began:.1f} s ({built.folder})", flush=True)
    if arguments.prepare:
        return 0
    rest = partial(tree.write_tree, built, lines, arguments.time_limit)
    size = machine.Size(arguments.memory, arguments.processors)
    done = machine.run(qemu, built, (site,), rest, arguments.time_limit, size)
    kept = {name: content for name, content in done.results.items() if not name.startswith(report.MEASURED)}
    _keep(kept, arguments.results)
    table = report.coverage(done.results, arguments.results, tree.ROOT)
    if table is not None:
        print(f"guest: coverage of the driver, in the processes that ran tests:\n{table}", end="")
    limit = f" (its limit of {arguments.time_limit} s)" if done.status == machine.TIMED_OUT else ""
    print(f"guest: exit status {done.status}{limit}, {time.monotonic() - ready:.1f} s; results: {_named(kept)}")
    if (counted := report.tests(kept)) is not None:
        print(f"guest: {counted}")
    return done.status


def _keep(results: dict[str, bytes], folder: Path) -> None:
    for name, content in results.items():
        target = folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)


def _named(results: dict[str, bytes]) -> str:
    return ", ".join(f"{name} ({len(content)} bytes)" for name, content in sorted(results.items())) or "none"


def _end(number: int, frame: object) -> None:
    """Leave by an exception, so that qemu is ended as well."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
