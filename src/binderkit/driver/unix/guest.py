"""The guest's side of a connection that begins: from a socket to a proxy of the owner's object.

Owns: nothing that stays; the owner's side is introduction.py, which also draws the exchange. Runs on the thread that
needs the object, and waits there for at most the time given.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import TYPE_CHECKING

from binderkit.driver.unix import frame, handshake
from binderkit.driver.unix.peer import Peer
from binderkit.errors import DeadObjectError, IpcError, ProtocolError, RefusedError
from binderkit.ipc.context import Caller
from binderkit.ipc.proxy import RemoteProxy

if TYPE_CHECKING:
    from binderkit.driver.unix.node import Node
    from binderkit.parcel.objects import OwnedFd

_log = logging.getLogger("binderkit.driver")


def join(node: Node, sock: socket.socket, wait: float) -> RemoteProxy:
    """Shake hands on ``sock`` with the owner of an object; return the object's proxy.

    Takes ownership of ``sock``. Blocks for at most ``wait`` seconds.

    Raises:
        DeadObjectError: the owner is gone or does not answer.
        RefusedError: it does not want us; its words are in the text.
        ProtocolError: it does not speak our protocol.
    """
    try:
        node.check_usable()
        sock.settimeout(wait)
        handshake.send_hello(sock, node.id)
        node_id, caller = handshake.receive_hello(sock)
        return _settle(node, sock, node_id, caller)
    except TimeoutError:
        sock.close()
        raise DeadObjectError(
            f"the owner of the object did not answer within {wait} s; it is stopped or overloaded"
        ) from None
    except OSError as error:
        sock.close()
        if isinstance(error, IpcError):
            raise
        raise DeadObjectError(f"the owner of the object hung up during the handshake: {error}") from None
    except BaseException:
        sock.close()
        raise


def _settle(node: Node, sock: socket.socket, node_id: bytes, caller: Caller) -> RemoteProxy:
    """Agree whether ``sock`` becomes the connection to that process or there is one already."""
    decides = node.id < node_id
    peer: Peer | None = None
    fresh = False
    if decides:
        peer, fresh = node.decide(sock, node_id, caller)
    try:
        if decides:
            _send_decision(sock, fresh)
        handle, mode = _receive_granted(sock)
    except BaseException:
        if decides and fresh and peer is not None:
            node.bury(peer, "the handshake with it failed")
        raise
    if not decides:
        fresh = bool(mode)
        peer = node.decided(sock, node_id, caller, fresh=fresh)
    assert peer is not None
    proxy = peer.proxy(handle)
    if fresh:
        sock.setblocking(True)
        node.watch_peer(peer)
    else:
        sock.close()
    return proxy


def introduced(node: Node, fd: OwnedFd, until: float) -> RemoteProxy:
    """Return the proxy behind a connection that came in a message; a dead one if its owner is gone.

    Raises:
        ProtocolError: it is no connection at all.
    """
    sock = handshake.received_socket(fd.detach())
    try:
        return join(node, sock, max(0.001, until - time.monotonic()))
    except (DeadObjectError, RefusedError) as error:
        _log.info("an object that was passed on cannot be reached: %s", error)
        return dead_proxy(node)


def dead_proxy(node: Node) -> RemoteProxy:
    """Return a proxy whose process is gone."""
    ours, theirs = handshake.pair()
    theirs.close()
    peer = Peer(node, ours, b"", Caller(0, 65534, 65534))
    peer.close("its process ended before the object arrived here")
    ours.close()
    return RemoteProxy(peer, 0)


def _send_decision(sock: socket.socket, fresh: bool) -> None:
    """Send DECIDE; an owner that hung up already may have left words, which are read next."""
    try:
        sock.sendall(frame.encode_control(frame.DECIDE, count=int(fresh)))
    except (BrokenPipeError, ConnectionResetError) as error:
        _log.debug("the owner hung up before we decided: %s", error)


def _receive_granted(sock: socket.socket) -> tuple[int, int]:
    """Return the handle the owner granted, and whether ``sock`` is the connection now.

    Raises:
        DeadObjectError: it hung up.
        RefusedError: it does not want us; its words are in the text.
        ProtocolError: anything else than GRANTED.
    """
    try:
        packet = sock.recv(frame.CONTROL_MAX)
    except ConnectionResetError:
        # It closed with something of ours unread, which is told first; its own last words are still there.
        packet = sock.recv(frame.CONTROL_MAX)
    if not packet:
        raise DeadObjectError("the owner of the object hung up during the handshake")
    message = frame.decode_control(packet)
    if message.kind == frame.REFUSED:
        raise RefusedError(message.payload.decode("utf-8", "replace"))
    pairs = frame.decode_pairs(message)
    if message.kind != frame.GRANTED or len(pairs) != 1:
        raise ProtocolError(f"expected GRANTED for one object, got control message {message.kind} of {len(pairs)}")
    return pairs[0]
