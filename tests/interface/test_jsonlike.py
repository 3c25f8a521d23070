"""Types of hostile descriptions: codecs without classes, without compiling, without expanding."""

from __future__ import annotations

import builtins
from contextlib import ExitStack
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import CommunicationError, ParamTypeError, ParcelReadError
from binderkit.interface.codec import Mismatch, build
from binderkit.interface.described import read_description
from binderkit.interface.jsonlike import Kinds
from binderkit.interface.jsonlike_leaves import Kind, Word
from binderkit.parcel import MessageSequence
from tests.interface.many_types import IMany

TYPES: dict[str, Any] = {
    "Size": {
        "packed": False,
        "fields": [
            {"name": "width", "type": "int64", "optional": False},
            {"name": "height", "type": "int64", "optional": True},
        ],
    },
    "Tree": {
        "packed": False,
        "fields": [
            {"name": "name", "type": "str", "optional": False},
            {"name": "children", "type": {"list": {"struct": "Tree"}}, "optional": False},
        ],
    },
    "Right": {"enum": "int32", "flag": True, "members": {"READ": 1, "WRITE": 2}},
}


def kind_of(told: Any, **types: Any) -> Kind:
    """Return the kind of a type as a description says it."""
    description = {
        **IMany.__contract__.describe(),
        "methods": [],
        "properties": [{"name": "p", "get": 1, "set": 0, "type": told}],
        "types": {**TYPES, **types},
    }
    read = read_description(description)
    return Kinds(read).kind(read.properties["p"].type)


def through(kind: Kind, given: Any) -> Any:
    """Return what comes back of a value that was written and read."""
    with ExitStack() as stack, MessageSequence() as sequence:
        kind.codec.write(sequence, kind.value(given, stack))
        return kind.give(kind.codec.read(sequence), stack)


trees = st.recursive(
    st.builds(lambda name: {"name": name, "children": []}, st.text(st.characters(codec="utf-8"), max_size=9)),
    lambda inner: st.builds(lambda name, rest: {"name": name, "children": rest}, st.just("n"), st.lists(inner)),
    max_leaves=8,
)


@given(trees)
def test_recursive_structs(tree: dict[str, Any]) -> None:
    assert through(kind_of({"struct": "Tree"}), tree) == tree


@given(st.dictionaries(st.integers(-(2**63), 2**63 - 1), st.lists(st.booleans())))
def test_maps_with_keys_that_are_no_strings(given_: dict[int, list[bool]]) -> None:
    kind = kind_of({"map": ["int64", {"list": "bool"}]})
    shown = {str(key): value for key, value in given_.items()}
    assert (
        through(kind, given_) == shown == through(kind, shown) == through(kind, [list(pair) for pair in given_.items()])
    )


def test_maps_with_other_keys_are_pairs() -> None:
    kind = kind_of({"map": [{"tuple": ["int64", "str"]}, "float"]})
    assert through(kind, [[[1, "a"], 0.5]]) == [[[1, "a"], 0.5]]
    with pytest.raises(Mismatch, match=r"an object, or a list of pairs"):
        through(kind, [[1]])


@pytest.mark.parametrize(
    ("told", "given_", "text"),
    [
        ({"set": {"list": "int64"}}, [[1]], "cannot be in a set"),
        ({"map": [{"list": "int64"}, "str"]}, [[[1], "x"]], "a key that cannot be in a map"),
        ({"map": ["str", "int64"]}, {"k": "x"}, r"\['k'\]: expected int64, got str"),
        ({"list": {"struct": "Size"}}, [{"width": 1}, {"width": None}], r"\[1\].width: expected int64"),
        ({"tuple": ["str", "str"]}, ["a"], r"a list of 2"),
        ({"struct": "Size"}, [1], "an object with width, height"),
        ({"enum": "Right"}, "READ|EXECUTE", "one of READ, WRITE"),
        ({"enum": "Right"}, 1, "one of READ, WRITE"),
        ({"literal": ["'a'", "1"]}, True, r"Literal\['a', 1\]"),
        ({"list": "int64"}, "1", r"list\[int64\] \(a list\)"),
    ],
)
def test_what_does_not_fit(told: Any, given_: Any, text: str) -> None:
    with pytest.raises(Mismatch, match=text):
        through(kind_of(told), given_)


def test_arguments_nested_without_end() -> None:
    tree: dict[str, Any] = {"name": "", "children": []}
    tree["children"].append(tree)
    for given_ in (tree, Word('{"name": "", "children": [' * 50_000)):
        with pytest.raises(Mismatch, match=r"nested less deeply|expected Tree, an object"):
            kind_of({"struct": "Tree"}).value(given_, ExitStack())


NONE = {"name": "a", "type": "None", "optional": False}
BOMBS: dict[str, tuple[Any, dict[str, Any], str]] = {
    "list of nothing": ({"list": "None"}, {}, "its elements take no bytes"),
    "list of empty structs": ({"list": {"struct": "E"}}, {"E": {"packed": True, "fields": []}}, "take no bytes"),
    "tuple of nothing": ({"tuple": ["None", "None"]}, {}, "takes no bytes"),
    "many nothings": ({"tuple": ["int64", *["None"] * 200]}, {}, "200 parts that take no bytes"),
    "laughs": (
        {"struct": "L0"},
        {
            **{
                f"L{n}": {
                    "packed": True,
                    "fields": [
                        {"name": f"f{m}", "type": {"struct": f"L{n + 1}"}, "optional": False} for m in range(10)
                    ],
                }
                for n in range(9)
            },
            "L9": {"packed": True, "fields": [NONE]},
        },
        "takes no bytes",
    ),
    "wide union": ({"union": ["str"] * 200}, {}, "a union of 200 types"),
    "no end": (
        {"struct": "Self"},
        {"Self": {"packed": True, "fields": [{"name": "me", "type": {"struct": "Self"}, "optional": False}]}},
        "",
    ),
}


@pytest.mark.parametrize("name", BOMBS)
def test_types_that_would_expand_are_refused(name: str) -> None:
    told, types, text = BOMBS[name]
    if text:
        with pytest.raises(CommunicationError, match=text):
            kind_of(told, **types)
        return
    kind = kind_of(told, **types)
    with pytest.raises(ParcelReadError, match="nested too deeply"), MessageSequence() as sequence:
        sequence.write_int(1)
        kind.codec.read(sequence)


@pytest.mark.parametrize("told", [{"parcelable": "P"}, {"union": ["fd", "int64"]}])
def test_what_only_a_proxy_can_do(told: Any) -> None:
    with pytest.raises(ParamTypeError, match=r"a proxy of the contract"):
        kind_of(told)


def test_nothing_received_is_compiled_or_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("something was compiled")

    through(kind_of({"struct": "Tree"}), {"name": "", "children": []})  # everything is imported now
    kept = len(build._known)
    for name in ("exec", "eval", "compile", "__import__"):
        monkeypatch.setattr(builtins, name, never)
    made = [kind_of({"list": {"struct": "Tree"}}), kind_of({"tuple": [{"enum": "Right"}, {"map": ["str", "int64"]}]})]
    size = through(kind_of({"struct": "Size"}), {"width": 1})
    monkeypatch.undo()
    assert len(made) == 2 and size == {"width": 1} and len(build._known) == kept


@given(st.binary(max_size=200))
def test_any_bytes_are_a_value_or_an_error(body: bytes) -> None:
    kind = kind_of(
        {"union": [{"struct": "Tree"}, {"optional": {"enum": "Right"}}, {"map": ["str", {"struct": "Size"}]}]}
    )
    with MessageSequence() as sequence, ExitStack() as stack:
        sequence._out += body
        try:
            value = kind.codec.read(sequence)
        except ParcelReadError:
            return
        kind.give(value, stack)
