"""Many calls at once: as many run as the limit says, the rest waits its turn, and nothing waits for ever."""

from __future__ import annotations

import struct

from binderkit.driver.kernel import protocol as p
from binderkit.driver.kernel.node import KernelNode
from binderkit.ipc.option import MessageOption
from binderkit.parcel import MessageSequence
from tests.driver.kernel.raw import Raw, own
from tests.driver.kernel.service import Code, Served, add_one, ask
from tests.driver.kernel.state import Attempt, threads, until

ONEWAY = MessageOption(MessageOption.TF_ASYNC)


def test_as_many_calls_as_the_limit_says_run_at_once_and_the_rest_follows(served: Served, client: KernelNode) -> None:
    proxy = client.context_object(start=False)
    attempts = [Attempt(lambda: ask(proxy, Code.WAIT)) for _ in range(24)]
    until(lambda: served.counts().waiting == 16, "as many as the limit says are in handlers")
    last = Attempt(lambda: add_one(proxy))
    assert served.counts().waiting == 16
    while any(attempt.running for attempt in attempts):
        served.open()
    assert [attempt.over().error for attempt in attempts] == [None] * 24
    assert last.over().result == 2
    assert served.counts().most == 16
    assert threads(served.pid, served.device) >= 16


def test_a_demand_that_the_limit_refused_is_met_when_it_rises(served: Served, client: KernelNode) -> None:
    proxy = client.context_object(start=False)
    served.set_max_threads(1)
    first = Attempt(lambda: ask(proxy, Code.WAIT))
    until(lambda: served.counts().waiting == 1, "the only thread is in a handler")
    second = Attempt(lambda: ask(proxy, Code.WAIT))
    served.set_max_threads(2)
    until(lambda: served.counts().waiting == 2, "another thread")
    served.open()
    assert (first.over().error, second.over().error) == (None, None)


def test_exhausted_threads_that_wait_for_others_are_no_deadlock(served: Served, client: KernelNode) -> None:
    """The one thread waits for another process, which calls back by a way that is not the chain of the call."""
    proxy = client.context_object(start=False)
    served.set_max_threads(1)
    with Raw(served.device) as service:
        service.exchange(p.WORD.pack(p.BC_ENTER_LOOPER), room=0)
        service.free(service.call(Code.KEEP, own(1), [0]))
        calling = Attempt(lambda: ask(proxy, Code.CALL, 41).read_int())
        call = service.next_call()
        assert add_one(proxy) == 2, "while the only thread waits"
        service.answer(call, struct.pack("=i", 42))
        assert calling.over().result == 42
        ask(proxy, Code.DROP)


def test_the_limit_holds_when_a_thread_that_waited_comes_back(served: Served, client: KernelNode) -> None:
    proxy = client.context_object(start=False)
    served.set_max_threads(1)
    with Raw(served.device) as service:
        service.exchange(p.WORD.pack(p.BC_ENTER_LOOPER), room=0)
        service.free(service.call(Code.KEEP, own(1), [0]))
        calling = Attempt(lambda: ask(proxy, Code.CALL, 41).read_int())
        call = service.next_call()
        waiting = [Attempt(lambda: ask(proxy, Code.WAIT)) for _ in range(3)]
        until(lambda: served.counts().waiting == 1, "another thread took the place of the one that waits")
        service.answer(call, struct.pack("=i", 42))
        assert calling.over().result == 42
        while any(attempt.running for attempt in waiting):
            served.open()
        assert served.counts().most == 1
        ask(proxy, Code.DROP)


def test_a_limit_that_is_lowered_holds_for_the_threads_that_there_are(served: Served, client: KernelNode) -> None:
    proxy = client.context_object(start=False)
    attempts = [Attempt(lambda: ask(proxy, Code.WAIT)) for _ in range(4)]
    until(lambda: served.counts().waiting == 4, "four at once")
    served.set_max_threads(1)
    served.open()
    assert [attempt.over().error for attempt in attempts] == [None] * 4
    assert add_one(proxy) == 2
    until(lambda: threads(served.pid, served.device, waiting=True, looper=True) == 1, "one takes calls")
    attempts = [Attempt(lambda: ask(proxy, Code.WAIT)) for _ in range(3)]
    until(lambda: served.counts().waiting == 1, "one at once")
    assert served.counts().waiting == 1
    served.set_max_threads(3)
    until(lambda: served.counts().waiting == 3, "three at once")
    served.open()
    assert [attempt.over().error for attempt in attempts] == [None] * 3


def test_a_thread_whose_own_call_ran_out_of_time_goes_on_taking_calls(served: Served, client: KernelNode) -> None:
    """Leaving the device is how a thread gives up its call; it must come back as what it was."""
    proxy = client.context_object(start=False)
    with Raw(served.device) as silent:
        silent.exchange(p.WORD.pack(p.BC_ENTER_LOOPER), room=0)
        silent.free(silent.call(Code.KEEP, own(1), [0]))
        data = MessageSequence()
        data.write_int(1)
        proxy.send_request(Code.CALL_BRIEFLY, data, MessageSequence(), ONEWAY)
        until(lambda: served.counts().counted == 1, "its time is over")
        until(lambda: threads(served.pid, served.device, waiting=True), "a thread waits for calls")
        assert not threads(served.pid, served.device, waiting=True, looper=False), "all that wait entered as takers"
        ask(proxy, Code.DROP)
