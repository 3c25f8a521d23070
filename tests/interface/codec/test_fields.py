"""Fields and type variables of classes."""

from __future__ import annotations

from dataclasses import InitVar, dataclass, field
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, TypeVar

import msgspec
import pytest

from binderkit.interface.codec import Int8, Int32, codec_for
from binderkit.interface.codec.fields import described, is_struct
from tests.interface.codec.wire import refused, returned

T = TypeVar("T")
U = TypeVar("U")


@dataclass
class Box(Generic[T]):
    value: T
    more: list[T] = field(default_factory=list)


@dataclass
class IntBox(Box[int]):
    label: str = ""


@dataclass
class Both(Box[str], Generic[T]):
    """T is str in the base and something else here."""

    other: T | None = None


@dataclass
class Two(Generic[T, U]):
    first: T
    second: dict[str, U]
    same: Two[T, U] | None = None


class Named(NamedTuple, Generic[T]):
    item: T
    rest: tuple[T, ...] = ()


class Slot(msgspec.Struct, Generic[T]):
    item: T


@dataclass
class Odd:
    constant: ClassVar[int] = 3
    number: Annotated[int, "a remark"] = 0
    computed: int = field(init=False, default=5)
    small: Int8 = field(default=1, kw_only=True)


@dataclass
class Lost:
    value: Missing  # type: ignore[name-defined]  # noqa: F821


@dataclass
class Seeded:
    value: int
    seed: InitVar[int] = 0


def _types(cls: Any, *arguments: Any) -> dict[str, Any]:
    return {name: hint for name, hint, _, _ in described(cls, arguments)}


def test_arguments_are_put_in_place() -> None:
    assert _types(Box, int) == {"value": int, "more": list[int]}
    assert _types(IntBox) == {"value": int, "more": list[int], "label": str}
    assert _types(Both, bool) == {"value": str, "more": list[str], "other": bool | None}
    assert _types(Two, int, str)["same"] == Two[int, str] | None
    assert _types(Named, str) == {"item": str, "rest": tuple[str, ...]}
    assert _types(Slot, int) == {"item": int}
    assert _types(Box, Int32)["value"] == Int32


@pytest.mark.parametrize(
    "hint, value, wrong",
    [
        (Box[int], Box(1, [2]), Box("1")),
        (Box[str], Box("1", ["2"]), Box(1)),
        (IntBox, IntBox(1, [2], "x"), IntBox("1")),  # type: ignore[arg-type]
        (Both[bool], Both("a", [], True), Both(1)),  # type: ignore[arg-type]
        (Two[int, str], Two(1, {"a": "b"}, Two(2, {})), Two(1, {"a": 2})),
        (Box[Box[int]], Box(Box(1)), Box(Box("x"))),
        (Named[str], Named("a", ("b",)), Named(1)),
        (Slot[int], Slot(1), Slot("x")),
        (Odd, Odd(5, small=7), Odd(5, small=300)),
    ],
)
def test_generic_structs_travel(hint: Any, value: Any, wrong: Any) -> None:
    assert returned(hint, value) == value
    refused(hint, wrong)


def test_names() -> None:
    assert codec_for(Box[int]).name() == "Box[int64]"
    types: dict[str, Any] = {}
    codec_for(Two[int, str]).describe(types)
    codec_for(Two[int, bool]).describe(types)
    assert sorted(types) == ["Two[int64, bool]", "Two[int64, str]"]


def test_what_is_a_field() -> None:
    assert [(name, optional, keyword) for name, _, optional, keyword in described(Odd, ())] == [
        ("number", True, False),
        ("small", True, True),
    ]


def test_what_is_no_struct() -> None:
    assert not is_struct(int)
    assert not is_struct(tuple)
    with pytest.raises(TypeError, match=r"Missing.*define it in the module"):
        codec_for(Lost)
    with pytest.raises(TypeError, match="seed: an InitVar is not kept"):
        codec_for(Seeded)
    with pytest.raises(TypeError, match=r"Box\.value: ~T stands for no type here"):
        codec_for(Box)


def test_a_local_class_may_name_itself() -> None:
    @dataclass
    class Node:
        number: int
        next: Node | None = None

    assert returned(Node, Node(1, Node(2))) == Node(1, Node(2))
