"""The idle-clients case: what thousands of clients that do nothing cost the server and the one that works."""

from __future__ import annotations

from bench.cases import FREE, ONE_CPU, at_most, at_most_times
from bench.machine import placed
from bench.peers import registry
from bench.results import Result
from bench.runner import Settings, WorkerFailed, Workers

MAX_RATIO = 1.3
MAX_THREADS = 60


def measure_idle(settings: Settings, workers: Workers) -> list[Result]:
    """Run the case once in a fresh client process; the ratio is to the same client's call without the others."""
    number = settings.idle_clients
    placement = FREE if settings.cpu is None else ONE_CPU
    title = f"call beside {number:,} idle clients (ratio: to the call alone)"
    latency = Result("idle", title, placement, registry.OWN, "us", bar=at_most_times(MAX_RATIO))
    threads = Result("idle", "  threads of the server then", placement, registry.OWN, "threads")
    threads.bar = at_most(MAX_THREADS)
    memory = Result("idle", "  resident memory of the server then", placement, registry.OWN, "MB")
    connect = Result("idle", "  start and connection of each client", FREE, registry.OWN, "ms")
    workers.drop(registry.OWN)
    try:
        worker = workers.get(registry.OWN)
        # Placing the client process is enough: the server it starts inherits its cpu.
        with placed(worker.pids, settings.cpu):
            numbers = worker.ask("idle", settings.seconds, number)
    except WorkerFailed as error:
        workers.give_up(registry.OWN, "idle")
        latency.failed = str(error)
        return [latency]
    latency.values.append(numbers["median_ns"] / 1e3)
    latency.p99s.append(numbers["p99_ns"] / 1e3)
    latency.ratios.append(numbers["median_ns"] / numbers["alone_ns"])
    threads.values.append(numbers["threads"])
    memory.values.append(numbers["megabytes"])
    connect.values.append(numbers["connect_ms"])
    return [latency, threads, memory, connect]
