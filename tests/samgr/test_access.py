"""samgr/access.py and the whole way of a token: supervisor, registry, SAMgr, a guarded service, its clients."""

from __future__ import annotations

import asyncio
import dataclasses
import inspect
import json
import os
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from binderkit import process
from binderkit.driver.unix import rendezvous
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    NoServiceManagerError,
    ParamTypeError,
    ParamValueError,
    PermissionDeniedError,
    ServiceError,
)
from binderkit.interface import proxy
from binderkit.ipc import tokens
from binderkit.ipc.context import CallContext, Caller, current
from binderkit.ipc.skeleton import IPCSkeleton
from binderkit.samgr import access
from binderkit.samgr.access import (
    check_application_permission,
    check_permission,
    check_permission_async,
    get_token_info,
    requires_permission,
    verify_access_token,
    verify_access_token_async,
)
from binderkit.samgr.service import SystemAbilityManager
from binderkit.samgr.supervisor import Supervisor
from binderkit.samgr.token_service import TokenService
from binderkit.samgr.tokens import TokenRegistry
from tests.samgr.access_programs import CAMERA, MEDIA, Camera, ICamera

WAIT = 30.0
ROOT = Path(__file__).parents[2]
COMMAND = [sys.executable, "-m", "tests.samgr.access_programs"]


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing remembered from the test before."""
    monkeypatch.setattr(tokens, "_state", tokens._State())
    monkeypatch.setattr(access, "_granted", {})


class Device:
    """SAMgr with tokens and a supervisor, in this very process."""

    def __init__(self, directory: Path) -> None:
        self.registry = TokenRegistry(directory)
        self.exits: queue.Queue[tuple[str, int, int]] = queue.Queue()
        self.service = TokenService(self.registry)
        self.service.install()
        self.manager = SystemAbilityManager(parts=[self.service], permitted=self.service.permits)
        self.end = rendezvous.serve_context(process.local_node(), self.manager)
        self.supervisor = Supervisor(directory, on_exit=lambda *told: self.exits.put(told), tokens=self.registry)

    def start(self, name: str, what: str, *permissions: str) -> int:
        path = os.pathsep.join([str(ROOT), str(ROOT / "src")])
        return self.supervisor.start(
            name, [*COMMAND, what], environment={"PYTHONPATH": path}, permissions=permissions, bundle=f"com.{name}"
        )

    def outcome(self, name: str) -> dict[str, Any]:
        """Wait for a client's end; return what it found."""
        told = self.exits.get(timeout=WAIT)
        text = self.supervisor.log_file(name).read_text()
        assert told[0] == name and told[2] == 0, text
        found: dict[str, Any] = json.loads(next(line for line in text.splitlines() if line.startswith("{")))
        return found

    def close(self) -> None:
        self.supervisor.close(leave=False)
        self.manager.close()
        self.end()
        self.service.close()


@pytest.fixture
def machine(device: Path) -> Iterator[Device]:
    made = Device(device)
    try:
        yield made
    finally:
        made.close()


def test_a_token_goes_its_whole_way(machine: Device) -> None:
    machine.start("service", "service")
    pid = machine.start("good", "client", CAMERA)
    good = machine.outcome("good")
    assert good["pid"] == pid and good["own"] == good["seen"] != 0
    assert (good["shoot"], good["again"], good["record"], good["frames"]) == ("3!", "4", 3.0, [0, 1, 2])
    machine.start("bad", "client", MEDIA)
    bad = machine.outcome("bad")
    assert bad["own"] == bad["seen"] not in (0, good["own"])
    for call in ("shoot", "again", "record", "frames"):
        assert bad[call].startswith("PermissionDeniedError 201: process")
        assert f"lacks the permission '{CAMERA}'" in bad[call] and "must declare it" in bad[call]
    native = subprocess.run(
        [*COMMAND, "client"], cwd=ROOT, capture_output=True, text=True, timeout=WAIT, check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    found = json.loads(native.stdout)
    assert found["own"] == found["seen"] == 0
    assert (found["shoot"], found["frames"]) == ("3!", [0, 1, 2])  # SAMgr's own user, started by hand


def test_a_policy_file_takes_a_declared_permission_away(machine: Device, device: Path) -> None:
    (device / "permissions.toml").write_text(f'[[grant]]\npermissions = "{CAMERA}"\nbundles = "com.good"\n')
    machine.start("service", "service")
    machine.start("bad", "client", CAMERA)
    assert "must grant it" in machine.outcome("bad")["shoot"]
    machine.start("good", "client", CAMERA)
    assert machine.outcome("good")["shoot"] == "3!"


# --- what SAMgr answers, asked by a process that is not SAMgr ----------------------------------------------


@pytest.fixture
def client(device: Path) -> Iterator[TokenRegistry]:
    """A SAMgr process whose registry this test's process has loaded too; we are a client of it."""
    registry = TokenRegistry(device)
    ready, done = os.pipe()
    code = (
        "import os, sys, threading, pathlib\n"
        "from binderkit import process\n"
        "from binderkit.driver.unix import rendezvous\n"
        "from binderkit.samgr.service import SystemAbilityManager\n"
        "from binderkit.samgr.token_service import TokenService\n"
        "from binderkit.samgr.tokens import TokenRegistry\n"
        "registry = TokenRegistry(pathlib.Path(os.environ['BINDERKIT_RUNTIME_DIR']))\n"
        "manager = SystemAbilityManager(parts=[TokenService(registry)])\n"
        "end = rendezvous.serve_context(process.local_node(), manager)\n"
        f"os.write({done}, b'R')\n"
        "sys.stdin.read()\n"
        "manager.close(); end(); process.shutdown()\n"
    )
    registry.issue(os.getpid(), name="me", bundle="com.me", permissions=[CAMERA])
    with subprocess.Popen([sys.executable, "-c", code], pass_fds=[done], stdin=subprocess.PIPE) as manager:
        os.close(done)
        try:
            assert os.read(ready, 1) == b"R"
            manager_pid.append(manager.pid)
            yield registry
        finally:
            os.close(ready)
            manager_pid.clear()
            assert manager.stdin is not None
            manager.stdin.close()
            manager.wait(WAIT)


manager_pid: list[int] = []


def call_of(caller: Caller) -> Any:
    return current.set(CallContext(caller, None, None, 0, 1, 9, None, None))


def test_questions_to_samgr(client: TokenRegistry) -> None:
    token = IPCSkeleton.get_calling_token_id()
    assert token == client.token_of(os.getpid()) != 0
    assert verify_access_token(token, CAMERA)
    assert not verify_access_token(token, MEDIA)
    assert not verify_access_token(token ^ 1, CAMERA) and not verify_access_token(0, CAMERA)
    assert get_token_info(token) == client.info(token)
    with pytest.raises(ServiceError, match="no process has the access token") as caught:
        get_token_info(token ^ 1)
    assert caught.value.code == 1007
    assert asyncio.run(verify_access_token_async(token, CAMERA))
    assert not asyncio.run(verify_access_token_async(0, CAMERA))
    check_permission(CAMERA)
    asyncio.run(check_permission_async(CAMERA))
    with pytest.raises(PermissionDeniedError):
        check_permission(MEDIA)
    with pytest.raises(PermissionDeniedError):
        asyncio.run(check_permission_async(MEDIA))


def test_a_pid_with_another_users_token_has_none(client: TokenRegistry) -> None:
    assert tokens.known_token_of(Caller(os.getpid(), os.getuid(), 1)) != 0
    tokens._state.own_token = None
    assert tokens.known_token_of(Caller(os.getpid(), os.getuid() + 1, 1)) == 0


def test_a_process_without_a_token_is_native_by_its_user(client: TokenRegistry) -> None:
    for uid, allowed in ((0, True), (os.geteuid(), True), (os.geteuid() + 77, False)):
        reset = call_of(Caller(os.getppid(), uid, 1))
        try:
            if allowed:
                check_permission(CAMERA)
                asyncio.run(check_permission_async(CAMERA))
            else:
                with pytest.raises(PermissionDeniedError, match="it has no access token: let SAMgr start it"):
                    check_permission(CAMERA)
        finally:
            current.reset(reset)


def test_a_granted_permission_is_remembered_for_a_moment(
    client: TokenRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    ask = tokens.ask

    def counting(code: int, write: Any) -> Any:
        asked.append(code)
        return ask(code, write)

    monkeypatch.setattr(tokens, "ask", counting)
    monkeypatch.setattr(access, "CACHE_TIME", 1000.0)
    for _ in range(3):
        check_permission(CAMERA)
        with pytest.raises(PermissionDeniedError):
            check_permission(MEDIA)
    assert asked == [110, 111, 111, 111, 111]  # a refusal is not remembered
    (key,) = access._granted
    assert time.monotonic() + 900 < access._granted[key] < time.monotonic() + 1001
    access._granted[key] = time.monotonic()  # its time is over
    check_permission(CAMERA)
    assert asked[5:] == [111]
    monkeypatch.setattr(access, "_CACHED", 1)
    access._granted.clear()
    access._granted[1, "x"] = 0.0
    check_permission(CAMERA)
    assert list(access._granted) == [key]  # it is bounded


def test_when_samgr_is_gone_nobody_has_a_permission(client: TokenRegistry) -> None:
    tokens.token_of(Caller(os.getppid(), os.getuid(), 1))
    os.kill(manager_pid[0], 9)
    caller = Caller(os.getppid(), os.getuid(), 1)
    reset = call_of(caller)
    try:
        for _ in range(2):
            with pytest.raises(PermissionDeniedError, match=r"cannot be told: .*; try again when SAMgr answers"):
                check_permission(CAMERA)
            with pytest.raises(PermissionDeniedError, match="cannot be told"):
                asyncio.run(check_permission_async(CAMERA))
    finally:
        current.reset(reset)
    with pytest.raises((NoServiceManagerError, DeadObjectError)):
        verify_access_token(5, CAMERA)


# --- without SAMgr ---------------------------------------------------------------------------------------


def test_where_no_samgr_ever_was_the_own_user_and_root_have_all(device: Path) -> None:
    check_permission(CAMERA)
    for caller, allowed in (
        (Caller(7, 0, 0), True),
        (Caller(7, os.geteuid(), 0), True),
        (Caller(7, os.geteuid() + 77, 0), False),
        (Caller(7, 0, 0, device_id="other"), False),
    ):
        reset = call_of(caller)
        try:
            if allowed:
                check_permission(CAMERA)
            else:
                with pytest.raises(PermissionDeniedError):
                    check_permission(CAMERA)
        finally:
            current.reset(reset)
    assert not (device / "samgr.sock").exists()  # and none was started for this


def test_only_applications_need_the_permission(client: TokenRegistry, device: Path) -> None:
    check_application_permission(CAMERA)  # we are the application com.me, which has this one
    with pytest.raises(PermissionDeniedError, match=MEDIA):
        check_application_permission(MEDIA)
    cases = [
        (Caller(os.getppid(), os.geteuid(), 1), True),  # no token, SAMgr's user: native
        (Caller(os.getppid(), os.geteuid() + 77, 1), False),  # no token, somebody else
        (Caller(os.getppid(), 0, 0, device_id="other"), False),
    ]
    for caller, allowed in cases:
        reset = call_of(caller)
        try:
            if allowed:
                check_application_permission(MEDIA)
            else:
                with pytest.raises(PermissionDeniedError):
                    check_application_permission(MEDIA)
        finally:
            current.reset(reset)


def test_a_process_of_system_abilities_needs_no_permission_of_applications(
    client: TokenRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = get_token_info(tokens.known_token_of(Caller(os.getpid(), os.getuid(), 1)))
    monkeypatch.setattr(access, "get_token_info", lambda token: dataclasses.replace(info, bundle=""))
    check_application_permission(MEDIA)
    with pytest.raises(PermissionDeniedError):
        check_permission(MEDIA)


def test_a_caller_of_another_device_has_none(client: TokenRegistry) -> None:
    reset = call_of(Caller(os.getpid(), 0, 0, device_id="other"))
    try:
        with pytest.raises(PermissionDeniedError, match="on device other lacks"):
            check_permission(CAMERA)
    finally:
        current.reset(reset)


# --- in SAMgr's own process --------------------------------------------------------------------------------


def test_samgrs_process_asks_itself(machine: Device) -> None:
    token = machine.registry.issue(os.getpid(), name="x", permissions=[CAMERA])
    assert IPCSkeleton.get_calling_token_id() == token
    assert verify_access_token(token, CAMERA) and not verify_access_token(token, MEDIA)
    assert asyncio.run(verify_access_token_async(token, CAMERA))
    check_permission(CAMERA)
    me = Caller(os.getpid(), os.getuid(), 1)
    assert machine.service.permits(me, CAMERA) and not machine.service.permits(me, MEDIA)
    assert machine.service.permits(Caller(os.getppid(), 0, 1), MEDIA)
    assert not machine.service.permits(Caller(os.getppid(), os.getuid() + 77, 1), MEDIA)
    assert not machine.service.permits(Caller(os.getpid(), 0, 1, device_id="other"), CAMERA)


# --- arguments and the decorator -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("token", "permission", "error"),
    [("5", CAMERA, ParamTypeError), (True, CAMERA, ParamTypeError), (-1, CAMERA, ParamValueError),
     (2**32, CAMERA, ParamValueError), (5, 5, ParamTypeError), (5, "", ParamValueError), (5, "a b", ParamValueError)],
)  # fmt: skip
def test_arguments_that_cannot_be(token: Any, permission: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        verify_access_token(token, permission)
    with pytest.raises(error):
        asyncio.run(verify_access_token_async(token, permission))


@pytest.mark.parametrize(
    ("thing", "what"), [(3, "int"), (property(lambda self: 1), "property"), (staticmethod(len), "static")]
)
def test_only_functions_are_decorated(thing: Any, what: str) -> None:
    with pytest.raises(ParamTypeError, match=f"decorates a method, got {what}"):
        requires_permission(CAMERA)(thing)
    with pytest.raises(ParamValueError):
        requires_permission("no permission")


def test_signature_name_and_doc_stay(device: Path) -> None:
    assert list(inspect.signature(Camera.shoot).parameters) == ["self", "width", "note"]
    assert Camera.shoot.__name__ == "shoot" and Camera.shoot.__doc__ == "Take a picture."
    assert inspect.iscoroutinefunction(Camera.record) and not inspect.iscoroutinefunction(Camera.shoot)
    camera = proxy(ICamera, Camera())
    assert camera.shoot(1) == "1" and list(camera.frames(2)) == [0, 1]

    async def all_of_it() -> list[int]:
        return [number async for number in camera.live(2)]

    assert asyncio.run(all_of_it()) == [0, 1]


def test_a_guarded_method_does_not_run_for_the_wrong_caller(client: TokenRegistry) -> None:
    ran = threading.Event()

    class Guarded:
        @requires_permission(MEDIA)
        def act(self) -> None:
            ran.set()

        @requires_permission(MEDIA)
        async def wait(self) -> None:
            ran.set()

    with pytest.raises(PermissionDeniedError):
        Guarded().act()
    with pytest.raises(PermissionDeniedError):
        asyncio.run(Guarded().wait())
    assert not ran.is_set()
    assert issubclass(PermissionDeniedError, PermissionError) and not issubclass(
        PermissionDeniedError, CallTimeoutError
    )
