"""What systemd and a service say to each other: readiness, and sockets that were opened for it.

Owns: the notification socket ($NOTIFY_SOCKET) and the descriptors that are passed on start ($LISTEN_FDS). The protocols
are systemd's sd_notify and sd_listen_fds; they need no library.

Rules upheld: without systemd nothing happens; descriptors meant for another process are not touched; what is taken is
not inherited by children.
"""

from __future__ import annotations

import os
import socket
from collections.abc import MutableMapping
from typing import Final

from binderkit.errors import RefusedError

NOTIFY_SOCKET: Final = "NOTIFY_SOCKET"
FIRST_DESCRIPTOR: Final = 3
MAX_DESCRIPTORS: Final = 64


def notify(state: str, environment: MutableMapping[str, str] = os.environ) -> bool:
    """Tell the service manager something; return whether there is one that was told.

    Args:
        state: lines such as "READY=1", "STOPPING=1", "STATUS=some words".

    Raises:
        OSError: it named a socket that does not take the message.
    """
    address = environment.get(NOTIFY_SOCKET, "")
    if not address.startswith(("/", "@")):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
        sock.connect(address)
        sock.sendall(state.encode())
    return True


def take_listening_sockets(environment: MutableMapping[str, str] = os.environ) -> list[socket.socket]:
    """Return the listening sockets that the service manager opened for this process, and forget that it did.

    Raises:
        RefusedError: one of them is no UNIX SEQPACKET socket that listens, the only kind that binderkit speaks (303).
    """
    pid, count = environment.pop("LISTEN_PID", ""), environment.pop("LISTEN_FDS", "")
    environment.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not (count.isascii() and count.isdigit()):
        return []
    number = min(int(count), MAX_DESCRIPTORS)
    sockets = []
    try:
        for descriptor in range(FIRST_DESCRIPTOR, FIRST_DESCRIPTOR + number):
            sockets.append(_taken(descriptor))
    except BaseException:
        for sock in sockets:
            sock.close()
        raise
    return sockets


def _taken(descriptor: int) -> socket.socket:
    try:
        os.set_inheritable(descriptor, False)
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        raise RefusedError(f"descriptor {descriptor} of $LISTEN_FDS is no socket: {error}") from None
    listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_SEQPACKET or not listens:
        sock.close()
        raise RefusedError(
            f"descriptor {descriptor} of $LISTEN_FDS is no UNIX socket that listens for packets; write "
            "ListenSequentialPacket=PATH in the socket unit ('binderkit systemd' does)"
        )
    return sock
