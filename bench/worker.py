"""The client process of one contender: ``python -m bench.worker NAME FOLDER``.

A process for each contender, so that no package's threads, garbage or crash
touches another's numbers. It takes one JSON object a line on its input
(``{"do": action, "seconds": s, "number": n}``) and answers one a line:
``{"ok": {...numbers}}`` or ``{"failed": "text"}``. The first line it writes
names the processes that take part: ``{"ok": {"pids": [...], "offers": [...]}}``.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import monotonic, perf_counter, sleep

from bench import measure
from bench.peers import registry
from bench.peers.base import Peer, bind_to_parent

Numbers = dict[str, float]
DRAIN_TIME = 20.0
"""Seconds the one-way calls that were sent may take to be handled."""
_ONEWAY_BATCH = 64


def echo(peer: Peer, seconds: float, number: int) -> Numbers:
    """An int there and back, one call at a time."""
    call = peer.echo
    if call(7) != 7:
        raise AssertionError("echo answered something else")
    return measure.timed(lambda: call(7), seconds)


def payload(peer: Peer, seconds: float, number: int) -> Numbers:
    """``number`` bytes there, their count back; the sender copies them anew for each call."""
    source = measure.payload(number)
    put = peer.put
    if put(source) != number:
        raise AssertionError("the server got another number of bytes")
    return measure.timed(lambda: put(source), seconds)


def oneway(peer: Peer, seconds: float, number: int) -> Numbers:
    """One-way calls for ``seconds``, then until the server has handled the last: the rate over the whole time."""
    notify = peer.notify
    counted = peer.count()
    sent = 0
    begin = perf_counter()
    end = begin + seconds
    while perf_counter() < end:
        for value in range(_ONEWAY_BATCH):
            notify(value)
        sent += _ONEWAY_BATCH
    deadline = monotonic() + DRAIN_TIME
    while peer.count() - counted < sent:
        if monotonic() > deadline:
            raise AssertionError(f"{sent} one-way calls sent, only {peer.count() - counted} handled")
        sleep(0.0005)  # the interval between two looks; asking without a pause would slow the server down
    return {"per_second": sent / (perf_counter() - begin)}


def clients(peer: Peer, seconds: float, number: int) -> Numbers:
    """``number`` client processes at once."""
    return {"per_second": peer.load(number, seconds)}


def crowd(peer: Peer, seconds: float, number: int) -> Numbers:
    """``number`` threads that each have one call under way all the time."""
    call = peer.echo

    def caller(value: int) -> int:
        calls = 0
        while perf_counter() < end:
            if call(value) != value:
                raise AssertionError("a reply went to the wrong call")
            calls += 1
        return calls

    with ThreadPoolExecutor(number) as threads:
        begin = perf_counter()
        end = begin + seconds
        calls = sum(threads.map(caller, range(number)))
        return {"per_second": calls / (perf_counter() - begin)}


ACTIONS: dict[str, Callable[[Peer, float, int], Numbers]] = {
    "echo": echo,
    "payload": payload,
    "oneway": oneway,
    "clients": clients,
    "crowd": crowd,
}


def _perform(peer: Peer, request: dict[str, object]) -> dict[str, object]:
    action, seconds, number = str(request["do"]), float(str(request["seconds"])), int(str(request["number"]))
    try:
        known = ACTIONS.get(action)
        numbers = known(peer, seconds, number) if known else peer.special(action, seconds, number)
    except Exception as error:  # whatever a package raises becomes this case's result; the run goes on
        traceback.print_exc()
        return {"failed": f"{type(error).__name__}: {error}"}
    return {"ok": numbers}


def main(name: str, folder: Path) -> None:
    """Serve requests until the input ends."""
    bind_to_parent()
    # Answers keep a descriptor of their own: whatever a package prints goes to standard error.
    with os.fdopen(os.dup(1), "w") as answers:
        os.dup2(2, 1)
        peer = registry.make(name, folder)
        peer.start()
        try:
            print(json.dumps({"ok": {"pids": peer.pids(), "offers": sorted(peer.offers)}}), file=answers, flush=True)
            for line in sys.stdin:
                print(json.dumps(_perform(peer, json.loads(line))), file=answers, flush=True)
        finally:
            peer.close()


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
