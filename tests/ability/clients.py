"""What the tests of abilities use as a client."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

from binderkit.ability import ConnectOptions, ElementName, FailureCode, Want, connect_service_extension_ability
from binderkit.interface import proxy
from binderkit.ipc.remote import IRemoteObject
from tests.ability.contracts import IRecorder
from tests.ability.device import WAIT

BUNDLE = "test.bundle"


def want(ability: str, **parameters: str) -> Want:
    """Return a Want for an ability of the tests' bundle."""
    return Want(BUNDLE, ability, parameters=dict(parameters))


class Told(ConnectOptions):
    """Callbacks that remember what they are told, in order."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue()
        super().__init__(self._connected, self._disconnected, self._failed)

    def _connected(self, element: ElementName, remote: IRemoteObject) -> None:
        self._queue.put(("connect", remote))

    def _disconnected(self, element: ElementName) -> None:
        self._queue.put(("disconnect", element))

    def _failed(self, code: FailureCode) -> None:
        self._queue.put(("failed", code))

    def next(self) -> tuple[str, Any]:
        """Wait for the next call."""
        return self._queue.get(timeout=WAIT)

    def nothing(self) -> bool:
        """Whether nothing more was told so far."""
        return self._queue.empty()


def connected(ability: str) -> tuple[int, IRecorder, Told]:
    """Connect to a Recorder; return the connection's id, its proxy and its callbacks."""
    told = Told()
    number = connect_service_extension_ability(want(ability), told)
    kind, remote = told.next()
    assert kind == "connect", remote
    return number, proxy(IRecorder, remote), told


def failure(ability: str, **parameters: str) -> FailureCode:
    """Connect to an ability that cannot be; return what on_failed got."""
    told = Told()
    connect_service_extension_ability(want(ability, **parameters), told)
    kind, code = told.next()
    assert kind == "failed", code
    assert isinstance(code, FailureCode)
    return code


def journal(directory: Path) -> list[str]:
    """Return what the recorders wrote."""
    path = directory / "journal"
    return path.read_text().splitlines() if path.exists() else []
