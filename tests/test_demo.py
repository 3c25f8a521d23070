"""``binderkit demo``, as a user runs it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = [sys.executable, "-m", "binderkit.cli.main", "demo"]
TWO_DEVICES = [*COMMAND, "--devices", "2"]
WITHOUT_NAMESPACES = [
    sys.executable,
    "-c",
    "import sys; from binderkit.cli import main; from binderkit.cli.demo import network;"
    "network.namespaces_work = lambda: False; sys.argv[1:] = ['demo', '--devices', '2']; sys.exit(main.main())",
]
WAIT = 50.0


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the demo puts its temporary files, so that what it leaves behind is seen."""
    path = tmp_path / "t"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    return path


def processes_of(directory: Path) -> list[int]:
    """Return the processes whose environment names a runtime directory under ``directory``."""
    wanted = f"BINDERKIT_RUNTIME_DIR={directory}".encode()
    found = []
    for name in filter(str.isdigit, os.listdir("/proc")):
        try:
            environment = Path(f"/proc/{name}/environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # ended meanwhile, or not ours
        if wanted in environment:
            found.append(int(name))
    return found


def test_every_step_is_right_and_nothing_is_left_behind(temporary: Path) -> None:
    ended = subprocess.run(COMMAND, capture_output=True, text=True, timeout=WAIT, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert ended.stderr == ""
    assert len(re.findall(r"✓ [\d.]+ ms", ended.stdout)) == 7
    assert len(re.findall(r"received +\d+ × \d+ +[\d,]+ bytes, called back by process \d+", ended.stdout)) == 8
    assert re.search(r"the death notice came [\d.]+ ms after the kill", ended.stdout)
    assert "every step was right" in ended.stdout
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_in_the_middle_leaves_nothing_behind(temporary: Path, number: signal.Signals) -> None:
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "received 1600" in line:
                demo.send_signal(number)
                break
        demo.stdout.read()
        assert demo.wait(WAIT) == 128 + number
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []


def namespaces() -> set[str]:
    named = Path("/run/netns")
    return {one.name for one in named.iterdir()} if named.exists() else set()


@pytest.mark.slow
@pytest.mark.parametrize("command", [TWO_DEVICES, WITHOUT_NAMESPACES], ids=["default", "loopback"])
def test_two_devices_find_and_call_each_other(temporary: Path, command: list[str]) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as demo:
        out, err = demo.communicate(timeout=WAIT)
    assert demo.returncode == 0, out + err
    assert err == ""
    text = " ".join(out.split())
    assert len(re.findall(r"✓ [\d.]+ ms", text)) == 9
    assert re.search(r"kitchen shows PIN \d{6}, \d+ ms", text)
    assert len(re.findall(r"received +\d+ × \d+ +[\d,]+ bytes, called back by device [0-9a-f]{8}…", text)) == 4
    notice = re.search(r"death notice ([\d.]+) s after the cut", text)
    assert notice is not None and float(notice[1]) < 5  # a silent device is known within 5 s
    assert re.search(r"kitchen is online \d+ ms later", text)
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []
    assert not [name for name in namespaces() if name.startswith(f"bk{demo.pid}-")]


@pytest.mark.slow
@pytest.mark.parametrize("command", [TWO_DEVICES, WITHOUT_NAMESPACES], ids=["default", "loopback"])
@pytest.mark.parametrize(
    ("number", "where"), [(signal.SIGTERM, "nothing was heard"), (signal.SIGINT, "kitchen shows PIN")]
)
def test_a_signal_leaves_nothing_of_two_devices_behind(
    temporary: Path, command: list[str], number: signal.Signals, where: str
) -> None:
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if where in line:
                demo.send_signal(number)
                break
        demo.stdout.read()
        assert demo.wait(WAIT) == 128 + number
    assert list(temporary.iterdir()) == []
    assert processes_of(temporary) == []
    assert not [name for name in namespaces() if name.startswith(f"bk{demo.pid}-")]
