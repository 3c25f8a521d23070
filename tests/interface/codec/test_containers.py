"""Lists, sets, maps, tuples, Optional, unions, Literal."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import timedelta
from struct import pack
from typing import Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.interface.codec import Float32, Int8, Int32, MismatchType, MismatchValue, UInt32, UInt64, codec_for
from binderkit.interface.codec.containers import _holds_bool
from binderkit.limits import MAX_ELEMENTS
from tests.interface.codec.wire import (
    examples,
    hostile,
    int32,
    int64,
    malformed,
    mutated,
    read_from,
    refused,
    returned,
    sent,
    string16,
    survives,
)

int64s = st.integers(-(2**63), 2**63 - 1)

TRIPS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (list[int], st.lists(int64s)),
    (list[bool], st.lists(st.booleans())),
    (list[Int8], st.lists(st.integers(-128, 127))),
    (list[UInt64], st.lists(st.integers(0, 2**64 - 1))),
    (list[float], st.lists(st.floats(allow_nan=False))),
    (list[Float32], st.lists(st.floats(width=32, allow_nan=False))),
    (list[str], st.lists(st.text())),
    (list[list[bytes]], st.lists(st.lists(st.binary()))),
    (tuple[int, ...], st.lists(int64s).map(tuple)),
    (tuple[str, ...], st.lists(st.text()).map(tuple)),
    (set[int], st.sets(int64s)),
    (frozenset[str], st.frozensets(st.text())),
    (dict[str, int], st.dictionaries(st.text(), int64s)),
    (dict[int, list[str]], st.dictionaries(int64s, st.lists(st.text()))),
    (tuple[int, str, bool], st.tuples(int64s, st.text(), st.booleans())),
    (tuple[()], st.just(())),
    (int | None, st.none() | int64s),
    (list[str | None], st.lists(st.none() | st.text())),
    (int | str, int64s | st.text()),
    (int | str | None, st.none() | int64s | st.text()),
    (list[int] | list[str] | dict[str, int], st.lists(int64s, min_size=1) | st.lists(st.text(), min_size=1)),
    (Literal["a", "b", 1, True, None], st.sampled_from(["a", "b", 1, True, None])),
]


@pytest.mark.parametrize("hint, values", TRIPS, ids=[str(hint) for hint, _ in TRIPS])
@examples
@given(data=st.data())
def test_trips(hint: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    value = data.draw(values)
    again = returned(hint, value)
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("hint, values", TRIPS, ids=[str(hint) for hint, _ in TRIPS])
@examples
@given(data=st.data())
def test_hostile_bytes(hint: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    survives(hint, data.draw(hostile | values.flatmap(lambda value: mutated(sent(hint, value)))))


@pytest.mark.parametrize(
    "hint, value, data",
    [
        (list[int], [1, -2], int32(2) + int64(1, -2)),
        (list[Int32], [1, -2], int32(2, 1, -2)),
        (list[bool], [True, False], int32(2, 1, 0)),
        (list[float], [0.5], int32(1) + pack("<d", 0.5)),
        (list[str], ["a", "bc"], int32(2) + string16("a") + string16("bc")),
        (tuple[int, ...], (7,), int32(1) + int64(7)),
        (set[str], {"a"}, int32(1) + string16("a")),
        (dict[Int32, bool], {1: True, 2: False}, int32(2, 1, 1, 2, 0)),
        (tuple[Int32, str], (1, "x"), int32(1) + string16("x")),
        (Int32 | None, None, int32(0)),
        (Int32 | None, 5, int32(1, 5)),
        (Int32 | str, 5, int32(0, 5)),
        (Int32 | str, "x", int32(1) + string16("x")),
        (Int32 | str | None, "x", int32(1, 1) + string16("x")),
        (Literal["a", "b"], "b", int32(1)),
        (list[timedelta], [timedelta(seconds=1)], int32(1) + int64(1_000_000)),
    ],
)
def test_the_bytes(hint: Any, value: Any, data: bytes) -> None:
    assert sent(hint, value) == data
    assert read_from(hint, data) == value


# --- counts -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hint", [list[int], list[str], set[int], dict[str, int], tuple[int, ...]])
def test_counts_are_checked_before_anything_is_made(hint: Any) -> None:
    assert "outside 0 … 102400" in malformed(hint, int32(-1))
    assert "outside 0 … 102400" in malformed(hint, int32(MAX_ELEMENTS + 1) + bytes(200))
    assert "102400 elements" in malformed(hint, int32(MAX_ELEMENTS) + bytes(200))


@pytest.mark.parametrize(
    "hint, value",
    [
        (list[int], [0] * (MAX_ELEMENTS + 1)),
        (list[str], [""] * (MAX_ELEMENTS + 1)),
        (set[int], set(range(MAX_ELEMENTS + 1))),
        (dict[int, int], dict.fromkeys(range(MAX_ELEMENTS + 1), 0)),
    ],
)
def test_more_elements_than_allowed_are_refused(hint: Any, value: Any) -> None:
    error = refused(hint, value)
    assert isinstance(error, MismatchValue)
    assert "102401 elements" in str(error)


@pytest.mark.parametrize("hint", [list[None], set[tuple[()]], dict[None, int], tuple[None, ...]])
def test_elements_without_bytes_are_no_type(hint: Any) -> None:
    with pytest.raises(TypeError, match="no bytes"):
        codec_for(hint)


def test_elements_and_keys_are_there_once() -> None:
    assert "twice" in malformed(set[Int32], int32(2, 5, 5))
    assert "twice" in malformed(frozenset[Int32], int32(2, 5, 5))
    assert "twice" in malformed(dict[Int32, bool], int32(2, 5, 1, 5, 0))


def test_what_has_no_hash_is_malformed() -> None:
    assert "unhashable" in malformed(set[list[Int32]], int32(1, 1, 5))
    assert "unhashable" in malformed(dict[list[Int32], Int32], int32(1, 1, 5, 0))


# --- what does not fit --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "hint, value, path, expected",
    [
        (list[int], (1,), [], "list[int64]"),
        (list[int], "12", [], "list[int64]"),
        (list[int], None, [], "list[int64]"),
        (list[int], [1, "2"], ["[1]"], "int64"),
        (list[int], [5, True], ["[1]"], "int64"),
        (list[bool], [True, 1], ["[1]"], "bool"),
        (list[float], [0.5, True], ["[1]"], "float"),
        (list[str], ["a", 2], ["[1]"], "str"),
        (list[Int8], [1, 200], ["[1]"], "int8, -128 … 127"),
        (list[UInt32], [1, -1], ["[1]"], "uint32, 0 … 4294967295"),
        (list[list[str]], [["a"], ["b", 2]], ["[1]", "[1]"], "str"),
        (set[int], [1], [], "set[int64]"),
        (set[str], {1}, ["{int 1}"], "str"),
        (dict[str, int], [("a", 1)], [], "dict[str, int64]"),
        (dict[str, int], {"a": "b"}, ["['a']"], "int64"),
        (dict[str, int], {1: 1}, [" key int 1"], "str"),
        (tuple[int, str], [1, "a"], [], "tuple[int64, str]"),
        (tuple[int, str], (1,), [], "tuple[int64, str]"),
        (tuple[int, str], (1, 2), ["[1]"], "str"),
        (tuple[int, ...], [1], [], "tuple[int64, ...]"),
        (int | None, "x", [], "int64"),
        (int | str, 1.5, [], "int64 | str"),
        (int | str, True, [], "int64"),
        (Literal[1, "a"], True, [], "Literal[1, 'a']"),
        (Literal["a"], ["a"], [], "Literal['a']"),
    ],
)
def test_what_does_not_fit_is_named(hint: Any, value: Any, path: list[str], expected: str) -> None:
    error = refused(hint, value)
    assert (error.path, error.expected) == (path, expected)


def test_an_int_among_floats_is_a_float() -> None:
    again = returned(list[float], [0.5, 2])
    assert again == [0.5, 2.0]
    assert type(again[1]) is float
    assert math.isnan(returned(list[float], [math.nan])[0])


# --- bools that hide among numbers ------------------------------------------------------------------------


@given(
    st.lists(st.sampled_from([0, 1, 2, 256, 65536, 2**24, 2**32, 2**48, 2**56, -1, -256, 2**62 + 1]), max_size=60),
    st.integers(0, 60),
    st.booleans(),
)
def test_a_bool_among_ints_is_found(values: list[int], at: int, flag: bool) -> None:
    assert not _holds_bool(pack(f"<i{len(values)}q", 0, *values), "q", values)
    assert returned(list[int], values) == values
    mixed = [*values[:at], flag, *values[at:]]
    assert refused(list[int], mixed).path == [f"[{min(at, len(values))}]"]


@given(
    st.lists(st.floats(allow_nan=False) | st.sampled_from([0.0, 1.0, 5e-324, 2.0, 256.0]), max_size=60),
    st.integers(0, 60),
    st.booleans(),
)
def test_a_bool_among_floats_is_found(values: list[float], at: int, flag: bool) -> None:
    assert returned(list[float], values) == values
    assert refused(list[float], [*values[:at], flag, *values[at:]]).path == [f"[{min(at, len(values))}]"]


@given(st.lists(st.integers(-(2**31), 2**31 - 1) | st.integers(-2, 2), max_size=60), st.integers(0, 60), st.booleans())
def test_a_bool_among_words_is_found(values: list[int], at: int, flag: bool) -> None:
    assert returned(list[Int32], values) == values
    assert refused(list[Int32], [*values[:at], flag, *values[at:]]).path == [f"[{min(at, len(values))}]"]


@given(st.lists(st.floats(width=32, allow_nan=False), max_size=60), st.integers(0, 60), st.booleans())
def test_a_bool_among_singles_is_found(values: list[float], at: int, flag: bool) -> None:
    assert returned(list[Float32], values) == values
    assert refused(list[Float32], [*values[:at], flag, *values[at:]]).path == [f"[{min(at, len(values))}]"]


# --- abstract types, unions -------------------------------------------------------------------------------


def test_abstract_types_take_all_their_kinds() -> None:
    assert returned(Sequence[int], [1, 2]) == [1, 2]
    assert sent(Sequence[int], (1, 2)) == sent(list[int], [1, 2])
    assert sent(Mapping[str, int], OrderedDict(a=1)) == sent(dict[str, int], {"a": 1})
    assert returned(AbstractSet[int], frozenset({1})) == {1}
    assert sent(AbstractSet[int], {1}) == sent(set[int], {1})
    assert isinstance(refused(Sequence[int], "12"), MismatchType)


def test_a_union_takes_the_first_alternative_that_fits() -> None:
    assert sent(list[int] | list[str], ["a"]) == int32(1, 1) + string16("a")
    assert sent(Int8 | int, 200) == int32(1) + int64(200)
    assert sent(float | str, 3) == int32(0) + pack("<d", 3.0)
    assert refused(list[int] | list[str], [1.5]).expected == "list[int64] | list[str]"


def test_the_order_of_a_union_is_that_of_its_hint() -> None:
    assert sent(Int32 | str, 5) == int32(0, 5)
    assert sent(str | Int32, 5) == int32(1, 5)
    assert sent(list[str | Int32], [5]) == int32(1, 1, 5)
    assert sent(list[Int32 | str], [5]) == int32(1, 0, 5)


def test_tags_are_checked() -> None:
    assert "2 is outside 0 … 1" in malformed(int | str, int32(2, 0, 0))
    assert "-1 is outside 0 … 1" in malformed(int | None, int32(-1, 0, 0))
    assert "2 is outside 0 … 1" in malformed(Literal["a", "b"], int32(2))


def test_names_and_descriptions() -> None:
    hints: dict[Any, tuple[str, Any]] = {
        list[int]: ("list[int64]", {"list": "int64"}),
        tuple[int, ...]: ("tuple[int64, ...]", {"list": "int64"}),
        frozenset[str]: ("set[str]", {"set": "str"}),
        dict[str, bool]: ("dict[str, bool]", {"map": ["str", "bool"]}),
        tuple[str, bool]: ("tuple[str, bool]", {"tuple": ["str", "bool"]}),
        tuple[()]: ("tuple[()]", {"tuple": []}),
        str | None: ("str | None", {"optional": "str"}),
        str | bool: ("str | bool", {"union": ["str", "bool"]}),
        Literal["a", 1]: ("Literal['a', 1]", {"literal": ["'a'", "1"]}),
    }
    for hint, (name, description) in hints.items():
        assert codec_for(hint).name() == name
        assert codec_for(hint).describe({}) == description
