"""This process in the net of processes: the socket driver itself.

Owns: the table of peers, our exports, the monitor, the workers, introductions
under way. One node per process (tests make several).

Rules upheld (ARCHITECTURE): one connection per pair of processes (the process with the
smaller node id decides which); death is noticed by hang-up and by pidfd, whichever
comes first, and told once; a forked child uses nothing of its parent's.

Locks, in this order, each for a few statements and never while calling out:
  _peers_lock (also the condition for a peer to appear)  >  tables_lock  >  a peer's own locks
  oneway_lock: queues of one-way calls, taken alone.
"""

from __future__ import annotations

import fcntl
import logging
import os
import select
import socket
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from binderkit import limits
from binderkit.driver.tables import Export, Exports
from binderkit.driver.unix import control, frame, guest, handshake
from binderkit.driver.unix.introduction import Introduction
from binderkit.driver.unix.lanes import SharedLane
from binderkit.driver.unix.monitor import Monitor
from binderkit.driver.unix.orphans import Orphans
from binderkit.driver.unix.peer import Peer
from binderkit.driver.unix.workers import Workers
from binderkit.errors import (
    DeadObjectError,
    ForkedError,
    IpcError,
    NoServiceManagerError,
    ProtocolError,
    QuotaError,
    RefusedError,
)
from binderkit.ipc.context import Caller, own_identity
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel.objects import OwnedFd

if TYPE_CHECKING:
    from pathlib import Path

_log = logging.getLogger("binderkit.driver")
_nodes: weakref.WeakSet[Node] = weakref.WeakSet()
_ACCEPT_PAUSE = 0.05
"""Seconds a listening socket rests after the system had no descriptor for a connection."""
_TELL_EVERY = 10.0
"""Seconds between two warnings about that."""
_LOOK_AGAIN = 5
"""Milliseconds between two looks at a SAMgr that is ending."""
Admission = Callable[[Caller], str | None]
"""Says why a process may not connect to a listening socket, None if it may."""


class Node:
    """The socket driver of one process (see ipc/driver.py: Driver)."""

    name = "unix"

    def __init__(
        self, *, title: str = "ipc", find_context: Callable[[Node, bool], socket.socket] | None = None
    ) -> None:
        """Start the monitor; workers start when the first request arrives.

        Args:
            title: goes into the names of the threads.
            find_context: connects to SAMgr (node, may_start) -> socket; None: there is no SAMgr.
        """
        self.id = os.urandom(16)
        self._pid = os.getpid()
        self._find_context = find_context
        self._peers: dict[tuple[int, bytes], Peer] = {}
        self._peers_lock = threading.Condition(threading.Lock())
        self.tables_lock = threading.Lock()
        self.oneway_lock = threading.Lock()
        self.exports = Exports()
        self.held_lanes: set[SharedLane] = set()
        self._released: deque[tuple[Peer, int, int]] = deque()
        self._introductions: set[Introduction] = set()
        self._listeners: dict[int, socket.socket] = {}
        self._paused_listeners: dict[int, float] = {}
        """listening sockets that could not accept, and when they try again"""
        self._tell_accept = 0.0
        self._given_up: deque[Peer] = deque()
        """peers that do not read their control connection"""
        self._unsent: set[Peer] = set()
        """peers whose control messages the system could not take although the socket has room"""
        self._peer_deaths: list[Callable[[Peer], None]] = []
        self._context: RemoteProxy | None = None
        self._context_lock = threading.Lock()
        self._closed = False
        self.monitor = Monitor(title, self._housekeeping)
        self.orphans = Orphans(self.monitor)
        self.workers = Workers(title, self.monitor.stir)
        self.monitor.start()
        _nodes.add(self)

    # --- Driver ----------------------------------------------------------------------------------

    def context_object(self, *, start: bool) -> RemoteProxy:
        """Return the proxy of SAMgr (see Driver.context_object); a dead one is looked up anew."""
        self.check_usable()
        with self._context_lock:
            known = self._context
            if known is not None and not known.is_object_dead():
                return known
            if self._find_context is None:
                raise NoServiceManagerError("this driver was made without a way to find SAMgr")
            self._context = self._find_living_context(self._find_context, start)
            return self._context

    def _find_living_context(self, find: Callable[[Node, bool], socket.socket], start: bool) -> RemoteProxy:
        until = time.monotonic() + limits.HANDSHAKE_WAIT
        while True:
            try:
                return self.join(find(self, start))
            except DeadObjectError:
                # A SAMgr in its last moments: its process is ending, its socket still listens. The kernel tells
                # nobody when the socket is gone, so look again shortly.
                if self._closed or time.monotonic() > until:
                    raise
                select.poll().poll(_LOOK_AGAIN)

    def become_context(self, stub: RemoteObject) -> None:
        """Make ``stub`` the root object of everybody who connects (see Driver.become_context)."""
        with self.tables_lock:
            if self.exports.root is not None:
                raise RefusedError(f"this process already offers {self.exports.root.stub!r} as its root object")
            self.exports.set_root(stub)

    def set_max_threads(self, count: int) -> None:
        """Handle at most ``count`` requests at once."""
        self.workers.set_limit(count)

    def submit(self, task: Callable[[], None]) -> None:
        """Run ``task`` on a worker thread."""
        self.workers.submit(task)

    @contextmanager
    def outgoing(self, target: object) -> Iterator[None]:
        """The calling thread waits for something outside this driver (see Driver.outgoing)."""
        worker = self.workers.enter_outgoing(target)
        try:
            yield
        finally:
            if worker is not None:
                worker.blocked = None

    def close(self) -> None:
        """Disconnect from everybody and end the threads. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._pid != os.getpid():
            return
        _nodes.discard(self)
        self.flush_released()
        with self._peers_lock:
            peers = list(self._peers.values())
        for peer in peers:
            self.bury(peer, "this process closed its driver")
        self.workers.close()
        self.monitor.close()
        for intro in list(self._introductions):
            intro.sock.close()
        self._introductions.clear()
        for sock in self._listeners.values():
            sock.close()
        self.orphans.close()
        for peer in peers:
            for served in list(peer.served.values()):
                served.close()
        for lane in self.workers.lanes():
            lane.close()
        self._context = None

    # --- connections -----------------------------------------------------------------------------

    def listen(self, path: Path, admission: Admission) -> None:
        """Offer the root object to whoever connects to the socket ``path`` (mode 0600)."""
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        sock.bind(os.fspath(path))
        os.chmod(path, 0o600)
        # Set here, so that even the first message of a client carries its credentials.
        handshake.expect(sock)
        sock.listen(512)
        self.listen_on(sock, admission)

    def listen_on(self, sock: socket.socket, admission: Admission) -> None:
        """Offer the root object to whoever connects to ``sock``, which listens already; it is closed with the node."""
        handshake.expect(sock)
        sock.setblocking(False)
        self._listeners[sock.fileno()] = sock
        self.monitor.watch(sock.fileno(), lambda _: self._accept(sock, admission))

    def _accept(self, sock: socket.socket, admission: Admission) -> None:
        try:
            connection, _ = sock.accept()
        except BlockingIOError:
            return
        except OSError as error:
            # Out of descriptors: the connection waits in the backlog for a while instead of spinning here.
            now = time.monotonic()
            if now >= self._tell_accept:
                self._tell_accept = now + _TELL_EVERY
                _log.warning("cannot accept connections for the moment: %s; raise ulimit -n", error)
            self._paused_listeners[sock.fileno()] = now + _ACCEPT_PAUSE
            self.monitor.change(sock.fileno(), 0)
            self.stir()
            return
        handshake.expect(connection)
        root = self.exports.root
        if root is None or len(self._introductions) >= limits.MAX_PENDING_INTRODUCTIONS:
            _log.warning("refused a connection: %d handshakes are under way", len(self._introductions))
            connection.close()
            return
        self._begin_introduction(connection, root, admission)

    def serve_root(self, sock: socket.socket) -> None:
        """Offer the root object to the process at the other end of ``sock``."""
        root = self.exports.root
        if root is None:
            raise IpcError("become_context comes before serve_root")
        self._begin_introduction(sock, root, None)

    def _begin_introduction(self, sock: socket.socket, export: Export, admission: Admission | None) -> None:
        sock.setblocking(False)
        intro = Introduction(self, sock, export, admission)
        self._introductions.add(intro)
        intro.start()

    def introduction_over(self, intro: Introduction) -> None:
        """Forget an introduction that ended, well or not (monitor)."""
        self._introductions.discard(intro)

    def introduce(self, sock: socket.socket, export: Export, introducer: Peer) -> None:
        """Expect a guest on ``sock``, sent by ``introducer`` (monitor)."""
        intro = Introduction(self, sock, export, None, introducer=introducer)
        self._introductions.add(intro)
        intro.start()

    def introductions(self) -> list[Introduction]:
        """Return those under way (monitor)."""
        return list(self._introductions)

    def join(self, sock: socket.socket, *, wait: float = limits.HANDSHAKE_WAIT) -> RemoteProxy:
        """Return the proxy of the object whose owner is at the other end of ``sock``; see guest.join."""
        return guest.join(self, sock, wait)

    def introduced(self, fd: OwnedFd, until: float) -> RemoteProxy:
        """Return the proxy behind a connection that came in a message; see guest.introduced."""
        return guest.introduced(self, fd, until)

    def decided(self, sock: socket.socket, node_id: bytes, caller: Caller, *, fresh: bool) -> Peer:
        """As the other side decided: return the peer, new (``fresh``) or known.

        Raises:
            DeadObjectError: the connection the other side means did not come to be.
        """
        key = (caller.pid, node_id)
        with self._peers_lock:
            if fresh:
                return self._add_peer_locked(key, sock, caller)
            # The connection the other side means may still be in another thread's hands.
            self._peers_lock.wait_for(lambda: key in self._peers, timeout=limits.HANDSHAKE_WAIT)
            peer = self._peers.get(key)
        if peer is None:
            raise DeadObjectError("the owner of the object hung up during the handshake")
        return peer

    def decide(self, sock: socket.socket, node_id: bytes, caller: Caller) -> tuple[Peer, bool]:
        """As the deciding side: return the peer and whether ``sock`` becomes its connection."""
        key = (caller.pid, node_id)
        with self._peers_lock:
            peer = self._peers.get(key)
            if peer is not None:
                return peer, False
            return self._add_peer_locked(key, sock, caller), True

    def known_peer(self, node_id: bytes, caller: Caller) -> Peer | None:
        """Return the live peer, None while there is none (monitor)."""
        with self._peers_lock:
            return self._peers.get((caller.pid, node_id))

    def _add_peer_locked(self, key: tuple[int, bytes], sock: socket.socket, caller: Caller) -> Peer:
        if self._closed:
            raise DeadObjectError("this process closed its driver")
        if len(self._peers) >= limits.MAX_PEERS:
            raise QuotaError(f"{len(self._peers)} processes are connected, the limit is {limits.MAX_PEERS}")
        of_user = sum(peer.caller.uid == caller.uid for peer in self._peers.values()) if len(self._peers) > 64 else 0
        if of_user >= limits.MAX_PEERS_PER_USER:
            raise QuotaError(f"user {caller.uid} has {of_user} connections, the limit is {limits.MAX_PEERS_PER_USER}")
        peer = Peer(self, sock, key[1], caller)
        peer.pidfd = _open_pidfd(caller.pid)
        self._peers[key] = peer
        self._peers_lock.notify_all()
        return peer

    def watch_peer(self, peer: Peer) -> None:
        """The handshake is over: the monitor reads the peer's control connection, and what was posted leaves."""
        with self._peers_lock:
            # In one piece: as soon as one of the two is watched, the monitor may bury the peer and close both.
            if self._peers.get((peer.caller.pid, peer.node_id)) is not peer:
                return
            self.monitor.watch(peer.control.fileno(), lambda mask: control.read(self, peer, mask))
            if peer.pidfd >= 0:
                self.monitor.watch(peer.pidfd, lambda _: self._process_ended(peer))
        peer.begin()
        if self._introductions:
            # One of them may wait for this connection, which may have begun on any thread.
            self.monitor.ring()

    def _process_ended(self, peer: Peer) -> None:
        """Bury the peer if its pidfd says so: the event may be a former one's, whose descriptor had this number."""
        poller = select.poll()
        poller.register(peer.pidfd, select.POLLIN)
        if poller.poll(0):
            control.read_rest(self, peer)

    def _resume_listeners(self) -> None:
        """Have listening sockets that ran out of descriptors try again when their pause is over (monitor)."""
        now = time.monotonic()
        for fd, until in list(self._paused_listeners.items()):
            if now >= until:
                del self._paused_listeners[fd]
                self.monitor.change(fd, select.EPOLLIN)

    def apply_deferred(self, peer: Peer) -> None:
        """Release what may be released: everything sent before it was read."""
        gone: list[RemoteObject] = []
        try:
            with self.tables_lock:
                while peer.deferred and (peer.oneway_read - peer.deferred[0][0]) & 0xFFFFFFFF < 0x80000000:
                    released = peer.deferred.popleft()[1]
                    peer.deferred_count -= len(released) + 1
                    for handle, count in released:
                        stub = self.exports.release(peer.held, handle, count)
                        if stub is not None:
                            gone.append(stub)
        except ProtocolError as error:
            self.disconnect(peer, str(error))
        self._let_go(gone)

    def wants_to_write(self, peer: Peer, stuck: bool) -> None:
        """The peer's control connection is full: send the rest when it reads, or give it up."""
        if stuck:
            # By the monitor: the calling thread may hold the lock of its one-way calls, which the end of a peer takes.
            self._given_up.append(peer)
            self.monitor.stir()
            return
        if peer.outbox.starved:
            self._unsent.add(peer)
            self.monitor.stir()
            return
        self.monitor.change(peer.control.fileno(), select.EPOLLIN | select.EPOLLOUT)

    def send_waiting(self, peer: Peer) -> None:
        """Send the control messages that wait; when again, depends on what the rest waits for (monitor)."""
        self._unsent.discard(peer)
        # Before the look at what waits: whoever posts from now on, and finds the socket full, asks for more itself.
        self.monitor.change(peer.control.fileno(), select.EPOLLIN)
        if peer.outbox.flush() == 0:
            return
        if peer.outbox.starved:
            self._unsent.add(peer)
            self.monitor.stir()
        else:
            self.monitor.change(peer.control.fileno(), select.EPOLLIN | select.EPOLLOUT)

    # --- references ------------------------------------------------------------------------------------

    def grant(self, peer: Peer, stub: RemoteObject) -> int:
        """Count one more reference of ``peer`` to our object; return its handle."""
        with self.tables_lock:
            if peer.is_dead:
                raise peer.dead_error()
            return self.exports.grant(stub, peer.held)

    def grant_export(self, peer: Peer, export: Export) -> int:
        """The same for an object that is exported already."""
        with self.tables_lock:
            return self.exports.grant_export(export, peer.held)

    def release(self, peer: Peer, handle: int, count: int) -> None:
        """Take references of ``peer`` back (a message that was not sent)."""
        with self.tables_lock:
            gone = self.exports.release(peer.held, handle, count) if handle in peer.held else None
        del gone  # its finalizer is user code: outside the lock

    def holders(self, stub: RemoteObject) -> int:
        """Return how many other processes hold ``stub`` (see Driver.holders): one peer each."""
        with self._peers_lock:
            peers = list(self._peers.values())
        with self.tables_lock:
            handle = self.exports.handle_of(stub)
            return 0 if handle is None else sum(handle in peer.held for peer in peers)

    def note_released(self, peer: Peer, handle: int, count: int) -> None:
        """A proxy died (finalizer: enqueue only)."""
        self._released.append((peer, handle, count))
        self.monitor.stir()

    def flush_released(self) -> bool:
        """Tell the peers about proxies that died; return whether there were any."""
        by_peer: dict[Peer, list[tuple[int, int]]] = {}
        while self._released:
            try:
                peer, handle, count = self._released.popleft()
            except IndexError:
                break
            by_peer.setdefault(peer, []).append((handle, count))
        for peer, released in by_peer.items():
            if not peer.is_dead:
                peer.forget_proxies(released)
        return bool(by_peer)

    def stir(self) -> None:
        """There is housekeeping to do."""
        self.monitor.stir()

    def _housekeeping(self) -> bool:
        worked = self.flush_released()
        with self._peers_lock:
            peers = list(self._peers.values())
        for peer in peers:
            if peer.freed:
                peer.slots.report()
                worked = True
            worked = peer.check_loops() or worked
        for lane in list(self.held_lanes):
            lane.check_progress()
            worked = True
        if self._introductions:
            worked = True
            for intro in list(self._introductions):
                intro.tick()
        worked = self.orphans.take_in() or worked
        worked = self.orphans.check_time() or worked
        if self._paused_listeners:
            self._resume_listeners()
            worked = True
        while self._given_up:
            self.disconnect(self._given_up.popleft(), "it does not read its control connection")
        for peer in list(self._unsent):
            worked = True
            self.send_waiting(peer)
        return self._check_starvation() or worked

    def _check_starvation(self) -> bool:
        since = self.workers.starving_since
        if since is None:
            return False
        if time.monotonic() - since > limits.SLOW_POOL_WARNING and self.workers.pending():
            self.workers.starving_since = time.monotonic() + 10
            _log.warning("%s", self.describe_starvation())
        return True

    def describe_starvation(self) -> str:
        """Say who is waiting for whom while all workers are busy."""
        lines = [
            f"all {self.workers.limit} worker threads have been busy for {limits.SLOW_POOL_WARNING} s and requests "
            "wait; raise IPCSkeleton.set_max_work_thread_num, make handlers shorter, or async. Being handled:"
        ]
        with self._peers_lock:
            peers = list(self._peers.values())
        for peer in peers:
            for lane in list(peer.served.values()):
                lines += [
                    f"  a call of {context.origin!r} on lane {lane.number}, chain {context.chain:#x}"
                    for context in lane.contexts()
                ]
        lines += [f"  a worker waits for {target!r}" for target in self.workers.waits_for()]
        return "\n".join(lines)

    # --- the end of peers --------------------------------------------------------------------------

    def on_peer_death(self, listener: Callable[[Peer], None]) -> None:
        """Have ``listener(peer)`` called on a worker thread whenever a process is gone."""
        self._peer_deaths.append(listener)

    def suspect(self, peer: Peer) -> None:
        """A lane of ``peer`` broke: if its control connection hung up too it is dead, now rather than soon."""
        poller = select.poll()
        try:
            poller.register(peer.control.fileno(), select.POLLHUP)
        except ValueError:
            return
        if any(mask & select.POLLHUP for _, mask in poller.poll(0)):
            peer.is_dead = True
            self.monitor.ring()

    def disconnect(self, peer: Peer, reason: str) -> None:
        """Hang up on a peer that broke the protocol or does not read; it is told why if it still reads."""
        if not peer.is_dead and not peer.expelled:
            peer.expelled = True
            _log.warning("disconnecting %r: %s", peer, reason)
            peer.post(frame.encode_control(frame.GOODBYE, reason.encode()[: frame.MAX_REASON]))
        self.bury(peer, f"it was disconnected: {reason}")

    def bury(self, peer: Peer, reason: str) -> None:
        """The peer is gone: once, for whatever reason."""
        key = (peer.caller.pid, peer.node_id)
        with self._peers_lock:
            if self._peers.get(key) is not peer:
                return  # it was, and the same process may be connected anew
            del self._peers[key]
        self.monitor.forget(peer.control.fileno())
        if peer.pidfd >= 0:
            self.monitor.forget(peer.pidfd)
            os.close(peer.pidfd)
        peer.close(reason)
        peer.control.close()
        for lane in list(peer.served.values()):
            lane.peer_died()
        self.orphans.peer_died(peer)
        if not self._closed:
            self._tell_of_death(peer)
        self.drained(peer)

    def drained(self, peer: Peer) -> None:
        """A lane of a dead peer is at its end: with the last one go its memory and its references to our objects.

        Not earlier, because one-way calls it made before it ended are still read and executed.
        """
        if peer.served and not self._closed and not peer.expelled:
            return
        peer.slots.drained()
        with self.tables_lock:
            gone = self.exports.release_all(peer.held)
        self._let_go(gone)

    def _let_go(self, gone: list[RemoteObject]) -> None:
        """Drop stubs nobody holds any more: on a worker, because their finalizers are user code."""
        if gone:
            self.submit(gone.clear)

    def _tell_of_death(self, peer: Peer) -> None:
        mourners = [proxy for proxy in peer.live_proxies() if proxy.has_recipients]
        for proxy in mourners:
            self.submit(proxy.obituary)
        for listener in self._peer_deaths:
            self.submit(lambda listener=listener: listener(peer))  # type: ignore[misc]

    # --- fork --------------------------------------------------------------------------------------

    def check_usable(self) -> None:
        """Raise unless this node belongs to this process and is open.

        Raises:
            ForkedError: this is a forked child.
            DeadObjectError: the driver was closed.
        """
        if self._pid != os.getpid():
            raise ForkedError(
                f"this object belongs to process {self._pid}; a forked child cannot use its parent's connections. "
                "Look the object up again in the child, or start children with spawn or subprocess"
            )
        if self._closed:
            raise DeadObjectError("the driver of this process was closed")

    def after_fork(self) -> None:
        """In a forked child: let go of the parent's descriptors, or its death would go unnoticed."""
        self.workers.discard()
        self.monitor.discard()
        for peer in list(self._peers.values()):
            peer.forked()
        for sock in self._listeners.values():
            sock.close()
        for intro in self._introductions:
            intro.sock.close()
        self.orphans.close()

    def statistics(self) -> dict[str, int]:
        """Return counts for leak checks and dumps."""
        with self._peers_lock:
            peers = list(self._peers.values())
        with self.tables_lock:
            exports = len(self.exports)
        return {
            "peers": len(peers),
            "exports": exports,
            "proxies": sum(len(peer.live_proxies()) for peer in peers),
            "held": sum(held.count for peer in peers for held in peer.held.values()),
            "lanes": sum(peer.lane_count for peer in peers),
            "served_lanes": sum(len(peer.served) for peer in peers),
            "orphans": len(self.orphans),
            "introductions": len(self._introductions),
            **self.workers.statistics(),
        }

    def __repr__(self) -> str:
        return f"<Node of {own_identity()!r} peers={len(self._peers)}>"


def _open_pidfd(pid: int) -> int:
    """Return a descriptor that becomes readable when the process ends, -1 if it is gone already.

    No reuse race: whoever sent HELLO still holds its end of the connection, and if
    it does not, the hang-up is seen as well.
    """
    try:
        fd = os.pidfd_open(pid)
    except OSError as error:
        _log.debug("no pidfd of process %d: %s", pid, error)
        return -1
    fcntl.fcntl(fd, fcntl.F_SETFD, fcntl.FD_CLOEXEC)
    return fd


def _after_fork_in_child() -> None:
    for node in list(_nodes):
        node.after_fork()
    _nodes.clear()


os.register_at_fork(after_in_child=_after_fork_in_child)
