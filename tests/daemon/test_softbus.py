"""What the daemon knows of softbus."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

import binderkit as bk
from binderkit.daemon.profiles import DeviceProfiles
from binderkit.daemon.softbus import DeviceReports, softbus_profile
from binderkit.errors import ServiceNotFoundError
from binderkit.interface import proxy
from binderkit.samgr.client import SystemAbilityManagerClient
from binderkit.samgr.events.devices import DeviceEvents
from binderkit.samgr.policy import Policy
from binderkit.samgr.profile_dir import ProfileDirectory
from binderkit.samgr.remote import SOFTBUS_ID
from tests.contract.world import eventually
from tests.daemon.reporters import IReporter, Reporter

ONE, TWO = "1" * 64, "2" * 64


def test_softbus_runs_from_the_start_only_where_it_was_used_before(tmp_path: Path) -> None:
    assert softbus_profile(tmp_path).abilities[0].run_on_create is False
    (tmp_path / "softbus").mkdir()
    (tmp_path / "softbus" / "trust.json").touch()
    profile = softbus_profile(tmp_path)
    assert profile.abilities[0].run_on_create is True
    assert profile.permissions == ("ohos.permission.DISTRIBUTED_SOFTBUS_CENTER",)


def test_the_process_keeps_its_state_where_the_daemon_looks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not where it would look by itself: a started process has not the variables that say where the default is."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("BINDERKIT_RUNTIME_DIR", raising=False)
    default, other = softbus_profile(tmp_path / "binderkit"), softbus_profile(tmp_path / "test")
    kept = default.environment["BINDERKIT_SOFTBUS_STATE"]
    assert kept.endswith("/binderkit/softbus") and not kept.startswith(str(tmp_path))
    assert other.environment == {"BINDERKIT_SOFTBUS_STATE": str(tmp_path / "test" / "softbus")}
    monkeypatch.setenv("BINDERKIT_SOFTBUS_STATE", str(tmp_path / "mine"))
    assert softbus_profile(tmp_path / "test").environment["BINDERKIT_SOFTBUS_STATE"] == str(tmp_path / "mine")


def test_a_profile_of_the_directory_takes_its_place(tmp_path: Path) -> None:
    folder = tmp_path / "profiles"
    folder.mkdir(mode=0o700)
    profiles = DeviceProfiles(Policy(), ProfileDirectory(folder), built_in=softbus_profile(tmp_path))
    assert [profile.process for profile in profiles.at_start()] == ["binderkit.softbus"]
    file = folder / "mine.toml"
    file.write_text('process = "mine"\n[[ability]]\nid = 4700\nentry = "tests.softbus.device_program:Echo"\n')
    file.chmod(0o600)
    assert [profile.process for profile in profiles.at_start()] == ["mine"]


class Registry:
    """As much of SAMgr's client as DeviceReports uses; ``softbus`` is who registered 4700."""

    def __init__(self) -> None:
        self.softbus: bk.IRemoteObject | None = None

    def check_system_ability(self, ability: int) -> bk.IRemoteObject | None:
        assert ability == SOFTBUS_ID
        return self.softbus


class World:
    """DeviceReports of this process, and what came of it."""

    def __init__(self) -> None:
        self.registry = Registry()
        self.events: list[str] = []
        events = DeviceEvents()
        events.start(lambda event: self.events.append(f"{event.value} {event.extra['deviceId'][:1]}"))
        self.reports = DeviceReports(cast(SystemAbilityManagerClient, self.registry), events)

    def begins(self, softbus: Any) -> None:
        """A softbus process registers, and is watched."""
        self.registry.softbus = softbus
        self.reports.on_add_system_ability(SOFTBUS_ID, "")
        eventually(lambda: _watched(softbus), "softbus is watched")


def _watched(softbus: Any) -> bool:
    try:
        proxy(IReporter, softbus).watcher()
    except bk.IpcError:
        return False
    return True


@pytest.fixture
def world(runtime_dir: Path) -> Iterator[World]:
    yield World()


def test_only_softbus_reports_devices(world: World, caplog: pytest.LogCaptureFixture) -> None:
    with bk.spawn(Reporter) as softbus, bk.spawn(Reporter) as stranger:
        world.begins(softbus.root)
        real, false = proxy(IReporter, softbus.root), proxy(IReporter, stranger.root)
        watcher = real.watcher()
        assert false.insist(watcher, "online", TWO) == 303
        false.report(watcher, "online", TWO)
        eventually(lambda: caplog.text.count("which is not softbus") == 2, "both are refused")
        assert world.events == []
        real.report(watcher, "online", ONE)
        eventually(lambda: world.events == ["on 1"], "what softbus says counts")
        false.insist(watcher, "offline", ONE)
        assert world.events == ["on 1"]


def test_with_its_process_all_devices_are_gone(world: World) -> None:
    with bk.spawn(Reporter) as first, bk.spawn(Reporter) as second:
        world.begins(first.root)
        before, old = proxy(IReporter, first.root), proxy(IReporter, first.root).watcher()
        before.report(old, "online", ONE)
        before.report(old, "changed", ONE)
        eventually(lambda: world.events == ["on 1"], "the device is there")
        world.reports.on_remove_system_ability(SOFTBUS_ID, "")
        assert world.events == ["on 1", "off 1"]
        # A process that is not softbus any more has nothing to say, even if it lives.
        world.begins(second.root)
        assert before.insist(old, "online", TWO) == 0
        assert world.events == ["on 1", "off 1"]
        now = proxy(IReporter, second.root)
        now.report(now.watcher(), "online", ONE)
        eventually(lambda: world.events[2:] == ["on 1"], "the next softbus says who is there")
        now.report(now.watcher(), "offline", ONE)
        eventually(lambda: world.events[3:] == ["off 1"], "the device left")


def test_a_softbus_that_cannot_be_asked_is_logged(world: World, caplog: pytest.LogCaptureFixture) -> None:
    def gone(ability: int) -> None:
        raise ServiceNotFoundError(f"no system ability {ability}")

    world.registry.check_system_ability = gone  # type: ignore[method-assign]
    world.reports.on_add_system_ability(SOFTBUS_ID, "")
    eventually(lambda: "does not say which devices are there" in caplog.text, "it is logged")


def test_what_is_of_this_very_process_is_not_watched(world: World) -> None:
    """Not a process that speaks for the device: a test's, or a mistake."""
    asked: list[int] = []
    world.registry.check_system_ability = lambda ability: asked.append(ability) or Reporter().as_object()  # type: ignore[method-assign, func-returns-value]
    world.reports.on_add_system_ability(SOFTBUS_ID, "")
    eventually(lambda: asked == [SOFTBUS_ID], "it was looked at")
    assert world.events == []
