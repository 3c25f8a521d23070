"""samgr/lifecycle_runner.py: orders carried out for real, by a device with a supervisor and processes of all kinds."""

from __future__ import annotations

import os
import queue
import signal
import time
from pathlib import Path

import pytest

import binderkit as bk
from binderkit import samgr
from binderkit.errors import ServiceError
from binderkit.samgr import AbilityState, ProcessState, codes
from tests.samgr.on_demand import device_process, write_profile
from tests.samgr.processes import WAIT, Adder, ask


class Told(samgr.SystemAbilityLoadCallback):
    """Puts what it hears into a queue."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: queue.Queue[tuple[int, object]] = queue.Queue()

    def on_load_system_ability_success(self, ability_id: int, remote: bk.IRemoteObject) -> None:
        self.heard.put((ability_id, remote))

    def on_load_system_ability_fail(self, ability_id: int, code: int, text: str) -> None:
        self.heard.put((ability_id, code))


class Processes(samgr.SystemProcessListener):
    """Puts what it hears into a queue."""

    def __init__(self) -> None:
        super().__init__()
        self.heard: queue.Queue[tuple[str, str, int]] = queue.Queue()

    def on_system_process_started(self, name: str, pid: int) -> None:
        self.heard.put(("started", name, pid))

    def on_system_process_stopped(self, name: str, pid: int) -> None:
        self.heard.put(("stopped", name, pid))

    def on_system_process_activated(self, name: str, pid: int) -> None:
        self.heard.put(("activated", name, pid))

    def on_system_process_idled(self, name: str, pid: int) -> None:
        self.heard.put(("idled", name, pid))

    def next(self) -> tuple[str, str, int]:
        return self.heard.get(timeout=WAIT)


def state(id: int) -> AbilityState:
    return next(one.state for one in samgr.list_ability_states() if one.id == id)


def no_process_runs() -> bool:
    return all(one.state is ProcessState.NOT_STARTED for one in samgr.list_system_processes())


def wait_until_nothing_runs() -> None:
    deadline = time.monotonic() + WAIT
    while not no_process_runs():
        assert time.monotonic() < deadline


def test_asking_for_an_ability_starts_it_and_it_lives_its_whole_life(device: Path) -> None:
    write_profile(device / "profiles", "lazy", 5, "Lazy")
    with device_process() as running:
        listener = Processes()
        samgr.subscribe_system_process(listener)
        assert state(5) is AbilityState.NOT_LOADED
        assert samgr.check_system_ability(5) is None
        remote = samgr.get_system_ability(5)
        assert ask(remote, 1, 41) == 42
        pid = ask(remote, 2)
        assert pid not in (running.pid, os.getpid())
        assert listener.next() == ("started", "lazy", pid)
        assert samgr.load_system_ability(5) is remote
        told = Told()
        samgr.load_system_ability(5, told)
        assert told.heard.get(timeout=WAIT) == (5, remote)
        info = samgr.get_system_process_info(5)
        assert (info.name, info.pid, info.uid, info.state) == ("lazy", pid, os.getuid(), ProcessState.STARTED)
        assert info.managed and info.abilities == (5,)
        for refused in (samgr.unload_system_ability, samgr.cancel_unload_system_ability):
            with pytest.raises(ServiceError) as caught:
                refused(5)
            assert caught.value.code == codes.INVALID_CALLING_PROCESS
        samgr.unload_processes(["lazy"])
        assert listener.next() == ("stopped", "lazy", pid)
        assert ask(samgr.get_system_ability(5), 2) != pid
        samgr.unsubscribe_system_process(listener)


def test_a_killed_process_is_started_again_by_the_next_who_asks(device: Path) -> None:
    write_profile(device / "profiles", "lazy", 5, "Lazy")
    with device_process():
        pids = set()
        for _ in range(3):
            remote = samgr.get_system_ability(5)
            pid = ask(remote, 2)
            pids.add(pid)
            os.kill(pid, signal.SIGKILL)
            deadline = time.monotonic() + WAIT
            while samgr.check_system_ability(5) is not None:
                assert time.monotonic() < deadline
        assert len(pids) == 3
        wait_until_nothing_runs()


def test_auto_restart_brings_a_killed_process_back(device: Path) -> None:
    write_profile(device / "profiles", "lazy", 5, "Lazy", "auto-restart = true")
    with device_process():
        listener = Processes()
        samgr.subscribe_system_process(listener)
        pid = ask(samgr.get_system_ability(5), 2)
        assert listener.next() == ("started", "lazy", pid)
        os.kill(pid, signal.SIGKILL)
        assert listener.next() == ("stopped", "lazy", pid)
        kind, _, successor = listener.next()
        assert kind == "started" and successor != pid
        assert ask(samgr.get_system_ability(5), 2) == successor


@pytest.mark.parametrize(
    ("kind", "words"),
    [("Crashing", "ended with exit code 3; see its output in"), ("Failing", "ValueError: no such lamp")],
)
def test_one_that_fails_at_its_start_is_an_error_with_words_and_leaves_nothing(
    device: Path, kind: str, words: str
) -> None:
    write_profile(device / "profiles", "bad", 5, kind)
    with device_process():
        with pytest.raises(ServiceError, match=words) as caught:
            samgr.get_system_ability(5)
        assert caught.value.code == codes.START_FAILED
        told = Told()
        samgr.load_system_ability(5, told)
        assert told.heard.get(timeout=WAIT) == (5, codes.START_FAILED)
        wait_until_nothing_runs()
        assert state(5) is AbilityState.NOT_LOADED


@pytest.mark.parametrize("kind", ["Silent", "Hanging"])
def test_one_that_never_publishes_is_too_late_and_leaves_nothing(device: Path, kind: str) -> None:
    write_profile(device / "profiles", "bad", 5, kind)
    with device_process(start_timeout=1.5):
        with pytest.raises(bk.CallTimeoutError, match="did not come in time") as caught:
            samgr.load_system_ability(5, timeout=0.2)
        assert caught.value.code == codes.LOAD_SA_TIMEOUT
        with pytest.raises(bk.CallTimeoutError, match="must publish"):
            samgr.get_system_ability(5)
        wait_until_nothing_runs()


def test_a_program_that_cannot_be_run_is_an_error_with_words(device: Path) -> None:
    write_profile(device / "profiles", "bad", 5, "Lazy")
    path = device / "profiles" / "bad.toml"
    path.write_text(path.read_text().replace('process = "bad"', 'process = "bad"\ncommand = ["/no/such/program"]'))
    with device_process():
        with pytest.raises(ServiceError, match="/no/such/program") as caught:
            samgr.get_system_ability(5)
        assert caught.value.code == codes.START_FAILED


def test_an_id_of_a_profile_is_not_for_other_programs(device: Path) -> None:
    write_profile(device / "profiles", "lazy", 5, "Lazy")
    with device_process():
        for _ in range(2):
            with pytest.raises(ServiceError, match="its profile gives it to 'lazy'") as caught:
                samgr.add_system_ability(5, Adder())
            assert caught.value.code == codes.INVALID_CALLING_PROCESS
            samgr.get_system_ability(5)
        with pytest.raises(ServiceError, match=r"process .* cannot be 'lazy'"):
            samgr.add_system_process("lazy", Adder())
        with pytest.raises(ServiceError, match=r"may not register|does not host"):
            samgr.report_start_failure(5, "x")


def test_one_without_a_supervisor_says_how_to_start_it() -> None:
    from binderkit.samgr.profile import AbilityProfile, Profile
    from binderkit.samgr.service import SystemAbilityManager

    tasks: list[object] = []
    profile = Profile("p", Path("/nowhere/p.toml"), (AbilityProfile(5, "m:C", run_on_create=False),))

    def submit(task: object) -> None:
        tasks.append(task)
        task()  # type: ignore[operator]

    service = SystemAbilityManager(profiles=[profile], submit=submit)
    try:
        with pytest.raises(ServiceError, match=r"binderkit sa run /nowhere/p\.toml"):
            samgr.SystemAbilityManagerClient(service).get_system_ability(5)
    finally:
        service.close()
