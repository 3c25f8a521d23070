"""Who listens to an event service: subscribers with their wishes, quotas and deaths.

Owns: the list of subscribers that common events and parameters both keep. Locks: ``_lock`` guards the list; nothing is
called while it is held.

Rules upheld: at most 256 subscribers per process; a subscriber whose process ended is dropped; the same object
subscribes once, and again means instead.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar

from binderkit import limits
from binderkit.errors import DeadObjectError, QuotaError
from binderkit.ipc.context import Caller
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy
from binderkit.ipc.remote import IRemoteObject
from binderkit.samgr.events.delivery import Deliveries, Task
from binderkit.samgr.teller import Watcher

W = TypeVar("W")
MAX_PER_PROCESS: Final = limits.MAX_SUBSCRIPTIONS_PER_PID


@dataclass(frozen=True, slots=True, eq=False)
class Listener(Generic[W]):
    """One subscriber: its typed proxy, what it wants, and whose it is."""

    target: Any
    wish: W
    pid: int
    recipient: DeathRecipient | None


class Audience(Generic[W]):
    """The subscribers of one service.

    Args:
        submit: how subscribers are told on another thread; default: the driver's workers.
    """

    def __init__(self, submit: Callable[[Task], object] | None = None) -> None:
        self._lock = threading.Lock()
        self._listeners: dict[Hashable, Listener[W]] = {}
        self._per_pid: Counter[int] = Counter()
        self._deliveries = Deliveries(self._gone, submit)

    def __len__(self) -> int:
        return len(self._listeners)

    def add(self, caller: Caller, target: Any, wish: W) -> None:
        """Take a subscriber, or give it a new wish.

        Args:
            target: its typed proxy (or an object of this process).

        Raises:
            QuotaError: the process has 256 (29201). DeadObjectError: it is gone already (-32).
        """
        remote: IRemoteObject = target.as_object()
        recipient: DeathRecipient | None = (
            Watcher(lambda _: self._gone(remote)) if isinstance(remote, RemoteProxy) else None
        )
        with self._lock:
            known = self._listeners.get(remote)
            pid = caller.pid if known is None else known.pid
            if known is None:
                if self._per_pid[pid] >= MAX_PER_PROCESS:
                    raise QuotaError(
                        f"process {pid} has {MAX_PER_PROCESS} subscribers here, the most there may be; "
                        "unsubscribe some first"
                    )
                self._per_pid[pid] += 1
            else:
                recipient = known.recipient
            self._listeners[remote] = Listener(target, wish, pid, recipient)
        if known is None and recipient is not None:
            try:
                remote.register_death_recipient(recipient)
            except DeadObjectError:
                self._gone(remote)
                raise

    def remove(self, target: Any) -> bool:
        """Drop a subscriber and what it was still to be told; return whether it was there."""
        remote: IRemoteObject = target.as_object()
        listener = self._take(remote)
        if listener is None:
            return False
        if listener.recipient is not None:
            remote.unregister_death_recipient(listener.recipient)
        return True

    def tell(self, wanted: Callable[[W], bool], call: Callable[[Any], object]) -> None:
        """Have every subscriber whose wish is ``wanted`` told, by ``call(its proxy)`` on another thread."""
        with self._lock:
            chosen = [(remote, one) for remote, one in self._listeners.items() if wanted(one.wish)]
        for remote, listener in chosen:
            self._deliver(remote, listener, call)

    def tell_one(self, target: Any, call: Callable[[Any], object]) -> None:
        """Have one subscriber told; one that is gone meanwhile is passed over."""
        remote = target.as_object()
        with self._lock:
            listener = self._listeners.get(remote)
        if listener is not None:
            self._deliver(remote, listener, call)

    def _deliver(self, remote: Hashable, listener: Listener[W], call: Callable[[Any], object]) -> None:
        self._deliveries.post(listener.pid, remote, lambda: call(listener.target))

    def close(self) -> None:
        """Drop everybody."""
        with self._lock:
            targets = [listener.target for listener in self._listeners.values()]
        for target in targets:
            self.remove(target)

    def _gone(self, remote: Hashable) -> None:
        self._take(remote)

    def _take(self, remote: Hashable) -> Listener[W] | None:
        with self._lock:
            listener = self._listeners.pop(remote, None)
            if listener is None:
                return None
            self._per_pid[listener.pid] -= 1
            if not self._per_pid[listener.pid]:
                del self._per_pid[listener.pid]
        self._deliveries.forget(listener.pid, remote)
        return listener
