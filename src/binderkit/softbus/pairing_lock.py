"""How many wrong PINs there were, and for how long pairing is locked because of them.

Owns: ``PairingLock`` and its file ``pairing.json``.

Why it is on disk: a device that forgets its wrong PINs when it is restarted can
be guessed at for ever.

Rules upheld: a guess is judged and counted in one step, so that many at once are
not more guesses than one after the other; while it is locked even the right PIN
is refused with the same words, so that nobody learns that it was right; a clock
that is set back does not make a lock longer than it was meant to be.
"""

from __future__ import annotations

import json
import logging
import math
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from binderkit import limits
from binderkit.errors import PairingLockedError, SoftBusError, WrongPinError
from binderkit.softbus.identity import read_private, write_private

__all__ = ["PairingLock"]

_log: Final = logging.getLogger("binderkit.softbus")


class PairingLock:
    """Counts wrong PINs: limits.WRONG_PINS of them lock pairing, each time twice as long.

    Args:
        path: the file; its directory must exist.
        clock: seconds since 1970.

    Raises:
        SoftBusError: the file cannot be used (-426442749). OSError: it cannot be read.
    """

    def __init__(self, path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = path
        self._clock = clock
        self._guard = threading.Lock()
        self._wrong, self._times, self._until = _load(path)

    def remaining(self) -> float:
        """Return for how many seconds pairing is still locked; 0 when it is not."""
        with self._guard:
            return self._remaining()

    def check(self) -> None:
        """Raise PairingLockedError while pairing is locked (-425983984)."""
        with self._guard:
            self._check()

    def judge(self, right: bool) -> None:
        """Count a guess.

        Raises:
            PairingLockedError: locked: whether the guess was right stays unsaid (-425983984).
            WrongPinError: it was wrong; the text says how many are left (-425983984).
            OSError: it cannot be written down: then it must count as wrong.
        """
        with self._guard:
            self._check()
            if right:
                if (self._wrong, self._times) != (0, 0):
                    self._write(0, 0, 0.0)
                return
            wrong = self._wrong + 1
            if wrong < limits.WRONG_PINS:
                self._write(wrong, self._times, 0.0)
                raise WrongPinError(
                    "the PINs of the two devices differ, or somebody sits in between: "
                    f"{limits.WRONG_PINS - wrong} more may be tried"
                )
            times = self._times + 1
            self._write(0, times, self._clock() + _duration(times))
            raise WrongPinError(
                f"the PINs of the two devices differ, for the {limits.WRONG_PINS}rd time: pairing is locked for "
                f"{_duration(times):.0f} s"
            )

    def forgive(self) -> None:
        """Take the wrong PINs back after somebody knew one elsewhere; nothing happens while pairing is locked."""
        with self._guard:
            if self._remaining() > 0 or (self._wrong, self._times) == (0, 0):
                return
            try:
                self._write(0, 0, 0.0)
            except OSError as error:
                # What was done meanwhile stands; only the next start still counts them.
                _log.error("%s cannot be written: %s", self._path, error)

    def _check(self) -> None:
        left = self._remaining()
        if left > 0:
            raise PairingLockedError(f"too many wrong PINs: pairing is locked for another {math.ceil(left)} s")

    def _remaining(self) -> float:
        if not self._until:
            return 0.0
        return max(0.0, min(self._until - self._clock(), _duration(self._times)))

    def _write(self, wrong: int, times: int, until: float) -> None:
        # In memory first: when the disk is full the guess still counts.
        self._wrong, self._times, self._until = wrong, times, until
        write_private(self._path, json.dumps({"wrong": wrong, "times": times, "until": until}).encode())


def _duration(times: int) -> float:
    # The exponent is bounded before the power is taken: the number comes from a file.
    return min(limits.PAIRING_LOCK * 2.0 ** min(max(times - 1, 0), 30), limits.MAX_PAIRING_LOCK)


def _load(path: Path) -> tuple[int, int, float]:
    try:
        text = read_private(path)
    except FileNotFoundError:
        return 0, 0, 0.0
    try:
        return _numbers(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise SoftBusError(f"{path} cannot be understood ({error}): remove it") from None


def _numbers(row: Any) -> tuple[int, int, float]:
    if not isinstance(row, dict) or set(row) != {"wrong", "times", "until"}:
        raise ValueError("it does not hold wrong, times and until")
    wrong, times, until = row["wrong"], row["times"], row["until"]
    if type(wrong) is not int or type(times) is not int or type(until) not in (int, float):
        raise ValueError("a number is none")
    if not 0 <= wrong < limits.WRONG_PINS or times < 0 or not math.isfinite(until):
        raise ValueError("a number is out of range")
    return wrong, times, float(until)
