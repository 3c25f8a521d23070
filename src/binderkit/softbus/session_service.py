"""Sessions for the applications of this device: the part of the softbus process that they call.

Owns: which socket belongs to which process, and what each process still has to send.

Rules upheld here:

- A process reaches its own sockets only; who it is, the kernel says. Processes of other devices have none here.
- No handler waits for another device: what is sent is queued, at most limits.SESSION_QUEUE bytes per session, and
  refused for the moment beyond. A slow receiver so costs its own sender time, never the threads of this process.
- When a process ends, its sockets are shut down; the other sides hear PEER.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from binderkit import limits
from binderkit.errors import DeadObjectError, IpcError, ParamError, PermissionDeniedError
from binderkit.interface import within
from binderkit.ipc.context import Caller, calling_identity, known_caller
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy
from binderkit.softbus import reasons
from binderkit.softbus.reasons import DataType, QosType, ShutdownReason
from binderkit.softbus.session_contracts import (
    ISessionListener,
    ISessions,
    PeerDescription,
    SessionRefusal,
    SocketDescription,
)
from binderkit.softbus.session_delivery import Deliveries
from binderkit.softbus.session_frames import Kind, StreamFrameInfo, decode_frame, encode_frame
from binderkit.softbus.session_socket import PeerSocketInfo, Socket, SocketListener

if TYPE_CHECKING:
    from binderkit.softbus.sessions import Sessions

__all__ = ["SessionService"]

_log = logging.getLogger("binderkit.softbus")

_NEGOTIATE_WAIT: Final = 5.0
"""Seconds an application may take to decide whether it wants a session."""


class _Outgoing:
    """What one session still has to send: a thread of its own, and room for so much."""

    def __init__(self, tell_room: Callable[[], None]) -> None:
        self._deliveries = Deliveries("softbus-sender")
        self._tell_room = tell_room
        self._lock = threading.Lock()
        self._waiting = 0
        self._wanted = False

    def offer(self, size: int, call: Callable[[], None]) -> bool:
        """Queue a call that sends; False when there is no room, of whose return the application will be told."""
        with self._lock:
            if self._waiting and self._waiting + size > limits.SESSION_QUEUE:
                self._wanted = True
                return False
            self._waiting += size
        self._deliveries.push(lambda: self._run(size, call))
        return True

    def _run(self, size: int, call: Callable[[], None]) -> None:
        try:
            call()
        finally:
            with self._lock:
                self._waiting -= size
                tell = self._wanted and 2 * self._waiting <= limits.SESSION_QUEUE
                if tell:
                    self._wanted = False
            if tell:
                self._tell_room()

    def finish(self, last: Callable[[], None]) -> None:
        """Take no more; call ``last`` after what is queued."""
        self._deliveries.close(last)

    def drop(self) -> None:
        """Take no more, and drop what is queued."""
        self._deliveries.close()


@dataclass(eq=False, slots=True)
class _Client:
    """A process with sockets."""

    pid: int
    ear: ISessionListener
    recipient: DeathRecipient | None = None
    entries: dict[int, _Entry] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class _Entry:
    """One socket of a process."""

    client: _Client
    number: int
    socket: Socket
    outgoing: _Outgoing


class _Dead(DeathRecipient):
    def __init__(self, told: Callable[[], None]) -> None:
        self._told = told

    def on_remote_died(self) -> None:
        """The process has ended."""
        self._told()


class _Forward(SocketListener):
    """Passes what a socket hears to its application."""

    def __init__(self, service: SessionService, entry: _Entry) -> None:
        self._service = service
        self._client = entry.client
        self._number = entry.number
        self._socket = entry.socket

    def _number_of(self, socket: Socket) -> int:
        """Return the application's number for its own socket, and one of ours for what arrived at it."""
        return self._number if socket is self._socket else -socket.id

    def on_negotiate(self, socket: Socket, peer: PeerSocketInfo) -> bool:
        """Ask the application."""
        return within(_NEGOTIATE_WAIT, self._client.ear.negotiate)(self._number, _described(peer))

    def on_bind(self, socket: Socket, peer: PeerSocketInfo) -> None:
        """Tell of a new session, and enter it when it arrived at a listening socket."""
        number = self._number_of(socket)
        if number < 0:
            self._service.enter(self._client, number, socket)
        with _application_may_be_gone():
            self._client.ear.bound(self._number, number, _described(peer))

    def on_error(self, socket: Socket, code: int) -> None:
        """Tell of a bind that failed."""
        self._service.leave(self._client, self._number)
        with _application_may_be_gone():
            self._client.ear.failed(self._number, code)

    def on_bytes(self, socket: Socket, data: bytes) -> None:
        """Pass on."""
        self._received(socket, Kind.BYTES, data)

    def on_message(self, socket: Socket, data: bytes) -> None:
        """Pass on."""
        self._received(socket, Kind.MESSAGE, data)

    def on_stream(self, socket: Socket, data: bytes, extension: bytes, info: StreamFrameInfo) -> None:
        """Pass on."""
        self._received(socket, Kind.STREAM, encode_frame(info, extension) + data)

    def _received(self, socket: Socket, kind: Kind, data: bytes) -> None:
        with _application_may_be_gone():
            self._client.ear.received(self._number_of(socket), kind, data)

    def on_bytes_sent(self, socket: Socket, number: int, code: int) -> None:
        """Pass on."""
        with _application_may_be_gone():
            self._client.ear.sent(self._number_of(socket), number, code)

    def on_message_sent(self, socket: Socket, number: int, code: int) -> None:
        """Pass on."""
        self.on_bytes_sent(socket, number, code)

    def on_shutdown(self, socket: Socket, reason: ShutdownReason) -> None:
        """Pass on, and forget the socket."""
        number = self._number_of(socket)
        self._service.leave(self._client, number)
        with _application_may_be_gone():
            self._client.ear.ended(number, reason)


def _everybody(caller: Caller, name: str) -> bool:
    return True


class SessionService(ISessions):
    """The sessions of this device's applications, on top of Sessions."""

    def __init__(self, sessions: Sessions, allowed: Callable[[Caller, str], bool] = _everybody) -> None:
        """Serve the sockets of ``sessions``; whoever made those closes them.

        Args:
            allowed: returns whether a process may have a socket of this name (reference 4.8: names are
                access-controlled); default: every process that reaches this object.
        """
        self._sessions = sessions
        self._allowed = allowed
        self._lock = threading.Lock()
        self._clients: dict[int, _Client] = {}

    def socket(self, listener: ISessionListener, number: int, info: SocketDescription) -> None:
        """Make a socket for the calling process; see ``Sessions.socket``."""
        with _refusals():
            if not self._allowed(calling_identity(), info.name):
                raise PermissionDeniedError(
                    f"this process may not have a socket named {info.name!r}", code=reasons.PERMISSION_DENIED
                )
            client = self._client(listener)
            if number <= 0 or number in client.entries:
                raise ParamError(f"socket number {number}; it must be above 0 and new", code=reasons.INVALID_PARAM)
            made = self._sessions.socket(
                info.name,
                peer_name=info.peer_name,
                peer_network_id=info.peer_network_id,
                pkg_name=info.pkg_name,
                data_type=_data_type(info.data_type),
                owner=client.pid,
            )
            self.enter(client, number, made)

    def listen(self, number: int, max_idle: int) -> None:
        """Listen at a socket; see ``Socket.listen``."""
        with _refusals():
            entry = self._entry(number)
            entry.socket.listen(_Forward(self, entry), _qos(0, max_idle))

    def bind(self, number: int, wait: int, max_idle: int) -> None:
        """Begin to bind a socket; see ``Socket.bind_async``."""
        with _refusals():
            entry = self._entry(number)
            entry.socket.bind_async(_Forward(self, entry), _qos(wait, max_idle))

    def send(self, number: int, kind: int, data: bytes, serial: int) -> bool:
        """Queue something to send; see the contract."""
        with _refusals():
            entry = self._entry(number)
            return entry.outgoing.offer(len(data), _sender(entry, kind, data, serial))

    def shutdown(self, number: int) -> None:
        """Shut a socket down, after what was sent."""
        with self._lock:
            client = self._clients.get(_caller_pid())
            entry = client.entries.pop(number, None) if client is not None else None
        if entry is not None:
            entry.outgoing.finish(entry.socket.shutdown)

    # --- Who has what -------------------------------------------------------------------------------

    def _client(self, ear: ISessionListener) -> _Client:
        """Return the record of the calling process, a new one the first time."""
        pid = _caller_pid()
        with self._lock:
            known = self._clients.get(pid)
            if known is not None:
                return known
            made = self._clients[pid] = _Client(pid, ear)
        remote = ear.as_object()
        if isinstance(remote, RemoteProxy):
            made.recipient = _Dead(lambda: self._died(made))
            try:
                remote.register_death_recipient(made.recipient)
            except DeadObjectError:
                self._died(made)
                raise
        return made

    def _died(self, client: _Client) -> None:
        with self._lock:
            if self._clients.get(client.pid) is client:
                del self._clients[client.pid]
            entries, client.entries = list(client.entries.values()), {}
        for entry in entries:
            entry.outgoing.drop()
        self._sessions.end_owner(client.pid)

    def _entry(self, number: int) -> _Entry:
        with self._lock:
            client = self._clients.get(_caller_pid())
            entry = client.entries.get(number) if client is not None else None
        if entry is None:
            raise DeadObjectError(f"this process has no socket {number}, or it has ended", code=reasons.NOT_FOUND)
        return entry

    def enter(self, client: _Client, number: int, socket: Socket) -> None:
        """Enter a socket of a process."""

        def tell_room() -> None:
            with _application_may_be_gone():
                client.ear.room(number)

        with self._lock:
            gone = self._clients.get(client.pid) is not client
            if not gone:
                client.entries[number] = _Entry(client, number, socket, _Outgoing(tell_room))
        if gone:
            socket.shutdown()

    def leave(self, client: _Client, number: int) -> None:
        """Forget a socket that has ended by itself."""
        with self._lock:
            entry = client.entries.pop(number, None)
        if entry is not None:
            entry.outgoing.drop()


def _sender(entry: _Entry, kind: int, data: bytes, serial: int) -> Callable[[], None]:
    """Return what sends a frame, after its check; runs on the session's thread for sending."""
    socket, extension, info = entry.socket, b"", StreamFrameInfo()
    if kind == Kind.STREAM:
        info, extension, data = decode_frame(data)
        socket.checked(DataType.RAW_STREAM, data, limits.MAX_STREAM_FRAME - len(extension))
    elif kind == Kind.MESSAGE:
        socket.checked(DataType.MESSAGE, data, limits.MAX_SESSION_MESSAGE)
    elif kind == Kind.BYTES:
        socket.checked(DataType.BYTES, data, limits.MAX_SESSION_BYTES)
    else:
        raise ParamError(f"nothing of kind {kind} can be sent", code=reasons.INVALID_PARAM)

    def send() -> None:
        try:
            if kind == Kind.STREAM:
                socket.send_stream(data, extension, info)
            elif kind == Kind.MESSAGE:
                socket.send_message_async(data, serial)
            elif serial:
                socket.send_bytes_async(data, serial)
            else:
                socket.send_bytes(data)
        except IpcError as error:
            _log.info("a packet of socket %r was not sent: %s", socket, error)
            if serial:
                with _application_may_be_gone():
                    entry.client.ear.sent(entry.number, serial, error.code)

    return send


def _caller_pid() -> int:
    caller = known_caller()
    if caller.device_id:
        raise SessionRefusal(reasons.PERMISSION_DENIED, "sessions are for processes of this device only")
    return caller.pid


def _data_type(number: int) -> DataType:
    try:
        return DataType(number)
    except ValueError as error:
        raise ParamError(f"there is no data type {number}", code=reasons.INVALID_PARAM) from error


def _qos(wait: int, max_idle: int) -> dict[QosType, int]:
    given = {QosType.MAX_WAIT_TIMEOUT: wait, QosType.MAX_IDLE_TIMEOUT: max_idle}
    return {kind: value for kind, value in given.items() if value}


def _described(peer: PeerSocketInfo) -> PeerDescription:
    return PeerDescription(peer.name, peer.pkg_name, peer.network_id, peer.udid, peer.data_type)


@contextmanager
def _refusals() -> Iterator[None]:
    """Turn our errors into what the contract declares."""
    try:
        yield
    except IpcError as error:
        raise SessionRefusal(error.code, error.args[0] if error.args else str(error)) from error


@contextmanager
def _application_may_be_gone() -> Iterator[None]:
    """Let an application end whenever it likes: its death notice does the rest."""
    try:
        yield
    except IpcError as error:
        _log.info("an application was not told of its session: %s", error)
