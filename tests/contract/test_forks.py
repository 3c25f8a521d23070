"""tests/contract/forks.py: children come, their ends are seen, and nothing outlives the one that ordered them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator

import pytest

from binderkit.process import binder_device
from tests.contract import forks
from tests.contract.world import eventually

NO_DEVICE = {"root": "tests.contract.service:make", "args": [], "device": "/dev/null", "token": "00" * 16}
"""An order whose child ends at once, with an error."""


@pytest.fixture
def server() -> Iterator[forks.ForkServer]:
    with forks.running_server() as server:
        yield server


def test_a_child_that_fails_says_why_and_ends(capfd: pytest.CaptureFixture[str]) -> None:
    with forks.running_server() as server:
        assert forks.server() is server
        children = [server.start(NO_DEVICE) for _ in range(2)]
        assert len({child.pid for child in children}) == 2
        for child in children:
            assert child.wait()
            assert not child.is_alive()
            child.send(signal.SIGTERM)
            child.close()
            child.close()
    assert capfd.readouterr().err.count("/dev/null is no binder device") == 2


def test_the_server_reaps_its_children(server: forks.ForkServer) -> None:
    child = server.start(NO_DEVICE)
    assert child.wait()
    child.close()
    eventually(lambda: not os.path.exists(f"/proc/{child.pid}"), "the server asks how its child ended")


def test_a_server_that_has_ended_is_told() -> None:
    with forks.running_server() as server:
        server._process.kill()
        server._process.wait()
        with pytest.raises((ChildProcessError, BrokenPipeError, ConnectionResetError)):
            server.start(NO_DEVICE)


def test_without_a_server_it_says_what_to_do() -> None:
    if os.path.exists(binder_device()):
        pytest.skip("with a device there always is one, for the whole session")
    with pytest.raises(AssertionError, match="running_server"):
        forks.server()


def test_the_server_ends_with_the_process_that_started_it() -> None:
    script = (
        "import os, signal\n"
        "from tests.contract import forks\n"
        "server = forks.ForkServer()\n"
        "print(server._process.pid, flush=True)\n"
        "input()\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as user:
        assert user.stdin and user.stdout
        pidfd = os.pidfd_open(int(user.stdout.readline()))
        try:
            end = select.poll()
            end.register(pidfd, select.POLLIN)
            assert not end.poll(0)
            user.stdin.write("\n")
            user.stdin.flush()
            assert end.poll(forks.PATIENCE * 1000)
        finally:
            os.close(pidfd)
    assert user.returncode == -signal.SIGKILL
