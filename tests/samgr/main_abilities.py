"""System abilities for the tests of sa_main, in processes of their own; what they do is written to files."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from binderkit.samgr import host
from binderkit.samgr.reason import OnDemandReason
from binderkit.samgr.system_ability import SystemAbility
from tests.samgr.processes import Adder


class Noted(SystemAbility):
    """Publishes an Adder; appends its events to the file NOTES of the environment."""

    def note(self, text: str) -> None:
        with Path(os.environ["NOTES"]).open("a") as file:
            file.write(f"{text} {self.ability_id}\n")

    def on_start(self, reason: OnDemandReason) -> None:
        self.note("start")
        self.publish(Adder())

    def on_stop(self, reason: OnDemandReason) -> None:
        self.note("stop")


class Neighbour(Noted):
    """Hears of ability 0x51."""

    def on_start(self, reason: OnDemandReason) -> None:
        self.add_system_ability_listener(0x51)
        super().on_start(reason)

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        self.note(f"added {ability_id}:")

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        self.note(f"removed {ability_id}:")


class NeverStops(Noted):
    def on_start(self, reason: OnDemandReason) -> None:
        host.STOP_LIMIT, host.SINGLE_STOP_LIMIT = 0.6, 0.3  # type: ignore[misc]  # else the test takes 4 s
        super().on_start(reason)

    async def on_stop(self, reason: OnDemandReason) -> None:  # type: ignore[override]
        self.note("stop")
        threading.Event().wait()  # blocks the event loop itself
