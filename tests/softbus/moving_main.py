"""A whole softbus device that listens wherever its machine is, driven by lines.

    python moving_main.py '{"directory": …, "settings": {…}}'

Says ["ready"], [event, udid, boot] for devices that come and go, ["began", text] when a call begins here,
["called", answer or error], ["streamed", address or error], ["hosts", address …], ["devices", udid …].
Reads: "call UDID SECONDS" (how long it takes there), "stream UDID", "hosts", "devices".
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Final

from binderkit.errors import IpcError
from binderkit.softbus.bulk_port import Purpose
from binderkit.softbus.bulk_stream import Stream
from binderkit.softbus.calls import Request
from binderkit.softbus.device import SoftBusDevice
from binderkit.softbus.engine import Presence
from binderkit.softbus.settings import Settings

TARGET: Final = 1


def say(*words: object) -> None:
    """Print a line at once: programs that share their output do not cut each other's lines."""
    os.write(1, json.dumps(words).encode() + b"\n")


def serve(request: Request) -> bytes:
    say("began", request.source)
    threading.Event().wait(float(request.payload))  # how long the call takes: what it is made for
    return b"done"


def watch(event: Presence) -> None:
    say(event.event.value, event.device.udid, event.device.boot)


def call(device: SoftBusDevice, udid: str, seconds: str) -> None:
    try:
        say("called", device.calls.call(udid, TARGET, seconds.encode(), timeout=20).decode())
    except IpcError as error:
        say("called", f"{type(error).__name__}: {error}")


def stream(device: SoftBusDevice, udid: str) -> None:
    try:
        opened = device._port.dial(udid, Purpose.SESSION, timeout=5)
    except IpcError as error:
        say("streamed", f"{type(error).__name__}: {error}")
        return
    say("streamed", opened.address[0])
    opened.close()


def main() -> None:
    """Run until the standard input ends."""
    told = json.loads(sys.argv[1])
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    device = SoftBusDevice(Path(told["directory"]), abilities=lambda *_: [], settings=Settings(**told["settings"]))
    try:
        device._port.serve(Purpose.SESSION, Stream.close)
        device.calls.serve(serve)
        say("ready")
        device.calls.on_device(watch)
        for line in sys.stdin:
            word, *more = line.split()
            if word == "call":
                threading.Thread(target=call, args=(device, *more)).start()
            elif word == "stream":
                stream(device, *more)
            elif word == "devices":
                say("devices", *sorted(device.calls.devices()))
            else:
                say("hosts", *device.hosts)
    finally:
        device.leave_network()
        device.close()


if __name__ == "__main__":
    main()
