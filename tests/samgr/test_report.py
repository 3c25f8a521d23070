"""samgr/report.py: SAMgr's dump."""

from __future__ import annotations

import pytest

from binderkit.errors import ParamValueError
from binderkit.samgr.ability import AbilityInfo
from binderkit.samgr.report import HELP, describe, key_of

ABILITIES = [AbilityInfo(5, "five", 100, 0, capability="cap"), AbilityInfo(6, "", 101, 0)]


def dump(*arguments: str) -> str:
    return describe(arguments, ABILITIES, [(5, 77), ("six", 78)], {"seven": 2})


def test_everything_by_default() -> None:
    text = dump()
    for part in ("system abilities: 2", "five", "subscriptions: 2", "5 of pid 77", "waiting calls: 2", "2 for 'seven'"):
        assert part in text


def test_parts_of_it() -> None:
    assert "subscriptions" not in dump("-l")
    assert "five" not in dump("--listener")
    assert "five" in dump("-p", "100") and "five" not in dump("-p", "101")
    assert dump("-h") == HELP


@pytest.mark.parametrize("word", ["5", "0x5", "five"])
def test_one_ability_by_id_or_name(word: str) -> None:
    text = dump("-sa", word)
    assert "5 (0x5)" in text and "cap" in text


def test_what_makes_no_sense_is_answered_with_words() -> None:
    assert "unknown arguments: -x" in dump("-x") and HELP in dump("-x")
    assert "no system ability 9 is registered" in dump("-sa", "9")
    assert "outside 1" in dump("-sa", "-9")
    assert "is no name" in dump("-sa", "4 7")


def test_a_word_is_an_id_or_a_name() -> None:
    assert key_of("10") == 10 and key_of("0x10") == 16 and key_of("com.example.a") == "com.example.a"
    for bad in ("0", "0x1000000", "a b", ""):
        with pytest.raises(ParamValueError):
            key_of(bad)
