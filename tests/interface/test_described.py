"""Descriptions other processes sent: whatever they say, an error of ours or something that can be relied on."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import CommunicationError
from binderkit.interface.contract import description_hash
from binderkit.interface.described import (
    Description,
    TypeRef,
    printable,
    read_description,
)
from binderkit.limits import MAX_DESCRIBED_MEMBERS, MAX_DESCRIBED_METHODS
from tests.interface.many_types import IMany
from tests.interface.service import Echo

TOLD: dict[str, Any] = json.loads(json.dumps(IMany.__contract__.describe()))


def test_every_contract_can_be_read() -> None:
    for contract in (IMany.__contract__, *Echo.__contracts__):
        told = json.loads(json.dumps(contract.describe()))
        made = read_description(told)
        assert (made.descriptor, made.version) == (contract.descriptor, contract.version)
        assert list(made.methods) == list(contract.methods) and list(made.properties) == list(contract.properties)
        assert description_hash(told) == contract.hash


def test_what_was_read() -> None:
    made = read_description(TOLD)
    assert made.methods["defaults"].idempotent and made.methods["items"].stream and made.methods["hint"].oneway
    assert str(made.methods["either"].parameters[0].type) == "int64 | float | str | Size | Point | list[int64] | date"
    assert str(made.methods["other"].parameters[1].type) == "test.IMany | None"
    assert str(made.methods["array"].parameters[0].type) == "ndarray[float32]"
    assert made.structs["Point"].packed and made.enums["Right"].flag
    assert str(TypeRef("map", (TypeRef("str"), TypeRef("tuple")))) == "dict[str, tuple[]]"


def first(name: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    return lambda told: told[name][0]


def first_with_defaults(told: dict[str, Any]) -> dict[str, Any]:
    return next(one for one in told["methods"] if one["name"] == "defaults")


def nested(levels: int) -> Any:
    kind: Any = "str"
    for _ in range(levels):
        kind = {"list": kind}
    return kind


EDITS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no methods": (lambda told: told.pop("methods"), "'methods' is missing"),
    "methods no list": (lambda told: told.update(methods={}), "expected list, got dict"),
    "too many": (lambda told: told.update(methods=[{}] * (MAX_DESCRIBED_METHODS + 1)), "at most"),
    "version": (lambda told: told.update(version=0), "'version' is 0"),
    "version bool": (lambda told: told.update(version=True), "expected int, got bool"),
    "name": (lambda told: told.update(name="I;import os"), "is no name"),
    "keyword": (lambda told: first("methods")(told).update(name="class"), "'class' is no name"),
    "dunder": (lambda told: first("methods")(told).update(name="__class__"), "is no name"),
    "look-alike": (lambda told: first("methods")(told).update(name="ﬁle"), "is no name"),
    "terminal": (lambda told: first("methods")(told).update(name="\x1b[2J"), r"'\\x1b\[2J' is no name"),
    "code": (lambda told: first("methods")(told).update(code=0xFFFFFE), "'code' is 16777214"),
    "code twice": (lambda told: first("methods")(told).update(code=1), "twice"),
    "name twice": (lambda told: told["methods"].append(told["methods"][0]), "twice"),
    "doc": (lambda told: told.update(doc="x" * 70_000), "'doc' has 70000 characters"),
    "type": (lambda told: first("properties")(told).update(type="os.system"), "no type this version"),
    "type form": (lambda told: first("properties")(told).update(type={"eval": "1"}), "no type this version"),
    "type of two": (lambda told: first("properties")(told).update(type={"list": "str", "set": "str"}), "not a type"),
    "dtype": (lambda told: first("properties")(told).update(type="ndarray[object_]"), "no type this version"),
    "deep": (lambda told: first("properties")(told).update(type=nested(40)), "nested more than 32"),
    "deeper": (lambda told: first("properties")(told).update(type=nested(500)), "nested more than 32"),
    "no struct": (lambda told: first("properties")(told).update(type={"struct": "X"}), "there is no struct 'X'"),
    "no enum": (lambda told: first("properties")(told).update(type={"enum": "Size"}), "there is no enum 'Size'"),
    "map of one": (lambda told: first("properties")(told).update(type={"map": ["str"]}), "a map of 1 types"),
    "no literal": (lambda told: first("properties")(told).update(type={"literal": []}), "a literal of 0 values"),
    "no union": (lambda told: first("properties")(told).update(type={"union": []}), "a union of 0 types"),
    "enum form": (lambda told: told["types"]["Color"].update(enum="code"), "its values travel as"),
    "member name": (lambda told: told["types"]["Color"]["members"].update({"_x_": "1"}), "no name of a member"),
    "member mro": (lambda told: told["types"]["Color"]["members"].update(mro="1"), "no name of a member"),
    "member value": (lambda told: told["types"]["Level"]["members"].update(TOP="9"), "the value of TOP is no int32"),
    "member size": (lambda told: told["types"]["Level"]["members"].update(TOP=2**70), "the value of TOP is no int32"),
    "no members": (lambda told: told["types"]["Level"]["members"].clear(), "0 members"),
    "members": (
        lambda told: told["types"]["Level"].update(members={f"a{n}": n for n in range(MAX_DESCRIBED_MEMBERS + 1)}),
        f"{MAX_DESCRIBED_MEMBERS + 1} members",
    ),
    "field name": (lambda told: told["types"]["Size"]["fields"][0].update(name="a.b"), "'a.b' is no name"),
    "field twice": (lambda told: told["types"]["Size"]["fields"][0].update(name="height"), "twice"),
    "order": (lambda told: first_with_defaults(told)["parameters"].reverse(), "comes too late"),
    "type name": (lambda told: told["types"].update({"a\n": told["types"]["Size"]}), "not a name"),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_is_refused(name: str) -> None:
    edit, text = EDITS[name]
    told = copy.deepcopy(TOLD)
    edit(told)
    with pytest.raises(CommunicationError, match=text) as error:
        read_description(told)
    assert printable(str(error.value)) == str(error.value)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


def places(told: Any) -> list[tuple[Any, Any]]:
    """Return every container of a description with every key in it."""
    found: list[tuple[Any, Any]] = []
    keys = list(told) if isinstance(told, dict) else range(len(told)) if isinstance(told, list) else []
    for key in keys:
        found.append((told, key))
        found += places(told[key])
    return found


@given(st.data())
def test_anything_anywhere(data: st.DataObject) -> None:
    told = copy.deepcopy(TOLD)
    container, key = data.draw(st.sampled_from(places(told)))
    container[key] = data.draw(json_like)
    try:
        made = read_description(told)
    except CommunicationError:
        return
    assert isinstance(made, Description)


@given(json_like)
def test_anything_at_all(told: object) -> None:
    with pytest.raises(CommunicationError):
        read_description(told)


@given(st.text())
def test_printable_text(text: str) -> None:
    assert printable(text).isprintable()
    assert printable(text, lines=True).replace("\n", "").isprintable()
