"""Dataclasses, NamedTuples, msgspec.Structs: bytes, evolution, recursion, hostile bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from struct import pack
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import ParcelReadError
from binderkit.interface.codec import Fd, Int8, Int32, MismatchType, codec_for, packed
from binderkit.parcel import MessageSequence
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


@dataclass
class Size:
    width: int
    height: int = 0


@dataclass(frozen=True, slots=True)
class Photo:
    title: str
    size: Size
    tags: list[str] = field(default_factory=list)
    rating: Int8 | None = None
    _secret: bool = False


class Point(NamedTuple):
    x: float
    y: float = 0.0
    name: str = ""


class Record(msgspec.Struct):
    id: int
    text: str = ""
    parts: list[Record] = msgspec.field(default_factory=list)


@packed
@dataclass
class Pair:
    first: Int32
    second: str


@dataclass
class Tree:
    value: int
    left: Tree | None = None
    right: Tree | None = None
    more: dict[str, Tree] = field(default_factory=dict)


@packed
@dataclass
class Leaf:
    number: Int32
    leaves: list[Leaf]


@dataclass(kw_only=True)
class Options:
    name: str
    depth: int = 3


@dataclass
class Checked:
    low: int
    high: int
    width: int = field(init=False)

    def __post_init__(self) -> None:
        if self.low > self.high:
            raise ValueError(f"{self.low} is above {self.high}")
        self.width = self.high - self.low


@dataclass
class Failure(Exception):
    number: int
    reason: str = ""


@dataclass
class Nothing:
    pass


ints = st.integers(-(2**63), 2**63 - 1)
sizes = st.builds(Size, ints, ints)
trees = st.recursive(
    st.builds(Tree, ints),
    lambda inner: st.builds(
        Tree, ints, inner, st.none() | inner, st.dictionaries(st.text(max_size=3), inner, max_size=2)
    ),
    max_leaves=6,
)
TRIPS: list[tuple[Any, st.SearchStrategy[Any]]] = [
    (Size, sizes),
    (Photo, st.builds(Photo, st.text(), sizes, st.lists(st.text()), st.none() | st.integers(-128, 127), st.booleans())),
    (Point, st.builds(Point, st.floats(allow_nan=False), st.floats(allow_nan=False), st.text())),
    (Record, st.builds(Record, ints, st.text(), st.lists(st.builds(Record, ints), max_size=3))),
    (Pair, st.builds(Pair, st.integers(-(2**31), 2**31 - 1), st.text())),
    (Tree, trees),
    (list[Tree], st.lists(trees, max_size=2)),
    (Leaf, st.builds(Leaf, st.integers(0, 9), st.lists(st.builds(Leaf, st.integers(0, 9), st.just([]))))),
    (Options, st.builds(Options, name=st.text(), depth=ints)),
    (Checked, st.tuples(ints, ints).map(sorted).map(lambda pair: Checked(*pair))),
    (Nothing, st.builds(Nothing)),
    (Size | Point | Pair, sizes | st.builds(Pair, st.integers(0, 9), st.text())),
]
IDS = [getattr(hint, "__name__", str(hint)) for hint, _ in TRIPS]


@pytest.mark.parametrize("hint, values", TRIPS, ids=IDS)
@examples
@given(data=st.data())
def test_trips(hint: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    value = data.draw(values)
    again = returned(hint, value)
    assert again == value
    assert type(again) is type(value)


@pytest.mark.parametrize("hint, values", TRIPS, ids=IDS)
@examples
@given(data=st.data())
def test_hostile_bytes(hint: Any, values: st.SearchStrategy[Any], data: st.DataObject) -> None:
    survives(hint, data.draw(hostile | values.flatmap(lambda value: mutated(sent(hint, value)))))


@pytest.mark.parametrize(
    "hint, value, data",
    [
        (Size, Size(3, 4), int32(1, 16) + int64(3, 4)),
        (
            Photo,
            Photo("a", Size(1, 2), ["b"], -3, True),
            int32(1, 56) + string16("a") + int32(1, 16) + int64(1, 2) + int32(1) + string16("b") + int32(1, -3, 1),
        ),
        (Point, Point(0.5), int32(1, 24) + pack("<dd", 0.5, 0) + string16("")),
        (Record, Record(7), int32(1, 20) + int64(7) + string16("") + int32(0)),
        (Pair, Pair(5, "x"), int32(5) + string16("x")),
        (Leaf, Leaf(1, [Leaf(2, [])]), int32(1, 1, 2, 0)),
        (Checked, Checked(1, 3), int32(1, 16) + int64(1, 3)),
        (Nothing, Nothing(), int32(1, 0)),
        (list[Pair], [Pair(1, ""), Pair(2, "")], int32(2, 1) + string16("") + int32(2) + string16("")),
    ],
)
def test_the_bytes(hint: Any, value: Any, data: bytes) -> None:
    assert sent(hint, value) == data
    assert read_from(hint, data) == value


def test_an_exception_with_fields() -> None:
    again = returned(Failure, Failure(5, "why"))
    assert isinstance(again, Failure)
    assert (again.number, again.reason) == (5, "why")


# --- evolution ------------------------------------------------------------------------------------------------


@dataclass
class New:
    width: int
    height: int
    name: str = "none"
    marks: list[int] = field(default_factory=lambda: [7])


@dataclass
class Longer:
    name: str
    number: int = 5


@dataclass
class Shorter:
    name: str


def test_a_newer_receiver_uses_its_defaults() -> None:
    assert read_from(New, sent(Size, Size(3, 4))) == New(3, 4, "none", [7])
    assert read_from(Longer, sent(Shorter, Shorter("a long text that takes many bytes"))).number == 5


def test_an_older_receiver_skips_what_it_does_not_know() -> None:
    assert read_from(Size, sent(New, New(3, 4, "x", [1, 2]))) == Size(3, 4)
    both = sent(list[New], [New(1, 2), New(3, 4, "y")])
    assert read_from(list[Size], both) == [Size(1, 2), Size(3, 4)]


def test_a_missing_field_without_default_is_malformed() -> None:
    assert "end before the field 'height'" in malformed(New, int32(1, 8) + int64(1))
    assert "end before the field 'width'" in malformed(Size, int32(1, 0))


def test_keyword_fields_may_be_missing_too() -> None:
    assert read_from(Options, int32(1, 8) + string16("")) == Options(name="", depth=3)
    assert read_from(Record, int32(1, 8) + int64(5)) == Record(5)
    assert read_from(Point, int32(1, 8) + pack("<d", 1.5)) == Point(1.5)


def test_fields_stay_within_their_struct() -> None:
    assert "8 bytes after" in malformed(Longer, int32(1, 4) + string16("abc"))
    assert "size 17" in malformed(Size, int32(1, 17) + int64(1, 2))
    assert "size -1" in malformed(Size, int32(1, -1) + int64(1, 2))
    assert "marker 0" in malformed(Size, int32(0, 16) + int64(1, 2))
    assert "marker 2" in malformed(Size, int32(2, 16) + int64(1, 2))
    malformed(Size, int32(1))
    assert malformed(Size, int32(1, 12) + int64(1, 2)).startswith("cannot read Size")


def test_a_packed_struct_has_all_its_fields() -> None:
    malformed(Pair, int32(5))
    malformed(list[Pair], int32(1, 5))
    assert codec_for(Pair).minimum == 12
    assert codec_for(Size).minimum == 8


def test_only_the_class_itself_is_packed() -> None:
    @dataclass
    class More(Pair):
        third: bool = False

    assert sent(More, More(1, "", True)) == int32(1, 16, 1) + string16("") + int32(1)


# --- what does not fit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, path, expected",
    [
        (Size(1), [], "Photo"),
        ({"title": "a"}, [], "Photo"),
        (Photo(5, Size(1)), [".title"], "str"),  # type: ignore[arg-type]
        (Photo("", Size("1")), [".size", ".width"], "int64"),  # type: ignore[arg-type]
        (Photo("", Size(1, True)), [".size", ".height"], "int64"),
        (Photo("", None), [".size"], "Size"),  # type: ignore[arg-type]
        (Photo("", Size(1), ["a", 5]), [".tags", "[1]"], "str"),  # type: ignore[list-item]
        (Photo("", Size(1), [], 200), [".rating"], "int8, -128 … 127"),
        (Photo("", Size(1), [], 1, 1), ["._secret"], "bool"),  # type: ignore[arg-type]
    ],
)
def test_the_wrong_field_is_named(value: Any, path: list[str], expected: str) -> None:
    error = refused(Photo, value)
    assert (error.path, error.expected) == (path, expected)


def test_a_struct_that_lost_a_field() -> None:
    value = Size(1)
    del value.width
    error = refused(Size, value)
    assert isinstance(error, MismatchType)
    assert "incomplete" in error.given


def test_a_subclass_travels_as_its_base() -> None:
    @dataclass
    class Box(Size):
        depth: int = 9

    assert sent(Size, Box(1, 2)) == sent(Size, Size(1, 2))


def test_what_the_constructor_refuses_is_malformed() -> None:
    assert "5 is above 1" in malformed(Checked, int32(1, 16) + int64(5, 1))


def test_the_class_is_never_taken_from_the_wire() -> None:
    """The same bytes are another class if the hint says so."""
    data = sent(Size, Size(1, 2))
    assert type(read_from(Size, data)) is Size
    assert type(read_from(New, data)) is New


# --- descriptions ----------------------------------------------------------------------------------------------


def test_a_definition_is_put_in_once() -> None:
    types: dict[str, Any] = {}
    assert codec_for(list[Photo]).describe(types) == {"list": {"struct": "Photo"}}
    assert codec_for(Tree).describe(types) == {"struct": "Tree"}
    assert sorted(types) == ["Photo", "Size", "Tree"]
    assert types["Size"] == {
        "packed": False,
        "fields": [
            {"name": "width", "type": "int64", "optional": False},
            {"name": "height", "type": "int64", "optional": True},
        ],
    }
    assert types["Tree"]["fields"][3]["type"] == {"map": ["str", {"struct": "Tree"}]}


def test_two_classes_of_one_name_are_told_apart() -> None:
    def another() -> type:
        @dataclass
        class Size:
            volume: float

        return Size

    types: dict[str, Any] = {}
    assert codec_for(Size).describe(types) == {"struct": "Size"}
    other: Callable[[float], Any] = another()
    assert codec_for(other).describe(types) == {"struct": "Size#2"}
    assert codec_for(Size).describe(types) == {"struct": "Size"}
    assert types["Size#2"]["fields"][0]["name"] == "volume"


def test_a_struct_may_hold_descriptors() -> None:
    @dataclass
    class Open:
        number: int
        fd: Fd

    with (
        MessageSequence._received(int32(1, 32) + int64(5) + bytes(24), None) as sequence,
        pytest.raises(ParcelReadError),
    ):
        codec_for(Open).read(sequence)
