"""A socket of SoftBus: what an application holds, in OpenHarmony's terms (reference 4.8).

Owns: the state of one socket (made, listening, binding, open, closed), its listener, and the limits of what it sends.

    s = sessions.socket("com.example.chat", pkg_name="com.example")      s = sessions.socket("…", peer_name="…",
    s.listen(listener)                                                                       peer_network_id="…")
                                                                         s.bind(listener)
                                                                         s.send_bytes(b"…")

Rules upheld here:

- What is too long is refused before anything of it is sent, with the limit.
- A listener hears of one session in order: ``on_bind`` first, ``on_shutdown`` last and once. It is not told of a
  shutdown it asked for itself.
- ``shutdown`` may come at any time, from any thread and from within the listener, and twice.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass
from enum import Enum
from types import TracebackType
from typing import Final, Protocol

from binderkit import limits
from binderkit.errors import (
    CallCancelledError,
    CallTimeoutError,
    DeadObjectError,
    InvalidObjectError,
    IpcError,
    ParamTypeError,
    ParamValueError,
    TooBigError,
)
from binderkit.softbus import reasons
from binderkit.softbus.reasons import DataType, QosType, ShutdownReason
from binderkit.softbus.session_frames import Kind, StreamFrameInfo, encode_frame

__all__ = ["Line", "Manager", "PeerSocketInfo", "Socket", "SocketInfo", "SocketListener"]

_log = logging.getLogger("binderkit.softbus")

_ids: Final = itertools.count(1)

Buffer = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class SocketInfo:
    """What a socket was made with.

    Attributes:
        name: its own, 1 … 255 characters. peer_name, peer_network_id: whom to bind to; "" for one that listens.
        pkg_name: of the application, at most 64 characters.
        data_type: what it carries.
    """

    name: str
    peer_name: str = ""
    peer_network_id: str = ""
    pkg_name: str = ""
    data_type: DataType = DataType.BYTES

    @staticmethod
    def checked(name: str, peer_name: str, peer_network_id: str, pkg_name: str, data_type: DataType) -> SocketInfo:
        """Return one whose parts have their limits; see ``Sessions.socket``."""
        _check_text("name", name, limits.MAX_SESSION_NAME, reasons.INVALID_SESSION_NAME, may_be_empty=False)
        _check_text("peer_name", peer_name, limits.MAX_SESSION_NAME, reasons.INVALID_SESSION_NAME)
        _check_text("peer_network_id", peer_network_id, limits.MAX_NETWORK_ID, reasons.INVALID_PARAM)
        _check_text("pkg_name", pkg_name, limits.MAX_PACKAGE_NAME, reasons.INVALID_PARAM)
        data_type = DataType(data_type)
        if data_type is DataType.FILE:
            raise ParamValueError(
                "sessions do not carry files; send their contents through a BYTES socket", code=reasons.INVALID_PARAM
            )
        return SocketInfo(name, peer_name, peer_network_id, pkg_name, data_type)


@dataclass(frozen=True, slots=True)
class PeerSocketInfo:
    """Who is at the other end.

    Attributes:
        name, pkg_name: the other application's word.
        network_id: of the other device. udid: the same device, proven by its certificate.
        data_type: what the session carries.
    """

    name: str
    pkg_name: str
    network_id: str
    udid: str
    data_type: DataType


class SocketListener:
    """What an application hears of its sockets; override what matters.

    Methods are called one at a time per session, on a thread of that session; ``on_negotiate`` before that, on the
    connection's.
    """

    def on_negotiate(self, socket: Socket, peer: PeerSocketInfo) -> bool:
        """Return whether a listening socket takes this session; what is raised means no."""
        return True

    def on_bind(self, socket: Socket, peer: PeerSocketInfo) -> None:
        """A session is open: a new socket of a listening one, or the one that was bound."""

    def on_error(self, socket: Socket, code: int) -> None:
        """A ``bind_async`` failed, with a SoftBus code."""

    def on_bytes(self, socket: Socket, data: bytes) -> None:
        """A packet came."""

    def on_message(self, socket: Socket, data: bytes) -> None:
        """A message came."""

    def on_stream(self, socket: Socket, data: bytes, extension: bytes, info: StreamFrameInfo) -> None:
        """A stream's frame came."""

    def on_bytes_sent(self, socket: Socket, number: int, code: int) -> None:
        """A ``send_bytes_async`` arrived (0), or did not for all we know."""

    def on_message_sent(self, socket: Socket, number: int, code: int) -> None:
        """A ``send_message_async`` arrived (0), or did not for all we know."""

    def on_shutdown(self, socket: Socket, reason: ShutdownReason) -> None:
        """The session ended, and not by our own ``shutdown``."""


class Line(Protocol):
    """What a socket needs of an open session: ``Link`` in the softbus process, its counterpart in an application."""

    def send(self, kind: Kind, *buffers: Buffer) -> None:
        """Send a packet."""

    def send_acknowledged(self, kind: Kind, *buffers: Buffer, sent: Callable[[int], None]) -> None:
        """Send a packet and have ``sent`` called with the code of its arrival."""

    def send_message(self, data: Buffer) -> None:
        """Send a message and wait until it has arrived."""

    def queue(self, call: Callable[[], None]) -> None:
        """Have something called in line with what arrives."""

    def end(self, reason: ShutdownReason) -> None:
        """End the session."""


class Manager(Protocol):
    """What a socket needs of the table it is in."""

    def listening(self, socket: Socket, max_idle: float | None) -> None:
        """Enter a socket that listens."""

    def binding(self, socket: Socket, wait: float, max_idle: float | None) -> None:
        """Begin to open a session."""

    def gone(self, socket: Socket) -> None:
        """Forget a socket."""


class _State(Enum):
    MADE = "was not bound yet"
    LISTENING = "listens"
    BINDING = "is being bound"
    OPEN = "is open"
    CLOSED = "was shut down"


class Socket:
    """One end of a session, or the place where sessions arrive. Any thread; a ``with`` block shuts it down.

    Attributes:
        id: a number of its own in this process, as OpenHarmony's descriptor.
        info: what it was made with. peer: who is at the other end; None while it is not open.
    """

    def __init__(self, sessions: Manager, owner: object, info: SocketInfo) -> None:
        """Make it by ``Sessions.socket``."""
        self.id = next(_ids)
        self.info = info
        self.owner = owner
        self.peer: PeerSocketInfo | None = None
        self._sessions = sessions
        self._lock = threading.Lock()
        self._state = _State.MADE
        self._listener = SocketListener()
        self._link: Line | None = None
        self._bound: Future[None] = Future()

    def __repr__(self) -> str:
        return f"<softbus socket {self.id} {self.info.name!r} {self._state.value}>"

    def __enter__(self) -> Socket:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.shutdown()

    # --- Listening and binding ----------------------------------------------------------------------

    def listen(self, listener: SocketListener, qos: Mapping[QosType, int] | None = None) -> None:
        """Take sessions under this socket's name; each becomes a socket of its own, with the same listener.

        Raises:
            QuotaError: the name is in use (-426115066), or the application listens at 32 sockets (-426115065).
            InvalidObjectError: the socket is not new (1900008).
        """
        self._go(_State.LISTENING, listener)
        try:
            self._sessions.listening(self, _idle(qos))
        except BaseException:
            self._back(_State.LISTENING)
            raise

    def bind(self, listener: SocketListener, qos: Mapping[QosType, int] | None = None) -> None:
        """Open a session to ``info.peer_name`` on ``info.peer_network_id``, and wait for it.

        Args:
            qos: MAX_WAIT_TIMEOUT: milliseconds to wait, 30 000 when not given.

        Raises:
            CallTimeoutError: not in time (-426114940). CallCancelledError: shut down meanwhile (-426114956).
            InvalidObjectError: nobody listens there under that name (-426115007), or the socket is not new (1900008).
            RefusedError: the listener does not take us (-426114923). NotTrustedError: the device does not (-425983984).
            DeadObjectError: the device is not there (-32, or -426049520).
            QuotaError: too many sessions (-426115065).
        """
        wait = self._begin(listener, qos)
        try:
            self._bound.result(wait)
        except TimeoutError as error:
            if isinstance(error, CallTimeoutError):
                raise
            late = CallTimeoutError(
                f"no session with {self.info.peer_name!r} within {wait:g} s; check that the device is there",
                code=reasons.BIND_TIMEOUT,
            )
            self._close(late)
            self.shutdown()  # it may have been opened in the last moment
            raise late from None

    def bind_async(self, listener: SocketListener, qos: Mapping[QosType, int] | None = None) -> None:
        """As ``bind``, but return at once: the listener gets ``on_bind`` or ``on_error``."""
        self._begin(listener, qos)
        self._bound.add_done_callback(self._told)

    def _told(self, bound: Future[None]) -> None:
        error = bound.exception()
        if error is None:
            return  # on_bind comes in line with what arrives
        code = error.code if isinstance(error, IpcError) else reasons.INVALID_PARAM
        try:
            self._listener.on_error(self, code)
        except Exception:
            _log.exception("a listener's on_error failed")

    def _begin(self, listener: SocketListener, qos: Mapping[QosType, int] | None) -> float:
        if not self.info.peer_name or not self.info.peer_network_id:
            raise ParamValueError(
                "bind needs peer_name and peer_network_id; make the socket with both", code=reasons.INVALID_PARAM
            )
        wait = _seconds(qos, QosType.MAX_WAIT_TIMEOUT)
        idle = _idle(qos)
        self._go(_State.BINDING, listener)
        try:
            self._sessions.binding(self, limits.SESSION_BIND_WAIT if wait is None else wait, idle)
        except BaseException:
            self._back(_State.BINDING)
            raise
        return limits.SESSION_BIND_WAIT if wait is None else wait

    def _go(self, state: _State, listener: SocketListener) -> None:
        with self._lock:
            if self._state is not _State.MADE:
                raise InvalidObjectError(f"socket {self.info.name!r} {self._state.value}; make a new one")
            self._state = state
            self._listener = listener

    def _back(self, state: _State) -> None:
        with self._lock:
            if self._state is state:  # a shutdown may have come meanwhile
                self._state = _State.MADE

    @property
    def listener(self) -> SocketListener:
        """The listener that was given to ``listen`` or ``bind``."""
        return self._listener

    def opened(self, link: Line, peer: PeerSocketInfo, listener: SocketListener | None = None) -> bool:
        """Take an open session; for Sessions. Returns False when the socket was shut down meanwhile."""
        with self._lock:
            if self._state is _State.CLOSED:
                return False
            self._state = _State.OPEN
            self._link = link
            self.peer = peer
            if listener is not None:
                self._listener = listener
            link.queue(lambda: self._listener.on_bind(self, peer))
            self._bound.set_result(None)
            return True

    def failed(self, error: BaseException) -> None:
        """Take the failure of a bind; for Sessions."""
        self._close(error)

    # --- Sending ------------------------------------------------------------------------------------

    def send_bytes(self, data: Buffer) -> None:
        """Send a packet of 1 … 4 MiB; returns when it is on its way, and waits while the other side is slow.

        Raises:
            TooBigError: longer (-426115018). ParamValueError: empty, or the socket carries something else.
            DeadObjectError: the session has ended (-32). CallTimeoutError: nothing was taken for 20 s.
        """
        self.checked(DataType.BYTES, data, limits.MAX_SESSION_BYTES).send(Kind.BYTES, data)

    def send_bytes_async(self, data: Buffer, number: int) -> None:
        """As ``send_bytes``; the listener's ``on_bytes_sent`` gets ``number`` when it has arrived."""
        link = self.checked(DataType.BYTES, data, limits.MAX_SESSION_BYTES)
        link.send_acknowledged(
            Kind.BYTES, data, sent=lambda code: link.queue(lambda: self._listener.on_bytes_sent(self, number, code))
        )

    def send_message(self, data: Buffer) -> None:
        """Send a message of 1 … 4096 bytes and wait until it has arrived on the other device.

        Raises: see ``send_bytes``; CallTimeoutError when it was not acknowledged in 20 s: it may have arrived.
        """
        self.checked(DataType.MESSAGE, data, limits.MAX_SESSION_MESSAGE).send_message(data)

    def send_message_async(self, data: Buffer, number: int) -> None:
        """As ``send_message`` without waiting; the listener's ``on_message_sent`` gets ``number``."""
        link = self.checked(DataType.MESSAGE, data, limits.MAX_SESSION_MESSAGE)
        link.send_acknowledged(
            Kind.MESSAGE, data, sent=lambda code: link.queue(lambda: self._listener.on_message_sent(self, number, code))
        )

    def send_stream(self, data: Buffer, extension: bytes = b"", info: StreamFrameInfo | None = None) -> None:
        """Send one frame of a stream: data and extension have at most 2 MiB together.

        Raises: see ``send_bytes``.
        """
        link = self.checked(DataType.RAW_STREAM, data, limits.MAX_STREAM_FRAME - len(extension))
        link.send(Kind.STREAM, encode_frame(info or StreamFrameInfo(), extension), data)

    def checked(self, data_type: DataType, data: Buffer, longest: int) -> Line:
        """Return the session, when it can send this; for the methods above."""
        if not isinstance(data, (bytes, bytearray, memoryview)):
            raise ParamTypeError(f"a socket sends bytes, not {type(data).__name__}", code=reasons.INVALID_PARAM)
        mine = self.info.data_type
        if mine is not data_type and not (mine.is_stream and data_type.is_stream):
            raise ParamValueError(
                f"socket {self.info.name!r} carries {mine.name}; make one for {data_type.name}",
                code=reasons.INVALID_PARAM,
            )
        if isinstance(data, memoryview) and (data.itemsize != 1 or not data.c_contiguous):
            raise ParamTypeError("a socket sends contiguous views of bytes; use .cast('B')", code=reasons.INVALID_PARAM)
        if not len(data):
            raise ParamValueError("nothing to send: give at least one byte", code=reasons.INVALID_PARAM)
        if len(data) > longest:
            raise TooBigError(
                f"{len(data)} bytes; a session for {mine.name} sends at most {longest} at once: send parts",
                code=reasons.LENGTH_BEYOND_LIMIT,
            )
        link = self._link
        if link is None:
            if self._state is _State.CLOSED:
                raise DeadObjectError(f"socket {self.info.name!r} was shut down; make a new one")
            raise InvalidObjectError(f"socket {self.info.name!r} {self._state.value}; only a bound one can send")
        return link

    def get_mtu_size(self) -> int:
        """Return the bytes one send may have on this socket."""
        if self.info.data_type is DataType.MESSAGE:
            return limits.MAX_SESSION_MESSAGE
        return limits.MAX_SESSION_BYTES if self.info.data_type is DataType.BYTES else limits.MAX_STREAM_FRAME

    # --- The end ------------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """End the session, or stop listening or binding. The other side hears PEER; our listener hears no more."""
        self.end(ShutdownReason.LOCAL)

    def end(self, reason: ShutdownReason) -> None:
        """End it for a reason; for Sessions."""
        with self._lock:
            link = self._link
        if link is not None:
            link.end(reason)
        self._close(
            CallCancelledError(
                f"socket {self.info.name!r} was shut down while it was bound", code=reasons.BIND_CANCELLED
            )
        )

    def _close(self, error: BaseException) -> None:
        """Enter the end of a socket that has no session, or had one; a bind that still waits gets ``error``."""
        with self._lock:
            if self._state is _State.CLOSED:
                return
            self._state = _State.CLOSED
        try:
            self._bound.set_exception(error)
        except InvalidStateError:
            pass  # it was bound before: nobody waits
        self._sessions.gone(self)

    def ended(self, reason: ShutdownReason) -> None:
        """Tell the listener of an end that it did not ask for; called by the link, in line with what arrived."""
        self._close(DeadObjectError(f"the session ended: {reason.name}"))
        self._listener.on_shutdown(self, reason)

    def got_bytes(self, data: bytes) -> None:
        """Pass on what arrived; called by the link."""
        self._listener.on_bytes(self, data)

    def got_message(self, data: bytes) -> None:
        """Pass on what arrived; called by the link."""
        self._listener.on_message(self, data)

    def got_frame(self, info: StreamFrameInfo, extension: bytes, data: bytes) -> None:
        """Pass on what arrived; called by the link."""
        self._listener.on_stream(self, data, extension, info)


def _seconds(qos: Mapping[QosType, int] | None, kind: QosType) -> float | None:
    value = (qos or {}).get(kind)
    if value is None:
        return None
    if not 0 < value < 1 << 31:
        raise ParamValueError(f"{kind.name} is {value}; it must be 1 … 2 147 483 647 ms", code=reasons.INVALID_PARAM)
    return value / 1000


def _idle(qos: Mapping[QosType, int] | None) -> float | None:
    return _seconds(qos, QosType.MAX_IDLE_TIMEOUT)


def _check_text(what: str, text: str, longest: int, code: int, *, may_be_empty: bool = True) -> None:
    if not isinstance(text, str):
        raise ParamTypeError(f"{what} must be a str, not {type(text).__name__}", code=code)
    if len(text) > longest or not text.isprintable() or not (text or may_be_empty):
        raise ParamValueError(
            f"{what} has {len(text)} characters; it may have {0 if may_be_empty else 1} to {longest} printable ones",
            code=code,
        )
