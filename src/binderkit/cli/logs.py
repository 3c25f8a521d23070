"""``binderkit logs``: what the processes of services print.

Owns: the command and how a log is followed. It reads the files of the runtime directory itself, so that it works when
no SAMgr runs any more, which is when people want it most.
"""

from __future__ import annotations

import codecs
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from binderkit.driver.runtime import runtime_dir
from binderkit.errors import ParamValueError
from binderkit.samgr import logs as files

_LOOK_INTERVAL = 0.2
"""Seconds between two looks at a log that is followed."""


def logs(
    process: Annotated[
        str | None, typer.Argument(metavar="PROCESS", help="Name of a process; without it, those that have a log.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, help="How many of the last lines.")] = 100,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what is printed, until Ctrl-C.")] = False,
) -> None:
    """Print what a service's process printed: its output, its errors, and how it ended."""
    directory = runtime_dir()
    if process is None:
        for name in files.names(directory):
            print(name)
        return
    path = files.log_path(directory, process)
    if not path.exists():
        known = ", ".join(files.names(directory)) or "none"
        raise ParamValueError(f"process {process!r} has no log in {path.parent}; there are: {known}")
    position = path.stat().st_size
    for line in files.tail(path, lines):
        print(_shown(line))
    if follow:
        sys.stdout.flush()
        follow_log(path, position)


def follow_log(path: Path, position: int, *, pause: Callable[[], object] | None = None) -> None:
    """Copy to the standard output what is added to a log behind ``position``, until ``pause`` raises.

    Args:
        pause: called when there is nothing new; default: sleep for a moment.
    """
    if pause is None:
        pause = _sleep
    # A character may be cut in two by the end of what is there now.
    decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace")
    while True:
        if os.stat(path).st_size < position:
            position = 0  # it was rotated
        for block in files.added(path, position):
            sys.stdout.write(_shown(decoder.decode(block)))
            position += len(block)
        sys.stdout.flush()
        pause()


def _shown(text: str) -> str:
    """Return text of a service without what would change more of a terminal than the next line."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in text)


def _sleep() -> None:
    time.sleep(_LOOK_INTERVAL)
