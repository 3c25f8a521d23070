"""Who wants to hear of which ability, and the queues of what they are still to be told.

Owns: subscriptions with their quota per process, and one queue of events per
subscribing process. Locks: none here; the service guards both with its own.

Rules upheld: at most 256 subscriptions per process (reference 2.2); a listener
hears of an ability's events in the order in which they happened (one queue and
one thread at a time per process, and one-way calls keep their order); a
process that does not read delays nobody else; a listener is told everything or
taken out, never told half.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from binderkit import limits
from binderkit.errors import ServiceError
from binderkit.samgr import codes
from binderkit.samgr.ability import AbilityInfo, AbilityKey

if TYPE_CHECKING:
    from binderkit.ipc.remote import IRemoteObject
    from binderkit.parcel import MessageSequence

PROCESSES: Final = ""
"""In place of an id or name: a subscription to all processes."""
MAX_PENDING: Final = 4096
"""Events one process may leave unread before its listeners are taken out."""


@dataclass(frozen=True, slots=True)
class Event:
    """One thing to tell.

    Attributes:
        code: ON_ADD_SYSTEM_ABILITY or ON_REMOVE_SYSTEM_ABILITY; another transaction if ``write`` is given.
        write: appends the whole message, for listeners of other things than abilities.
    """

    listener: IRemoteObject
    code: int
    ability: int
    write: Callable[[MessageSequence], None] | None = None


class Subscriptions:
    """Which listener of which process hears of which id or name."""

    def __init__(self) -> None:
        self._of: dict[AbilityKey, dict[IRemoteObject, int]] = {}
        self._per_pid: Counter[int] = Counter()

    def __len__(self) -> int:
        return self._per_pid.total()

    def add(self, pid: int, key: AbilityKey, listener: IRemoteObject) -> bool:
        """Subscribe; return False when the listener hears of ``key`` already.

        Raises:
            ServiceError: the process has 256 subscriptions (1010).
        """
        listeners = self._of.setdefault(key, {})
        if listener in listeners:
            return False
        if self._per_pid[pid] >= limits.MAX_SUBSCRIPTIONS_PER_PID:
            if not listeners:
                del self._of[key]
            raise ServiceError(
                f"process {pid} has {self._per_pid[pid]} subscriptions, the limit is "
                f"{limits.MAX_SUBSCRIPTIONS_PER_PID}; unsubscribe some first",
                code=codes.SUBSCRIBE_LIMIT,
            )
        listeners[listener] = pid
        self._per_pid[pid] += 1
        return True

    def remove(self, pid: int, key: AbilityKey, listener: IRemoteObject) -> bool:
        """End a subscription of this process; return whether there was one."""
        if self._of.get(key, {}).get(listener) != pid:
            return False
        self._drop(key, listener)
        return True

    def remove_listener(self, listener: IRemoteObject) -> None:
        """End all subscriptions of a listener."""
        for key in [key for key, listeners in self._of.items() if listener in listeners]:
            self._drop(key, listener)

    def holds(self, listener: IRemoteObject) -> bool:
        """Whether the listener has a subscription left."""
        return any(listener in listeners for listeners in self._of.values())

    def of(self, info: AbilityInfo) -> dict[IRemoteObject, int]:
        """Return the listeners of an ability, each once, with their processes."""
        return {listener: pid for key in info.keys for listener, pid in self._of.get(key, {}).items()}

    def of_processes(self) -> dict[IRemoteObject, int]:
        """Return those who listen to processes."""
        return dict(self._of.get(PROCESSES, {}))

    def rows(self) -> list[tuple[AbilityKey, int]]:
        """Return (key, pid) of every subscription, for the dump."""
        return [(key, pid) for key, listeners in self._of.items() for pid in listeners.values()]

    def _drop(self, key: AbilityKey, listener: IRemoteObject) -> None:
        listeners = self._of[key]
        pid = listeners.pop(listener)
        if not listeners:
            del self._of[key]
        self._per_pid[pid] -= 1
        if not self._per_pid[pid]:
            del self._per_pid[pid]


class Outbox:
    """Events that wait to be told, in one queue per process."""

    def __init__(self) -> None:
        self._queues: dict[int, deque[Event]] = {}
        self._busy: set[int] = set()

    def post(self, pid: int, event: Event) -> bool:
        """Queue an event; return False, and queue nothing, when the process leaves too many unread."""
        queue = self._queues.setdefault(pid, deque())
        if len(queue) >= MAX_PENDING:
            return False
        queue.append(event)
        return True

    def claim(self) -> list[int]:
        """Return the processes whose queues nobody empties yet; the caller sees to them now."""
        pids = [pid for pid in self._queues if pid not in self._busy]
        self._busy.update(pids)
        return pids

    def next(self, pid: int) -> Event | None:
        """Return the next event of a claimed queue; None ends the claim."""
        queue = self._queues.get(pid)
        if queue:
            return queue.popleft()
        self._queues.pop(pid, None)
        self._busy.discard(pid)
        return None

    def forget(self, pid: int, listener: IRemoteObject) -> None:
        """Drop what a listener was still to be told."""
        queue = self._queues.get(pid)
        if queue:
            self._queues[pid] = deque(event for event in queue if event.listener is not listener)
