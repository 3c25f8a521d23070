"""SAMgr is started on first use: by one process, unless that is switched off, and with what its driver needs."""

from __future__ import annotations

import fcntl
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from binderkit.driver import autostart
from binderkit.errors import NoServiceManagerError


@pytest.fixture
def pretender(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Take a small program for the daemon: it is given the descriptor to tell that it is ready."""
    monkeypatch.delenv("BINDERKIT_NO_AUTOSTART", raising=False)

    def install(lines: str) -> None:
        folder = runtime_dir / "code" / "binderkit"
        folder.mkdir(parents=True)
        (folder / "__init__.py").touch()
        (folder / "daemon.py").write_text(f"import os, sys\n{lines}\n")
        monkeypatch.setattr(sys, "path", [str(folder.parent), *sys.path])

    return install


def found_in(directory: Path) -> Callable[[], str | None]:
    return lambda: (directory / "started").read_text() if (directory / "started").exists() else None


READY = (
    "open(os.environ['BINDERKIT_RUNTIME_DIR'] + '/started', 'a').write(os.environ['BINDERKIT_DEVICE'] + ' ')\n"
    "os.write(int(sys.argv[2]), b'R')"
)


def test_nobody_starts_one_when_that_is_switched_off(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(autostart.NO_AUTOSTART, "1")
    with pytest.raises(NoServiceManagerError, match="unset BINDERKIT_NO_AUTOSTART"):
        autostart.find_or_start(lambda: None, start=True, where="here", directory=runtime_dir)
    monkeypatch.delenv(autostart.NO_AUTOSTART)
    with pytest.raises(NoServiceManagerError, match="no SAMgr runs in here; start one"):
        autostart.find_or_start(lambda: None, start=False, where="here", directory=runtime_dir)


def test_one_that_runs_is_taken_and_nothing_started(runtime_dir: Path) -> None:
    assert autostart.find_or_start(lambda: 7, start=True, where="here", directory=runtime_dir) == 7
    assert list(runtime_dir.iterdir()) == []


def test_those_who_want_one_at_once_start_a_single_one(runtime_dir: Path, pretender: Callable[[str], None]) -> None:
    pretender(READY)
    found: list[str] = []

    def want() -> None:
        found.append(
            autostart.find_or_start(
                found_in(runtime_dir),
                start=True,
                where="here",
                directory=runtime_dir,
                variables={"BINDERKIT_DEVICE": "/dev/b9"},
            )
        )

    threads = [threading.Thread(target=want) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    os.wait()  # whoever starts SAMgr does not wait for it; this one ended at once
    assert found == ["/dev/b9 "] * 3
    assert (runtime_dir / autostart.LOG).stat().st_mode & 0o777 == 0o600


def test_one_that_ends_at_once_is_told_with_its_log(runtime_dir: Path, pretender: Callable[[str], None]) -> None:
    pretender("sys.exit('no such thing')")
    with pytest.raises(NoServiceManagerError, match=r"does not listen; see .*samgr\.log"):
        autostart.find_or_start(lambda: None, start=True, where="here", directory=runtime_dir)
    assert "no such thing" in (runtime_dir / autostart.LOG).read_text()


def test_who_waits_for_another_starter_does_not_wait_for_ever(
    runtime_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("BINDERKIT_NO_AUTOSTART", raising=False)
    monkeypatch.setattr(autostart, "START_WAIT", 0.05)
    held = os.open(runtime_dir / autostart.START_LOCK, os.O_RDWR | os.O_CREAT, 0o600)
    fcntl.flock(held, fcntl.LOCK_EX)
    try:
        with pytest.raises(NoServiceManagerError, match="another process has been starting SAMgr"):
            autostart.find_or_start(lambda: None, start=True, where="here", directory=runtime_dir)
    finally:
        os.close(held)
