"""Service abilities that remember what happened to them."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

from binderkit.ability import ServiceExtensionAbility, Want, connect
from binderkit.errors import AbilityError
from tests.ability.contracts import IRecorder

JOURNAL = Path(os.environ["BINDERKIT_RUNTIME_DIR"]) / "journal"


class RecorderStub(IRecorder):
    """What clients of a Recorder get."""

    def __init__(self, ability: Recorder) -> None:
        self._ability = ability

    def events(self) -> list[str]:
        return list(self._ability.seen)

    def pid(self) -> int:
        return os.getpid()

    def terminate(self) -> None:
        self._ability.context.terminate_self()

    def connect(self, bundle: str, ability: str) -> str:
        try:
            with connect(Want(bundle, ability), IRecorder) as other:
                return str(other.pid())
        except AbilityError as error:
            return str(error)


class Recorder(ServiceExtensionAbility):
    """Remembers its calls, and writes them to a file that outlives it."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def note(self, text: str) -> None:
        """Remember something."""
        self.seen.append(text)
        with JOURNAL.open("a") as file:
            file.write(f"{self.context.element.ability_name} {text}\n")

    def on_create(self, want: Want) -> None:
        self.note(f"create {want.parameters.get('word', '')}".strip())

    def on_connect(self, want: Want) -> RecorderStub:
        self.note("connect")
        return RecorderStub(self)

    def on_request(self, want: Want, start_id: int) -> None:
        self.note(f"request {start_id}")

    def on_disconnect(self, want: Want) -> None:
        self.note("disconnect")

    def on_destroy(self) -> None:
        self.note("destroy")

    def on_dump(self, arguments: list[str]) -> list[str]:
        return [*arguments, *self.seen]


class AsyncRecorder(Recorder):
    """The same with coroutines."""

    async def on_create(self, want: Want) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.note("create")

    async def on_connect(self, want: Want) -> RecorderStub:  # type: ignore[override]
        await asyncio.sleep(0)
        self.note("connect")
        return RecorderStub(self)

    async def on_destroy(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.note("destroy")


class HangsAtDestroy(Recorder):
    """Never returns from on_destroy."""

    def on_destroy(self) -> None:
        threading.Event().wait()
