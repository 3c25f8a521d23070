"""``binderkit.spawn`` over a binder device: a real start of Python, where the contract suite forks its children."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

import binderkit as bk
from binderkit.ipc.driver import current_driver
from binderkit.process import binder_device
from tests.contract.messages import transact
from tests.contract.service import Code
from tests.contract.world import eventually, open_world

pytestmark = pytest.mark.skipif(
    not os.path.exists(binder_device()), reason=f"there is no {binder_device()}: `make test-kernel` has one"
)


@pytest.fixture
def device() -> Iterator[str]:
    """This process's driver is the kernel's, and the context manager of its device."""
    with open_world("kernel"):
        yield binder_device()


def test_a_child_serves_its_root_object_until_it_is_closed(device: str) -> None:
    with bk.spawn("tests.contract.service:make") as child:
        reply = transact(child.root, Code.WHO)
        assert (reply.read_long(), reply.read_long(), reply.read_string()) == (os.getpid(), os.getuid(), "")
        assert reply.read_long() == child.pid == child.root.owner.pid
        assert child.is_alive()
    assert child.exit_code == 0, "it was asked to end, and did so in order"
    with pytest.raises(bk.DeadObjectError):
        transact(child.root, Code.WHO)


def test_a_killed_child_is_dead(device: str) -> None:
    with bk.spawn("tests.contract.service:make") as child:
        child.kill()
        assert child.exit_code == -9
        with pytest.raises(bk.DeadObjectError):
            transact(child.root, Code.WHO)


def test_a_child_that_fails_before_its_object_is_there(device: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(bk.DeadObjectError, match=r"tests\.contract\.service:nothing ended with code 1"):
        bk.spawn("tests.contract.service:nothing")
    assert "AttributeError" in capfd.readouterr().err
    assert not current_driver().offers._waiting, "its meeting point is taken back"


def test_a_child_ends_with_its_parent(device: str) -> None:
    script = (
        "import os, signal, sys\n"
        "import binderkit as bk\n"
        "child = bk.spawn('tests.contract.service:make')\n"
        "print(child.pid, flush=True)\n"
        "sys.stdin.read(1)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    # The parent's parent is the context manager: the two in the middle meet through it.
    paths = os.pathsep.join(path for path in sys.path if path)
    environment = {**os.environ, "PYTHONPATH": paths, "BINDERKIT_DRIVER": "kernel"}
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=environment, text=True
    ) as parent:
        assert parent.stdout is not None
        pid = int(parent.stdout.readline())
        os.kill(pid, 0)
        parent.communicate("\n")
    eventually(lambda: _has_ended(pid), "the child ends with its parent")


def _has_ended(pid: int) -> bool:
    """Whether a process is gone, or only waits for being asked how it ended."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
