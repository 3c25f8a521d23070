"""cli/abilities.py: states, processes, start, stop and watch, against a real device."""

from __future__ import annotations

import json
import os
import re
import subprocess
import threading
from pathlib import Path

import pytest

from binderkit import samgr
from binderkit.cli.main import main
from tests.samgr.on_demand import device_process, write_profile
from tests.samgr.processes import WAIT, Adder

Samgr = subprocess.Popen[bytes]
Capture = pytest.CaptureFixture[str]


@pytest.mark.parametrize("command", ["list", "processes", "start", "stop", "watch"])
def test_every_command_has_help_with_an_example(capsys: Capture, command: str) -> None:
    assert main([command, "--help"]) == 0
    assert "Example" in capsys.readouterr().out


def test_a_service_is_listed_started_and_stopped(device: Path, capsys: Capture) -> None:
    write_profile(device / "profiles", "lazy", 5, "Lazy", 'name = "tests.lazy"')
    with device_process():
        assert main(["list"]) == 0
        assert re.search(r"5\s+0x5\s+tests\.lazy\s+-\s+-\s+no\s+NOT_LOADED\s+lazy", capsys.readouterr().out)
        assert main(["processes"]) == 0
        assert re.search(r"lazy\s+-\s+-\s+NOT_STARTED\s+5", capsys.readouterr().out)
        assert main(["start", "tests.lazy"]) == 0
        shown = re.search(r"tests\.lazy runs in process lazy \(pid (\d+)\), \d+ ms", capsys.readouterr().out)
        assert shown is not None
        pid = shown[1]
        assert main(["list", "--json"]) == 0
        (row,) = json.loads(capsys.readouterr().out)
        assert (row["id"], row["state"], row["process"], str(row["pid"])) == (5, "LOADED", "lazy", pid)
        assert main(["processes", "--json"]) == 0
        (process,) = json.loads(capsys.readouterr().out)
        assert (process["name"], process["state"], str(process["pid"])) == ("lazy", "STARTED", pid)
        assert main(["stop", "5"]) == 0
        assert f"process lazy (pid {pid}) ended" in capsys.readouterr().out
        assert main(["stop", "lazy"]) == 1
        assert "no process 'lazy' runs" in capsys.readouterr().err


def test_what_cannot_be_started_is_an_error_with_words(device: Path, capsys: Capture) -> None:
    write_profile(device / "profiles", "bad", 5, "Failing")
    with device_process():
        assert main(["start", "5"]) == 1
        assert "no such lamp" in capsys.readouterr().err
        assert main(["start", "6"]) == 1
        assert "no profile has it" in capsys.readouterr().err
        assert main(["start", "5", "-t", "13"]) == 2
        assert main(["start", "4 7"]) == 2
        assert main(["stop", "no.such"]) == 1


def test_watch_prints_what_happens(running_samgr: Samgr, capsys: Capture) -> None:
    started = threading.Event()

    def act() -> None:
        while not any(row.startswith("  9 ") for row in listeners()):
            pass
        started.set()
        samgr.add_system_ability(9, adder)
        samgr.remove_system_ability(9)

    adder = Adder()
    acting = threading.Thread(target=act)
    acting.start()
    assert main(["watch", "9", "--count", "2"]) == 0
    acting.join(WAIT)
    assert started.is_set()
    text = capsys.readouterr().out
    assert re.search(r"\d\d:\d\d:\d\d system ability 9 added\n.* system ability 9 removed", text)


def listeners() -> list[str]:
    """Return the lines of SAMgr's dump about listeners."""
    from binderkit.cli import target

    return target.dump(samgr.system_ability_manager().as_object(), ["--listener"], WAIT).decode().splitlines()


def test_a_program_without_a_process_name_is_not_stopped(running_samgr: Samgr, capsys: Capture) -> None:
    samgr.add_system_ability(9, Adder())
    assert main(["list"]) == 0
    assert re.search(rf"9\s+0x9\s+-\s+{os.getpid()}\s+{os.getuid()}\s+no\s+LOADED\s+-", capsys.readouterr().out)
    assert main(["stop", "9"]) == 1
    assert "end that program itself" in capsys.readouterr().err


def test_nothing_is_started_to_look(device: Path, capsys: Capture) -> None:
    for command in (["list"], ["processes"], ["start", "5"], ["stop", "x"], ["watch"]):
        assert main(command) == 1
        assert "no SAMgr runs" in capsys.readouterr().err
