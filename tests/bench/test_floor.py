"""The C program: it builds, and every mode gives numbers that make sense."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from bench.floor import Floor


@pytest.fixture(scope="module")
def floor(tmp_path_factory: pytest.TempPathFactory) -> Floor:
    return Floor(tmp_path_factory.mktemp("floor"))


@pytest.mark.parametrize(("mode", "number"), [("echo", 0), ("payload", 65536)])
@pytest.mark.parametrize("cpu", [None, 0])
def test_calls_are_timed(floor: Floor, mode: str, number: int, cpu: int | None) -> None:
    found = floor.run(mode, cpu, 0.02, number)
    assert 0 < found["median_ns"] <= found["p99_ns"]
    assert found["calls"] >= 3


@pytest.mark.parametrize(("mode", "number"), [("oneway", 0), ("clients", 3)])
def test_rates_are_counted(floor: Floor, mode: str, number: int) -> None:
    assert floor.run(mode, None, 0.02, number)["per_second"] > 0


def test_wrong_use_is_an_error(floor: Floor) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        floor.run("clients", None, 0.02, 1000)


def test_no_compiler_is_said_in_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SystemExit, match="needs a C compiler"):
        Floor(tmp_path)
