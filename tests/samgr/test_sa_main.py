"""samgr/sa_main.py: real processes that host system abilities, around a real SAMgr."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

import binderkit as bk
from binderkit import samgr
from binderkit.samgr import host, sa_main
from tests.driver.unix.hostile import until
from tests.samgr.on_demand import device_process, write_profile
from tests.samgr.processes import WAIT, ask, listed, samgr_process, service_process

ROOT = Path(__file__).parents[2]
Process = subprocess.Popen[str]
Start = Callable[[Path], Process]


def profile(directory: Path, *abilities: str, name: str = "tests_main") -> Path:
    path = directory / f"{name}.toml"
    blocks = "".join(f"\n[[ability]]\n{text}\n" for text in abilities)
    path.write_text(f'process = "{name}"\n{blocks}')
    return path


def ability(number: int, kind: str = "Noted", more: str = "") -> str:
    return f'id = {number}\nentry = "tests.samgr.main_abilities:{kind}"\n{more}'


@pytest.fixture
def notes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "notes"
    path.touch()
    monkeypatch.setenv("NOTES", str(path))
    paths = [ROOT / "src", ROOT, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(map(str, paths)))
    return path


@pytest.fixture
def start(device: Path, notes: Path) -> Iterator[Start]:
    with ExitStack() as running:

        def started(path: Path) -> Process:
            command = [sys.executable, "-m", "binderkit.samgr.sa_main", str(path)]
            process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
            running.callback(ended, process)
            return process

        yield started


def ended(process: Process) -> str:
    """End a process if it runs; return what it said."""
    if process.poll() is None:
        process.kill()
    return process.communicate(timeout=WAIT)[1]


def said(process: Process) -> str:
    """Return what a process said that ends by itself."""
    return process.communicate(timeout=WAIT)[1]


def test_a_whole_life(device: Path, start: Start, notes: Path, tmp_path: Path) -> None:
    with samgr_process():
        process = start(
            profile(
                tmp_path,
                ability(0x51, more='name = "tests.noted"\ndepend = [0x52]'),
                ability(0x52, "Neighbour", 'bootphase = "BootStartPhase"'),
                ability(0x53, more="run-on-create = false"),
            )
        )
        remote = samgr.get_system_ability("tests.noted", WAIT)
        assert ask(remote, 2) == process.pid
        until(lambda: "added 81: 82" in notes.read_text(), "the neighbour heard")
        assert samgr.check_system_ability(0x53) is None
        process.terminate()
        text = said(process)
        assert process.returncode == 0 and "Traceback" not in text
        assert notes.read_text().split("\n")[:2] == ["start 82", "start 81"]
        assert [line for line in notes.read_text().split("\n") if "stop" in line] == ["stop 81", "stop 82"]
        assert listed() == []


def test_its_abilities_come_back_when_samgr_was_restarted(device: Path, start: Start, tmp_path: Path) -> None:
    with samgr_process() as first:
        process = start(profile(tmp_path, ability(0x51), ability(0x52, "Neighbour")))
        held = samgr.get_system_ability(0x52, WAIT)
        samgr.get_system_ability(0x51, WAIT)
        for _ in range(2):
            first.kill()
            first.wait(WAIT)
            assert ask(held, 2) == process.pid
            with samgr_process() as first:
                assert ask(samgr.get_system_ability(0x51, WAIT), 2) == process.pid
                assert ask(samgr.get_system_ability(0x52, WAIT), 2) == process.pid
                first.kill()
        assert process.poll() is None


def test_one_that_was_replaced_while_samgr_was_away_ends(device: Path, notes: Path) -> None:
    write_profile(device / "profiles", "lazy", 0x60, "Lazy")
    with device_process() as first:
        old = samgr.get_system_ability(0x60, WAIT)
        first.kill()
        first.wait(WAIT)
    assert ask(old, 1, 41) == 42 and not old.is_object_dead()
    with device_process():
        new = samgr.get_system_ability(0x60, WAIT)
        until(old.is_object_dead, "the old process noticed")
        assert samgr.get_system_ability(0x60) is new and ask(new, 1, 41) == 42


def test_a_process_started_by_samgr_runs_what_samgr_knows(device: Path) -> None:
    write_profile(device / "profiles", "lazy", 0x60, "Lazy")
    with device_process():
        (device / "profiles" / "lazy.toml").write_text("someone is editing this")
        assert ask(samgr.get_system_ability(0x60, WAIT), 1, 41) == 42


def test_it_waits_for_samgr(device: Path, start: Start, tmp_path: Path) -> None:
    process = start(profile(tmp_path, ability(0x51)))
    with samgr_process():
        assert ask(samgr.get_system_ability(0x51, WAIT), 2) == process.pid


def test_it_can_be_ended_while_it_waits(device: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class Over:
        waited = 0

        def wait(self, seconds: float) -> bool:
            self.waited += 1
            return self.waited == 3

    over = Over()
    assert not sa_main._await_manager(over)  # type: ignore[arg-type]
    assert over.waited == 3


def test_no_samgr_is_told_after_its_time(
    device: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr(sa_main, "MANAGER_WAIT", 0.05)
    before = signal.getsignal(signal.SIGTERM)
    assert sa_main.main([str(profile(tmp_path, ability(0x51)))]) == 1
    assert "sa_main: no SAMgr runs in" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('process = "x"\n[[ability]]\nid = 0\nentry = "a:b"\n', "id"),
        ('process = "x"\n[[ability]]\nid = "one"\nentry = "a:b"\n', "id"),
        ("process = \n", "x.toml"),
        ("", "process"),
    ],
)
def test_a_wrong_profile_is_told_and_nothing_runs(
    device: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, why: str
) -> None:
    path = tmp_path / "x.toml"
    path.write_text(text)
    assert sa_main.main([str(path)]) == 1
    error = capsys.readouterr().err
    assert error.startswith("sa_main: ") and "x.toml" in error and why in error and "[code 1002]" in error


@pytest.mark.parametrize("arguments", [[], ["a", "b"], ["--help"]])
def test_wrong_usage_is_told(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> None:
    assert sa_main.main(arguments) == 2
    assert capsys.readouterr().err.startswith("usage: python -m binderkit.samgr.sa_main PROFILE")


def test_a_missing_profile_is_told(device: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert sa_main.main(["/nowhere/x.toml"]) == 1
    assert "/nowhere/x.toml" in capsys.readouterr().err


def test_an_ability_that_fails_does_not_stop_the_others(device: Path, start: Start, tmp_path: Path) -> None:
    with samgr_process():
        process = start(
            profile(tmp_path, 'id = 0x50\nentry = "nowhere:Nothing"', 'id = 0x54\nentry = "missing.py"', ability(0x51))
        )
        assert ask(samgr.get_system_ability(0x51, WAIT), 2) == process.pid
        process.terminate()
        text = said(process)
        assert process.returncode == 0
        assert "system ability 80 did not start: ServiceError: the entry 'nowhere:Nothing' cannot be imported" in text
        assert f"system ability 84 did not start: ServiceError: the entry '{tmp_path}/missing.py' cannot be" in text


def test_modules_beside_the_profile_are_found(device: Path, start: Start, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("from tests.samgr.main_abilities import Noted as Beside\n")
    with samgr_process():
        start(profile(tmp_path, 'id = 0x51\nentry = "beside:Beside"'))
        samgr.get_system_ability(0x51, WAIT)


def test_one_that_never_stops_does_not_keep_the_process(
    device: Path, start: Start, notes: Path, tmp_path: Path
) -> None:
    with samgr_process():
        process = start(profile(tmp_path, ability(0x51), ability(0x52, "NeverStops", "depend = [0x51]")))
        samgr.get_system_ability(0x52, WAIT)
        process.terminate()
        text = said(process)
        assert process.returncode == sa_main.EXIT_LATE
        assert "system ability 82 does not stop" in text
        assert "stop 81" in notes.read_text()


def test_a_second_process_of_a_name_is_refused(device: Path, start: Start, tmp_path: Path) -> None:
    with samgr_process():
        file = profile(tmp_path, ability(0x51))
        first = start(file)
        samgr.get_system_ability(0x51, WAIT)
        second = start(file)
        text = said(second)
        assert second.returncode == 1 and "sa_main: " in text and "'tests_main'" in text
        assert ask(samgr.get_system_ability(0x51), 2) == first.pid


def test_an_import_that_hangs_ends_the_process(device: Path, start: Start, tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import threading\nfrom binderkit.samgr import hosted\nthreading.Event().wait()\n"
    )
    (tmp_path / "quick.py").write_text(
        "from binderkit.samgr import hosted\nhosted.IMPORT_LIMIT = 0.2\nfrom tests.samgr.main_abilities import Noted\n"
    )
    quick = 'id = 0x50\nentry = "quick.py:Noted"\nbootphase = "BootStartPhase"'
    with samgr_process():
        process = start(profile(tmp_path, quick, 'id = 0x51\nentry = "slow.py:Slow"'))
        text = said(process)
        assert process.returncode == host.EXIT_HUNG
        assert f"the import of '{tmp_path}/slow.py:Slow' takes longer than 0.2 s" in text
        assert "in <module>\n    threading.Event().wait()" in text


def test_systemd_is_told_when_everything_started_and_when_it_ends(
    device: Path, start: Start, notes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd, samgr_process():
        systemd.bind(str(device / "notify"))
        systemd.settimeout(WAIT)
        monkeypatch.setenv("NOTIFY_SOCKET", str(device / "notify"))
        process = start(profile(tmp_path, ability(0x51)))
        assert systemd.recv(100) == b"READY=1"
        assert notes.read_text() == "start 81\n"
        process.terminate()
        assert systemd.recv(100) == b"STOPPING=1"
        said(process)
        assert process.returncode == 0


def test_a_killed_process_is_noticed(device: Path, start: Start, tmp_path: Path) -> None:
    with samgr_process():
        process = start(profile(tmp_path, ability(0x51)))
        samgr.get_system_ability(0x51, WAIT)
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: samgr.check_system_ability(0x51) is None, "SAMgr noticed")


def test_it_follows_what_it_depends_on(device: Path, start: Start, tmp_path: Path) -> None:
    with samgr_process():
        process = start(profile(tmp_path, ability(0x52, more="depend = [0x51]")))
        assert isinstance(process, subprocess.Popen)
        with service_process(0x51) as service:
            remote = samgr.get_system_ability(0x52, WAIT)
            assert ask(remote, 2) == process.pid != service.pid
        assert not remote.is_object_dead()
        assert isinstance(remote, bk.RemoteProxy)


def test_a_start_pays_only_for_what_it_uses() -> None:
    """An on-demand start is mostly imports."""
    heavy = {"argparse", "asyncio", "msgspec", "uuid", "platform", "decimal"}
    heavy |= {f"binderkit.samgr.{name}" for name in ("service", "rebind", "conditions", "processes", "documents")}
    code = f"import sys, binderkit.samgr.sa_main; print(sorted({heavy!r} & set(sys.modules)))"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT, check=True)
    assert told.stdout == "[]\n"
