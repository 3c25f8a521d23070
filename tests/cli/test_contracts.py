"""cli/contracts.py: freezing and checking as real commands, showing and calling services of real processes."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import binderkit as bk
from binderkit import samgr
from binderkit.cli import contracts
from binderkit.cli.main import main
from tests.cli.test_main import run
from tests.samgr.processes import WAIT, Adder

Samgr = subprocess.Popen[bytes]
Capture = pytest.CaptureFixture[str]
NAME = "tests.many"

CONTRACT = """\
from binderkit.interface import Interface, method

class IBase(Interface, descriptor="demo.IBase"):
    @method
    def base(self) -> None: ...

class IPhoto(IBase, descriptor="demo.IPhoto", version={version}):
    @method
    def thumbnail(self, image: bytes, width: {width}) -> bytes: ...
    {more}

class Photos(IPhoto): ...
"""
WRONG = """\
from binderkit.interface import Interface, method

class IWrong(Interface, descriptor="demo.IWrong"):
    @method
    def wrong(self, anything: object) -> None: ...
"""


def write(folder: Path, *, version: int = 1, width: str = "int = 160", more: str = "") -> None:
    (folder / "demo_contract.py").write_text(CONTRACT.format(version=version, width=width, more=more))
    (folder / "demo_wrong.py").write_text(WRONG)


def interface(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``binderkit interface …`` in a folder that holds demo_contract.py."""
    command = [sys.executable, "-B", "-m", "binderkit.cli.main", "interface", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=WAIT, check=False, cwd=folder)


def test_freeze_then_check(tmp_path: Path) -> None:
    write(tmp_path)
    frozen = interface(tmp_path, "freeze", "demo_contract:IPhoto")
    assert (frozen.returncode, frozen.stderr) == (0, "")
    assert frozen.stdout == "contracts/demo.IPhoto/1.json\ncontracts/demo.IBase/1.json\n"
    assert interface(tmp_path, "freeze", "demo_contract:IPhoto", "demo_contract:IBase").returncode == 0
    same = interface(tmp_path, "check", "demo_contract:IPhoto")
    assert same.returncode == 0
    assert same.stdout == "demo.IPhoto version 1: as it was frozen\ndemo.IBase version 1: as it was frozen\n"

    write(tmp_path, version=2, more="@method\n    def more(self) -> int: ...")
    grown = interface(tmp_path, "check", "demo_contract:IPhoto")
    assert grown.returncode == 0 and "  ok      IPhoto.more: new; new clients of an old service" in grown.stdout

    write(tmp_path, version=1, width="str")
    broken = interface(tmp_path, "check", "demo_contract:IPhoto")
    assert broken.returncode == 1
    assert "  breaks  IPhoto.thumbnail(width): the type was int64 and is str" in broken.stdout
    assert "  breaks  IPhoto, its version: it is still 1" in broken.stdout
    again = interface(tmp_path, "freeze", "demo_contract:IPhoto")
    assert again.returncode == 1 and "is frozen with another contract" in again.stderr and again.stderr.count("\n") == 1


def test_check_goes_on_after_what_is_not_frozen(tmp_path: Path) -> None:
    write(tmp_path)
    assert interface(tmp_path, "freeze", "demo_contract:IBase", "--folder", "kept").returncode == 0
    ended = interface(tmp_path, "check", "demo_contract:IPhoto", "-f", "kept")
    assert ended.returncode == 1
    assert "no version of demo.IPhoto is frozen in kept" in ended.stderr
    assert ended.stdout == "demo.IBase version 1: as it was frozen\n"


@pytest.mark.parametrize(
    ("word", "why"),
    [
        ("demo_contract", "names no class; write MODULE:CLASS"),
        ("demo_contract.py:IPhoto", "names no class; write MODULE:CLASS"),
        ("demo_other:IPhoto", "No module named 'demo_other'"),
        ("demo_contract:INone", "has no attribute 'INone'"),
        ("demo_contract:Photos", "expected a class that declares an interface"),
        ("demo_wrong:IWrong", "IWrong.wrong(anything): object cannot travel"),
    ],
)
def test_words_that_name_no_contract(
    tmp_path: Path, capsys: Capture, monkeypatch: pytest.MonkeyPatch, word: str, why: str
) -> None:
    write(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for module in ("demo_contract", "demo_wrong"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    assert main(["interface", "check", word]) == 2
    assert why in " ".join(capsys.readouterr().err.replace("│", " ").split())


@pytest.mark.parametrize("arguments", [["interface"], ["interface", "freeze"], ["interface", "check"], ["show"]])
def test_help(capsys: Capture, arguments: list[str]) -> None:
    assert main([*arguments, "--help"]) == 0
    text = capsys.readouterr().out
    assert "Usage: binderkit" in text
    assert "MODULE:CLASS" in text or "ID|NAME" in text


# --- objects that run -------------------------------------------------------------------------------------------


@pytest.fixture
def many(running_samgr: Samgr) -> Iterator[bk.Child]:
    """A service with every type in a process of its own."""
    with bk.spawn("tests.cli.services:registered", NAME) as child:
        yield child


def test_show_prints_python_or_json(many: bk.Child, capsys: Capture) -> None:
    assert main(["show", NAME]) == 0
    text = capsys.readouterr().out
    ast.parse(text)
    assert "class IMany(Interface, descriptor='test.IMany', version=4):" in text
    assert main(["show", NAME, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["descriptor"] == "test.IMany"


def test_show_has_colours_in_a_terminal(many: bk.Child, capsys: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    def terminal() -> Console:
        return Console(force_terminal=True, color_system="256", width=120)

    monkeypatch.setattr(contracts, "Console", terminal)
    assert main(["show", NAME]) == 0
    text = capsys.readouterr().out
    assert "\x1b[" in text and "IMany" in text


def test_call_by_name(many: bk.Child, capsys: Capture, tmp_path: Path) -> None:
    path = tmp_path / "in"
    path.write_bytes(b"ab")

    def called(*words: str) -> Any:
        assert main(["call", NAME, *words]) == 0, capsys.readouterr().err
        return json.loads(capsys.readouterr().out)

    assert called("texts", "a=x=y", "b=hex:00", "c=base64:YWI=", f"d=@{path}") == [
        "x=y",
        "base64:AA==",
        "base64:YWJhYg==",
    ]
    assert called("defaults", "a=-1") == [-1, 2, 3, 1]
    assert called("IMany.defaults", "a=1", "d=long", "c=5", "b=4") == [1, 4, 5, 4]
    assert called("either", 'a={"width": 3}') == "Size(width=3, height=7, depth=8)"
    assert called("title") == "first"
    assert called("enums", "a=RED", "b=LOW", "c=READ", "d=x") == ["RED", "LOW", "READ", "'x'"]


def test_call_without_a_result_and_with_many(many: bk.Child, capsys: Capture) -> None:
    assert main(["call", NAME, "title", "value=\x1b[2Jé"]) == 0
    assert capsys.readouterr().out == ""
    assert main(["call", NAME, "title"]) == 0
    assert capsys.readouterr().out == '"\\u001b[2Jé"\n'
    assert main(["call", NAME, "items", "to=2"]) == 0
    assert [json.loads(line)["width"] for line in capsys.readouterr().out.splitlines()] == [0, 1]
    assert main(["call", NAME, "hint", "text=h"]) == 0
    assert "no reply" in capsys.readouterr().out
    assert main(["call", NAME, "hinted"]) == 0
    assert capsys.readouterr().out == '"h"\n'


WRONG_USAGE: list[tuple[list[str], str]] = [
    (["defaults"], "the argument 'a' (int64) is missing"),
    (["defaults", "a=x"], "IMany.defaults(a): expected int64, got str"),
    (["defaults", "5"], "'5' is no argument of a method; write NAME=VALUE"),
    (["defaults", "a=1", "a=2"], "the argument 'a' is there twice"),
    (["defaults", "a=1", "z=2"], "IMany.defaults(a, b, c, d) has no parameter 'z'"),
    (["defaults", "a=1", "--token"], "go with a transaction code"),
    (["level", "value=LOW"], "can only be read"),
    (["parcel", "a=1"], "Parcel is a Parcelable"),
]


def test_wrong_usage_ends_with_2(many: bk.Child, capsys: Capture) -> None:
    """One service for all of them."""
    for words, why in WRONG_USAGE:
        assert main(["call", NAME, *words]) == 2, words
        assert why in " ".join(capsys.readouterr().err.replace("│", " ").split()), words


def test_errors_of_calls_are_one_line(many: bk.Child, capsys: Capture) -> None:
    for words, why in (
        (["fly"], "there is no method or property 'fly'; there is IMany.numbers"),
        (["fail", "how=small"], "IMany.fail raised TooSmall(least=3, why='tiny') [code 20000]"),
        (["fail", "how=x"], "ValueError: undeclared"),
        (["texts", "a=", "b=@/does/not/exist", "c=hex:", "d=hex:"], "No such file"),
    ):
        assert main(["call", NAME, *words]) == 1
        text = capsys.readouterr().err
        assert why in text and text.count("\n") == 1


def test_an_object_without_a_contract(running_samgr: Samgr, capsys: Capture) -> None:
    samgr.add_system_ability("tests.adder", Adder())
    assert main(["show", "tests.adder"]) == 1
    assert "has no typed interface" in capsys.readouterr().err
    assert main(["call", "tests.adder", "add", "a=1"]) == 2
    assert "the object does not tell its methods" in " ".join(capsys.readouterr().err.replace("│", " ").split())


def test_a_service_that_lies(running_samgr: Samgr, capsys: Capture) -> None:
    class Liar(bk.RemoteObject):
        def on_remote_message_request(self, code: int, data: Any, reply: bk.MessageSequence, option: Any) -> bool:
            told = json.dumps([{"name": "\x1b[2J"}]).encode()
            reply.write_int(len(told))
            reply.write_raw_data_buffer(told, len(told))
            return True

    samgr.add_system_ability("tests.liar", Liar("tests.Liar"))
    for command in (["show", "tests.liar"], ["call", "tests.liar", "x"]):
        assert main(command) == 1
        assert "this is no description of an interface" in capsys.readouterr().err


def test_names_are_completed(running_samgr: Samgr) -> None:
    samgr.add_system_ability(0x1000, Adder(), name="tests.adder")
    samgr.add_system_ability("other.adder", Adder())
    assert contracts.complete_ability("tests.") == ["tests.adder"]
    names = sorted(contracts.complete_ability(""))
    assert names == ["binderkit.abilities", "binderkit.events", "binderkit.parameters", "other.adder", "tests.adder"]


def test_without_samgr_nothing_is_completed(device: Path) -> None:
    assert contracts.complete_ability("") == []
    assert list(device.iterdir()) == []


def test_the_shell_is_told(running_samgr: Samgr, monkeypatch: pytest.MonkeyPatch) -> None:
    samgr.add_system_ability("tests.adder", Adder())
    monkeypatch.setenv("_BINDERKIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "binderkit show te")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert "tests.adder" in run().stdout
