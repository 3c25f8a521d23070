from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.interface.idl import IdlError, parse_string, syntax
from binderkit.interface.idl.names import KEYWORDS
from binderkit.interface.idl.parse import number_of, parse_text
from binderkit.interface.idl.syntax import Directive, Document, Enum, External, Struct


def method_of(text: str) -> syntax.Method:
    interface = parse_text(f"interface IFoo {{ {text} }}", "IFoo.idl").interface
    assert interface is not None
    return interface.methods[0]


# --- what is understood -------------------------------------------------------------------------


def test_directives_and_external_types() -> None:
    document = parse_text(
        """
        package ohos.pkg; interface_token a.b.C;
        support_delegator on; option_macro_hilog off;
        sequenceable folder.want..OHOS.AAFwk.Want;
        rawdata Blob;
        interface x.IOther;
        import ../dir/IBase;
        """,
        "f",
    )

    assert [(item.name, item.value) for item in document.items if isinstance(item, Directive)] == [
        ("package", "ohos.pkg"),
        ("interface_token", "a.b.C"),
        ("support_delegator", "on"),
        ("option_macro_hilog", "off"),
    ]
    assert [
        (one.kind, one.qualified, one.include, one.name) for one in document.items if isinstance(one, External)
    ] == [
        ("sequenceable", "OHOS.AAFwk.Want", "folder.want", "Want"),
        ("rawdata", "Blob", "", "Blob"),
        ("interface", "x.IOther", "", "IOther"),
    ]
    assert [item.written for item in document.imports] == ["../dir/IBase"]


def test_an_interface_with_and_without_a_last_semicolon() -> None:
    for ending in ("", ";"):
        interface = parse_text(f"[oneway, full] interface a.b.IFoo extends IBase {{ }}{ending}", "f").interface
        assert interface is not None
        assert (interface.qualifier, interface.name) == ("a.b", "IFoo")
        assert [str(attribute) for attribute in interface.attributes] == ["oneway", "full"]
        assert interface.extends is not None and interface.extends.name == "IBase"


@pytest.mark.parametrize(
    ("written", "understood"),
    [
        ("int", "int"),
        ("unsigned   long", "unsigned long"),
        ("int[][]", "int[][]"),
        ("List<List<Map<int,Set<String>>>>", "List<List<Map<int, Set<String>>>>"),
        ("struct Foo[]", "Foo[]"),
        ("null_sharedptr<List<Foo>>", "null_sharedptr<List<Foo>>"),
        ("OHOS.Foo", "OHOS.Foo"),
        ("intended", "intended"),
        ("StringList", "StringList"),
    ],
)
def test_types(written: str, understood: str) -> None:
    method = method_of(f"{written} f([in] {written} a);")

    assert str(method.result) == str(method.parameters[0].type) == understood


@pytest.mark.parametrize(
    ("written", "direction"),
    [
        ("[in]", "in"),
        ("[out]", "out"),
        ("[inout]", "inout"),
        ("[]", "in"),
        ("[in, out]", "inout"),
        ("[out,in]", "inout"),
    ],
)
def test_directions(written: str, direction: str) -> None:
    assert method_of(f"void f({written} int a);").parameters[0].direction == direction


def test_a_method_without_a_type_returns_nothing() -> None:
    assert method_of("f();").result is None
    assert method_of("void f();").result is None


def test_attributes_with_values() -> None:
    method = method_of(
        "[customMsgOption flags=MessageOption::TF_ASYNC | 0x10 and waitTime=(4 + 1) * 2, "
        "cacheable 100, macrodef DEVICE] f();"
    )

    assert [str(attribute) for attribute in method.attributes] == [
        "customMsgOption flags=MessageOption::TF_ASYNC | 0x10 and waitTime=(4 + 1) * 2",
        "cacheable 100",
        "macrodef DEVICE",
    ]


def test_an_enum_may_end_with_a_comma() -> None:
    (enum,) = parse_text("enum E { A, B, };", "f").declarations
    assert isinstance(enum, Enum)
    assert [member.name for member in enum.members] == ["A", "B"]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0", 0),
        ("0x10", 16),
        ("0B11", 3),
        ("010", 8),
        ("10ULL", 10),
        ("10lu", 10),
        ("09", None),
        ("1f", None),
        ("", None),
    ],
)
def test_numbers(text: str, value: int | None) -> None:
    assert number_of(text) == value


# --- comments -----------------------------------------------------------------------------------


def test_leading_comments_belong_to_the_declaration_others_do_not() -> None:
    document = parse_text(
        """/*
 * Licence.
 *   Indented.
 */
// Apart.

// First.
/* Second. */
struct Foo {
    int a; // behind a
    /** About b.
     *  More. */
    int b;
    /* about c */ int c;
};
""",
        "f",
    )
    (struct,) = document.declarations
    assert isinstance(struct, Struct)

    assert document.licence == "Licence.\n  Indented."
    assert struct.comment == "First.\nSecond."
    assert [member.comment for member in struct.fields] == ["", "About b.\n More.", "about c"]


def test_the_licence_is_not_the_first_declarations_comment() -> None:
    document = parse_text("/* Licence. */\nstruct Foo { int a; };", "f")
    (struct,) = document.declarations

    assert document.licence == "Licence."
    assert isinstance(struct, Struct) and struct.comment == ""


def test_a_line_comment_at_the_top_is_no_licence() -> None:
    document = parse_text("// About Foo.\nstruct Foo { int a; };", "f")
    (struct,) = document.declarations

    assert document.licence == ""
    assert isinstance(struct, Struct) and struct.comment == "About Foo."


# --- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "line", "column", "reason"),
    [
        ("interface IFoo {\n    void f([in] int a\n}", 3, 1, "unexpected '}', expected"),
        ("interface IFoo {\n    void f()\n}", 3, 1, "unexpected '}', expected ';'"),
        ("struct S { int a; }", 1, 19, "the end of the file after this, expected ';'"),
        ("struct S { int a; };\n\n#", 3, 1, "unexpected '#'"),
        ("package a.b", 1, 11, "the end of the file after this, expected ';'"),
        ("int x;", 1, 1, "unexpected 'int', expected a declaration"),
        ("/* never closed", 1, 1, "this comment has no end"),
        ("interface IFoo { void f([in] List<int a); }", 1, 39, "unexpected 'a'"),
        ("interface IFoo { void f([in] int in); }", 1, 34, "'in' is a keyword"),
        ("struct cacheable { int a; };", 1, 8, "'cacheable' is a keyword"),
        ("interface IFoo { void f(int a); }", 1, 29, "parameter 'a' has no direction"),
        ("interface IFoo { void f([inn] int a); }", 1, 26, "'inn' is no direction"),
        ("interface IFoo { void f([in, inout] int a); }", 1, 30, "one direction"),
        ("interface IFoo { void f([in, in] int a); }", 1, 30, "one direction"),
        ("interface IFoo { void f([in] unsigned byte a); }", 1, 30, "unsigned goes with char, short, int and long"),
        ("interface IFoo { void f([in] Map<int> a); }", 1, 30, "Map takes 2 types, not 1"),
        ("interface IFoo { void f([in] Set<int, int> a); }", 1, 30, "Set takes 1 type, not 2"),
        ("interface IFoo { void a.b(); }", 1, 23, "'a.b' has dots"),
        ("interface a..b.IFoo { }", 1, 11, "has an include path"),
        ("sequenceable a..b..C;", 1, 14, "double dots twice"),
        ("[oneway] interface IFoo;", 1, 1, "the forward declaration of IFoo takes no attributes"),
        ("support_delegator yes;", 1, 19, "support_delegator is on or off, not 'yes'"),
    ],
)
def test_errors_show_where_and_what(text: str, line: int, column: int, reason: str) -> None:
    with pytest.raises(IdlError) as raised:
        parse_text(text, "IFoo.idl")

    error = raised.value
    assert reason in error.reason
    assert (error.file, error.line, error.column) == ("IFoo.idl", line, column)
    assert error.text == text.split("\n")[line - 1]
    assert f"IFoo.idl:{line}:{column}: " in str(error)


@pytest.mark.parametrize("kind", ["List<" * 101 + "int" + ">" * 101, "int" + "[]" * 101])
def test_nesting_has_an_end(kind: str) -> None:
    with pytest.raises(IdlError, match="more than 100 levels"):
        parse_text(f"struct S {{ {kind} a; }};", "f")


def test_a_file_that_is_too_long_is_not_parsed() -> None:
    with pytest.raises(IdlError, match="5000000 characters; at most 4194304"):
        parse_text(" " * 5_000_000, "f")


PIECES = [
    *sorted(KEYWORDS),
    "Foo",
    "IFoo",
    "a.b",
    "a..b",
    "7",
    "0x",
    "//",
    "/*",
    "*/",
    "\n",
    *"[]{}()<>;:,=&|^~+-*/%.#é",
]


@given(st.lists(st.sampled_from(PIECES), max_size=30).map(" ".join))
def test_whatever_is_written_gives_a_document_or_an_idl_error(text: str) -> None:
    try:
        document = parse_string(text, "f")
    except IdlError as error:
        assert str(error).startswith("f:")
        assert 1 <= error.line <= text.count("\n") + 1
        assert error.text == text.split("\n")[error.line - 1]
    else:
        assert isinstance(document, Document)
