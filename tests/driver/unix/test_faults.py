"""Faults of the machine and of other processes: no descriptors, stopped and killed processes, handlers that exit."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import binderkit as bk
from binderkit import process
from binderkit.driver.unix import frame, handshake, rendezvous
from binderkit.driver.unix.node import Node
from binderkit.driver.unix.workers import Workers
from binderkit.errors import DescriptorError
from binderkit.memory import pool
from binderkit.parcel import MessageSequence
from tests.driver.unix import hostile
from tests.driver.unix.hostile import WAIT, Attempt, Hostile, HostileOwner, Victim, add_one, join, until

Warns = Callable[[str], None]


@contextmanager
def few_descriptors(more: int = 0) -> Iterator[None]:
    """Let this process open only ``more`` further descriptors."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    probe = os.dup(0)  # the lowest free number
    os.close(probe)
    used = [int(name) for name in os.listdir("/proc/self/fd")]
    fillers = [os.dup(0) for _ in range(max(used) - len(used) + 2)]  # no gaps below the highest one
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(*used, *fillers) + 1 + more, before[1]))
    gaps: list[int] = []
    try:
        if not more:
            try:
                while True:
                    gaps.append(os.dup(0))
            except OSError as error:
                assert error.errno == 24
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
        for fd in (*fillers, *gaps):
            os.close(fd)


def stopped(pid: int) -> bool:
    """Whether the process is stopped by a signal."""
    with open(f"/proc/{pid}/stat") as facts:
        return facts.read().rpartition(")")[2].split()[0] == "T"


# --- descriptors ---------------------------------------------------------------------------------


def test_accept_without_descriptors_neither_spins_nor_floods_the_log(
    victim: Victim, runtime_dir: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = runtime_dir / "test.sock"
    victim.node.listen(path, rendezvous.same_user)
    guest = Node(title="guest")
    try:
        waiting = handshake.socket.socket(handshake.socket.AF_UNIX, handshake.socket.SOCK_SEQPACKET)
        with few_descriptors():
            waiting.connect(os.fspath(path))
            until(lambda: "cannot accept" in caplog.text, "it is told")
            before = time.process_time()
            assert not threading.Event().wait(0.5), "the time that is measured"
            used = time.process_time() - before
            assert used < 0.25, f"{used} s of processor time in half a second of waiting"
            assert caplog.text.count("cannot accept") == 1
        add_one(guest.join(waiting))
    finally:
        guest.close()


def test_no_descriptors_left_in_a_client(victim: Victim) -> None:
    """New lanes, introductions and proxies to pass on are refused with words; all of it works again afterwards."""
    third = Node(title="third")
    third.become_context(hostile.Service())
    gate = Attempt(lambda: None).over()
    try:
        foreign = join(third, victim.client)
        data = MessageSequence()
        data.write_remote_object(foreign)
        with few_descriptors():
            with pytest.raises((bk.QuotaError, DescriptorError), match="no descriptors left"):
                victim.proxy.send_request(hostile.KEEP, data, MessageSequence())
            # A second call at the same time needs a lane of its own.
            held = victim.proxy._connection.free  # type: ignore[attr-defined]
            lane = held.pop()
            with pytest.raises(bk.QuotaError, match="no descriptors left"):
                add_one(victim.proxy)
            held.append(lane)
            add_one(victim.proxy)
        victim.proxy.send_request(hostile.KEEP, data, MessageSequence())
        victim.check_usable()
        assert gate.error is None
    finally:
        victim.service.kept = None
        third.close()


@pytest.mark.parametrize("oneway", [False, True])
def test_no_descriptors_left_in_a_server_for_those_of_a_call(victim: Victim, warns: Warns, oneway: bool) -> None:
    """The call is refused, or its loss is told; the lane, its order and its budget go on."""
    with Hostile(victim) as peer:
        lane = peer.shake().lane(frame.LANE_ONEWAY if oneway else frame.LANE_SYNC)
        kind = frame.ONEWAY if oneway else frame.CALL
        reading, writing = os.pipe()
        os.write(writing, b"text")
        add_one(victim.proxy)
        packet = hostile.call(
            bytes(24), [frame.Entry(0, frame.OBJ_FD, 0, 0, 0)], kind=kind, code=hostile.READ_FD, fds=1
        )
        with few_descriptors():
            lane.send(packet)
            handshake.socket.send_fds(lane, [frame.FDS_FOLLOW], [reading])
            if oneway:
                warns("is lost")
            else:
                assert "no descriptors left" in hostile.failure_text(lane.recv(frame.PACKET_MAX))
        lane.send(hostile.call(hostile.int_bytes(1), kind=kind, seq=2, code=hostile.NOTHING))
        if oneway:
            peer.post(frame.CREDIT_QUERY)
            executed = len(packet) + len(hostile.call(hostile.int_bytes(1)))
            until(lambda: _credit(peer) == executed, "both calls are counted as executed")
        else:
            assert frame.decode(lane.recv(frame.PACKET_MAX)).flags == 0
        os.close(reading)
        os.close(writing)
        victim.check_usable()


def _credit(peer: Hostile) -> int:
    peer.post(frame.CREDIT_QUERY)
    return frame.decode_pairs(peer.receive(frame.CREDIT))[0][0]


def test_no_descriptors_left_for_those_of_a_reply(victim: Victim) -> None:
    with HostileOwner(victim.client) as owner:
        attempt = Attempt(lambda: owner.proxy.send_request(hostile.MAKE, MessageSequence(), MessageSequence()))
        lane, got = owner.next_call()
        with few_descriptors():
            entry = frame.Entry(0, frame.OBJ_FD, 0, 0, 0)
            lane.send(hostile.reply_to(got, bytes(24), [entry], fds=1))
            handshake.socket.send_fds(lane, [frame.FDS_FOLLOW], [0])
            assert isinstance(attempt.over().error, DescriptorError)
        attempt = Attempt(lambda: add_one(owner.proxy))
        lane.send(hostile.reply_to(frame.decode(lane.recv(frame.PACKET_MAX)), hostile.int_bytes(2)))
        assert attempt.over().error is None, "on the same lane"


# --- stopped processes ---------------------------------------------------------------------------


def test_a_stopped_process_disturbs_nobody_else(victim: Victim, runtime_dir: object) -> None:
    """Proxies dropped, slots given back, one-way calls sent: what it does not read waits, others are served."""
    process.shutdown()
    try:
        with bk.spawn("tests.stress.service:Service") as still, bk.spawn("tests.stress.service:Service") as other:
            from tests.stress import service

            made = []
            for _ in range(300):
                reply = MessageSequence()
                still.root.send_request(service.MAKE, MessageSequence(), reply)
                made.append(reply.read_remote_object())
            os.kill(still.pid, signal.SIGSTOP)
            until(lambda: stopped(still.pid), "it stops")
            while made:
                made.pop()
                process.local_node().flush_released()  # one message each
            for _ in range(200):  # what a socket takes
                service.tell(still.root)
            with pytest.raises(bk.CallTimeoutError):
                service.ping(still.root, timeout=0.05)
            service.ping(other.root)
            service.raw(other.root, 300_000)
            os.kill(still.pid, signal.SIGCONT)
            service.ping(still.root)
            until(lambda: service.counted(still.root) == 200, "all one-way calls arrive")
    finally:
        process.shutdown()
        pool.trim()


def test_giving_up_a_peer_from_within_a_one_way_call_does_not_deadlock(
    victim: Victim, warns: Warns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message that is one too many is the one-way sender's own: it holds the lock that the peer's end takes."""
    from binderkit.driver.unix import outbox

    monkeypatch.setattr(outbox, "MOST", 5)
    with HostileOwner(victim.client) as owner:
        peer = owner.proxy._connection
        until_full = frame.encode_control(frame.CREDIT_QUERY)
        while peer.outbox.post(until_full, []) < 5:  # type: ignore[attr-defined]
            pass
        option = bk.MessageOption(bk.MessageOption.TF_ASYNC)
        attempt = Attempt(lambda: owner.proxy.send_request(1, MessageSequence(), MessageSequence(), option))
        assert attempt.over().error is None or isinstance(attempt.error, bk.DeadObjectError)
        warns("does not read its control connection")
    victim.check_usable()


# --- threads and lanes ---------------------------------------------------------------------------


@pytest.mark.parametrize("flags", [bk.MessageOption.TF_SYNC, bk.MessageOption.TF_ASYNC])
def test_sys_exit_in_a_handler_ends_the_call_only(victim: Victim, flags: int) -> None:
    class Exits(hostile.RemoteObject):
        def on_remote_message_request(
            self, code: int, data: MessageSequence, reply: MessageSequence, option: bk.MessageOption
        ) -> bool:
            raise SystemExit("enough")

    owner = Node(title="exits")
    owner.become_context(Exits("tests.IExits"))
    try:
        proxy = join(owner, victim.client)
        for _ in range(40):  # more than there may be threads
            if flags:
                proxy.send_request(1, MessageSequence(), MessageSequence(), bk.MessageOption(flags))
                continue
            with pytest.raises(bk.RemoteError, match="enough"):
                proxy.send_request(1, MessageSequence(), MessageSequence(), bk.MessageOption(timeout=WAIT))
        with pytest.raises(bk.RemoteError, match="enough"):
            proxy.send_request(1, MessageSequence(), MessageSequence(), bk.MessageOption(timeout=WAIT))
        until(lambda: owner.statistics()["waiting"] == owner.statistics()["threads"], "every thread is there")
    finally:
        owner.close()


def test_a_task_that_exits_leaves_the_pool_whole() -> None:
    workers = Workers("exits", lambda: None)
    done = threading.Event()

    def leave() -> None:
        raise SystemExit

    try:
        for _ in range(40):
            workers.submit(leave)
        workers.submit(done.set)
        assert done.wait(WAIT)
        until(lambda: workers.statistics()["waiting"] == workers.statistics()["threads"], "every thread is there")
    finally:
        workers.close()


def test_a_lane_that_is_ready_while_threads_end_for_a_loop_is_not_lost() -> None:
    """A thread that takes a lane's event and then sees that it is to end has the lane watched again."""

    class Ready:
        def __init__(self) -> None:
            self.served = threading.Event()

        def serve(self) -> None:
            self.served.set()

        serve_now = serve

    import asyncio

    for _ in range(30):
        workers = Workers("switch", lambda: None)
        loop = asyncio.new_event_loop()
        bells = [os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK) for _ in range(20)]
        sources = [Ready() for _ in bells]
        try:
            for bell, source in zip(bells, sources, strict=True):
                workers.add(bell, source)
            ringing = threading.Thread(target=lambda bells=bells: [os.eventfd_write(bell, 1) for bell in bells])
            ringing.start()
            workers.reserve_for(loop)
            ringing.join()
            workers.attach_loop(loop)
            end = time.monotonic() + WAIT
            while not all(source.served.is_set() for source in sources):
                assert time.monotonic() < end, "a lane is lost"
                loop.call_soon(loop.stop)
                loop.run_forever()
        finally:
            workers.detach_loop()
            workers.close()
            loop.close()
            for bell in bells:
                os.close(bell)


def test_a_late_reply_to_a_call_back_that_was_given_up(victim: Victim) -> None:
    """The service's handler gives its call back up; the reply of our slow handler comes behind the service's own."""
    gate = threading.Event()

    class Relay(hostile.RemoteObject):
        def on_remote_message_request(
            self, code: int, data: MessageSequence, reply: MessageSequence, option: bk.MessageOption
        ) -> bool:
            back = data.read_remote_object()
            given = MessageSequence()
            given.write_remote_object(back)  # goes home; may be let go only when that call was read
            try:
                back.send_request(1, given, MessageSequence(), bk.MessageOption(timeout=0.02))
            except bk.CallTimeoutError:
                gate.set()
                return True
            return False

    class Slow(hostile.RemoteObject):
        def on_remote_message_request(
            self, code: int, data: MessageSequence, reply: MessageSequence, option: bk.MessageOption
        ) -> bool:
            return gate.wait(WAIT)

    owner = Node(title="relay")
    owner.become_context(Relay("tests.IRelay"))
    try:
        proxy = join(owner, victim.client)
        for _ in range(5):
            gate.clear()
            data = MessageSequence()
            data.write_remote_object(Slow("tests.ISlow"))
            proxy.send_request(1, data, MessageSequence(), bk.MessageOption(timeout=WAIT))
        assert proxy.is_object_dead() is False
        assert owner.statistics()["peers"] == 1
    finally:
        owner.close()


class Interrupted(Exception):
    """What a signal makes the main thread raise wherever it waits."""


@pytest.fixture
def interruptible() -> Iterator[None]:
    """SIGUSR1 interrupts the main thread."""

    def interrupt(*_: object) -> None:
        raise Interrupted

    former = signal.signal(signal.SIGUSR1, interrupt)
    yield
    signal.signal(signal.SIGUSR1, former)


def interrupt_main() -> None:
    """Interrupt the main thread."""
    signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)


def test_a_reply_that_comes_while_an_inner_call_waits(victim: Victim, interruptible: None) -> None:
    """The answer to an outer call back arrives on the lane while its thread is in an inner one: it is kept, not lost.

    Client -> outer handler -> call back -> inner call, given up there by a signal -> the call back returns, while the
    inner handler still runs on the thread that waits for that very reply, and calls back itself.
    """
    gone_on = threading.Event()
    home = hostile.RemoteObject("tests.IHome")

    def call(proxy: bk.IRemoteObject, code: int) -> int:
        reply = MessageSequence()
        proxy.send_request(code, MessageSequence(), reply)
        return reply.read_int()

    class Relay(hostile.RemoteObject):
        back: bk.IRemoteObject

        def on_remote_message_request(
            self, code: int, data: MessageSequence, reply: MessageSequence, option: bk.MessageOption
        ) -> bool:
            if code == 1:
                self.back = data.read_remote_object()
                reply.write_int(call(self.back, 1) + 1)
            else:
                interrupt_main()
                assert gone_on.wait(WAIT)
                reply.write_int(call(self.back, 2))
            return True

    class Home(hostile.RemoteObject):
        def on_remote_message_request(
            self, code: int, data: MessageSequence, reply: MessageSequence, option: bk.MessageOption
        ) -> bool:
            if code == 1:
                with pytest.raises(Interrupted):
                    call(proxy, 2)
                gone_on.set()
            reply.write_int(40 + code)
            reply.write_remote_object(home)
            return True

    owner = Node(title="relay")
    owner.become_context(Relay("tests.IRelay"))
    try:
        proxy = join(owner, victim.client)
        for _ in range(5):
            gone_on.clear()
            data, reply = MessageSequence(), MessageSequence()
            data.write_remote_object(Home("tests.IHome"))
            proxy.send_request(1, data, reply, bk.MessageOption(timeout=WAIT))
            assert reply.read_int() == 42
    finally:
        owner.close()


def test_a_call_that_called_back_is_cancelled_when_it_is_given_up(victim: Victim, interruptible: None) -> None:
    cancelled = threading.Event()

    class Waits(hostile.RemoteObject):
        def on_remote_message_request(
            self, code: int, data: MessageSequence, reply: MessageSequence, option: bk.MessageOption
        ) -> bool:
            if code == 2:
                return True
            data.read_remote_object().send_request(1, MessageSequence(), MessageSequence())
            interrupt_main()
            until(bk.IPCSkeleton.is_call_cancelled, "the handler is told that nobody waits")
            cancelled.set()
            return True

    class CallsBack(hostile.RemoteObject):
        def on_remote_message_request(
            self, code: int, data: MessageSequence, reply: MessageSequence, option: bk.MessageOption
        ) -> bool:
            proxy.send_request(2, MessageSequence(), MessageSequence())
            return True

    owner = Node(title="waits")
    owner.become_context(Waits("tests.IWaits"))
    try:
        proxy = join(owner, victim.client)
        data = MessageSequence()
        data.write_remote_object(CallsBack("tests.ICallsBack"))
        with pytest.raises(Interrupted):
            proxy.send_request(1, data, MessageSequence())
        assert cancelled.wait(WAIT)
    finally:
        owner.close()


# --- the introducing process is killed --------------------------------------------------------------

_INTRODUCER = """
import os, signal, socket, sys
from binderkit.driver.unix import frame, handshake
step, owner_fd = sys.argv[1], int(sys.argv[2])
control = socket.socket(fileno=owner_fd)
handshake.send_hello(control, b"\\xff" * 16)
handshake.receive_hello(control)
assert frame.decode_control(control.recv(frame.CONTROL_MAX)).kind == frame.GRANTED
passed = socket.socket(fileno=int(sys.argv[3]))
if step != "before INTRODUCE is sent":
    socket.send_fds(control, [frame.encode_pairs(frame.INTRODUCE, [(0, 0)])], [int(sys.argv[4])])
os.close(int(sys.argv[4]))
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("step", ["before INTRODUCE is sent", "before HELLO", "between the HELLOs", "before GRANTED"])
def test_the_introducing_process_is_killed_in_the_middle(victim: Victim, step: str) -> None:
    """It ends with SIGKILL; owner and guest settle it without it, or the guest is told that the owner is gone."""
    theirs, to_introducer = handshake.pair()
    guest_end, owner_end = handshake.pair()
    victim.node.serve_root(theirs)
    command = [sys.executable, "-c", _INTRODUCER, step, *(str(end.fileno()) for end in (to_introducer, guest_end))]
    command.append(str(owner_end.fileno()))
    fds = [to_introducer.fileno(), guest_end.fileno(), owner_end.fileno()]
    introducer = subprocess.Popen(command, pass_fds=fds)
    to_introducer.close()
    owner_end.close()
    guest = Node(title="guest")
    try:
        if step == "between the HELLOs":
            assert guest_end.recv(frame.CONTROL_MAX, handshake.socket.MSG_PEEK), "the owner's HELLO is there"
        if step != "before HELLO":
            assert introducer.wait(WAIT) == -signal.SIGKILL
        if step == "before GRANTED":
            until(lambda: victim.node.statistics()["peers"] == 1, "the owner has buried the introducer")
        if step == "before INTRODUCE is sent":
            with pytest.raises(bk.DeadObjectError, match="hung up"):
                guest.join(guest_end)
        else:
            add_one(guest.join(guest_end))
        assert introducer.wait(WAIT) == -signal.SIGKILL
        until(lambda: victim.node.statistics()["introductions"] == 0, "no introduction is left")
        victim.check_usable()
    finally:
        guest.close()
        introducer.wait(WAIT)
