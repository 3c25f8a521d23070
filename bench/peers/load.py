"""One of many client processes: ``python -m bench.peers.load NAME FOLDER SECONDS``.

Connects, says "ready", waits for a line on its input, calls echo for SECONDS
and prints how many calls it made.
"""

from __future__ import annotations

import sys
from pathlib import Path
from time import perf_counter

from bench.peers import base, registry


def main(name: str, folder: str, seconds: float) -> None:
    """Do one client's share of the load."""
    base.bind_to_parent()
    peer = registry.make(name, Path(folder))
    peer.connect()
    peer.echo(1)
    base.say_ready()
    if sys.stdin.buffer.readline() != base.GO:
        return  # the run was given up
    print(count_calls(peer, seconds), flush=True)


def count_calls(peer: base.Peer, seconds: float) -> int:
    """Call echo for ``seconds``; return the number of calls."""
    echo = peer.echo
    end = perf_counter() + seconds
    calls = 0
    while perf_counter() < end:
        echo(calls)
        calls += 1
    return calls


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]))
