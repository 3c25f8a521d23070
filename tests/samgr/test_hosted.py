"""samgr/hosted.py: the life of one ability against a SAMgr of a few lines."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

import binderkit as bk
from binderkit.errors import RefusedError, ServiceError
from binderkit.ipc.proxy import DUMP_TRANSACTION
from binderkit.samgr import hosted as module
from binderkit.samgr.hosted import HostedAbility, HostedState
from binderkit.samgr.profile import AbilityProfile
from binderkit.samgr.reason import OnDemandReason, ReasonId
from tests.driver.unix.hostile import until
from tests.samgr import hosted_abilities as abilities
from tests.samgr.fake_manager import WAIT, FakeManager

WHY = OnDemandReason(ReasonId.PARAM, "why", "1")
HERE = Path(__file__).parent


@pytest.fixture
def manager() -> Iterator[FakeManager]:
    abilities.made.clear()
    abilities.gate.clear()
    yield FakeManager()
    abilities.gate.set()
    abilities.made.clear()


def hosted(manager: FakeManager, entry: str, /, **profile: Any) -> HostedAbility:
    if ":" not in entry:
        entry = f"tests.samgr.hosted_abilities:{entry}"
    return HostedAbility(AbilityProfile(7, entry, **profile), HERE, manager, hung_unexpectedly)


def state_of(one: HostedAbility) -> HostedState:
    return one.state


def hung_unexpectedly(text: str) -> None:
    raise AssertionError(text)


def started(manager: FakeManager, kind: str = "Recorded", /, **profile: Any) -> tuple[HostedAbility, Any]:
    one = hosted(manager, kind, **profile)
    assert one.start(WHY).result(WAIT)
    return one, abilities.made[-1]


def dump(remote: Any) -> str:
    reader, writer = os.pipe()
    with open(reader, encoding="utf-8") as told:
        try:
            with bk.MessageSequence() as data, bk.MessageSequence() as reply:
                data.write_file_descriptor(writer)
                data.write_string_array(["-x"])
                remote.send_request(DUMP_TRANSACTION, data, reply)
        finally:
            os.close(writer)
        return told.read()


def test_a_whole_life(manager: FakeManager) -> None:
    one, ability = started(manager, "Recorded", name="tests.seven")
    assert one.state is HostedState.ACTIVE and (ability.ability_id, ability.reason) == (7, WHY)
    assert manager.details[7] == {"name": "tests.seven", "distributed": False, "dump_flags": 8, "permission": ""}
    ability.add_system_ability_listener(8, "tests.other")
    ability.add_system_ability_listener(8)
    ability.add_system_ability_listener(9, device_id="kitchen")
    ((_, ears),) = [pair for pair in manager.listeners if pair[0] == 8]
    ears.on_add_system_ability(8, "")
    ears.on_remove_system_ability(8, "")
    assert (9, ears) in manager.listeners and ("subscribe", 9, "kitchen") in manager.log
    ability.cancel_idle()
    ability.stop_ability()
    one.stop(WHY).result(WAIT)
    assert ability.events == [("start", "why"), ("added", 8), ("removed", 8), ("stop", "why")]
    assert state_of(one) is HostedState.NOT_LOADED and not manager.there and not manager.listeners
    assert ("unsubscribe", 9, "kitchen") in manager.log
    assert [entry for entry in manager.log if entry[0] in ("cancel", "unload")] == [("cancel", 7), ("unload", 7)]
    assert one.start(WHY).result(WAIT) and len(abilities.made) == 2
    assert abilities.made[1] is not ability  # each start makes a new object


def test_a_second_start_and_a_stop_of_nothing_change_nothing(manager: FakeManager) -> None:
    one = hosted(manager, "Recorded")
    one.stop(WHY).result(WAIT)
    assert manager.log == []
    assert one.start(WHY).result(WAIT) and one.start(WHY).result(WAIT)
    assert len(abilities.made) == 1 and manager.log == [("add", 7)]


def test_coroutines_are_awaited(manager: FakeManager) -> None:
    one, ability = started(manager, "Waiting", extensions=("backup",))
    assert one.idle(WHY) == 250
    assert one.extension("backup", b"x") == b"async x"
    assert dump(manager.there[7]) == "async dump"
    one.stop(WHY).result(WAIT)
    assert ability.events == [("start", "why"), ("stop", "why")]


def test_an_ability_can_be_its_own_object_or_a_plain_object(manager: FakeManager) -> None:
    assert hosted(manager, "Itself").start(WHY).result(WAIT)
    assert type(manager.there[7]).__name__ == "Itself"
    assert dump(manager.there[7]) == "system ability 7 (Itself), started by PARAM\n"
    assert hosted(manager, "Both").start(WHY).result(WAIT)
    assert dump(manager.there[7]) == "both"
    assert hosted(manager, "Thing").start(WHY).result(WAIT)
    assert type(manager.there[7]).__name__ == "Thing"
    assert "tests.Thing" in dump(manager.there[7])


def test_a_dump_of_its_object_is_answered_by_the_ability(manager: FakeManager) -> None:
    started(manager)
    assert dump(manager.there[7]) == "recorded ['-x']"


# --- a start that fails ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("entry", "why"),
    [
        ("Crashes", "ValueError: no camera"),
        ("Exits", "SystemExit: 3"),
        ("CannotBeMade", "RuntimeError: no licence"),
        ("PublishesNothing", "ServiceError: system ability 7 published None; pass a RemoteObject"),
        ("nothing", "ServiceError: the entry 'tests.samgr.hosted_abilities:nothing' made None; a SystemAbility"),
        ("Missing", "has nothing called 'Missing'"),
        ("nowhere:Missing", "cannot be imported: ModuleNotFoundError"),
    ],
)
def test_a_failed_start_is_reported_and_leaves_nothing(manager: FakeManager, entry: str, why: str) -> None:
    one = hosted(manager, entry)
    assert not one.start(WHY).result(WAIT)
    assert one.state is HostedState.NOT_LOADED
    assert why in manager.failures[7] and "[code" not in manager.failures[7]
    assert not manager.there and not manager.listeners


def test_after_a_failed_start_the_next_one_can_succeed(manager: FakeManager) -> None:
    manager.refuses["add"] = RefusedError("uid 5 may not add system ability 7")
    one = hosted(manager, "Recorded")
    assert not one.start(WHY).result(WAIT)
    assert manager.failures[7] == "RefusedError: uid 5 may not add system ability 7"
    del manager.refuses["add"]
    assert one.start(WHY).result(WAIT) and 7 in manager.there


def test_a_failure_that_samgr_cannot_be_told_is_in_the_log(
    manager: FakeManager, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MANAGER_PATIENCE", 0.05)
    manager.refuses["failed"] = bk.DeadObjectError("SAMgr is gone")
    assert not hosted(manager, "Crashes").start(WHY).result(WAIT)
    assert "SAMgr could not be told that system ability 7 did not start: SAMgr is gone" in caplog.text


def test_a_samgr_that_is_restarted_is_waited_for(manager: FakeManager) -> None:
    manager.refuses["add"] = bk.DeadObjectError("SAMgr is gone")
    one = hosted(manager, "Recorded")
    start = one.start(WHY)
    manager.until(lambda: manager.log.count(("add", 7)) == 2)
    del manager.refuses["add"]
    assert start.result(WAIT) and 7 in manager.there


def test_one_that_publishes_nothing_is_told_of_in_the_log(
    manager: FakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    started(manager, "Silent")
    assert "on_start did not publish anything" in caplog.text
    abilities.made[-1].publish(abilities.Thing())  # later is as good
    assert 7 in manager.there


def test_one_that_hangs_is_shown_in_the_log_and_publishes_nothing_after_its_stop(
    manager: FakeManager, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "START_NOTICE", 0.05)
    monkeypatch.setattr(module, "IDLE_LIMIT", 0.05)
    told = threading_event_on(caplog, "takes longer than 0.05 s")
    one = hosted(manager, "Hangs")
    start = one.start(WHY)
    assert told.wait(WAIT)
    assert "on_start of system ability 7" in caplog.text and "gate.wait(20)" in caplog.text
    assert one.idle(WHY) == -1 and not one.active(WHY)
    stop = one.stop(WHY)
    abilities.gate.set()
    assert not start.result(WAIT)
    stop.result(WAIT)
    assert manager.log == [] and one.state is HostedState.NOT_LOADED
    assert one.start(WHY).result(WAIT) and 7 in manager.there


def threading_event_on(caplog: pytest.LogCaptureFixture, text: str) -> Any:
    import threading

    seen = threading.Event()

    class Filter(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if text in record.getMessage():
                seen.set()
            return True

    caplog.handler.addFilter(Filter())
    return seen


def test_an_import_that_hangs_is_given_up(
    manager: FakeManager, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(module, "IMPORT_LIMIT", 0.05)
    (tmp_path / "slow.py").write_text(
        "from tests.samgr import hosted_abilities\nhosted_abilities.gate.wait(20)\n"
        "from tests.samgr.hosted_abilities import Recorded as Slow\n"
    )
    texts: list[str] = []

    def hung(text: str) -> None:
        texts.append(text)
        abilities.gate.set()

    one = HostedAbility(AbilityProfile(7, "slow.py:Slow"), tmp_path, manager, hung)
    assert one.start(WHY).result(WAIT)
    assert "the import of 'slow.py:Slow' takes longer than 0.05 s" in texts[0] and "gate.wait(20)" in texts[0]


# --- dependencies -----------------------------------------------------------------------------------------


def test_it_starts_when_all_it_depends_on_is_there(manager: FakeManager) -> None:
    one = hosted(manager, "Recorded", depend=(8, 9), depend_timeout=WAIT)
    start = one.start(WHY)
    manager.until(lambda: ("get", 8) in manager.log)
    assert not abilities.made
    manager.add_system_ability(8, abilities.Thing())
    manager.until(lambda: ("get", 9) in manager.log)
    assert not abilities.made
    manager.add_system_ability(9, abilities.Thing())
    assert start.result(WAIT) and abilities.made


def test_it_does_not_start_when_they_do_not_come(manager: FakeManager) -> None:
    one = hosted(manager, "Recorded", depend=(8,), depend_timeout=0.05)
    assert not one.start(WHY).result(WAIT)
    assert "depends on system ability 8, which was not there within 0.05 s" in manager.failures[7]
    assert not abilities.made


def test_one_that_is_still_starting_is_asked_when_it_is_out_of_it(manager: FakeManager) -> None:
    """Or a stop event between publish and the end of on_start would be dropped."""
    one = hosted(manager, "Hangs")
    start = one.start(WHY)
    until(lambda: abilities.made and abilities.made[-1].events, "on_start runs")
    abilities.made[-1].idle = 250
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(one.idle, WHY)
        abilities.gate.set()
        assert start.result(WAIT)
        assert answer.result(WAIT) == 250
    assert one.state is HostedState.IDLE


# --- idle, active, extension --------------------------------------------------------------------------------


@pytest.mark.parametrize(("says", "answer"), [(0, 0), (1500, 1500), (-1, -1), (-99, -1)])
def test_what_on_idle_says_is_told(manager: FakeManager, says: int, answer: int) -> None:
    one, ability = started(manager)
    ability.idle = says
    assert one.idle(WHY) == answer
    assert one.state is (HostedState.IDLE if answer >= 0 else HostedState.ACTIVE)
    assert one.active(WHY)
    assert one.idle(WHY) == answer
    assert [event[0] for event in ability.events[1:]] == ["idle", *(["active"] if answer >= 0 else []), "idle"]


@pytest.mark.parametrize("says", [None, "0", True, 1.5, 2**31, ValueError("broken")])
def test_an_on_idle_that_makes_no_sense_keeps_it(
    manager: FakeManager, caplog: pytest.LogCaptureFixture, says: object
) -> None:
    one, ability = started(manager)
    ability.idle = says
    assert one.idle(WHY) == -1 and one.state is HostedState.ACTIVE
    assert "on_idle of system ability 7 failed, so it stays" in caplog.text


def test_an_on_idle_that_takes_too_long_keeps_it(
    manager: FakeManager, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "IDLE_LIMIT", 0.05)
    one, ability = started(manager)
    monkeypatch.setattr(ability, "on_add_system_ability", lambda *_: abilities.gate.wait(20))
    one.heard(8, "", there=True)
    assert one.idle(WHY) == -1
    assert "did not answer on_idle within 0.05 s" in caplog.text
    abilities.gate.set()
    one.stop(WHY).result(WAIT)
    assert ("idle", "why") not in ability.events  # the question was withdrawn


def test_nothing_can_be_asked_of_one_that_does_not_run(manager: FakeManager) -> None:
    one = hosted(manager, "Recorded", extensions=("backup",))
    assert one.idle(WHY) == -1 and not one.active(WHY)
    with pytest.raises(ServiceError, match="system ability 7 does not run; load it first") as caught:
        one.extension("backup", b"")
    assert caught.value.code == 1008


def test_extensions_are_those_of_the_profile(manager: FakeManager) -> None:
    one, _ = started(manager, extensions=("backup", "odd"))
    assert one.extension("backup", b"abc") == b"cba"
    with pytest.raises(ServiceError, match="has no extension 'restore'; its profile names: backup, odd"):
        one.extension("restore", b"")
    with pytest.raises(ServiceError, match="returned int; bytes were expected"):
        one.extension("odd", b"")


# --- the end --------------------------------------------------------------------------------------------------


def test_an_on_stop_that_fails_takes_it_out_all_the_same(
    manager: FakeManager, caplog: pytest.LogCaptureFixture
) -> None:
    one, _ = started(manager, "StopsBadly")
    one.stop(WHY).result(WAIT)
    assert not manager.there and one.state is HostedState.NOT_LOADED and "disk full" in caplog.text


def test_a_stop_while_samgr_is_away_is_a_stop(manager: FakeManager) -> None:
    one, ability = started(manager)
    ability.add_system_ability_listener(8)
    manager.refuses.update(remove=bk.DeadObjectError("gone"), unsubscribe=bk.DeadObjectError("gone"))
    one.stop(WHY).result(WAIT)
    assert one.state is HostedState.NOT_LOADED


def test_an_ability_that_does_not_run_can_do_nothing(manager: FakeManager) -> None:
    one, ability = started(manager)
    one.stop(WHY).result(WAIT)
    for call in (ability.cancel_idle, ability.stop_ability, lambda: ability.publish(abilities.Thing())):
        with pytest.raises(ServiceError, match="while the ability does not run; call it between on_start"):
            call()
