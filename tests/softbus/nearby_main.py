"""A device for tests in network namespaces: offers pairing with a secret and announces it, or finds and joins.

Usage: nearby_main.py <directory> <name> offer|join. Says one JSON line for each thing that happens.
"""

from __future__ import annotations

import json
import queue
import sys
import time
from pathlib import Path

from binderkit.softbus.discovery import Discovery
from binderkit.softbus.discovery_records import FoundDevice, PublishInfo, SubscribeInfo
from binderkit.softbus.pairing import Pairing
from binderkit.softbus.trust import TrustStore

SECRET = bytes(range(32))


def say(*words: object) -> None:
    print(json.dumps(words), flush=True)


def main() -> None:
    store = TrustStore(Path(sys.argv[1]), name=sys.argv[2])
    discovery, pairing = Discovery(store), Pairing(store)
    if sys.argv[3] == "offer":
        offer = pairing.offer(secret=SECRET)
        discovery.set_pairing_port(offer.port)
        discovery.publish("test", PublishInfo(1, data="here"))
        say("ready", store.udid)
        say("paired", offer.wait(30).udid)
        sys.stdin.readline()
    else:
        say("ready", store.udid)
        sys.stdin.readline()
        start = time.monotonic()
        found: queue.Queue[FoundDevice] = queue.Queue()
        discovery.refresh("test", SubscribeInfo(1), found.put)
        device = found.get(timeout=30)
        say("found", device.name, device.addresses, device.pairing_port, time.monotonic() - start)
        say("paired", pairing.join((device.addresses[0], device.pairing_port), SECRET).udid)
    pairing.close()
    discovery.close()


main()
