"""A device in a process of its own, driven by lines; for tests that cut, kill and slow down.

    python device_main.py '{"own": …, "trusted": […], "ca": …, "certificate": …, "key": …, "settings": {…}}'

Prints one JSON list a line: ["online", udid, boot, network id], ["offline", …], ["ran", id] for every call executed,
["ended", id, outcome, seconds, text] for every call made; ["incoming", udid] for
every request that got through. Reads: "call UDID COUNT INTERVAL", "send UDID COUNT",
"trust UDID …", which ends in ["trusts", seconds], and "quit".
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from binderkit.errors import IpcError
from binderkit.softbus.calls import Calls, Request
from binderkit.softbus.engine import Handler, Incoming, Presence, TrustSnapshot
from binderkit.softbus.zenoh_config import ZenohSettings
from binderkit.softbus.zenoh_engine import ZenohEngine


def say(*words: object) -> None:
    """Print a line at once: programs that share their output do not cut each other's lines."""
    os.write(1, json.dumps(words).encode() + b"\n")


def serve(request: Request) -> bytes:
    say("sent" if request.oneway else "ran", request.payload.decode())
    return request.payload


def watch(event: Presence) -> None:
    say(event.event.value, event.device.udid, event.device.boot, event.device.network_id)


def one_call(calls: Calls, udid: str, name: str) -> None:
    begin, text = time.monotonic(), ""
    try:
        outcome = "ok" if calls.call(udid, 1, name.encode(), timeout=8) == name.encode() else "wrong"
    except IpcError as error:
        outcome, text = type(error).__name__, str(error)
    say("ended", name, outcome, time.monotonic() - begin, text)


def many_calls(calls: Calls, udid: str, count: int, interval: float) -> None:
    pause = threading.Event()
    threads = []
    for number in range(count):
        threads.append(threading.Thread(target=one_call, args=(calls, udid, f"call-{number}")))
        threads[-1].start()
        pause.wait(interval)  # the load of the test, not synchronisation
    for thread in threads:
        thread.join()
    say("done", count)


def trust_of(told: dict[str, Any]) -> TrustSnapshot:
    """Return whom the device is told to trust."""
    key, trusted = Path(told["key"]), frozenset(told["trusted"])
    return TrustSnapshot(told["own"], trusted, told["ca"].encode(), told["certificate"].encode(), key)


def settings_of(told: dict[str, Any]) -> ZenohSettings:
    """Return how it is told to speak."""
    settings: dict[str, Any] = {
        name: tuple(value) if isinstance(value, list) else value for name, value in told["settings"].items()
    }
    return ZenohSettings(**settings)


class WatchedEngine(ZenohEngine):
    """Says whose requests get through to the handler at all, before anything else looks at them."""

    def open(self, handler: Handler, presence: Callable[[Presence], None]) -> None:
        """Open it; see Engine."""

        def said(incoming: Incoming) -> Callable[[], None] | None:
            say("incoming", incoming.source)
            return handler(incoming)

        super().open(said, presence)


def main() -> None:
    told = json.loads(sys.argv[1])
    calls = Calls(WatchedEngine(trust_of(told), settings_of(told), name="device"))
    calls.serve(serve)
    calls.on_device(watch)
    say("ready")
    for line in sys.stdin:
        command, *words = line.split()
        if command == "quit":
            break
        if command == "call":
            threading.Thread(target=many_calls, args=(calls, words[0], int(words[1]), float(words[2]))).start()
        elif command == "send":
            for number in range(int(words[1])):
                calls.send(words[0], 1, f"{number}".encode())
        elif command == "trust":
            begin = time.monotonic()
            calls.engine.set_trust(replace(trust_of(told), trusted=frozenset(words)))
            say("trusts", time.monotonic() - begin)
    calls.close()


if __name__ == "__main__":
    main()
