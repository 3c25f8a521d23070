"""cli/demo/network.py: two places, and cutting one off."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path

import pytest

from binderkit.cli.demo import network
from binderkit.cli.demo.network import DESK, KITCHEN, Loopback, Namespaces
from binderkit.cli.demo.processes import Device, Place
from binderkit.cli.demo.report import StepFailed
from tests.softbus.devices import namespaces_work

needs_namespaces = pytest.mark.skipif(not namespaces_work(), reason="only root makes network namespaces")


def state_of(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def test_on_the_loopback_a_device_is_frozen_and_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    between = Loopback()
    assert between.place(DESK) == between.place(KITCHEN)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        monkeypatch.setattr(network, "softbus_of", lambda device: process.pid)
        between.cut(Device())
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        assert state_of(process.pid) == "T"
        between.restore()
        os.waitid(os.P_PID, process.pid, os.WCONTINUED)
        process.send_signal(signal.SIGKILL)
    between.restore()  # nothing is frozen any more


def test_a_device_that_ends_while_it_is_frozen_is_let_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    between = Loopback()
    monkeypatch.setattr(network, "softbus_of", lambda device: child.pid)
    with Device() as device:
        child = device.start_command("--help")
        between.cut(device)
        assert child.returncode is None
    assert child.returncode != -signal.SIGKILL  # it heard that it was to end


@needs_namespaces
def test_namespaces_are_there_until_the_end() -> None:
    named = Path("/run/netns")
    before = set(named.iterdir())
    with ExitStack() as stack:
        between = Namespaces(stack)
        assert len(set(named.iterdir()) - before) == 3
        for name, address in ((DESK, "10.77.0.1"), (KITCHEN, "10.77.0.2")):
            shown = subprocess.run(
                [*between.place(name).words, "ip", "-4", "-brief", "addr", "show", "eth0"],
                capture_output=True,
                text=True,
                check=True,
            )
            assert f"{address}/24" in shown.stdout
        carrier = [*between.place(KITCHEN).words, "cat", "/sys/class/net/eth0/carrier"]
        assert subprocess.run(carrier, capture_output=True, check=True).stdout == b"1\n"
        between.cut(Device())
        assert subprocess.run(carrier, capture_output=True, check=True).stdout == b"0\n"
        between.restore()
        assert subprocess.run(carrier, capture_output=True, check=True).stdout == b"1\n"
    assert set(named.iterdir()) <= before


@needs_namespaces
def test_what_ip_says_is_in_the_failure_and_what_was_made_goes() -> None:
    before = set(Path("/run/netns").iterdir())
    with pytest.raises(StepFailed, match="File exists"), ExitStack() as stack:
        Namespaces(stack)
        Namespaces(stack)  # of the same process: the names are taken
    assert set(Path("/run/netns").iterdir()) <= before


def test_namespaces_are_for_root_with_ip(monkeypatch: pytest.MonkeyPatch) -> None:
    assert network.namespaces_work() == namespaces_work()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert not network.namespaces_work()
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setenv("PATH", "/nowhere")
    assert not network.namespaces_work()
    with ExitStack() as stack:
        assert isinstance(network.network(stack), Loopback)


def test_a_device_runs_in_its_place_and_sees_nothing_of_the_users_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERKIT_SOFTBUS_STATE", "/home/ada/keys")
    with Device(Place(("env", "SEEN=1"), {"BINDERKIT_SOFTBUS_LISTEN": "127.0.0.1"})) as device:
        command = device.start_command("--help")
        environment = device._environment()
        assert command.args[:2] == ["env", "SEEN=1"]  # type: ignore[index]
        assert "BINDERKIT_SOFTBUS_STATE" not in environment
        assert environment["BINDERKIT_SOFTBUS_LISTEN"] == "127.0.0.1"
        assert environment["BINDERKIT_RUNTIME_DIR"] == str(device.directory)
        device.add_profile("photos.toml", "process = 'photos'\n")
        profile = device.directory / "profiles" / "photos.toml"
        assert profile.read_text() == "process = 'photos'\n"
        assert profile.stat().st_mode & 0o777 == 0o600 and profile.parent.stat().st_mode & 0o777 == 0o700
    assert not device.directory.exists()
