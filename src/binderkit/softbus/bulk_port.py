"""The device's port for streams: who may open one, and opening one to another device.

Owns: the listening sockets, the thread that accepts, a thread per incoming stream, and the list of open streams.

A stream begins with both sides' certificates, then eight bytes each way: magic, version, what the stream is for, and
back whether it is taken. TLS 1.3 lets a dialler finish before its certificate was looked at; the answer tells it.

Rules upheld here:

- Nothing of a device reaches a handler before its certificate was proven and found in the list of trusted devices.
- Connections that have proven nothing are few, in all and per address, and have limits.STREAM_HANDSHAKE_WAIT seconds.
- A trusted device has at most limits.MAX_STREAMS_PER_DEVICE streams to us: a flood ends with an answer that says so.
- A change of trust ends the streams of the devices that were removed, and no others.
- Refusals are logged, but nobody can fill the log.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import os
import select
import socket
import ssl
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import TYPE_CHECKING, Final

from binderkit import limits
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    IpcError,
    NotTrustedError,
    ParamValueError,
    QuotaError,
    RefusedError,
)
from binderkit.softbus.bulk_stream import Address, Stream, connected, secured, tuned
from binderkit.softbus.bulk_tls import credentials, proven_udid

if TYPE_CHECKING:
    from binderkit.softbus.engine import TrustSnapshot

__all__ = ["Purpose", "StreamPort"]

_log = logging.getLogger("binderkit.softbus")

_MAGIC: Final = b"BKSB"
_VERSION: Final = 1
_HELLO: Final = struct.Struct("<4sBBH")
"""Magic, version, purpose (dialler) or answer (listener), 0."""
_BACKLOG: Final = 128
_NO_DESCRIPTORS_WAIT: Final = 0.2
"""Seconds to wait before accepting again when the process has no descriptor left."""


class Purpose(IntEnum):
    """What a stream is for."""

    RAW_DATA = 1
    SESSION = 2
    CALLS = 3


class _Answer(IntEnum):
    """What a listener says to a hello."""

    TAKEN = 0
    NOT_TRUSTED = 1
    TOO_MANY = 2
    NOT_SERVED = 3


class _Complaints:
    """Warnings about what was refused: the first ones of a while in full, the rest counted."""

    _WHILE: Final = 10.0
    _IN_FULL: Final = 10

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._since = -math.inf
        self._count = 0

    def refused(self, address: Address, why: object) -> None:
        """Log that something that came from ``address`` was refused."""
        with self._lock:
            now = time.monotonic()
            left_out = 0
            if now - self._since > self._WHILE:
                left_out = max(0, self._count - self._IN_FULL)
                self._since, self._count = now, 0
            self._count += 1
            shown = self._count <= self._IN_FULL
        if left_out:
            _log.warning("%d more refusals before were not logged", left_out)
        if shown:
            _log.warning("refused %s: %s", address[0], why)


class StreamPort:
    """Streams between this device and the devices it trusts. Start it, and close it."""

    def __init__(
        self,
        trust: TrustSnapshot,
        locate: Callable[[str], Sequence[Address]],
        *,
        hosts: Sequence[str] = ("127.0.0.1",),
        port: int = 0,
        unreached: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Listen, but accept nothing before ``start``.

        Args:
            trust: whom to trust, and what to prove ourselves with.
            locate: returns where a device's port is (numeric addresses); [] when it is not known. May block.
            hosts: numeric addresses of this device to listen at; port: 0 takes a free one for each.
            unreached: called with the UDID of a device that did not answer where ``locate`` said.

        Raises:
            ParamValueError: the certificate cannot be used, or an address not be listened at (401).
        """
        self._credentials = credentials(trust)
        self._locate = locate
        self._unreached = unreached
        self._port = port
        self._lock = threading.Lock()
        self._dials = 0
        self._dials_ended = threading.Condition(self._lock)
        self._handlers: dict[int, Callable[[Stream], None]] = {}
        self._streams: set[Stream] = set()
        self._incoming: Counter[str] = Counter()
        self._unproven: Counter[str] = Counter()
        self._threads: set[threading.Thread] = set()
        self._complaints = _Complaints()
        self._closed = False
        self._acceptor: threading.Thread | None = None
        # One list replaces another, so that whoever reads it needs no lock.
        self._listening: list[socket.socket] = []
        self._retired: list[socket.socket] = []
        self._listening = self._listening_at(hosts)
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._moved = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)

    def serve(self, purpose: Purpose, handler: Callable[[Stream], None]) -> None:
        """Let ``handler`` have the incoming streams of one purpose; before ``start``.

        It runs on a thread of the stream's own, which closes the stream when the handler returns.
        """
        self._handlers[purpose] = handler

    def start(self) -> None:
        """Accept streams from now on."""
        self._acceptor = threading.Thread(target=self._accept, name="softbus-streams", daemon=True)
        self._acceptor.start()

    @property
    def own(self) -> str:
        """This device's UDID."""
        return self._credentials.trust.own

    def addresses(self) -> tuple[Address, ...]:
        """Return where this port listens; what ``locate`` of the other devices must return for this one."""
        return tuple(listening.getsockname()[:2] for listening in self._listening)

    def trusts(self, udid: str) -> bool:
        """Return whether a device is in the list of trusted devices."""
        return udid in self._credentials.trust.trusted

    # --- Opening one --------------------------------------------------------------------------------

    def dial(self, udid: str, purpose: Purpose, *, timeout: float) -> Stream:
        """Open a stream to a device; the caller closes it.

        Args:
            timeout: seconds for everything together.

        Raises:
            NotTrustedError: we do not trust the device, it does not trust us, or another one answered in its place
                (-425983984). RefusedError: it does not serve this purpose, or speaks another protocol (303).
            DeadObjectError: it cannot be reached (-32). CallTimeoutError: not in time (502).
            QuotaError: it has too many streams of ours (29201).
        """
        deadline = time.monotonic() + timeout
        if not self.trusts(udid):
            raise NotTrustedError(f"device {udid} is not trusted; pair the two devices first")
        addresses = [found for found in self._locate(udid) if _is_numeric(found[0])][: limits.MAX_STREAM_ADDRESSES]
        if not addresses:
            raise DeadObjectError(f"device {udid} is not in the network, or offers no port for streams")
        with self._dialling():
            for address in addresses[:-1]:
                share = time.monotonic() + (deadline - time.monotonic()) / 2
                try:
                    return self._dial_one(udid, purpose, address, share)
                except (OSError, DeadObjectError) as error:  # CallTimeoutError and NotTrustedError are OSErrors too
                    _log.info("device %s did not answer at %s: %s; trying its next address", udid, address[0], error)
            try:
                return self._dial_one(udid, purpose, addresses[-1], deadline)
            except IpcError:
                raise
            except TimeoutError as error:
                self._unreached(udid)
                raise CallTimeoutError(f"device {udid} did not answer within {timeout} s") from error
            except OSError as error:
                self._unreached(udid)
                raise DeadObjectError(f"device {udid} cannot be reached at {addresses[-1][0]}: {error}") from error

    @contextmanager
    def _dialling(self) -> Iterator[None]:
        """Count who dials: ``close`` wakes them, and waits until they have let go of what woke them."""
        with self._lock:
            if self._closed:
                raise DeadObjectError("the port for streams of this device was closed")
            self._dials += 1
        try:
            yield
        finally:
            with self._lock:
                self._dials -= 1
                self._dials_ended.notify_all()

    def _dial_one(self, udid: str, purpose: Purpose, address: Address, deadline: float) -> Stream:
        raw = connected(address, deadline, self._wake)
        try:
            tls = secured(raw, self._credentials.dialling, accepting=False, deadline=deadline, wake=self._wake)
        except ssl.SSLCertVerificationError as error:
            raise NotTrustedError(
                f"what answered at {address[0]} in place of device {udid} has no certificate of this circle: {error}"
            ) from error
        try:
            proven_udid(tls.getpeercert(binary_form=True), expected=udid)
        except BaseException:
            tls.close()
            raise
        stream = Stream(tls, udid, address, self._forget)
        try:
            self._keep(stream)
            _introduce(stream, purpose, deadline)
        except BaseException:
            stream.close()
            raise
        return stream

    # --- Accepting ----------------------------------------------------------------------------------

    def set_hosts(self, hosts: Sequence[str]) -> None:
        """Listen at these addresses from now on; those that stay keep their ports, and no stream ends.

        Raises:
            ParamValueError: an address cannot be listened at; nothing was changed (401).
        """
        with self._lock:
            if self._closed:
                return
            kept = [listening for listening in self._listening if listening.getsockname()[0] in hosts]
            there = {listening.getsockname()[0] for listening in kept}
            fresh = self._listening_at([host for host in hosts if host not in there])
            gone = [listening for listening in self._listening if listening not in kept]
            self._listening = kept + fresh
            if self._acceptor is not None:
                # It closes them: a descriptor must not become another file while somebody waits for it.
                self._retired += gone
                os.eventfd_write(self._moved, 1)
                return
        for listening in gone:
            listening.close()

    def _listening_at(self, hosts: Sequence[str]) -> list[socket.socket]:
        made: list[socket.socket] = []
        try:
            for host in hosts:
                made.append(_listening_socket(host, self._port))
        except BaseException:
            for listening in made:
                listening.close()
            raise
        return made

    def _accept(self) -> None:
        while not self._closed:
            with self._lock:
                sockets = {listening.fileno(): listening for listening in self._listening}
                retired, self._retired = self._retired, []
            for listening in retired:
                listening.close()
            poller = select.poll()
            for fd in (*sockets, self._wake, self._moved):
                poller.register(fd, select.POLLIN)
            self._accept_from(poller, sockets)

    def _accept_from(self, poller: select.poll, sockets: dict[int, socket.socket]) -> None:
        """Accept until the port is closed, or listens elsewhere."""
        while not self._closed:
            ready = [fd for fd, _ in poller.poll()]
            if self._moved in ready:
                os.eventfd_read(self._moved)
                return
            for fd in ready:
                if fd != self._wake:
                    self._accept_one(sockets[fd])

    def _accept_one(self, listening: socket.socket) -> None:
        try:
            raw, name = listening.accept()
        except BlockingIOError:
            return  # it went away before we looked
        except OSError as error:
            _log.warning("cannot accept a stream: %s", error)
            waiting = select.poll()
            waiting.register(self._wake, select.POLLIN)
            waiting.poll(int(_NO_DESCRIPTORS_WAIT * 1000))
            return
        address: Address = name[:2]
        if not self._admit(address):
            raw.close()
            self._complaints.refused(address, "too many connections that have not yet shown who they are")
            return
        thread = threading.Thread(target=self._incoming_stream, args=(raw, address), name="softbus-stream", daemon=True)
        with self._lock:
            self._threads.add(thread)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no thread left; the next one may find one
            raw.close()
            self._shown(address)
            with self._lock:
                self._threads.discard(thread)
            self._complaints.refused(address, error)

    def _admit(self, address: Address) -> bool:
        with self._lock:
            if self._closed or self._unproven.total() >= limits.MAX_HANDSHAKES:
                return False
            if self._unproven[address[0]] >= limits.MAX_HANDSHAKES_PER_ADDRESS:
                return False
            self._unproven[address[0]] += 1
            return True

    def _shown(self, address: Address) -> None:
        """Count a connection as proven, or gone."""
        with self._lock:
            self._unproven[address[0]] -= 1
            self._unproven += Counter()  # drops what is zero, or every address would be kept for ever

    def _incoming_stream(self, raw: socket.socket, address: Address) -> None:
        """Prove who dialled, then give the stream to its handler; runs on a thread of its own."""
        stream: Stream | None = None
        try:
            try:
                stream, handler = self._proven(raw, address)
            finally:
                self._shown(address)
            if stream is not None and handler is not None:
                handler(stream)
        except (IpcError, OSError) as error:
            self._complaints.refused(address, error)
        finally:
            if stream is not None:
                stream.close()
            with self._lock:
                self._threads.discard(threading.current_thread())

    def _proven(self, raw: socket.socket, address: Address) -> tuple[Stream, Callable[[Stream], None] | None]:
        """Shake hands and answer the hello.

        Returns:
            The stream, and its handler; None when it was refused (that was logged and answered).
        """
        deadline = time.monotonic() + limits.STREAM_HANDSHAKE_WAIT
        try:
            tuned(raw)
        except BaseException:
            raw.close()
            raise
        tls = secured(raw, self._credentials.accepting, accepting=True, deadline=deadline, wake=self._wake)
        try:
            udid = proven_udid(tls.getpeercert(binary_form=True))
        except BaseException:
            tls.close()
            raise
        stream = Stream(tls, udid, address, self._forget)
        try:
            with self._lock:
                self._streams.add(stream)
            if self._closed:
                raise DeadObjectError("the port for streams of this device was closed")
            return stream, self._answered(stream, deadline)
        except BaseException:
            stream.close()
            raise

    def _answered(self, stream: Stream, deadline: float) -> Callable[[Stream], None] | None:
        hello = stream.receive(_HELLO.size, stall=limits.STREAM_HANDSHAKE_WAIT, deadline=deadline)
        magic, version, purpose, _ = _HELLO.unpack(hello)
        if magic != _MAGIC or version != _VERSION:
            raise RefusedError(f"device {stream.peer} speaks another protocol ({bytes(hello[:5])!r}); update it")
        handler = self._handlers.get(purpose)
        answer = _Answer.NOT_SERVED if handler is None else self._count(stream)
        stream.send(_HELLO.pack(_MAGIC, _VERSION, answer, 0), stall=limits.STREAM_HANDSHAKE_WAIT, deadline=deadline)
        if answer is _Answer.TAKEN:
            return handler
        self.refused(stream, answer.name.lower().replace("_", " "))
        return None

    def _count(self, stream: Stream) -> _Answer:
        """Enter an incoming stream in the list, in one step with the look at who is trusted."""
        with self._lock:
            if self._closed or not self.trusts(stream.peer):
                return _Answer.NOT_TRUSTED
            if self._incoming[stream.peer] >= limits.MAX_STREAMS_PER_DEVICE:
                return _Answer.TOO_MANY
            self._incoming[stream.peer] += 1
            stream.incoming = True
            return _Answer.TAKEN

    def _keep(self, stream: Stream) -> None:
        with self._lock:
            if self._closed:
                raise DeadObjectError("the port for streams of this device was closed")
            if not self.trusts(stream.peer):
                raise NotTrustedError(f"device {stream.peer} is not trusted any more")
            self._streams.add(stream)

    def _forget(self, stream: Stream) -> None:
        with self._lock:
            self._streams.discard(stream)
            if stream.incoming:
                self._incoming[stream.peer] -= 1
                if not self._incoming[stream.peer]:
                    del self._incoming[stream.peer]

    def refused(self, stream: Stream, why: str) -> None:
        """Log that a device was refused something; so that it cannot fill the log."""
        self._complaints.refused(stream.address, f"device {stream.peer}: {why}")

    # --- Changes and the end ------------------------------------------------------------------------

    def set_trust(self, trust: TrustSnapshot) -> None:
        """Take a new list of trusted devices and certificate; ends the streams of devices that are not in it.

        Raises:
            ParamValueError: the certificate cannot be used; nothing was changed (401).
        """
        made = credentials(trust)
        with self._lock:
            self._credentials = made
            removed = [stream for stream in self._streams if stream.peer not in trust.trusted]
        for stream in removed:
            stream.abort("the device is not trusted any more")

    def drop(self, udid: str, why: str) -> None:
        """End all streams of a device, because it left."""
        with self._lock:
            gone = [stream for stream in self._streams if stream.peer == udid]
        for stream in gone:
            stream.abort(why)

    def close(self) -> None:
        """Accept no more, end all streams and wait for the threads of incoming ones; may be called twice."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            streams = list(self._streams)
        os.eventfd_write(self._wake, 1)  # never read: it stays up for every handshake under way
        for stream in streams:
            stream.abort("the port was closed")
        if self._acceptor is not None:
            self._acceptor.join()
        with self._lock:
            self._dials_ended.wait_for(lambda: not self._dials)
            threads = [thread for thread in self._threads if thread is not threading.current_thread()]
        for thread in threads:
            thread.join()
        for listening in (*self._listening, *self._retired):
            listening.close()
        os.close(self._wake)
        os.close(self._moved)


def _is_numeric(host: str) -> bool:
    """Return whether an address is numeric: another device's word must not make us ask a name server."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _listening_socket(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        raise ParamValueError(f"cannot listen at {host} port {port}: {error}") from error
    return listening


def _introduce(stream: Stream, purpose: Purpose, deadline: float) -> None:
    """Say what a dialled stream is for, and wait until it is taken."""
    wait = limits.STREAM_HANDSHAKE_WAIT
    try:
        stream.send(_HELLO.pack(_MAGIC, _VERSION, purpose, 0), stall=wait, deadline=deadline)
        magic, version, answer, _ = _HELLO.unpack(stream.receive(_HELLO.size, stall=wait, deadline=deadline))
    except DeadObjectError as error:
        # An alert is a refusal; an end of file is what a broken link looks like, too.
        if isinstance(error.__cause__, ssl.SSLError) and not isinstance(error.__cause__, ssl.SSLEOFError):
            raise NotTrustedError(
                f"device {stream.peer} did not accept our certificate: {error.__cause__}; pair the two devices again"
            ) from error
        raise
    if magic != _MAGIC or version != _VERSION:
        raise RefusedError(f"device {stream.peer} speaks another protocol; update it")
    if answer == _Answer.TOO_MANY:
        raise QuotaError(
            f"device {stream.peer} has {limits.MAX_STREAMS_PER_DEVICE} streams of this device; close sessions first"
        )
    if answer == _Answer.NOT_TRUSTED:
        raise NotTrustedError(f"device {stream.peer} does not trust this device; pair the two devices")
    if answer != _Answer.TAKEN:
        raise RefusedError(f"device {stream.peer} does not serve streams for {purpose.name}")
