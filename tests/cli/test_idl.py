"""cli/idl.py: IDL files become modules that import, contracts become IDL; every refusal says why."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from binderkit.cli import contracts, idl
from binderkit.cli.main import main
from binderkit.interface.idl import parse_file, to_python
from tests.cli.test_main import run
from tests.interface.idl import golden

Capture = pytest.CaptureFixture[str]
GOLDEN = Path(golden.__path__[0])
MODULES = sorted(path.relative_to(GOLDEN) for path in GOLDEN.rglob("*.py") if path.name != "__init__.py")

WANTING = """\
package demo;
sequenceable OHOS.AAFwk.Want;
rawdata Blob;
interface IShow {
    void start([in] Want want, [in] Blob blob);
}
"""
CONTRACT = """\
from binderkit.interface import Int32, Interface, Property, method

class IBase(Interface, descriptor="demo.IBase"):
    @method
    def base(self) -> None: ...

class IPhoto(IBase, descriptor="demo.IPhoto"):
    @method
    def thumbnail(self, name: str, width: Int32) -> bool: ...

class ITitled(Interface, descriptor="demo.ITitled"):
    title = Property(str)
"""
PHOTO_IDL = """\
package demo;

import IBase;

interface IPhoto extends IBase {
    boolean thumbnail([in] String name, [in] int width);
}
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder that is the current one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def words_of(text: str) -> str:
    """Undo the frame and the line breaks of a usage error."""
    return " ".join(text.replace("│", " ").split())


# --- to-python ----------------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [[], ["-o", "-"]])
def test_one_module_is_printed_and_the_others_are_named(capsys: Capture, arguments: list[str]) -> None:
    assert main(["idl", "to-python", str(GOLDEN / "IMedia.idl"), *arguments]) == 0
    told = capsys.readouterr()
    assert told.out == (GOLDEN / "i_media.py").read_text()
    others = ("MediaTypes.idl", "callback/IMediaCallback.idl", "IBase.idl", "IPeer.idl")
    assert all(str(GOLDEN / other) in told.err for other in others)
    assert "-o DIR writes all modules" in told.err and told.err.count("\n") == 1


def test_a_file_that_needs_no_other_is_printed_without_a_note(capsys: Capture) -> None:
    assert main(["idl", "to-python", str(GOLDEN / "MediaTypes.idl")]) == 0
    told = capsys.readouterr()
    assert (told.out, told.err) == ((GOLDEN / "media_types.py").read_text(), "")


def test_a_folder_gets_every_module_and_they_import(here: Path, capsys: Capture) -> None:
    assert main(["idl", "to-python", str(GOLDEN / "IMedia.idl"), "-o", "app/media"]) == 0
    assert sorted(capsys.readouterr().out.splitlines()) == sorted(f"app/media/{place} written" for place in MODULES)
    for place in MODULES:
        assert (here / "app/media" / place).read_text() == (GOLDEN / place).read_text()
    code = "import app.media.i_media as m; print(m.IMedia.__contract__.descriptor)"
    command = [sys.executable, "-B", "-c", code]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, cwd=here, timeout=30)
    assert (ended.stdout, ended.stderr) == ("ohos.media.IMedia\n", "")


def test_files_of_folders_beside_keep_their_places(here: Path, capsys: Capture) -> None:
    (here / "idl/main").mkdir(parents=True)
    (here / "idl/types").mkdir()
    (here / "idl/types/Sizes.idl").write_text("struct Size { int width; };")
    text = "import ../types/Sizes; interface IFoo { void f([in] Size size); }"
    (here / "idl/main/IFoo.idl").write_text(text)
    assert main(["idl", "to-python", "idl/main/IFoo.idl", "--output", "out"]) == 0
    assert capsys.readouterr().out == "out/main/i_foo.py written\nout/types/sizes.py written\n"
    assert "from ..types.sizes import Size\n" in (here / "out/main/i_foo.py").read_text()


def test_what_is_there_is_kept_unless_forced(here: Path, capsys: Capture) -> None:
    shutil.copytree(GOLDEN, here / "idl", ignore=shutil.ignore_patterns("*.py", "__pycache__"))
    command = ["idl", "to-python", "idl/IMedia.idl", "-o", "out"]
    assert main(command) == 0
    (here / "out/i_base.py").write_text("# mine\n")
    (here / "out/i_peer.py").unlink()
    capsys.readouterr()

    assert main(command) == 1
    told = capsys.readouterr()
    assert told.out == "" and "nothing was written" in told.err and "out/i_base.py; --force overwrites" in told.err
    assert (here / "out/i_base.py").read_text() == "# mine\n"
    assert not (here / "out/i_peer.py").exists()

    assert main([*command, "--force"]) == 0
    lines = set(capsys.readouterr().out.splitlines())
    assert {"out/i_base.py written", "out/i_peer.py written", "out/i_media.py is up to date"} <= lines
    assert (here / "out/i_base.py").read_text() == (GOLDEN / "i_base.py").read_text()


def test_classes_stand_for_what_the_idl_only_names(here: Path, capsys: Capture) -> None:
    (here / "IShow.idl").write_text(WANTING)
    given = {"OHOS.AAFwk.Want": "app.want:Want", "Blob": "app.data:Data"}
    assert main(["idl", "to-python", "IShow.idl", *(f"--class={name}={to}" for name, to in given.items())]) == 0
    text = capsys.readouterr().out
    assert text == to_python(parse_file("IShow.idl"), classes=given)
    assert "from app.data import Data as Blob\nfrom app.want import Want\n" in text


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["--class", "Want"], "write NAME=MODULE:CLASS"),
        (["--class", "Want="], "write NAME=MODULE:CLASS"),
        (["--class", "Want=app.want"], "Want is given as 'app.want'; write package.module:Class"),
        (["--class", "Wnat=app.want:Want"], "is called so (Blob, OHOS.AAFwk.Want)"),
        (["--class", "Want=a:B", "--class", "Want=a:C"], "--class Want is given twice"),
        (["-o", "show.py"], "-o takes a folder"),
        (["-o", "IShow.idl"], "-o takes a folder"),
    ],
)
def test_wrong_usage_of_to_python(here: Path, capsys: Capture, arguments: list[str], why: str) -> None:
    (here / "IShow.idl").write_text(WANTING)
    assert main(["idl", "to-python", "IShow.idl", *arguments]) == 2
    told = capsys.readouterr()
    assert why in words_of(told.err) and told.out == ""
    assert [path.name for path in here.iterdir()] == ["IShow.idl"]


def test_a_remote_object_takes_no_class(here: Path, capsys: Capture) -> None:
    (here / "IFoo.idl").write_text("sequenceable OHOS.IRemoteObject; interface IFoo { void f([in] IRemoteObject o); }")
    assert main(["idl", "to-python", "IFoo.idl", "--class", "IRemoteObject=a:B"]) == 2
    assert "(there is none)" in words_of(capsys.readouterr().err)


def test_an_error_shows_file_line_column_the_line_and_a_caret(here: Path, capsys: Capture) -> None:
    (here / "IFoo.idl").write_text("interface IFoo {\n\tvoid f([in] Sise \x1b[2Jsize);\n}\n")
    assert main(["idl", "to-python", "IFoo.idl"]) == 1
    line, shown, caret = capsys.readouterr().err.splitlines()
    assert line.startswith("binderkit: IFoo.idl:2:19: unexpected '\\x1b'")
    assert shown == "    \tvoid f([in] Sise \ufffd[2Jsize);"
    assert caret == "    \t                 ^"

    (here / "IFoo.idl").write_text("interface IFoo {\n    void f([in] CString name);\n}\n")
    assert main(["idl", "to-python", "IFoo.idl", "-o", "out"]) == 1
    line, shown, caret = capsys.readouterr().err.splitlines()
    assert line.startswith("binderkit: IFoo.idl:2:17: a CString travels") and line.endswith("a String on both sides")
    assert caret.index("^") == shown.index("CString")
    assert not (here / "out").exists()


def test_an_error_in_an_imported_file_names_that_one(here: Path, capsys: Capture) -> None:
    (here / "IFoo.idl").write_text("import sub/Types; interface IFoo { void f(); }")
    (here / "sub").mkdir()
    (here / "sub/Types.idl").write_text("struct S { Ashmem a; };")
    assert main(["idl", "to-python", "IFoo.idl"]) == 1
    assert capsys.readouterr().err.startswith("binderkit: sub/Types.idl:1:12: Ashmem exists in HDI mode only")


@pytest.mark.parametrize(("name", "why"), [("IGone.idl", "No such file"), ("foo.txt", "name ends in .idl")])
def test_what_is_no_idl_file(here: Path, capsys: Capture, name: str, why: str) -> None:
    assert main(["idl", "to-python", name]) == 1
    told = capsys.readouterr().err
    assert told.startswith(f"binderkit: {name}: ") and why in told and told.count("\n") == 1


def test_folders_and_files_that_cannot_be_modules(here: Path, capsys: Capture) -> None:
    (here / "my-idl").mkdir()
    (here / "Types.idl").write_text("struct S { int a; };")
    (here / "my-idl/IFoo.idl").write_text("import ../Types; interface IFoo { void f([in] S s); }")
    assert main(["idl", "to-python", "my-idl/IFoo.idl", "-o", "out"]) == 1
    assert "lies in the folder 'my-idl', which cannot be a Python package" in capsys.readouterr().err

    (here / "types.idl").write_text("struct T { int a; };")
    (here / "IBar.idl").write_text("import Types; import types; interface IBar { void f([in] S s, [in] T t); }")
    assert main(["idl", "to-python", "IBar.idl", "-o", "out"]) == 1
    assert "Types.idl and types.idl would both become types.py; rename one" in capsys.readouterr().err
    assert not (here / "out").exists()


@pytest.mark.parametrize("debug", [[], ["--debug"]])
def test_without_lark_it_says_what_to_install(debug: list[str]) -> None:
    hidden = "import sys; sys.modules['lark'] = None; from binderkit.cli.main import main; sys.exit(main())"
    ended = run(*debug, "idl", "to-python", str(GOLDEN / "IBase.idl"), code=hidden)
    assert ended.returncode == 1 and ended.stdout == ""
    assert 'install it: pip install "binderkit[idl]"\n' in ended.stderr
    assert (ended.stderr.count("\n") == 1) is (not debug)
    assert ("Traceback" in ended.stderr) is bool(debug)


# --- from-python --------------------------------------------------------------------------------


@pytest.fixture
def contract(here: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, with a module of contracts that the command finds there."""
    (here / "idl_contract.py").write_text(CONTRACT)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    monkeypatch.delitem(sys.modules, "idl_contract", raising=False)
    return here


def test_a_contract_is_printed_as_idl(contract: Path, capsys: Capture) -> None:
    assert main(["idl", "from-python", "idl_contract:IPhoto"]) == 0
    told = capsys.readouterr()
    assert told.out == PHOTO_IDL
    assert told.err == "binderkit: demo.IPhoto extends IBase; its file must lie beside this one, so write it too\n"


@pytest.mark.parametrize("output", ["idl", "idl/IPhoto.idl"])
def test_a_contract_goes_to_a_file_that_reads_back(contract: Path, capsys: Capture, output: str) -> None:
    (contract / "idl").mkdir()
    assert main(["idl", "from-python", "idl_contract:IPhoto", "-o", output]) == 0
    assert main(["idl", "from-python", "idl_contract:IBase", "-o", "idl"]) == 0
    assert capsys.readouterr().out == "idl/IPhoto.idl written\nidl/IBase.idl written\n"
    assert (contract / "idl/IPhoto.idl").read_text() == PHOTO_IDL
    interface = parse_file("idl/IPhoto.idl").interface
    assert interface is not None and interface.descriptor == "demo.IPhoto"

    assert main(["idl", "from-python", "idl_contract:IPhoto", "-o", output]) == 0
    assert capsys.readouterr().out == "idl/IPhoto.idl is up to date\n"
    (contract / "idl/IPhoto.idl").write_text("// mine\n")
    assert main(["idl", "from-python", "idl_contract:IPhoto", "-o", output]) == 1
    assert "idl/IPhoto.idl; --force overwrites" in capsys.readouterr().err
    assert main(["idl", "from-python", "idl_contract:IPhoto", "-o", output, "--force"]) == 0
    assert (contract / "idl/IPhoto.idl").read_text() == PHOTO_IDL


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["idl_contract"], 2, "names no class; write MODULE:CLASS"),
        (["idl_contract:INone"], 2, "has no attribute 'INone'"),
        (["idl_contract:Property"], 2, "expected a class that declares an interface"),
        (["idl_contract:IPhoto", "-o", "photo.idl"], 2, "is called as the interface, IPhoto.idl; got 'photo.idl'"),
        (["idl_contract:ITitled"], 1, "binderkit: demo.ITitled.title is a property; IDL has none"),
    ],
)
def test_contracts_that_do_not_become_idl(
    contract: Path, capsys: Capture, arguments: list[str], code: int, why: str
) -> None:
    assert main(["idl", "from-python", *arguments]) == code
    told = capsys.readouterr()
    assert why in words_of(told.err) and told.out == ""
    assert [path.name for path in contract.iterdir()] == ["idl_contract.py"]


def test_from_python_does_without_lark(contract: Path) -> None:
    hidden = "import sys; sys.modules['lark'] = None; from binderkit.cli.main import main; sys.exit(main())"
    ended = run("idl", "from-python", "idl_contract:IBase", code=hidden)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert "interface IBase {" in ended.stdout


# --- help and completion ------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["to-python", "from-python"])
def test_help_has_an_example(capsys: Capture, command: str) -> None:
    assert main(["idl", "--help"]) == 0
    text = words_of(capsys.readouterr().out)
    assert command in text and "pip install 'binderkit[idl]'" in text
    assert main(["idl", command, "--help"]) == 0
    assert f"Examples: binderkit idl {command}" in words_of(capsys.readouterr().out)


def test_a_terminal_gets_colours(capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contracts, "Console", lambda: Console(force_terminal=True, color_system="256", width=120))
    for words in (["to-python", str(GOLDEN / "IBase.idl")], ["from-python", "tests.interface.idl.golden.i_base:IBase"]):
        assert main(["idl", *words]) == 0
        text = capsys.readouterr().out
        assert "\x1b[" in text and "Base" in text


def test_idl_files_and_folders_are_completed(here: Path) -> None:
    for name in ("IFoo.idl", "IBar.idl", "foo.py", ".hidden.idl"):
        (here / name).touch()
    (here / "sub").mkdir()
    (here / "sub/ISub.idl").touch()
    assert idl.complete_idl("") == ["IBar.idl", "IFoo.idl", "sub/"]
    assert idl.complete_idl("IF") == ["IFoo.idl"]
    assert idl.complete_idl("sub/") == ["sub/ISub.idl"]
    assert idl.complete_idl(f"{here}/su") == [f"{here}/sub/"]
    assert idl.complete_idl("gone/") == []


def test_the_shell_is_told(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "IFoo.idl").touch()
    monkeypatch.setenv("_BINDERKIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "binderkit idl to-python I")
    monkeypatch.setenv("COMP_CWORD", "3")
    assert run().stdout.split() == ["IFoo.idl"]
