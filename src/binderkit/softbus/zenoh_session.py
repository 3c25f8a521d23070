"""One session of the engine: its queue of requests, the threads that take them, and its end.

Owns: ``OpenSession``.

Why its end is a matter of its own: Zenoh takes up to 10 s to close a session one of whose links is dead (measured).
Whoever changes the trust does not wait that long, nor do the other devices: a thread goes on closing while the next
session is opened. Until it is closed its queue is emptied, or Zenoh's receiving threads, which all sessions of a
process share, would stand still. What comes out of the queue then is neither executed nor dropped, because even to
drop a request is to send.

Rules upheld: nothing of a session that is retired reaches a handler; its threads end with it.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable

import zenoh

from binderkit.softbus.receivers import Job, Receivers

__all__ = ["OpenSession"]

_log = logging.getLogger("binderkit.softbus")


class OpenSession:
    """A session with its queue.

    Args:
        session: what is closed in the end.
        queryable: whose queue is emptied.
        handle: gets each request, see ``Receivers``.
    """

    def __init__(
        self,
        session: zenoh.Session,
        queryable: zenoh.Queryable[zenoh.handlers.Handler[zenoh.Query]],
        handle: Callable[[zenoh.Query, bool], Job | None],
    ) -> None:
        self.session = session
        self._queryable = queryable
        self._handle = handle
        self._retired = False
        self._kept: list[object] = []
        self._receivers = Receivers("binderkit-zenoh-receiver", self._receive, self._take)
        self._closer: threading.Thread | None = None

    def start(self) -> None:
        """Take requests from now on."""
        self._receivers.start()

    def retire(self, *tokens: object, wait: float) -> None:
        """Take no more requests, and close: return when that is done, or goes on without us after ``wait`` seconds.

        Args:
            tokens: what the session declared; held until it is closed.
        """
        self._retired = True
        self._kept += tokens
        self._closer = threading.Thread(target=self._close, name="binderkit-zenoh-closer", daemon=True)
        self._closer.start()
        self._closer.join(wait)

    def close(self, *tokens: object) -> None:
        """Take no more requests, and close; also at the end of the interpreter, when no thread can be started."""
        if self._closer is not None:
            self._closer.join()
        elif not self._retired:
            self._retired = True
            self._kept += tokens
            self._close()

    def join(self, wait: float = math.inf) -> None:
        """Wait until it is closed, and what its threads execute is done, for which each has ``wait`` seconds."""
        if self._closer is not None:
            self._closer.join()
        self._receivers.join(wait)

    @property
    def is_over(self) -> bool:
        """Whether nothing of it is left."""
        return self._closer is not None and not self._closer.is_alive() and not self._receivers.are_alive

    def _close(self) -> None:
        try:
            self.session.close()
        except zenoh.ZError as error:
            # Happens on bad links; the operating system closes what is left.
            _log.warning("the SoftBus session did not close in time: %s", error)
        self._kept.clear()

    def _receive(self) -> zenoh.Query | None:
        try:
            # Not queryable.recv(): that would be in the way of its end.
            return self._queryable.handler.recv()
        except zenoh.ZError:
            return None  # closed

    def _take(self, query: zenoh.Query, may_execute: bool) -> Job | None:
        if self._retired:
            self._kept.append(query)
            return None
        return self._handle(query, may_execute)
