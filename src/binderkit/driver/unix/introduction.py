"""The owner's side of a connection that begins: who comes, and is a connection to it there already?

Owns: one socket between HELLO and GRANTED, and a strong hold on the object that is
offered: a reference in flight *is* this socket, so if any party dies the kernel closes it
and the hold goes. Runs on the monitor thread; never blocks.

The exchange, the same for an object passed on by a third process, for SAMgr's listening
socket and for the parent of a spawned child:

    owner -> guest   HELLO        guest -> owner   HELLO
    whoever has the smaller node id decides whether this becomes the connection of the two
    guest -> owner   DECIDE       (only if the guest decides)
    owner -> guest   GRANTED(handle, 1 = this is the connection now / 0 = use the one we have)
"""

from __future__ import annotations

import logging
import socket
import time
from typing import TYPE_CHECKING

from binderkit import limits
from binderkit.driver.unix import frame, handshake
from binderkit.errors import IpcError, ProtocolError

if TYPE_CHECKING:
    from binderkit.driver.tables import Export
    from binderkit.driver.unix.node import Admission, Node
    from binderkit.driver.unix.peer import Peer
    from binderkit.ipc.context import Caller

_log = logging.getLogger("binderkit.driver")


class Introduction:
    """One connection that begins."""

    def __init__(
        self,
        node: Node,
        sock: socket.socket,
        export: Export,
        admission: Admission | None,
        introducer: Peer | None = None,
    ) -> None:
        self._node = node
        self.sock = sock
        self._export = export
        self._admission = admission
        self.introducer = introducer
        self._until = time.monotonic() + limits.HANDSHAKE_WAIT
        self._guest: tuple[bytes, Caller] | None = None
        self._waits_for_peer = False

    def start(self) -> None:
        """Say HELLO and wait for the guest."""
        try:
            handshake.send_hello(self.sock, self._node.id)
        except OSError as error:
            _log.debug("the guest of an introduction is gone: %s", error)
            self._drop()
            return
        self._node.monitor.watch(self.sock.fileno(), lambda _: self._step())
        self._node.stir()

    def _step(self) -> None:
        try:
            if self._guest is None:
                self._hello()
            else:
                self._decided()
        except BlockingIOError:
            return
        except IpcError as error:
            self._refuse(str(error))
        except OSError as error:
            _log.debug("an introduction ended: %s", error)
            self._drop()

    def _hello(self) -> None:
        node_id, caller = handshake.receive_hello(self.sock)
        if self._admission is not None:
            reason = self._admission(caller)
            if reason is not None:
                _log.warning("refused a connection of %r: %s", caller, reason)
                self._refuse(reason)
                return
        if node_id == self._node.id:
            raise ProtocolError("a process cannot be introduced to itself")
        self._guest = (node_id, caller)
        if self._node.id < node_id:
            peer, fresh = self._node.decide(self.sock, node_id, caller)
            self._grant(peer, fresh)

    def _decided(self) -> None:
        assert self._guest is not None
        if self._waits_for_peer:
            packet = self.sock.recv(frame.CONTROL_MAX)
            raise ProtocolError(f"{len(packet)} bytes where the guest had to wait")
        packet = self.sock.recv(frame.CONTROL_MAX)
        if not packet:
            self._drop()
            return
        message = frame.decode_control(packet)
        if message.kind != frame.DECIDE:
            raise ProtocolError(f"expected DECIDE, got control message {message.kind}")
        if message.number:
            peer, fresh = self._node.decide(self.sock, *self._guest)
            if not fresh:
                raise ProtocolError("the guest wants a second connection")
            self._grant(peer, True)
            return
        # The connection the guest means may still be an introduction itself.
        self._waits_for_peer = True
        self._look_for_peer(self._guest)

    def _look_for_peer(self, guest: tuple[bytes, Caller]) -> None:
        """Finish if the connection the guest means is there now."""
        peer = self._node.known_peer(*guest)
        if peer is not None:
            self._grant(peer, False)

    def _grant(self, peer: Peer, fresh: bool) -> None:
        self._node.monitor.forget(self.sock.fileno())
        try:
            handle = self._node.grant_export(peer, self._export)
        except IpcError as error:
            self._refuse(str(error))
            if fresh:
                self._node.bury(peer, "it was refused")
            return
        try:
            self.sock.send(frame.encode_pairs(frame.GRANTED, [(handle, int(fresh))]))
        except OSError as error:
            _log.debug("the guest of an introduction is gone: %s", error)
            if not fresh:
                self._node.release(peer, handle, 1)
        self._node.introduction_over(self)
        if not fresh:
            self.sock.close()
            return
        self.sock.setblocking(True)
        self._node.watch_peer(peer)

    def _refuse(self, reason: str) -> None:
        try:
            self.sock.send(frame.encode_control(frame.REFUSED, reason.encode()[:1024]))
        except OSError as error:
            _log.debug("could not tell a guest why it is refused: %s", error)
        self._drop()

    def _drop(self) -> None:
        self._node.monitor.forget(self.sock.fileno())
        self._node.introduction_over(self)
        self.sock.close()

    def tick(self) -> None:
        """Give up a guest that does not speak; finish if the connection it means has come (monitor tick)."""
        if time.monotonic() > self._until:
            self._refuse(f"the handshake took longer than {limits.HANDSHAKE_WAIT} s")
        elif self._waits_for_peer and self._guest is not None:
            self._look_for_peer(self._guest)
