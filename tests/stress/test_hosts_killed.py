"""Processes of bundles killed under load, and the daemon with them: every connection ends as it must, nothing is left.

A process of a bundle ends with its ability manager, so after the daemon's end connections are made anew.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import binderkit as bk
from binderkit.ability import (
    ConnectOptions,
    ElementName,
    FailureCode,
    Want,
    connect_service_extension_ability,
    disconnect_service_extension_ability,
    list_service_extension_abilities,
)
from binderkit.errors import AbilityError, NoServiceManagerError
from tests.driver.unix.hostile import until
from tests.samgr.processes import WAIT
from tests.stress.users import CALL, LATE, TELL, add_one
from tests.stress.watched import Daemon, device_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
KILLS: Final = 60
DAEMON_KILLS: Final = 12
USERS: Final = 4
INTERNAL: Final = 16000050
WANTS: Final = [Want("stress.bundle", name) for name in ("One", "Two", "Three")]
MANIFEST: Final = 'name = "stress.bundle"\nversion = "1"\n' + "".join(
    f'[[ability]]\nname = "{want.ability_name}"\nexported = true\nentry = "echo_ability.py:Echo"\n'
    f'process = "{want.ability_name.lower()}"\n'
    for want in WANTS
)


class User(threading.Thread):
    """Connects, calls until the service dies or it has enough, sees that the connection ends, all over again."""

    def __init__(self, seed: int) -> None:
        super().__init__(daemon=True, name=f"user-{seed}")
        self._dice = random.Random(seed)
        self.over = threading.Event()
        self.wrong: list[str] = []
        self.done = {"connected": 0, "failed": 0, "lost": 0, "left": 0}

    def run(self) -> None:
        while not self.over.is_set():
            try:
                self._use(self._dice.choice(WANTS))
            except Exception as error:
                self.wrong.append(f"{self.name}: {type(error).__name__}: {error}")

    def _use(self, want: Want) -> None:
        answered, ended, told = threading.Event(), threading.Event(), list[object]()

        def connected(element: ElementName, remote: bk.IRemoteObject) -> None:
            told.append(remote)
            answered.set()

        def failed(code: FailureCode) -> None:
            told.append(code)
            answered.set()

        try:
            number = connect_service_extension_ability(
                want, ConnectOptions(connected, lambda element: ended.set(), failed)
            )
        except (AbilityError, NoServiceManagerError, bk.DeadObjectError) as error:
            self.done["failed"] += 1
            if isinstance(error, AbilityError) and error.code != INTERNAL:
                raise
            self.over.wait(0.05)  # the daemon is coming up
            return
        if not answered.wait(TELL + WAIT):
            self.wrong.append(f"{self.name}: connecting to {want.ability_name} has no answer")
            return
        if isinstance(told[0], FailureCode):
            self.done["failed"] += 1
            assert told[0] == INTERNAL, told[0].text
            return
        assert isinstance(told[0], bk.IRemoteObject)
        self.done["connected"] += 1
        leaves = self._call(told[0])
        if leaves:
            self._leave(number)
        if not ended.wait(TELL):
            self.wrong.append(f"{self.name}: was not told that its connection to {want.ability_name} ended")
        assert len(told) == 1, told

    def _call(self, remote: bk.IRemoteObject) -> bool:
        """Call until the service dies; return whether we have had enough before."""
        for _ in range(self._dice.randrange(1, 200)):
            if self.over.is_set():
                break
            try:
                add_one(remote, 1)
            except bk.DeadObjectError:
                self.done["lost"] += 1
                return False
            self.over.wait(0.005)
        self.done["left"] += 1
        return True

    def _leave(self, number: int) -> None:
        try:
            disconnect_service_extension_ability(number)
        except AbilityError as error:
            if error.code != INTERNAL:  # it ended just now
                raise


@pytest.fixture
def daemon(device: Path) -> Iterator[Daemon]:
    """A daemon with a bundle of three processes."""
    folder = device / "bundles" / "stress.bundle"
    folder.mkdir(parents=True, mode=0o700)
    (device / "bundles").chmod(0o700)
    (folder / "bundle.toml").write_text(MANIFEST)
    shutil.copy(Path(__file__).with_name("echo_ability.py"), folder)
    running = Daemon()
    try:
        running.start()
        yield running
    finally:
        running.close()
        until(lambda: device_processes(device) == {}, "nothing goes on without the daemon", WAIT)


def hosts(directory: Path) -> list[int]:
    """Return the pids of the processes of bundles."""
    return [pid for pid, command in device_processes(directory).items() if "binderkit.ability.host" in command]


def kill(pid: int) -> int:
    """Kill a process; return how many were killed."""
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return 0
    return 1


def finish(users: list[User]) -> list[str]:
    """End the load; return what went wrong."""
    for user in users:
        user.over.set()
    for user in users:
        user.join(CALL + LATE + TELL)
    return [f"{user.name} hangs" for user in users if user.is_alive()] + [text for one in users for text in one.wrong]


def use_once() -> list[str]:
    """Connect once before anything is measured: some things exist from the first connection on."""
    user = User(99)
    user.start()
    until(lambda: user.done["connected"], "one is connected", WAIT)
    return finish([user])


def quiet(directory: Path) -> bool:
    """Whether no ability lives and no process of a bundle runs."""
    return not list_service_extension_abilities() and not hosts(directory)


def test_hosts_killed_under_load(daemon: Daemon, device: Path) -> None:
    assert use_once() == []
    until(lambda: quiet(device), "all abilities ended", WAIT)
    before, dice, kills = daemon.look(), random.Random(3), 0
    users = [User(seed) for seed in range(USERS)]
    for user in users:
        user.start()
    try:
        while kills < KILLS:
            until(lambda: hosts(device), "a process runs", WAIT)
            threading.Event().wait(dice.random() * 0.3)
            kills += sum(kill(pid) for pid in hosts(device)[:1])
    finally:
        wrong = finish(users)
    assert wrong == [], daemon.log()[-20000:]
    assert sum(user.done["connected"] for user in users) and sum(user.done["lost"] for user in users)
    until(lambda: quiet(device), "all abilities ended", WAIT)
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


def test_the_daemon_killed_while_abilities_are_connected(daemon: Daemon, device: Path) -> None:
    dice = random.Random(4)
    users = [User(seed) for seed in range(USERS)]
    for user in users:
        user.start()
    try:
        for _ in range(DAEMON_KILLS):
            threading.Event().wait(dice.random() * 1.0)
            old = hosts(device)
            daemon.kill()
            daemon.start()
            until(lambda: not set(old) & set(hosts(device)), "the processes of the last one ended", WAIT)  # noqa: B023
    finally:
        wrong = finish(users)
    assert wrong == [], daemon.log()[-20000:]
    assert sum(user.done["connected"] for user in users)
    until(lambda: quiet(device), "all abilities ended", WAIT)
