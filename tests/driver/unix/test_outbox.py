"""The control connection's sending side: order, no blocking, exactly once, and it owns its descriptors."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from binderkit.driver.unix import handshake
from binderkit.driver.unix.outbox import Outbox

Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    made = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield made
    for end in made:
        end.close()


def read_all(sock: socket.socket) -> list[bytes]:
    got = []
    while True:
        try:
            got.append(sock.recv(100, socket.MSG_DONTWAIT))
        except BlockingIOError:
            return got


def begun(sock: socket.socket) -> Outbox:
    box = Outbox(sock)
    assert box.begin() == 0
    return box


def test_everything_waits_for_the_end_of_the_handshake(ends: Ends) -> None:
    box = Outbox(ends[0])
    read, write = os.pipe()
    assert box.post(b"first", [read]) == 0
    assert box.post(b"second", []) == 0
    assert read_all(ends[1]) == []
    assert box.begin() == 0
    packet, fds = handshake.receive_with_fds(ends[1], 10, 1)
    assert (packet, read_all(ends[1])) == (b"first", [b"second"])
    handshake.close_all([*fds, write])


def test_messages_wait_in_order_for_a_peer_that_does_not_read(ends: Ends) -> None:
    box = begun(ends[0])
    packets = [b"%d" % number for number in range(2000)]
    waiting = [box.post(packet, []) for packet in packets][-1]
    assert 0 < waiting < 2000
    got: list[bytes] = []
    while waiting:
        got += read_all(ends[1])
        waiting = box.flush()
    assert got + read_all(ends[1]) == packets


def test_descriptors_are_closed_once_sent(ends: Ends) -> None:
    read, write = os.pipe()
    begun(ends[0]).post(b"fd", [read])
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(read)
    packet, fds = handshake.receive_with_fds(ends[1], 10, 1)
    assert (packet, len(fds)) == (b"fd", 1)
    handshake.close_all([*fds, write])


def test_what_waits_is_dropped_at_the_end_and_its_descriptors_closed(ends: Ends) -> None:
    box = begun(ends[0])
    while not box.post(b"x", []):
        pass
    read, write = os.pipe()
    box.post(b"fd", [read])
    os.fstat(read)
    box.close()
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(read)
    assert box.post(b"late", [write]) == 0
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(write)


def test_a_peer_that_hung_up(ends: Ends) -> None:
    ends[1].close()
    read, write = os.pipe()
    assert begun(ends[0]).post(b"x", [read]) == 0
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(read)
    os.close(write)


class Interrupting:
    """A socket whose sendmsg is interrupted right behind the system call."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock

    def sendmsg(self, *arguments: object) -> int:
        self._sock.sendmsg(*arguments)  # type: ignore[arg-type]
        raise KeyboardInterrupt


def test_an_interrupt_behind_the_send_does_not_send_twice(ends: Ends) -> None:
    box = begun(Interrupting(ends[0]))  # type: ignore[arg-type]
    read, write = os.pipe()
    with pytest.raises(KeyboardInterrupt):
        box.post(b"once", [read])
    with pytest.raises(OSError, match="Bad file"):
        os.fstat(read)
    os.close(write)
    assert box.flush() == 0
    assert read_all(ends[1]) == [b"once"]
