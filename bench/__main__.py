"""``python -m bench``: measure, print a table, write JSON.

Nothing is asserted about the numbers. The exit code is 1 when a case of binderkit's own broke, 2 for wrong use, else 0.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import os
import sys
import tempfile
import time
from collections.abc import Collection
from pathlib import Path

from bench import cases, crowd, machine, on_demand, results, startup
from bench.floor import Floor
from bench.peers import registry
from bench.results import Result
from bench.runner import Settings, Workers, base_peer, run_case


def _cases(pattern: str) -> list[str]:
    """Return the cases that a pattern names."""
    found = fnmatch.filter(cases.NAMES, pattern)
    if not found:
        raise argparse.ArgumentTypeError(f"{pattern!r} names no case; there are {', '.join(cases.NAMES)}")
    return found


def _arguments(words: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description="Latency and throughput of binderkit.")
    parser.add_argument("--quick", action="store_true", help="a minute's run that shows whether everything works")
    parser.add_argument("--only", action="extend", type=_cases, metavar="NAME", default=[],
                        help=f"only this case; may be repeated, and be a pattern such as 'remote*': "
                             f"{', '.join(cases.NAMES)}")  # fmt: skip
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    parser.add_argument("--peers", action=argparse.BooleanOptionalAction, default=True, help="other packages too")
    parser.add_argument("--pin", action=argparse.BooleanOptionalAction, default=True,
                        help="measure with everything on one cpu, too")  # fmt: skip
    return parser.parse_args(words)


def _contenders(chosen: Collection[str], peers: bool) -> list[str]:
    """Return who can take part: binderkit, whom its ratios are taken to, and if ``peers`` the others too."""
    asked = [case for case in cases.CASES if case.name in chosen]
    between_devices = [case.name for case in asked if case.between_devices]
    names = [*registry.NAMES] if len(between_devices) < len(set(chosen)) else []
    names += registry.REMOTE_NAMES if between_devices else ()
    bases = {base_peer(case) for case in asked}
    names = [name for name in names if peers or name in registry.OURS or name in bases]
    absent = [name for name in names if not registry.installed(name)]
    if absent:
        print(f"not installed, left out: {', '.join(absent)}", file=sys.stderr)
    return [name for name in names if name not in absent]


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)


def _measure(arguments: argparse.Namespace, settings: Settings) -> list[Result]:
    chosen = arguments.only or cases.NAMES
    names = _contenders(chosen, arguments.peers)
    found: list[Result] = []
    floor = Floor(settings.folder)
    with Workers(settings.folder) as workers:
        for case in cases.CASES:
            if case.name in chosen:
                _progress(case.title)
                found += run_case(case, names, settings, floor, workers)
        if "on-demand" in chosen:
            _progress("start on demand")
            found += on_demand.measure_on_demand(settings, workers)
        if "idle" in chosen:
            _progress("idle clients")
            found += crowd.measure_idle(settings, workers)
    if "import" in chosen:
        _progress("import")
        found += [startup.measure_import(name, settings.rounds) for name in names if name in registry.NAMES]
    _progress("")
    return found


def main(words: list[str] | None = None) -> int:
    """Run the benchmark; returns the exit code."""
    arguments = _arguments(words)
    # Compiled modules are kept, as they are for every installed package: start and size of a process are part of this.
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
    began = time.monotonic()
    facts = machine.facts()
    with tempfile.TemporaryDirectory(prefix="bk-bench-") as folder:
        settings = Settings(
            rounds=2 if arguments.quick else 5,
            seconds=0.1 if arguments.quick else 0.3,
            idle_clients=cases.IDLE_CLIENTS_QUICK if arguments.quick else cases.IDLE_CLIENTS,
            cpu=min(os.sched_getaffinity(0)) if arguments.pin else None,
            folder=Path(folder),
        )
        found = _measure(arguments, settings)
    print("  ".join(f"{key} {value}" for key, value in facts.items() if not isinstance(value, dict)))
    print(results.table(found))
    print(f"{results.verdict(found)}; {time.monotonic() - began:.0f} s")
    if arguments.json is not None:
        document = {"machine": facts, "quick": arguments.quick, "results": [result.as_json() for result in found]}
        arguments.json.write_text(json.dumps(document, indent=1) + "\n")
    broken = [result for result in found if result.who in registry.OURS and result.failed is not None]
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
