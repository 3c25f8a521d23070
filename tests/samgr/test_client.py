"""samgr/client.py: real processes around a real SAMgr."""

from __future__ import annotations

import os
import queue
import signal
import subprocess
import threading
import time
from pathlib import Path

import pytest

import binderkit as bk
from binderkit import process, samgr
from binderkit.errors import NoServiceManagerError, ParamTypeError, ParamValueError, ServiceNotFoundError
from binderkit.samgr import reconnect
from tests.samgr.processes import WAIT, Adder, ask, samgr_process, service_process

Samgr = subprocess.Popen[bytes]


class Queue(samgr.SystemAbilityListener):
    """Puts what it hears into a queue."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: queue.Queue[tuple[str, int, str]] = queue.Queue()

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        self.heard.put(("added", ability_id, device_id))

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        self.heard.put(("removed", ability_id, device_id))

    def next(self) -> tuple[str, int, str]:
        return self.heard.get(timeout=WAIT)


def test_a_service_of_another_process_is_found_and_called(running_samgr: Samgr) -> None:
    with service_process(0x1000, "tests.adder") as service:
        for key in (0x1000, "tests.adder"):
            remote = samgr.get_system_ability(key)
            assert ask(remote, 1, 41) == 42
            assert ask(remote, 2) == service.pid
        assert samgr.get_system_ability(0x1000) is samgr.check_system_ability("tests.adder")
        (info,) = [one for one in samgr.list_system_abilities() if one.id == 0x1000]
        assert (info.id, info.name, info.pid, info.uid) == (0x1000, "tests.adder", service.pid, os.getuid())


def test_our_own_service_comes_back_as_itself(running_samgr: Samgr) -> None:
    adder = Adder()
    ability = samgr.add_system_ability("tests.own", adder)
    assert samgr.get_system_ability("tests.own") is adder
    assert samgr.get_system_ability(ability) is adder
    samgr.remove_system_ability("tests.own")
    with pytest.raises(ServiceNotFoundError):
        samgr.get_system_ability(ability)


def test_an_ability_goes_when_its_process_is_killed_and_listeners_hear_it(running_samgr: Samgr) -> None:
    listener = Queue()
    samgr.subscribe_system_ability(0x1000, listener)
    with service_process(0x1000) as service:
        assert listener.next() == ("added", 0x1000, "")
        service.kill()
        assert listener.next() == ("removed", 0x1000, "")
        assert samgr.check_system_ability(0x1000) is None
    with service_process(0x1000) as successor:
        assert listener.next() == ("added", 0x1000, "")
        assert ask(samgr.get_system_ability(0x1000), 2) == successor.pid
    assert listener.next() == ("removed", 0x1000, "")


def test_a_replaced_ability_stays_when_the_process_of_the_old_one_ends(running_samgr: Samgr) -> None:
    listener = Queue()
    with service_process(0x1000) as old, service_process(0x1000) as new:
        samgr.subscribe_system_ability(0x1000, listener)
        samgr.subscribe_system_ability("tests.marker", listener)
        assert listener.next() == ("added", 0x1000, "")
        old.kill()
        # SAMgr notices the death of `old` before it can notice that of `marker`, which is younger: an order is given.
        with service_process(0x2000, "tests.marker") as marker:
            assert listener.next()[1] == 0x2000
            marker.kill()
            assert listener.next() == ("removed", 0x2000, "")
        assert ask(samgr.get_system_ability(0x1000), 2) == new.pid


def test_an_object_of_a_dead_process_cannot_be_registered(running_samgr: Samgr) -> None:
    with service_process(0x1000) as service:
        remote = samgr.get_system_ability(0x1000)
        service.kill()
        deadline = time.monotonic() + WAIT
        while not remote.is_object_dead():
            assert time.monotonic() < deadline
        with pytest.raises(bk.IpcError, match=r"dead|gone|ended|hung up"):
            samgr.add_system_ability(0x2000, remote)
        assert samgr.check_system_ability(0x2000) is None


def test_an_object_of_another_process_can_be_registered_and_goes_with_it(running_samgr: Samgr) -> None:
    listener = Queue()
    samgr.subscribe_system_ability("tests.alias", listener)
    with service_process(0x1000) as service:
        samgr.add_system_ability("tests.alias", samgr.get_system_ability(0x1000))
        assert ask(samgr.get_system_ability("tests.alias"), 2) == service.pid
        assert listener.next()[0] == "added"
        service.kill()
        assert listener.next()[0] == "removed"


def test_a_waiting_program_goes_on_when_the_service_comes(running_samgr: Samgr) -> None:
    found: queue.Queue[bk.IRemoteObject] = queue.Queue()
    waiter = threading.Thread(target=lambda: found.put(samgr.wait_for_system_ability("tests.late", WAIT)))
    waiter.start()
    with service_process("tests.late") as service:
        assert ask(found.get(timeout=WAIT), 2) == service.pid
    waiter.join(WAIT)


def test_a_wait_in_vain_takes_its_time_and_raises(running_samgr: Samgr) -> None:
    start = time.monotonic()
    with pytest.raises(bk.CallTimeoutError, match=r"'tests\.never' was registered within 0\.2 s"):
        samgr.get_system_ability("tests.never", timeout=0.2)
    assert time.monotonic() - start >= 0.19


def test_many_waiting_threads_hold_no_thread_of_samgr(running_samgr: Samgr) -> None:
    """More waiters than SAMgr has worker threads, and it still answers."""
    found: queue.Queue[bk.IRemoteObject] = queue.Queue()
    waiters = [
        threading.Thread(target=lambda: found.put(samgr.wait_for_system_ability("tests.late", WAIT))) for _ in range(40)
    ]
    for waiter in waiters:
        waiter.start()
    assert samgr.check_system_ability("tests.other") is None
    adder = Adder()
    samgr.add_system_ability("tests.late", adder)
    for waiter in waiters:
        waiter.join(WAIT)
    assert [found.get(timeout=WAIT) for _ in waiters] == [adder] * 40


def test_the_death_of_a_listening_process_ends_its_subscriptions(running_samgr: Samgr) -> None:
    with bk.spawn("tests.samgr.test_client:subscribed", 200) as listener:
        assert dump_of_samgr().count(f"of pid {listener.pid}") == 200
        listener.kill()
        deadline = time.monotonic() + WAIT
        while f"of pid {listener.pid}" in dump_of_samgr():
            assert time.monotonic() < deadline


def subscribed(count: int) -> bk.RemoteObject:
    """What the child of the test above does."""
    listener = Queue()
    for ability in range(1, count + 1):
        samgr.subscribe_system_ability(ability, listener)
    return listener


def dump_of_samgr() -> str:
    from binderkit.cli import target

    return target.dump(samgr.system_ability_manager().as_object(), ["--listener"], WAIT).decode()


def test_events_of_one_listener_come_in_order(running_samgr: Samgr) -> None:
    listener, adder = Queue(), Adder()
    samgr.subscribe_system_ability(7, listener)
    for _ in range(50):
        samgr.add_system_ability(7, adder)
        samgr.remove_system_ability(7)
    heard = [listener.next()[0] for _ in range(100)]
    assert heard == ["added", "removed"] * 50


def test_samgr_killed_is_a_clear_error_and_a_new_one_is_found(device: Path) -> None:
    adder = Adder()
    with samgr_process() as first:
        samgr.add_system_ability(5, adder)
        remote = samgr.system_ability_manager().as_object()
        gone = threading.Event()

        class Told(bk.DeathRecipient):
            def on_remote_died(self) -> None:
                gone.set()

        remote.register_death_recipient(Told())
        first.kill()
        assert gone.wait(WAIT)
        with pytest.raises(bk.DeadObjectError):
            samgr.SystemAbilityManagerClient(remote).get_system_ability(5)
        first.wait(WAIT)  # the death is told when the first of its sockets closes, the listening one may be later
        with pytest.raises(NoServiceManagerError, match="no SAMgr runs"):
            samgr.get_system_ability(5)
    with samgr_process():
        assert samgr.get_system_ability(5, WAIT) is adder, "what was registered is registered again"


def test_a_program_that_needs_samgr_starts_it(runtime_dir: Path) -> None:
    process.shutdown()
    try:
        assert 5 not in [info.id for info in samgr.list_system_abilities()]
        remote = samgr.system_ability_manager().as_object()
        assert isinstance(remote, bk.RemoteProxy)
        pid = remote.owner.pid
        del remote
        os.kill(pid, signal.SIGTERM)
        assert os.waitpid(pid, 0)[1] == 0
    finally:
        process.shutdown()


def test_wrong_arguments_are_refused_before_anything_is_sent(device: Path) -> None:
    client = samgr.SystemAbilityManagerClient(Adder())
    for key, error in ((0, ParamValueError), ("5", ParamValueError), (None, ParamTypeError)):
        with pytest.raises(error):
            client.get_system_ability(key)  # type: ignore[arg-type]
    for timeout, error in ((0, ParamValueError), (-1, ParamValueError), (3001, ParamValueError), ("1", ParamTypeError)):
        with pytest.raises(error):
            client.wait_for_system_ability(5, timeout)  # type: ignore[arg-type]
    with pytest.raises(ParamTypeError):
        client.add_system_ability(5, object())  # type: ignore[arg-type]
    with pytest.raises(ParamValueError, match="two names"):
        client.add_system_ability("a", Adder(), name="b")
    with pytest.raises(ParamTypeError):
        client.subscribe_system_ability(5, Adder())  # type: ignore[arg-type]


def test_what_was_registered_comes_back_when_samgr_is_restarted_and_what_was_removed_does_not(device: Path) -> None:
    adder, listener, processes = Adder(), Queue(), samgr.SystemProcessListener()
    with samgr_process() as first:
        samgr.add_system_ability(5, adder, name="tests.five")
        samgr.add_system_ability("tests.gone", adder)
        samgr.add_system_process("tests", adder)
        samgr.subscribe_system_ability(6, listener)
        samgr.subscribe_system_process(processes)
        samgr.remove_system_ability("tests.gone")
        first.kill()
        first.wait(WAIT)
    with samgr_process():
        assert samgr.wait_for_system_ability("tests.five", WAIT) is adder
        samgr.add_system_ability(6, adder)
        assert listener.next() == ("added", 6, "")
        assert samgr.check_system_ability("tests.gone") is None
        assert [info.name for info in samgr.list_system_processes()] == ["binderkit.softbus", "tests"]
        deadline = time.monotonic() + WAIT
        while f"processes of pid {os.getpid()}" not in dump_of_samgr():
            assert time.monotonic() < deadline
        samgr.unsubscribe_system_process(processes)


def test_what_samgr_refuses_is_not_remembered(running_samgr: Samgr) -> None:
    adder = Adder()
    samgr.add_system_ability(5, adder, name="tests.five")
    with pytest.raises(bk.IpcError, match="belongs to"):
        samgr.add_system_ability(6, adder, name="tests.five")
    assert [words for kind, words in reconnect.remembered() if kind == reconnect.ABILITY] == [(5, "tests.five")]
    samgr.remove_system_ability(5)
    assert [words for kind, words in reconnect.remembered() if kind == reconnect.ABILITY] == []
