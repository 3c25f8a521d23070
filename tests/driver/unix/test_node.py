"""A node and its control connections: every lie ends that connection, with words, and nothing else."""

from __future__ import annotations

import gc
import os
import queue
import select
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from binderkit import limits
from binderkit.driver.unix import frame, handshake, outbox
from binderkit.driver.unix import node as node_module
from binderkit.driver.unix.node import Node
from binderkit.errors import DeadObjectError, ForkedError, IpcError, NoServiceManagerError, RefusedError
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence
from tests.driver.unix import hostile
from tests.driver.unix.hostile import Hostile, HostileOwner, Victim, add_one, dead, join, until

Warns = Callable[[str], None]
Lie = Callable[[Hostile], object]


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


@pytest.fixture
def null() -> Iterator[int]:
    fd = os.open("/dev/null", os.O_RDONLY)
    yield fd
    os.close(fd)


# --- lies on the control connection ------------------------------------------------------------------

LIES: dict[str, tuple[Lie, str]] = {
    "garbage": (lambda p: p.raw(b"\xff" * 64), "does not speak binderkit"),
    "one byte": (lambda p: p.raw(b"B"), "a control message of 1 bytes"),
    "truncated": (lambda p: p.raw(frame.encode_pairs(frame.CREDIT, [(0, 0)])[:-1]), "announces 12 bytes"),
    "oversize": (lambda p: p.raw(frame.encode_control(frame.RELEASE, bytes(60_000))), "announces 60000 bytes"),
    "count lie": (lambda p: p.raw(frame.encode_control(frame.RELEASE, bytes(12), 2)), "2 pairs with 12 bytes"),
    "HELLO again": (lambda p: p.raw(frame.encode_hello(bytes(16))), "message of 0 pairs with 24 bytes"),
    "GRANTED": (lambda p: p.post(frame.GRANTED, (0, 1)), "does not belong here"),
    "DECIDE": (lambda p: p.post(frame.DECIDE), "does not belong here"),
    "RELEASE of what it does not hold": (lambda p: p.post(frame.RELEASE, (0, 0), (77, 1)), "handle 77"),
    "RELEASE too many": (lambda p: p.post(frame.RELEASE, (0, 0), (0, 2)), "gives back 2 references to handle 0"),
    "RELEASE of 0": (lambda p: p.post(frame.RELEASE, (0, 0), (0, 0)), "gives back 0 references"),
    "CREDIT for nothing": (lambda p: p.post(frame.CREDIT, (1, 0)), "executed 1 bytes of one-way calls, 0 were sent"),
    "CREDIT huge": (lambda p: p.post(frame.CREDIT, (2**64 - 1, 0)), "were sent"),
    "SLOTS_FREED it does not have": (lambda p: p.post(frame.SLOTS_FREED, (5, 0)), "gives back shared slot 5"),
    "LANE without descriptor": (lambda p: p.post(frame.LANE, (1, 1)), "with 0 descriptors"),
    "INTRODUCE without descriptor": (lambda p: p.post(frame.INTRODUCE, (0, 0)), "with 0 descriptors"),
    "two lanes in one message": (lambda p: with_socket(p, frame.LANE, (1, 1), (2, 1)), "does not belong here"),
    "LANE of unknown kind": (lambda p: p.lane(kind=9), "unknown kind"),
    "LANE with a number twice": (lambda p: (p.lane(number=1), p.lane(number=1)), "a number twice"),
    "INTRODUCE to what it does not hold": (lambda p: with_socket(p, frame.INTRODUCE, (99, 0)), "handle 99"),
}


def with_socket(peer: Hostile, kind: int, *pairs: tuple[int, int]) -> None:
    """Send pairs with one end of a proper connection; the other end stays open with ``peer``."""
    ours, theirs = handshake.pair()
    peer.lanes.append(ours)
    with theirs:
        peer.post(kind, *pairs, fds=(theirs.fileno(),))


@pytest.mark.parametrize("lie", LIES)
def test_a_lie_ends_the_connection_and_nothing_else(victim: Victim, warns: Warns, lie: str) -> None:
    action, words = LIES[lie]
    before = descriptors()
    with Hostile(victim) as peer:
        peer.shake()
        action(peer)
        assert peer.hung_up()
        warns(words)
        victim.check_usable()
    until(lambda: victim.node.statistics()["peers"] == 1, "the liar is forgotten")
    until(lambda: descriptors() <= before + 2, "its descriptors are closed")


def test_descriptors_with_a_message_that_takes_none(victim: Victim, warns: Warns, null: int) -> None:
    with Hostile(victim) as peer:
        peer.shake()
        before = descriptors()
        peer.post(frame.CREDIT_QUERY, fds=(null,))
        assert peer.hung_up()
        warns("with 1 descriptors")
        until(lambda: descriptors() < before, "received descriptors and the connection are closed")
        victim.check_usable()


def test_more_descriptors_than_one(victim: Victim, warns: Warns, null: int) -> None:
    with Hostile(victim) as peer:
        peer.shake()
        peer.post(frame.LANE, (1, 1), fds=(null,) * 100)
        assert peer.hung_up()
        warns("more than the 1 descriptors allowed here")
        victim.check_usable()


def a_file() -> int:
    return os.open("/dev/null", os.O_RDONLY)


def a_stream() -> int:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    theirs.close()
    return ours.detach()


def a_tcp_socket() -> int:
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM).detach()


def a_datagram_socket() -> int:
    return socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).detach()


@pytest.mark.parametrize("kind", [frame.LANE, frame.INTRODUCE])
@pytest.mark.parametrize("make", [a_file, a_stream, a_tcp_socket, a_datagram_socket])
def test_a_connection_that_is_none(victim: Victim, warns: Warns, kind: int, make: Callable[[], int]) -> None:
    with Hostile(victim) as peer:
        peer.shake()
        before = descriptors()
        fd = make()
        peer.post(kind, (0 if kind == frame.INTRODUCE else 1, 1), fds=(fd,))
        os.close(fd)
        assert peer.hung_up()
        warns("disconnecting")
        until(lambda: descriptors() < before, "what it sent is closed")
        victim.check_usable()


def test_an_epoll_of_its_own_as_a_lane(victim: Victim, warns: Warns) -> None:
    with Hostile(victim) as peer, select.epoll() as epoll:
        peer.shake()
        peer.post(frame.LANE, (1, 1), fds=(epoll.fileno(),))
        assert peer.hung_up()
        warns("no socket")
        victim.check_usable()


def test_ten_thousand_lanes(victim: Victim, warns: Warns) -> None:
    with Hostile(victim) as peer:
        peer.shake()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        opened = 0
        with ours, theirs:
            try:
                for number in range(10_000):
                    peer.post(frame.LANE, (number, frame.LANE_SYNC), fds=(theirs.fileno(),))
                    opened += 1
            except OSError:
                assert opened >= limits.MAX_LANES_PER_PEER
            assert peer.hung_up()
        warns("too many")
        victim.check_usable()
    until(lambda: victim.node.statistics()["served_lanes"] <= 2, "its lanes are closed")


def test_introductions_without_end(victim: Victim, warns: Warns, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_LANES_PER_PEER", 5)
    with Hostile(victim) as peer:
        peer.shake()
        for _ in range(7):
            with_socket(peer, frame.INTRODUCE, (0, 0))
        assert peer.hung_up()
        warns("or too many")
        victim.check_usable()


def test_releases_that_wait_for_a_call_that_never_comes_are_bounded(
    victim: Victim, warns: Warns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fence nobody reaches: the list of deferred releases is bounded too."""
    monkeypatch.setattr(limits, "MAX_DEFERRED_RELEASES", 1000)
    with Hostile(victim) as peer:
        peer.shake()
        try:
            for _ in range(20_000):
                peer.post(frame.RELEASE, (1000, 0), (0, 1))
        except OSError:
            pass  # the connection was ended while we were at it
        assert peer.hung_up()
        warns("disconnecting")
        victim.check_usable()


def test_cancel_of_what_is_not_there_does_nothing(victim: Victim) -> None:
    with Hostile(victim) as peer:
        peer.shake()
        peer.lane()
        peer.post(frame.CANCEL, (1, 9), (77, 9), (2**64 - 1, 2**32 - 1))
        peer.post(frame.HOME_RECEIVED, (5, 0))
        peer.post(frame.CREDIT_QUERY)
        assert frame.decode_pairs(peer.receive(frame.CREDIT)) == [(0, 0)]
        victim.check_usable()


def test_a_peer_that_does_not_read_its_control_connection(
    victim: Victim, warns: Warns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "MOST", 50)
    with Hostile(victim) as peer:
        peer.shake()
        try:
            for _ in range(5_000):
                peer.post(frame.CREDIT_QUERY)  # each is answered, nobody reads the answers
        except OSError:
            pass  # the connection was ended while we were at it
        warns("does not read its control connection")
        victim.check_usable()


# --- quotas ------------------------------------------------------------------------------------------


def test_a_peer_buried_before_it_is_watched_stays_buried(victim: Victim) -> None:
    """The guest's thread ends the handshake, the monitor saw the other process end: whoever comes first."""
    peer: Any = victim.proxy._connection
    victim.client.bury(peer, "says the test")
    victim.client.watch_peer(peer)
    assert peer.is_dead
    assert victim.client.statistics()["peers"] == 0


def test_burying_a_former_peer_again_leaves_its_successor_alone(victim: Victim) -> None:
    """A process that was disconnected may be introduced anew, with the same node id."""
    former: Any = victim.proxy._connection
    victim.client.bury(former, "says the test")
    until(lambda: victim.node.statistics()["peers"] == 0, "the other side knows")
    again = join(victim.node, victim.client)
    victim.client.bury(former, "says the test, twice")
    assert victim.client.statistics()["peers"] == 1
    add_one(again)


def test_too_many_processes(victim: Victim, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_PEERS", 1)
    other = Node(title="late")
    try:
        with pytest.raises(RefusedError, match="1 processes are connected, the limit is 1"):
            join(victim.node, other)
    finally:
        other.close()
    add_one(victim.proxy)


# --- a hostile owner ---------------------------------------------------------------------------------


def owner_says(node: Node, packet: bytes, decides: bool) -> None:
    """Join an owner that answers our HELLO properly and then says ``packet``."""
    ours, theirs = handshake.pair()
    node_id = b"\xff" * 16 if decides else bytes(16)

    def speak() -> None:
        handshake.send_hello(ours, node_id)
        handshake.receive_hello(ours)
        if decides:
            ours.recv(frame.CONTROL_MAX)
        if packet:
            ours.send(packet)
        else:
            ours.close()

    talk = hostile.Attempt(speak)
    try:
        node.join(theirs, wait=hostile.WAIT)
    finally:
        talk.over()
        ours.close()


@pytest.mark.parametrize("decides", [True, False])
@pytest.mark.parametrize(
    "packet",
    [
        b"",
        b"garbage",
        frame.encode_control(frame.REFUSED, b"\xff\xfe not utf-8"),
        frame.encode_pairs(frame.GRANTED, []),
        frame.encode_pairs(frame.GRANTED, [(0, 1), (1, 1)]),
        frame.encode_pairs(frame.CREDIT, [(0, 1)]),
        frame.encode_control(frame.GRANTED, b"12345", 1),
    ],
)
def test_an_owner_that_does_not_finish_the_handshake_properly(victim: Victim, packet: bytes, decides: bool) -> None:
    before = victim.client.statistics()["peers"], descriptors()
    with pytest.raises(IpcError):
        owner_says(victim.client, packet, decides)
    assert (victim.client.statistics()["peers"], descriptors()) == before, "nothing of it stays in the tables"
    victim.check_usable()


def test_an_owner_that_says_nothing(victim: Victim) -> None:
    ours, theirs = handshake.pair()
    with ours, pytest.raises(DeadObjectError, match=r"did not answer within 0\.05 s"):
        victim.client.join(theirs, wait=0.05)
    victim.check_usable()


def test_an_owner_that_sends_nothing_after_hello(victim: Victim) -> None:
    """Both when it should decide and when it was told what was decided."""
    for node_id in (bytes(16), b"\xff" * 16):
        before = victim.client.statistics()["peers"]
        ours, theirs = handshake.pair()
        with ours:
            handshake.send_hello(ours, node_id)
            with pytest.raises(DeadObjectError, match="did not answer"):
                victim.client.join(theirs, wait=0.05)
        assert victim.client.statistics()["peers"] == before
    victim.check_usable()


# --- death, fork, interrupts ---------------------------------------------------------------------------


def test_calls_after_close_say_so(victim: Victim) -> None:
    victim.client.close()
    victim.client.close()
    with pytest.raises(DeadObjectError, match="closed"):
        add_one(victim.proxy)
    ours, theirs = handshake.pair()
    with ours, pytest.raises(DeadObjectError, match="closed"):
        victim.client.join(theirs)


def test_a_proxy_dropped_after_close_writes_into_no_descriptor_that_was_reused(victim: Victim) -> None:
    """The bell of a closed monitor may have become somebody's file."""
    nodes = (victim.client, victim.node)
    bells = (
        {n.monitor._bell for n in nodes} | {n.workers._task_bell for n in nodes} | {n.workers._end_bell for n in nodes}
    )
    proxy, victim.proxy = victim.proxy, None  # type: ignore[assignment]
    victim.client.close()
    victim.node.close()
    pipes = []
    while not bells <= {fd for pair in pipes for fd in pair}:
        pipes.append(os.pipe())
        os.set_blocking(pipes[-1][0], False)
        assert len(pipes) < 200
    del proxy
    for read, write in pipes:
        with pytest.raises(BlockingIOError):
            os.read(read, 8)
        os.close(read)
        os.close(write)


def _target(fd: str) -> str:
    """Return what a descriptor is; "" for the one that listed them."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except FileNotFoundError:
        return ""


def in_a_fork(action: Callable[[], object]) -> int:
    """Run ``action`` in a forked child; return its exit code: 0 if nothing was raised."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            action()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_a_forked_child_is_told_not_to_use_the_connections(victim: Victim) -> None:
    def child() -> None:
        with pytest.raises(ForkedError, match="a forked child cannot use its parent's connections"):
            add_one(victim.proxy)
        data = MessageSequence()
        with pytest.raises(ForkedError):
            victim.proxy.send_request(
                hostile.ADD_ONE, data, MessageSequence(), hostile.MessageOption(hostile.MessageOption.TF_ASYNC)
            )
        with pytest.raises(ForkedError):
            victim.client.context_object(start=False)
        # A fresh start works.
        fresh = Victim()
        fresh.check_usable()
        fresh.close()

    assert in_a_fork(child) == 0
    victim.check_usable()


@pytest.fixture
def others() -> frozenset[str]:
    """What other parts of the process hold: a fork does not close that."""
    return frozenset(os.listdir("/proc/self/fd"))


def test_a_forked_child_holds_none_of_the_sockets(others: frozenset[str], victim: Victim) -> None:
    add_one(victim.proxy)

    def child() -> None:
        left = [target for target in map(_target, set(os.listdir("/proc/self/fd")) - others) if target]
        assert not [target for target in left if "socket:" in target or "eventpoll" in target], left

    assert in_a_fork(child) == 0


def test_death_is_noticed_although_a_forked_child_of_the_dead_lives_on() -> None:
    """A process forks after it connected, then is killed; its own child must not hide that."""
    node = Node(title="mourner")
    node.become_context(hostile.Service())
    ours, theirs = handshake.pair()
    node.serve_root(theirs)
    read, write = os.pipe()
    guest = os.fork()
    if guest == 0:
        try:
            os.close(read)
            proxy = Node(title="guest").join(ours)
            add_one(proxy)
            if os.fork() == 0:
                # The grandchild lives until the test closes the pipe's reading end.
                poller = select.poll()
                poller.register(write, 0)
                os.write(write, b"%d\n" % os.getpid())
                poller.poll(hostile.WAIT * 2000)
                os._exit(0)
            signal.pause()
        finally:
            os._exit(1)
    ours.close()
    os.close(write)
    survivor = int(os.read(read, 20))
    assert node.statistics()["peers"] == 1
    os.kill(guest, signal.SIGKILL)
    os.waitpid(guest, 0)
    until(lambda: node.statistics()["peers"] == 0, "the death is noticed")
    os.kill(survivor, 0)  # it does live on
    os.close(read)
    node.close()
    until(lambda: not os.path.exists(f"/proc/{survivor}") or _is_zombie(survivor), "the grandchild ends")


def _is_zombie(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


class Interrupts:
    """KeyboardInterrupts in the main thread, each a moment after it was ordered (SIGALRM is pytest's own)."""

    def __init__(self) -> None:
        self._delays: queue.SimpleQueue[float | None] = queue.SimpleQueue()
        self._main = threading.get_ident()
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        never = threading.Event()
        while (delay := self._delays.get()) is not None:
            never.wait(delay)  # the moment is the point, nothing is synchronised by it
            signal.pthread_kill(self._main, signal.SIGUSR1)

    def during(self, action: Callable[[], object], delay: float) -> None:
        """Repeat ``action`` until it is interrupted after ``delay`` seconds."""
        try:
            self._delays.put(delay)
            while True:
                action()
        except KeyboardInterrupt:
            return

    def __enter__(self) -> Interrupts:
        self._previous = signal.signal(signal.SIGUSR1, _interrupt)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._delays.put(None)
        self._thread.join()
        signal.signal(signal.SIGUSR1, self._previous)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def some_delay(round_: int) -> float:
    """Return another fraction of a millisecond each time."""
    return (round_ * 7919 % 100) * 0.00001


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # an interrupt right behind socketpair()
def test_interrupts_at_random_times(victim: Victim) -> None:
    """300 KeyboardInterrupts in the main thread: no reply answers another call, nothing is left behind."""
    numbers = iter(range(1, 10_000_000))
    with Interrupts() as interrupts:
        for round_ in range(300):
            interrupts.during(lambda: add_one(victim.proxy, next(numbers)), some_delay(round_))
    gc.collect()
    add_one(victim.proxy)
    until(lambda: victim.client.statistics()["orphans"] == 0, "the lanes that were given up are closed")
    assert victim.client.statistics()["lanes"] <= 3, "interrupted calls leave no lanes open"
    until(lambda: victim.node.statistics()["served_lanes"] <= 3, "their other ends neither")


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # an interrupt right behind socketpair()
def test_interrupts_in_one_way_calls_do_not_upset_the_budget(victim: Victim) -> None:
    """A call that left or did not, one cannot know: the peer must not be accused of lying afterwards."""
    option = hostile.MessageOption(hostile.MessageOption.TF_ASYNC)
    data = MessageSequence()
    data.write_string("x" * 500)
    with Interrupts() as interrupts:
        for round_ in range(200):
            interrupts.during(
                lambda: victim.proxy.send_request(hostile.NOTHING, data, MessageSequence(), option),
                some_delay(round_),
            )
            add_one(victim.proxy)
    victim.check_usable()


# --- small things --------------------------------------------------------------------------------------


def test_one_root_only(victim: Victim) -> None:
    with pytest.raises(RefusedError, match="already offers"):
        victim.node.become_context(RemoteObject("second"))


def test_serve_root_needs_a_root(victim: Victim) -> None:
    ours, theirs = handshake.pair()
    with ours, theirs, pytest.raises(IpcError, match="become_context comes before"):
        victim.client.serve_root(theirs)


def test_without_a_way_to_samgr(victim: Victim) -> None:
    with pytest.raises(NoServiceManagerError):
        victim.client.context_object(start=True)


def test_two_nodes_have_one_connection_however_often_they_meet(victim: Victim) -> None:
    proxies = [join(victim.node, victim.client) for _ in range(5)]
    assert all(proxy is victim.proxy for proxy in proxies), "one proxy per object"
    assert victim.node.statistics()["peers"] == victim.client.statistics()["peers"] == 1


def test_repr_names_the_process(victim: Victim) -> None:
    assert f"pid={os.getpid()}" in repr(victim.node)


def test_no_pidfd_for_a_process_that_is_gone() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    assert node_module._open_pidfd(child) == -1


def test_a_hostile_owner_gets_an_honest_client_disconnected_from_itself_only(victim: Victim, warns: Warns) -> None:
    with HostileOwner(victim.client) as owner:
        owner.post(frame.CREDIT, (10**9, 0))
        warns("were sent")
        until(lambda: dead(owner.proxy), "the liar's proxy is dead")
        victim.check_usable()
