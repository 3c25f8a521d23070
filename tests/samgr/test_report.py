"""samgr/report.py: SAMgr's dump."""

from __future__ import annotations

import pytest

from binderkit.errors import ParamValueError
from binderkit.samgr.ability import AbilityInfo
from binderkit.samgr.processes import AbilityStatus, ProcessInfo
from binderkit.samgr.reason import ReasonId
from binderkit.samgr.report import HELP, View, describe, key_of
from binderkit.samgr.states import AbilityState, ProcessState

VIEW = View(
    registered=[AbilityInfo(5, "five", 100, 0, capability="cap"), AbilityInfo(6, "", 101, 0)],
    statuses=[
        AbilityStatus(5, "five", "alpha", 100, on_demand=True, reason=ReasonId.PARAM),
        AbilityStatus(6, "", "", 101),
        AbilityStatus(7, "lazy", "beta", 0, AbilityState.NOT_LOADED, True),
    ],
    processes=[ProcessInfo("alpha", 100, 0, ProcessState.STARTED, True, (5,)), ProcessInfo("beta", abilities=(7,))],
    subscriptions=[(5, 77), ("six", 78), ("", 79)],
    waiting={"seven": 2},
)


def dump(*arguments: str) -> str:
    return describe(arguments, VIEW)


def test_everything_by_default() -> None:
    text = dump()
    parts = ("system abilities: 3", "five", "processes: 2", "alpha", "subscriptions: 3", "5 of pid 77")
    for part in (*parts, "processes of pid 79", "waiting calls: 2", "2 for 'seven'"):
        assert part in text


def test_parts_of_it() -> None:
    assert "subscriptions" not in dump("-l")
    assert "five" not in dump("--listener")
    assert "five" in dump("-p", "100") and "five" not in dump("-p", "101")
    assert dump("-h") == HELP
    assert dump("--listener") == dump("--listener", "-l")
    assert "beta" in dump("--processes") and "five" not in dump("--processes")
    assert "lazy" in dump("-p", "beta") and "five" not in dump("-p", "beta")
    assert "STARTED" in dump("-p", "alpha")
    assert "lazy" in dump("-sm", "NOT_LOADED") and "five" not in dump("-sm", "NOT_LOADED")
    assert "five" in dump("-sm", "LOADED")
    assert "77" in dump("--listener", "-sa", "five") and "78" not in dump("--listener", "-sa", "five")
    assert "78" in dump("--listener", "-p", "78") and "77" not in dump("--listener", "-p", "78")
    assert "is no name" in dump("--listener", "-sa", "4 7")


def test_one_that_does_not_run_is_shown_with_its_state() -> None:
    text = dump("-sa", "lazy")
    assert "NOT_LOADED" in text and "beta" in text and "uid" not in text
    assert "PARAM" in dump("-sa", "5")


@pytest.mark.parametrize("word", ["5", "0x5", "five"])
def test_one_ability_by_id_or_name(word: str) -> None:
    text = dump("-sa", word)
    assert "5 (0x5)" in text and "cap" in text


def test_what_makes_no_sense_is_answered_with_words() -> None:
    assert "unknown arguments: -x" in dump("-x") and HELP in dump("-x")
    assert "unknown arguments: -sm WRONG" in dump("-sm", "WRONG")
    assert "no system ability 9 is registered" in dump("-sa", "9")
    assert "outside 1" in dump("-sa", "-9")
    assert "is no name" in dump("-sa", "4 7")


def test_a_word_is_an_id_or_a_name() -> None:
    assert key_of("10") == 10 and key_of("0x10") == 16 and key_of("com.example.a") == "com.example.a"
    for bad in ("0", "0x1000000", "a b", ""):
        with pytest.raises(ParamValueError):
            key_of(bad)
