"""What is special to the loopback driver; the rules it shares with the others are in tests/contract."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

import binderkit as bk
from binderkit.driver.loopback import LoopbackNetwork, LoopbackProcess
from binderkit.errors import InvalidObjectError, NoServiceManagerError
from binderkit.ipc.driver import Connection, Driver, peek_driver, set_driver

WHO, BACK, WAIT = 1, 2, 3


class Answers(bk.RemoteObject):
    """Tells who calls, on which thread; gives an object back; waits."""

    def __init__(self) -> None:
        super().__init__("answers")
        self.began = threading.Event()
        self.go_on = threading.Event()

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        if code == WHO:
            reply.write_int(bk.IPCSkeleton.get_calling_pid())
            reply.write_int(bk.IPCSkeleton.get_calling_uid())
            reply.write_long(threading.get_ident())
        elif code == BACK:
            reply.write_remote_object(data.read_remote_object())
        elif code == WAIT:
            self.began.set()
            return self.go_on.wait(10)
        return True


@pytest.fixture
def network() -> Iterator[LoopbackNetwork]:
    with LoopbackNetwork() as network:
        yield network


@pytest.fixture
def pair(network: LoopbackNetwork) -> tuple[LoopbackProcess, LoopbackProcess]:
    return network.process(pid=10, uid=20), network.process(pid=30, uid=40)


def call(target: bk.IRemoteObject, code: int, *objects: bk.IRemoteObject) -> bk.MessageSequence:
    data, reply = bk.MessageSequence(), bk.MessageSequence()
    for one in objects:
        data.write_remote_object(one)
    target.send_request(code, data, reply)
    return reply


def test_it_offers_what_a_driver_must(pair: tuple[LoopbackProcess, LoopbackProcess]) -> None:
    here, there = pair
    assert isinstance(here, Driver)
    assert isinstance(here.link(there), Connection)
    assert here.link(there) is here.link(there)


def test_a_call_runs_on_the_calling_thread_with_the_identity_given(
    pair: tuple[LoopbackProcess, LoopbackProcess],
) -> None:
    here, there = pair
    reply = call(there.offer(Answers(), here), WHO)
    assert (reply.read_int(), reply.read_int(), reply.read_long()) == (10, 20, threading.get_ident())


def test_processes_have_pids_of_their_own_and_our_user(network: LoopbackNetwork) -> None:
    first, second = network.process(), network.process()
    assert first.identity.pid != second.identity.pid
    assert (first.identity.uid, first.identity.gid) == (os.getuid(), os.getgid())


def test_an_object_of_another_process_cannot_be_sent_as_ones_own(network: LoopbackNetwork) -> None:
    first, second, third = network.process(), network.process(), network.process()
    of_first = first.offer(Answers(), second)
    target = first.offer(Answers(), third)
    with pytest.raises(InvalidObjectError, match="cannot be passed on"):
        call(target, BACK, of_first)
    with pytest.raises(InvalidObjectError, match="its own objects directly"):
        first.offer(Answers(), first)


def test_the_context_object_belongs_to_the_network(network: LoopbackNetwork) -> None:
    owner, user = network.process(), network.process()
    with pytest.raises(NoServiceManagerError):
        user.context_object(start=True)
    owner.become_context(Answers())
    with pytest.raises(bk.RefusedError):
        user.become_context(Answers())
    context = user.context_object(start=False)
    assert context is user.context_object(start=False)
    assert call(context, WHO).read_int() == user.identity.pid
    assert call(owner.context_object(start=False), WHO).read_int() == owner.identity.pid
    owner.kill()
    assert context.is_object_dead()
    with pytest.raises(NoServiceManagerError):
        user.context_object(start=False)
    user.become_context(Answers())


def test_the_skeleton_uses_the_process_that_was_set(network: LoopbackNetwork) -> None:
    owner, user = network.process(), network.process()
    owner.become_context(Answers())
    before = peek_driver()
    set_driver(user)
    try:
        assert call(bk.IPCSkeleton.get_context_object(), WHO).read_int() == user.identity.pid
        bk.IPCSkeleton.set_max_work_thread_num(3)
    finally:
        set_driver(before)


def test_a_reply_after_the_death_of_the_service_is_not_delivered(
    pair: tuple[LoopbackProcess, LoopbackProcess],
) -> None:
    here, there = pair
    stub = Answers()
    proxy = there.offer(stub, here)
    outcome: list[BaseException] = []

    def wait() -> None:
        try:
            call(proxy, WAIT)
        except bk.IpcError as error:
            outcome.append(error)

    caller = threading.Thread(target=wait)
    caller.start()
    assert stub.began.wait(10)
    there.kill()
    stub.go_on.set()
    caller.join(10)
    assert [type(error) for error in outcome] == [bk.DeadObjectError]


def test_a_closed_process_does_nothing_more_and_closing_twice_is_fine(
    pair: tuple[LoopbackProcess, LoopbackProcess],
) -> None:
    here, there = pair
    proxy = there.offer(Answers(), here)
    here.close()
    here.close()
    with pytest.raises(bk.DeadObjectError):
        call(proxy, WHO)
    with pytest.raises(bk.DeadObjectError):
        there.offer(Answers(), here)
    here.submit(lambda: pytest.fail("a task ran in a process that ended"))


def test_threads_end_with_the_network() -> None:
    with LoopbackNetwork() as network:
        here, there = network.process(), network.process()
        stub = Answers()
        proxy = there.offer(stub, here)
        for code in (WHO, WHO, WAIT):
            proxy.send_request(code, bk.MessageSequence(), bk.MessageSequence(), bk.MessageOption(1))
        assert stub.began.wait(10)
        assert any(thread.name.startswith("binderkit-loopback") for thread in threading.enumerate())
        stub.go_on.set()
    assert not any(thread.name.startswith("binderkit-loopback") for thread in threading.enumerate())
