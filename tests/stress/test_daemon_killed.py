"""The daemon killed 50 times under load: everything comes back, held proxies go on, nothing is started twice."""

from __future__ import annotations

import os
import queue
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

import pytest

import binderkit as bk
from binderkit import samgr
from binderkit.errors import NoServiceManagerError, ServiceError, ServiceNotFoundError
from binderkit.samgr import codes
from binderkit.samgr.processes import ProcessInfo
from binderkit.samgr.states import ProcessState
from tests.driver.unix.hostile import until
from tests.stress.users import CALL, LATE, add_one
from tests.stress.watched import Daemon, device_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
KILLS: Final = {"back": 50, "any time": 20, "starting": 10, "together": 10}
"""Kills of each test: when all is back, at any time, while a service starts, together with services."""
PLAIN: Final = 20
"""Abilities that each of two programs registers without a profile."""
ON_DEMAND: Final = [0x200, 0x201, 0x202]
BACK: Final = 20.0
"""Seconds within which everything is back; reconnect.py looks once a second at least."""
GONE: Final = (bk.DeadObjectError, NoServiceManagerError, ServiceNotFoundError)
"""What asking SAMgr may end with while it is killed, or does not know yet what was registered with the last one."""

PROFILE: Final = """\
process = "counted{number}"

[environment]
STARTS = "{starts}"

[[ability]]
id = {id}
entry = "{file}:Counted"
run-on-create = {on_create}
"""


class Heard(samgr.SystemAbilityListener):
    """Puts what it hears into a queue."""

    def __init__(self) -> None:
        super().__init__()
        self.events: queue.Queue[tuple[str, int]] = queue.Queue()

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        self.events.put(("added", ability_id))

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        self.events.put(("removed", ability_id))

    def hear(self, count: int) -> Counter[tuple[str, int]]:
        """Return the next ``count`` events."""
        return Counter(self.events.get(timeout=BACK) for _ in range(count))


class Program(bk.RemoteObject):
    """Registers PLAIN abilities: what a child process of a test runs."""

    def __init__(self, first: int) -> None:
        super().__init__("tests.IProgram")
        from tests.samgr.processes import Adder

        self._adder = Adder()
        for key in range(first, first + PLAIN):
            samgr.add_system_ability(key, self._adder)


class Load(threading.Thread):
    """Calls a proxy all the time, or asks SAMgr for what it has; ``wrong`` is what must not be."""

    def __init__(self, held: bk.IRemoteObject | None, over: threading.Event) -> None:
        super().__init__(daemon=True)
        self._held = held
        self._over = over
        self.done = 0
        self.wrong: list[str] = []

    def run(self) -> None:
        while not self._over.is_set():
            begun = time.monotonic()
            try:
                self._step()
                self.done += 1
            except Exception as error:
                self.wrong.append(f"{type(error).__name__}: {error}")
            if time.monotonic() - begun > CALL + LATE:
                self.wrong.append(f"a call took {time.monotonic() - begun:.1f} s")
            self._over.wait(0.005)

    def _step(self) -> None:
        if self._held is not None:
            add_one(self._held, self.done)  # direct: whether SAMgr lives is nothing to it
            return
        try:
            samgr.get_system_ability(0x1000)
            samgr.check_system_ability(ON_DEMAND[0])
            samgr.list_system_abilities()
        except GONE:
            pass  # anything else is collected


@pytest.fixture
def starts(device: Path) -> Path:
    """Where the starts of on-demand services are written; the last of them has not been started by the test yet."""
    path = device / "starts"
    path.touch()
    folder = device / "profiles"
    folder.mkdir(mode=0o700)
    for number, ability in enumerate(ON_DEMAND):
        text = PROFILE.format(
            number=number,
            id=ability,
            file=Path(__file__).with_name("counted_abilities.py"),
            starts=path,
            on_create="true" if number == 0 else "false",
        )
        (folder / f"counted{number}.toml").write_text(text)
    return path


@pytest.fixture
def daemon(device: Path, starts: Path) -> Iterator[Daemon]:
    """A daemon."""
    running = Daemon()
    try:
        running.start()
        yield running
    finally:
        running.close()
        assert device_processes(device) == {}, "something goes on without the daemon"


def restart(daemon: Daemon) -> None:
    daemon.kill()
    daemon.start()


def owners() -> dict[int, int]:
    """Return the pid of each registered ability; {} while there is no SAMgr."""
    try:
        return {info.id: info.pid for info in samgr.list_system_abilities()}
    except GONE:
        return {}


def processes() -> dict[str, ProcessInfo]:
    """Return what SAMgr says of processes; {} while there is none."""
    try:
        return {info.name: info for info in samgr.list_system_processes()}
    except GONE:
        return {}


def test_everything_comes_back(daemon: Daemon, device: Path, starts: Path) -> None:
    with bk.spawn(Program, 0x1000) as one, bk.spawn(Program, 0x2000) as two:
        plain = {first + number: child for first, child in ((0x1000, one), (0x2000, two)) for number in range(PLAIN)}
        held = [samgr.get_system_ability(key, BACK) for key in (*ON_DEMAND, 0x1000, 0x2000)]
        expected = {key: child.pid for key, child in plain.items()}
        expected |= {key: remote.owner.pid for key, remote in zip(ON_DEMAND, held, strict=False)}
        listener, heard_of = Heard(), [*ON_DEMAND, 0x1000, 0x2000]
        for key in heard_of:
            samgr.subscribe_system_ability(key, listener)
        assert listener.hear(len(heard_of)) == Counter(("added", key) for key in heard_of)
        over = threading.Event()
        loads = [Load(remote, over) for remote in held] + [Load(None, over) for _ in range(3)]
        for load in loads:
            load.start()
        try:
            for _ in range(KILLS["back"]):
                done = [load.done for load in loads]
                restart(daemon)
                until(lambda: all(item in owners().items() for item in expected.items()), "all is back", BACK)
                again = listener.hear(2 * len(heard_of))
                assert again == Counter((what, key) for what in ("removed", "added") for key in heard_of)
                assert all(now.done > before for now, before in zip(loads, done, strict=True))
                states = processes()
                assert all(states[f"counted{number}"].state is ProcessState.STARTED for number in range(3))
        finally:
            over.set()
            for load in loads:
                load.join(CALL + LATE)
        assert [load.wrong for load in loads if load.wrong] == []
        assert listener.events.empty()
        assert len(starts.read_text().splitlines()) == len(ON_DEMAND), starts.read_text()
        assert len(device_processes(device)) == len(ON_DEMAND), daemon.log()


def test_killed_at_any_time(daemon: Daemon, device: Path, starts: Path) -> None:
    dice = random.Random(5)
    with bk.spawn(Program, 0x1000) as child:
        held = [samgr.get_system_ability(key, BACK) for key in (*ON_DEMAND, 0x1000)]
        expected = {0x1000 + number: child.pid for number in range(PLAIN)}
        expected |= {key: remote.owner.pid for key, remote in zip(ON_DEMAND, held, strict=False)}
        over = threading.Event()
        loads = [Load(remote, over) for remote in held] + [Load(None, over) for _ in range(3)]
        for load in loads:
            load.start()
        try:
            for _ in range(KILLS["any time"]):
                daemon.kill()
                daemon.start(wait=False)
                over.wait(dice.random() * 1.5)  # it may not listen yet, be registering its own, or have everything
            restart(daemon)
            until(lambda: all(item in owners().items() for item in expected.items()), "all is back", BACK)
        finally:
            over.set()
            for load in loads:
                load.join(CALL + LATE)
        assert [load.wrong for load in loads if load.wrong] == []
        assert len(starts.read_text().splitlines()) == len(ON_DEMAND), starts.read_text()
        assert len(device_processes(device)) == len(ON_DEMAND), daemon.log()


def test_killed_while_a_service_starts(daemon: Daemon, device: Path, starts: Path) -> None:
    dice, key, name = random.Random(6), ON_DEMAND[2], "counted2"
    until(lambda: processes()["counted0"].state is ProcessState.STARTED, "what runs on create is there", BACK)
    for _ in range(KILLS["starting"]):
        before = started(starts, key)
        samgr.load_system_ability(key, samgr.SystemAbilityLoadCallback(), timeout=CALL)
        threading.Event().wait(dice.random() * 0.4)
        restart(daemon)
        until(lambda: asked(key), "it can be loaded", BACK)
        remote = samgr.load_system_ability(key, timeout=CALL)
        assert isinstance(remote, bk.RemoteProxy)
        add_one(remote, 1)
        assert processes()[name].pid == remote.owner.pid
        until(lambda: len(device_processes(device)) == 2, "one process of each profile", BACK)
        assert started(starts, key) == before + 1, f"{starts.read_text()}\n{daemon.log()}"
        samgr.unload_processes([name])
        until(lambda: processes()[name].state is ProcessState.NOT_STARTED, "it ended", BACK)


def test_killed_together_with_services(daemon: Daemon, device: Path, starts: Path) -> None:
    dice = random.Random(8)
    for _ in range(KILLS["together"]):
        held = {key: samgr.load_system_ability(key, timeout=CALL) for key in ON_DEMAND}
        for key, remote in held.items():
            add_one(remote, key)
        victims = dice.sample(ON_DEMAND, dice.randrange(1, 4))
        first, second = dice.sample((daemon.kill, lambda: kill_all(held[key] for key in victims)), 2)  # noqa: B023
        first()
        second()
        daemon.start()
        for key, remote in held.items():
            until(lambda: asked(key), "it can be loaded", BACK)  # noqa: B023
            again = samgr.load_system_ability(key, timeout=CALL)
            add_one(again, key)
            assert isinstance(again, bk.RemoteProxy) and isinstance(remote, bk.RemoteProxy)
            assert (again.owner.pid == remote.owner.pid) is (key not in victims)
            assert remote.is_object_dead() is (key in victims)
        until(lambda: len(device_processes(device)) == len(ON_DEMAND), "one process of each profile", BACK)


def kill_all(remotes: Iterable[bk.IRemoteObject]) -> None:
    """Kill the processes of these objects."""
    for remote in remotes:
        assert isinstance(remote, bk.RemoteProxy)
        os.kill(remote.owner.pid, signal.SIGKILL)


def started(starts: Path, key: int) -> int:
    """Return how often an ability was started."""
    return sum(line.startswith(f"{key} ") for line in starts.read_text().splitlines())


def asked(key: int) -> bool:
    """Ask for an ability; False while SAMgr is coming up, or the start was spoilt by the end of the last one."""
    try:
        return samgr.load_system_ability(key, timeout=CALL) is not None
    except GONE:
        return False
    except ServiceError as error:
        if error.code != codes.START_FAILED:
            raise
        return False
