from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from binderkit import Parcelable
from binderkit.interface import Interface
from binderkit.interface.idl import IdlError, module_name, parse_file, parse_string, to_python

GOLDEN = Path(__file__).parent / "golden"
ROOT = Path(__file__).parents[3]
FILES = sorted(GOLDEN.rglob("*.idl"))


def load(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Write the modules for every IDL file in a folder, import it as a package and return one module."""
    for path in folder.rglob("*.idl"):
        for parent in {path.parent, folder}:
            (parent / "__init__.py").touch()
        (path.parent / f"{module_name(path.stem)}.py").write_text(to_python(parse_file(path)))
    monkeypatch.syspath_prepend(str(folder.parent))
    try:
        return importlib.import_module(f"{folder.name}.{name}")
    finally:
        for imported in [one for one in sys.modules if one.split(".")[0] == folder.name]:
            del sys.modules[imported]


def python(text: str, **classes: str) -> str:
    return to_python(parse_string(text), classes={name.replace("__", "."): value for name, value in classes.items()})


# --- golden files -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_the_written_module_is_the_golden_one(path: Path) -> None:
    golden = path.with_name(f"{module_name(path.stem)}.py")

    assert to_python(parse_file(path)) == golden.read_text()


def test_there_is_a_golden_module_for_every_file() -> None:
    written = {path.with_name(f"{module_name(path.stem)}.py") for path in FILES}

    assert written == {path for path in GOLDEN.rglob("*.py") if path.name != "__init__.py"}
    assert len(written) == 5


@pytest.mark.parametrize("command", ["format --check --line-length 120 --isolated", "check --quiet"])
def test_golden_modules_are_what_ruff_wants(command: str) -> None:
    arguments = [sys.executable, "-m", "ruff", *command.split(), str(GOLDEN)]
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, cwd=ROOT)

    assert done.returncode == 0, done.stdout + done.stderr


def test_golden_modules_pass_mypy_strict() -> None:
    command = [sys.executable, "-m", "mypy", "--strict", str(GOLDEN)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)

    assert [line for line in done.stdout.splitlines() if "golden" in line and "error" in line] == []
    assert "files" in done.stdout  # it got as far as its summary


# --- contracts ----------------------------------------------------------------------------------


def test_the_contract_has_the_codes_and_the_order_of_the_idl() -> None:
    interface = parse_file(GOLDEN / "IMedia.idl").interface
    module = importlib.import_module("tests.interface.idl.golden.i_media")
    contract = module.IMedia.__contract__
    assert interface is not None

    assert contract.descriptor == interface.descriptor == "ohos.media.IMedia"
    assert [method.code for method in contract.methods.values()] == [method.code for method in interface.methods]
    assert [method.oneway for method in contract.methods.values()] == [method.oneway for method in interface.methods]
    assert [(name, method.code) for name, method in contract.methods.items()][:9] == [
        ("ping", 1),
        ("notify", 2),
        ("basics", 3),
        ("unsigneds", 4),
        ("strings", 5),
        ("files", 6),
        ("divide", 20),
        ("get_http_status", 21),
        ("size_of", 48),
    ]


def test_inherited_methods_keep_the_descriptor_of_their_interface() -> None:
    module = importlib.import_module("tests.interface.idl.golden.i_media")

    (base,) = module.IMedia.__contract__.bases
    assert base.descriptor == "com.example.legacy.Base"
    assert {name: method.code for name, method in base.methods.items()} == {"version": 1}


@pytest.mark.parametrize("first", ["i_media", "i_peer"])
def test_files_that_announce_each_other_can_be_imported_in_any_order(
    first: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / f"announced_{first}"
    folder.mkdir()
    (folder / "IMedia.idl").write_text("package p; interface IPeer; interface IMedia { IPeer peer(); }")
    (folder / "IPeer.idl").write_text("package p; interface IMedia; interface IPeer { void meet([in] IMedia media); }")
    module = load(folder, first, monkeypatch)

    media, peer = module.IMedia.__contract__, module.IPeer.__contract__
    assert media.methods["peer"].result_hint is module.IPeer
    assert peer.methods["meet"].parameters[0].hint is module.IMedia


def test_an_announced_interface_can_lie_in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "announced_folder"
    (folder / "sub").mkdir(parents=True)
    (folder / "IFoo.idl").write_text("interface sub.IBar..x.IBar; interface x.IFoo { IBar bar(); }")
    (folder / "sub" / "IBar.idl").write_text("interface x.IBar { void ping(); }")
    module = load(folder, "i_foo", monkeypatch)

    assert list(module.IFoo.__contract__.methods["bar"].result_hint.__contract__.methods) == ["ping"]


def test_an_external_type_of_two_files_is_one_class(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "shared_external"
    folder.mkdir()
    (folder / "Types.idl").write_text("sequenceable x.Want; rawdata x.Blob; struct S { Want want; };")
    (folder / "IFoo.idl").write_text(
        "sequenceable x.Want; import Types; rawdata x.Blob; interface IFoo { Want f([in] S s, [in] Blob b); }"
    )
    module = load(folder, "i_foo", monkeypatch)

    assert module.Want.__module__ == module.Blob.__module__ == "shared_external.types"
    assert module.IFoo.__contract__.methods["f"].result_hint is module.Want


def test_a_sequenceable_without_a_class_says_so_when_it_is_used() -> None:
    module = importlib.import_module("tests.interface.idl.golden.i_media")

    assert issubclass(module.Want, Parcelable)
    with pytest.raises(NotImplementedError, match=r"Want\.marshalling is not written yet"):
        module.Want().marshalling(None)


# --- choices ------------------------------------------------------------------------------------


def test_external_types_can_be_given_as_classes() -> None:
    text = python(
        """sequenceable OHOS.AAFwk.Want; rawdata Blob; interface x.IOther;
        interface IFoo { Want f([in] Blob blob, [in] IOther other); }""",
        OHOS__AAFwk__Want="app.want:Wish",
        Blob="app.blob:Blob",
        IOther="..other:IOther",
    )

    assert "\nfrom app.blob import Blob\nfrom app.want import Wish as Want\n" in text
    assert text.endswith("\nfrom ..other import IOther  # noqa: E402\n")
    assert "class Want" not in text and "class Blob" not in text and "class IOther" not in text


@pytest.mark.parametrize("given", ["want", "app.want:", "app want:Want", "a:b:c", ":Want", "app.want:Want()"])
def test_a_class_is_given_as_module_and_name(given: str) -> None:
    with pytest.raises(ValueError, match=r"write package\.module:Class"):
        python("sequenceable Want; interface IFoo { Want f(); }", Want=given)


def test_an_interface_that_is_only_announced_is_known_by_its_descriptor() -> None:
    text = python("package a.b; /* About it. */ interface IBar; interface IFoo { IBar f(); }")

    assert 'class IBar(Interface, descriptor="a.b.IBar"):' in text
    assert "Declared elsewhere" in python("interface x.IBar; interface IFoo { IBar f(); }")


def test_an_interface_can_speak_of_itself() -> None:
    text = python("interface IFoo; interface IFoo { IFoo f([in] IFoo other); }")

    assert text.count("class IFoo") == 1
    assert "def f(self, other: IFoo) -> IFoo: ..." in text


def test_names_that_python_or_the_module_needs_get_an_underscore() -> None:
    text = python(
        """struct list { int a; }; enum method { packed = 1, mro, imag };
        interface IFoo {
            list sendRequest([in] method self, [in] int def);
            void dict(); void Method(); void _x(); void x();
        }"""
    )

    assert "class list_:" in text and "class method_(IntEnum):" in text
    assert "    mro_ = 2\n    imag_ = 3\n" in text
    assert "def send_request_(self, self_: method_, def_: Int32) -> list_: ..." in text
    assert "def dict_(self)" in text and "def method_2(self)" in text
    assert "def x(self)" in text and "def x_(self)" in text


def test_a_file_of_nothing_is_a_module_of_nothing() -> None:
    assert python("").splitlines()[-1] == "from __future__ import annotations"


def test_quotes_in_a_licence_and_comments_cannot_leave_them() -> None:
    text = python(
        '/* """\n * import os\n */\n/* """ + boom() + """ \\ */ struct S { // x\n /* a\nimport os */ int a; };'
    )
    namespace: dict[str, object] = {}
    compiled = compile(text, "generated", "exec")

    assert "boom" not in compiled.co_names and "os" not in compiled.co_names and namespace == {}


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("interface IFoo { void f([in] CString s); }", "make it a String on both sides"),
        ("struct list { int a; }; struct list_ { int a; };", "list and list_ are both list_ in Python"),
    ],
)
def test_what_python_cannot_say(text: str, reason: str) -> None:
    with pytest.raises(IdlError) as raised:
        python(text)

    assert reason in raised.value.reason
    assert raised.value.line == 1


def test_a_folder_that_is_no_package_cannot_be_imported_from(tmp_path: Path) -> None:
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "Types.idl").write_text("struct S { int a; };")
    (tmp_path / "IFoo.idl").write_text("import class/Types; interface IFoo { S f(); }")

    with pytest.raises(IdlError, match=r"'class' in the path of Types\.idl cannot be the name of a Python package"):
        to_python(parse_file(tmp_path / "IFoo.idl"))


def test_the_public_names() -> None:
    assert issubclass(importlib.import_module("tests.interface.idl.golden.i_base").IBase, Interface)
    package = importlib.import_module("binderkit.interface.idl")
    assert {name: callable(getattr(package, name)) for name in package.__all__} == dict.fromkeys(package.__all__, True)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = package.nothing


def test_generated_modules_do_without_lark() -> None:
    code = "import sys; sys.modules['lark'] = None; import tests.interface.idl.golden.i_media as m; print(m.IMedia)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert done.stdout == "<class 'tests.interface.idl.golden.i_media.IMedia'>\n"


def test_without_lark_reading_says_what_to_install() -> None:
    code = """
import sys
sys.modules['lark'] = None
from binderkit.interface.idl import parse_string
try:
    parse_string("interface IFoo { }")
except ModuleNotFoundError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)

    assert done.stdout == 'reading IDL needs the package lark; install it: pip install "binderkit[idl]"\n'
