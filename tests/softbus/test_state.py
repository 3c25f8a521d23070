"""state.py: one process per state directory, and nobody else's hands on it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from binderkit.errors import SoftBusError
from binderkit.softbus.state import StateDirectory


def test_it_is_made_for_this_user_alone(tmp_path: Path) -> None:
    path = tmp_path / "state" / "binderkit" / "softbus"
    before = os.umask(0)
    try:
        held = StateDirectory(path)
    finally:
        os.umask(before)
    held.close()
    held.close()
    assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert [stat.S_IMODE(one.stat().st_mode) for one in path.iterdir()] == [0o600]


def test_a_second_one_is_refused_until_the_first_ends(tmp_path: Path) -> None:
    first = StateDirectory(tmp_path / "state")
    try:
        with pytest.raises(SoftBusError, match=rf"\(pid {os.getpid()}\).*BINDERKIT_SOFTBUS_STATE"):
            StateDirectory(tmp_path / "state")
    finally:
        first.close()
    StateDirectory(tmp_path / "state").close()


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from binderkit.softbus.state import StateDirectory\n"
        "held = StateDirectory(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "state")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SoftBusError, match=f"pid {holder.pid}"):
            StateDirectory(tmp_path / "state")
        holder.kill()
    StateDirectory(tmp_path / "state").close()


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o770, 0o755, 0o777])
def test_what_others_may_enter_is_not_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "state"
    path.mkdir()
    path.chmod(mode)
    with pytest.raises(SoftBusError, match=f"mode {mode:04o}.*chmod 700"):
        StateDirectory(path)
    assert not list(path.iterdir())


def test_what_belongs_to_somebody_else_is_not_used(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    owner = os.geteuid()
    monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(SoftBusError, match=f"belongs to user {owner}"):
        StateDirectory(path)


def test_a_lock_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    path = tmp_path / "state"
    path.mkdir(mode=0o700)
    (path / "softbus.lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match=r"softbus\.lock"):
        StateDirectory(path)
    assert not (tmp_path / "elsewhere").exists()
