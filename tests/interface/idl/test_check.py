from __future__ import annotations

from pathlib import Path

import pytest

from binderkit.interface.idl import IdlError, parse_file, parse_string
from binderkit.interface.idl.syntax import Document, Enum, Interface


def interface_of(text: str) -> Interface:
    interface = parse_string(text).interface
    assert interface is not None
    return interface


def methods(text: str) -> Interface:
    return interface_of(f"interface IFoo {{ {text} }}")


def refused(text: str) -> IdlError:
    with pytest.raises(IdlError) as raised:
        parse_string(text)
    return raised.value


def members_of(document: Document) -> dict[str, int]:
    enum = document.declarations[-1]
    assert isinstance(enum, Enum)
    return {member.name: member.value for member in enum.members}


# --- descriptor ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "descriptor"),
    [
        ("interface IFoo { }", "IFoo"),
        ("package a.b; interface IFoo { }", "a.b.IFoo"),
        ("package a.b; interface c.IFoo { }", "c.IFoo"),
        ("interface c.IFoo { } package a.b;", "c.IFoo"),
        ("package a.b; interface_token x.Y; interface c.IFoo { }", "x.Y"),
    ],
)
def test_the_interfaces_own_qualifier_wins_over_the_package(text: str, descriptor: str) -> None:
    assert interface_of(text).descriptor == descriptor


@pytest.mark.parametrize(
    "directive", ["package a;", "interface_token a;", "option_stub_hooks on;", "support_delegator off;"]
)
def test_a_directive_stands_once(directive: str) -> None:
    error = refused(f"{directive}\n{directive}")

    assert f"{directive.split()[0]} is given already" in error.reason
    assert error.line == 2


def test_an_interface_stands_in_a_file_of_its_name(tmp_path: Path) -> None:
    path = tmp_path / "IBar.idl"
    path.write_text("\ninterface a.IFoo { }")

    with pytest.raises(IdlError, match=r"interface IFoo stands in IBar\.idl; its file must be IFoo\.idl") as raised:
        parse_file(path)
    assert (raised.value.file, raised.value.line, raised.value.column) == (str(path), 2, 11)


def test_a_file_defines_one_interface() -> None:
    error = refused("interface IFoo { }\ninterface IBar { }")

    assert "a file defines one interface, and IFoo is it; move IBar" in error.reason
    assert (error.line, error.column) == (2, 11)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("interface IBase; interface IFoo extends IBase { }", "IFoo can only extend an interface it imports"),
        ("interface IFoo extends IFoo { }", "IFoo can only extend an interface it imports"),
        ("struct S { int a; }; interface IFoo extends S { }", "'S' is a struct, not an interface"),
        ("interface IFoo extends IBase { }", "'IBase' is not declared"),
    ],
)
def test_an_interface_extends_one_that_is_imported(text: str, reason: str) -> None:
    assert reason in refused(text).reason


# --- methods ------------------------------------------------------------------------------------


def test_codes_go_on_from_an_explicit_one() -> None:
    interface = methods("void a(); void b(); [ipccode 0x10] void c(); void d(); [ipccode 5] void e(); void f();")

    assert [method.code for method in interface.methods] == [1, 2, 16, 17, 5, 6]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("void a(); [ipccode 1] void b();", "a and b both have code 1"),
        ("[ipccode 2] void a(); [ipccode 1] void b(); void c();", "a and c both have code 2"),
        ("[ipccode 0] void a();", "a has code 0x0; codes go from 1 to 0xffffef"),
        ("[ipccode 0xFFFFF0] void a();", "a has code 0xfffff0"),
        ("[ipccode 0xFFFFEF] void a(); void b();", "b has code 0xfffff0"),
    ],
)
def test_codes_are_unique_and_in_range(text: str, reason: str) -> None:
    assert reason in refused(f"interface IFoo {{ {text} }}").reason


def test_oneway_of_the_interface_is_that_of_all_its_methods() -> None:
    assert [method.oneway for method in methods("[oneway] void a(); void b();").methods] == [True, False]
    every = interface_of("[oneway] interface IFoo { void a(); b(); }")
    assert [method.oneway for method in every.methods] == [True, True]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("int f();", "f is oneway, so nothing comes back; its result must be void"),
        ("void f([out] int a);", "parameter 'a' cannot be out"),
        ("void f([in] int b, [inout] int a);", "parameter 'a' cannot be inout"),
    ],
)
def test_nothing_comes_back_from_oneway_methods(text: str, reason: str) -> None:
    assert reason in refused(f"[oneway] interface IFoo {{ {text} }}").reason
    assert reason in refused(f"interface IFoo {{ [oneway] {text} }}").reason


def test_methods_may_be_overloaded_but_not_repeated() -> None:
    methods("void f([in] int a); void f([in] long a); void f([out] int a); void f();")
    error = refused("interface IFoo {\nvoid f([in] int a);\nint f([in] int b);\n}")

    assert "f with these parameters stands in line 2 already" in error.reason
    assert error.line == 3


def test_parameters_have_different_names() -> None:
    assert "f has a parameter 'a' already" in refused("interface IFoo { void f([in] int a, [out] int a); }").reason


# --- types --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "instead"),
    [
        ("Ashmem", "use rawdata"),
        ("NativeBuffer", "use a sequenceable"),
        ("Pointer", "use rawdata or a struct"),
        ("SharedMemQueue<int>", "use a FileDescriptor"),
        ("List<Ashmem>", "use rawdata"),
    ],
)
def test_types_of_hdi_are_refused_by_name_with_what_serves_instead(kind: str, instead: str) -> None:
    error = refused(f"interface IFoo {{ void f([in] {kind} a); }}")

    assert "exists in HDI mode only" in error.reason and instead in error.reason
    assert error.column == len("interface IFoo { void f([in] ") + 1 + ("List<" in kind) * 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("interface IFoo { void f([in] void a); }", "void is no value"),
        ("interface IFoo { void[] f(); }", "void is no value"),
        ("interface IFoo { void f([out] CString a); }", "a CString can only go in; make parameter 'a' [in]"),
        ("interface IFoo { void f([in] List<CString> a); }", "CString can only be the type of an [in] parameter"),
        ("interface IFoo { CString f(); }", "CString can only be the type of an [in] parameter"),
        ("interface IFoo { void f([in] sptr<sptr<int>> a); }", "sptr<sptr<int>> points to a pointer"),
        ("interface IFoo { void f([in] sptr<IFoo> a); }", "sptr cannot stand around IFoo"),
        ("interface IBar; interface IFoo { void f([in] sharedptr<IBar> a); }", "sharedptr cannot stand around IBar"),
        (
            "sequenceable OHOS.IRemoteObject; interface IFoo { null_sptr<IRemoteObject> f(); }",
            "null_sptr cannot stand around IRemoteObject",
        ),
        ("struct S { Set<List<int>> a; };", "List<int> cannot be the element of a Set"),
        ("struct S { Map<int[], int> a; };", "int[] cannot be the key of a Map"),
        ("sequenceable W; struct S { OrderedMap<W, int> a; };", "W cannot be the key of an OrderedMap"),
        ("struct A { int[] a; }; struct S { Set<A> a; };", "A cannot be the element of a Set"),
    ],
)
def test_types_where_they_cannot_stand(text: str, reason: str) -> None:
    assert reason in refused(text).reason


@pytest.mark.parametrize(
    "text",
    [
        "struct A { int a; String b; }; struct S { Set<A> a; Map<A, int[]> b; };",
        "enum E { A }; struct S { Set<E> a; };",
        "interface IFoo { void f([in] CString a); }",
        "struct A { int a; }; interface IFoo { null_uniqueptr<A> f([in] sharedptr<A>[] a, [in] List<sptr<A>> b); }",
    ],
)
def test_types_where_they_can_stand(text: str) -> None:
    parse_string(text)


def test_enums_count_on_and_take_values_of_earlier_members() -> None:
    assert members_of(parse_string("enum E { A, B = 5, C, D = B << 1, E = -1, F };")) == {
        "A": 0,
        "B": 5,
        "C": 6,
        "D": 10,
        "E": -1,
        "F": 0,
    }


def test_an_enum_whose_base_is_an_enum_has_its_members_too() -> None:
    document = parse_string("enum A : byte { ONE = 1, TWO }; enum B : A { THREE, FIVE = ONE + 4 };")

    assert members_of(document) == {"ONE": 1, "TWO": 2, "THREE": 3, "FIVE": 5}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("enum E { };", "enum E has no members"),
        ("enum E { A, A };", "enum E has a member A already"),
        ("enum A { X }; enum B : A { X };", "enum B has a member X already"),
        ("enum E : float { A };", "float cannot be an enum's base; it is one of byte, short, int, long"),
        ("enum E : int[] { A };", "int[] cannot be an enum's base"),
        ("struct S { int a; }; enum E : S { A };", "S is a struct; an enum's base is an integer or enum"),
        ("enum E : byte { A = 127, B };", "B = 128 does not fit byte, -128 … 127"),
        ("enum E : unsigned char { A = -1 };", "A = -1 does not fit unsigned char, 0 … 255"),
        ("enum E { A = 0x80000000 };", "A = 2147483648 does not fit int"),
        ("enum E : unsigned int { A = 0x80000000 };", "does not fit the int32 an enum travels in"),
        ("enum E : long { A = 1 << 40 };", "does not fit the int32 an enum travels in"),
        ("struct S { };", "struct S has no members"),
        ("struct S { int a; long a; };", "S has a member 'a' already"),
        ("struct A { int a; }; struct B : A { int a; };", "B has a member 'a' already"),
        ("enum E { A }; struct S : E { int a; };", "E is an enum; a struct extends a struct"),
        ("union U { };", "union U has no members"),
        ("union U { int a; float a; };", "U has a member 'a' already"),
        (
            "union U { String a; };",
            "a union holds plain data: integers, boolean, char, float, double and enums, not String",
        ),
        ("union U { int[] a; };", "a union holds plain data"),
        ("struct S { int a; }; union U { S a; };", "a union holds plain data"),
        ("[full] enum E { A };", "E is a type; types take attributes only in HDI mode"),
        ("[oneway] struct S { int a; };", "S is a type"),
        ("[lite] union U { int a; };", "U is a type"),
    ],
)
def test_rules_of_types(text: str, reason: str) -> None:
    error = refused(text)

    assert reason in error.reason
    assert error.line == 1 and error.column > 1


def test_text_without_a_file_cannot_import() -> None:
    assert "cannot import" in refused("import IBase;").reason
