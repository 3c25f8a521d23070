"""The guest's side of a connection that begins: owners that refuse, vanish, stall or lie."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable

import pytest

from binderkit import limits
from binderkit.driver.unix import frame, guest, handshake
from binderkit.driver.unix.node import Node
from binderkit.errors import DeadObjectError, ProtocolError, RefusedError
from binderkit.ipc.proxy import RemoteProxy
from binderkit.parcel.objects import OwnedFd
from tests.driver.unix import hostile
from tests.driver.unix.hostile import WAIT, Attempt, HostileOwner, Victim, add_one, until

LOW, HIGH = bytes(16), b"\xff" * 16
"""node ids: the process with the smaller one decides"""


class RawOwner:
    """The owner's end of a handshake; ``attempt`` is the guest's thread."""

    def __init__(self, node: Node, node_id: bytes, wait: float = WAIT) -> None:
        self.sock, self.theirs = handshake.pair()
        self.sock.settimeout(WAIT)
        self.attempt = Attempt(lambda: guest.join(node, self.theirs, wait))
        self._node_id = node_id

    def hello(self) -> None:
        handshake.send_hello(self.sock, self._node_id)
        handshake.receive_hello(self.sock)

    def decision(self) -> int:
        """Return the guest's DECIDE: 1 if this becomes the connection."""
        message = frame.decode_control(self.sock.recv(frame.CONTROL_MAX))
        assert message.kind == frame.DECIDE
        return message.number

    def fails(self, kind: type[Exception], words: str) -> None:
        """The guest raises; its socket and what it began are gone."""
        error = self.attempt.over().error
        assert type(error) is kind, error
        assert words in str(error)
        assert self.theirs.fileno() < 0
        self.sock.close()


def peers(victim: Victim) -> int:
    return victim.client.statistics()["peers"]


@pytest.mark.parametrize("node_id", [LOW, HIGH])
def test_an_owner_whoever_decides(victim: Victim, node_id: bytes) -> None:
    with HostileOwner(victim.client, node_id) as owner:
        assert peers(victim) == 2
        assert owner.proxy._handle == 0
        assert owner.proxy.owner.pid == os.getpid()
    until(lambda: peers(victim) == 1, "its end is seen")


@pytest.mark.parametrize("node_id", [LOW, HIGH])
@pytest.mark.parametrize(
    ("packet", "kind", "words"),
    [
        (frame.encode_control(frame.REFUSED, b"not you"), RefusedError, "not you"),
        (frame.encode_pairs(frame.GRANTED, []), ProtocolError, "of 0"),
        (frame.encode_pairs(frame.GRANTED, [(0, 1), (1, 1)]), ProtocolError, "of 2"),
        (frame.encode_pairs(frame.CREDIT, [(0, 1)]), ProtocolError, "expected GRANTED"),
        (b"\xff" * 40, ProtocolError, "does not speak"),
    ],
)
def test_another_answer_than_granted(
    victim: Victim, node_id: bytes, packet: bytes, kind: type[Exception], words: str
) -> None:
    owner = RawOwner(victim.client, node_id)
    owner.hello()
    if node_id == HIGH:
        assert owner.decision() == 1
    owner.sock.send(packet)
    owner.fails(kind, words)
    assert peers(victim) == 1, "the connection that was begun is gone"
    victim.check_usable()


@pytest.mark.parametrize("node_id", [LOW, HIGH])
@pytest.mark.parametrize("after_hello", [False, True])
def test_an_owner_that_hangs_up(victim: Victim, node_id: bytes, after_hello: bool) -> None:
    owner = RawOwner(victim.client, node_id)
    if after_hello:
        owner.hello()
    owner.sock.close()
    owner.fails(DeadObjectError, "hung up during the handshake")
    assert peers(victim) == 1
    victim.check_usable()


@pytest.mark.parametrize("after_hello", [False, True])
def test_an_owner_that_stalls(victim: Victim, after_hello: bool) -> None:
    begin = time.monotonic()
    owner = RawOwner(victim.client, HIGH, wait=0.1)
    if after_hello:
        owner.hello()
    owner.fails(DeadObjectError, "did not answer within 0.1 s")
    assert time.monotonic() - begin < WAIT / 2
    assert peers(victim) == 1


def test_a_refusal_instead_of_hello(victim: Victim) -> None:
    owner = RawOwner(victim.client, LOW)
    owner.sock.send(frame.encode_control(frame.REFUSED, b"too many handshakes"))
    owner.fails(RefusedError, "too many handshakes")


def test_a_second_meeting_uses_the_connection_there_is(victim: Victim) -> None:
    again = hostile.join(victim.node, victim.client)
    assert again is victim.proxy
    assert peers(victim) == 1
    add_one(again)


def test_an_owner_that_means_a_connection_which_is_not_there(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_WAIT", 0.05)
    owner = RawOwner(victim.client, LOW)
    owner.hello()
    owner.sock.send(frame.encode_pairs(frame.GRANTED, [(0, 0)]))
    owner.fails(DeadObjectError, "hung up during the handshake")
    assert peers(victim) == 1


def test_a_closed_driver_joins_nobody() -> None:
    node = Node(title="closed")
    node.close()
    ours, theirs = handshake.pair()
    with ours, pytest.raises(DeadObjectError, match="closed"):
        guest.join(node, theirs, WAIT)
    assert theirs.fileno() < 0


def test_joins_at_the_same_time_make_one_connection(victim: Victim) -> None:
    other = Node(title="other")
    try:
        together = threading.Barrier(6, timeout=WAIT)

        def meet() -> object:
            ours, theirs = handshake.pair()
            together.wait()
            victim.node.serve_root(theirs)
            return other.join(ours)

        attempts = [Attempt(meet) for _ in range(6)]
        results = [attempt.over() for attempt in attempts]
        assert [attempt.error for attempt in results] == [None] * 6
        assert len({id(attempt.result) for attempt in results}) == 1, "one object, one proxy"
        assert other.statistics()["peers"] == 1
    finally:
        other.close()


# --- objects that were passed on -----------------------------------------------------------------------------


def introduced(victim: Victim, action: Callable[[socket.socket], object]) -> object:
    """Return what the client makes of a connection that came in a message, with ``action`` at its other end."""
    ours, theirs = handshake.pair()
    with ours:
        action(ours)
        return guest.introduced(victim.client, OwnedFd(theirs.detach()), time.monotonic() + 0.1)


@pytest.mark.parametrize(
    "action",
    [
        lambda sock: sock.close(),
        lambda sock: None,
        lambda sock: sock.send(frame.encode_control(frame.REFUSED, b"no")),
    ],
    ids=["gone", "silent", "refuses"],
)
def test_an_object_whose_owner_cannot_be_reached_is_a_dead_proxy(
    victim: Victim, action: Callable[[socket.socket], object]
) -> None:
    proxy = introduced(victim, action)
    assert isinstance(proxy, RemoteProxy)
    assert proxy.is_object_dead()
    with pytest.raises(DeadObjectError, match="before the object arrived here"):
        add_one(proxy)
    victim.check_usable()


def test_a_connection_that_speaks_something_else_is_a_lie(victim: Victim) -> None:
    with pytest.raises(ProtocolError, match="does not speak"):
        introduced(victim, lambda sock: sock.send(b"\xff" * 60))


def test_a_descriptor_that_is_no_connection_is_a_lie(victim: Victim) -> None:
    fd = os.open(os.devnull, os.O_RDONLY)
    with pytest.raises(ProtocolError, match="no socket"):
        guest.introduced(victim.client, OwnedFd(fd), time.monotonic() + 1)
