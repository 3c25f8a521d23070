"""samgr/ability.py: ids, names and records."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit import MessageSequence
from binderkit.errors import ParamTypeError, ParamValueError, ParcelReadError
from binderkit.samgr import codes
from binderkit.samgr.ability import (
    AbilityInfo,
    checked_dump_flags,
    checked_key,
    checked_text,
    read_key,
    write_key,
)

NAMES = st.from_regex(r"\A[A-Za-z_][A-Za-z0-9_.:/-]{0,127}\Z")
IDS = st.integers(1, 0xFFFFFF)
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=128)


@given(IDS | NAMES)
def test_a_key_is_read_as_it_was_written(key: int | str) -> None:
    sequence = MessageSequence()
    write_key(sequence, key)
    assert read_key(sequence) == key
    assert sequence.get_readable_bytes() == 0


@pytest.mark.parametrize("key", [0, -1, 0x1000000])
def test_an_id_out_of_range_is_refused_with_code_1000(key: int) -> None:
    with pytest.raises(ParamValueError) as caught:
        checked_key(key)
    assert caught.value.code == codes.INVALID_ABILITY_ID


@pytest.mark.parametrize("name", ["", "4700", "0x10", "-c", "a b", "a" * 129, "naïve", "a\n", "a\0"])
def test_what_is_no_name_is_refused_with_code_1001(name: str) -> None:
    with pytest.raises(ParamValueError) as caught:
        checked_key(name)
    assert caught.value.code == codes.INVALID_INPUT


@pytest.mark.parametrize("key", [None, 1.5, True, b"name"])
def test_a_key_is_an_int_or_a_string(key: object) -> None:
    with pytest.raises(ParamTypeError):
        checked_key(key)


@given(
    st.builds(
        AbilityInfo,
        id=IDS,
        name=st.just("") | NAMES,
        pid=st.integers(1, 2**22),
        uid=st.integers(0, 2**32 - 1),
        distributed=st.booleans(),
        dump_flags=st.integers(1, 15),
        capability=TEXTS,
        permission=TEXTS,
    )
)
def test_a_record_is_read_as_it_was_written(info: AbilityInfo) -> None:
    sequence = MessageSequence()
    info.write(sequence)
    assert AbilityInfo.read(sequence) == info


@given(st.binary(max_size=80))
def test_reading_a_record_or_key_from_any_bytes_gives_one_or_our_error(data: bytes) -> None:
    for read in (AbilityInfo.read, read_key):
        try:
            read(MessageSequence.from_bytes(data))
        except (ParcelReadError, ParamValueError):
            continue


def test_keys_are_id_and_name() -> None:
    assert AbilityInfo(5, "five", 1, 0).keys == (5, "five")
    assert AbilityInfo(5, "", 1, 0).keys == (5,)


def test_texts_and_dump_flags_have_limits() -> None:
    assert checked_text("x", "a" * 128) == "a" * 128
    with pytest.raises(ParamValueError, match="129 characters"):
        checked_text("the capability", "a" * 129)
    for flags in (0, 16, -1):
        with pytest.raises(ParamValueError, match="dump flags"):
            checked_dump_flags(flags)
