"""driver/unix/activation.py: readiness, and sockets that were opened for us; a test plays systemd."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TextIO

import pytest

from binderkit.driver.unix.activation import notify, take_listening_sockets

CHILD = """\
import os, sys
from binderkit.driver.unix.activation import take_listening_sockets
os.environ["LISTEN_PID"] = str(os.getpid())
sockets = take_listening_sockets()
print(len(sockets), sockets[0].getsockname(), os.get_inheritable(sockets[0].fileno()), "LISTEN_FDS" in os.environ)
"""


@pytest.mark.parametrize("abstract", [False, True])
def test_the_service_manager_is_told(tmp_path: Path, abstract: bool) -> None:
    address = f"@binderkit-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(address.replace("@", "\0"))
        assert notify("READY=1\nSTATUS=ready", {"NOTIFY_SOCKET": address})
        assert manager.recv(100) == b"READY=1\nSTATUS=ready"


def test_without_a_service_manager_nothing_happens(tmp_path: Path) -> None:
    assert not notify("READY=1", {})
    assert not notify("READY=1", {"NOTIFY_SOCKET": "vsock:2:1"})
    with pytest.raises(FileNotFoundError):
        notify("READY=1", {"NOTIFY_SOCKET": str(tmp_path / "none")})


def started(sock: socket.socket | TextIO) -> subprocess.CompletedProcess[str]:
    """Start a process as systemd does: the socket is descriptor 3."""
    shell = f'exec 3<&{sock.fileno()}; LISTEN_FDS=1 LISTEN_FDNAMES=a exec "$0" -c "$1"'
    command = ["bash", "-c", shell, sys.executable, CHILD]
    return subprocess.run(command, pass_fds=[sock.fileno()], capture_output=True, text=True, timeout=30, check=False)


def test_a_listening_socket_is_taken_once_and_not_inherited(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        assert started(sock).stdout.split("\n")[0] == f"1 {tmp_path}/s False False"


def test_another_kind_of_socket_is_refused(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
        sock.bind(str(tmp_path / "s"))
        sock.listen()
        assert "ListenSequentialPacket=PATH" in started(sock).stderr
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as sock:
        sock.bind(str(tmp_path / "t"))
        assert "no UNIX socket that listens" in started(sock).stderr
    with open(os.devnull) as file:
        assert "is no socket" in started(file).stderr


@pytest.mark.parametrize(
    "environment",
    [{}, {"LISTEN_PID": "1", "LISTEN_FDS": "1"}, {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many"}],
)
def test_descriptors_of_others_are_left_alone(environment: dict[str, str]) -> None:
    assert take_listening_sockets(environment) == []


def test_readiness_reaches_a_manager_from_another_process(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "n"))
        code = "from binderkit.driver.unix.activation import notify; notify('READY=1')"
        environment = {**os.environ, "NOTIFY_SOCKET": str(tmp_path / "n")}
        subprocess.run([sys.executable, "-c", code], env=environment, check=True, timeout=30)
        assert manager.recv(100) == b"READY=1"
