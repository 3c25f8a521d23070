"""A client in a process of its own."""

from __future__ import annotations

import os

from binderkit.ability import Want, connect
from tests.ability.clients import connected
from tests.ability.contracts import IRecorder


class Other(IRecorder):
    """Connects to abilities when it is asked to."""

    def __init__(self) -> None:
        self._held: object = None

    def events(self) -> list[str]:
        """Connect to the Recorder and stay connected."""
        self._held = connected("Recorder")
        return ["connected"]

    def pid(self) -> int:
        return os.getpid()

    def terminate(self) -> None:
        os._exit(1)

    def connect(self, bundle: str, ability: str) -> str:
        with connect(Want(bundle, ability), IRecorder) as recorder:
            return str(recorder.pid())
