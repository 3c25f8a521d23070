"""The sessions of this device: named sockets of applications, and who may open how many.

Owns: the table of listening names, the open sessions, and the counts per application. The sockets themselves are in
``session_socket``, their traffic in ``session_link``.

Each session has a stream of its own: it has its own flow control, and none waits behind another.

Rules upheld here:

- Only trusted devices reach a name (the port sees to it), and only with the type of data that was announced.
- Limits of reference 4.8: 20 open sessions and 32 listening sockets per application, 100 sessions on the device.
- An application that ends takes its sockets with it; a device that leaves, its sessions (LNN_OFFLINE).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol

from binderkit import limits
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    IpcError,
    ProtocolError,
    QuotaError,
    RefusedError,
)
from binderkit.softbus import reasons
from binderkit.softbus.bulk_port import Purpose, StreamPort
from binderkit.softbus.reasons import DataType, ShutdownReason
from binderkit.softbus.session_frames import (
    HEADER_SIZE,
    Kind,
    Opening,
    decode_code,
    decode_header,
    decode_opening,
    encode_code,
    encode_header,
    encode_opening,
)
from binderkit.softbus.session_link import Link
from binderkit.softbus.session_socket import PeerSocketInfo, Socket, SocketInfo, SocketListener

if TYPE_CHECKING:
    from binderkit.softbus.bulk_stream import Stream

__all__ = ["Network", "Sessions"]

_log = logging.getLogger("binderkit.softbus")

_REFUSAL_WAIT: Final = 1.0
"""Seconds a refused device may take to read why."""
_MAX_SOCKETS: Final = limits.MAX_SESSIONS_PER_CLIENT + limits.MAX_SESSION_SERVERS
"""Sockets of one application in any state."""


class Network(Protocol):
    """Names of devices: network ids change with every boot of a softbus, UDIDs never."""

    def udid_of(self, network_id: str) -> str | None:
        """Return the UDID of the online device with this network id; None when there is none."""

    def network_id_of(self, udid: str) -> str:
        """Return the network id of a device; "" when it is not known (yet)."""


@dataclass(slots=True)
class _Server:
    socket: Socket
    max_idle: float | None


class Sessions:
    """All sockets of this device; any thread. Made before its port is started; close it before the port."""

    def __init__(self, port: StreamPort, network: Network) -> None:
        """Take the sessions that arrive at ``port``."""
        self._port = port
        self._network = network
        self._lock = threading.Lock()
        self._sockets: set[Socket] = set()
        self._servers: dict[str, _Server] = {}
        self._open: dict[Socket, str] = {}
        self._links: set[Link] = set()
        self._threads: set[threading.Thread] = set()
        self._closed = False
        port.serve(Purpose.SESSION, self._incoming)

    def socket(
        self,
        name: str,
        *,
        peer_name: str = "",
        peer_network_id: str = "",
        pkg_name: str = "",
        data_type: DataType = DataType.BYTES,
        owner: object = None,
    ) -> Socket:
        """Return a new socket (reference 4.8); shut it down when it is not needed any more.

        Args:
            name: its own, 1 … 255 printable characters.
            peer_name, peer_network_id: whom to bind to; empty for a socket that listens.
            pkg_name: of the application, at most 64 characters.
            data_type: MESSAGE, BYTES or one of the streams.
            owner: to whom its limits are counted: anything hashable that stands for the application.

        Raises:
            ParamTypeError, ParamValueError: a text is too long (-426115069 for names, else -426442749), or the type is
                FILE. QuotaError: the application has 52 sockets (-426115065).
        """
        made = Socket(self, owner, SocketInfo.checked(name, peer_name, peer_network_id, pkg_name, data_type))
        with self._lock:
            self._check_open()
            _check_count("sockets", sum(one.owner == owner for one in self._sockets), _MAX_SOCKETS)
            self._sockets.add(made)
        return made

    # --- For sockets --------------------------------------------------------------------------------

    def listening(self, socket: Socket, max_idle: float | None) -> None:
        """Enter a socket that listens; for Socket."""
        name = socket.info.name
        with self._lock:
            self._check_open()
            if name in self._servers:
                raise QuotaError(
                    f"another socket of this device listens as {name!r}; shut it down or take another name",
                    code=reasons.NAME_REPEATED,
                )
            mine = sum(server.socket.owner == socket.owner for server in self._servers.values())
            _check_count("listening sockets", mine, limits.MAX_SESSION_SERVERS)
            self._servers[name] = _Server(socket, max_idle)

    def binding(self, socket: Socket, wait: float, max_idle: float | None) -> None:
        """Begin to open a session on a thread of its own; for Socket."""
        udid = self._network.udid_of(socket.info.peer_network_id)
        if udid is None:
            raise DeadObjectError(
                f"no device with network id {socket.info.peer_network_id!r} is online; network ids change when a "
                "device starts anew",
                code=reasons.NODE_OFFLINE,
            )
        deadline = time.monotonic() + wait
        with self._lock:
            self._check_open()
            self._count_session(socket, udid)
        thread = threading.Thread(
            target=self._outgoing, args=(socket, udid, deadline, max_idle), name="softbus-session", daemon=True
        )
        thread.start()

    def gone(self, socket: Socket) -> None:
        """Forget a socket that was shut down, or whose session ended; for Socket."""
        with self._lock:
            self._sockets.discard(socket)
            self._open.pop(socket, None)
            server = self._servers.get(socket.info.name)
            if server is not None and server.socket is socket:
                del self._servers[socket.info.name]

    def _count_session(self, socket: Socket, udid: str) -> None:
        """Enter a session of a socket, if there may be another one. Under the lock."""
        mine = sum(one.owner == socket.owner for one in self._open)
        _check_count("sessions of this application", mine, limits.MAX_SESSIONS_PER_CLIENT)
        _check_count("sessions of this device", len(self._open), limits.MAX_SESSIONS)
        self._open[socket] = udid
        self._sockets.add(socket)

    def _check_open(self) -> None:
        if self._closed:
            raise DeadObjectError("the sessions of this device were closed")

    # --- Sessions that we open ----------------------------------------------------------------------

    def _outgoing(self, socket: Socket, udid: str, deadline: float, max_idle: float | None) -> None:
        """Open a session and receive for it; runs on a thread of its own."""
        try:
            stream = self._dialled(socket, udid, deadline)
        except CallTimeoutError as error:
            socket.failed(CallTimeoutError(f"the session could not be opened: {error}", code=reasons.BIND_TIMEOUT))
        except IpcError as error:
            socket.failed(error)
        except Exception as error:
            _log.exception("opening a session failed")
            socket.failed(error)
        else:
            with self._lock:
                self._threads.add(threading.current_thread())  # not before: it is the port that ends a dial
            info = socket.info
            peer = PeerSocketInfo(info.peer_name, "", info.peer_network_id, udid, info.data_type)
            self._run(stream, socket, peer, None, max_idle)
        finally:
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _dialled(self, socket: Socket, udid: str, deadline: float) -> Stream:
        info = socket.info
        stream = self._port.dial(udid, Purpose.SESSION, timeout=deadline - time.monotonic())
        wait = max(0.0, deadline - time.monotonic())
        try:
            opening = encode_opening(Opening(info.peer_name, info.name, info.pkg_name, info.data_type))
            stream.send(encode_header(Kind.OPEN, len(opening)), opening, stall=wait, deadline=deadline)
            header = decode_header(stream.receive(HEADER_SIZE, stall=wait, deadline=deadline))
            if header.kind is not Kind.OPENED:
                raise ProtocolError(f"device {udid} answered an opening with {header.kind.name}")
            code = decode_code(stream.receive(header.length, stall=wait, deadline=deadline))
            if code != reasons.OK:
                raise reasons.error_of(
                    code,
                    f"the other device did not open a session to {info.peer_name!r}: {reasons.code_name(code)}",
                )
        except BaseException:
            stream.close()
            raise
        return stream

    # --- Sessions that others open ------------------------------------------------------------------

    def _incoming(self, stream: Stream) -> None:
        """Take or refuse a session that another device opens; runs on the thread of its stream."""
        wait = limits.STREAM_HANDSHAKE_WAIT
        deadline = time.monotonic() + wait
        header = decode_header(stream.receive(HEADER_SIZE, stall=wait, deadline=deadline))
        if header.kind is not Kind.OPEN:
            raise ProtocolError(f"device {stream.peer} began a session with {header.kind.name}")
        opening = decode_opening(stream.receive(header.length, stall=wait, deadline=deadline))
        network_id = self._network.network_id_of(stream.peer)
        peer = PeerSocketInfo(opening.name, opening.pkg_name, network_id, stream.peer, opening.data_type)
        with self._lock:
            server = self._servers.get(opening.wanted)
        code, socket = (reasons.PEER_SERVER_MISSING, None) if server is None else self._admitted(server, peer)
        answer = encode_header(Kind.OPENED, 4) + encode_code(code)
        if socket is None or server is None:
            _log.info("refused a session of device %s: %s", stream.peer, reasons.code_name(code))
            if stream.finish(answer, wait=_REFUSAL_WAIT):
                stream.drain(time.monotonic() + _REFUSAL_WAIT)
            return
        try:
            stream.send(answer, stall=wait, deadline=deadline + wait)
        except BaseException as error:
            socket.failed(error)
            raise
        self._run(stream, socket, peer, server.socket.listener, server.max_idle)

    def _admitted(self, server: _Server, peer: PeerSocketInfo) -> tuple[int, Socket | None]:
        """Return OK and a new socket for a session, or the code that says why not."""
        info = server.socket.info
        if info.data_type is not peer.data_type:
            return reasons.INVALID_PARAM, None
        made = Socket(
            self, server.socket.owner, SocketInfo(info.name, peer.name, peer.network_id, info.pkg_name, info.data_type)
        )
        try:
            with self._lock:
                self._check_open()
                self._count_session(made, peer.udid)
        except (QuotaError, DeadObjectError):
            return reasons.COUNT_LIMIT, None
        if self._negotiated(server.socket, peer):
            return reasons.OK, made
        made.failed(RefusedError("the listener rejected the session", code=reasons.NEGOTIATE_REJECTED))
        return reasons.NEGOTIATE_REJECTED, None

    def _negotiated(self, socket: Socket, peer: PeerSocketInfo) -> bool:
        try:
            return socket.listener.on_negotiate(socket, peer)
        except Exception:
            _log.exception("a listener's on_negotiate failed; the session is rejected")
            return False

    # --- Both ---------------------------------------------------------------------------------------

    def _run(
        self,
        stream: Stream,
        socket: Socket,
        peer: PeerSocketInfo,
        listener: SocketListener | None,
        max_idle: float | None,
    ) -> None:
        """Receive for an open session until it ends."""
        udid = peer.udid
        link = Link(stream, peer.data_type, socket, broken=lambda: self._broken(udid), max_idle=max_idle)
        with self._lock:
            self._links.add(link)
        try:
            if socket.opened(link, peer, listener):
                link.run()
            else:
                link.end(ShutdownReason.LOCAL)
        finally:
            stream.close()
            with self._lock:
                self._links.discard(link)

    def _broken(self, udid: str) -> ShutdownReason:
        return ShutdownReason.LINK_DOWN if self._port.trusts(udid) else ShutdownReason.LNN_OFFLINE

    def device_offline(self, udid: str) -> None:
        """End all sessions with a device that left, with LNN_OFFLINE."""
        self._end_where(lambda socket: self._open.get(socket) == udid, ShutdownReason.LNN_OFFLINE)

    def end_owner(self, owner: object) -> None:
        """Shut down all sockets of an application that has ended; the other sides hear PEER."""
        self._end_where(lambda socket: socket.owner == owner, ShutdownReason.LOCAL)

    def _end_where(self, chosen: Callable[[Socket], bool], reason: ShutdownReason) -> None:
        with self._lock:
            ending = [socket for socket in self._sockets if chosen(socket)]
        for socket in ending:
            socket.end(reason)

    def close(self) -> None:
        """End all sessions (SERVICE_DIED on both sides), stop listening, and wait for the listeners' last calls."""
        with self._lock:
            self._closed = True
        self._end_where(lambda _: True, ShutdownReason.SERVICE_DIED)
        with self._lock:
            links, threads = list(self._links), list(self._threads)
        for link in links:
            link.join()
        for thread in threads:
            if thread is not threading.current_thread():
                thread.join()


def _check_count(what: str, there: int, most: int) -> None:
    if there >= most:
        raise QuotaError(
            f"there are {there} {what} already, the most there may be; shut some down", code=reasons.COUNT_LIMIT
        )
