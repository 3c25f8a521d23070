"""Descriptions as Python text: readable, valid, harmless."""

from __future__ import annotations

import ast
import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import CommunicationError
from binderkit.interface.described import read_description
from binderkit.interface.show import as_python
from tests.interface.many_types import IMany
from tests.interface.service import IEcho

TOLD: dict[str, Any] = json.loads(json.dumps(IMany.__contract__.describe()))


def test_a_contract_as_python() -> None:
    assert (
        as_python(IEcho.__contract__.describe())
        == '''\
@dataclass
class Bad(Exception):
    path: str
    line: int = ...


class KeyError(Exception): ...


class IEcho(Interface, descriptor='test.IEcho', version=2):
    """Gives back what it gets."""

    # It also has the methods of test.IBase.

    volume = Property(int)  # code 1, 2

    size = Property(int, readonly=True)  # code 3

    @method
    @transaction_code(4)
    def echo(self, value: int) -> int:
        """Return the value."""

    @method
    @transaction_code(5)
    def words(self, values: list[str], times: Int32 = ..., *, sep: str = ...) -> str: ...

    @method
    @transaction_code(6)
    def mixed(self, a: int, b: float, c: str, d: int, e: bool) -> tuple[int, float, str, int, bool]: ...

    @method
    @transaction_code(7)
    @oneway
    def hint(self, text: str) -> None: ...

    @method
    @transaction_code(8)
    def hints(self) -> list[str]: ...

    @method
    @transaction_code(30)
    @raises(Bad, KeyError)
    def fail(self, how: str) -> None: ...

    @method
    @transaction_code(31)
    def slow(self, seconds: float) -> float: ...

    @method
    @transaction_code(32)
    def call(self, listener: IListener | None) -> int: ...

    @method
    @transaction_code(33)
    def me(self) -> IEcho: ...

    @method
    @transaction_code(34)
    def count(self, to: int) -> Iterator[int]: ...

    @method
    @transaction_code(35)
    def acount(self, to: int) -> Iterator[int]: ...

    @method
    @transaction_code(36)
    def closed(self) -> int: ...

    @method
    @transaction_code(37)
    def later(self, n: int) -> int: ...
'''
    )


def test_every_type_is_shown() -> None:
    text = as_python(TOLD)
    ast.parse(text)
    for part in (
        "class Color(Enum):\n    RED = 'r'",
        "class Level(IntEnum):\n    LOW = 1",
        "class Right(Flag):",
        "@packed\n@dataclass\nclass Point:\n    x: Int32",
        "class Tree:\n    name: str\n    children: list[Tree]\n    parent: Tree | None = ...",
        "class Box_int64:",
        "class TooSmall(Exception):",
        "class Odd(Exception): ...",
        "Literal['x', 5, None]",
        "dict[Color, int]",
        "a: NDArray[numpy.float32], b: numpy.ndarray",
        "a: BinaryIO, b: Fd) -> BinaryIO",
        "b: IMany | None = ...",
        "    a: datetime,\n        b: date,",
        "    @idempotent\n",
        "def parcel(self, a: Parcel)",
        '    """Every type.\n\n    Second line.\n    """\n',
    ):
        assert part in text, part


def with_doc(doc: str) -> dict[str, Any]:
    told = copy.deepcopy(TOLD)
    told["doc"] = doc
    told["methods"][0]["doc"] = doc
    return told


@pytest.mark.parametrize(
    "doc",
    [
        '"""\nimport os\n"""',
        '"',
        '\\"""',
        "\\",
        "a\\\nb",
        "\x1b[2J\u202e",
        "x\x00y",
        "\ud800",
        "a\r\nb",
        '"""""" "',
        " \n ",
    ],
)
def test_a_doc_cannot_leave_its_string(doc: str) -> None:
    harmless(as_python(with_doc(doc)))


@given(st.text())
def test_no_doc_can_leave_its_string(doc: str) -> None:
    harmless(as_python(with_doc(doc)))


def harmless(text: str) -> None:
    assert text.replace("\n", "").isprintable()
    kinds = {type(node) for node in ast.parse(text).body}
    assert kinds == {ast.ClassDef}
    interface = ast.parse(text).body[-1]
    assert isinstance(interface, ast.ClassDef)
    for node in interface.body:
        assert isinstance(node, (ast.Expr, ast.Assign, ast.FunctionDef))
        assert not isinstance(node, ast.Expr) or isinstance(node.value, ast.Constant)


@given(st.text(min_size=1), st.text(), st.text(max_size=50))
def test_no_other_text_can_either(name: str, descriptor: str, literal: str) -> None:
    told = copy.deepcopy(TOLD)
    told["descriptor"] = descriptor
    told["extends"] = [descriptor]
    told["types"][name] = {"packed": False, "fields": []}
    told["types"]["Color"]["members"]["RED"] = literal
    told["properties"][0]["type"] = {"union": [{"literal": [literal]}, {"interface": descriptor}, {"struct": name}]}
    if not name.isprintable() or name in TOLD["types"]:
        return
    harmless(as_python(told))


def test_names_that_collide_or_are_keywords() -> None:
    told = copy.deepcopy(TOLD)
    for name in ("Box[int64]#2", "Box_int64", "class", "IMany", "1", "…", "None"):
        told["types"][name] = {"packed": False, "fields": []}
    text = as_python(told)
    names = [node.name for node in ast.parse(text).body if isinstance(node, ast.ClassDef)]
    assert len(names) == len(set(names)) == len(read_description(told).structs) + 3 + 2
    assert {"Box_int64", "Box_int64_2", "class_", "IMany_2", "_1", "Type", "_None"} <= set(names)


def test_what_is_no_description() -> None:
    with pytest.raises(CommunicationError):
        as_python({"name": "x"})
