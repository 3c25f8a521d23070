"""Who is at the other end of a fresh connection: HELLO with kernel credentials.

Owns: the two socket operations of the handshake, and the identity that comes
of it. SO_PEERCRED would show who *created* a socket pair, not who holds its other
end now, hence explicit SCM_CREDENTIALS in HELLO. SO_PASSCRED is set before anything is
received and cleared afterwards, because it costs 0.7 µs per message.

Rules upheld: identity only from the kernel; a message without credentials is
refused; descriptors that come uninvited are closed.
"""

from __future__ import annotations

import array
import os
import socket
import struct

from binderkit.driver.unix import frame
from binderkit.errors import DeadObjectError, DescriptorError, ProtocolError, RefusedError
from binderkit.ipc.context import Caller

_CREDENTIALS = struct.Struct("iII")
_INT = array.array("i").itemsize
MSG_CMSG_CLOEXEC = 0x40000000
"""Descriptors are installed with close-on-exec; the socket module does not name the flag in 3.11."""


def pair() -> tuple[socket.socket, socket.socket]:
    """Return both ends of a connection that will start with HELLO.

    Raises:
        DescriptorError: this process has no descriptors left.
    """
    try:
        ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    except OSError as error:
        raise DescriptorError(f"no descriptors left for a connection: {error}; raise ulimit -n") from error
    for end in ends:
        expect(end)
    return ends


def adopt(fd: int) -> socket.socket:
    """Return the connection behind a descriptor inherited from the parent process."""
    os.set_inheritable(fd, False)
    return socket.socket(fileno=fd)


def expect(sock: socket.socket) -> None:
    """Have the kernel attach the sender's credentials to what ``sock`` receives."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)


def send_hello(sock: socket.socket, node: bytes) -> None:
    """Say who we are; the kernel checks and vouches for pid, uid and gid."""
    expect(sock)
    credentials = _CREDENTIALS.pack(os.getpid(), os.getuid(), os.getgid())
    sock.sendmsg(
        [frame.encode_hello(node)],
        [(socket.SOL_SOCKET, socket.SCM_CREDENTIALS, credentials)],
        socket.MSG_NOSIGNAL | socket.MSG_DONTWAIT,
    )


def receive_hello(sock: socket.socket) -> tuple[bytes, Caller]:
    """Receive the other side's HELLO; return its node id and kernel-vouched identity.

    Raises:
        DeadObjectError: the other side hung up.
        RefusedError: it refused us; its text says why.
        ProtocolError: anything else than a proper HELLO.
        BlockingIOError: nothing there (non-blocking, or the socket's receive timeout passed).
    """
    space = socket.CMSG_SPACE(_CREDENTIALS.size) + socket.CMSG_SPACE(4 * _INT)
    packet, ancillary, flags, _ = sock.recvmsg(frame.CONTROL_MAX, space, MSG_CMSG_CLOEXEC)
    caller = None
    for level, kind, value in ancillary:
        if level != socket.SOL_SOCKET:
            continue
        if kind == socket.SCM_CREDENTIALS and len(value) == _CREDENTIALS.size:
            caller = Caller(*_CREDENTIALS.unpack(value))
        elif kind == socket.SCM_RIGHTS:
            close_all(received_fds(value))
    if not packet:
        raise DeadObjectError("the other side hung up during the handshake")
    message = frame.decode_control(packet)
    if message.kind == frame.REFUSED:
        raise RefusedError(message.payload.decode("utf-8", "replace"))
    node = frame.decode_hello(message)
    if caller is None or caller.pid <= 0 or flags & socket.MSG_CTRUNC:
        raise ProtocolError("HELLO without credentials the kernel vouches for")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 0)
    return node, caller


def received_fds(value: bytes) -> list[int]:
    """Return the descriptors of an SCM_RIGHTS item (a truncated last one is not a descriptor)."""
    fds = array.array("i")
    fds.frombytes(value[: len(value) - len(value) % _INT])
    return list(fds)


def receive_with_fds(sock: socket.socket, size: int, most: int, flags: int = 0) -> tuple[bytes, list[int]]:
    """Receive one packet and the descriptors that came with it (never more than ``most``).

    Raises:
        ProtocolError: more descriptors than allowed; all are closed.
        DescriptorError: this process has none left for them.
    """
    packet, ancillary, got, _ = sock.recvmsg(size, socket.CMSG_SPACE(most * _INT), MSG_CMSG_CLOEXEC | flags)
    fds: list[int] = []
    for level, kind, value in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds += received_fds(value)
    if got & socket.MSG_CTRUNC and len(fds) < most:
        close_all(fds)
        raise DescriptorError("this process has no descriptors left for what was sent to it; raise ulimit -n")
    if got & socket.MSG_CTRUNC or len(fds) > most:
        close_all(fds)
        raise ProtocolError(f"a message with more than the {most} descriptors allowed here")
    return packet, fds


def received_socket(fd: int) -> socket.socket:
    """Return the connection a peer sent us; takes ownership of ``fd``.

    Raises:
        ProtocolError: it is something else than a UNIX SEQPACKET socket.
    """
    try:
        sock = socket.socket(fileno=fd)
    except OSError as error:
        os.close(fd)
        raise ProtocolError(f"a descriptor that is no socket where a connection was expected: {error}") from None
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_SEQPACKET:
        sock.close()
        raise ProtocolError("a socket of another kind than UNIX SEQPACKET where a connection was expected")
    return sock


def close_all(fds: list[int]) -> None:
    """Close descriptors nobody will use."""
    for fd in fds:
        os.close(fd)
