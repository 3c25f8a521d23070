"""Thousands of idle clients: ``python -m bench.idle_herd NUMBER``.

One process that has imported binderkit but not used it forks the clients, so
that they share the memory of the interpreter and start in milliseconds; each
connects on its own, makes one call and then does nothing. Says "ready" when
all are connected; all end with it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import binderkit as bk
from bench.peers.base import bind_to_parent, say_ready
from bench.services import call_echo

AT_ONCE = 8
"""Clients that may be connecting at the same time."""


def _client(connected: int, hold: int) -> None:
    proxy = bk.IPCSkeleton.get_context_object()
    if call_echo(proxy, 7) != 7:
        raise AssertionError("echo answered something else")
    os.write(connected, b".")
    os.read(hold, 1)  # until the herd ends


def _in_child(work: Callable[[], None]) -> None:
    """Run ``work`` in a forked child, which never returns to the caller's code."""
    if os.fork() != 0:
        return
    status = 1
    try:
        bind_to_parent()
        work()
        status = 0
    finally:
        os._exit(status)


def main(number: int) -> None:
    """Fork the clients and keep them until killed."""
    bind_to_parent()
    # The caller may sit on one cpu for its measurement; connecting thousands of clients need not.
    os.sched_setaffinity(0, range(os.cpu_count() or 1))
    reader, connected = os.pipe()
    hold, _held_open = os.pipe()
    waiting = 0
    for _ in range(number):
        _in_child(lambda: _client(connected, hold))
        waiting += 1
        if waiting >= AT_ONCE:
            waiting -= _count(reader)
    while waiting:
        waiting -= _count(reader)
    say_ready()
    sys.stdin.buffer.read()


def _count(reader: int) -> int:
    """Wait until some clients are connected; return how many."""
    return len(os.read(reader, 4096))


if __name__ == "__main__":
    main(int(sys.argv[1]))
