"""daemon/profiles.py: profiles that are installed, changed and removed while a real daemon runs."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from binderkit import samgr
from binderkit.daemon.profiles import DeviceProfiles
from binderkit.errors import ProfileError, RefusedError, ServiceError, ServiceNotFoundError
from binderkit.ipc.context import Caller
from binderkit.samgr import AbilityState, codes
from binderkit.samgr.lifecycle_catalog import ProfileChanges
from binderkit.samgr.policy import Policy
from binderkit.samgr.profile_dir import ProfileDirectory
from binderkit.samgr.remote import SOFTBUS_NAME
from tests.driver.unix.hostile import until
from tests.samgr.fake_device import STRANGER, Device
from tests.samgr.on_demand import write_profile
from tests.samgr.processes import WAIT, ask, samgr_process

Daemon = subprocess.Popen[bytes]


@pytest.fixture
def folder(device: Path) -> Path:
    """The profile directory of the device, with "first" (5) in it."""
    write_profile(device / "profiles", "first", 5, "Lazy")
    return device / "profiles"


@pytest.fixture
def daemon(folder: Path) -> Iterator[Daemon]:
    with samgr_process() as running:
        yield running


def processes() -> dict[str, samgr.ProcessState]:
    return {info.name: info.state for info in samgr.list_system_processes() if info.name != SOFTBUS_NAME}


def test_what_is_installed_later_is_known_and_started_if_it_runs_on_create(daemon: Daemon, folder: Path) -> None:
    write_profile(folder, "second", 6, "Lazy")
    write_profile(folder, "third", 7, "Lazy")
    (folder / "third.toml").write_text((folder / "third.toml").read_text().replace("create = false", "create = true"))
    with pytest.raises(ServiceNotFoundError):
        samgr.get_system_ability(6)
    assert samgr.reload_profiles() == ProfileChanges(added=("second", "third"))
    assert ask(samgr.get_system_ability(6), 1, 1) == 2
    until(lambda: samgr.check_system_ability(7) is not None, "it was started without being asked for", WAIT)
    assert processes() == {
        "first": samgr.ProcessState.NOT_STARTED,
        "second": samgr.ProcessState.STARTED,
        "third": samgr.ProcessState.STARTED,
    }


def test_a_removed_one_goes_on_until_it_is_stopped(daemon: Daemon, folder: Path) -> None:
    remote = samgr.get_system_ability(5)
    (folder / "first.toml").unlink()
    assert samgr.reload_profiles() == ProfileChanges(removed=("first",), later=("first",))
    assert ask(samgr.get_system_ability(5), 2) == ask(remote, 2)
    samgr.unload_processes(["first"])
    until(lambda: processes() == {}, "it ended and is forgotten", WAIT)
    with pytest.raises(ServiceNotFoundError, match="no profile has it"):
        samgr.get_system_ability(5)


def test_a_changed_one_is_another_after_its_next_start(daemon: Daemon, folder: Path) -> None:
    before = ask(samgr.get_system_ability(5), 2)
    write_profile(folder, "first", 5, "Lazy", 'name = "tests.renamed"\nextension = ["backup"]')
    assert samgr.reload_profiles() == ProfileChanges(changed=("first",), later=("first",))
    assert samgr.get_extension_ability_ids("backup") == []
    os.kill(before, signal.SIGKILL)
    until(lambda: samgr.get_extension_ability_ids("backup") == [5], "the next start is another", WAIT)
    assert ask(samgr.get_system_ability("tests.renamed"), 2) != before


def test_a_hangup_does_the_same(daemon: Daemon, folder: Path) -> None:
    write_profile(folder, "second", 6, "Lazy")
    daemon.send_signal(signal.SIGHUP)
    until(lambda: "second" in processes(), "the directory was read again", WAIT)
    (folder / "broken.toml").write_text("x")
    daemon.send_signal(signal.SIGHUP)
    (folder / "second.toml").unlink()
    with pytest.raises(ServiceError, match=r"broken\.toml"):
        samgr.reload_profiles()
    assert daemon.poll() is None and "second" in processes()


def test_nothing_of_a_directory_with_a_mistake_is_taken_over(daemon: Daemon, folder: Path) -> None:
    write_profile(folder, "second", 6, "Lazy")
    write_profile(folder, "twice", 6, "Lazy")
    (folder / "broken.toml").write_text("x")
    (folder / "first.toml").unlink()
    with pytest.raises(ServiceError) as caught:
        samgr.reload_profiles()
    first, second = caught.value.args[0].splitlines()
    assert "broken.toml" in first and "twice.toml: system ability 6" in second
    assert caught.value.code == codes.PROFILE_MISSING
    assert processes() == {"first": samgr.ProcessState.NOT_STARTED}
    for name in ("broken", "twice"):
        (folder / f"{name}.toml").unlink()
    assert samgr.reload_profiles() == ProfileChanges(added=("second",), removed=("first",))
    (status,) = [one for one in samgr.list_ability_states() if one.process == "second"]
    assert (status.id, status.state) == (6, AbilityState.NOT_LOADED)


def test_a_directory_that_comes_later_or_goes_is_an_empty_one(device: Path) -> None:
    with samgr_process():
        assert samgr.reload_profiles() == ProfileChanges()
        write_profile(device / "profiles", "first", 5, "Lazy")
        assert samgr.reload_profiles() == ProfileChanges(added=("first",))
        (device / "profiles" / "first.toml").unlink()
        (device / "profiles").rmdir()
        assert samgr.reload_profiles() == ProfileChanges(removed=("first",))


# --- the part, without a daemon -----------------------------------------------------------------------


def test_the_part_logs_what_happens_and_a_hangup_never_raises(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "binderkit.daemon")
    profiles = DeviceProfiles(Policy(), ProfileDirectory(tmp_path / "profiles"))
    assert profiles.at_start() == []
    profiles.on_hangup()
    assert "before SAMgr goes by them" in caplog.text
    device = Device(parts=[profiles])
    try:
        profiles.serve(device.service)
        write_profile(tmp_path / "profiles", "first", 5, "Lazy")
        profiles.on_hangup()
        assert "added first, changed none, removed none" in caplog.text
        (tmp_path / "profiles" / "bad.toml").write_text("x")
        assert [one.process for one in profiles.at_start()] == ["first"]
        assert "a profile is left out: " in caplog.text
        profiles.on_hangup()
        assert "the profiles in force stay as they are" in caplog.text
        with pytest.raises(ProfileError):
            profiles.reload()
        with pytest.raises(RefusedError, match="uid 1001 may not have the profiles read again"):
            device.as_caller(STRANGER).reload_profiles()
        (tmp_path / "profiles" / "bad.toml").write_text("x" * 60_000)
        with pytest.raises(ServiceError, match=r"bad\.toml"):
            device.as_caller(Caller(1, os.getuid(), 0)).reload_profiles()
    finally:
        device.service.close()
