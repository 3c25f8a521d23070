"""One stream between two trusted devices: whole buffers in, whole buffers out, over TLS.

Owns: a TLS socket, its waiting, and its end.

Why not blocking sockets: one thread reads while others write, and OpenSSL's objects must not be used by two threads
at once (older Pythons do not guard them, newer ones would hold their guard while they wait). So the socket never
blocks, every TLS operation runs under one lock for as long as a record takes, and all waiting is done outside it.

Rules upheld here:

- What was received is counted: a broken connection is an error, never mistaken for an end. (Python can report a lost
  link as a mere end of file.)
- Every wait has an end: ``stall`` seconds without progress, and a deadline where there is one.
- The descriptor is closed only when nobody uses it: ``abort`` wakes everybody, ``close`` follows.
- A stream to a device that fell silent breaks after limits.STREAM_DEAD_AFTER seconds, also when it is idle.
"""

from __future__ import annotations

import errno
import math
import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Final

from binderkit import limits
from binderkit.errors import CallTimeoutError, DeadObjectError

__all__ = ["Address", "Stream", "connected", "secured", "tuned"]

Address = tuple[str, int]
"""A numeric IP address and a port."""

_JOINED: Final = 16 * 1024
"""Bytes up to which several buffers become one TLS record: a copy is cheaper than a second record."""
_PROBES: Final = 3


def tuned(raw: socket.socket) -> None:
    """Set the options of a TCP connection: no delay for small messages, and a silent device is noticed."""
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 1)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, _PROBES)
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(limits.STREAM_DEAD_AFTER * 1000))


def connected(address: Address, deadline: float, wake: int) -> socket.socket:
    """Return a tuned TCP connection to an address.

    Args: see ``secured``.

    Raises:
        CallTimeoutError: nobody answered in time (502). DeadObjectError: woken (-32). OSError: it cannot be reached.
    """
    raw = socket.socket(
        socket.AF_INET6 if ":" in address[0] else socket.AF_INET,
        socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK,
    )
    try:
        tuned(raw)
        failed = raw.connect_ex(address)
        if failed == errno.EINPROGRESS:
            _wait(raw.fileno(), select.POLLOUT, deadline, wake)
            failed = raw.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            raise OSError(failed, os.strerror(failed))
    except BaseException:
        raw.close()
        raise
    return raw


def secured(
    raw: socket.socket, context: ssl.SSLContext, *, accepting: bool, deadline: float, wake: int
) -> ssl.SSLSocket:
    """Shake hands over a connected socket; takes ownership of ``raw``, also when it fails.

    Args:
        deadline: time.monotonic() at which to give up. wake: a descriptor that becomes readable to give up at once.

    Raises:
        CallTimeoutError: the other side was too slow (502).
        DeadObjectError: woken (-32).
        OSError: the connection broke, or a certificate was refused (ssl.SSLError).
    """
    tls: ssl.SSLSocket | None = None
    try:
        raw.setblocking(False)
        tls = context.wrap_socket(raw, server_side=accepting, do_handshake_on_connect=False, suppress_ragged_eofs=False)
        while (events := _handshake_step(tls)) != 0:
            _wait(tls.fileno(), events, deadline, wake)
    except BaseException:
        (tls or raw).close()
        raise
    return tls


def _handshake_step(tls: ssl.SSLSocket) -> int:
    """Go on with a handshake; return what to wait for, 0 when it is done."""
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        return select.POLLIN
    except ssl.SSLWantWriteError:
        return select.POLLOUT
    return 0


def _wait(fd: int, events: int, deadline: float, wake: int = -1) -> None:
    left = deadline - time.monotonic()
    poller = select.poll()
    poller.register(fd, events)
    if wake >= 0:
        poller.register(wake, select.POLLIN)
    ready = poller.poll(math.ceil(left * 1000)) if left > 0 else []
    if not ready:
        raise CallTimeoutError("the other device did not go on in time; check the network between the two")
    if any(found == wake for found, _ in ready):
        raise DeadObjectError("the port for streams of this device was closed")


def _milliseconds(deadline: float) -> int | None:
    """Return how long to wait until a moment of time.monotonic(); None: for ever."""
    return None if deadline == math.inf else max(0, math.ceil((deadline - time.monotonic()) * 1000))


class Stream:
    """A connection to a trusted device.

    One thread at a time may receive; any thread may send, and what one ``send`` gives is never mixed with another's.

    Attributes:
        peer: UDID of the other device, proven by its certificate.
        address: where it is, for logs.
        incoming: whether the other device opened it, and it counts against that device's number of streams.
    """

    __slots__ = ("_ended", "_forget", "_lock", "_poller", "_tls", "_writing", "address", "incoming", "peer")

    def __init__(
        self, tls: ssl.SSLSocket, peer: str, address: Address, forget: Callable[[Stream], None] | None = None
    ) -> None:
        """Take ownership of a socket that shook hands; ``forget`` is called once, when the stream is closed."""
        self.peer = peer
        self.address = address
        self.incoming = False
        self._tls = tls
        self._poller = select.poll()
        self._poller.register(tls, select.POLLIN)
        self._forget = forget
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._ended = ""

    def send(self, *buffers: bytes | bytearray | memoryview, stall: float, deadline: float = math.inf) -> None:
        """Send buffers, one behind the other.

        Args:
            buffers: what to send; views must be of bytes and C-contiguous.
            stall: seconds the other side may take nothing. deadline: time.monotonic() at which to give up.

        Raises:
            CallTimeoutError: too slow; the stream was aborted, because half of it may have been sent (502).
            DeadObjectError: the stream is broken (-32).
        """
        if sum(map(len, buffers)) <= _JOINED:
            buffers = (b"".join(buffers),)
        with self._writing:
            for buffer in buffers:
                self._send_one(memoryview(buffer), stall, deadline)

    def _send_one(self, view: memoryview, stall: float, deadline: float) -> None:
        send, lock, sent, size = self._tls.send, self._lock, 0, len(view)
        while sent < size:
            try:
                with lock:
                    self._check()
                    sent += send(view[sent:])
            except ssl.SSLWantWriteError:
                self._pause(select.POLLOUT, stall, deadline)
            except ssl.SSLWantReadError:
                self._pause(select.POLLIN, stall, deadline)
            except OSError as error:
                raise self._broken(error) from error

    def receive_into(self, view: memoryview, *, stall: float, deadline: float = math.inf) -> None:
        """Fill a writable view of bytes.

        Args: see ``send``.

        Raises:
            CallTimeoutError: too slow; the stream was aborted, because its place in the data is lost (502).
            DeadObjectError: the stream ended or broke before the view was full (-32).
        """
        receive, lock, got, size = self._tls.recv_into, self._lock, 0, len(view)
        while got < size:
            try:
                with lock:
                    self._check()
                    count = receive(view[got:])
            except ssl.SSLWantReadError:
                self._pause(select.POLLIN, stall, deadline)
                continue
            except ssl.SSLWantWriteError:
                self._pause(select.POLLOUT, stall, deadline)
                continue
            except OSError as error:
                raise self._broken(error) from error
            if not count:
                raise self._broken(None)
            got += count

    def receive_some(self, view: memoryview, *, deadline: float = math.inf) -> int:
        """Wait for something to come, and receive what fits into a writable view of bytes; returns how much.

        For what is not there yet as a rule: it waits first and looks then.

        Raises:
            CallTimeoutError: nothing until ``deadline``; the stream goes on (502).
            DeadObjectError: the stream ended or broke (-32).
        """
        tls = self._tls
        while True:
            with self._lock:
                pending = tls.pending()
            if not pending and not self._poller.poll(_milliseconds(deadline)):
                raise CallTimeoutError("the other device did not answer in time; check the network between the two")
            try:
                with self._lock:
                    self._check()
                    count = tls.recv_into(view)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                continue  # half a record
            except OSError as error:
                raise self._broken(error) from error
            if not count:
                raise self._broken(None)
            return count

    def receive(self, size: int, *, stall: float, deadline: float = math.inf) -> bytearray:
        """Return exactly ``size`` bytes, a number that the caller checked; see ``receive_into``."""
        buffer = bytearray(size)
        self.receive_into(memoryview(buffer), stall=stall, deadline=deadline)
        return buffer

    def readable(self, wait: float | None) -> bool:
        """Return whether something can be received (or the stream has ended) within ``wait`` seconds; None: for ever.

        For the thread that receives.
        """
        with self._lock:
            if self._ended or self._tls.pending():
                return True
            fd = self._tls.fileno()
        poller = select.poll()
        poller.register(fd, select.POLLIN)
        return bool(poller.poll(None if wait is None else math.ceil(max(0.0, wait) * 1000)))

    def _pause(self, events: int, stall: float, deadline: float) -> None:
        """Wait outside the lock until the socket may go on."""
        try:
            _wait(self._tls.fileno(), events, min(time.monotonic() + stall, deadline))
        except CallTimeoutError:
            self.abort("it stood still for too long")
            raise

    def _check(self) -> None:
        if self._ended:
            raise DeadObjectError(f"the stream to device {self.peer} has ended: {self._ended}")

    def _broken(self, error: OSError | None) -> DeadObjectError:
        self.abort(str(error) if error else "the other side closed it")
        return DeadObjectError(f"the stream to device {self.peer} has ended: {self._ended}")

    @property
    def ended(self) -> str:
        """Why the stream ended; "" while it lives."""
        return self._ended

    def abort(self, why: str) -> None:
        """End the stream now: whoever waits on it gets DeadObjectError. Its owner still closes it."""
        with self._lock:
            if self._ended:
                return
            self._ended = why or "it was ended"
            try:
                # Not SSLSocket.shutdown: that drops the TLS state first, and a sender would go on in the clear.
                socket.socket.shutdown(self._tls, socket.SHUT_RDWR)
            except OSError:
                return  # it is broken already: nobody can be waiting on it

    def finish(self, last: bytes, *, wait: float) -> bool:
        """Send something last and end our direction; what the other side still sends can be received.

        Args:
            last: what to send. wait: seconds to wait for a sender that is in the middle, and for the other side.

        Returns:
            Whether it was sent. If not, the stream was aborted: nobody may wait long for a good-bye.
        """
        if not self._writing.acquire(timeout=wait):
            self.abort("it was ended while something was being sent")
            return False
        try:
            self._send_one(memoryview(last), wait, math.inf)
            with self._lock:
                self._check()
                socket.socket.shutdown(self._tls, socket.SHUT_WR)
        except (OSError, DeadObjectError) as error:  # CallTimeoutError is an OSError
            self.abort(str(error))
            return False
        finally:
            self._writing.release()
        return True

    def drain(self, deadline: float) -> None:
        """Receive and drop what comes until the other side closes, or time.monotonic() reaches ``deadline``.

        Closing with bytes unread would make the kernel throw away our last ones on their way.
        """
        dropped = memoryview(bytearray(_JOINED))
        while self.readable(deadline - time.monotonic()) and time.monotonic() < deadline:
            try:
                with self._lock:
                    if self._ended or not self._tls.recv_into(dropped):
                        return
            except ssl.SSLWantReadError:
                continue
            except OSError:
                return  # that, too, is the end we wait for

    def close(self) -> None:
        """End the stream and give its descriptor back; a second call does nothing. For the thread that receives."""
        self.abort("it was closed on this side")
        with self._writing, self._lock:
            self._tls.close()
        forget, self._forget = self._forget, None
        if forget is not None:
            forget(self)
