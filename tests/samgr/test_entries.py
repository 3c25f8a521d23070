"""samgr/entries.py: from "module:Class" and files to abilities, and every kind of mistake."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import binderkit as bk
from binderkit.errors import ServiceError
from binderkit.samgr.entries import load_entry, make_ability
from binderkit.samgr.system_ability import PublishedObject, SystemAbility

ABILITY = """
from binderkit.samgr.system_ability import SystemAbility

class Clock(SystemAbility):
    class Inner(SystemAbility):
        pass
"""


@pytest.fixture(autouse=True)
def modules() -> Iterator[None]:
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.startswith("binderkit_entry_"):
            del sys.modules[name]


def written(directory: Path, name: str, text: str) -> str:
    (directory / name).write_text(text)
    return name


def test_a_class_of_a_module_and_one_inside_a_class(tmp_path: Path) -> None:
    maker = load_entry("binderkit.samgr.system_ability:SystemAbility", tmp_path)
    assert maker is SystemAbility
    name = written(tmp_path, "clock.py", ABILITY)
    assert type(make_ability(name, load_entry(f"{name}:Clock.Inner", tmp_path))).__name__ == "Inner"


def test_a_file_alone_has_exactly_one_ability(tmp_path: Path) -> None:
    name = written(tmp_path, "json.py", ABILITY)
    made = make_ability(name, load_entry(name, tmp_path))
    assert type(made).__name__ == "Clock" and type(made).__module__ in sys.modules
    assert sys.modules["json"].__name__ == "json" and hasattr(sys.modules["json"], "loads")
    assert load_entry(str(tmp_path / name), Path("/")) is type(made)  # the same file is executed once


def test_a_plain_object_becomes_an_ability_that_publishes_it(tmp_path: Path) -> None:
    name = written(
        tmp_path,
        "plain.py",
        "import binderkit as bk\n"
        "class Thing(bk.RemoteObject):\n    def __init__(self): super().__init__('tests.Thing')\n",
    )
    made = make_ability(name, load_entry(f"{name}:Thing", tmp_path))
    assert isinstance(made, PublishedObject) and isinstance(made._remote, bk.RemoteObject)


@pytest.mark.parametrize(
    ("entry", "text", "why"),
    [
        ("nowhere.at_all:Clock", "", "cannot be imported: ModuleNotFoundError: No module named 'nowhere'"),
        ("missing.py:Clock", "", "cannot be imported: FileNotFoundError"),
        ("bad.py:Clock", "class (", "cannot be imported: SyntaxError"),
        ("bad.py:Clock", "raise ValueError('no camera')", "cannot be imported: ValueError: no camera"),
        ("bad.py:Clock", "raise SystemExit(3)", "cannot be imported: SystemExit: 3"),
        ("bad.py:Clock", "", "has nothing called 'Clock'"),
        ("bad.py:Clock", "Clock = 5", "has int called 'Clock'"),
        ("bad.py:Clock.Inner", ABILITY.replace("Inner", "Other"), "nothing called 'Clock.Inner'"),
        ("bad.py", "", "defines 0 system abilities (none); write 'bad.py:Class'"),
        ("bad.py", ABILITY + "class Two(SystemAbility): pass\n", "defines 2 system abilities (Clock, Two)"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, entry: str, text: str, why: str) -> None:
    if text or entry == "bad.py" or "nothing" in why:
        written(tmp_path, "bad.py", text)
    with pytest.raises(ServiceError) as caught:
        load_entry(entry, tmp_path)
    assert why in str(caught.value) and repr(entry) in str(caught.value)
    assert not [name for name in sys.modules if name.startswith("binderkit_entry_bad")] or "imported" not in why


@pytest.mark.parametrize("made", [None, 5, "text", object])
def test_an_entry_that_makes_something_else_is_refused(made: object) -> None:
    with pytest.raises(ServiceError, match=r"the entry 'm:f' made .*; a SystemAbility or a remote object") as caught:
        make_ability("m:f", lambda: made)
    assert caught.value.code == 1022
