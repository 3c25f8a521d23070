"""The C ping-pong that every number is compared with: built on the spot, run in every round."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parent / "c" / "pingpong.c"
TIME_LIMIT = 60
"""Seconds one run of the C program may take."""


class Floor:
    """The built C program.

    Args:
        folder: where the binary is put (private to this run).

    Raises:
        SystemExit: no C compiler was found, or it failed; the text says what to install.
    """

    def __init__(self, folder: Path) -> None:
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise SystemExit("the benchmark needs a C compiler; install one (Debian: apt-get install gcc libc6-dev)")
        self._binary = folder / "pingpong"
        command = [compiler, "-O2", "-pthread", "-o", str(self._binary), str(SOURCE)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise SystemExit(f"{SOURCE} did not compile:\n{done.stderr}")

    def run(self, mode: str, cpu: int | None, seconds: float, number: int = 0) -> dict[str, float]:
        """Run one measurement.

        Args:
            mode: echo, payload, oneway or clients (see the head of pingpong.c).
            cpu: pin all its processes to this cpu; None: the scheduler places them.
            seconds: how long to measure.
            number: bytes of a payload, or number of client processes.

        Returns:
            ``median_ns``, ``p99_ns`` and ``calls``, or ``per_second`` for the modes that give a rate.
        """
        place = -1 if cpu is None else cpu
        command = [str(self._binary), mode, str(place), str(int(seconds * 1000)), str(number)]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=TIME_LIMIT)
        result: dict[str, float] = json.loads(done.stdout)
        return result
