from __future__ import annotations

import pytest

from binderkit.interface.idl import parse_string
from binderkit.interface.idl.python_types import RESERVED, Types, class_name, is_frozen
from binderkit.interface.idl.syntax import Span, Struct
from binderkit.interface.idl.writing import Imports


@pytest.mark.parametrize(
    ("kind", "hint", "imported"),
    [
        ("boolean", "bool", []),
        ("byte", "Int8", ["from binderkit.interface import Int8", ""]),
        ("short", "Int16", ["from binderkit.interface import Int16", ""]),
        ("int", "Int32", ["from binderkit.interface import Int32", ""]),
        ("long", "int", []),
        ("char", "Char", ["from binderkit.interface.codec import Char", ""]),
        ("unsigned char", "UInt8", ["from binderkit.interface import UInt8", ""]),
        ("unsigned short", "UInt16", ["from binderkit.interface import UInt16", ""]),
        ("unsigned int", "UInt32", ["from binderkit.interface import UInt32", ""]),
        ("unsigned long", "UInt64", ["from binderkit.interface import UInt64", ""]),
        ("float", "Float32", ["from binderkit.interface import Float32", ""]),
        ("double", "float", []),
        ("String", "str", []),
        ("String16", "str", []),
        ("U16string", "str", []),
        ("FileDescriptor", "Fd", ["from binderkit.interface.codec import Fd", ""]),
        ("FileDescriptorSan", "Fd", ["from binderkit.interface.codec import Fd", ""]),
        ("long[][]", "list[list[int]]", []),
        ("List<String>", "list[str]", []),
        ("Set<long>", "set[int]", []),
        ("Map<String, double[]>", "dict[str, list[float]]", []),
        ("OrderedMap<long, boolean>", "dict[int, bool]", []),
        ("sharedptr<String>", "str", []),
        ("uniqueptr<String>", "str", []),
        ("sptr<String>", "str", []),
        ("null_sharedptr<String>", "str | None", []),
        ("null_uniqueptr<long[]>", "list[int] | None", []),
        ("null_sptr<String>", "str | None", []),
        ("IRemoteObject", "IRemoteObject", ["from binderkit import IRemoteObject", ""]),
        ("Want", "Want", []),
        ("IFoo", "IFoo", []),
    ],
)
def test_each_type_has_its_hint(kind: str, hint: str, imported: list[str]) -> None:
    """The table of reference 5.5."""
    document = parse_string(
        f"sequenceable OHOS.IRemoteObject; sequenceable Want; interface IFoo {{ void f([in] {kind} a); }}"
    )
    interface = document.interface
    assert interface is not None
    imports = Imports()

    assert Types(document, imports, {}).hint(interface.methods[0].parameters[0].type) == hint
    assert imports.lines(frozenset()) == imported


@pytest.mark.parametrize("name", ["Int32", "list", "class", "packed", "Exception", "Interface"])
def test_a_type_that_is_called_like_something_python_has_gets_an_underscore(name: str) -> None:
    assert class_name(Struct(name, None, [], [], Span(0, 0, 1, 1), "")) == f"{name}_"
    assert name in RESERVED or name in ("class", "Exception")


def test_structs_that_can_be_keys_are_frozen_and_so_are_those_that_extend_them() -> None:
    document = parse_string(
        """struct Key { int a; String b; };
        struct Extended : Key { int[] c; };
        struct Other { int[] c; };
        struct OtherExtended : Other { int a; };
        struct Holder { Key key; };"""
    )

    structs = [one for one in document.declarations if isinstance(one, Struct)]
    assert [is_frozen(one) for one in structs] == [True, True, False, False, True]
