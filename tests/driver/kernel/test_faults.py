"""Faults of other processes and of the device: full, dead, frozen, crowded, forbidden; with words, and not for ever."""

from __future__ import annotations

import os
import resource
import signal
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest

import binderkit as bk
from binderkit.driver.kernel import protocol as p
from binderkit.driver.kernel.node import KernelNode
from binderkit.ipc.option import MessageOption
from binderkit.parcel import MessageSequence
from tests.driver.kernel.raw import Raw, freeze
from tests.driver.kernel.service import Code, Served, add_one, ask
from tests.driver.kernel.state import Attempt, descriptors, held, until

ONEWAY = MessageOption(MessageOption.TF_ASYNC)
LARGE = 200_000
"""Bytes of a body; five fit into a process's buffer, two into the half of it that one-way calls may fill."""


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """The process takes no part meanwhile."""
    os.kill(pid, signal.SIGSTOP)
    try:
        until(lambda: _state(pid) == "T", "the process is stopped")
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def _state(pid: int) -> str:
    with open(f"/proc/{pid}/stat") as facts:
        return facts.read().rpartition(")")[2].split()[0]


def body(size: int, number: int = 0) -> MessageSequence:
    """Return a message of ``size`` bytes that begins with a number."""
    data = MessageSequence()
    data.write_int(number)
    data.write_raw_data_buffer(bytes(4), 4)
    while data.get_size() < size:
        data.write_string("x" * min(30_000, (size - data.get_size()) // 2))
    return data


# --- full ----------------------------------------------------------------------------------------


def test_a_full_buffer_refuses_calls_with_words_and_then_takes_them_again(served: Served, client: KernelNode) -> None:
    proxy = client.context_object(start=False)
    before = held(served.pid, served.device)
    with ExitStack() as stack:
        callers: list[Raw] = []
        with stopped(served.pid):
            for size in (*[LARGE] * 5, 30_000, 8_000, 2_000, 1_000, 500, *[100] * 8, *[24] * 8):
                caller = stack.enter_context(Raw(served.device))
                call = caller.command(p.BC_TRANSACTION, 0, Code.ADD_ONE, struct.pack("=i", 1) + bytes(size - 4))
                caller.exchange(call, room=0)
                if not caller.has_returns():  # those that found no room were answered at once
                    callers.append(caller)
            assert len(callers) > 5
            with pytest.raises(bk.QuotaError, match="buffer of 1 MiB is full of calls it has not finished"):
                proxy.send_request(Code.ADD_ONE, body(1_000, 1), MessageSequence())
        for caller in callers:
            reply = caller.wait_for(p.BR_REPLY, p.BR_FAILED_REPLY)
            assert reply.body == struct.pack("=i", 2)
    assert add_one(proxy, 5) == 6
    until(lambda: held(served.pid, served.device) == before, "everything is given back")


def test_one_way_calls_have_a_budget_and_those_within_it_are_executed(served: Served, client: KernelNode) -> None:
    proxy = client.context_object(start=False)
    sent = 0
    with stopped(served.pid):
        with pytest.raises(bk.QuotaError, match="slow down"):
            while sent < 100:
                proxy.send_request(Code.COUNTED, body(20_000), MessageSequence(), ONEWAY)
                sent += 1
        assert 10 <= sent <= 26, "half of the buffer, and nothing of the rest"
        with pytest.raises(bk.QuotaError):
            proxy.send_request(Code.COUNTED, body(20_000), MessageSequence(), ONEWAY)
    until(lambda: served.counts().counted == sent, "exactly those that were taken are executed")
    proxy.send_request(Code.COUNTED, body(20_000), MessageSequence(), ONEWAY)
    until(lambda: served.counts().counted == sent + 1, "there is room again")


def test_a_flood_that_the_kernel_suspects_is_told_and_ends_nothing(
    served: Served, client: KernelNode, caplog: pytest.LogCaptureFixture
) -> None:
    proxy = client.context_object(start=False)
    sent = 0
    with stopped(served.pid), pytest.raises(bk.QuotaError):
        while sent < 600:
            proxy.send_request(Code.COUNTED, body(1000), MessageSequence(), ONEWAY)
            sent += 1
    assert "suspects this process of flooding" in caplog.text
    until(lambda: served.counts().counted == sent, "all that were taken are executed, the suspicious ones too")


# --- dead -----------------------------------------------------------------------------------------


def test_a_process_that_died_before_the_call(served: Served, client: KernelNode) -> None:
    proxy = client.context_object(start=False)
    assert add_one(proxy) == 2
    served.kill()
    with pytest.raises(bk.DeadObjectError, match="look the object up again"):
        add_one(proxy)
    with pytest.raises(bk.DeadObjectError):
        proxy.send_request(Code.COUNTED, MessageSequence(), MessageSequence(), ONEWAY)
    until(proxy.is_object_dead, "the death is told")
    with pytest.raises(bk.errors.NoServiceManagerError, match="no SAMgr is the context manager"):
        client.context_object(start=False)


def test_a_process_that_dies_in_mid_call(served: Served, client: KernelNode) -> None:
    proxy = client.context_object(start=False)
    with pytest.raises(bk.DeadObjectError):
        ask(proxy, Code.DIE)
    assert served.wait() == 7
    with Served(served.device) as successor:
        assert successor.said == "ready"
        assert add_one(client.context_object(start=False)) == 2, "the next one is found under the same handle"


def test_a_thread_that_is_gone_ends_its_call_and_no_other(served: Served, client: KernelNode) -> None:
    proxy = client.context_object(start=False)
    with pytest.raises(bk.DeadObjectError, match="or its thread ended"):
        ask(proxy, Code.EXIT_THREAD)
    assert add_one(proxy) == 2
    assert not proxy.is_object_dead()


# --- frozen ---------------------------------------------------------------------------------------


def test_a_frozen_process_refuses_calls_and_gets_one_way_calls_later(served: Served, client: KernelNode) -> None:
    proxy = client.context_object(start=False)
    assert add_one(proxy) == 2
    freeze(served.device, served.pid, True)
    try:
        with pytest.raises(bk.RefusedError, match="frozen and takes no calls; thaw it"):
            add_one(proxy)
        with pytest.raises(bk.RefusedError, match="frozen"):
            add_one(proxy, 1, MessageOption(timeout=30.0))
        for _ in range(3):
            proxy.send_request(Code.COUNTED, MessageSequence(), MessageSequence(), ONEWAY)
    finally:
        freeze(served.device, served.pid, False)
    until(lambda: served.counts().counted == 3, "they are delivered when it thaws")
    assert add_one(proxy) == 2


def test_a_process_with_calls_on_their_way_cannot_be_frozen(served: Served, client: KernelNode) -> None:
    proxy = client.context_object(start=False)
    waiting = Attempt(lambda: ask(proxy, Code.WAIT))
    until(lambda: served.counts().waiting == 1, "the call is there")
    with pytest.raises(BlockingIOError):
        freeze(served.device, served.pid, True, wait=1)
    served.open()
    assert waiting.over().error is None


# --- the context manager ----------------------------------------------------------------------------


def test_a_second_context_manager_is_refused_until_the_first_is_gone(served: Served) -> None:
    with Served(served.device) as second:
        assert second.said.startswith(f"RefusedError: cannot become the context manager of {served.device}")
        assert "another process is it already" in second.said
    served.kill()
    with Served(served.device) as third:
        assert third.said == "ready"


@pytest.fixture
def open_device(device: str) -> Iterator[str]:
    """A device that every user may open."""
    before = os.stat(device).st_mode
    os.chmod(device, 0o666)
    yield device
    os.chmod(device, before & 0o777)


def test_another_user_may_not_follow_a_context_manager(open_device: str) -> None:
    with Served(open_device) as first:
        assert first.said == "ready"
    with Served(open_device, uid=1234) as second:
        assert second.said.startswith("RefusedError: cannot become the context manager")
        assert "then only that user may" in second.said


def test_a_device_that_this_user_may_not_open(device: str) -> None:
    assert os.stat(device).st_mode & 0o777 == 0o600
    with Served(device, uid=1234) as process:
        assert process.said.startswith(f"RefusedError: user 1234 may not open {device}")
        assert "chmod or a udev rule" in process.said


# --- no descriptors ---------------------------------------------------------------------------------


@contextmanager
def no_descriptors(pid: int) -> Iterator[None]:
    """The process cannot open another descriptor meanwhile."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (3, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_a_service_without_descriptors_refuses_those_of_calls_only(served: Served, client: KernelNode) -> None:
    proxy = client.context_object(start=False)
    before = held(served.pid, served.device)
    with MessageSequence() as data, MessageSequence() as reply:
        data.write_file_descriptor(0)
        with no_descriptors(served.pid):
            with pytest.raises(bk.IpcError):
                proxy.send_request(Code.READ_FD, data, reply)
            proxy.send_request(Code.READ_FD, data, reply, ONEWAY)
            assert add_one(proxy) == 2
        proxy.send_request(Code.READ_FD, data, reply)
        assert reply.read_string() == ""
    until(lambda: held(served.pid, served.device) == before, "everything is given back")


def test_a_client_without_descriptors_loses_those_of_replies_only(served: Served, client: KernelNode) -> None:
    proxy = client.context_object(start=False)
    before = held(served.pid, served.device)
    with no_descriptors(os.getpid()):
        with pytest.raises(bk.IpcError):
            ask(proxy, Code.GIVE_FD)
        assert add_one(proxy) == 2
    ask(proxy, Code.GIVE_FD).reclaim()
    until(lambda: held(served.pid, served.device) == before, "everything is given back")


# --- signals and forks --------------------------------------------------------------------------------


@contextmanager
def handled(number: int, handler: Callable[[int, object], None]) -> Iterator[None]:
    """Have a signal handled that way."""
    before = signal.signal(number, handler)
    try:
        yield
    finally:
        signal.signal(number, before)


def test_signals_during_a_call_change_nothing(served: Served, client: KernelNode) -> None:
    proxy = client.context_object(start=False)
    came: list[int] = []
    me = threading.get_ident()

    def disturb() -> None:
        until(lambda: served.counts().waiting == 1, "the call is there")
        for already in range(5):
            signal.pthread_kill(me, signal.SIGUSR1)
            until(lambda n=already: len(came) > n, "the signal is handled")  # type: ignore[misc]
        served.open()

    with handled(signal.SIGUSR1, lambda number, _: came.append(number)):
        disturber = Attempt(disturb)
        ask(proxy, Code.WAIT)
    assert disturber.over().error is None
    assert len(came) == 5
    assert served.counts().most == 1, "executed once"


@pytest.mark.parametrize("kind", [KeyboardInterrupt, TimeoutError, bk.DeadObjectError])
def test_a_call_that_a_signal_ends_leaves_its_reply_to_nobody(
    served: Served, client: KernelNode, kind: type[BaseException]
) -> None:
    proxy = client.context_object(start=False)
    assert add_one(proxy) == 2
    before = held(served.pid, served.device)
    me = threading.get_ident()

    def interrupt(_: int, __: object) -> None:
        raise kind("enough")

    def disturb() -> None:
        until(lambda: served.counts().waiting == 1, "the call is there")
        signal.pthread_kill(me, signal.SIGUSR1)

    with handled(signal.SIGUSR1, interrupt):
        disturber = Attempt(disturb)
        with pytest.raises(kind, match="enough"):
            ask(proxy, Code.WAIT)
    assert disturber.over().error is None
    again = Attempt(lambda: until(lambda: served.open() or not served.counts().waiting, "nothing waits"))  # type: ignore[func-returns-value]
    assert add_one(proxy, 10) == 11, "its own reply, not the one that nobody waited for"
    assert again.over().error is None
    assert add_one(proxy, 20) == 21
    until(lambda: held(served.pid, served.device) == before, "nothing is left")


def test_a_forked_child_lets_go_of_the_device_and_says_what_is_wrong(served: Served, client: KernelNode) -> None:
    proxy = client.context_object(start=False)
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os._exit(_told_in_child(proxy, writing))
    os.close(writing)
    with open(reading) as told:
        said = told.read()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0, said
    assert said.startswith(f"ForkedError: this object belongs to process {os.getpid()}")
    assert add_one(proxy) == 2, "the parent goes on"


def _told_in_child(proxy: object, writing: int) -> int:
    try:
        add_one(proxy)
    except BaseException as error:
        os.write(writing, f"{type(error).__name__}: {error}".encode())
        with open("/proc/self/maps") as maps:
            mapped = any("/dev/b" in line for line in maps)
        opened = descriptors(os.getpid(), "/dev/b")
        return int(mapped or opened > 0)
    return 2
