from __future__ import annotations

from pathlib import Path

import pytest

from binderkit.interface.idl import IdlError, parse_all, parse_file, parse_string
from binderkit.interface.idl.load import forward_file
from binderkit.interface.idl.syntax import External


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / f"{name.replace('__', '/')}.idl"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def test_imports_are_read_relative_to_their_file(tmp_path: Path) -> None:
    write(
        tmp_path,
        app__IFoo="import ../common/Types; import sub.IBar; import ./More;\n"
        "interface IFoo { S f([in] IBar a, [in] M b); }",
        app__sub__IBar="import ../../common.Types; interface IBar { void g([in] S a); }",
        app__More="struct M { int a; };",
        common__Types="struct S { int a; };",
    )
    document = parse_file(tmp_path / "app" / "IFoo.idl")

    assert [item.path for item in document.imports] == [
        tmp_path / "common" / "Types.idl",
        tmp_path / "app" / "sub" / "IBar.idl",
        tmp_path / "app" / "More.idl",
    ]
    types, bar, _ = (item.document for item in document.imports)
    assert bar is not None and bar.imports[0].document is types  # read once: the same types


def test_a_name_can_be_given_as_text_and_windows_files_are_read(tmp_path: Path) -> None:
    (tmp_path / "IFoo.idl").write_bytes(
        "\ufeff/* Ä */\r\ninterface IFoo {\r\n    // ß\r\n    void f();\r\n}\r\n".encode()
    )
    document = parse_file(str(tmp_path / "IFoo.idl"))

    assert document.licence == "Ä"
    assert document.interface is not None and document.interface.methods[0].comment == "ß"


def test_files_do_not_import_each_other_in_a_circle(tmp_path: Path) -> None:
    write(
        tmp_path, IA="import IB; interface IA { }", IB="import IC; interface IB { }", IC="import IA; interface IC { }"
    )

    with pytest.raises(IdlError, match=r"circle: IA\.idl → IB\.idl → IC\.idl → IA\.idl; use 'interface X;'") as raised:
        parse_file(tmp_path / "IA.idl")
    assert (raised.value.file, raised.value.line, raised.value.column) == (str(tmp_path / "IC.idl"), 1, 8)


def test_a_file_does_not_import_itself(tmp_path: Path) -> None:
    with pytest.raises(IdlError, match=r"circle: IA\.idl → IA\.idl"):
        parse_file(write(tmp_path, IA="import IA; interface IA { }") / "IA.idl")


def test_errors_in_an_imported_file_name_that_file(tmp_path: Path) -> None:
    write(tmp_path, IFoo="import Types; interface IFoo { }", Types="struct S {\n    Nope a;\n};")

    with pytest.raises(IdlError, match="'Nope' is not declared") as raised:
        parse_file(tmp_path / "IFoo.idl")
    assert (raised.value.file, raised.value.line, raised.value.text) == (str(tmp_path / "Types.idl"), 2, "    Nope a;")


def test_two_imports_with_the_same_name_clash_at_the_second(tmp_path: Path) -> None:
    write(tmp_path, IFoo="import A;\nimport B;\ninterface IFoo { }", A="struct S { int a; };", B="enum S { X };")

    with pytest.raises(IdlError, match=r"'S' is declared already, in .*A\.idl line 1") as raised:
        parse_file(tmp_path / "IFoo.idl")
    assert raised.value.line == 2


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("IBar", r"there is no file IBar\.idl beside"),
        ("/etc/passwd", "'/etc/passwd' is no import path"),
        ("IBar.idl", "'IBar.idl' is no import path"),
        ("a/../b", "is no import path"),
        ("a//b", "is no import path"),
    ],
)
def test_import_paths(tmp_path: Path, path: str, reason: str) -> None:
    with pytest.raises(IdlError, match=reason) as raised:
        parse_file(write(tmp_path, IFoo=f"import {path};") / "IFoo.idl")
    assert (raised.value.line, raised.value.column) == (1, 8)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(IdlError, match=r"name ends in \.idl"):
        parse_file(tmp_path / "IFoo.txt")
    with pytest.raises(IdlError, match="cannot be read: No such file"):
        parse_file(tmp_path / "IFoo.idl")
    (tmp_path / "IFoo.idl").write_bytes(b"interface \xff")
    with pytest.raises(IdlError, match="byte 10 is no UTF-8"):
        parse_file(tmp_path / "IFoo.idl")


# --- every file a module needs --------------------------------------------------------------------


def test_all_files_a_module_needs_are_read_once_the_file_itself_first(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name, text in {
        "IFoo": "import Types; import sub/More; interface IPeer; interface sub.IFar..IFar; interface IElsewhere;"
        " interface IFoo { void f([in] IPeer peer, [in] IFar far); }",
        "Types": "struct S { int a; };",
        "sub/More": "import ../Types; struct T { S s; };",
        "IPeer": "import IFoo; interface IPeer { void f([in] IFoo foo); }",
        "sub/IFar": "import ../Last; interface IFar { void f([in] L last); }",
        "Last": "struct L { int a; };",
        "Unused": "this is not even IDL",
    }.items():
        (tmp_path / f"{name}.idl").write_text(text)

    documents = parse_all(tmp_path / "IFoo.idl")

    names = [document.path.relative_to(tmp_path).as_posix() for document in documents if document.path is not None]
    assert names[0] == "IFoo.idl"
    assert sorted(names[1:]) == ["IPeer.idl", "Last.idl", "Types.idl", "sub/IFar.idl", "sub/More.idl"]


def test_an_error_in_a_file_that_is_only_announced_names_it_as_the_first_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "idl").mkdir()
    (tmp_path / "idl/IFoo.idl").write_text("interface IPeer; interface IFoo { void f([in] IPeer peer); }")
    (tmp_path / "idl/IPeer.idl").write_text("interface IPeer {\n    int 5();\n}")

    with pytest.raises(IdlError) as raised:
        parse_all("idl/IFoo.idl")

    assert str(raised.value).startswith("idl/IPeer.idl:2:9: ")


def test_only_interfaces_are_looked_for_beside_a_file(tmp_path: Path) -> None:
    for name in ("Want", "IPeer"):
        (tmp_path / f"{name}.idl").write_text("struct S { int a; };")
    (tmp_path / "IFoo.idl").write_text("sequenceable Want; interface IPeer; interface IFoo { void f(); }")
    document = parse_file(tmp_path / "IFoo.idl")
    found = {one.name: forward_file(document, one) for one in document.declarations if isinstance(one, External)}

    assert found == {"Want": None, "IPeer": (tmp_path / "IPeer.idl").resolve()}
    without_file = parse_string("interface IPeer; interface IFoo { void f(); }")
    (peer, _) = without_file.declarations
    assert isinstance(peer, External) and forward_file(without_file, peer) is None
