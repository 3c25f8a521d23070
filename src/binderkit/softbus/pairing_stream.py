"""The connection two devices pair over: TLS 1.3, framed, with a deadline for the whole of it.

Owns: sockets of pairing, both ends (``connect``, ``Door``), and ``Channel``:
frames of at most limits.MAX_PAIRING_FRAME bytes (length of 32 bits,
little-endian, then the bytes).

Why the certificate is made for each offer and thrown away: a stranger who
connects before the PIN was proven must not learn which device answers. Nobody
checks that certificate; its hash goes into the PAKE instead (``binding``).

Rules upheld: a length is checked before anything is allocated; no operation
waits beyond the deadline, however slowly the bytes drip; the ephemeral key never
touches a disk.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import socket
import ssl
import struct
import time
from collections.abc import Iterator
from hashlib import sha256
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from binderkit import limits
from binderkit.errors import PairingError, ProtocolError
from binderkit.softbus.identity import new_key, private_pem

__all__ = ["Channel", "Door", "connect"]

_LENGTH: Final = struct.Struct("<I")
_TIMED_OUT: Final = -425983980
_BACKLOG: Final = 128
"""Connections the kernel keeps for us: when it is full, an honest one waits a second for its next try."""


class Channel:
    """Frames over one TLS connection.

    Args:
        stream: the connection; the handshake need not have happened.
        deadline: when everything must be over, by ``time.monotonic()``.
    """

    def __init__(self, stream: ssl.SSLSocket, deadline: float) -> None:
        self._stream = stream
        self._deadline = deadline

    def handshake(self) -> None:
        """Agree on keys.

        Raises:
            PairingError: the other side speaks no TLS 1.3, went, or was too slow (-425983984, -425983980).
        """
        with self._limited("no TLS connection came about"):
            self._stream.do_handshake()

    def server_binding(self) -> bytes:
        """Return the hash of the certificate that the server proved to own (client side)."""
        certificate = self._stream.getpeercert(binary_form=True)
        if certificate is None:
            raise PairingError("the other device showed no certificate")
        return sha256(certificate).digest()

    def send(self, frame: bytes) -> None:
        """Send one frame.

        Raises:
            PairingError: the other side went, or was too slow (-425983984, -425983980).
        """
        with self._limited("the other device went away"):
            self._stream.sendall(_LENGTH.pack(len(frame)) + frame)

    def receive(self) -> bytes:
        """Return the next frame.

        Raises:
            PairingError: the other side went, or was too slow (-425983984, -425983980).
            ProtocolError: it announces a frame that is too long (601).
        """
        (length,) = _LENGTH.unpack(self._exactly(_LENGTH.size))
        if length > limits.MAX_PAIRING_FRAME:
            raise ProtocolError(f"a message of {length} bytes; at most {limits.MAX_PAIRING_FRAME} are read")
        return self._exactly(length)

    def abort(self) -> None:
        """End it from another thread: whoever waits in it gets a PairingError."""
        with contextlib.suppress(OSError):  # already gone, which is what is wanted
            # Not SSLSocket's own: it would turn the object into a plain socket under the other thread's hands.
            socket.socket.shutdown(self._stream, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; may be called twice."""
        self._stream.close()

    def _exactly(self, length: int) -> bytes:
        parts = bytearray()
        while len(parts) < length:
            with self._limited("the other device went away"):
                part = self._stream.recv(length - len(parts))
            if not part:
                raise PairingError("the other device ended the connection before the pairing was over: try again")
            parts += part
        return bytes(parts)

    @contextlib.contextmanager
    def _limited(self, what: str) -> Iterator[None]:
        left = self._deadline - time.monotonic()
        try:
            if left <= 0:
                raise TimeoutError
            self._stream.settimeout(left)
            yield
        except TimeoutError:
            raise PairingError(
                f"{what}: the pairing took longer than {limits.PAIRING_TIMEOUT:.0f} s: try again", code=_TIMED_OUT
            ) from None
        except OSError as error:  # ssl.SSLError is one
            raise PairingError(f"{what} ({error}): try again") from None


def connect(address: tuple[str, int]) -> tuple[Channel, bytes]:
    """Connect to a device that offers pairing.

    Args:
        address: host name or address, and port.

    Returns:
        The connection, and the binding: SHA-256 of the server's certificate.

    Raises:
        PairingError: nobody there, or no TLS 1.3 (-425983984, -425983980).
    """
    try:
        plain = socket.create_connection(address, limits.PAIRING_CONNECT_TIMEOUT)
    except TimeoutError:
        raise PairingError(f"{_show(address)} does not answer: is it on this network?", code=_TIMED_OUT) from None
    except OSError as error:
        raise PairingError(f"{_show(address)} does not offer pairing ({error}): is a PIN shown there?") from None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # The PAKE authenticates, with this certificate's hash in it; there is no CA yet that could.
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    channel = _wrap(plain, context, server=False)
    try:
        channel.handshake()
        return channel, channel.server_binding()
    except BaseException:
        channel.close()
        raise


class Door:
    """The port at which a device offers pairing, with a certificate of its own.

    Args:
        host: address to listen on; "" for all, IPv6 as well where there is any.
        port: 0 for a free one.

    Raises:
        OSError: the port cannot be had.
    """

    def __init__(self, host: str, port: int) -> None:
        self._context, self.binding = _throw_away_context()
        self._socket = _listen(host, port)
        self.port: int = self._socket.getsockname()[1]

    def accept(self, timeout: float | None) -> Channel:
        """Return the next connection; its handshake is still to be made.

        Args:
            timeout: seconds; None waits for ever.

        Raises:
            TimeoutError: nobody came. OSError: the door was closed, or no descriptor is left.
        """
        self._socket.settimeout(timeout)
        plain, _ = self._socket.accept()
        return _wrap(plain, self._context, server=True)

    def shut(self) -> None:
        """Let nobody in any more; ``accept`` in another thread ends with OSError."""
        with contextlib.suppress(OSError):  # it was shut before
            self._socket.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Give the port back; may be called twice."""
        self._socket.close()


def _wrap(plain: socket.socket, context: ssl.SSLContext, *, server: bool) -> Channel:
    try:
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = context.wrap_socket(plain, server_side=server, do_handshake_on_connect=False)
    except BaseException:
        plain.close()
        raise
    return Channel(stream, time.monotonic() + limits.PAIRING_TIMEOUT)


def _listen(host: str, port: int) -> socket.socket:
    if host:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    if socket.has_dualstack_ipv6():
        try:
            return socket.create_server(("::", port), family=socket.AF_INET6, backlog=_BACKLOG, dualstack_ipv6=True)
        except OSError:
            # The kernel knows IPv6 but this network namespace has it switched off.
            pass
    return socket.create_server(("0.0.0.0", port), backlog=_BACKLOG)


def _throw_away_context() -> tuple[ssl.SSLContext, bytes]:
    key = new_key()
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "pairing")])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        # Nobody looks at the dates; fixed ones say nothing about this device's clock.
        .not_valid_before(datetime.datetime(1970, 1, 2, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC))
        .sign(key, hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.num_tickets = 0  # nobody comes back, and unread tickets would turn a close into a reset
    # The ssl module takes keys from files only.
    memory = os.memfd_create("binderkit-pairing", os.MFD_CLOEXEC)
    try:
        os.write(memory, private_pem(key) + certificate.public_bytes(Encoding.PEM))
        context.load_cert_chain(f"/proc/self/fd/{memory}")
    finally:
        os.close(memory)
    return context, sha256(certificate.public_bytes(Encoding.DER)).digest()


def _show(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
