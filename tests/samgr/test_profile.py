"""samgr/profile.py: the model, from both formats."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import pytest

from binderkit.errors import ProfileError
from binderkit.samgr.conditions import Condition, EventRule, LoadPriority
from binderkit.samgr.profile import (
    AbilityProfile,
    BootPhase,
    OnDemandEvents,
    RecycleStrategy,
    ResourceLimits,
    StopEvents,
    load_profile,
)
from binderkit.samgr.reason import ReasonId
from tests.samgr.profiles import TOML, plain, write


def test_abilities_between_devices(tmp_path: Path) -> None:
    udid = "0123456789abcdef" * 4
    text = (
        f'process = "p"\nremote-abilities = [5, "demo.five", 5]\n[[ability]]\nid = 6\nentry = "m:C"\n'
        f'distributed = true\npermission = "a.b"\nremote-access = ["{udid}", "{udid}"]\n'
    )
    profile = load_profile(write(tmp_path, "p.toml", text))
    assert profile.remote_abilities == (5, "demo.five")
    assert profile.abilities[0].remote_access == (udid,)
    # One that only uses what others have needs no ability.
    only = load_profile(write(tmp_path, "q.toml", 'process = "q"\nremote-abilities = [5]\n'))
    assert (only.abilities, only.remote_abilities) == ((), (5,))
    assert load_profile(write(tmp_path, "q.json", '{"process": "q", "remote-abilities": [5]}')).remote_abilities == (5,)


def test_everything_a_toml_profile_can_say(tmp_path: Path) -> None:
    path = write(tmp_path, "photos.toml", TOML)
    profile = load_profile(path)
    assert (profile.process, profile.path, profile.user) == ("photos", path, "nobody")
    assert profile.command == profile.start_command() == ("photo-host", "--fast")
    assert profile.environment == {"PHOTOS_HOME": "/var/lib/photos"}
    assert profile.limits == ResourceLimits(memory_mb=256, open_files=512, nice=5)
    assert profile.permissions == ("ohos.permission.CAMERA",)
    photos, thumbnails = profile.abilities
    assert photos == AbilityProfile(
        id=0x1001,
        name="com.example.photos",
        entry="photos.service:Photos",
        auto_restart=True,
        distributed=True,
        depend=(4700,),
        depend_timeout=2.5,
        dump_level=2,
        boot_phase=BootPhase.CORE_START,
        extensions=("backup", "restore"),
        permission="ohos.permission.READ_PHOTOS",
        start_on_demand=OnDemandEvents(
            allow_update=True,
            events=(
                EventRule(ReasonId.DEVICE_ONLINE, "deviceonline", "on"),
                EventRule(ReasonId.PARAM, "persist.photos.enabled", "true", enable_once=True),
                EventRule(
                    ReasonId.COMMON_EVENT,
                    "usual.event.BATTERY",
                    ">=20",
                    load_priority=LoadPriority.HIGH,
                    conditions=(Condition(ReasonId.PARAM, "persist.photos.enabled", "true"),),
                    extra={"plugged": "yes"},
                ),
            ),
        ),
        stop_on_demand=StopEvents(
            events=(EventRule(ReasonId.TIMED_EVENT, "loopevent", "600", persistence=True),),
            unreferenced_unload=True,
            recycle_delay=0.5,
            long_unused=90.0,
        ),
    )
    assert (thumbnails.run_on_create, thumbnails.depend) == (False, (0x1001,))
    assert thumbnails.recycle_strategy is RecycleStrategy.LOW_MEMORY
    assert profile.ability(0x1002) is thumbnails and profile.ability(1) is None
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.process = "x"  # type: ignore[misc]


def test_openharmonys_json_with_its_units(tmp_path: Path) -> None:
    stop = {"recycle-delaytime": 1500, "longtimeunused-unload": 2, "unreferenced-unload": True, "allow-update": True}
    document = plain(
        **{
            "service-name": "com.example.plain",
            "run-on-create": False,
            "depend-time-out": 500,
            "dump-level": 1,
            "bootphase": "BootStartPhase",
            "module-update": True,
            "cache-common-event": True,
            "stop-on-demand": stop,
        }
    )
    profile = load_profile(str(write(tmp_path, "plain.json", document)))
    (ability,) = profile.abilities
    assert (ability.id, ability.name, ability.entry) == (4097, "com.example.plain", "plain.service:Plain")
    assert (ability.depend_timeout, ability.boot_phase) == (0.5, BootPhase.BOOT_START)
    assert ability.stop_on_demand == StopEvents(True, (), True, 1.5, 120.0)
    assert profile.start_command() == (sys.executable, "-m", "binderkit.samgr.sa_main", str(profile.path))


def test_the_defaults_are_the_models(tmp_path: Path) -> None:
    expected = (AbilityProfile(id=4097, entry="plain.service:Plain"),)
    assert load_profile(write(tmp_path, "plain.json", plain())).abilities == expected
    toml = 'process = "plain"\n[[ability]]\nid = 4097\nentry = "plain.service:Plain"\n'
    assert load_profile(write(tmp_path, "plain.toml", toml)).abilities == expected


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("sub/photos.py", "{}/sub/photos.py"),
        ("photos.py:Photos", "{}/photos.py:Photos"),
        ("/x/p.py:A.B", "/x/p.py:A.B"),
    ],
)
def test_files_are_found_from_everywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str, expected: str
) -> None:
    write(tmp_path, "plain.json", plain(libpath=entry))
    monkeypatch.chdir(tmp_path)
    assert load_profile("plain.json").abilities[0].entry == expected.format(tmp_path)


def test_without_msgspec_it_says_what_to_install(tmp_path: Path) -> None:
    path = write(tmp_path, "plain.json", plain())
    code = (
        "import sys; sys.modules['msgspec'] = None\n"
        "from binderkit.samgr.profile import load_profile\n"
        "from binderkit.errors import ServiceError\n"
        f"try: load_profile({str(path)!r})\n"
        "except ServiceError as error: print(error)"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert "pip install 'binderkit[services]'" in ended.stdout


def test_an_error_carries_every_mistake(tmp_path: Path) -> None:
    path = write(tmp_path, "bad.json", plain(depend=[4097], permission="no way", libpath="libz.so"))
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    assert caught.value.code == 1002 and len(caught.value.problems) == 3
    assert all(problem.startswith(f"{path}: systemability[0].") for problem in caught.value.problems)
