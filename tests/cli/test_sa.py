"""cli/sa.py: `binderkit sa run`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from binderkit import samgr
from binderkit.cli.main import main
from tests.samgr.processes import WAIT, ask

ROOT = Path(__file__).parents[2]
Capture = pytest.CaptureFixture[str]


def test_help_says_what_it_is_for(capsys: Capture) -> None:
    assert main(["sa", "run", "--help"]) == 0
    text = capsys.readouterr().out
    assert "PROFILE" in text and "Example" in text


def test_a_profile_is_needed_and_must_be_right(device: Path, capsys: Capture, tmp_path: Path) -> None:
    assert main(["sa", "run"]) == 2
    assert "Missing argument" in capsys.readouterr().err
    path = tmp_path / "x.toml"
    path.write_text('process = "x"\n[[ability]]\nid = -1\nentry = "a:b"\n')
    assert main(["sa", "run", str(path)]) == 1
    assert "x.toml" in capsys.readouterr().err


def test_it_hosts_a_profile_until_ctrl_c(
    running_samgr: subprocess.Popen[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NOTES", str(tmp_path / "notes"))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT / 'src'}:{ROOT}")
    path = tmp_path / "x.toml"
    path.write_text('process = "x"\n[[ability]]\nid = 81\nentry = "tests.samgr.main_abilities:Noted"\n')
    command = [sys.executable, "-m", "binderkit.cli.main", "sa", "run", str(path)]
    running = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert ask(samgr.get_system_ability(81, WAIT), 2) == running.pid
        running.send_signal(2)
        text = running.communicate(timeout=WAIT)[1]
        assert running.returncode == 0 and "system ability 81 stopped" in text
    finally:
        running.kill()
        running.communicate()
