from __future__ import annotations

import pytest

from binderkit.interface.idl import IdlError, parse_string
from binderkit.interface.idl.syntax import Interface, Named, Struct


def test_a_type_is_known_by_its_own_name_and_with_its_package() -> None:
    document = parse_string(
        """package a.b;
        struct S { int x; };
        sequenceable OHOS.Want;
        interface IFoo { void f([in] S one, [in] a.b.S two, [in] Want three, [in] OHOS.Want four, [in] IFoo five); }"""
    )
    interface = document.interface
    assert interface is not None
    kinds = [parameter.type for parameter in interface.methods[0].parameters]
    targets = [kind.target for kind in kinds if isinstance(kind, Named)]

    assert isinstance(targets[0], Struct) and targets[0] is targets[1]
    assert targets[2] is targets[3] is not None
    assert targets[4] is interface


def test_a_forward_declaration_is_completed_by_the_definition() -> None:
    document = parse_string("interface IFoo; interface a.IFoo { IFoo next(); }")
    interface = document.interface
    assert interface is not None

    result = interface.methods[0].result
    assert isinstance(result, Named) and isinstance(result.target, Interface)


def test_the_same_external_type_may_be_named_twice() -> None:
    parse_string("sequenceable OHOS.Want; sequenceable h..OHOS.Want; interface IFoo { Want f(); }")


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("struct A { B b; };\nstruct B { int x; };", 1, 12, "'B' is not declared before it is used"),
        ("struct A { List<A> a; };", 1, 17, "'A' is not declared before it is used"),
        ("interface IFoo { void f([in] OHOS.IRemoteObject o); }", 1, 30, "'OHOS.IRemoteObject' is not declared"),
        ("struct A { int x; };\nenum A { B };", 2, 6, "'A' is declared already, in <idl> line 1"),
        ("struct A { int x; };\nsequenceable b.A;", 2, 14, "'A' is declared already"),
        ("sequenceable a.W;\nsequenceable b.W;", 2, 14, "'W' is declared already"),
        ("sequenceable a.W;\nrawdata a.W;", 2, 9, "is declared already"),
        ("enum E { A };\nstruct S { struct E e; };", 2, 19, "'E' is an enum, not a struct"),
        ("sequenceable W;\nstruct S { union W w; };", 2, 18, "'W' is a sequenceable, not a union"),
    ],
)
def test_names_that_do_not_stand_for_that(text: str, line: int, column: int, reason: str) -> None:
    with pytest.raises(IdlError) as raised:
        parse_string(text)

    assert reason in raised.value.reason
    assert (raised.value.line, raised.value.column) == (line, column)
