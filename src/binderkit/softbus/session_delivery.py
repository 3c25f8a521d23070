"""Calls of one listener: one after the other, on a thread of their own, with what waits for them bounded.

Owns: the queue between the thread that receives for a session and the thread that calls its listener.

Why two threads: a listener may take its time, and it may send on its own session and wait for the acknowledgement,
which only the receiving thread can bring.

Rules upheld here:

- A listener is called in the order of arrival, never twice at once.
- At most limits.SESSION_QUEUE bytes wait. Beyond, what can wait makes the receiver wait, and so, through the
  connection, the sender. Messages are different: they are taken, and their acknowledgement waits instead; the sender
  keeps its window, and acknowledgements that travel behind it still get through.
- What a listener raises is logged and ends nothing.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from binderkit import limits

__all__ = ["Deliveries"]

_log = logging.getLogger("binderkit.softbus")

_OVERDRAFT: Final = limits.MAX_SESSION_UNACKED * limits.MAX_SESSION_MESSAGE
"""Bytes of messages that may wait beyond the queue: no sender that keeps to its window has more on the way."""


@dataclass(slots=True)
class _Item:
    size: int
    call: Callable[[], None]
    taken: Callable[[], None] | None


class Deliveries:
    """The calls of one listener. The thread starts with the first one, and ends after the last."""

    def __init__(self, name: str) -> None:
        """Have no thread yet; ``name`` is what it will be called."""
        self._name = name
        self._changed = threading.Condition()
        self._items: deque[_Item] = deque()
        self._waiting = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    def put(self, size: int, call: Callable[[], None]) -> None:
        """Have ``call`` called; waits while too much waits already. Dropped when closed."""
        self._enter(_Item(size, call, None), limits.SESSION_QUEUE)

    def put_message(self, size: int, call: Callable[[], None], taken: Callable[[], None]) -> None:
        """Have ``call`` called, and ``taken`` as soon as there is room for it: now, or just before the call."""
        with self._changed:
            roomy = self._waiting + size <= limits.SESSION_QUEUE
        self._enter(_Item(size, call, None if roomy else taken), limits.SESSION_QUEUE + _OVERDRAFT)
        if roomy:
            taken()

    def push(self, call: Callable[[], None]) -> None:
        """Have ``call`` called without waiting for room; for what is few anyway. Dropped when closed."""
        self._enter(_Item(0, call, None), sys.maxsize)

    def _enter(self, item: _Item, most: int) -> None:
        with self._changed:
            # An item that is larger than everything allowed still gets its turn, alone.
            while self._items and self._waiting + item.size > most and not self._closed:
                self._changed.wait()
            if self._closed:
                return
            self._items.append(item)
            self._waiting += item.size
            self._awake()

    def _awake(self) -> None:
        """Let the thread look; start it with the first call. Under the lock."""
        self._changed.notify_all()
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def close(self, last: Callable[[], None] | None = None) -> None:
        """Take no more. With ``last``, what waits is delivered and then that; without, what waits is dropped."""
        with self._changed:
            if last is None:
                self._closed = True
                self._items.clear()
                self._waiting = 0
                self._changed.notify_all()
            elif not self._closed:
                self._closed = True
                self._items.append(_Item(0, last, None))
                self._awake()

    def join(self) -> None:
        """Wait until the thread has ended, unless it is this one; after ``close``."""
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                while not self._items and not self._closed:
                    self._changed.wait()
                if not self._items:
                    return
                item = self._items.popleft()
                self._waiting -= item.size
                self._changed.notify_all()
            try:
                if item.taken is not None:
                    item.taken()
                item.call()
            except Exception:
                _log.exception("a listener of a session failed; the session goes on")
