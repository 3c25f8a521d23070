"""The lane on which all one-way calls of a peer arrive, and their execution.

Owns: the order. Reading and queueing happen under the lane's lock, so the calls of one process to one object
are executed in the order sent, one at a time; those of different objects run concurrently, because a
handler that takes long gives the reading away.

Locks: the lane's ``lock`` as in lanes.py; the node's ``oneway_lock`` guards every object's queue and the
credit, for a few statements. No handler runs under either.
"""

from __future__ import annotations

import logging
import socket
import threading
from collections.abc import Awaitable
from typing import TYPE_CHECKING, Any

from binderkit import limits
from binderkit.driver.tables import Export
from binderkit.driver.unix import frame
from binderkit.driver.unix.frame import HEADER, HEADER_SIZE, PACKET_MAX
from binderkit.driver.unix.lanes import Reader, SharedLane
from binderkit.driver.unix.serve import accept_request
from binderkit.driver.unix.undelivered import Incomplete
from binderkit.errors import DescriptorError, ProtocolError
from binderkit.ipc.context import CallContext, current
from binderkit.ipc.dispatch import check_handled, failure_of, handle_reserved
from binderkit.ipc.option import RECEIVED_ASYNC
from binderkit.parcel import MessageSequence

if TYPE_CHECKING:
    from binderkit.driver.unix.peer import Peer

_log = logging.getLogger("binderkit.driver")
_unpack = HEADER.unpack_from
_get_ident = threading.get_ident
_MAIN = threading.main_thread().ident
_DONTWAIT = socket.MSG_DONTWAIT
_COUNT_EVERY = 16 * limits.KIB
"""Bytes of one-way calls a reader executes before it counts them at the peer (under a lock)."""


class OnewayLane(SharedLane):
    """The lane on which all one-way calls of a peer arrive, in the order sent.

    The reader keeps the object it is executing calls of (``mine``) from packet to packet, so that a
    stream of calls to one object costs no more locking than reading it does.
    """

    __slots__ = ("_executed",)

    def __init__(self, peer: Peer, sock: socket.socket, number: int) -> None:
        super().__init__(peer, sock, number)
        self._executed = 0
        """bytes executed by the reader and not counted at the peer yet"""

    def _serve_one(self, me: Reader) -> bool:
        """Read and execute calls until the lane is quiet or another thread is the reader."""
        mine: Export | None = None
        try:
            while True:
                with self.lock:
                    if self.reader is not me:
                        return False
                    try:
                        # With calls of an object at hand: only what is there. Without: wait for PARK_TIME.
                        if self.begun is not None:
                            packet = self.go_on()
                        else:
                            packet = self.recv(PACKET_MAX, 0 if mine is None else _DONTWAIT)
                    except BlockingIOError:
                        if mine is None:
                            self.rest()
                            return False
                        packet = None
                    else:
                        if not packet:
                            self.close()
                            return False
                        self.progress += 1
                        me.busy = True
                        try:
                            job = self.take(packet, mine)
                        except Incomplete:
                            self.begun = packet
                            self.rest()
                            return False
                if packet is None:
                    self._let_go(mine)
                    mine = None
                    continue
                if job is not None:
                    if job[1].export is not mine:
                        self._let_go(mine)
                        mine = job[1].export
                    if _execute_oneway(job):
                        mine = None
                    else:
                        self._executed += job[5]
                        if self._executed > _COUNT_EVERY:
                            self._count()
                me.busy = False
                if not self.workers.waiting:
                    self._let_go(mine)
                    mine = None
                    with self.lock:
                        if self.reader is me:
                            self.rest()
                    return False
        finally:
            self._let_go(mine)

    def take(self, packet: bytes, mine: Export | None = None) -> Any:
        """Return the call to execute next, None if another thread executes that object's calls.

        Under the lane's lock, which is what keeps the order.
        """
        peer = self.peer
        if len(packet) < HEADER_SIZE:
            raise ProtocolError(f"a frame of {len(packet)} bytes; the header alone has {HEADER_SIZE}")
        version, kind, flags, seq, handle, code, _, chain, size, objects, _, freed, _ = _unpack(packet)
        data = MessageSequence()
        charge = len(packet)
        if version == 1 and kind == 2 and not flags and not objects and charge == HEADER_SIZE + size:
            data._out = None
            data._in = packet[HEADER_SIZE:]
            if freed:
                peer.slots.given_back(freed - 1)
        else:
            try:
                got = accept_request(peer, self, packet, data, frame.ONEWAY)
            except DescriptorError as error:
                return self._lose(packet, seq, error)
            charge += got.shared_bytes()
        held = peer.held.get(handle)
        peer.incoming.receive(charge)
        peer.oneway_read = seq
        if peer.deferred:
            peer.node.apply_deferred(peer)
        if held is None:
            self._executed += charge
            level = logging.DEBUG if peer.is_dead else logging.WARNING
            _log.log(level, "a one-way call of %r names object %d, which it does not hold", peer, handle)
            return None
        job = (peer, held, code, data, chain, charge)
        export = held.export
        if export is mine and not export.queue:
            return job
        return self._claim(export, mine, job)

    def _lose(self, packet: bytes, seq: int, error: Exception) -> None:
        """A call could not be taken in: it counts as executed, or the sender's budget would shrink."""
        _log.error("a one-way call of %r is lost: %s", self.peer, error)
        charge = len(packet) + frame.decode(packet).shared_bytes()
        self.peer.incoming.receive(charge)
        self.peer.oneway_read = seq
        self._executed += charge

    def _claim(self, export: Export, mine: Export | None, job: Any) -> Any:
        """Queue ``job`` at its object; return the object's next call if this thread is to execute it."""
        with self.peer.node.oneway_lock:
            if export is mine:
                export.queue.append(job)
                return export.queue.popleft()
            if export.running:
                export.queue.append(job)
                return None
            export.running = True
            return job

    def _let_go(self, mine: Export | None) -> None:
        """Execute what others queued at ``mine`` meanwhile, then let others execute its calls."""
        self._count()
        if mine is None:
            return
        with self.peer.node.oneway_lock:
            if not mine.queue:
                mine.running = False
                return
            job = mine.queue.popleft()
        run_queue(job)

    def _count(self) -> None:
        """Count at the peer what the reader executed."""
        executed, self._executed = self._executed, 0
        if not executed:
            return
        peer = self.peer
        with peer.node.oneway_lock:
            report = peer.incoming.execute(executed)
        if report:
            peer.report_credit()

    def handle(self, packet: bytes) -> bool:
        """Handle one packet (event loop: the only reader)."""
        job = self.take(packet)
        if job is not None:
            run_queue(job)
        self._count()
        return False


def run_queue(job: Any) -> None:
    """Execute a one-way call, then those of the same object that arrived meanwhile.

    A coroutine handler goes on by itself: the next call of its object starts when it is done.
    """
    while job is not None:
        if _execute_oneway(job):
            return
        job = _next_oneway(job)


def _next_oneway(job: Any) -> Any:
    """Count ``job`` as executed; return the next one of its object, None when there is none."""
    peer, held, _, _, _, charge = job
    export: Export = held.export
    with peer.node.oneway_lock:
        report = peer.incoming.execute(charge)
        if export.queue:
            following = export.queue.popleft()
        else:
            export.running = False
            following = None
    if report:
        peer.report_credit()
    return following


def _execute_oneway(job: Any) -> bool:
    """Run the handler of a one-way call; return whether a coroutine will go on with the queue."""
    peer, held, code, data, chain, _ = job
    context = CallContext(peer._caller, peer, None, _get_ident(), 0, chain, None, None)
    token = current.set(context)
    try:
        if 0 < code <= 0x00FFFFFF:
            result: Any = held.handler(code, data, MessageSequence(), RECEIVED_ASYNC)
        else:
            result = handle_reserved(held.stub, code, data, MessageSequence())
        if result is not True:
            if isinstance(result, Awaitable):
                from binderkit.ipc import loop

                loop.start(result, context, lambda value, error: _oneway_done(job, value, error))
                return True
            check_handled(held.stub, code, result)
    except Exception as error:
        # Nobody waits for the outcome; the log is where it can be seen. What came with the call goes now.
        data._objects = None
        failure_of(held.stub, error)
    except BaseException as error:
        data._objects = None
        failure_of(held.stub, error)
        if _get_ident() == _MAIN:
            raise
        # sys.exit in a handler ends the call, not the worker that others wait for.
    finally:
        current.reset(token)
    return False


def _oneway_done(job: Any, value: Any, error: BaseException | None) -> None:
    """A coroutine handler of a one-way call ended."""
    peer, held, code, _, _, _ = job
    try:
        if error is None:
            check_handled(held.stub, code, value)
    except Exception as refused:
        error = refused
    if error is not None:
        failure_of(held.stub, error)
    following = _next_oneway(job)
    if following is not None:
        peer.node.submit(lambda: run_queue(following))
