"""What changes of a contract mean, and old and new sides that really talk to each other."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum, Flag, IntEnum
from typing import Any, Literal

import pytest

from binderkit.errors import CommunicationError, RemoteError, UnknownMethodError
from binderkit.interface import (
    Int32,
    Interface,
    Property,
    idempotent,
    method,
    oneway,
    packed,
    proxy,
    raises,
    transaction_code,
)
from binderkit.interface.compare import Change, compare
from binderkit.testing import loopback


class Color(Enum):
    RED = "r"
    BLUE = "b"


class Right(Flag):
    READ = 1
    WRITE = 2


@dataclass
class Size:
    width: int
    height: int = 0


@dataclass
class Tree:
    name: str
    children: list[Tree]
    color: Color = Color.RED


@packed
@dataclass
class Point:
    x: int
    y: int


@dataclass
class Bad(Exception):
    why: str


class Worse(Exception):
    pass


class IParent(Interface, descriptor="test.IParent"):
    @method
    def up(self) -> None: ...


class IOld(IParent, descriptor="test.IPhoto"):
    title = Property(str)

    @method
    def thumbnail(self, image: bytes, width: Int32 = 160) -> bytes: ...
    @method
    @idempotent
    def measure(self, size: Size, point: Point) -> Tree: ...
    @method
    @raises(Bad, Worse)
    def paint(self, color: Color, how: int | str, rights: Right) -> None: ...
    @method
    def names(self) -> Iterator[str]: ...
    @method
    @oneway
    def hint(self, text: str, mode: Literal["a", "b"]) -> None: ...


OLD = IOld.__contract__.describe()
Edit = Callable[[dict[str, Any]], object]


def changed(edit: Edit) -> list[Change]:
    """Return what compare says of an edited description whose version went up."""
    new: dict[str, Any] = json.loads(json.dumps(OLD))
    edit(new)
    new["version"] += 1
    return compare(OLD, new)


def told(changes: list[Change]) -> list[tuple[str, str]]:
    return [(change.severity, change.where) for change in changes]


def one(new: dict[str, Any], name: str) -> dict[str, Any]:
    return next(known for known in (*new["methods"], *new["properties"]) if known["name"] == name)


def new_method(name: str, code: int) -> dict[str, Any]:
    return {**copy.deepcopy(one(OLD, "names")), "name": name, "code": code}


def parameter(name: str, kind: Any, *, optional: bool) -> dict[str, Any]:
    return {"name": name, "type": kind, "optional": optional, "keyword_only": False}


def field(name: str, kind: Any, *, optional: bool) -> dict[str, Any]:
    return {"name": name, "type": kind, "optional": optional}


def test_nothing_changed() -> None:
    assert compare(OLD, json.loads(json.dumps(OLD))) == []
    assert changed(lambda new: None) == []
    assert changed(lambda new: new.update(doc="other words")) == []


def test_the_version_must_go_up() -> None:
    new = {**OLD, "methods": [*OLD["methods"], new_method("more", 50)]}
    first, second = compare(OLD, new)
    assert (first.severity, first.where) == ("breaks", "IOld, its version") and "declare version=2" in first.words
    assert (second.severity, second.where) == ("ok", "IOld.more")
    down = compare({**OLD, "version": 3}, {**OLD, "version": 2})
    assert told(down) == [("breaks", "IOld, its version")] and "from 3 to 2" in down[0].words


def test_another_descriptor_is_another_interface() -> None:
    (change,) = changed(lambda new: new.update(descriptor="test.IOther"))
    assert change.severity == "breaks" and "'test.IPhoto': this is another interface" in change.words


METHODS: dict[str, tuple[Edit, list[tuple[str, str]], str]] = {
    "appended": (lambda new: new["methods"].append(new_method("more", 50)), [("ok", "IOld.more")], "new clients of an"),
    "moved": (lambda new: one(new, "names").update(code=40), [("breaks", "IOld.names")], "from 6 to 40"),
    "gone": (lambda new: new["methods"].pop(3), [("breaks", "IOld.names")], "UnknownMethodError"),
    "code reused": (
        lambda new: (new["methods"].pop(3), new["methods"].append({**new_method("other", 6), "stream": False})),
        [("breaks", "IOld.names")],
        "its code 6 now means other",
    ),
    "renamed": (lambda new: one(new, "names").update(name="words"), [("warns", "IOld.names")], "called words now"),
    "not one-way": (lambda new: one(new, "hint").update(oneway=False), [("breaks", "IOld.hint")], "one-way any more"),
    "idempotent": (lambda new: one(new, "names").update(idempotent=True), [("ok", "IOld.names")], "idempotent now"),
    "not idempotent": (
        lambda new: one(new, "measure").update(idempotent=False),
        [("warns", "IOld.measure")],
        "may still repeat",
    ),
    "no stream": (
        lambda new: one(new, "names").update(stream=False),
        [("breaks", "IOld.names -> result")],
        "not an iterator any more",
    ),
    "result retyped": (
        lambda new: one(new, "thumbnail").update(result="str"),
        [("breaks", "IOld.thumbnail -> result")],
        "was bytes and is str",
    ),
    "result gone": (
        lambda new: one(new, "thumbnail").update(result=None),
        [("breaks", "IOld.thumbnail -> result")],
        "was bytes and is None",
    ),
    "result to memoryview": (
        lambda new: one(new, "thumbnail").update(result="memoryview"),
        [("ok", "IOld.thumbnail -> result")],
        "names are not on the wire",
    ),
    "parent gone": (lambda new: new.update(extends=[]), [("breaks", "IOld")], "does not extend test.IParent"),
    "parent new": (lambda new: new["extends"].append("test.IX"), [("ok", "IOld")], "now extends test.IX"),
    "code of a property": (
        lambda new: (new["properties"].clear(), new["methods"].append(new_method("more", 1))),
        [("breaks", "IOld.title"), ("breaks", "IOld.more")],
        "",
    ),
}


@pytest.mark.parametrize("name", METHODS)
def test_methods(name: str) -> None:
    edit, expected, words = METHODS[name]
    changes = changed(edit)
    assert [pair for pair in told(changes) if pair != ("ok", "IOld.more") or pair in expected] == expected
    assert words in changes[0].words


PARAMETERS: dict[str, tuple[Edit, list[tuple[str, str]], str]] = {
    "appended with a default": (
        lambda new: one(new, "thumbnail")["parameters"].append(parameter("h", "int32", optional=True)),
        [("ok", "IOld.thumbnail(h)")],
        "an old client's call uses the default",
    ),
    "appended without": (
        lambda new: one(new, "measure")["parameters"].append(parameter("h", "int32", optional=False)),
        [("breaks", "IOld.measure(h)")],
        "give it a default",
    ),
    "removed": (
        lambda new: one(new, "thumbnail")["parameters"].pop(),
        [("breaks", "IOld.thumbnail(width)")],
        "the parameter is gone",
    ),
    "removed in front": (
        lambda new: one(new, "measure")["parameters"].pop(0),
        [("breaks", "IOld.measure(size)"), ("breaks", "IOld.measure(point)")],
        "the parameter is gone",
    ),
    "reordered": (
        lambda new: one(new, "measure")["parameters"].reverse(),
        [("breaks", "IOld.measure(size)"), ("breaks", "IOld.measure(point)")],
        "parameter 1 is parameter 2 now",
    ),
    "retyped": (
        lambda new: one(new, "thumbnail")["parameters"][1].update(type="int64"),
        [("breaks", "IOld.thumbnail(width)")],
        "was int32 and is int64",
    ),
    "renamed": (
        lambda new: one(new, "thumbnail")["parameters"][1].update(name="w"),
        [("warns", "IOld.thumbnail(width)")],
        "it is called w now",
    ),
    "replaced": (
        lambda new: one(new, "thumbnail")["parameters"][1].update(name="w", type="str"),
        [("breaks", "IOld.thumbnail(width)")],
        "the parameter is gone",
    ),
    "no default": (
        lambda new: one(new, "thumbnail")["parameters"][1].update(optional=False),
        [("breaks", "IOld.thumbnail(width)")],
        "no default any more",
    ),
    "keyword-only": (
        lambda new: one(new, "thumbnail")["parameters"][1].update(keyword_only=True),
        [("warns", "IOld.thumbnail(width)")],
        "by its name only now",
    ),
    "more alternatives": (
        lambda new: one(new, "paint")["parameters"][1]["type"]["union"].append("bool"),
        [("warns", "IOld.paint(how)")],
        "an old service refuses a value that is new",
    ),
    "fewer alternatives": (
        lambda new: one(new, "paint")["parameters"][1]["type"]["union"].pop(),
        [("breaks", "IOld.paint(how)")],
        "was int64 | str and is int64",
    ),
    "more literals": (
        lambda new: one(new, "hint")["parameters"][1]["type"]["literal"].append("'c'"),
        [("warns", "IOld.hint(mode)")],
        "Literal['a', 'b', 'c']",
    ),
    "another literal": (
        lambda new: one(new, "hint")["parameters"][1]["type"].update(literal=["'b'", "'a'"]),
        [("breaks", "IOld.hint(mode)")],
        "",
    ),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_parameters(name: str) -> None:
    edit, expected, words = PARAMETERS[name]
    changes = changed(edit)
    assert told(changes) == expected
    assert words in changes[0].words


REST: dict[str, tuple[Edit, list[tuple[str, str]], str]] = {
    "exception appended": (
        lambda new: one(new, "paint")["raises"].append({"name": "New", "fields": {"list": "str"}}),
        [("ok", "IOld.paint raises New")],
        "RemoteError with code 20002",
    ),
    "exceptions reordered": (
        lambda new: one(new, "paint")["raises"].reverse(),
        [("breaks", "IOld.paint raises Worse"), ("breaks", "IOld.paint raises Bad")],
        "exception number 0 was Bad",
    ),
    "exception gone": (
        lambda new: one(new, "paint")["raises"].pop(),
        [("warns", "IOld.paint raises Worse")],
        "RemoteError with code 20001",
    ),
    "property gone": (lambda new: new["properties"].clear(), [("breaks", "IOld.title")], "the property is gone"),
    "property new": (
        lambda new: new["properties"].append({"name": "more", "get": 60, "set": 0, "type": "str"}),
        [("ok", "IOld.more")],
        "a new property",
    ),
    "property read-only": (lambda new: one(new, "title").update(set=0), [("breaks", "IOld.title")], "read-only now"),
    "property moved": (lambda new: one(new, "title").update(get=60), [("breaks", "IOld.title")], "from 1, 2 to 60, 2"),
    "property retyped": (lambda new: one(new, "title").update(type="int64"), [("breaks", "IOld.title")], "str and is"),
    "field appended": (
        lambda new: new["types"]["Size"]["fields"].append(field("depth", "int64", optional=True)),
        [("ok", "Size.depth")],
        "whoever has the old version",
    ),
    "field without a default": (
        lambda new: new["types"]["Tree"]["fields"].append(field("depth", "int64", optional=False)),
        [("breaks", "Tree.depth")],
        "give it a default",
    ),
    "field retyped": (
        lambda new: new["types"]["Tree"]["fields"][0].update(type="bytes"),
        [("breaks", "Tree.name")],
        "was str and is bytes",
    ),
    "fields reordered": (
        lambda new: new["types"]["Size"]["fields"].reverse(),
        [("breaks", "Size.width"), ("breaks", "Size.height")],
        "field 1 is field 2 now",
    ),
    "packed appended": (
        lambda new: new["types"]["Point"]["fields"].append(field("z", "int64", optional=True)),
        [("breaks", "Point.z")],
        "@packed struct, which has no room",
    ),
    "packed now": (lambda new: new["types"]["Size"].update(packed=True), [("breaks", "Size")], "packed now"),
    "member new": (
        lambda new: new["types"]["Color"]["members"].update(GREEN="g"),
        [("warns", "Color.GREEN"), ("warns", "Color.GREEN")],
        "refuses it as an unknown value",
    ),
    "member gone": (
        lambda new: new["types"]["Color"]["members"].pop("RED"),
        [("breaks", "Color.RED")],
        "refuses 'r' from an old sender",
    ),
    "member renamed": (
        lambda new: new["types"]["Color"].update(members={"ROT": "r", "BLUE": "b"}),
        [("warns", "Color.RED")],
        "another name now",
    ),
    "member's value": (
        lambda new: new["types"]["Right"]["members"].update(WRITE=4),
        [("breaks", "Right.WRITE")],
        "was 2 and is 4",
    ),
    "wider enum": (
        lambda new: new["types"]["Right"].update(enum="int64"),
        [("breaks", "Right")],
        "int32 and do as int64",
    ),
    "no flag": (lambda new: new["types"]["Right"].update(flag=False), [("warns", "Right")], "combined"),
}


@pytest.mark.parametrize("name", REST)
def test_exceptions_properties_and_types(name: str) -> None:
    edit, expected, words = REST[name]
    changes = changed(edit)
    assert told(changes) == expected
    assert words in changes[0].words


def test_a_struct_with_another_name_is_compared_field_by_field() -> None:
    def edit(new: dict[str, Any]) -> None:
        new["types"]["Extent"] = new["types"].pop("Size")
        new["types"]["Extent"]["fields"][0]["type"] = "str"
        one(new, "measure")["parameters"][0]["type"] = {"struct": "Extent"}

    assert told(changed(edit)) == [("ok", "IOld.measure(size)"), ("breaks", "Extent.width")]


def test_every_change_is_one_readable_line() -> None:
    for edit, _, _ in (*METHODS.values(), *PARAMETERS.values(), *REST.values()):
        for change in changed(edit):
            assert "\n" not in str(change) and str(change).startswith(f"{change.severity}: {change.where}: ")


def test_what_is_no_description() -> None:
    with pytest.raises(CommunicationError, match="this is no description of an interface"):
        compare({}, OLD)


# --- what the words say is what happens -------------------------------------------------------------------------


class Level(IntEnum):
    LOW = 1


class NewLevel(IntEnum):
    LOW = 1
    HIGH = 2


@dataclass
class Item:
    a: int


@dataclass
class NewItem:
    a: int
    b: int = 5


class IV1(Interface, descriptor="test.IVersions"):
    @method
    def add(self, a: int) -> int: ...
    @method
    def item(self, item: Item) -> Item: ...
    @method
    @raises(Bad)
    def fail(self) -> None: ...


class IV2(Interface, descriptor="test.IVersions", version=2):
    @method
    def add(self, a: int, b: int = 10) -> int: ...
    @method
    def item(self, item: NewItem) -> NewItem: ...
    @method
    @raises(Bad, Worse)
    def fail(self) -> None: ...
    @method
    @transaction_code(9)
    def more(self) -> str: ...


class V1(IV1):
    def add(self, a: int) -> int:
        return a

    def item(self, item: Item) -> Item:
        return item

    def fail(self) -> None:
        raise Bad("old")


class V2(IV2):
    def add(self, a: int, b: int = 10) -> int:
        return a + b

    def item(self, item: NewItem) -> NewItem:
        return NewItem(item.a, item.b + 1)

    def fail(self) -> None:
        raise Worse("new")

    def more(self) -> str:
        return "more"


def test_what_is_ok_works_both_ways() -> None:
    changes = compare(IV1.__contract__.describe(), IV2.__contract__.describe())
    assert {change.severity for change in changes} == {"ok"}
    with loopback() as pair:
        old_client, new_client = proxy(IV1, pair.offer(V2())), proxy(IV2, pair.offer(V1()))
        assert old_client.add(1) == 11 and new_client.add(1, 2) == 1
        assert old_client.item(Item(1)) == Item(1)
        assert new_client.item(NewItem(1, 2)) == NewItem(1, 5)
        with pytest.raises(RemoteError) as error:
            old_client.fail()
        assert error.value.code == 20001
        with pytest.raises(Bad):
            new_client.fail()
        with pytest.raises(UnknownMethodError):
            new_client.more()
