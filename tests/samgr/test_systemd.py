"""samgr/systemd.py: units that systemd itself takes, and values that cannot break out of their line."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import ParamValueError
from binderkit.samgr.profile import AbilityProfile, Profile, ResourceLimits
from binderkit.samgr.systemd import make_units

PHOTOS = Profile("photos", Path("/etc/pro files/photos.toml"), (AbilityProfile(id=0x1001, entry="m:C"),))


def lines(profile: Profile, *, system: bool = True) -> list[str]:
    return make_units([profile], system=system)[f"binderkit-sa-{profile.process}.service"].splitlines()


def value(profile: Profile, name: str) -> str:
    (found,) = (line.removeprefix(f"{name}=") for line in lines(profile) if line.startswith(f"{name}="))
    return found


def test_the_units_of_a_device() -> None:
    units = make_units([PHOTOS], system=False)
    assert list(units) == ["binderkit.socket", "binderkit.service", "binderkit-sa-photos.service"]
    assert "ListenSequentialPacket=%t/binderkit/samgr.sock\nSocketMode=0600\n" in units["binderkit.socket"]
    assert f'Type=notify\nExecStart="{sys.executable}" "-m" "binderkit.daemon"\n' in units["binderkit.service"]
    assert '\nExecReload="/bin/kill" "-HUP" "$MAINPID"\n' in units["binderkit.service"]
    photos = units["binderkit-sa-photos.service"]
    assert "Type=notify\n" in photos and "WantedBy=default.target" in photos
    assert value(replace(PHOTOS, command=("/bin/x",)), "Type") == "exec"
    assert 'Environment="BINDERKIT_RUNTIME_DIR=%t/binderkit"' in units["binderkit-sa-photos.service"]
    placed = make_units([], system=True, runtime_dir=Path("/run/a%b"), environment={"BINDERKIT_PROFILES": "/p"})
    assert "ListenSequentialPacket=/run/a%%b/samgr.sock" in placed["binderkit.socket"]
    assert (
        'Environment="BINDERKIT_RUNTIME_DIR=/run/a%%b"\nEnvironment="BINDERKIT_PROFILES=/p"'
        in placed["binderkit.service"]
    )


def test_a_unit_says_what_its_profile_says() -> None:
    limits = ResourceLimits(memory_mb=256, open_files=10, processes=5, cpu_seconds=60, nice=3)
    profile = replace(PHOTOS, user="nobody", environment={"A": "b c"}, limits=limits)
    text = "\n".join(lines(profile))
    expected = 'Environment="A=b c"\nUser=nobody\nLimitAS=256M\nLimitNOFILE=10\nLimitNPROC=5\nLimitCPU=60\nNice=3\n'
    assert expected in text and "Restart=no" in text
    restarting = replace(PHOTOS, abilities=(replace(PHOTOS.abilities[0], auto_restart=True, run_on_create=False),))
    text = "\n".join(lines(restarting))
    assert "Restart=on-failure" in text and "StartLimitIntervalSec=20\nStartLimitBurst=5\n" in text
    assert "[Install]" not in text


def test_a_users_manager_cannot_switch_users() -> None:
    with pytest.raises(ParamValueError, match="use --system"):
        lines(replace(PHOTOS, user="nobody"), system=False)


PRINTABLE = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.isprintable)


@given(PRINTABLE)
def test_any_word_stays_one_word(word: str) -> None:
    profile = replace(PHOTOS, command=("/bin/run", word), environment={"A": word})
    (first, second) = shlex.split(value(profile, "ExecStart"))
    assert (first, second.replace("$$", "$").replace("%%", "%")) == ("/bin/run", word)
    (setting,) = shlex.split(next(line for line in lines(profile) if line.startswith('Environment="A=')))
    assert setting.replace("%%", "%") == f"Environment=A={word}"


@pytest.mark.parametrize("bad", ["a\nExecStartPre=/bin/evil", "a\rb", "\x00", "\u2028"])
def test_a_value_cannot_bring_in_a_line_of_its_own(bad: str) -> None:
    for profile in (
        replace(PHOTOS, command=(bad,)),
        replace(PHOTOS, environment={"A": bad}),
        replace(PHOTOS, user=bad),
    ):
        with pytest.raises(ParamValueError, match="a unit file cannot hold"):
            lines(profile)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze, systemd's own check")
def test_systemd_takes_them(tmp_path: Path) -> None:
    profile = replace(
        PHOTOS,
        user="daemon",
        environment={"A": 'q"u%$\\e'},
        limits=ResourceLimits(256, 10, 5, 60, 3),
        command=("/bin/sh", "-c", "a $x %h"),
    )
    for name, text in make_units([profile, replace(PHOTOS, process="other")], system=True).items():
        (tmp_path / name).write_text(text)
    ended = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, sorted(tmp_path.iterdir()))],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    own = [line for line in ended.stderr.splitlines() if "binderkit" in line]
    assert own == [], ended.stderr
