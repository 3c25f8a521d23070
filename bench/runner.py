"""Runs the cases: client processes, rounds, placements.

Every round of a case measures the C program first and then each contender, so
that a slow minute of the machine hits all of them, and each ratio is taken
inside its round. Contenders that fail are reported with their words; the
others go on.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.cases import FREE, ONE_CPU, Case, Unit
from bench.floor import Floor
from bench.machine import placed
from bench.peers import registry
from bench.results import C, Result

START_TIME = 20.0
"""Seconds a contender may take to start its server and connect."""
ACTION_TIME = 60.0
"""Seconds an action may take beyond the time it is asked to measure."""
END_WAIT = 20.0
"""Seconds a contender may take to end what it started, before all that is left in its process group is killed."""
_NS: dict[Unit, float] = {"us": 1e3, "ms": 1e6, "s": 1e9}
_BYTES_PER_NS: dict[Unit, float] = {"GB/s": 1, "MB/s": 1e-3}


@dataclass(frozen=True)
class Settings:
    """How a run is made.

    Attributes:
        rounds: measurements of each case and contender; the median counts.
        seconds: length of one measurement.
        cpu: where "one cpu" is; None leaves that placement out.
        folder: private to the run.
        idle_clients: how many connected clients the idle case has.
    """

    rounds: int
    seconds: float
    idle_clients: int
    cpu: int | None
    folder: Path


class WorkerFailed(Exception):
    """A contender could not do what it was asked; the text is the reason."""


class Worker:
    """A contender's client process (bench/worker.py), bounded in time and ended with everything it started."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name = name
        folder.mkdir(mode=0o700)
        self._errors_path = folder / "stderr"
        with self._errors_path.open("wb") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "bench.worker", name, str(folder)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                start_new_session=True,  # a process group that can be ended as a whole
            )
        self._buffer = b""
        try:
            started = self._answer(START_TIME)
        except BaseException:
            self.close()
            raise
        self.offers = frozenset(started["offers"])
        self.pids = [self._process.pid, *started["pids"]]

    def ask(self, action: str, seconds: float, number: int) -> dict[str, float]:
        """Let the contender measure something.

        Raises:
            WorkerFailed: it failed, ended, or took too long.
        """
        assert self._process.stdin is not None
        request = json.dumps({"do": action, "seconds": seconds, "number": number})
        try:
            self._process.stdin.write(request.encode() + b"\n")
            self._process.stdin.flush()
        except BrokenPipeError:
            raise WorkerFailed(f"its process ended: {self._last_words()}") from None
        return self._answer(seconds + ACTION_TIME)

    def _answer(self, time_limit: float) -> dict[str, Any]:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while b"\n" not in self._buffer:
            if not select.select([descriptor], [], [], time_limit)[0]:
                raise WorkerFailed(f"no answer within {time_limit:.0f} s")
            chunk = os.read(descriptor, 65536)
            if not chunk:
                raise WorkerFailed(f"its process ended: {self._last_words()}")
            self._buffer += chunk
        line, _, self._buffer = self._buffer.partition(b"\n")
        answer = json.loads(line)
        if "failed" in answer:
            raise WorkerFailed(answer["failed"])
        numbers: dict[str, Any] = answer["ok"]
        return numbers

    def _last_words(self) -> str:
        try:
            self._process.wait(3)  # it closes its answers before it has written all it has to say
        except subprocess.TimeoutExpired:
            return "it closed its output but goes on running"
        lines = self._errors_path.read_text(errors="replace").strip().splitlines()
        return lines[-1] if lines else "without a word"

    def said(self, lines: int = 15) -> str:
        """Return the last lines of the process's error output."""
        return "\n".join(self._errors_path.read_text(errors="replace").strip().splitlines()[-lines:])

    def close(self) -> None:
        """End the process: asked first (its input ends), then killed with all it started."""
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdout.close()
        try:
            process.stdin.close()
        except BrokenPipeError:
            pass  # it ended before it read the last request
        try:
            process.wait(END_WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass  # nothing of the group is left: the usual case
        process.wait()


class Workers:
    """Starts client processes when they are first needed, replaces one that failed; ends all at the end."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: dict[str, Worker] = {}
        self._started = 0

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exc: object) -> None:
        with ExitStack() as stack:
            for worker in self._running.values():
                stack.callback(worker.close)

    def get(self, name: str) -> Worker:
        """Return the client process of a contender."""
        worker = self._running.get(name)
        if worker is None:
            self._started += 1
            worker = self._running[name] = Worker(name, self._folder / f"{self._started}")
        return worker

    def drop(self, name: str) -> None:
        """End a client process; the next case gets a fresh one."""
        worker = self._running.pop(name, None)
        if worker is not None:
            worker.close()

    def give_up(self, name: str, action: str) -> None:
        """End a client process after a failure, and show its own words."""
        worker = self._running.get(name)
        if worker is not None:
            print(f"\n{name} failed in {action}; it said:\n{worker.said()}", file=sys.stderr)
        self.drop(name)


def base_peer(case: Case) -> str | None:
    """Return the contender that the ratio is taken to, if it is one."""
    return case.base.removeprefix("peer:") if case.base is not None and case.base.startswith("peer:") else None


def in_unit(unit: Unit, numbers: dict[str, float], size: int) -> tuple[float, float | None]:
    """Return value and p99 of one measurement in the unit of its case."""
    if unit == "/s":
        return numbers["per_second"], None
    if unit == "MB":
        return numbers["megabytes"], None
    median, p99 = numbers["median_ns"], numbers["p99_ns"]
    if unit in _BYTES_PER_NS:
        scale = _BYTES_PER_NS[unit]
        return size / median / scale, size / p99 / scale
    return median / _NS[unit], p99 / _NS[unit]


class _CaseRun:
    """One case in one placement."""

    def __init__(self, case: Case, placement: str, names: Iterable[str], settings: Settings) -> None:
        self._case = case
        self._cpu = settings.cpu if placement == ONE_CPU else None
        self._seconds = settings.seconds * case.length
        self._rounds = max(1, round(settings.rounds * case.rounds))
        self._names = list(names)
        self._base_peer = base_peer(case)
        floor = [C] if case.base is not None and ":" not in case.base else []
        self._results = {
            who: Result(case.name, case.title, placement, who, case.unit) for who in [*floor, *self._names]
        }
        own = self._results.get(registry.RPC if case.between_devices else registry.OWN)
        if own is not None and placement == case.bar_placement:
            own.bar = case.bar

    def run(self, floor: Floor, workers: Workers) -> list[Result]:
        for _ in range(self._rounds):
            base = self._measure_floor(floor)
            for name in self._names:
                result = self._results[name]
                if result.failed is not None:
                    continue
                if not self._measure(result, base, workers):
                    workers.give_up(name, self._case.name)
                elif name == self._base_peer and result.values:
                    base = result.values[-1]
        offered = [result for result in self._results.values() if result.failed != "not offered"]
        return offered

    def _measure_floor(self, floor: Floor) -> float | None:
        result = self._results.get(C)
        if result is None:
            return None
        assert self._case.base is not None
        numbers = floor.run(self._case.base, self._cpu, self._seconds, self._case.number)
        return self._add(result, numbers)

    def _measure(self, result: Result, base: float | None, workers: Workers) -> bool:
        """Measure one contender in one round; false when it failed and must not be used any more."""
        case = self._case
        try:
            worker = workers.get(result.who)
            if case.action not in worker.offers:
                result.failed = "not offered"
                return True
            with placed(worker.pids, self._cpu):
                if case.base is not None and case.base.startswith("own:"):
                    own = worker.ask(case.base.removeprefix("own:"), self._seconds, 0)
                    base, _ = in_unit(case.unit, own, case.number)
                value = self._add(result, worker.ask(case.action, self._seconds, case.number))
        except WorkerFailed as error:
            result.failed = str(error)
            return False
        if base is not None:
            result.ratios.append(value / base)
        return True

    def _add(self, result: Result, numbers: dict[str, float]) -> float:
        value, p99 = in_unit(self._case.unit, numbers, self._case.number)
        result.values.append(value)
        if p99 is not None:
            result.p99s.append(p99)
        return value


def run_case(case: Case, names: Iterable[str], settings: Settings, floor: Floor, workers: Workers) -> list[Result]:
    """Measure a case in every placement the run has.

    Args:
        case: from bench/cases.py.
        names: contenders that may take part; only binderkit does where ``case.peers`` is false, and the one that the
            ratio is taken to.

    Returns:
        The results; none when the one that the ratio is taken to does not take part.
    """
    base, own = base_peer(case), registry.RPC if case.between_devices else registry.OWN
    group = registry.REMOTE_NAMES if case.between_devices else registry.NAMES
    taking_part = [name for name in names if name in group and (case.peers or name in (own, base))]
    if base is not None:
        if base not in taking_part:
            return []
        taking_part.sort(key=lambda name: name != base)  # it is measured first, as the C program is
    placements = [place for place in case.placements if place == FREE or settings.cpu is not None]
    results: list[Result] = []
    for placement in placements:
        results += _CaseRun(case, placement, taking_part, settings).run(floor, workers)
    return results
