"""What it costs to import a package: a fresh interpreter each time, nothing but the import."""

from __future__ import annotations

import subprocess
import sys

from bench.cases import FREE, at_most
from bench.peers import registry
from bench.results import Result

_STATEMENTS = {
    # The package loads its names when they are first used: take those of a service and of a client, and the driver.
    "binderkit": (
        "from binderkit import Ashmem, DeathRecipient, MessageOption, MessageSequence, RemoteObject, spawn;"
        " import binderkit.driver.unix"
    ),
    "multiprocessing.connection": "import multiprocessing.connection",
    "multiprocessing.managers": "import multiprocessing.managers",
    "rpyc": "import rpyc",
    "Pyro5": "import Pyro5.api",
    "grpcio": "import grpc",
}
_PROGRAM = "from time import perf_counter as now; begin = now(); {}; print((now() - begin) * 1e3)"


def measure_import(name: str, rounds: int) -> Result:
    """Time the import of a contender in ``rounds`` fresh interpreters (after one that warms the file cache)."""
    result = Result("import", "import", FREE, name, "ms")
    if name == registry.OWN:
        result.bar = at_most(40)
    command = [sys.executable, "-c", _PROGRAM.format(_STATEMENTS[name])]
    for number in range(rounds + 1):
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
        if done.returncode != 0:
            result.failed = (done.stderr.strip().splitlines() or ["it failed without a word"])[-1]
            break
        if number > 0:
            result.values.append(float(done.stdout))
    return result
