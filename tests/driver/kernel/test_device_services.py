"""A whole device over the kernel's Binder: SAMgr is handle 0, all the rest works as over sockets.

Runs where there are binder devices for tests (/dev/b32 and so on: in the guest); each test has one of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

import binderkit as bk
from binderkit import aio, process, samgr
from binderkit.errors import NoServiceManagerError, PermissionDeniedError, RefusedError, ServiceNotFoundError
from binderkit.ipc.driver import current_driver
from binderkit.samgr.access import get_token_info
from tests import test_aio, test_examples
from tests.contract.world import eventually
from tests.driver.kernel import device_abilities
from tests.samgr.on_demand import write_profile
from tests.samgr.processes import ask, samgr_process, service_process

FIRST, COUNT = 32, 8
"""Devices of these tests: the first one's number, and how many each of two processes that run tests at once has."""
WAIT = 60.0
"""Seconds something may take in the guest before it counts as missing."""
PATIENT = f"""
import sys
from binderkit import limits
limits.LOAD_TIMEOUT = limits.START_TIMEOUT = {WAIT}
limits.REFERENCES_INTERVAL = 1.0
if sys.orig_argv[-1].endswith("on_demand.py"):
    from binderkit.samgr import rebind
    rebind.DEFAULT_WAIT = {WAIT}
"""
"""sitecustomize.py of the processes that the tests start: programs take their time under emulation, and who holds what
is looked at often enough for a test."""
CAMERA = "ohos.permission.CAMERA"
UNREFERENCED = "[ability.stop-on-demand]\nunreferenced-unload = true\nrecycle-delay = 0\n"
_share = int(os.environ.get("SHARE", "0/1").split("/")[0]) % 2
_paths = itertools.cycle([f"/dev/b{FIRST + _share * COUNT + number}" for number in range(COUNT)])

pytestmark = pytest.mark.skipif(
    not os.path.exists(f"/dev/b{FIRST}"), reason=f"no binder device /dev/b{FIRST} here; these tests run in the guest"
)


@pytest.fixture
def binder(
    runtime_dir: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A runtime directory and a binder device without a context manager; our driver is closed at the end."""
    patient = tmp_path_factory.mktemp("patient")
    (patient / "sitecustomize.py").write_text(PATIENT)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(patient), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.setenv("BINDERKIT_DRIVER", "kernel")
    monkeypatch.setenv("BINDERKIT_DEVICE", next(_paths))
    monkeypatch.setenv("BINDERKIT_NO_AUTOSTART", "1")
    process.shutdown()
    try:
        yield runtime_dir
    finally:
        process.shutdown()
        gc.collect()


class Heard(samgr.SystemAbilityListener):
    """Keeps what it hears."""

    def __init__(self) -> None:
        super().__init__()
        self.news: queue.Queue[tuple[str, int]] = queue.Queue()

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        self.news.put(("added", ability_id))

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        self.news.put(("removed", ability_id))

    def next(self) -> tuple[str, int]:
        """Return what comes next."""
        return self.news.get(timeout=WAIT)


class Ended(threading.Event, bk.DeathRecipient):
    """Is set when a process ended."""

    def on_remote_died(self) -> None:
        self.set()


def daemon_pid() -> int:
    """Return the pid of the SAMgr in use."""
    remote = samgr.system_ability_manager().as_object()
    assert isinstance(remote, bk.RemoteProxy)
    return remote.owner.pid


def end_daemon(number: signal.Signals = signal.SIGTERM) -> None:
    """End the SAMgr in use, and wait until that is heard of."""
    remote = samgr.system_ability_manager().as_object()
    assert isinstance(remote, bk.RemoteProxy)
    remote.register_death_recipient(ended := Ended())
    os.kill(remote.owner.pid, number)
    assert ended.wait(WAIT)


def test_samgr_is_started_by_the_first_who_needs_it(binder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NoServiceManagerError, match="unset BINDERKIT_NO_AUTOSTART"):
        samgr.list_system_abilities()
    monkeypatch.delenv("BINDERKIT_NO_AUTOSTART")
    assert [info.id for info in samgr.list_system_abilities()] == [180, 3299, 65537]
    first = daemon_pid()
    assert first != os.getpid()
    end_daemon()
    os.waitpid(first, 0)  # whoever starts SAMgr does not wait for it
    second = daemon_pid()
    assert samgr.list_system_abilities() and second != first
    end_daemon()
    os.waitpid(second, 0)


def test_services_are_registered_found_and_forgotten_when_they_die(binder: Path) -> None:
    with samgr_process():
        samgr.subscribe_system_ability(0x100, heard := Heard())
        assert samgr.check_system_ability(0x100) is None
        with pytest.raises(ServiceNotFoundError):
            samgr.get_system_ability(0x100)
        with service_process(0x100, "tests.adder") as service:
            found = samgr.get_system_ability("tests.adder")
            assert ask(found, 1, 41) == 42 and ask(found, 2) == service.pid
            assert samgr.check_system_ability(0x100) is found
            info = next(one for one in samgr.list_system_abilities() if one.id == 0x100)
            assert (info.name, info.pid, info.uid) == ("tests.adder", service.pid, os.getuid())
            assert heard.next() == ("added", 0x100)
            service.kill()
            assert heard.next() == ("removed", 0x100)
        assert samgr.check_system_ability(0x100) is None
        samgr.unsubscribe_system_ability(0x100, heard)


def test_a_second_daemon_is_refused_whatever_its_directory(binder: Path, tmp_path: Path) -> None:
    tmp_path.chmod(0o700)
    with samgr_process() as first:
        for directory in (binder, tmp_path):
            second = subprocess.run(
                [sys.executable, "-m", "binderkit.daemon"],
                capture_output=True,
                text=True,
                timeout=WAIT,
                env={**os.environ, "BINDERKIT_RUNTIME_DIR": str(directory)},
            )
            assert second.returncode == 1 and "Traceback" not in second.stderr
            told = second.stderr.splitlines()[-1]
            if directory == binder:
                assert f"a SAMgr runs in {directory} already" in told
            else:
                assert f"has a context manager already: process {first.pid} of uid {os.getuid()}" in told
        assert daemon_pid() == first.pid


def test_the_daemon_ends_with_its_directory(binder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    doomed = tmp_path / "doomed"
    monkeypatch.setenv("BINDERKIT_RUNTIME_DIR", str(doomed))
    with samgr_process() as running:
        doomed.rename(tmp_path / "elsewhere")
        assert running.wait(WAIT) == 0


def test_an_ability_is_started_on_demand_and_survives_the_daemon(binder: Path) -> None:
    write_profile(binder / "profiles", "lazy", 0x100, "Lazy")
    with samgr_process() as first:
        samgr.subscribe_system_ability(0x100, heard := Heard())
        found = samgr.get_system_ability(0x100)
        pid = ask(found, 2)
        assert heard.next() == ("added", 0x100)
        first.kill()
        first.wait(WAIT)
    assert ask(found, 2) == pid, "what was found goes on without SAMgr"
    with samgr_process():
        assert ask(samgr.get_system_ability(0x100, WAIT), 2) == pid, "taken over, not started again"
        assert [heard.next(), heard.next()] == [("removed", 0x100), ("added", 0x100)]
        assert samgr.get_system_process_info(0x100).pid == pid
        os.kill(pid, signal.SIGKILL)
        assert heard.next() == ("removed", 0x100)
        samgr.unsubscribe_system_ability(0x100, heard)


def test_an_ability_that_somebody_holds_stays_and_one_that_nobody_holds_goes(binder: Path) -> None:
    for number, name in enumerate(("held", "spare"), 0x70):
        write_profile(binder / "profiles", name, number, "Lazy", UNREFERENCED)

    def state(key: int) -> samgr.AbilityState:
        return next(one.state for one in samgr.list_ability_states() if one.id == key)

    with samgr_process():
        held = samgr.get_system_ability(0x70)
        samgr.get_system_ability(0x71)  # and not kept
        gc.collect()
        eventually(lambda: state(0x71) is samgr.AbilityState.NOT_LOADED, "nobody holds it, so it goes", WAIT)
        # Both were counted at the same interval, the one that is held since earlier.
        assert state(0x70) is samgr.AbilityState.LOADED and ask(held, 1, 1) == 2
        del held
        gc.collect()
        eventually(lambda: state(0x70) is samgr.AbilityState.NOT_LOADED, "its last holder is gone", WAIT)


class Who(bk.RemoteObject):
    """Answers, and keeps, its caller's pid and token and whether it has the permission."""

    def __init__(self) -> None:
        super().__init__("tests.IWho")
        self.told: queue.Queue[tuple[int, int, int]] = queue.Queue()

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        try:
            samgr.check_permission(CAMERA)
            permitted = 1
        except PermissionDeniedError:
            permitted = 0
        seen = bk.IPCSkeleton.get_calling_pid(), bk.IPCSkeleton.get_calling_token_id(), permitted
        self.told.put(seen)
        if code == device_abilities.ASK:
            for number in seen:
                reply.write_long(number)
        return True


def test_tokens_go_by_the_callers_pid_and_one_way_calls_have_neither(binder: Path) -> None:
    (binder / "profiles").mkdir(mode=0o700)
    (binder / "profiles" / "asking.toml").write_text(
        f'process = "asking"\npermissions = ["{CAMERA}"]\n[[ability]]\nid = 0x100\nrun-on-create = false\n'
        f'entry = "{device_abilities.__file__}:Asking"\n'
    )
    with samgr_process():
        samgr.add_system_ability(device_abilities.WHO, who := Who())
        asking = samgr.get_system_ability(0x100)
        with bk.MessageSequence() as data, bk.MessageSequence() as reply:
            asking.send_request(device_abilities.ASK, data, reply)
            pid, token, permitted = (reply.read_long() for _ in range(3))
        assert pid == samgr.get_system_process_info(0x100).pid and permitted == 1
        assert get_token_info(token).pid == pid and who.told.get(timeout=WAIT) == (pid, token, 1)
        with bk.MessageSequence() as data, bk.MessageSequence() as reply:
            asking.send_request(device_abilities.TELL, data, reply)
        assert who.told.get(timeout=WAIT) == (0, 0, 0), "the kernel does not say who makes one-way calls"
        samgr.remove_system_ability(device_abilities.WHO)


def test_a_process_of_system_abilities_runs_by_hand(binder: Path) -> None:
    write_profile(binder / "by-hand", "lazy", 0x100, "Lazy")
    profile = binder / "by-hand" / "lazy.toml"
    profile.write_text(profile.read_text().replace("run-on-create = false", "run-on-create = true"))
    with samgr_process():
        running = subprocess.Popen([sys.executable, "-m", "binderkit.samgr.sa_main", str(profile)])
        try:
            assert ask(samgr.get_system_ability(0x100, WAIT), 2) == running.pid
        finally:
            running.terminate()
            assert running.wait(WAIT) == 0
        assert samgr.check_system_ability(0x100) is None


def test_own_registrations_are_made_again(binder: Path) -> None:
    with samgr_process() as first:
        with service_process(0x100) as service:
            assert ask(samgr.get_system_ability(0x100, WAIT), 2) == service.pid
            first.kill()
            first.wait(WAIT)
            with samgr_process():
                assert ask(samgr.get_system_ability(0x100, WAIT), 2) == service.pid


def test_whoever_the_policy_does_not_know_gets_nothing(binder: Path) -> None:
    os.chmod(os.environ["BINDERKIT_DEVICE"], 0o666)
    program = (
        "import os\n"
        "os.setgid(4321); os.setuid(4321)\n"
        "from binderkit import samgr\n"
        "from binderkit.errors import RefusedError\n"
        "try:\n"
        "    print(samgr.list_system_abilities())\n"
        "except RefusedError as error:\n"
        "    print('refused:', error)\n"
    )

    def stranger() -> str:
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=WAIT)
        assert done.returncode == 0, done.stderr
        return done.stdout

    with samgr_process():
        assert "refused: uid 4321 may not use this SAMgr (no policy file has no rule for it)" in stranger()
    (binder / "policy.toml").write_text("[[allow]]\nuid = 4321\nids = 180\n")
    with samgr_process():
        told = stranger()
        assert "id=180" in told and "id=3299" not in told


def test_its_own_driver_reaches_the_services(binder: Path) -> None:
    """A service's environment says what the daemon uses."""
    write_profile(binder / "profiles", "lazy", 0x100, "Lazy")
    with samgr_process():
        pid = ask(samgr.get_system_ability(0x100), 2)
        environment = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        assert b"BINDERKIT_DRIVER=kernel" in environment
        assert b"BINDERKIT_DEVICE=" + os.environ["BINDERKIT_DEVICE"].encode() in environment


def test_samgr_cannot_be_reached_from_its_own_process(binder: Path) -> None:
    driver = current_driver()
    driver.become_context(bk.RemoteObject("tests.IContext"))
    with pytest.raises(NoServiceManagerError, match="this process is the context manager"):
        driver.context_object(start=True)
    with pytest.raises(RefusedError, match="already offers"):
        driver.become_context(bk.RemoteObject("tests.IContext"))


def android_request(*more: bytes) -> bytes:
    """Return a request to Android's service manager, as Android 11 writes it."""
    header = struct.pack("<iiI", 0x400000, -1, 0x53595354)
    return b"".join([header, string16("android.os.IServiceManager"), *more])


def string16(text: str) -> bytes:
    """Return a text as Android's parcels have it."""
    data = struct.pack("<i", len(text)) + text.encode("utf-16-le") + b"\0\0"
    return data + b"\0" * (-len(data) % 4)


ANDROID_CLIENT = """
import sys
from tests.kernel.hello_binder import Device
device = Device(sys.argv[1])
for line in sys.stdin:
    code, request = line.split()
    print(device.call(int(code), bytes.fromhex(request)).hex())
"""


def test_androids_programs_find_the_same_services(binder: Path) -> None:
    """The other side uses the device without this package."""
    (binder / "policy.toml").write_text("android = 30\n")
    with samgr_process(), service_process(0x100, "tests.adder"):
        asked = [
            (4, android_request(struct.pack("<i", 15))),  # list
            (2, android_request(string16("tests.adder"))),  # check
            (2, android_request(string16("tests.nobody"))),
        ]
        done = subprocess.run(
            [sys.executable, "-c", ANDROID_CLIENT, os.environ["BINDERKIT_DEVICE"]],
            input="".join(f"{code} {request.hex()}\n" for code, request in asked),
            capture_output=True,
            text=True,
            timeout=WAIT,
        )
        assert done.returncode == 0, done.stderr
        listed, found, missing = (bytes.fromhex(line) for line in done.stdout.split())
    names = ["binderkit.abilities", "binderkit.events", "binderkit.parameters", "tests.adder"]
    assert listed == struct.pack("<ii", 0, 4) + b"".join(map(string16, names))
    exception, kind, _, handle, _, stability = struct.unpack("<iIIQQi", found)
    assert (exception, kind, stability) == (0, 0x73682A85, 0x0C) and handle > 0
    assert struct.unpack("<iIIQQi", missing)[3] == 0


CALLER = """
import binderkit as bk
from binderkit.ipc.driver import current_driver
from tests import test_aio
remote = current_driver().context_object(start=False)
for code in (test_aio.PLAIN, test_aio.COROUTINE):
    with bk.MessageSequence() as data, bk.MessageSequence() as reply:
        data.write_int(41)
        remote.send_request(code, data, reply)
        print(reply.read_int())
with bk.MessageSequence() as data, bk.MessageSequence() as reply:
    data.write_remote_object(own := test_aio.Service())
    data.write_int(1)
    remote.send_request(test_aio.CALL_BACK, data, reply)
    print(reply.read_int())
for number in range(20):
    with bk.MessageSequence() as data:
        data.write_int(number)
        remote.send_request(
            test_aio.NOTE_LATER, data, bk.MessageSequence(), bk.MessageOption(bk.MessageOption.TF_ASYNC)
        )
with bk.MessageSequence() as data, bk.MessageSequence() as reply:
    data.write_int(0)
    try:
        remote.send_request(test_aio.HANG, data, reply, bk.MessageOption(timeout=2.0))
    except bk.CallTimeoutError:
        print("timed out")
"""


def test_an_event_loop_serves(binder: Path) -> None:
    service = test_aio.Service()
    current_driver().become_context(service)

    async def main() -> str:
        async with aio.serving():
            with pytest.raises(bk.IpcError, match="another event loop serves"):
                async with aio.serving():
                    pass
            caller = await asyncio.create_subprocess_exec(sys.executable, "-c", CALLER, stdout=subprocess.PIPE)
            said, _ = await asyncio.wait_for(caller.communicate(), WAIT)
            until = asyncio.get_running_loop().time() + WAIT
            while not service.cancelled.is_set() or len(service.seen) < 20:
                assert asyncio.get_running_loop().time() < until
                await asyncio.sleep(0.05)  # the interval between two looks
            return said.decode()

    assert asyncio.run(main()).split("\n") == ["42", "42", "102", "timed out", ""]
    assert service.seen == list(range(20)), "one-way calls of one process are handled in order"
    assert service.threads == {threading.main_thread().name}


@pytest.mark.parametrize("name", ["on_demand", "connect_ability", "samgr_service", "callback", "asyncio_service"])
def test_the_examples_print_the_same(binder: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.delenv("BINDERKIT_NO_AUTOSTART")
    test_examples.test_an_example_prints_what_it_promises(name)
    monkeypatch.setenv("BINDERKIT_NO_AUTOSTART", "1")
    with contextlib.suppress(NoServiceManagerError):  # examples with a directory of their own end their SAMgr
        end_daemon()
