"""cli/profiles.py: the commands about profiles, bundles and units."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from binderkit.cli.main import main
from tests.ability import manifests
from tests.samgr.on_demand import device_process, write_profile
from tests.samgr.processes import samgr_process
from tests.samgr.profiles import TOML, plain, small_toml, write

Capture = pytest.CaptureFixture[str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder, and below it the installed profiles and bundles of a device."""
    monkeypatch.setenv("BINDERKIT_PROFILES", str(tmp_path / "profiles"))
    monkeypatch.setenv("BINDERKIT_BUNDLES", str(tmp_path / "bundles"))
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return tmp_path


def test_check_tells_every_mistake_and_what_is_good(place: Path, capsys: Capture) -> None:
    good = write(place, "good.toml", TOML)
    assert main(["profiles", "check", str(good)]) == 0
    assert capsys.readouterr().out == f"{good}: process 'photos' with 2 abilities\n"
    bad = write(place, "bad.json", plain(depend=[4097], permission="? ?"))
    assert main(["profiles", "check", str(good), str(bad)]) == 1
    told = capsys.readouterr()
    assert told.out == f"{good}: process 'photos' with 2 abilities\n"
    assert [line.split(": ")[1] for line in told.err.splitlines()] == [
        "systemability[0].depend",
        "systemability[0].permission",
    ]
    assert main(["profiles", "check"]) == 0 and capsys.readouterr().out == "no profiles\n"


def test_a_folder_is_checked_as_a_whole(place: Path, capsys: Capture) -> None:
    (place / "some").mkdir(mode=0o700)
    for name in ("a", "b"):
        write(place / "some", f"{name}.toml", small_toml(name, 7))
    assert main(["profiles", "check", str(place / "some")]) == 1
    assert "b.toml: system ability 7 (0x7) belongs to process 'a' already" in capsys.readouterr().err


def test_mistakes_cannot_move_the_cursor(place: Path, capsys: Capture) -> None:
    assert main(["profiles", "check", str(write(place, "\x1b[2J.toml", "x"))]) == 1
    assert "\x1b" not in capsys.readouterr().err


def test_install_list_and_remove(place: Path, capsys: Capture) -> None:
    assert (
        main(["profiles", "install", str(write(place, "x.toml", TOML)), str(write(place, "y.json", plain(name=7)))])
        == 0
    )
    assert capsys.readouterr().out == f"{place}/profiles/photos.toml installed\n{place}/profiles/plain.json installed\n"
    assert main(["profiles", "list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == [
        "photos",
        "4097",
        "com.example.photos",
        "photos.service:Photos",
        "with",
        "its",
        "process",
    ]
    assert main(["profiles", "list", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["process"], row["id"], row["start"]) for row in rows][1] == ("photos", 4098, "on demand")
    assert main(["profiles", "remove", "photos"]) == 0
    assert capsys.readouterr().out == "the profile of photos removed\n"
    assert main(["profiles", "remove", "photos"]) == 1
    assert "no profile of a process 'photos' is installed" in capsys.readouterr().err


def test_what_cannot_be_installed_is_told_and_the_others_are(place: Path, capsys: Capture) -> None:
    bad = write(place, "bad.toml", "x")
    assert main(["profiles", "install", str(bad), str(write(place, "x.toml", small_toml("a", 1)))]) == 1
    told = capsys.readouterr()
    assert "bad.toml: it is no valid TOML" in told.err and told.out == f"{place}/profiles/a.toml installed\n"
    write(place / "profiles", "b.toml", "x")
    assert main(["profiles", "list"]) == 1
    assert "b.toml" in capsys.readouterr().err


def test_bundles(place: Path, capsys: Capture) -> None:
    source = manifests.folder(place, "source", bundle__toml=manifests.TOML)
    assert main(["bundles", "check", str(source)]) == 0
    assert capsys.readouterr().out == f"{source}: bundle 'com.example.photos' 2.1 with 3 abilities\n"
    assert main(["bundles", "check", str(place)]) == 1
    assert "there is no manifest" in capsys.readouterr().err
    assert main(["bundles", "install", str(source)]) == 0
    assert capsys.readouterr().out == f"{place}/bundles/com.example.photos installed\n"
    assert main(["bundles", "list"]) == 0
    assert capsys.readouterr().out.splitlines()[1].split()[:5] == [
        "com.example.photos",
        "2.1",
        "Thumbs",
        "service",
        "yes",
    ]
    assert main(["bundles", "list", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 3
    assert main(["bundles", "remove", "com.example.photos"]) == 0
    capsys.readouterr()
    assert main(["bundles", "remove", ".."]) == 1
    assert "no bundle '..' is installed" in capsys.readouterr().err and source.exists()


def test_units_are_printed_or_written(place: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    profile = write(place, "x.toml", small_toml("a", 1))
    monkeypatch.setenv("PYTHONPATH", "/src")
    assert main(["systemd", str(profile)]) == 0
    text = capsys.readouterr().out
    assert "# --- binderkit.socket\n" in text and 'Environment="PYTHONPATH=/src"' in text
    arguments = ["systemd", str(profile), "-o", str(place / "units"), "--runtime-dir", str(place / "run")]
    assert main(arguments) == 0 and main(arguments) == 0
    unit = place / "units" / "binderkit-sa-a.service"
    assert f'Environment="BINDERKIT_RUNTIME_DIR={place}/run"' in unit.read_text()
    unit.write_text("mine")
    capsys.readouterr()
    assert main(arguments) == 1
    assert "binderkit-sa-a.service with other content; --force overwrites" in capsys.readouterr().err
    assert unit.read_text() == "mine" and main([*arguments, "--force"]) == 0
    assert unit.read_text() != "mine"


def test_units_only_of_what_the_daemon_does_not_start(place: Path, capsys: Capture) -> None:
    profile = write(place, "x.toml", TOML)
    assert main(["systemd", str(profile)]) == 1
    assert "use --system" in capsys.readouterr().err
    assert main(["systemd", "--system", str(profile)]) == 0
    assert "User=nobody" in capsys.readouterr().out
    assert main(["profiles", "install", str(profile)]) == 0
    capsys.readouterr()
    assert main(["systemd", "--system", str(profile)]) == 1
    assert "run 'binderkit profiles remove photos' first" in capsys.readouterr().err
    assert main(["systemd"]) == 0
    assert "binderkit-sa-" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "command", [["profiles", "check"], ["profiles", "install"], ["bundles", "install"], ["systemd"]]
)
def test_help_has_an_example(capsys: Capture, command: list[str]) -> None:
    assert main([*command, "--help"]) == 0
    assert f"binderkit {' '.join(command)}" in " ".join(capsys.readouterr().out.split())


# --- while a daemon runs -----------------------------------------------------------------------------------------


def test_a_daemon_that_runs_is_told_at_once(device: Path, capsys: Capture, tmp_path: Path) -> None:
    write_profile(tmp_path / "new", "demo", 7, "Lazy")
    profile = tmp_path / "new" / "demo.toml"
    assert main(["profiles", "reload"]) == 1
    assert "no SAMgr" in capsys.readouterr().err
    with samgr_process() as daemon:
        says = f"the daemon (pid {daemon.pid}) has read its profiles\n"
        assert main(["profiles", "install", str(profile)]) == 0
        assert capsys.readouterr().out == f"{device}/profiles/demo.toml installed\ndemo: new\n{says}"
        assert main(["profiles", "reload"]) == 0
        assert capsys.readouterr().out == says
        assert main(["list"]) == 0
        assert "NOT_LOADED" in capsys.readouterr().out
        assert main(["profiles", "remove", "demo"]) == 0
        assert capsys.readouterr().out == f"the profile of demo removed\ndemo: removed\n{says}"


def test_what_waits_for_the_end_of_a_process_is_said(device: Path, capsys: Capture) -> None:
    write_profile(device / "profiles", "lazy", 5, "Lazy")
    with samgr_process():
        assert main(["start", "5"]) == 0
        capsys.readouterr()
        assert main(["profiles", "remove", "lazy"]) == 0
        assert "lazy: removed when the process that runs has ended\n" in capsys.readouterr().out


def test_mistakes_that_the_daemon_finds_are_shown_and_it_goes_on(device: Path, capsys: Capture, tmp_path: Path) -> None:
    with samgr_process() as daemon:
        write_profile(device / "profiles", "lazy", 5, "Lazy")
        write(device / "profiles", "b\x1b.toml", "x")
        assert main(["profiles", "reload"]) == 1
        told = capsys.readouterr()
        assert told.out == "" and "\x1b" not in told.err
        assert ".toml: it is no valid TOML" in told.err.splitlines()[0]
        assert told.err.endswith(f"the daemon (pid {daemon.pid}) goes on with the profiles it has\n")
        assert main(["profiles", "install", str(write(tmp_path, "y.toml", small_toml("y", 8)))]) == 1
        assert "y.toml installed" in capsys.readouterr().out


def test_a_samgr_that_reads_no_profiles_says_so(device: Path, capsys: Capture) -> None:
    with device_process() as running:
        assert main(["profiles", "reload"]) == 1
        assert f"(pid {running.pid}) reads no profiles" in capsys.readouterr().err
