"""The control connection's sending side: never blocks, keeps the order.

Owns: messages that wait until the peer reads, and their descriptors. Until the handshake is over everything waits:
a second thread finds the peer in the table as soon as one side has decided, and nothing may overtake GRANTED.

Lock: ``_lock``, held over one non-blocking send.
"""

from __future__ import annotations

import array
import errno
import logging
import os
import socket
import threading
from collections import deque
from typing import Final

_log = logging.getLogger("binderkit.driver")
_STARVED: Final = (errno.ETOOMANYREFS, errno.ENOBUFS, errno.ENOMEM)
MOST: Final = 4096
"""Messages that may wait for a peer that does not read; then it is given up."""


class Outbox:
    """What one control connection has to send."""

    __slots__ = ("_begun", "_closed", "_lock", "_sock", "_waiting", "starved")

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._lock = threading.Lock()
        self._waiting: deque[tuple[bytes, list[int]]] = deque()
        self._begun = False
        self._closed = False
        self.starved = False
        """whether the first message waits for the system (descriptors in flight, memory), not for the peer to read"""

    def post(self, packet: bytes, fds: list[int]) -> int:
        """Send a message, or let it wait; return how many wait for the peer to read. Takes ownership of ``fds``."""
        with self._lock:
            if self._closed:
                for fd in fds:
                    os.close(fd)
                return 0
            self._waiting.append((packet, fds))
            return self._flush() if self._begun else 0

    def begin(self) -> int:
        """The handshake is over: send what waits from now on; return how many are left."""
        with self._lock:
            self._begun = True
            return self._flush()

    def flush(self) -> int:
        """Send what waits; return how many are left."""
        with self._lock:
            return self._flush()

    def _flush(self) -> int:
        self.starved = False
        while self._waiting:
            packet, fds = self._waiting[0]
            ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
            try:
                self._sock.sendmsg((packet,), ancillary, socket.MSG_DONTWAIT | socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return len(self._waiting)
            except OSError as error:
                if error.errno in _STARVED:
                    # The socket may have room all the same: waiting for that would spin.
                    self.starved = True
                    return len(self._waiting)
                # The other side hung up; the monitor is about to see it too.
                _log.debug("a control message could not be sent: %s", error)
                self._drop()
                return 0
            except BaseException:
                # An interrupt. The system call never waits, so it came right behind it: the message is out, and
                # must not go out twice.
                self._waiting.popleft()
                for fd in fds:
                    os.close(fd)
                raise
            self._waiting.popleft()
            for fd in fds:
                os.close(fd)
        return 0

    def close(self) -> None:
        """Drop what waits; nothing is sent any more."""
        with self._lock:
            self._closed = True
            self._drop()

    def _drop(self) -> None:
        for _, fds in self._waiting:
            for fd in fds:
                os.close(fd)
        self._waiting.clear()
