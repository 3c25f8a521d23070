"""Sessions as an application has them: the same sockets as in the softbus process, reached through it.

Owns: this process's sockets and sessions, and the object through which the softbus process tells of them.

    sessions = RemoteSessions(service)          # the softbus process's object for sessions
    with sessions.socket("…", peer_name="…", peer_network_id="…") as socket:
        socket.bind(listener)
        socket.send_bytes(b"…")

Rules upheld here:

- What arrives is queued and its listener called by a thread of the session, as in the softbus process; so a listener
  may send on its own session and wait.
- A sender waits when there is no room, and is woken when there is; at most limits.SESSION_ACK_WAIT seconds.
- When the softbus process ends, every session ends with SERVICE_DIED.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from binderkit import limits
from binderkit.errors import CallTimeoutError, DeadObjectError, QuotaError
from binderkit.interface import proxy
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy
from binderkit.ipc.remote import IRemoteObject
from binderkit.softbus import reasons
from binderkit.softbus.reasons import DataType, ShutdownReason
from binderkit.softbus.session_contracts import (
    ISessionListener,
    ISessions,
    PeerDescription,
    SessionRefusal,
    SocketDescription,
)
from binderkit.softbus.session_delivery import Deliveries
from binderkit.softbus.session_frames import Kind, decode_frame
from binderkit.softbus.session_link import Acknowledgement, Sink
from binderkit.softbus.session_socket import PeerSocketInfo, Socket, SocketInfo

__all__ = ["RemoteSessions"]

Buffer = bytes | bytearray | memoryview


class _RemoteLink:
    """An open session whose stream is in the softbus process."""

    def __init__(self, service: ISessions, number: int, sink: Sink) -> None:
        self._service = service
        self._number = number
        self._sink = sink
        self._serials = itertools.count(1)
        self._changed = threading.Condition()
        self._pending: dict[int, Callable[[int], None]] = {}
        self._rooms = 0
        self._reason: ShutdownReason | None = None
        self._deliveries = Deliveries("softbus-listener")

    def send(self, kind: Kind, *buffers: Buffer) -> None:
        """Send a packet: as ``Link.send``."""
        self._send(kind, b"".join(buffers), 0)

    def send_acknowledged(self, kind: Kind, *buffers: Buffer, sent: Callable[[int], None]) -> None:
        """Send a packet and be told of its arrival: as ``Link.send_acknowledged``."""
        serial = next(self._serials)
        with self._changed:
            self._check()
            if len(self._pending) >= limits.MAX_SESSION_UNACKED:
                raise QuotaError(
                    f"{limits.MAX_SESSION_UNACKED} packets of this session wait for their acknowledgement; "
                    "wait for some of them",
                    code=reasons.COUNT_LIMIT,
                )
            self._pending[serial] = sent
        try:
            self._send(kind, b"".join(buffers), serial)
        except BaseException:
            with self._changed:
                still_ours = self._pending.pop(serial, None) is not None
            if still_ours:
                raise
            # The end of the session has told ``sent`` already: once is enough.

    def send_message(self, data: Buffer) -> None:
        """Send a message and wait until it has arrived: as ``Link.send_message``."""
        acknowledgement = Acknowledgement()
        self.send_acknowledged(Kind.MESSAGE, data, sent=acknowledgement)
        acknowledgement.wait()
        acknowledgement.check()

    def _send(self, kind: Kind, data: bytes, serial: int) -> None:
        while True:
            with self._changed:
                self._check()
                rooms = self._rooms
            with _as_errors():
                if self._service.send(self._number, kind, data, serial):
                    return
            self._wait_for_room(rooms)

    def _wait_for_room(self, rooms: int) -> None:
        """Wait until there was room, or the session ended, since ``rooms`` were counted."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._rooms != rooms or self._reason, limits.SESSION_ACK_WAIT):
                raise CallTimeoutError(
                    f"the other device took nothing for {limits.SESSION_ACK_WAIT:g} s", code=reasons.TIMEOUT
                )

    def _check(self) -> None:
        if self._reason is not None:
            raise DeadObjectError(f"the session has ended ({self._reason.name}); bind a new socket")

    def queue(self, call: Callable[[], None]) -> None:
        """Have something called in line with what arrives."""
        self._deliveries.push(call)

    def end(self, reason: ShutdownReason) -> None:
        """End the session on this side; the table tells the softbus process."""
        with self._changed:
            if self._reason is not None:
                return
            self._reason = reason
            pending, self._pending = self._pending, {}
            self._changed.notify_all()
        for sent in pending.values():
            sent(reasons.TIMEOUT if reason is ShutdownReason.TIMEOUT else reasons.NODE_OFFLINE)
        self._deliveries.close(None if reason is ShutdownReason.LOCAL else lambda: self._sink.ended(reason))

    # --- What the softbus process tells --------------------------------------------------------------

    def received(self, kind: int, data: bytes) -> None:
        """Queue what came for the listener."""
        sink = self._sink
        if kind == Kind.MESSAGE:
            self._deliveries.put(len(data), lambda: sink.got_message(data))
        elif kind == Kind.BYTES:
            self._deliveries.put(len(data), lambda: sink.got_bytes(data))
        else:
            info, extension, rest = decode_frame(data)
            self._deliveries.put(len(data), lambda: sink.got_frame(info, extension, rest))

    def sent(self, serial: int, code: int) -> None:
        """Tell who sent it."""
        with self._changed:
            told = self._pending.pop(serial, None)
        if told is not None:
            told(code)

    def room(self) -> None:
        """Wake who waits for room."""
        with self._changed:
            self._rooms += 1
            self._changed.notify_all()

    def join(self) -> None:
        """Wait for the listener's last call, unless this is it."""
        self._deliveries.join()


class _Ear(ISessionListener):
    """What the softbus process calls."""

    def __init__(self, sessions: RemoteSessions) -> None:
        self._sessions = sessions

    def negotiate(self, number: int, peer: PeerDescription) -> bool:
        """Ask the listener."""
        socket = self._sessions.find(number)
        return socket is not None and socket.listener.on_negotiate(socket, _peer(peer))

    def bound(self, number: int, session: int, peer: PeerDescription) -> None:
        """Open the socket of a session."""
        self._sessions.bound(number, session, _peer(peer))

    def failed(self, number: int, code: int) -> None:
        """End the bind of a socket."""
        socket = self._sessions.find(number)
        if socket is not None:
            socket.failed(reasons.error_of(code, f"the session could not be opened: {reasons.code_name(code)}"))

    def received(self, number: int, kind: int, data: bytes) -> None:
        """Pass on."""
        link = self._sessions.link(number)
        if link is not None:
            link.received(kind, data)

    def sent(self, number: int, serial: int, code: int) -> None:
        """Pass on."""
        link = self._sessions.link(number)
        if link is not None:
            link.sent(serial, code)

    def room(self, number: int) -> None:
        """Pass on."""
        link = self._sessions.link(number)
        if link is not None:
            link.room()

    def ended(self, number: int, reason: int) -> None:
        """Pass on."""
        link = self._sessions.link(number)
        if link is not None:
            link.end(ShutdownReason(reason))


class _Dead(DeathRecipient):
    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told

    def on_remote_died(self) -> None:
        """The softbus process has ended."""
        self._told()


class RemoteSessions:
    """The sockets of this process; any thread. Close it, or end the process."""

    def __init__(self, service: IRemoteObject) -> None:
        """Reach sessions through the softbus process's object for them.

        Raises:
            DeadObjectError: that process has ended (-32).
        """
        self._service = proxy(ISessions, service)
        self._remote = service
        self._lock = threading.Lock()
        self._sockets: dict[int, Socket] = {}
        self._links: dict[int, _RemoteLink] = {}
        self._numbers: dict[Socket, int] = {}
        self._ear = _Ear(self)
        self._recipient = _Dead(self._service_died)
        if isinstance(service, RemoteProxy):
            service.register_death_recipient(self._recipient)

    def socket(
        self,
        name: str,
        *,
        peer_name: str = "",
        peer_network_id: str = "",
        pkg_name: str = "",
        data_type: DataType = DataType.BYTES,
    ) -> Socket:
        """Return a new socket: as ``Sessions.socket``.

        Raises:
            DeadObjectError: the softbus process has ended (-32). Else as there.
        """
        info = SocketInfo.checked(name, peer_name, peer_network_id, pkg_name, data_type)
        made = Socket(self, None, info)
        self._enter(made, made.id)
        try:
            with _as_errors():
                described = SocketDescription(name, peer_name, peer_network_id, pkg_name, info.data_type)
                self._service.socket(self._ear, made.id, described)
        except BaseException:
            self._forget(made)
            raise
        return made

    # --- For sockets --------------------------------------------------------------------------------

    def listening(self, socket: Socket, max_idle: float | None) -> None:
        """Let a socket listen; for Socket."""
        with _as_errors():
            self._service.listen(self._numbers[socket], _milliseconds(max_idle))

    def binding(self, socket: Socket, wait: float, max_idle: float | None) -> None:
        """Begin to bind a socket; for Socket."""
        with _as_errors():
            self._service.bind(self._numbers[socket], _milliseconds(wait), _milliseconds(max_idle))

    def gone(self, socket: Socket) -> None:
        """Forget a socket that was shut down or has ended; for Socket."""
        number = self._forget(socket)
        if number is None:
            return
        try:
            self._service.shutdown(number)
        except DeadObjectError:
            return  # it forgot everything

    def _enter(self, socket: Socket, number: int) -> None:
        with self._lock:
            self._sockets[number] = socket
            self._numbers[socket] = number

    def _forget(self, socket: Socket) -> int | None:
        with self._lock:
            number = self._numbers.pop(socket, None)
            if number is not None:
                self._sockets.pop(number, None)
                self._links.pop(number, None)
            return number

    # --- For the ear --------------------------------------------------------------------------------

    def find(self, number: int) -> Socket | None:
        """Return the socket with a number."""
        with self._lock:
            return self._sockets.get(number)

    def link(self, number: int) -> _RemoteLink | None:
        """Return the open session with a number."""
        with self._lock:
            return self._links.get(number)

    def bound(self, number: int, session: int, peer: PeerSocketInfo) -> None:
        """Open a bound socket, or one of its own for a session that arrived at a listening one."""
        at = self.find(number)
        if at is None:
            self._service.shutdown(session)
            return
        if session == number:
            opened, listener = at, None
        else:
            info = SocketInfo(at.info.name, peer.name, peer.network_id, at.info.pkg_name, at.info.data_type)
            opened, listener = Socket(self, None, info), at.listener
            self._enter(opened, session)
        link = _RemoteLink(self._service, session, opened)
        with self._lock:
            self._links[session] = link
        if not opened.opened(link, peer, listener):
            self.gone(opened)

    # --- The end ------------------------------------------------------------------------------------

    def _service_died(self) -> None:
        with self._lock:
            sockets, links = list(self._sockets.items()), dict(self._links)
        for number, socket in sockets:
            link = links.get(number)
            if link is not None:
                link.end(ShutdownReason.SERVICE_DIED)
            else:
                socket.failed(DeadObjectError("the softbus process has ended; make a new socket"))

    def close(self) -> None:
        """Shut all sockets down, and wait for listeners that are being called."""
        if isinstance(self._remote, RemoteProxy):
            self._remote.unregister_death_recipient(self._recipient)
        with self._lock:
            sockets, links = list(self._sockets.values()), list(self._links.values())
        for socket in sockets:
            socket.shutdown()
        for link in links:
            link.join()


def _milliseconds(seconds: float | None) -> int:
    return 0 if seconds is None else max(1, round(seconds * 1000))


def _peer(described: PeerDescription) -> PeerSocketInfo:
    return PeerSocketInfo(
        described.name, described.pkg_name, described.network_id, described.udid, DataType(described.data_type)
    )


@contextmanager
def _as_errors() -> Iterator[None]:
    """Raise what the softbus process refuses as the errors that its own sockets raise."""
    try:
        yield
    except SessionRefusal as refusal:
        raise reasons.error_of(refusal.code, refusal.text) from None
