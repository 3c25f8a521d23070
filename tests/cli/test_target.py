"""cli/target.py: from a word to an object, and what can be done with it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

import binderkit as bk
from binderkit import samgr
from binderkit.cli import target
from binderkit.errors import NoServiceManagerError, ParamValueError, ServiceNotFoundError
from tests.samgr.processes import WAIT, Adder, service_process

Samgr = subprocess.Popen[bytes]


def test_an_object_is_found_by_decimal_hex_and_name_and_samgr_by_0(running_samgr: Samgr) -> None:
    adder = Adder()
    samgr.add_system_ability(0x1000, adder, name="tests.adder")
    assert [target.find(word) for word in ("4096", "0x1000", "tests.adder")] == [adder] * 3
    assert target.find("0").get_descriptor() == "OHOS.ISystemAbilityManager"
    with pytest.raises(ServiceNotFoundError):
        target.find("tests.other")
    with pytest.raises(ParamValueError):
        target.find("4 7")


def test_looking_never_starts_samgr(runtime_dir: Path, device: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BINDERKIT_NO_AUTOSTART")
    with pytest.raises(NoServiceManagerError):
        target.find("0")
    assert list(runtime_dir.iterdir()) == []


def test_ping_measures_and_tells_of_a_dead_process(running_samgr: Samgr) -> None:
    with service_process("tests.adder") as service:
        remote = target.find("tests.adder")
        assert 0 < target.ping(remote, WAIT) < WAIT
        service.kill()
        with pytest.raises(bk.DeadObjectError):
            target.ping(remote, WAIT)


def test_dump_hands_arguments_over_and_returns_everything(running_samgr: Samgr) -> None:
    class Talkative(bk.RemoteObject):
        def on_dump(self, descriptor: int, arguments: list[str]) -> None:
            for _ in range(40):
                os.write(descriptor, b"x" * 10_000)

    with service_process("tests.adder"):
        assert target.dump(target.find("tests.adder"), ["-a", "b c"], WAIT) == b"adder ['-a', 'b c']\n"
    assert len(target.dump(Talkative("tests.Talkative"), [], WAIT)) == 400_000
