"""Processes of on-demand services killed 200 times under load: no client hangs, all learn of it, nothing is left."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import pytest

import binderkit as bk
from binderkit import samgr
from binderkit.cli import target
from binderkit.errors import ServiceError
from binderkit.interface import proxy, within
from binderkit.samgr import codes
from binderkit.samgr.processes import ProcessInfo
from binderkit.samgr.states import ProcessState
from tests.driver.unix.hostile import until
from tests.samgr.on_demand import write_profile
from tests.stress.users import CALL, LATE, TELL, IUsers, Users, add_one
from tests.stress.watched import Daemon, device_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
KILLS: Final = 200
"""Kills of each test; the moment of the kill is what they differ in."""
NAMES: Final = ("one", "two", "three", "four")
KEYS: Final = [0x100, 0x101, 0x102, 0x103]
Killer = Callable[["Prey", random.Random], int]


@pytest.fixture
def daemon(device: Path) -> Iterator[Daemon]:
    """A daemon with four processes on demand, the last of which is restarted by itself."""
    for name, key in zip(NAMES, KEYS, strict=True):
        write_profile(device / "profiles", name, key, "Lazy", "auto-restart = true" if name == "four" else "")
    running = Daemon()
    try:
        running.start()
        yield running
    finally:
        running.close()
        assert device_processes(device) == {}, "something goes on without the daemon"


class Prey:
    """The processes that may be killed; none is killed twice."""

    def __init__(self) -> None:
        self._killed: set[int] = set()

    def wait(self, *states: ProcessState) -> list[ProcessInfo]:
        """Return those in one of these states that were not killed; there is at least one."""
        found: list[ProcessInfo] = []

        def look() -> bool:
            found[:] = [
                info
                for info in samgr.list_system_processes()
                if info.state in states and info.pid and info.pid not in self._killed
            ]
            return bool(found)

        until(look, f"a process is {' or '.join(state.name for state in states)}", TELL)
        return found

    def kill(self, info: ProcessInfo) -> int:
        """Kill one; return how many were killed: 1, or 0 when it has ended."""
        try:
            descriptor = os.pidfd_open(info.pid)
        except ProcessLookupError:
            return 0
        try:
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        except ProcessLookupError:
            return 0
        finally:
            os.close(descriptor)
        self._killed.add(info.pid)
        return 1


def pause(dice: random.Random, most: float) -> None:
    """Let some time pass: the moment of the kill is the dice's."""
    threading.Event().wait(dice.random() * most)


def while_running(prey: Prey, dice: random.Random) -> int:
    victim = dice.choice(prey.wait(ProcessState.STARTED))
    pause(dice, 0.1)
    return prey.kill(victim)


def while_starting(prey: Prey, dice: random.Random) -> int:
    there = prey.wait(ProcessState.STARTING, ProcessState.STARTED)
    starting = [info for info in there if info.state is ProcessState.STARTING]
    if not starting:
        prey.kill(dice.choice(there))  # does not count: it makes somebody start
        return 0
    pause(dice, 0.2)
    return prey.kill(dice.choice(starting))


def several_at_once(prey: Prey, dice: random.Random) -> int:
    pause(dice, 0.2)
    victims = prey.wait(ProcessState.STARTED, ProcessState.STARTING)
    return sum(prey.kill(victim) for victim in victims)


def while_ending(prey: Prey, dice: random.Random) -> int:
    victim = dice.choice(prey.wait(ProcessState.STARTED))
    try:
        samgr.unload_processes([victim.name])
    except ServiceError as error:
        assert error.code == codes.PROCESS_NOT_FOUND  # somebody else ended it
    pause(dice, 0.05)
    return prey.kill(victim)


def stop_all() -> None:
    """End all services, also those that are restarted meanwhile."""

    def look() -> bool:
        running = [info.name for info in samgr.list_system_processes() if info.state is not ProcessState.NOT_STARTED]
        for name in running:
            try:
                samgr.unload_processes([name])
            except ServiceError as error:
                assert error.code == codes.PROCESS_NOT_FOUND
        return not running

    until(look, "all services ended", TELL)


def dumped() -> str:
    """Return SAMgr's whole dump."""
    return target.dump(samgr.system_ability_manager().as_object(), [], CALL).decode()


def settle(daemon: Daemon, before: dict[str, int]) -> None:
    """Fail unless the daemon comes to hold what it held before."""
    more: dict[str, tuple[int, int]] = {}

    def look() -> bool:
        now = daemon.look()
        more.clear()
        more.update({name: (before.get(name, 0), now[name]) for name in now if now[name] > before.get(name, 0)})
        return not more

    try:
        until(look, "nothing is left", TELL)
    except AssertionError:
        raise AssertionError(f"left over (before, now): {more}\n{daemon.log()}") from None


@pytest.mark.parametrize("kill", [while_running, while_starting, several_at_once, while_ending])
def test_killed_under_load(daemon: Daemon, device: Path, kill: Killer) -> None:
    for key in KEYS:
        add_one(samgr.load_system_ability(key, timeout=CALL), key)
    stop_all()
    before, shown = daemon.look(), dumped()
    assert before["running processes"] == before["loads"] == before["children"] == before["supervised"] == 0
    dice, prey, kills = random.Random(kill.__name__), Prey(), 0
    with ExitStack() as stack:
        children = [stack.enter_context(bk.spawn(Users, KEYS, number, 2, 1)) for number in (2, 3)]
        here = Users(KEYS, 1, calling=2, holding=1)
        users = [here, *(proxy(IUsers, child.root) for child in children)]
        try:
            while kills < KILLS:
                kills += kill(prey, dice)
        finally:
            told = [within(CALL + LATE + TELL, one.finish)() for one in users]
        counts = [one.counts() for one in users]
    assert told == [[], [], []], daemon.log()
    # All together: on a busy machine one client may meet nothing but processes that are killed while they start.
    total = sum(map(Counter, counts), Counter())
    assert total["deaths"] and total["gets"] + total["loads"] > total["deaths"], counts
    for key in KEYS:  # whatever happened, the next one starts
        add_one(samgr.load_system_ability(key, timeout=CALL), key)
    stop_all()
    settle(daemon, before)
    assert dumped() == shown
