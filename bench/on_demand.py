"""The on-demand case: from the request for an ability that does not run to its first reply, with the parts of it."""

from __future__ import annotations

from bench.cases import FREE, at_most
from bench.peers import registry
from bench.results import Result
from bench.runner import Settings, WorkerFailed, Workers

STARTS = 5
"""Processes that are started in each round."""
MAX_MS = 250
_PARTS = {
    "spawn_ns": "  until its process's interpreter runs",
    "import_ns": "  until the process is known to SAMgr",
    "register_ns": "  its ability: made, registered, found, called",
}


def measure_on_demand(settings: Settings, workers: Workers) -> list[Result]:
    """Run the case; every start is of a process of its own."""
    whole = Result("on-demand", "start on demand, to the first reply", FREE, registry.OWN, "ms", bar=at_most(MAX_MS))
    parts = {key: Result("on-demand", title, FREE, registry.OWN, "ms") for key, title in _PARTS.items()}
    for _ in range(max(1, round(settings.rounds * 0.4))):
        try:
            numbers = workers.get(registry.OWN).ask("on-demand", settings.seconds, STARTS)
        except WorkerFailed as error:
            workers.give_up(registry.OWN, "on-demand")
            whole.failed = str(error)
            return [whole]
        whole.values.append(numbers["median_ns"] / 1e6)
        whole.p99s.append(numbers["p99_ns"] / 1e6)
        for key, part in parts.items():
            part.values.append(numbers[key] / 1e6)
    return [whole, *parts.values()]
