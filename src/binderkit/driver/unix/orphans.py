"""Lanes whose call was given up (timeout, interrupt, closed event loop): read to their end.

Owns: those lanes. Why not close them at once: the late reply may carry references, descriptors and shared memory,
which would be lost to both sides. Our sending half is closed, so the other side replies to what it has and then
closes. Runs on the monitor thread; never blocks.
Lock: ``_lock``, for a registration with the monitor.
They count as lanes of their peer (limits.MAX_LANES_PER_PEER) until they are at their end.
"""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

from binderkit import limits
from binderkit.driver.unix import frame, translate
from binderkit.driver.unix.undelivered import Incomplete
from binderkit.errors import IpcError

if TYPE_CHECKING:
    from binderkit.driver.unix.monitor import Monitor
    from binderkit.driver.unix.peer import Lane, Peer

_log = logging.getLogger("binderkit.driver")


class Orphans:
    """The given-up lanes of one node."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._lanes: dict[int, tuple[Peer, Lane]] = {}
        # A lane is registered, and forgotten, in one piece: its peer may be buried at the same time.
        self._lock = threading.Lock()
        self._begun: dict[int, tuple[bytes, float]] = {}
        """frames whose descriptors have not arrived yet, and until when they may"""
        self._new: deque[tuple[Peer, Lane]] = deque()
        """lanes the monitor has not taken in yet"""

    def give_up(self, peer: Peer, lane: Lane) -> None:
        """The call on ``lane`` is given up (any thread): one append, so that an interrupt cannot come in between."""
        self._new.append((peer, lane))
        self._monitor.stir()

    def take_in(self) -> bool:
        """Tell the other sides of calls that were given up, and read their lanes; return whether there were any."""
        taken = bool(self._new)
        while self._new:
            peer, lane = self._new[0]
            peer.post(frame.encode_pairs(frame.CANCEL, [(lane.number, lane.seq)]))
            self.add(peer, lane)
            self._new.popleft()  # not before it is known elsewhere: it counts all the time
        return taken

    def add(self, peer: Peer, lane: Lane) -> None:
        """Wait for the late replies of ``lane`` so that what they carry is released, then close it (any thread)."""
        fd = lane.sock.fileno()
        if fd < 0:
            return
        try:
            lane.sock.shutdown(socket.SHUT_WR)
        except OSError:
            lane.sock.close()
            return
        lane.sock.setblocking(False)
        with self._lock:
            if not peer.is_dead:
                self._lanes[fd] = (peer, lane)
                self._monitor.watch(fd, lambda _: self._ready(fd))
                return
        lane.sock.close()

    def _ready(self, fd: int) -> None:
        peer, lane = self._lanes.get(fd, (None, None))
        if peer is None or lane is None:
            return  # its peer was buried by another thread
        try:
            packet = self._begun[fd][0] if fd in self._begun else lane.recv(frame.PACKET_MAX)
            if packet:
                got = frame.decode(packet)
                translate.dispose(peer, got, translate.receive_fds(lane.sock, got))
                self._begun.pop(fd, None)
                lane.drained(answered=True)
                # Not the end yet, not even after a call back, which nobody answers: its caller reads that our half is
                # closed. Closed with something unread, the lane would be reset, and what we sent on it be lost.
                return
        except BlockingIOError:
            return
        except Incomplete:
            if fd not in self._begun:
                self._begun[fd] = (packet, time.monotonic() + limits.HANDSHAKE_WAIT)
                self._monitor.stir()
            return
        except (OSError, IpcError) as error:
            _log.debug("the lane of a call that was given up: %s", error)
        self._forget(fd)

    def _forget(self, fd: int) -> None:
        """The end of a lane, once whoever comes first: closing it tells the other side."""
        with self._lock:
            _, lane = self._lanes.pop(fd, (None, None))
            if lane is None:
                return
            self._monitor.forget(fd)
        self._begun.pop(fd, None)
        lane.drained(answered=False)
        lane.sock.close()

    def check_time(self) -> bool:
        """Close lanes whose descriptors do not come; return whether some are still waited for (monitor tick)."""
        for fd, (_, until) in list(self._begun.items()):
            if time.monotonic() > until:
                self._forget(fd)
        return bool(self._begun)

    def of(self, peer: Peer) -> int:
        """Return how many given-up lanes of ``peer`` are not at their end."""
        return sum(owner is peer for owner in self._owners().values())

    def _owners(self) -> dict[int, Peer]:
        """Return the peer of each lane, also of those that are being taken in (any thread)."""
        return {id(lane): peer for peer, lane in [*list(self._lanes.values()), *list(self._new)]}

    def peer_died(self, peer: Peer) -> None:
        """Nothing more will come from ``peer``; what was sent to it is gone with it."""
        for fd, (owner, lane) in list(self._lanes.items()):
            if owner is peer:
                lane.drained(answered=True)
                self._forget(fd)

    def close(self) -> None:
        """Close all lanes (the node ends, or this is a forked child)."""
        for _, lane in [*self._lanes.values(), *self._new]:
            lane.sock.close()
        self._new.clear()
        self._lanes.clear()
        self._begun.clear()

    def __len__(self) -> int:
        return len(self._owners())
