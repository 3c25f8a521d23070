"""A device in a process of its own: softbus and dbinder as in the real one, an app, and lines that say what to do.

    python -m tests.dbinder.device_main '{"directory": …, "host": …}'

``directory`` holds the device's key and whom it trusts. Says what device_app says, and ["online", udid, network id],
["offline", …]. Reads: "get UDID" (says ["got"] or ["refused", code]), "held" (says ["held", exports, imports]), and
what the app does: "call COUNT INTERVAL", "jot COUNT", "large SIZE", "witness NAME", "drop".
"""

from __future__ import annotations

import gc
import json
import os
import sys
from pathlib import Path

import binderkit as bk
from binderkit.dbinder.service import DBinderService
from binderkit.errors import IpcError
from binderkit.interface import proxy
from binderkit.softbus.device import SoftBusDevice
from binderkit.softbus.engine import Presence
from tests.dbinder.device_app import App, IApp
from tests.softbus.device_main import say

DIARY = 5000


def _watch(event: Presence) -> None:
    say(event.event.value, event.device.udid, event.device.network_id)


def _obey(dbinder: DBinderService, app: IApp, command: str, words: list[str]) -> None:
    if command == "get":
        try:
            app.use(dbinder.get(words[0], DIARY))
        except IpcError as error:
            say("refused", error.code, str(error))
        else:
            say("got")
    elif command == "held":
        gc.collect()
        assert dbinder.outbox.flush(10)
        held = dbinder.statistics()
        say("held", held["exports"], held["imports"])
    elif command == "drop":
        app.drop()
    elif command == "call":
        app.call(int(words[0]), float(words[1]))
    elif command == "jot":
        app.jot(int(words[0]))
    elif command == "large":
        app.large(int(words[0]))
    elif command == "witness":
        app.witness(words[0])
    else:
        raise ValueError(command)


def main() -> None:
    told = json.loads(sys.argv[1])
    with bk.spawn(App) as child:
        app = proxy(IApp, child.root)
        diary = app.diary().as_object()
        os.environ["BINDERKIT_SOFTBUS_LISTEN"] = told["host"]
        device = SoftBusDevice(Path(told["directory"]), abilities=lambda _: ())
        dbinder = DBinderService(device.calls, device.bulk, {DIARY: diary}.get, udid=device.udid)
        device.calls.on_device(_watch)
        say("ready")
        for line in sys.stdin:
            command, *words = line.split()
            _obey(dbinder, app, command, words)
        device.leave_network()
        dbinder.close()
        device.close()


if __name__ == "__main__":
    main()
