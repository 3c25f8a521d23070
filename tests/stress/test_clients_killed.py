"""Clients killed while they wait, load, listen, register and connect: the daemon keeps nothing of them."""

from __future__ import annotations

import random
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

import binderkit as bk
from binderkit import samgr
from binderkit.ability import ConnectOptions, Want, connect_service_extension_ability
from binderkit.samgr.states import ProcessState
from tests.driver.unix.hostile import until
from tests.samgr.on_demand import write_profile
from tests.samgr.processes import WAIT
from tests.stress.users import CALL, add_one
from tests.stress.watched import Daemon, device_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
KILLS: Final = 40
GOOD: Final = 0x100
SILENT: Final = 0x101
NEVER: Final = 0x102
"""An ability that nobody has."""


class Client(bk.RemoteObject):
    """Uses SAMgr in every way that leaves something there, each on a thread of its own."""

    def __init__(self, number: int) -> None:
        super().__init__("tests.IClient")
        first = 0x10000 + 100 * number
        uses: list[Callable[[], object]] = [
            lambda: samgr.wait_for_system_ability(NEVER),
            lambda: samgr.wait_for_system_ability("tests.never", 100.0),
            lambda: samgr.wait_for_system_ability(SILENT),
            lambda: samgr.load_system_ability(SILENT, samgr.SystemAbilityLoadCallback(), timeout=CALL),
            lambda: samgr.load_system_ability(GOOD, timeout=CALL),
            lambda: self._many(lambda one: samgr.subscribe_system_ability(one, samgr.SystemAbilityListener())),
            lambda: self._many(lambda one: samgr.add_system_ability(first + one, self)),
            lambda: samgr.subscribe_system_process(samgr.SystemProcessListener()),
            lambda: samgr.add_system_process(f"client{number}", self),
            lambda: self._connected(),
        ]
        for use in uses:
            threading.Thread(target=use, daemon=True).start()

    def _many(self, use: Callable[[int], object]) -> None:
        for one in range(1, 51):
            use(one)

    def _connected(self) -> None:
        options = ConnectOptions(lambda element, remote: None, on_failed=lambda code: None)
        connect_service_extension_ability(Want("stress.bundle", "One"), options)


@pytest.fixture
def daemon(device: Path) -> Iterator[Daemon]:
    """A daemon with a service that works, one that never comes, and a bundle."""
    write_profile(device / "profiles", "good", GOOD, "Lazy")
    write_profile(device / "profiles", "silent", SILENT, "Silent")
    folder = device / "bundles" / "stress.bundle"
    folder.mkdir(parents=True, mode=0o700)
    (device / "bundles").chmod(0o700)
    shutil.copy(Path(__file__).with_name("echo_ability.py"), folder)
    (folder / "bundle.toml").write_text(
        'name = "stress.bundle"\nversion = "1"\n'
        '[[ability]]\nname = "One"\nexported = true\nentry = "echo_ability.py:Echo"\n'
    )
    running = Daemon(3.0)
    try:
        running.start()
        yield running
    finally:
        running.close()
        until(lambda: device_processes(device) == {}, "nothing goes on without the daemon", WAIT)


def all_ended() -> bool:
    return all(info.state is ProcessState.NOT_STARTED for info in samgr.list_system_processes())


def stop_good() -> None:
    add_one(samgr.load_system_ability(GOOD, timeout=CALL), 1)
    samgr.unload_processes(["good"])
    until(all_ended, "all processes ended, and those without profile are forgotten", WAIT)


def kill_some(dice: random.Random, numbers: range) -> None:
    for number in numbers:
        client = bk.spawn(Client, number)
        threading.Event().wait(dice.random() * 0.15)
        client.kill()


def test_nothing_is_left_of_killed_clients(daemon: Daemon, device: Path) -> None:
    dice = random.Random(11)
    kill_some(dice, range(2))  # some things exist from the first use on
    stop_good()
    until(lambda: device_processes(device) == {}, "no service runs", WAIT)
    before = daemon.look()
    kill_some(dice, range(2, 2 + KILLS))
    assert "'stress.bundle'" in daemon.log() and "'silent'" in daemon.log(), "the services are used"
    stop_good()
    left: dict[str, tuple[int, int]] = {}

    def same() -> bool:
        now = daemon.look()
        left.clear()
        left.update({name: (before.get(name, 0), now[name]) for name in now if now[name] > before.get(name, 0)})
        return not left

    try:
        until(same, "the daemon holds what it held before", WAIT)
    except AssertionError:
        raise AssertionError(f"left over (before, now): {left}\n{daemon.log()[-5000:]}") from None
