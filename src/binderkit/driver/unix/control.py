"""Messages of a control connection after the handshake: what each of them does.

Owns: nothing; runs on the monitor thread and never blocks.

Rules upheld: a message that breaks the protocol ends the connection, with a warning here and
words for the other side; every descriptor that came along is used or closed.
"""

from __future__ import annotations

import logging
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, TypeAlias

from binderkit import limits
from binderkit.driver.unix import frame, handshake
from binderkit.driver.unix.lanes import ServedLane, SharedLane
from binderkit.driver.unix.oneway import timeval
from binderkit.driver.unix.oneway_lane import OnewayLane
from binderkit.errors import DescriptorError, ProtocolError

if TYPE_CHECKING:
    from binderkit.driver.unix.node import Node
    from binderkit.driver.unix.peer import Peer

_log = logging.getLogger("binderkit.driver")
_BATCH: Final = 64
"""Messages of one peer handled before the others get their turn."""


def read(node: Node, peer: Peer, mask: int) -> None:
    """Send what waits and handle what came on a control connection (monitor)."""
    if mask & select.EPOLLOUT:
        node.send_waiting(peer)
    if mask & (select.EPOLLIN | select.EPOLLHUP | select.EPOLLERR):
        _read_batch(node, peer)


def read_rest(node: Node, peer: Peer) -> None:
    """The peer's process ended: handle what it sent before that (introductions, lanes), then bury it (monitor)."""
    while _read_batch(node, peer):
        pass
    node.bury(peer, "its process ended")


def _read_batch(node: Node, peer: Peer) -> bool:
    """Handle some messages; return whether there may be more."""
    try:
        for _ in range(_BATCH):
            try:
                packet, fds = handshake.receive_with_fds(peer.control, frame.CONTROL_MAX, 1, socket.MSG_DONTWAIT)
            except ConnectionResetError:
                continue  # told once, when the peer closed with something of ours unread; its last words follow
            if not packet:
                node.bury(peer, "its process ended")
                return False
            _handle(node, peer, packet, fds)
            if peer.control.fileno() < 0:
                return False  # buried by what the message did
    except BlockingIOError:
        return False
    except ProtocolError as error:
        node.disconnect(peer, str(error))
        return False
    except DescriptorError as error:
        _log.error("what %r sent is lost (its caller sees that): %s", peer, error)
    except OSError as error:
        _log.debug("control connection of %r: %s", peer, error)
        node.bury(peer, "its process ended")
        return False
    return True


def _handle(node: Node, peer: Peer, packet: bytes, fds: list[int]) -> None:
    """Do what one message says; whatever is wrong with it, its descriptors are closed."""
    try:
        message = frame.decode_control(packet)
        if bool(fds) != (message.kind in (frame.LANE, frame.INTRODUCE)):
            raise ProtocolError(f"control message {message.kind} with {len(fds)} descriptors")
        if message.kind == frame.GOODBYE and not fds:
            _on_goodbye(node, peer, message.payload)
            return
        pairs = frame.decode_pairs(message)
        action = _ACTIONS.get(message.kind)
        if action is None or (fds and len(pairs) != 1):
            raise ProtocolError(f"control message {message.kind} does not belong here")
    except ProtocolError:
        handshake.close_all(fds)
        raise
    action(node, peer, pairs, fds)


def _on_lane(node: Node, peer: Peer, pairs: list[tuple[int, int]], fds: list[int]) -> None:
    sock = handshake.received_socket(fds[0])
    ((number, kind),) = pairs
    makers = {
        frame.LANE_SYNC: ServedLane,
        frame.LANE_MUX: SharedLane,
        frame.LANE_ONEWAY: OnewayLane,
    }
    twice = number in peer.served or (
        # A second one would break the order of one-way calls.
        kind == frame.LANE_ONEWAY and any(isinstance(lane, OnewayLane) for lane in peer.served.values())
    )
    if kind not in makers or twice or len(peer.served) >= limits.MAX_LANES_PER_PEER:
        sock.close()
        raise ProtocolError(
            f"lane {number} of kind {kind}: unknown kind, a number twice, a second for one-way calls, or too many"
        )
    sock.setblocking(True)
    # Parking by a receive timeout costs nothing per call; settimeout would poll before each.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeval(limits.PARK_TIME))
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeval(limits.ONEWAY_SEND_WAIT))
    lane = makers[kind](peer, sock, number)
    peer.served[number] = lane
    node.workers.add(lane.fd, lane)


def _on_introduce(node: Node, peer: Peer, pairs: list[tuple[int, int]], fds: list[int]) -> None:
    sock = handshake.received_socket(fds[0])
    held = peer.held.get(pairs[0][0])
    if held is None or sum(intro.introducer is peer for intro in node.introductions()) > limits.MAX_LANES_PER_PEER:
        sock.close()
        raise ProtocolError(f"an introduction to handle {pairs[0][0]}, which the peer does not hold, or too many")
    sock.setblocking(False)
    node.introduce(sock, held.export, peer)


def _on_release(node: Node, peer: Peer, pairs: list[tuple[int, int]], fds: list[int]) -> None:
    (fence, _), *released = pairs or [(0, 0)]
    peer.deferred.append((fence, released))
    peer.deferred_count += len(pairs)
    if peer.deferred_count > limits.MAX_DEFERRED_RELEASES:
        raise ProtocolError(f"{peer.deferred_count} releases wait for one-way calls that do not come")
    node.apply_deferred(peer)


def _on_cancel(node: Node, peer: Peer, pairs: list[tuple[int, int]], fds: list[int]) -> None:
    for number, seq in pairs:
        lane = peer.served.get(number)
        if lane is not None:
            lane.cancel(seq)


def _on_credit(node: Node, peer: Peer, pairs: list[tuple[int, int]], fds: list[int]) -> None:
    for total, _ in pairs:
        peer.oneway.acknowledged(total)


def _on_credit_query(node: Node, peer: Peer, pairs: list[tuple[int, int]], fds: list[int]) -> None:
    peer.report_credit()


def _on_slots_freed(node: Node, peer: Peer, pairs: list[tuple[int, int]], fds: list[int]) -> None:
    for index, _ in pairs:
        peer.slots.given_back(index)


def _on_home_received(node: Node, peer: Peer, pairs: list[tuple[int, int]], fds: list[int]) -> None:
    for token, _ in pairs:
        peer.home_received(token)


def _on_goodbye(node: Node, peer: Peer, reason: bytes) -> None:
    """The peer hangs up on us and says why: calls to it fail with its words."""
    words = reason.decode("utf-8", "replace")[: frame.MAX_REASON]
    _log.error("process %d disconnected this one: %s", peer.caller.pid, words)
    node.bury(peer, f"it disconnected this process: {words}")


Action: TypeAlias = "Callable[[Node, Peer, list[tuple[int, int]], list[int]], None]"
_ACTIONS: Final[dict[int, Action]] = {
    frame.LANE: _on_lane,
    frame.INTRODUCE: _on_introduce,
    frame.RELEASE: _on_release,
    frame.CANCEL: _on_cancel,
    frame.CREDIT: _on_credit,
    frame.CREDIT_QUERY: _on_credit_query,
    frame.SLOTS_FREED: _on_slots_freed,
    frame.HOME_RECEIVED: _on_home_received,
}
