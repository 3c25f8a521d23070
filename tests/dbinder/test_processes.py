"""Two devices with real local drivers and real processes: the socket driver on both ends, kill -9, real descriptors."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

import binderkit as bk
from binderkit.driver.unix import handshake
from binderkit.driver.unix.node import Node
from binderkit.errors import DeadObjectError, RefusedError, RpcLimitError
from tests.dbinder.devices import Recipient, eventually
from tests.dbinder.real import Real
from tests.dbinder.service import Code, Service, call, echo


@pytest.fixture
def real(request: pytest.FixtureRequest) -> Iterator[Real]:
    real = Real(getattr(request, "param", "tests.dbinder.child:trusting"))
    try:
        yield real
    finally:
        real.close()


def test_from_process_to_process(real: Real) -> None:
    proxy = real.get()
    assert echo(proxy) == "hello"
    assert real.get() is proxy
    reply = call(proxy, Code.WHO)
    assert reply.read_string() == real.udid
    assert (reply.read_int(), reply.read_int(), reply.read_int()) == (-1, -1, os.getpid())
    assert call(proxy, Code.LATER).read_string() == real.udid


def test_a_callback_into_the_calling_process(real: Real) -> None:
    mine = Service("test.ICallback")

    def write(data: Any) -> None:
        data.write_remote_object(mine)
        data.write_string("nested")

    # The callback's process here is the same as the gateway's, which may speak for devices in it.
    assert call(real.get(), Code.CALL_BACK, write).read_string() == f"nested via {real.udid[:4]}"


def test_large_raw_data_and_ashmem(real: Real) -> None:
    proxy = real.get()
    content = os.urandom(3_000_000)

    def write(data: Any) -> None:
        data.write_int(len(content))
        data.write_raw_data_buffer(content, len(content))

    reply = call(proxy, Code.RAW, write)
    assert bytes(reply.read_raw_data_buffer(len(content))) == content[::-1]
    with bk.Ashmem.create("test", 5000) as memory:
        memory.map_read_write_ashmem()
        memory.write_data_to_ashmem(content, 5000, 0)
        answer = call(proxy, Code.ASHMEM, lambda data: data.write_ashmem(memory))
    with answer.read_ashmem() as got:
        got.map_readonly_ashmem()
        assert got.read_data_from_ashmem(5000, 0) == content[:5000][::-1]
    answer.reclaim()
    reply.reclaim()


def test_kill_9_on_the_other_device_is_known_at_once(real: Real) -> None:
    proxy, recipient = real.get(), Recipient()
    proxy.register_death_recipient(recipient)
    start = time.monotonic()
    real.child.kill()
    assert recipient.event.wait(5)
    assert time.monotonic() - start < 1.0  # 50 ms on an idle machine; here the tests of others run
    with pytest.raises(DeadObjectError):
        echo(proxy)


def test_kill_9_during_a_call(real: Real) -> None:
    proxy = real.get()
    failures: list[BaseException] = []

    def wait() -> None:
        try:
            call(proxy, Code.WAIT)
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: real.b_calls.workers._threads and _in_call(real), "the call runs on the other device")
    real.child.kill()
    thread.join(5)
    assert isinstance(failures[0], DeadObjectError)


def _in_call(real: Real) -> bool:
    return any(fate.name == "RUNNING" for fate, _ in real.b.peer(real.udid).fates._fates.values())


def test_many_calls_at_once(real: Real) -> None:
    proxy = real.get()
    wrong: list[str] = []

    def run(number: int) -> None:
        for turn in range(5):
            if echo(proxy, f"{number}/{turn}") != f"{number}/{turn}":
                wrong.append(f"{number}/{turn}")

    threads = [threading.Thread(target=run, args=(number,)) for number in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert wrong == []


def test_a_proxy_is_not_passed_on_to_another_process(real: Real) -> None:
    """Limit 4, with a real connection between two apps."""
    neighbour = Node(title="neighbour")
    try:
        neighbour.become_context(Service())
        ours, theirs = handshake.pair()
        neighbour.serve_root(theirs)
        local = real.app.join(ours)
        with pytest.raises(RpcLimitError) as caught:
            call(local, Code.KEEP, lambda data: data.write_remote_object(real.get()))
        assert caught.value.code == 407
    finally:
        neighbour.close()


@pytest.mark.parametrize("real", ["tests.dbinder.child:wary"], indirect=True)
def test_only_who_may_speak_for_devices_is_believed(real: Real) -> None:
    with pytest.raises(RefusedError, match="DISTRIBUTED_SOFTBUS_CENTER") as caught:
        echo(real.get())
    assert caught.value.code == 303


def test_references_go_with_the_proxies(real: Real) -> None:
    proxy = real.get()
    given = [call(proxy, Code.GIVE).read_remote_object() for _ in range(3)]
    assert real.b.statistics()["exports"] == 4
    given.clear()
    eventually(lambda: real.app.flush_released() or real.b.statistics()["exports"] == 1, "three were given back")
    del proxy
    eventually(lambda: real.b.statistics()["exports"] == 0, "the last one too")
    assert real.a.statistics()["imports"] == 0


def test_threads_that_wait_for_another_device_do_not_count(real: Real) -> None:
    """Two workers speak for the device; six calls wait for the other one, and the next is still taken."""
    real.gateway.set_max_threads(2)
    proxy = real.get()
    option = bk.MessageOption(timeout=30, wait_time=30)
    threads = [threading.Thread(target=_wait_or_die, args=(proxy, option)) for _ in range(6)]
    for thread in threads:
        thread.start()
    eventually(lambda: real.gateway.statistics()["blocked"] == 6, "six calls wait")
    assert echo(proxy) == "hello"
    real.child.kill()
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()


def _wait_or_die(proxy: Any, option: bk.MessageOption) -> None:
    with pytest.raises(DeadObjectError):
        call(proxy, Code.WAIT, None, option)
