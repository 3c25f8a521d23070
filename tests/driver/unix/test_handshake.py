"""HELLO: identity only from the kernel, and what becomes of those who do not shake hands properly."""

from __future__ import annotations

import os
import resource
import socket
import struct
from collections.abc import Callable, Iterator

import pytest

from binderkit import limits
from binderkit.driver.unix import frame, handshake
from binderkit.errors import DeadObjectError, DescriptorError, ProtocolError, RefusedError
from tests.driver.unix.hostile import Hostile, Victim, until

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture
def pair() -> Iterator[Pair]:
    """Both ends of a connection on which HELLO comes next."""
    ends = handshake.pair()
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def plain() -> Iterator[Pair]:
    """Both ends of a connection after the handshake."""
    ends = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    yield ends
    for end in ends:
        end.close()


def test_identity_comes_from_the_kernel(pair: Pair) -> None:
    handshake.send_hello(pair[0], b"n" * 16)
    node, caller = handshake.receive_hello(pair[1])
    assert node == b"n" * 16
    assert (caller.pid, caller.uid, caller.gid) == (os.getpid(), os.getuid(), os.getgid())
    assert pair[1].getsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED) == 0, "it costs time on every later message"


def test_what_another_process_says_is_its_own_identity(pair: Pair) -> None:
    """The pair was made here, SO_PEERCRED would show us; the child is who speaks."""
    child = os.fork()
    if child == 0:
        try:
            handshake.send_hello(pair[0], b"c" * 16)
        finally:
            os._exit(0)
    _, caller = handshake.receive_hello(pair[1])
    os.waitpid(child, 0)
    assert caller.pid == child


def test_credentials_cannot_be_forged_without_root(pair: Pair) -> None:
    """A child that is not root says it is root, and that it is its parent: the kernel lets neither out."""
    child = os.fork()
    if child == 0:
        code = 9
        try:
            if os.getuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            refused = 0
            for pid, uid in ((os.getpid(), 0), (os.getppid(), os.getuid())):
                try:
                    claim = struct.pack("iII", pid, uid, os.getgid())
                    item = (socket.SOL_SOCKET, socket.SCM_CREDENTIALS, claim)
                    pair[0].sendmsg([frame.encode_hello(b"f" * 16)], [item])
                except PermissionError:
                    refused += 1
            code = 0 if refused == 2 else 1
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0


def test_hello_without_credentials_is_refused() -> None:
    """A receiver that asked for none (SO_PASSCRED off) gets none, and trusts nobody then."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(frame.encode_hello(bytes(16)))
        with pytest.raises(ProtocolError, match="without credentials"):
            handshake.receive_hello(ours)


def test_credentials_switched_on_late_are_refused() -> None:
    """Sent before SO_PASSCRED was set: the kernel then reports pid 0."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        theirs.send(frame.encode_hello(bytes(16)))
        handshake.expect(ours)
        with pytest.raises(ProtocolError, match="without credentials"):
            handshake.receive_hello(ours)


def test_descriptors_in_hello_are_closed(pair: Pair) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    for count in (1, 3, 50):
        handshake.expect(pair[1])
        claim = struct.pack("iII", os.getpid(), os.getuid(), os.getgid())
        items = [
            (socket.SOL_SOCKET, socket.SCM_CREDENTIALS, claim),
            (socket.SOL_SOCKET, socket.SCM_RIGHTS, struct.pack(f"{count}i", *[null] * count)),
        ]
        pair[0].sendmsg([frame.encode_hello(bytes(16))], items)
        try:
            handshake.receive_hello(pair[1])
        except ProtocolError:
            assert count > 4, "a few are only closed; more than there is room for are refused"
        assert len(os.listdir("/proc/self/fd")) == before
    os.close(null)


def test_the_words_of_a_refusal_arrive(pair: Pair) -> None:
    pair[0].send(frame.encode_control(frame.REFUSED, b"uid 7 may not"))
    with pytest.raises(RefusedError, match="uid 7 may not"):
        handshake.receive_hello(pair[1])


def test_hanging_up_instead_of_hello(pair: Pair) -> None:
    pair[0].close()
    with pytest.raises(DeadObjectError, match="hung up"):
        handshake.receive_hello(pair[1])


@pytest.mark.parametrize("packet", [b"x", b"GET / HTTP/1.1\r\n\r\n", bytes(16), frame.encode_control(frame.CREDIT)])
def test_garbage_instead_of_hello(pair: Pair, packet: bytes) -> None:
    handshake.expect(pair[1])
    pair[0].send(packet)
    with pytest.raises(ProtocolError):
        handshake.receive_hello(pair[1])


def test_more_descriptors_than_allowed_are_all_closed(plain: Pair) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(plain[0], [b"x"], [null] * 8)
    with pytest.raises(ProtocolError, match="more than the 2 descriptors"):
        handshake.receive_with_fds(plain[1], 16, 2)
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(null)


def test_received_descriptors_are_not_inherited(plain: Pair) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    socket.send_fds(plain[0], [b"x"], [null])
    packet, fds = handshake.receive_with_fds(plain[1], 16, 1)
    assert packet == b"x"
    assert not os.get_inheritable(fds[0])
    handshake.close_all([null, *fds])


def test_plain_recv_installs_no_descriptors(plain: Pair) -> None:
    """Which is why calls without announced descriptors cannot be used to flood us with them."""
    null = os.open("/dev/null", os.O_RDONLY)
    before = len(os.listdir("/proc/self/fd"))
    socket.send_fds(plain[0], [b"packet"], [null] * 100)
    assert plain[1].recv(100) == b"packet"
    assert len(os.listdir("/proc/self/fd")) == before
    os.close(null)


def test_no_descriptors_left_is_our_problem_not_the_peers(plain: Pair) -> None:
    null = os.open("/dev/null", os.O_RDONLY)
    socket.send_fds(plain[0], [b"x"], [null])
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(map(int, os.listdir("/proc/self/fd")))
    fillers = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
    try:
        try:
            while True:
                fillers.append(os.dup(null))
        except OSError:
            pass  # all are taken: that is the situation to be in
        with pytest.raises(DescriptorError, match="no descriptors left"):
            handshake.receive_with_fds(plain[1], 16, 1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        handshake.close_all([null, *fillers])


# --- strangers at a node ---------------------------------------------------------------------------

Step = Callable[[Hostile], object]


def garbage(peer: Hostile) -> None:
    peer.raw(b"\xff" * 100)


def wrong_version(peer: Hostile) -> None:
    peer.raw(frame.encode_control(frame.HELLO, struct.pack("<HHI16s", 7, 9, 0, bytes(16))))


def own_node_id(peer: Hostile) -> None:
    """Claim to be the victim itself."""
    handshake.send_hello(peer.sock, peer.victim.node.id)


def not_hello(peer: Hostile) -> None:
    peer.raw(frame.encode_control(frame.DECIDE, count=1))


def oversize(peer: Hostile) -> None:
    peer.raw(frame.encode_control(frame.HELLO, bytes(frame.CONTROL_MAX * 2)))


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (garbage, "does not speak binderkit"),
        (wrong_version, "no common version: we speak 1, the other side 7 to 9"),
        (own_node_id, "introduced to itself"),
        (not_hello, "expected HELLO"),
        (oversize, "announces 32768 bytes"),
    ],
)
def test_a_stranger_is_refused_with_words(victim: Victim, step: Step, words: str) -> None:
    with Hostile(victim) as peer:
        step(peer)
        refused = peer.receive(frame.REFUSED)
        assert words in refused.payload.decode()
        assert peer.hung_up()
        victim.check_usable()
    until(lambda: not victim.node.introductions(), "the introduction is forgotten")


@pytest.mark.parametrize("speaks", [False, True])
def test_a_stranger_that_never_finishes_is_given_up(
    victim: Victim, monkeypatch: pytest.MonkeyPatch, speaks: bool
) -> None:
    monkeypatch.setattr(limits, "HANDSHAKE_WAIT", 0.05)
    # The guest with the smaller id must speak next (DECIDE); it does not.
    with Hostile(victim, bytes(16)) as peer:
        if speaks:
            peer.hello()
        refused = peer.receive(frame.REFUSED)
        assert "took longer than 0.05 s" in refused.payload.decode()
        assert peer.hung_up()
        victim.check_usable()


@pytest.mark.parametrize("small", [False, True])
@pytest.mark.parametrize("steps", [0, 1, 2, 3])
def test_hanging_up_at_each_step(victim: Victim, steps: int, small: bool) -> None:
    """0: at once, 1: after HELLO is sent, 2: after both, 3: after the connection stands."""
    before = victim.node.statistics()
    with Hostile(victim, bytes(15) + b"\1" if small else b"\xff" * 16) as peer:
        if steps == 1:
            handshake.send_hello(peer.sock, peer.node_id)
        elif steps == 2:
            peer.hello()
        elif steps == 3:
            peer.shake()
    until(
        lambda: (
            {k: victim.node.statistics()[k] for k in ("peers", "introductions", "held")}
            == {k: before[k] for k in ("peers", "introductions", "held")}
        ),
        "nothing is left of it",
    )
    victim.check_usable()


def test_garbage_instead_of_decide(victim: Victim) -> None:
    with Hostile(victim, bytes(16)) as peer:
        peer.hello()
        peer.raw(frame.encode_pairs(frame.RELEASE, [(0, 0)]))
        assert "expected DECIDE" in peer.receive(frame.REFUSED).payload.decode()
        victim.check_usable()


def test_a_connection_that_is_there_cannot_be_claimed_twice(victim: Victim) -> None:
    """The same node id again, from the same process: DECIDE "a new one" contradicts the table."""
    with Hostile(victim, bytes(16)) as first:
        first.shake()
        with Hostile(victim, bytes(16)) as second:
            second.hello()
            second.raw(frame.encode_control(frame.DECIDE, count=1))
            assert "second connection" in second.receive(frame.REFUSED).payload.decode()
        victim.check_usable()


def test_the_node_id_of_another_process_gives_no_access_to_its_connection(victim: Victim) -> None:
    """The table's key is (pid from the kernel, node id): the id alone opens nothing."""
    peer = Hostile(victim, victim.client.id)
    child = os.fork()
    if child == 0:
        code = 1
        try:
            peer.shake()
            code = 0
        finally:
            os._exit(code)
    peer.close()
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "it is a peer of its own, not the honest client"
    victim.check_usable()
    until(lambda: victim.node.statistics()["peers"] == 1, "its end is noticed")
