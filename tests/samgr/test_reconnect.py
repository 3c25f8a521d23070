"""samgr/reconnect.py: a real SAMgr that is killed, and what was registered comes back."""

from __future__ import annotations

import gc
import logging
import os
import queue
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

import binderkit as bk
from binderkit import process, samgr
from binderkit.errors import NoServiceManagerError, ServiceError
from binderkit.samgr import SystemAbilityManagerClient, reconnect
from tests.driver.unix.hostile import until
from tests.samgr.processes import WAIT, Adder, ask, samgr_process

Samgr = subprocess.Popen[bytes]


class Heard(samgr.SystemAbilityListener):
    """Puts what it hears into a queue."""

    def __init__(self) -> None:
        super().__init__()
        self.events: queue.Queue[tuple[str, int]] = queue.Queue()

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        self.events.put(("added", ability_id))

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        self.events.put(("removed", ability_id))

    def next(self) -> tuple[str, int]:
        return self.events.get(timeout=WAIT)


def manager() -> SystemAbilityManagerClient:
    return samgr.system_ability_manager()


def add(key: int, remote: bk.RemoteObject) -> None:
    """Register and remember, as the client does."""

    def redo(client: SystemAbilityManagerClient) -> None:
        client.add_system_ability(key, remote)

    reconnect.remember(reconnect.ABILITY, key, redo)
    redo(manager())


def listen(key: int, listener: Heard) -> None:
    def redo(client: SystemAbilityManagerClient) -> None:
        client.subscribe_system_ability(key, listener)

    reconnect.remember(reconnect.SUBSCRIPTION, (key, listener), redo)
    redo(manager())


def kill(running: Samgr) -> None:
    running.kill()
    running.wait(WAIT)


def idle() -> bool:
    """Whether no thread looks for SAMgr any more."""
    return not any(thread.name == "binderkit-reconnect" for thread in threading.enumerate())


@pytest.fixture(autouse=True)
def short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconnect, "COME_BACK_WAIT", 0.2)


def test_what_was_registered_comes_back_again_and_again(device: Path) -> None:
    adder = Adder()
    with samgr_process() as first:
        add(5, adder)
        kill(first)
    for _ in range(3):
        with samgr_process() as running:
            assert manager().get_system_ability(5, WAIT) is adder
            kill(running)
    reconnect.forget(reconnect.ABILITY, 5)
    until(idle, "the search ends when nothing is registered any more")


def test_what_was_withdrawn_does_not_come_back(device: Path) -> None:
    with samgr_process() as first:
        add(5, Adder())
        add(6, Adder())
        assert reconnect.forget(reconnect.ABILITY, 5) and not reconnect.forget(reconnect.ABILITY, 5)
        kill(first)
    with samgr_process():
        manager().get_system_ability(6, WAIT)
        assert manager().check_system_ability(5) is None


def test_the_process_is_registered_before_its_abilities_and_these_before_the_rest(running_samgr: Samgr) -> None:
    for kind, key in (("policy", 1), (reconnect.ABILITY, 5), (reconnect.PROCESS, "me"), (reconnect.ABILITY, 4)):
        reconnect.remember(kind, key, lambda client: None)
    assert reconnect.remembered() == [
        (reconnect.PROCESS, "me"),
        (reconnect.ABILITY, 5),
        (reconnect.ABILITY, 4),
        ("policy", 1),
    ]


def test_listeners_hear_what_changed(device: Path) -> None:
    listener = Heard()
    with samgr_process() as first:
        for key in (5, 6):
            listen(key, listener)
            add(key, Adder())
            assert listener.next() == ("added", key)
        reconnect.forget(reconnect.ABILITY, 6)  # its service does not come back
        kill(first)
    with samgr_process():
        assert [listener.next() for _ in range(3)] == [("removed", 5), ("added", 5), ("removed", 6)]
        manager().add_system_ability(6, Adder())
        assert listener.next() == ("added", 6)
    assert listener.events.empty()


def test_a_listener_that_nobody_else_holds_is_told_too(device: Path) -> None:
    heard: queue.Queue[tuple[str, int]] = queue.Queue()
    with samgr_process() as first:
        listener = Heard()
        listener.events = heard
        listen(5, listener)
        del listener
        kill(first)
    gc.collect()
    with samgr_process():
        until(lambda: any(kind == reconnect.SUBSCRIPTION for kind, _ in reconnect.remembered()), "it is known")
        until(idle, "it is subscribed")
        manager().add_system_ability(5, Adder())
        assert heard.get(timeout=WAIT) == ("added", 5)


def test_one_that_is_refused_is_tried_some_times_and_does_not_stop_the_others(
    device: Path, caplog: pytest.LogCaptureFixture
) -> None:
    tries: list[int] = []

    def refuse(client: SystemAbilityManagerClient) -> None:
        tries.append(1)
        raise ServiceError("you may not")

    with samgr_process() as first:
        reconnect.remember(reconnect.PROCESS, "x", refuse)
        add(5, Adder())
        kill(first)
    with samgr_process():
        manager().get_system_ability(5, WAIT)
        until(idle, "it is through")
        assert len(tries) == reconnect.ATTEMPTS
        assert "the process 'x' could not be registered again" in caplog.text


def test_a_death_in_the_middle_begins_anew(device: Path) -> None:
    killed: list[int] = []
    running: list[Samgr] = []

    def kill_once(client: SystemAbilityManagerClient) -> None:
        if not killed:
            killed.append(running[0].pid)
            kill(running[0])
        client.list_system_abilities()

    with samgr_process() as first:
        reconnect.remember(reconnect.PROCESS, "x", kill_once)
        add(5, Adder())
        second_starts = threading.Event()
        reconnect.remember(reconnect.PROCESS, "gate", lambda client: None)
        running.append(first)
        kill(first)
        killed.clear()
    running.clear()
    with samgr_process() as second:
        running.append(second)
        second_starts.set()
        until(lambda: killed == [second.pid], "it died while things were registered")
    with samgr_process() as third:
        manager().get_system_ability(5, WAIT)
        assert third.pid not in killed


def test_remembering_needs_a_samgr_and_remembers_nothing_without(device: Path) -> None:
    with pytest.raises(NoServiceManagerError):
        reconnect.remember(reconnect.ABILITY, 5, lambda client: None)
    assert reconnect.remembered() == []
    with samgr_process():
        reconnect.remember(reconnect.ABILITY, 5, lambda client: None)
        assert reconnect.remembered() == [(reconnect.ABILITY, 5)]
        process.shutdown()
        assert reconnect.remembered() == []  # made through a driver that is closed
        until(idle, "closing our driver is not SAMgr's death")


def test_the_search_ends_after_long(
    device: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(reconnect, "RECONNECT_FOR", 0.05)
    adder = Adder()
    with samgr_process() as first:
        add(5, adder)
        with caplog.at_level(logging.ERROR, "binderkit.samgr"):
            kill(first)
            until(lambda: "no SAMgr came back within" in caplog.text, "it gives up")
            until(idle, "it gives up")
    with samgr_process():
        add(6, adder)  # whoever registers something brings everything back
        assert manager().get_system_ability(5, WAIT) is adder


def test_a_forked_child_has_registered_nothing(running_samgr: Samgr) -> None:
    add(5, Adder())
    pid = os.fork()
    if not pid:
        os._exit(0 if reconnect.remembered() == [] and not reconnect.forget(reconnect.ABILITY, 5) else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert len(reconnect.remembered()) == 1


def test_services_of_other_processes_come_back_and_held_proxies_go_on(device: Path) -> None:
    with samgr_process() as first, bk.spawn("tests.samgr.test_reconnect:serving", 5) as child:
        held = manager().get_system_ability(5, WAIT)
        kill(first)
        assert ask(held, 2) == child.pid
        with samgr_process():
            assert ask(manager().get_system_ability(5, WAIT), 2) == child.pid
            assert ask(held, 1, 1) == 2


def serving(key: int) -> bk.RemoteObject:
    """What the child of the test above does."""
    adder = Adder()
    add(key, adder)
    return adder


def test_many_at_once(device: Path) -> None:
    adder, errors = Adder(), []

    def work(start: int) -> None:
        try:
            for key in range(start, start + 20):
                add(key, adder)
        except Exception as error:
            errors.append(error)

    with samgr_process() as first:
        threads = [threading.Thread(target=work, args=(100 * number,)) for number in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
        assert errors == [] and len(reconnect.remembered()) == 80
        kill(first)
    with samgr_process():
        until_registered(80)


def until_registered(count: int) -> None:
    def all_there() -> bool:
        # The daemon's own abilities are listed, too.
        return sum(info.pid == os.getpid() for info in manager().list_system_abilities()) == count

    check: Callable[[], bool] = all_there
    until(check, f"{count} abilities are registered")
