"""cli/demo/two_devices.py: what goes wrong is said; the one that goes right is tests/test_demo.py."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from binderkit.cli.demo import interface, network, two_devices
from binderkit.cli.demo.processes import Stage
from binderkit.cli.demo.report import StepFailed, check
from binderkit.samgr.profile import load_profile
from binderkit.samgr.remote import Problem


def shown(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(two_devices, "NEEDED", ("sys", "binderkit_not_there"))
    assert two_devices.main() == 1
    assert "it needs binderkit_not_there; install it: pip install 'binderkit[demo,rpc]'" in shown(capsys)


def test_a_step_that_goes_wrong_ends_the_demo_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(network, "namespaces_work", lambda: False)
    monkeypatch.setattr(Stage, "start_samgr", lambda stage: check(False, "SAMgr has a headache"))
    assert two_devices.main() == 1
    assert "The demo failed: SAMgr has a headache" in shown(capsys)


def test_what_softbus_refuses_is_shown(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def refused(stage: Stage) -> int:
        raise Problem(-425983984, "the PINs of the two devices differ")

    monkeypatch.setattr(network, "namespaces_work", lambda: False)
    monkeypatch.setattr(Stage, "start_samgr", refused)
    assert two_devices.main() == 1
    assert "The demo failed: the PINs of the two devices differ" in shown(capsys)


@pytest.mark.parametrize("address", ["10.77.0.2:40123", "10.0.0.1:40123 [fe80::1]:40123"])
def test_pin_and_port_are_read_from_what_the_command_prints(address: str) -> None:
    text = f"PIN 012345\\non the other device: binderkit device pair 'kitchen'   (or one of: {address})\\n"
    with subprocess.Popen([sys.executable, "-c", f'print("{text}", end="")'], stdout=subprocess.PIPE) as offer:
        assert two_devices._shown(offer) == ("012345", 40123)


def test_a_command_that_shows_no_pin_is_a_failed_step() -> None:
    command = [sys.executable, "-c", "print('pairing is locked')"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as offer, pytest.raises(StepFailed, match="is locked"):
        two_devices._shown(offer)


@pytest.mark.parametrize("count", ["0", "3", "two"])
def test_there_are_one_or_two_devices(count: str) -> None:
    command = [sys.executable, "-m", "binderkit.cli.main", "demo", "--devices", count]
    ended = subprocess.run(command, capture_output=True, text=True)
    assert ended.returncode == 2
    assert "--devices" in ended.stderr


def test_the_desks_profile_can_be_read(tmp_path: Path) -> None:
    """It names what programs on the desk ask other devices for."""
    path = tmp_path / "photos.toml"
    path.write_text(interface.USER_PROFILE)
    path.chmod(0o600)
    assert load_profile(path).remote_abilities == (interface.ABILITY,)
