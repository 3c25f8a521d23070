"""The child's side of spawn: how a name becomes an object."""

from __future__ import annotations

from pathlib import Path

import pytest

from binderkit import child


def test_a_class_of_a_module() -> None:
    assert child.load("collections:OrderedDict") is __import__("collections").OrderedDict


def test_an_attribute_of_an_attribute() -> None:
    assert child.load("os.path:sep.join")("ab") == "a/b"


def test_a_script_is_loaded_without_running_its_main_part(tmp_path: Path) -> None:
    script = tmp_path / "service.py"
    script.write_text("class Service:\n    inner = 5\nif __name__ == '__main__':\n    raise SystemExit('main ran')\n")
    assert child.load(f"{script}:Service.inner") == 5


@pytest.mark.parametrize("name", ["binderkit_nowhere:X", "os:nothing"])
def test_a_name_that_is_not_there(name: str) -> None:
    with pytest.raises((ImportError, AttributeError)):
        child.load(name)
