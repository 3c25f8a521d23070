"""A SAMgr of a few lines, for the tests of the parts that only talk to it."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from binderkit.errors import CallTimeoutError, ServiceError, ServiceNotFoundError
from binderkit.ipc.remote import IRemoteBroker, IRemoteObject
from binderkit.samgr import codes
from binderkit.samgr.ability import AbilityKey
from binderkit.samgr.listener import SystemAbilityListener

WAIT = 10.0


class FakeManager:
    """Keeps what it is told; ``log`` has every request in order.

    Attributes:
        refuses: an operation's name -> the error it answers with.
    """

    def __init__(self) -> None:
        self.log: list[tuple[Any, ...]] = []
        self.there: dict[AbilityKey, Any] = {}
        self.details: dict[AbilityKey, dict[str, Any]] = {}
        self.listeners: set[tuple[AbilityKey, SystemAbilityListener]] = set()
        self.failures: dict[AbilityKey, str] = {}
        self.refuses: dict[str, Exception] = {}
        self._changed = threading.Condition()

    def _note(self, *what: Any) -> None:
        with self._changed:
            self.log.append(what)
            self._changed.notify_all()
        if what[0] in self.refuses:
            raise self.refuses[what[0]]

    def until(self, true: Callable[[], object]) -> None:
        """Return when the condition holds; it is looked at after every request."""
        with self._changed:
            assert self._changed.wait_for(true, WAIT), self.log

    def add_system_ability(self, key: AbilityKey, remote: IRemoteObject | IRemoteBroker, **details: Any) -> int:
        self._note("add", key)
        with self._changed:
            self.there[key] = remote
            self.details[key] = details
            self._changed.notify_all()
        assert isinstance(key, int)
        return key

    def remove_system_ability(self, key: AbilityKey) -> None:
        self._note("remove", key)
        with self._changed:
            if self.there.pop(key, None) is None:
                raise ServiceNotFoundError(f"no system ability {key!r} is registered")
            self._changed.notify_all()

    def get_system_ability(self, key: AbilityKey, timeout: float | None = None) -> IRemoteObject:
        self._note("get", key)
        with self._changed:
            if not self._changed.wait_for(lambda: key in self.there, timeout):
                raise CallTimeoutError(f"no system ability {key!r} within {timeout} s", code=codes.LOAD_SA_TIMEOUT)
            found: IRemoteObject = self.there[key]
            return found

    def subscribe_system_ability(self, key: AbilityKey, listener: SystemAbilityListener, device_id: str = "") -> None:
        self._note("subscribe", key, *([device_id] if device_id else []))
        self.listeners.add((key, listener))

    def unsubscribe_system_ability(self, key: AbilityKey, listener: SystemAbilityListener, device_id: str = "") -> None:
        self._note("unsubscribe", key, *([device_id] if device_id else []))
        if (key, listener) not in self.listeners:
            raise ServiceError("not subscribed")
        self.listeners.remove((key, listener))

    def add_system_process(self, name: str, local: IRemoteObject | IRemoteBroker) -> None:
        self._note("process", name)

    def unload_system_ability(self, key: AbilityKey) -> None:
        self._note("unload", key)

    def cancel_unload_system_ability(self, key: AbilityKey) -> None:
        self._note("cancel", key)

    def report_start_failure(self, key: AbilityKey, text: str) -> None:
        self._note("failed", key)
        with self._changed:
            self.failures[key] = text
            self._changed.notify_all()
