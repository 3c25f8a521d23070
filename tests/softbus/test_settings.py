"""settings.py: where the state is, what the variables and the file say, and which mistakes are told how."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from binderkit.errors import ParamValueError
from binderkit.softbus import settings
from binderkit.softbus.settings import Settings, load_settings, state_directory


@pytest.fixture
def ordinary_user(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)


@pytest.mark.usefixtures("ordinary_user")
def test_the_state_of_the_default_device_outlives_a_reboot(tmp_path: Path) -> None:
    session = {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "HOME": "/home/me"}
    default = tmp_path / "run" / "binderkit"
    assert state_directory(default, session) == Path("/home/me/.local/state/binderkit/softbus")
    assert state_directory(default, {**session, "XDG_STATE_HOME": "/st"}) == Path("/st/binderkit/softbus")
    # The specification: a path that is not absolute is ignored.
    relative = {**session, "XDG_STATE_HOME": "st"}
    assert state_directory(default, relative) == Path("/home/me/.local/state/binderkit/softbus")
    assert state_directory(Path("/tmp/binderkit-1000"), {"HOME": "/home/me"}) == Path(
        "/home/me/.local/state/binderkit/softbus"
    )
    # Nowhere else to keep it.
    assert state_directory(default, {**session, "HOME": ""}) == default / "softbus"


def test_roots_state_is_the_systems(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    # /run/binderkit: the system's units.
    for default in ("/tmp/binderkit-0", "/run/binderkit"):
        assert state_directory(Path(default), {"HOME": "/root"}) == Path("/var/lib/binderkit/softbus")
    assert state_directory(tmp_path, {"HOME": "/root"}) == tmp_path / "softbus"
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert state_directory(Path("/run/binderkit"), {"HOME": "/home/me"}) == Path("/run/binderkit/softbus")


@pytest.mark.usefixtures("ordinary_user")
def test_a_device_with_a_runtime_directory_of_its_own_has_a_state_of_its_own(tmp_path: Path) -> None:
    environment = {"XDG_RUNTIME_DIR": str(tmp_path / "run"), "HOME": "/home/me"}
    one, two = tmp_path / "one", tmp_path / "two"
    found = {state_directory(one, environment), state_directory(two, environment)}
    assert found == {one / "softbus", two / "softbus"}
    # Whoever says where it is, is believed.
    assert state_directory(one, {**environment, settings.STATE_VARIABLE: "/kept"}) == Path("/kept")


@pytest.mark.usefixtures("ordinary_user")
def test_the_default_directory_is_the_same_one_through_a_link(tmp_path: Path) -> None:
    real = tmp_path / "real"
    real.mkdir()
    (tmp_path / "link").symlink_to(real)
    environment = {"XDG_RUNTIME_DIR": str(tmp_path / "link"), "HOME": "/home/me"}
    assert state_directory(real / "binderkit", environment) == Path("/home/me/.local/state/binderkit/softbus")


def test_this_process_without_arguments(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert state_directory() == runtime_dir / "softbus"
    monkeypatch.setenv(settings.STATE_VARIABLE, "here")
    assert state_directory() == Path.cwd() / "here"


def test_without_file_and_variables_everything_has_a_default(tmp_path: Path) -> None:
    assert load_settings(tmp_path, {}) == Settings((), 0, (), "224.0.0.224:7446")
    empty = dict.fromkeys(
        (
            settings.LISTEN_VARIABLE,
            settings.PORT_VARIABLE,
            settings.CONNECT_VARIABLE,
            settings.GROUP_VARIABLE,
        ),
        "",
    )
    assert load_settings(tmp_path, empty) == Settings()


def test_the_variables_win_over_the_file_one_by_one(tmp_path: Path) -> None:
    (tmp_path / "softbus.toml").write_text(
        'listen = ["10.0.0.1"]\nport = 1\nconnect = ["a:1"]\ngroup = "239.1.1.1:9"\n'
    )
    assert load_settings(tmp_path, {}) == Settings(("10.0.0.1",), 1, ("a:1",), "239.1.1.1:9")
    changed = load_settings(
        tmp_path,
        {
            settings.LISTEN_VARIABLE: "::1, 127.0.0.1",
            settings.PORT_VARIABLE: "7447",
            settings.CONNECT_VARIABLE: "tv.lan:7447,[fe80::0:1]:8,10.0.0.9:9",
        },
    )
    assert changed == Settings(("::1", "127.0.0.1"), 7447, ("tv.lan:7447", "[fe80::1]:8", "10.0.0.9:9"), "239.1.1.1:9")


@pytest.mark.parametrize(
    ("variable", "text", "words"),
    [
        ("LISTEN", "localhost", "'localhost' is no numeric address"),
        ("LISTEN", "127.0.0.1,", "'' is no numeric address"),
        ("LISTEN", "0.0.0.0", "leave the setting out"),
        ("LISTEN", "224.0.0.1", "leave the setting out"),
        ("LISTEN", "127.0.0.1,127.0.0.1", "there twice"),
        ("LISTEN", ",".join(f"10.0.0.{one}" for one in range(65)), "65 entries; at most 64"),
        ("PORT", "http", "no port"),
        ("PORT", "65536", "no port"),
        ("PORT", "-1", "no port"),
        ("PORT", "٣", "no port"),
        ("CONNECT", "10.0.0.2", "not HOST:PORT"),
        ("CONNECT", "10.0.0.2:0", "not HOST:PORT"),
        ("CONNECT", "10.0.0.2:65536", "not HOST:PORT"),
        ("CONNECT", "fe80::1:7447", "not HOST:PORT"),
        ("CONNECT", "[tv]:7447", "no IPv6 address"),
        ("CONNECT", "tv?iface=lo:7447", "neither an address nor a name"),
        ("CONNECT", "tv/x:7447", "neither an address nor a name"),
        ("GROUP", "10.0.0.1:7446", "no multicast group"),
        ("GROUP", "224.0.0.224", "no multicast group"),
        ("GROUP", "224.0.0.224:0", "no multicast group"),
        ("GROUP", "softbus.lan:7446", "no multicast group"),
    ],
)
def test_a_variable_that_cannot_be_used_is_named_with_what_it_should_be(
    tmp_path: Path, variable: str, text: str, words: str
) -> None:
    name = f"BINDERKIT_SOFTBUS_{variable}"
    with pytest.raises(ParamValueError) as caught:
        load_settings(tmp_path, {name: text})
    assert str(caught.value).startswith(f"{name}={text!r}: ") and words in str(caught.value)
