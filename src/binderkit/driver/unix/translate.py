"""Objects of a message <-> rows of an object table, for one peer.

Owns: what travels instead of an object: our stub becomes a handle the peer can call, its own
object comes home as such, a third process's object becomes a fresh connection
to that process (an introduction), descriptors are passed by the kernel, large blocks go
through pooled shared memory.

Rules upheld: a message leaves with all of its references or with none
(``Outgoing.undo``); whatever arrives in a message that nobody reads is released (``dispose``).
"""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any

from binderkit import limits
from binderkit.driver.unix import frame, handshake
from binderkit.driver.unix.frame import Entry, Frame
from binderkit.driver.unix.undelivered import Incomplete
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    InvalidObjectError,
    ParcelWriteError,
    ProtocolError,
    TooBigError,
)
from binderkit.ipc.proxy import RemoteProxy, passed_on
from binderkit.ipc.remote import RemoteObject
from binderkit.memory import pool
from binderkit.parcel.objects import KIND_BLOB, KIND_FD, KIND_REMOTE, OwnedFd

if TYPE_CHECKING:
    from binderkit.driver.unix.peer import Peer
    from binderkit.parcel import MessageSequence

Objects = dict[int, tuple[int, object]]


class Outgoing:
    """A message made ready for one peer; ``sent`` or ``undo`` is called exactly once."""

    __slots__ = ("_granted", "_peer", "_slots", "_sockets", "_token", "body", "entries", "fds", "home")

    def __init__(self, peer: Peer, sequence: MessageSequence, kind: int) -> None:
        """Translate ``sequence`` for a frame of ``kind``; on any error nothing stays behind.

        Raises:
            DeadObjectError, QuotaError, TooBigError, InvalidObjectError: see their texts.
        """
        self._peer = peer
        self._granted: list[int] = []
        self._slots: list[pool.Slot] = []
        self._sockets: list[socket.socket] = []
        self.entries: list[Entry] = []
        self.fds: list[int] = []
        self.home: list[RemoteProxy] = []
        # Proxies that go home in a reply live until the receiver has resolved them, or their release could
        # overtake the reply. A call keeps its arguments anyway, and one-way calls fence releases (peer.py).
        self._token = peer.new_home_token() if kind == frame.REPLY else 0
        self.body = readable(sequence)
        try:
            self._add_objects(sequence._objects or {})
            if self.home and self._token:
                # Before the message leaves: the confirmation may come before the system call returns.
                self._peer.keep_home(self._token, self.home)
            if len(self.body) > limits.INLINE_BODY:
                self._share_body()
        except BaseException:
            self.undo()
            raise

    @property
    def charge(self) -> int:
        """Bytes a one-way call is charged: the packet, and what travels in shared memory beside it."""
        shared = (e.argument & 0xFFFFFFFF for e in self.entries if e.kind in (frame.OBJ_SLOT, frame.OBJ_NEW_SLOT))
        return frame.HEADER_SIZE + len(self.body) + frame.ENTRY.size * len(self.entries) + sum(shared)

    def _add_objects(self, objects: Objects) -> None:
        if len(objects) >= limits.MAX_OBJECTS_PER_MESSAGE:
            raise TooBigError(
                f"{len(objects)} objects in one message, the limit is {limits.MAX_OBJECTS_PER_MESSAGE - 1}; "
                "send them in several calls"
            )
        for offset, (kind, value) in objects.items():
            if kind == KIND_REMOTE:
                self._add_remote(offset, value)
            elif kind == KIND_FD:
                assert isinstance(value, OwnedFd)
                self._add(offset, frame.OBJ_FD, value.fileno())
            else:
                self._add_blob(offset, value)

    def _add(self, offset: int, kind: int, fd: int, number: int = 0, argument: int = 0) -> None:
        if fd >= 0:
            if len(self.fds) >= limits.MAX_FDS_PER_MESSAGE:
                raise TooBigError(
                    f"more than {limits.MAX_FDS_PER_MESSAGE} descriptors in one message; send them in several calls"
                )
            self.fds.append(fd)
        self.entries.append(Entry(offset, kind, len(self.fds) - 1 if fd >= 0 else -1, number, argument))

    def _add_remote(self, offset: int, value: object) -> None:
        if isinstance(value, RemoteObject):
            handle = self._peer.node.grant(self._peer, value)
            self._granted.append(handle)
            self._add(offset, frame.OBJ_EXPORT, -1, handle)
            return
        if not isinstance(value, RemoteProxy):
            raise InvalidObjectError(f"{value!r} is not a remote object of this driver")
        owner: Any = value._connection
        if owner is self._peer:
            self._add(offset, frame.OBJ_HOME, -1, value._handle, self._token)
            self.home.append(value)
            return
        if owner.is_dead:
            raise DeadObjectError(f"{value!r} is dead and cannot be passed on")
        if value._handle >= limits.RPC_HANDLE_BASE:
            raise passed_on(value)
        introduce = getattr(owner, "introduce", None)
        if introduce is None or owner.node is not self._peer.node:
            raise InvalidObjectError(f"{value!r} belongs to another driver and cannot be passed on here")
        ours = introduce(value._handle)
        self._sockets.append(ours)
        self._add(offset, frame.OBJ_INTRODUCED, ours.fileno())

    def _add_blob(self, offset: int, value: object) -> None:
        if isinstance(value, pool.Slot):
            (size,) = struct.unpack_from("<i", self.body, offset - 4)
            slot = value
            if slot.shared_with not in (None, self._peer) or self._peer.slots.flies(slot):
                slot = self._copy(value.view(size))
            else:
                slot.hold()
                self._slots.append(slot)
        else:
            assert isinstance(value, memoryview)
            size = value.nbytes
            slot = self._copy(value)
        self._add_slot(offset, slot, size)

    def _copy(self, source: memoryview | bytes | bytearray) -> pool.Slot:
        slot = pool.take(len(source), self._peer)
        self._slots.append(slot)
        slot.buffer[: len(source)] = source
        return slot

    def _share_body(self) -> None:
        slot = self._copy(self.body)
        self._add_slot(frame.BODY_OFFSET, slot, len(self.body))
        self.body = b""

    def _add_slot(self, offset: int, slot: pool.Slot, size: int) -> None:
        if self._peer.slots.take_off(slot):
            self._add(offset, frame.OBJ_SLOT, -1, slot.index, size)
            return
        self._add(offset, frame.OBJ_NEW_SLOT, slot.fd, slot.index, slot.size << 32 | size)

    def sent(self) -> None:
        """The message is on its way: what we opened only for it is closed, slots stay held for the receiver."""
        for sock in self._sockets:
            sock.close()

    def undo(self) -> None:
        """The message did not leave: take everything back."""
        if self.home and self._token:
            self._peer.home_received(self._token)
        for sock in self._sockets:
            sock.close()
        for handle in self._granted:
            self._peer.node.release(self._peer, handle, 1)
        for slot in self._slots:
            self._peer.slots.landed_nowhere(slot)


def readable(sequence: MessageSequence) -> bytes | bytearray | memoryview:
    """Return the data area of a sequence that is to be sent.

    Raises:
        ParcelWriteError: it was reclaimed.
    """
    data = sequence._in if sequence._out is None else sequence._out
    if data is None:
        raise ParcelWriteError("the sequence was reclaimed and cannot be sent; create a new one")
    return data


def accept(peer: Peer, got: Frame, fds: list[int]) -> tuple[bytes | memoryview, Objects | None]:
    """Turn a received frame into a data area and its objects; takes ownership of ``fds``.

    Raises:
        ProtocolError: the peer names what it does not hold, or lies about sizes. All descriptors are closed.
    """
    data: bytes | memoryview = got.data
    objects: Objects = {}
    homes: set[int] = set()
    owned = [OwnedFd(fd) for fd in fds]
    # One time limit for all introductions of a message, or a hostile sender could hold this thread for hours.
    until = time.monotonic() + limits.HANDSHAKE_WAIT
    for entry in got.entries:
        fd = owned[entry.fd] if entry.fd >= 0 else None
        if entry.offset == frame.BODY_OFFSET:
            data = peer.slots.view(entry, fd, limits.MAX_CAPACITY)
            continue
        objects[entry.offset] = _accept_one(peer, entry, fd, until)
        if entry.kind == frame.OBJ_HOME:
            homes.add(entry.argument)
    if objects and len(data) < next(reversed(objects)) + 24:
        raise ProtocolError("an object record outside the data area")
    _acknowledge(peer, homes)
    return data, objects or None


def _acknowledge(peer: Peer, homes: set[int]) -> None:
    homes.discard(0)
    if homes:
        peer.post(frame.encode_pairs(frame.HOME_RECEIVED, [(token, 0) for token in homes]))


def _accept_one(peer: Peer, entry: Entry, fd: OwnedFd | None, until: float) -> tuple[int, object]:
    if entry.kind == frame.OBJ_EXPORT:
        return KIND_REMOTE, peer.proxy(entry.id)
    if entry.kind == frame.OBJ_HOME:
        return KIND_REMOTE, peer.held_stub(entry.id)
    if entry.kind == frame.OBJ_INTRODUCED:
        assert fd is not None
        return KIND_REMOTE, peer.node.introduced(fd, until)
    if entry.kind == frame.OBJ_FD:
        return KIND_FD, fd
    return KIND_BLOB, peer.slots.view(entry, fd, limits.MAX_RAW_DATA)


def dispose(peer: Peer, got: Frame, fds: list[int]) -> None:
    """Give back everything a message carried that nobody will read (a late reply).

    Introductions are dropped by closing their connection; nothing here waits.
    """
    owned = [OwnedFd(fd) for fd in fds]
    homes: set[int] = set()
    for entry in got.entries:
        if entry.kind == frame.OBJ_EXPORT:
            peer.proxy(entry.id)
        elif entry.kind in (frame.OBJ_SLOT, frame.OBJ_NEW_SLOT):
            peer.slots.unseen(entry, owned[entry.fd] if entry.fd >= 0 else None)
        elif entry.kind == frame.OBJ_HOME:
            homes.add(entry.argument)
    _acknowledge(peer, homes)


def dispose_lost(peer: Peer, got: Frame) -> None:
    """The same for a message whose descriptors this process could not take: what travelled without them goes back."""
    dispose(peer, got._replace(entries=tuple(entry for entry in got.entries if entry.fd < 0)), [])


def receive_fds(sock: socket.socket, got: Frame) -> list[int]:
    """Receive the packet of descriptors that follows a frame which announces some.

    Raises:
        Incomplete: they have not arrived (as soon as ``sock`` would block, or its receive timeout passes).
        ProtocolError: not as many as announced.
        DescriptorError: this process has no descriptors left.
        ConnectionResetError: the lane ended.
    """
    if not got.fds:
        return []
    try:
        packet, fds = handshake.receive_with_fds(sock, 16, got.fds)
    except BlockingIOError:
        raise Incomplete from None
    if not packet:
        handshake.close_all(fds)
        raise ConnectionResetError("the lane ended between a frame and its descriptors")
    if packet != frame.FDS_FOLLOW or len(fds) != got.fds:
        handshake.close_all(fds)
        raise ProtocolError(f"{len(fds)} descriptors arrived where {got.fds} were announced")
    return fds


def await_fds(sock: socket.socket, got: Frame) -> list[int]:
    """As ``receive_fds``, for a thread that waits on the lane anyway.

    Not only until the call's deadline: a lane left between a frame and its descriptors could not be used any more.

    Raises:
        ProtocolError: they do not come.
    """
    if got.fds:
        await_announced(sock)
    return receive_fds(sock, got)


def await_announced(sock: socket.socket) -> None:
    """Return when the descriptors that a frame announced are there to be received.

    Raises:
        ProtocolError: they do not come.
    """
    try:
        wait_readable(sock, time.monotonic() + limits.HANDSHAKE_WAIT)
    except CallTimeoutError:
        raise ProtocolError(f"descriptors were announced and did not come within {limits.HANDSHAKE_WAIT} s") from None


def wait_readable(sock: socket.socket, deadline: float) -> None:
    """Return when ``sock`` has something to read; raise CallTimeoutError once ``deadline`` has passed."""
    left = deadline - time.monotonic()
    poller = select.poll()
    poller.register(sock.fileno(), select.POLLIN)
    if left <= 0 or not poller.poll(left * 1000 + 1):
        raise CallTimeoutError(
            "no reply before the deadline; the call may still be executed, its reply will be dropped"
        )


def send_fds(sock: socket.socket, fds: list[int]) -> None:
    """Send the packet of descriptors that follows a frame."""
    socket.send_fds(sock, [frame.FDS_FOLLOW], fds, socket.MSG_NOSIGNAL)
