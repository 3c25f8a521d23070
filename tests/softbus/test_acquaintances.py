"""acquaintances.py: names of devices that are off."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.softbus.acquaintances import Acquaintance, Acquaintances, _load
from binderkit.softbus.engine import DeviceInfo
from binderkit.softbus.identity import write_private

ONE, TWO = "1" * 64, "2" * 64


def info(udid: str, name: str) -> DeviceInfo:
    return DeviceInfo(udid, "ab", "cd", name, "tv")


def test_they_are_remembered_over_a_restart_and_forgotten_with_the_trust(tmp_path: Path) -> None:
    known = Acquaintances(tmp_path, [ONE, TWO], clock=lambda: 100.5)
    known.note(info(ONE, "kitchen"))
    known.note(info(TWO, "garden"))
    assert known.of(ONE) == Acquaintance("kitchen", "tv", 100)
    assert known.of("3" * 64) is None
    known.close()
    file = tmp_path / "acquaintances.json"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    again = Acquaintances(tmp_path, [ONE], clock=lambda: 200.0)
    assert (again.of(ONE), again.of(TWO)) == (Acquaintance("kitchen", "tv", 100), None)
    again.close(online=[ONE, TWO])
    assert json.loads(file.read_text()) == {ONE: {"name": "kitchen", "device_type": "tv", "seen": 200}}
    last = Acquaintances(tmp_path, [ONE])
    last.restrict([])
    last.close()
    assert json.loads(file.read_text()) == {}


def test_a_file_that_cannot_be_written_stops_nothing(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = tmp_path / "state"
    folder.mkdir()
    known = Acquaintances(folder, [ONE])
    folder.rmdir()
    known.note(info(ONE, "kitchen"))
    known.close()
    assert known.of(ONE) is not None and "cannot be written" in caplog.text


ROW = {"name": "kitchen", "device_type": "tv", "seen": 1}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[1]",
        b"\xff",
        b"[" * 100_000,
        json.dumps({"1": ROW}).encode(),
        json.dumps({ONE: 1}).encode(),
        json.dumps({ONE: {**ROW, "name": 1}}).encode(),
        json.dumps({ONE: {**ROW, "name": "a\nb"}}).encode(),
        json.dumps({ONE: {**ROW, "seen": True}}).encode(),
        json.dumps({ONE: {**ROW, "more": 1}}).encode(),
        json.dumps({ONE: {"name": "x"}}).encode(),
    ],
)
def test_a_file_that_cannot_be_used_is_begun_anew(
    tmp_path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    write_private(tmp_path / "acquaintances.json", content)
    known = Acquaintances(tmp_path, [ONE])
    assert known.of(ONE) is None and "begun anew" in caplog.text
    known.note(info(ONE, "garden"))
    known.close()
    assert _load(tmp_path / "acquaintances.json")[ONE].name == "garden"


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda one: st.dictionaries(st.text(), one)))
def test_nothing_in_the_file_keeps_softbus_from_starting(content: object) -> None:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "acquaintances.json"
        write_private(path, json.dumps(content).encode())
        assert _load(path) == {}
