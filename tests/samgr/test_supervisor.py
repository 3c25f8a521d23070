"""samgr/supervisor.py: real processes, started, ended in every way, adopted, left and killed."""

from __future__ import annotations

import logging
import os
import queue
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from binderkit import limits
from binderkit.driver.unix.pidfds import wait_readable
from binderkit.errors import ParamValueError, ServiceError
from binderkit.samgr import logs, supervisor
from binderkit.samgr.profile import ResourceLimits
from binderkit.samgr.starter import UNKNOWN_STATUS, Starter
from binderkit.samgr.supervisor import Supervisor
from binderkit.samgr.tokens import TokenRegistry

WAIT = 20.0
Exit = tuple[str, int, int]


class World:
    """A supervisor with its registry, and the ends it told of."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.tokens = TokenRegistry(directory)
        self.exits: queue.Queue[Exit] = queue.Queue()
        self.supervisor = Supervisor(directory, on_exit=lambda *told: self.exits.put(told), tokens=self.tokens)

    def run(self, name: str, script: str, **more: object) -> int:
        """Start a shell script."""
        return self.supervisor.start(name, ["/bin/sh", "-c", script], **more)  # type: ignore[arg-type]

    def told(self) -> Exit:
        """Return the next end."""
        return self.exits.get(timeout=WAIT)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    yield made
    made.supervisor.close(leave=False)


@pytest.fixture
def fifo(tmp_path: Path) -> Iterator[Callable[[str], tuple[Path, int]]]:
    """Makes named pipes, and opens them for reading without waiting for a writer."""
    opened: list[int] = []

    def make(name: str) -> tuple[Path, int]:
        path = tmp_path / name
        os.mkfifo(path)
        opened.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
        return path, opened[-1]

    yield make
    for fd in opened:
        os.close(fd)


def line_from(fd: int) -> bytes:
    """Return what a process wrote into a named pipe."""
    assert wait_readable(fd, WAIT)
    return os.read(fd, 100)


def ended(pid: int) -> bool:
    """Whether a process is gone within WAIT."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return wait_readable(pidfd, WAIT)
    finally:
        os.close(pidfd)


def test_a_process_runs_and_its_end_is_told_with_its_exit_code(world: World) -> None:
    pid = world.run("a", "echo out; echo err >&2; exit 3")
    assert world.told() == ("a", pid, 3)
    assert world.supervisor.processes() == {}
    text = world.supervisor.log_file("a").read_text()
    assert "out\nerr\n" in text and f"pid {pid} ended with exit code 3" in text


@pytest.mark.parametrize(("how", "number"), [("stop", signal.SIGTERM), ("kill", signal.SIGKILL)])
def test_stop_and_kill(world: World, how: str, number: int) -> None:
    pid = world.run("a", "exec cat /dev/zero > /dev/null")
    assert world.supervisor.processes() == {"a": pid}
    getattr(world.supervisor, how)("a")
    assert world.told() == ("a", pid, -number)
    assert f"was ended by {signal.Signals(number).name}" in world.supervisor.log_file("a").read_text()
    getattr(world.supervisor, how)("a")  # not there any more
    getattr(world.supervisor, how)("never was")


def test_kill_ends_what_ignores_sigterm_and_its_whole_group(
    world: World, fifo: Callable[[str], tuple[Path, int]]
) -> None:
    path, fd = fifo("f")
    pid = world.run("a", f"trap '' TERM; (trap '' TERM; echo $$; exec sleep 1000) & echo $! > {path}; wait")
    child = int(line_from(fd))
    world.supervisor.stop("a")
    world.supervisor.kill("a")
    assert world.told() == ("a", pid, -signal.SIGKILL)
    assert ended(child)


def test_what_a_process_leaves_in_its_group_ends_with_it(world: World, fifo: Callable[[str], tuple[Path, int]]) -> None:
    path, fd = fifo("f")
    pid = world.run("a", f"sleep 1000 & echo $! > {path}; exit 0")
    child = int(line_from(fd))
    assert world.told() == ("a", pid, 0)
    assert ended(child)


def test_killed_by_somebody_else(world: World) -> None:
    pid = world.run("a", "exec sleep 1000")
    os.kill(pid, signal.SIGKILL)
    assert world.told() == ("a", pid, -signal.SIGKILL)


def test_it_may_be_started_anew_from_on_exit(tmp_path: Path) -> None:
    pids: queue.Queue[int] = queue.Queue()
    failures: list[BaseException] = []

    def again(name: str, pid: int, status: int) -> None:
        try:
            pids.put(starter.start(name, ["/bin/sh", "-c", "exec sleep 1000"]))
        except BaseException as error:
            failures.append(error)

    starter = Supervisor(tmp_path, on_exit=again, tokens=TokenRegistry(tmp_path))
    try:
        first = starter.start("a", ["/bin/true"])
        second = pids.get(timeout=WAIT)
        assert first != second and starter.processes() == {"a": second} and not failures
    finally:
        starter.close(leave=False)


def test_an_on_exit_that_raises_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    called = threading.Semaphore(0)

    def fail(name: str, pid: int, status: int) -> None:
        called.release()
        raise RuntimeError("broken listener")

    starter = Supervisor(tmp_path, on_exit=fail, tokens=TokenRegistry(tmp_path))
    try:
        for _ in range(2):
            starter.start("a", ["/bin/true"])
            assert called.acquire(timeout=WAIT)
    finally:
        starter.close(leave=False)
    assert "broken listener" in caplog.text


def test_it_is_what_samgr_starts_processes_with(world: World) -> None:
    starter: Starter = world.supervisor  # a type checker's question
    pid = starter.start("a", ["/bin/true"], environment={"A": "b"}, limits=ResourceLimits(nice=1))
    assert world.told() == ("a", pid, 0)
    assert starter.log_file("a").exists()


def test_names_are_unique_and_there_is_a_limit(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    pid = world.run("a", "exec sleep 1000")
    with pytest.raises(ServiceError, match=rf"process 'a' runs already \(pid {pid}\); stop it first"):
        world.run("a", "true")
    monkeypatch.setattr(limits, "MAX_SERVICE_PROCESSES", 1)
    with pytest.raises(ServiceError, match="1 run already") as caught:
        world.run("b", "true")
    assert caught.value.code == 1012
    assert world.supervisor.processes() == {"a": pid}


def test_the_same_name_from_many_threads_starts_once(world: World) -> None:
    results: queue.Queue[str] = queue.Queue()

    def start() -> None:
        try:
            world.run("a", "exec sleep 1000")
            results.put("started")
        except ServiceError as error:
            results.put("refused" if "already" in str(error) else str(error))

    threads = [threading.Thread(target=start) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    assert sorted(results.get(timeout=WAIT) for _ in threads) == ["refused"] * 3 + ["started"]


@pytest.mark.parametrize("command", [[], [""], ["/bin/sh", ""], ["a\0b"]])
def test_a_command_that_cannot_be_one(world: World, command: list[str]) -> None:
    with pytest.raises(ServiceError, match="a command is a program and arguments"):
        world.supervisor.start("a", command)


def test_a_program_that_is_not_there_leaves_nothing(world: World) -> None:
    with pytest.raises(ServiceError, match="program '/no/such': No such file") as caught:
        world.supervisor.start("a", ["/no/such"], permissions=["a.b"])
    assert caught.value.code == 1001
    assert world.supervisor.processes() == {} and not world.tokens._by_pid
    assert "No such file" in world.supervisor.log_file("a").read_text()
    assert world.exits.empty()
    with pytest.raises(ParamValueError, match="no permission"):
        world.supervisor.start("a", ["/bin/true"], permissions=["no permission"])
    assert world.run("a", "exit 0") and world.told()[0] == "a"


def test_a_log_that_cannot_be_made_is_told(world: World) -> None:
    (world.directory / "logs").write_text("in the way")
    with pytest.raises(ServiceError, match="its log"):
        world.run("a", "true")
    (world.directory / "logs").unlink()


def test_a_process_has_its_token_before_its_first_instruction_and_loses_it(
    world: World, fifo: Callable[[str], tuple[Path, int]]
) -> None:
    path, fd = fifo("f")
    file = world.directory / "tokens.json"
    pid = world.run(
        "a", f'grep -o "pid.: $$" {file} > {path}; exec sleep 1000', permissions=["a.b"], bundle="com.example"
    )
    assert line_from(fd) == f'pid": {pid}\n'.encode()
    info = world.tokens.info(world.tokens.token_of(pid))
    assert (info.pid, info.uid, info.name) == (pid, os.geteuid(), "a")
    assert (info.bundle, info.permissions) == ("com.example", ("a.b",))
    world.supervisor.kill("a")
    world.told()
    with pytest.raises(ServiceError):
        world.tokens.info(info.token)


def test_close_ends_all_the_stubborn_ones_by_force(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fifo: Callable[[str], tuple[Path, int]]
) -> None:
    monkeypatch.setattr(supervisor, "END_WAIT", 0.2)
    world = World(tmp_path)
    path, fd = fifo("f")
    polite = world.run("polite", "exec sleep 1000")
    stubborn = world.run("stubborn", f"trap '' TERM; echo ready > {path}; while :; do sleep 1000; done")
    assert line_from(fd) == b"ready\n"
    world.supervisor.close(leave=False)
    world.supervisor.close(leave=False)
    assert ended(polite) and ended(stubborn)
    assert world.exits.empty() and world.supervisor.processes() == {} and not world.tokens._by_pid
    with pytest.raises(ServiceError, match="shutting down"):
        world.run("late", "true")


def test_left_processes_go_on_and_a_later_supervisor_adopts_them(tmp_path: Path) -> None:
    first = World(tmp_path)
    pid = first.run("a", "exec sleep 1000", permissions=["a.b"])
    token = first.tokens.token_of(pid)
    first.supervisor.close(leave=True)
    second = World(tmp_path)
    try:
        assert second.tokens.token_of(pid) == token != 0
        second.supervisor.adopt("a", pid)
        second.supervisor.adopt("a", pid)
        assert second.supervisor.processes() == {"a": pid}
        assert second.supervisor.start("a", ["/bin/true"]) == pid  # nothing is started twice
        with pytest.raises(ServiceError, match="cannot have the same name"):
            second.supervisor.adopt("a", os.getppid())
        second.supervisor.stop("a")
        assert second.told() == ("a", pid, UNKNOWN_STATUS)
        assert second.tokens.token_of(pid) == 0
    finally:
        second.supervisor.close(leave=False)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGTERM


def test_a_child_somebody_else_waited_for_is_told_as_unknown(world: World, caplog: pytest.LogCaptureFixture) -> None:
    watch = world.supervisor._watch
    stop, go_on = threading.Event(), threading.Event()
    read, write = os.pipe()

    def hold_up() -> None:
        """Keep the supervisor's thread busy."""
        stop.set()
        assert go_on.wait(WAIT)

    try:
        watch.watch(read, hold_up)
        os.write(write, b"x")
        assert stop.wait(WAIT)
        pid = world.run("a", "exit 0")
        os.waitpid(pid, 0)
        go_on.set()
        assert world.told() == ("a", pid, UNKNOWN_STATUS)
        assert "SIGCHLD must not be ignored" in caplog.text
    finally:
        go_on.set()
        os.close(read)
        os.close(write)


def test_a_full_disk_is_told_and_ends_are_still_told(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    pid = world.run("a", "exec sleep 1000")

    def full() -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(world.tokens, "_save", full)
    with pytest.raises(ServiceError, match=r"process 'b' gets no token: .*tokens\.json cannot be written"):
        world.run("b", "true")
    world.supervisor.kill("a")
    assert world.told()[:2] == ("a", pid)
    assert "No space left" in caplog.text and world.tokens.living() == []


def test_killing_an_adopted_process_spares_a_group_that_is_not_its_own(world: World) -> None:
    with subprocess.Popen(["sleep", "1000"]) as stranger:  # in the group of this very test
        world.supervisor.adopt("s", stranger.pid)
        world.supervisor.kill("s")
        assert world.told() == ("s", stranger.pid, UNKNOWN_STATUS)
        assert stranger.wait(WAIT) == -signal.SIGKILL
    with subprocess.Popen(["sh", "-c", "sleep 1000 & wait"], start_new_session=True) as leader:
        world.supervisor.adopt("l", leader.pid)
        world.supervisor.kill("l")
        assert world.told()[0] == "l"


@pytest.mark.parametrize("pid", [0, 1, -5, 2**22 + 1])
def test_what_cannot_be_adopted(world: World, pid: int) -> None:
    with pytest.raises(ServiceError) as caught:
        world.supervisor.adopt("a", pid)
    assert caught.value.code == 1007
    with pytest.raises(ServiceError):
        world.supervisor.adopt("a", os.getpid())


def test_logs_are_rotated_while_a_process_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fifo: Callable[[str], tuple[Path, int]]
) -> None:
    rotated = threading.Event()
    rotate = logs.rotate

    def small(path: Path, largest: int = 0) -> bool:
        if rotate(path, 10):
            rotated.set()
            return True
        return False

    monkeypatch.setattr(logs, "rotate", small)
    monkeypatch.setattr(supervisor, "LOOK_INTERVAL", 0.01)
    world = World(tmp_path)
    path, _ = fifo("f")
    try:
        world.run("a", f"echo a first long line; read x < {path}; echo second")
        assert rotated.wait(WAIT)
        path.write_text("go\n")
        assert world.told()[2] == 0
        log = world.supervisor.log_file("a")
        assert any("a first long line" in line for line in logs.tail(log, 100))
        assert any(line == "second" for line in logs.tail(log, 100))
    finally:
        world.supervisor.close(leave=False)


def test_rotation_that_fails_is_logged(
    world: World, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    world.run("a", "exec sleep 1000")

    def full(path: Path) -> bool:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(logs, "rotate", full)
    with caplog.at_level(logging.WARNING):
        world.supervisor._rotate_logs()
    assert "No space left" in caplog.text


def test_forty_kills_in_a_row_leave_nothing_behind(world: World) -> None:
    def held() -> int:
        return len(os.listdir("/proc/self/fd"))

    before = held()
    for number in range(40):
        pid = world.run("a", "exec sleep 1000", permissions=["a.b"])
        if number % 2:
            world.supervisor.kill("a")
        else:
            os.kill(pid, signal.SIGKILL)
        assert world.told() == ("a", pid, -signal.SIGKILL)
    assert held() == before
    assert world.tokens.living() == [] and not world.tokens._by_token and not world.supervisor._watch._actions


def test_many_processes_ended_at_once_are_all_told(world: World) -> None:
    pids = {f"p{number}": world.run(f"p{number}", "exec sleep 1000") for number in range(12)}
    for pid in pids.values():
        os.kill(pid, signal.SIGKILL)
    told = {world.told() for _ in pids}
    assert told == {(name, pid, -signal.SIGKILL) for name, pid in pids.items()}
    assert world.supervisor.processes() == {} and not world.tokens._by_pid


def test_an_adopted_process_gets_a_token_if_it_is_said_what_it_may(world: World) -> None:
    with subprocess.Popen(["/bin/sleep", "100"], start_new_session=True) as first:
        world.supervisor.adopt("a", first.pid, permissions=("x.A",))
        info = world.tokens.info(world.tokens.token_of(first.pid))
        assert (info.name, info.pid, info.uid, info.permissions) == ("a", first.pid, os.geteuid(), ("x.A",))
        world.supervisor.kill("a")
        world.told()
        assert world.tokens.token_of(first.pid) == 0 and world.tokens.living() == []
    with subprocess.Popen(["/bin/sleep", "100"], start_new_session=True) as second:
        world.supervisor.adopt("b", second.pid)
        assert world.tokens.token_of(second.pid) == 0
        with pytest.raises(ParamValueError):
            world.supervisor.adopt("c", second.pid, permissions=("? ?",))
        assert world.supervisor.processes() == {"b": second.pid}
        second.kill()
        world.told()


def test_a_token_is_not_given_to_a_process_that_ends_meanwhile(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    with subprocess.Popen(["/bin/sleep", "100"]) as process:
        issue = world.tokens.issue

        def late(pid: int, **more: object) -> int:
            token = issue(pid, **more)  # type: ignore[arg-type]
            process.kill()
            process.wait()
            return token

        monkeypatch.setattr(world.tokens, "issue", late)
        with pytest.raises(ServiceError, match="has ended") as caught:
            world.supervisor.adopt("a", process.pid, permissions=())
    assert caught.value.code == 1007
    assert world.supervisor.processes() == {} and world.tokens.living() == []
