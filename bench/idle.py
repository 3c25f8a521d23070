"""What thousands of idle clients cost a server, and the one client that is not idle."""

from __future__ import annotations

from contextlib import ExitStack
from time import perf_counter

import binderkit as bk
from bench import measure, services
from bench.peers.base import start_module, stop
from bench.services import call_echo


def cost_of_idle_clients(seconds: float, number: int) -> dict[str, float]:
    """Measure a call alone and beside ``number`` connected clients that do nothing.

    Returns:
        ``alone_ns`` and ``median_ns`` of the hot client's call, ``p99_ns`` beside the others, the server's
        ``threads`` and ``megabytes`` (beside them), and ``connect_ms`` for each client's start and connection.
    """
    with ExitStack() as stack:
        server = start_module("bench.idle_server")
        stack.callback(stop, server)
        hot = bk.IPCSkeleton.get_context_object()
        alone = measure.timed(lambda: call_echo(hot, 7), seconds)
        began = perf_counter()
        herd = start_module("bench.idle_herd", str(number))
        stack.callback(stop, herd)
        connect_ms = (perf_counter() - began) * 1e3 / number
        beside = measure.timed(lambda: call_echo(hot, 7), seconds)
        return {
            "alone_ns": alone["median_ns"],
            "median_ns": beside["median_ns"],
            "p99_ns": beside["p99_ns"],
            "threads": _ask(hot, services.THREADS),
            "megabytes": _ask(hot, services.RESIDENT) * 1024 / 1e6,
            "connect_ms": connect_ms,
        }


def _ask(target: bk.IRemoteObject, code: int) -> int:
    reply = bk.MessageSequence()
    target.send_request(code, bk.MessageSequence(), reply)
    return reply.read_int()
