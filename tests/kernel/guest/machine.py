"""qemu: the machine, its run with a time limit, and what comes back.

Owns: the devices of the machine. The first serial port is the console, and goes to our output as it comes; the second
carries one archive with the exit status and the files of the results folder. A guest that ends without it has failed,
whatever its kernel did.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from tests.kernel.guest import archive
from tests.kernel.guest.errors import GuestError
from tests.kernel.guest.image import Image

STATUS = ".status"
APPEND = "console=ttyS0 panic=-1 quiet norandmaps"
"""The kernel's command line. A program that starts at the same addresses each time need not be translated anew each
time: the emulator spends a fifth less on the start of a process."""
TIMED_OUT = 124
"""Exit status of a command that ran into its time limit, as coreutils' timeout has it."""
GRACE = 60.0
"""Seconds beyond the command's limit: for the start, which takes some three, and for sending the results."""


@dataclass(frozen=True)
class Size:
    """How large the machine is.

    Attributes:
        memory: MiB; its files are in memory too.
        processors: how many.
    """

    memory: int = 768
    processors: int = 2


@dataclass(frozen=True)
class Outcome:
    """How a command in the guest ended.

    Attributes:
        status: its exit status, 124 if it ran into its time limit.
        results: the files it left in /results, by name.
    """

    status: int
    results: dict[str, bytes]


def command_line(qemu: str, image: Image, files: Path, results: Path, size: Size) -> list[str]:
    """Return qemu's arguments.

    Args:
        qemu: its path.
        image: has the kernel.
        files: the guest's files, as archives joined end to end.
        results: the file that the second serial port writes to.
        size: of the machine.
    """
    return [
        qemu, "-machine", "q35", "-accel", "tcg,thread=multi", "-cpu", "max",
        "-m", str(size.memory), "-smp", str(size.processors),
        "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot",
        "-serial", "stdio", "-serial", f"file:{results}",
        "-kernel", str(image.kernel), "-initrd", str(files), "-append", APPEND,
    ]  # fmt: skip


def run(
    qemu: str,
    image: Image,
    parts: tuple[Path, ...],
    write_rest: Callable[[BinaryIO], None],
    time_limit: float,
    size: Size,
) -> Outcome:
    """Boot the guest, wait for its end and return how the command ended; its output goes to ours.

    Args:
        qemu: its path.
        image: what to boot.
        parts: archives of the guest's files beside the image's.
        write_rest: writes one more, with the command.
        time_limit: seconds that the command may take; the guest ends it then, and is itself ended a minute later.
        size: of the machine.

    Raises:
        GuestError: the guest ended without saying how the command did, or had to be ended.
    """
    with tempfile.TemporaryDirectory(prefix="binderkit-guest-") as name:
        files, results = Path(name, "files.cpio"), Path(name, "results")
        with open(files, "wb") as target:
            for part in (image.base, *parts):
                with open(part, "rb") as source:
                    shutil.copyfileobj(source, target)
            write_rest(target)
        try:
            done = subprocess.run(
                command_line(qemu, image, files, results, size),
                stdin=subprocess.DEVNULL, check=False, timeout=time_limit + GRACE,
            )  # fmt: skip
        except subprocess.TimeoutExpired as error:
            after = f"{time_limit + GRACE:.0f} s, with {time_limit:.0f} s for its command"
            raise GuestError(f"the guest hung: it had not ended after {after}") from error
        if done.returncode:
            raise GuestError(f"qemu failed with exit status {done.returncode}; what it said is above")
        return outcome(results.read_bytes())


def outcome(sent: bytes) -> Outcome:
    """Return what the guest sent, understood.

    Raises:
        GuestError: it sent nothing, or something else.
    """
    if not sent:
        raise GuestError("the guest ended without sending anything: see above what its kernel said last")
    results = archive.read_results(sent)
    try:
        status = int(results.pop(STATUS))
    except (KeyError, ValueError) as error:
        raise GuestError(f"the guest sent no exit status ({type(error).__name__}: {error})") from error
    return Outcome(status, results)
