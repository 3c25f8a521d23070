"""Children: how they start, how they end, and what their parent is told when they stall, starve or die."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from binderkit import process
from binderkit.driver.unix import oneway
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    ForkedError,
    IpcError,
    ParamTypeError,
    ParamValueError,
    QuotaError,
)
from binderkit.ipc.driver import peek_driver, set_driver
from binderkit.ipc.option import MessageOption
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import RemoteObject
from binderkit.memory import pool
from binderkit.parcel import MessageSequence
from binderkit.process import Child, spawn
from tests.driver.unix import hostile
from tests.driver.unix.hostile import Attempt, Service, add_one, until

ONEWAY = MessageOption(MessageOption.TF_ASYNC)
SPAWN = 20
CALL_CHILD = 21


class Thrifty(Service):
    """A service that may open few descriptors."""

    def __init__(self) -> None:
        super().__init__()
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard))


class Parent(Service):
    """A service with a child of its own."""

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> bool:
        if code == SPAWN:
            self.child = spawn(Service)
            reply.write_int(self.child.pid)
            reply.write_remote_object(self.child.root)
            return True
        return super().on_remote_message_request(code, data, reply, option)


def never_there() -> RemoteObject:
    raise RuntimeError("this factory fails")


def stop(pid: int) -> None:
    """Stop a process; a signal is only under way when kill returns."""
    os.kill(pid, signal.SIGSTOP)
    until(lambda: _state(pid) == "T", "it is stopped")


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return "Z"


@pytest.fixture(autouse=True)
def fresh_driver() -> Iterator[None]:
    yield
    process.shutdown()
    pool.trim()


@pytest.fixture
def child() -> Iterator[Child]:
    with spawn(Service) as made:
        yield made


def send(proxy: RemoteProxy, code: int, timeout: float | None = None, **options: Any) -> MessageSequence:
    data, reply = MessageSequence(), MessageSequence()
    proxy.send_request(code, data, reply, MessageOption(timeout=timeout, **options))
    return reply


def test_a_child_serves_and_ends_with_its_context(child: Child) -> None:
    add_one(child.root)
    assert child.is_alive()
    assert child.exit_code is None
    assert child.root.owner.pid == child.pid
    child.close()
    child.close()
    assert child.exit_code == 0
    assert f"{child.pid}" in repr(child)


def test_kill_is_noticed(child: Child) -> None:
    call = Attempt(lambda: send(child.root, hostile.HOLD_ONE_WAY))
    until(lambda: child.is_alive(), "it lives")
    child.kill()
    assert isinstance(call.over().error, DeadObjectError)
    assert child.exit_code == -signal.SIGKILL
    until(child.root.is_object_dead, "the proxy knows")
    with pytest.raises(DeadObjectError):
        add_one(child.root)


@pytest.mark.parametrize(
    ("root", "error"),
    [
        ("no colon", ParamValueError),
        (":x", ParamValueError),
        ("module:", ParamValueError),
        (lambda: None, ParamTypeError),
        (5, ParamTypeError),
    ],
)
def test_what_cannot_be_named(root: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        spawn(root)


def test_arguments_are_json() -> None:
    with pytest.raises(ParamTypeError, match="JSON"):
        spawn(Service, object())


@pytest.mark.parametrize("root", ["tests.test_process:never_there", "tests.nowhere:X", "tests.test_process:Nothing"])
def test_a_child_that_fails_to_start(root: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(DeadObjectError, match=r"ended with code -?\d+ before it offered its object"):
        spawn(root)
    assert "Error" in capfd.readouterr().err, "its own words are in its error output"


# --- a child that stalls ------------------------------------------------------------------------------


def test_a_stopped_child_and_a_timeout(child: Child) -> None:
    add_one(child.root)
    stop(child.pid)
    try:
        with pytest.raises(CallTimeoutError):
            send(child.root, hostile.ADD_ONE, timeout=0.05)
    finally:
        os.kill(child.pid, signal.SIGCONT)
    add_one(child.root)  # the late reply answers nobody


def test_a_stopped_child_and_one_way_calls(child: Child, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(oneway.limits, "ONEWAY_SEND_WAIT", 0.1)
    stop(child.pid)
    sent = 0
    try:
        with pytest.raises(QuotaError, match="was not sent"):
            while True:
                data = MessageSequence()
                data.write_string("x" * 5000)
                child.root.send_request(hostile.NOTHING, data, MessageSequence(), ONEWAY)
                sent += 1
    finally:
        os.kill(child.pid, signal.SIGCONT)
    assert sent > 1
    add_one(child.root)


def test_a_handler_that_never_returns(child: Child) -> None:
    begin = time.monotonic()
    with pytest.raises(CallTimeoutError):
        send(child.root, hostile.HOLD_ONE_WAY, timeout=0.05)
    assert time.monotonic() - begin < 5
    add_one(child.root)
    child.kill()  # it would wait for its handler


def test_a_child_without_descriptors_says_so_and_answers_afterwards() -> None:
    """It may have 64, a message brings 100: that call fails with words, the next is answered."""
    null = os.open("/dev/null", os.O_RDONLY)
    data = MessageSequence()
    for _ in range(100):
        data.write_file_descriptor(null)
    os.close(null)
    with spawn(Thrifty) as child:
        for _ in range(3):
            with pytest.raises(IpcError, match="descriptors"):
                child.root.send_request(hostile.NOTHING, data, MessageSequence(), MessageOption(timeout=5))
            add_one(child.root)
        assert child.is_alive()
    data.reclaim()


# --- who ends with whom ---------------------------------------------------------------------------------


def test_a_child_ends_with_its_parent() -> None:
    with spawn(Parent) as parent:
        grandchild = send(parent.root, SPAWN).read_int()
        os.kill(grandchild, 0)
        parent.kill()
        until(lambda: _state(grandchild) == "Z", "the grandchild ends")


def test_the_introduced_talk_while_the_introducer_is_stopped() -> None:
    """B hands C an object of A; A and C are connected directly."""
    with spawn(Parent) as middle:
        reply = send(middle.root, SPAWN)
        reply.read_int()
        third = reply.read_remote_object()
        add_one(third)
        stop(middle.pid)
        try:
            add_one(third)  # no broker in the data path
        finally:
            os.kill(middle.pid, signal.SIGCONT)


def test_an_owner_that_dies_while_its_object_is_on_its_way() -> None:
    """The guest gets a dead proxy, not a hang."""
    with spawn(Service) as owner, spawn(Service) as guest:
        stop(owner.pid)
        data = MessageSequence()
        data.write_remote_object(owner.root)
        add_one(guest.root)
        before = len(os.listdir(f"/proc/{guest.pid}/fd"))
        call = Attempt(lambda: guest.root.send_request(hostile.KEEP, data, MessageSequence()))
        until(lambda: len(os.listdir(f"/proc/{guest.pid}/fd")) > before, "the guest waits for the owner's HELLO")
        owner.kill()
        assert call.over().error is None
        with pytest.raises(IpcError, match="is dead and cannot be passed on"):
            send(guest.root, hostile.GIVE_BACK)


def test_a_forked_child_uses_a_driver_of_its_own(child: Child) -> None:
    forked = os.fork()
    if forked == 0:
        code = 1
        try:
            try:
                add_one(child.root)
            except ForkedError:
                with spawn(Service) as own:
                    add_one(own.root)
                code = 0
        finally:
            os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(forked, 0)[1]) == 0
    add_one(child.root)


def test_shutdown_and_start_again() -> None:
    with spawn(Service) as child:
        process.shutdown()
        with pytest.raises(DeadObjectError):
            add_one(child.root)
    with spawn(Service) as again:
        add_one(again.root)


def test_a_child_started_from_a_script_finds_its_class_there(tmp_path: Any) -> None:
    script = tmp_path / "hello.py"
    script.write_text(
        "import binderkit as bk\n"
        "class Echo(bk.RemoteObject):\n"
        "    def __init__(self): super().__init__('t.IEcho')\n"
        "    def on_remote_message_request(self, code, data, reply, option):\n"
        "        reply.write_string(data.read_string()); return True\n"
        "if __name__ == '__main__':\n"
        "    with bk.spawn(Echo) as child:\n"
        "        data, reply = bk.MessageSequence(), bk.MessageSequence()\n"
        "        data.write_string('hello'); child.root.send_request(1, data, reply); print(reply.read_string())\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=30,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "hello\n"), done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("one_cpu", [True, False])
def test_stress(one_cpu: bool) -> None:
    """Several threads, several children, nested calls, a tiny switch interval."""
    cpus, interval = os.sched_getaffinity(0), sys.getswitchinterval()
    if one_cpu:
        os.sched_setaffinity(0, {min(cpus)})
    sys.setswitchinterval(1e-5)
    try:
        with spawn(Service) as a, spawn(Service) as b, spawn(Service) as c:
            until_time = time.monotonic() + 5
            stop = threading.Event()

            def work() -> None:
                number = 0
                while time.monotonic() < until_time and not stop.is_set():
                    number += 1
                    for child in (a, b, c):
                        add_one(child.root, number)
                    made = send(a.root, hostile.MAKE).read_remote_object()
                    data = MessageSequence()
                    data.write_remote_object(made)
                    b.root.send_request(hostile.KEEP, data, MessageSequence())

            attempts = [Attempt(work) for _ in range(6)]
            for attempt in attempts:
                attempt.join(30)
                assert attempt.error is None
    finally:
        sys.setswitchinterval(interval)
        os.sched_setaffinity(0, cpus)


@pytest.mark.parametrize("choice", ["unix", "auto", None])
def test_the_socket_driver_is_chosen_where_no_device_can_be_used(
    choice: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINDERKIT_DEVICE", "/dev/there-is-none")
    monkeypatch.delenv("BINDERKIT_DRIVER", raising=False)
    if choice is not None:
        monkeypatch.setenv("BINDERKIT_DRIVER", choice)
    driver = process._make_default()
    driver.close()
    assert driver.name == "unix"


def test_the_kernel_driver_without_a_device_says_what_to_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERKIT_DRIVER", "kernel")
    monkeypatch.setenv("BINDERKIT_DEVICE", "/dev/there-is-none")
    with pytest.raises(IpcError, match="/dev/there-is-none: load the module"):
        process._make_default()


def test_a_driver_that_does_not_exist_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERKIT_DRIVER", "carrier pigeon")
    with pytest.raises(ParamValueError, match="carrier pigeon"):
        process._make_default()


def test_a_child_process_is_told_the_driver_of_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERKIT_DRIVER", "auto")
    monkeypatch.delenv("BINDERKIT_DEVICE", raising=False)
    before = peek_driver()
    try:
        set_driver(None)
        assert process.driver_variables() == {"BINDERKIT_DRIVER": "auto"}, "nothing is decided yet"
        set_driver(SimpleNamespace(name="unix"))
        assert process.driver_variables() == {"BINDERKIT_DRIVER": "unix"}
        set_driver(SimpleNamespace(name="kernel", device=SimpleNamespace(path="/dev/b7")))
        assert process.driver_variables() == {"BINDERKIT_DRIVER": "kernel", "BINDERKIT_DEVICE": "/dev/b7"}
    finally:
        set_driver(before)
