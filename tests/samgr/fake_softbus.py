"""A softbus of a few lines, in a process of its own: it knows one other device, "kitchen", and says what it is told."""

from __future__ import annotations

import os
from pathlib import Path

import binderkit as bk
from binderkit.errors import ERR_PERMISSION_DENIED
from binderkit.interface import Int32, Interface, method, raises
from binderkit.samgr.remote import (
    NO_DEVICE,
    NOT_AVAILABLE,
    SOFTBUS_ID,
    THIS_DEVICE,
    IAbilityWatcher,
    IDBinder,
    Problem,
    RemoteAbility,
)
from tests.samgr.processes import Adder

KITCHEN = "c" * 64
THERE, MISSING, FORBIDDEN = 5, 6, 7
PROFILE = f"""\
process = "fake-softbus"
environment = {{ PYTHONPATH = "{Path(__file__).parents[2]}" }}
[[ability]]
id = {SOFTBUS_ID}
name = "binderkit.softbus"
entry = "tests.samgr.fake_softbus:FakeSoftBus"
auto-restart = true
run-on-create = false
"""


def install(runtime_dir: Path) -> None:
    """Have the daemon of a runtime directory start this softbus instead of the real one."""
    folder = runtime_dir / "profiles"
    folder.mkdir(0o700)
    (folder / "fake-softbus.toml").write_text(PROFILE)


class IControl(Interface, descriptor="tests.IControl"):
    """What a test has it do."""

    @method
    def tell(self, ability: Int32, there: bool) -> int:
        """Tell all watchers; return how many there are."""

    @method
    def watched(self) -> list[str]:
        """Return what is watched."""

    @method
    def pid(self) -> int: ...

    @method
    @raises(Problem)
    def refuse(self, code: Int32) -> None:
        """Refuse every watcher with this code from now on; 0: none."""


class FakeSoftBus(IControl, IDBinder):
    """Has ability 5 on the kitchen; 6 is not there, 7 is not for us."""

    def __init__(self) -> None:
        self._watchers: dict[bk.IRemoteObject, tuple[int | str, IAbilityWatcher]] = {}
        self._adder = Adder()
        self._refusal = 0

    def get_ability(self, device: str, key: int | str, timeout: float) -> bk.IRemoteObject:
        self._check(device)
        if key == MISSING:
            raise Problem(NOT_AVAILABLE, "it is not there")
        if key == FORBIDDEN:
            raise Problem(ERR_PERMISSION_DENIED, "it is not for you")
        return self._adder

    def list_abilities(self, device: str, timeout: float) -> list[RemoteAbility]:
        self._check(device)
        return [RemoteAbility(THERE, "runs", True), RemoteAbility(MISSING, "sleeps", False)]

    def watch_ability(self, device: str, key: int | str, watcher: IAbilityWatcher) -> str:
        self._check(device)
        if self._refusal:
            raise Problem(self._refusal, "no")
        self._watchers[watcher.as_object()] = key, watcher
        watcher.ability_changed(KITCHEN, THERE, True)
        return KITCHEN

    def unwatch_ability(self, watcher: IAbilityWatcher) -> bool:
        return self._watchers.pop(watcher.as_object(), None) is not None

    def tell(self, ability: int, there: bool) -> int:
        for _, watcher in self._watchers.values():
            watcher.ability_changed(KITCHEN, ability, there)
        return len(self._watchers)

    def watched(self) -> list[str]:
        return sorted(str(key) for key, _ in self._watchers.values())

    def pid(self) -> int:
        return os.getpid()

    def refuse(self, code: int) -> None:
        self._refusal = code

    @staticmethod
    def _check(device: str) -> None:
        if device == "here":
            raise Problem(THIS_DEVICE, "it is this one")
        if device not in ("kitchen", KITCHEN):
            raise Problem(NO_DEVICE, f"this device knows no device {device!r}")
