"""Stand-ins for the tests of event services: subscribers that keep what they hear, and workers that wait to be told."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator

from binderkit.ipc.context import CallContext, Caller, current
from binderkit.samgr.conditions import OnDemandEvent
from binderkit.samgr.events.contracts import CommonEvent, ICommonEventSubscriber, IParameterWatcher


class Workers:
    """What a service is given as ``submit``: tasks run when the test says so."""

    def __init__(self) -> None:
        self.tasks: list[Callable[[], None]] = []

    def __call__(self, task: Callable[[], None]) -> None:
        self.tasks.append(task)

    def run(self) -> None:
        while self.tasks:
            self.tasks.pop(0)()


class Hearer(ICommonEventSubscriber):
    def __init__(self) -> None:
        self.heard: list[CommonEvent] = []

    def on_event(self, event: CommonEvent) -> None:
        self.heard.append(event)


class Watcher(IParameterWatcher):
    def __init__(self) -> None:
        self.heard: list[tuple[str, str]] = []

    def on_changed(self, name: str, value: str) -> None:
        self.heard.append((name, value))


class Posted(list[OnDemandEvent]):
    """What a collector posted."""

    def __call__(self, event: OnDemandEvent) -> None:
        self.append(event)


@contextlib.contextmanager
def called_by(pid: int, uid: int) -> Iterator[None]:
    """Handle a request of another process."""
    context = CallContext(Caller(pid, uid, uid), None, None, 0, 0, 1, None, None)
    token = current.set(context)
    try:
        yield
    finally:
        current.reset(token)
