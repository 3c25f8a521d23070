"""samgr/events/parameters.py: read, set, watch, keep."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from binderkit.errors import ParamValueError, QuotaError, RefusedError
from binderkit.samgr.conditions import OnDemandEvent
from binderkit.samgr.events.parameters import MAX_PARAMETERS, ParameterService
from binderkit.samgr.reason import ReasonId
from tests.samgr.events.doubles import Posted, Watcher, Workers, called_by

STRANGER = 54321


def test_values_are_kept_over_a_restart(tmp_path: Path) -> None:
    file = tmp_path / "parameters.json"
    first = ParameterService(file)
    assert (first.get("a.b"), first.get("a.b", "default"), first.list()) == ("", "default", {})
    first.set("a.b", "1")
    first.set("a.c", "ü")
    first.set("x", "")
    second = ParameterService(file)
    assert second.get("a.c") == "ü" and second.get("x", "default") == ""
    assert second.list("a.") == {"a.b": "1", "a.c": "ü"}
    assert file.stat().st_mode & 0o777 == 0o600


def test_changes_are_posted_and_told_once() -> None:
    workers, posted, watcher, all_of = Workers(), Posted(), Watcher(), Watcher()
    service = ParameterService(submit=workers)
    service.set("a.b", "0")
    service.start(posted)
    service.watch("a.b", watcher)
    service.watch("a.*", all_of)
    service.set("a.b", "1")
    service.set("a.b", "1")
    service.set("a.c", "2")
    workers.run()
    assert posted == [OnDemandEvent(ReasonId.PARAM, *pair) for pair in (("a.b", "0"), ("a.b", "1"), ("a.c", "2"))]
    assert watcher.heard == [("a.b", "1")] and all_of.heard == [("a.b", "1"), ("a.c", "2")]
    assert service.unwatch(watcher) and not service.unwatch(watcher)
    service.close()
    service.set("a.b", "3")
    workers.run()
    assert len(posted) == 3 and len(all_of.heard) == 2


def test_a_switch_is_an_event_of_its_own() -> None:
    posted = Posted()
    service = ParameterService(submit=Workers())
    service.start(posted)
    service.set("settingswitch.wifi_status", "on")
    service.set("settingswitch.wifi_status", "maybe")
    assert [event for event in posted if event.id == ReasonId.SETTING_SWITCH] == [
        OnDemandEvent(ReasonId.SETTING_SWITCH, "wifi_status", "on")
    ]


def test_what_is_refused() -> None:
    service = ParameterService(submit=Workers())
    service.set("const.model", "x")
    service.set("const.model", "x")
    with pytest.raises(RefusedError, match=r"const\.model is 'x' for good"):
        service.set("const.model", "y")
    with pytest.raises(ParamValueError, match="no parameter's name"):
        service.set("a b", "")
    with pytest.raises(ParamValueError, match="96 characters"):
        service.set("a", "v" * 97)
    with called_by(77, STRANGER):
        assert service.get("const.model") == "x"
        with pytest.raises(RefusedError, match="uid 54321 may not set a"):
            service.set("a", "1")
    for pattern in ("", "a b", "a*b", "a.*.b"):
        with pytest.raises(ParamValueError):
            service.watch(pattern, Watcher())
    for pattern in ("*", "a*", "a.*"):
        service.watch(pattern, Watcher())


def test_there_is_a_quota() -> None:
    service = ParameterService(submit=Workers())
    service._values = {f"p{number}": "" for number in range(MAX_PARAMETERS)}
    service.set("p0", "1")
    with pytest.raises(QuotaError, match="1024 parameters"):
        service.set("one.more", "1")


def test_a_file_that_cannot_be_written_changes_nothing(tmp_path: Path) -> None:
    service = ParameterService(tmp_path / "none" / "parameters.json", submit=Workers())
    with pytest.raises(FileNotFoundError):
        service.set("a", "1")
    assert service.get("a", "unset") == "unset"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None)
@given(st.one_of(st.binary(max_size=30), st.sampled_from([b"[]", b'{"a": 1}', b'{"a b": "1"}', b"[" * 20_000])))
def test_a_damaged_file_is_put_aside(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "parameters.json"
    file.write_bytes(content)
    assert ParameterService(file).list() == {}
    assert not file.exists() and (tmp_path / "parameters.damaged").read_bytes() == content


def test_its_dump_says_what_there_is() -> None:
    service = ParameterService(submit=Workers())
    service.set("a", "1")
    reader, writer = os.pipe()
    service.on_dump(writer, [])
    os.close(writer)
    with open(reader) as text:
        assert text.read() == "a = 1\nwatchers: 0\n"
