"""The daemon under systemd, which a test plays: its socket is passed on, it says when it is ready, and it leaves it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from binderkit import process, samgr
from tests.samgr.processes import WAIT

START = 'exec 3<&"$0"; LISTEN_FDS=1 LISTEN_PID=$$ exec "$1" -m binderkit.daemon'


def daemon(listener: socket.socket, **environment: str) -> subprocess.Popen[bytes]:
    fd = listener.fileno()
    command = ["bash", "-c", START.replace('"$0"', str(fd)), "bash", sys.executable]
    return subprocess.Popen(command, pass_fds=[fd], env={**os.environ, **environment}, stderr=subprocess.DEVNULL)


def test_the_first_client_is_served_on_the_passed_socket(
    runtime_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BINDERKIT_NO_AUTOSTART", "1")
    process.shutdown()
    path = runtime_dir / "samgr.sock"
    with (
        socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager,
    ):
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)
        listener.bind(str(path))
        listener.listen()
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(WAIT)
        inode = path.stat().st_ino
        for _ in range(2):
            running = daemon(listener, NOTIFY_SOCKET=str(tmp_path / "notify"))
            try:
                assert samgr.get_system_ability(3299, 10) is not None  # connected before the daemon was ready
                assert manager.recv(100) == b"READY=1"
            finally:
                running.terminate()
                assert running.wait(WAIT) == 0
                process.shutdown()
            assert path.stat().st_ino == inode
