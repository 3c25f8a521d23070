"""What is to be said to other devices and nobody waits for: references given back, obituaries, fates.

Owns: a queue that may be filled by the garbage collector (from any thread and inside any lock), a thread that empties
it, and the order of what goes to one device; devices do not hold each other up.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from binderkit.errors import IpcError

__all__ = ["Outbox"]

_log = logging.getLogger("binderkit.dbinder")
Task = Callable[[], None]


class Outbox:
    """Tasks per device, one at a time, in the order added.

    Locks: ``_changed`` guards the queues; no task runs under it.
    """

    def __init__(self, submit: Callable[[Task], None]) -> None:
        """``submit`` runs a task on a worker thread."""
        self._submit = submit
        # put() is written in C and re-entrant: the only queue a weak reference's callback may use.
        self._added: SimpleQueue[tuple[str, Task] | None] = SimpleQueue()
        self._changed = threading.Condition(threading.Lock())
        self._waiting: dict[str, deque[Task]] = {}
        self._thread = threading.Thread(target=self._distribute, name="binderkit-dbinder", daemon=True)
        self._thread.start()

    def add(self, device: str, task: Task) -> None:
        """Have ``task`` run after those added before it for the same device. Takes no lock, never waits."""
        self._added.put((device, task))

    def flush(self, timeout: float) -> bool:
        """Wait until everything added before was done; return whether it was within ``timeout`` seconds."""
        passed = threading.Event()
        self._added.put(("", passed.set))
        if not passed.wait(timeout):
            return False
        with self._changed:
            return self._changed.wait_for(lambda: not self._waiting, timeout)

    def close(self) -> None:
        """Forget what waits, and end the thread. Idempotent."""
        self._added.put(None)
        self._thread.join()
        with self._changed:
            for tasks in self._waiting.values():
                tasks.clear()

    def _distribute(self) -> None:
        while (added := self._added.get()) is not None:
            device, task = added
            with self._changed:
                tasks = self._waiting.get(device)
                if tasks is not None:
                    tasks.append(task)
                    continue
                self._waiting[device] = deque((task,))
            del added, task  # what a task holds goes with it
            try:
                self._submit(partial(self._run, device))
            except IpcError as error:
                _log.debug("nobody left to speak to device %s: %s", device[:8], error)
                with self._changed:
                    del self._waiting[device]
                    self._changed.notify_all()

    def _run(self, device: str) -> None:
        while True:
            with self._changed:
                tasks = self._waiting[device]
                if not tasks:
                    del self._waiting[device]
                    self._changed.notify_all()
                    return
                task = tasks.popleft()
            try:
                task()
            except IpcError as error:
                # The device left or is too slow; what matters of it ends with its leaving.
                _log.debug("could not tell device %s something: %s", device[:8], error)
            except Exception:
                _log.exception("telling device %s something failed; this is a bug in binderkit", device[:8])
            del task
