"""Services that crash, hang or stay silent at their start, in a loop: all loads are answered, nothing runs on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

import binderkit as bk
from binderkit import samgr
from binderkit.errors import IpcError
from binderkit.samgr import codes
from binderkit.samgr.states import ProcessState
from tests.driver.unix.hostile import until
from tests.samgr.on_demand import ABILITIES, write_profile
from tests.samgr.processes import WAIT
from tests.stress.users import CALL, add_one
from tests.stress.watched import Daemon, device_processes

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]
ROUNDS: Final = 5
CALLERS: Final = 3
"""Threads that load the same ability at the same time."""
START_TIMEOUT: Final = 3.0
GOOD: Final = 0x400
BAD: Final = {
    "crashes": (f"{ABILITIES}:Crashing", "", codes.START_FAILED, "exit code 3"),
    "fails": (f"{ABILITIES}:Failing", "", codes.START_FAILED, "no such lamp"),
    "missing": ("nowhere:Nothing", "", codes.START_FAILED, "cannot be imported"),
    "silent": (f"{ABILITIES}:Silent", "", codes.LOAD_SA_TIMEOUT, "was not registered within"),
    "hangs": (f"{ABILITIES}:Hanging", "", codes.LOAD_SA_TIMEOUT, "was not registered within"),
    "imports": ("slow.py:Slow", "", codes.LOAD_SA_TIMEOUT, "was not registered within"),
    "stranger": ("m:C", 'command = ["sleep", "1000"]', codes.LOAD_SA_TIMEOUT, "was not registered within"),
    "leaves": ("m:C", 'command = ["sh", "-c", "sleep 1000 & exit 7"]', codes.START_FAILED, "exit code 7"),
    "stubborn": ("m:C", "command = ['sh', '-c', 'trap \"\" TERM; sleep 1000; :']", codes.LOAD_SA_TIMEOUT, "registered"),
    "nothing": ("m:C", 'command = ["/no/such/program"]', codes.START_FAILED, "/no/such/program"),
}
"""name -> entry, more of its profile, the code of the answer, and what its text says."""
PROFILE: Final = """\
process = "{name}"
{more}
[[ability]]
id = {id}
entry = "{entry}"
run-on-create = false
"""
ALWAYS: Final = """\
process = "always"
[[ability]]
id = 0x401
entry = "{file}:Crashing"
auto-restart = true
"""


class Told(samgr.SystemAbilityLoadCallback):
    """Knows how its load went."""

    def __init__(self) -> None:
        super().__init__()
        self.over = threading.Event()
        self.answers: list[tuple[int, str]] = []

    def on_load_system_ability_success(self, ability_id: int, remote: bk.IRemoteObject) -> None:
        self.answers.append((0, ""))
        self.over.set()

    def on_load_system_ability_fail(self, ability_id: int, code: int, text: str) -> None:
        self.answers.append((code, text))
        self.over.set()


@pytest.fixture
def daemon(device: Path) -> Iterator[Daemon]:
    """A daemon with one good and many bad services."""
    folder = device / "profiles"
    write_profile(folder, "good", GOOD, "Lazy")
    (folder / "slow.py").write_text("import threading\nthreading.Event().wait()\n")
    for number, (name, (entry, more, _, _)) in enumerate(BAD.items()):
        text = PROFILE.format(name=name, more=more, id=0x300 + number, entry=entry)
        (folder / f"{name}.toml").write_text(text)
    (folder / "always.toml").write_text(ALWAYS.format(file=ABILITIES))
    running = Daemon(START_TIMEOUT)
    try:
        running.start()
        yield running
    finally:
        running.close()
        assert device_processes(device) == {}, "something goes on without the daemon"


def answer(key: int) -> tuple[int, str]:
    """Load an ability; return how that went."""
    try:
        samgr.load_system_ability(key, timeout=CALL)
    except IpcError as error:
        return error.code, str(error)
    return 0, ""


def running() -> set[str]:
    """Return the processes that SAMgr holds for running, or starting, or ending."""
    return {info.name for info in samgr.list_system_processes() if info.state is not ProcessState.NOT_STARTED}


def load(key: int, code: int, words: str, wrong: list[str]) -> None:
    """Load a bad ability in all ways, again and again; what is answered wrongly goes to ``wrong``."""
    for _ in range(ROUNDS):
        told, answers = Told(), []
        callers = [threading.Thread(target=lambda: answers.append(answer(key))) for _ in range(CALLERS)]  # noqa: B023
        for caller in callers:
            caller.start()
        samgr.load_system_ability(key, told, timeout=CALL)
        for caller in callers:
            caller.join(CALL + WAIT)
        if not told.over.wait(WAIT) or len(answers) < CALLERS:
            wrong.append(f"{key}: a load has no answer; {answers} {told.answers}")
        wrong += [f"{key}: {one}" for one in (*answers, *told.answers) if one[0] != code or words not in one[1]]


def test_bad_starts_in_a_loop(daemon: Daemon, device: Path) -> None:
    until(lambda: "'always' ended too often" in daemon.log(), "it is not restarted for ever", WAIT)
    add_one(samgr.load_system_ability(GOOD, timeout=CALL), 1)
    until(lambda: len(device_processes(device)) == 1, "only the good one runs", WAIT)
    before = daemon.look()
    wrong: list[str] = []
    loads = [
        threading.Thread(target=load, args=(0x300 + number, code, words, wrong))
        for number, (_, _, code, words) in enumerate(BAD.values())
    ]
    for one in loads:
        one.start()
    for one in loads:
        one.join(ROUNDS * (CALL + START_TIMEOUT))
    assert not any(one.is_alive() for one in loads), "a load hangs"
    assert wrong == [], daemon.log()
    until(lambda: len(device_processes(device)) == 1, "only the good one runs", WAIT)
    until(lambda: running() == {"good"}, "SAMgr knows that only the good one runs", WAIT)
    until(lambda: daemon.look() == before, f"nothing is left of {before}", WAIT)
    add_one(samgr.get_system_ability(GOOD), 1)
