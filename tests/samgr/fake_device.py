"""A SAMgr of this process whose processes the tests play: a fake starter, and a client for each identity."""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import binderkit as bk
from binderkit import samgr
from binderkit.errors import ServiceError
from binderkit.ipc.context import CallContext, Caller, current
from binderkit.samgr import AbilityState, ProcessState
from binderkit.samgr.conditions import EventRule
from binderkit.samgr.local import ILocalAbilityManager
from binderkit.samgr.policy import Policy
from binderkit.samgr.profile import AbilityProfile, Profile
from binderkit.samgr.reason import OnDemandReason, ReasonId
from binderkit.samgr.service import SystemAbilityManager
from tests.samgr.processes import Adder

UP = EventRule(ReasonId.PARAM, "demo.up", "1")


DOWN = EventRule(ReasonId.PARAM, "demo.up", "0")


STRANGER = Caller(4242, 1001, 1001)


class FakeStarter:
    """Notes what it is told; its processes are the pids from 5000 on."""

    def __init__(self) -> None:
        self.told: list[tuple[str, str]] = []
        self.tokens: dict[str, tuple[int, int | None, tuple[str, ...]]] = {}
        self.pids = iter(range(5000, 9000))
        self.refuses = ""

    def start(self, name: str, command: Sequence[str], **options: Any) -> int:
        if self.refuses:
            raise ServiceError(self.refuses)
        self.told.append(("start", name))
        return next(self.pids)

    def stop(self, name: str) -> None:
        self.told.append(("stop", name))

    def kill(self, name: str) -> None:
        self.told.append(("kill", name))

    def adopt(self, name: str, pid: int, *, permissions: Sequence[str] | None = None, uid: int | None = None) -> None:
        self.told.append(("adopt", name))
        if permissions is not None:
            self.tokens[name] = (pid, uid, tuple(permissions))

    def log_file(self, name: str) -> Path:
        return Path(f"/logs/{name}.log")


class Local(ILocalAbilityManager):
    """A local ability manager of the test."""

    def __init__(self, idle: int = 0) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.idle = idle
        self.held = 1

    def start_ability(self, ability_id: int, reason: OnDemandReason) -> None:
        self.calls.append(("start", ability_id, reason.id))

    def stop_ability(self, ability_id: int, reason: OnDemandReason) -> None:
        self.calls.append(("stop", ability_id, reason.id))

    def idle_ability(self, ability_id: int, reason: OnDemandReason) -> int:
        self.calls.append(("idle", ability_id, reason.id))
        return self.idle

    def active_ability(self, ability_id: int, reason: OnDemandReason) -> bool:
        self.calls.append(("active", ability_id, reason.id))
        return True

    def extension(self, ability_id: int, name: str, data: bytes) -> bytes:
        return data

    def stop_process(self) -> None:
        self.calls.append(("stop process",))

    def references(self, ability_id: int) -> int:
        self.calls.append(("references", ability_id))
        if not self.held:
            raise ServiceError("it cannot count")
        return self.held


def ability(id: int, **fields: Any) -> AbilityProfile:
    return AbilityProfile(id, "m:C", **{"run_on_create": False, "name": f"demo.sa{id}", **fields})


class Device:
    """A SAMgr of this process, its tasks run when the test says so, and the client of each process we play."""

    def __init__(self, *profiles: Profile, policy: Policy | None = None, **options: Any) -> None:
        self.tasks: deque[Callable[[], None]] = deque()
        self.starter = FakeStarter()
        self.service = SystemAbilityManager(
            policy, submit=self.tasks.append, profiles=profiles, starter=self.starter, **options
        )
        self.client = self.as_caller(Caller(os.getpid(), os.getuid(), os.getgid()))

    def as_caller(self, caller: Caller) -> samgr.SystemAbilityManagerClient:
        return samgr.SystemAbilityManagerClient(_As(self.service, caller))

    def pid(self, pid: int) -> samgr.SystemAbilityManagerClient:
        return self.as_caller(Caller(pid, os.getuid(), os.getgid()))

    def run(self) -> None:
        while self.tasks:
            self.tasks.popleft()()

    def up(
        self, key: int = 5, *, idle: int = 0, distributed: bool = False
    ) -> tuple[samgr.SystemAbilityManagerClient, Local, bk.RemoteObject]:
        """Bring an ability up; return the client of its process, its local manager and its object."""
        self.client.load_system_ability(key, samgr.SystemAbilityLoadCallback())
        self.run()
        info = self.client.get_system_process_info(key)
        mine, local, stub = self.pid(info.pid), Local(idle), Adder()
        if info.state is ProcessState.STARTING:
            mine.add_system_process(info.name, local)
        mine.add_system_ability(key, stub, distributed=distributed)
        self.run()
        return mine, local, stub

    def state(self, key: int) -> AbilityState:
        return next(one.state for one in self.client.list_ability_states() if one.id == key)


class _As(bk.RemoteObject):
    """SAMgr as a process with another identity sees it."""

    def __init__(self, service: SystemAbilityManager, caller: Caller) -> None:
        super().__init__("tests.As")
        self._service = service
        self._caller = caller

    def send_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption | None = None
    ) -> int:
        token = current.set(CallContext(self._caller, None, None, threading.get_ident(), 1, 1, None, None))
        try:
            result = self._service.on_remote_message_request(code, data, reply, bk.MessageOption())
            assert result is True
        finally:
            current.reset(token)
        return 0


class Told(samgr.SystemAbilityLoadCallback):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[object, ...]] = []

    def on_load_system_ability_success(self, ability_id: int, remote: bk.IRemoteObject) -> None:
        self.heard.append((ability_id, remote))

    def on_load_system_ability_fail(self, ability_id: int, code: int, text: str) -> None:
        self.heard.append((ability_id, code))


class Changes(samgr.SystemProcessListener):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[str, str]] = []

    def on_system_process_started(self, name: str, pid: int) -> None:
        self.heard.append(("started", name))

    def on_system_process_stopped(self, name: str, pid: int) -> None:
        self.heard.append(("stopped", name))
