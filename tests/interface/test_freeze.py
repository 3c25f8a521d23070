"""Frozen copies: written once, believed only as they were written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from binderkit.errors import ParamTypeError, ParamValueError
from binderkit.interface import Interface, method
from binderkit.interface.contract import description_hash
from binderkit.interface.freeze import check, freeze, frozen_versions
from tests.interface.many_types import IMany, Many


class IOne(Interface, descriptor="test.IGrows"):
    @method
    def first(self) -> None:
        """Words."""


class IOther(Interface, descriptor="test.IGrows"):
    @method
    def first(self, more: int) -> None: ...


class IWords(Interface, descriptor="test.IGrows"):
    """Other words, the same contract."""

    @method
    def first(self) -> None: ...


class ITwo(Interface, descriptor="test.IGrows", version=2):
    @method
    def first(self) -> None: ...
    @method
    def second(self) -> None: ...


IWords.__contract__.interface.__name__ = "IOne"


def test_a_copy_is_written_once(tmp_path: Path) -> None:
    path = freeze(IOne, tmp_path / "contracts")
    assert path == tmp_path / "contracts" / "test.IGrows" / "1.json"
    copy = json.loads(path.read_text())
    assert copy == {"hash": IOne.__contract__.hash, "description": IOne.__contract__.describe()}
    before = path.stat().st_mtime_ns
    assert freeze(IOne, tmp_path / "contracts") == path == freeze(IWords, tmp_path / "contracts")
    assert path.stat().st_mtime_ns == before
    with pytest.raises(ParamValueError, match=r"version 1 is frozen with another contract .* declare version=2"):
        freeze(IOther, tmp_path / "contracts")
    assert json.loads(path.read_text()) == copy


def test_check_compares_with_the_newest(tmp_path: Path) -> None:
    freeze(IOne, tmp_path)
    assert check(IOne, tmp_path) == []
    assert [change.where for change in check(ITwo, tmp_path)] == ["ITwo.second", "ITwo.first"][:1]
    assert [change.severity for change in check(IOther, tmp_path)] == ["breaks", "breaks"]
    freeze(ITwo, tmp_path)
    assert frozen_versions(tmp_path / "test.IGrows") == [1, 2]
    assert check(ITwo, tmp_path) == []
    assert {change.severity for change in check(IOne, tmp_path)} == {"breaks"}
    with pytest.raises(ParamValueError, match=r"version 2 is frozen already, the contract says version 1"):
        freeze(IOne, tmp_path)


def test_all_types_survive_the_copy(tmp_path: Path) -> None:
    freeze(IMany, tmp_path)
    assert check(IMany, tmp_path) == []
    assert description_hash(IMany.__contract__.describe()) == IMany.__contract__.hash


def test_nothing_frozen(tmp_path: Path) -> None:
    with pytest.raises(ParamValueError, match=r"no version of test.IGrows is frozen in .*binderkit interface freeze"):
        check(IOne, tmp_path)
    (tmp_path / "test.IGrows").mkdir()
    (tmp_path / "test.IGrows" / "README.json").touch()
    with pytest.raises(ParamValueError, match="no version of"):
        check(IOne, tmp_path)


def edited(copy: dict[str, Any]) -> None:
    copy["description"]["methods"][0]["code"] = 5


def broken(copy: dict[str, Any]) -> None:
    del copy["description"]["methods"]


def empty(copy: dict[str, Any]) -> None:
    copy.clear()


@pytest.mark.parametrize(
    ("edit", "text"), [(edited, "was edited"), (broken, "'methods' is missing"), (empty, "is no frozen contract")]
)
def test_an_edited_copy_is_refused(tmp_path: Path, edit: Any, text: str) -> None:
    path = freeze(IOne, tmp_path)
    copy = json.loads(path.read_text())
    edit(copy)
    path.write_text(json.dumps(copy))
    for use in (check, freeze):
        with pytest.raises(ParamValueError, match=text):
            use(IOne, tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[1]", "[" * 100_000])
def test_a_file_that_is_no_copy(tmp_path: Path, text: str) -> None:
    freeze(IOne, tmp_path).write_text(text)
    with pytest.raises(ParamValueError, match="is no frozen contract"):
        check(IOne, tmp_path)


def test_a_descriptor_stays_within_the_folder(tmp_path: Path) -> None:
    class IFar(Interface, descriptor="../../x/IFar"):
        @method
        def first(self) -> None: ...

    class IDots(Interface, descriptor=".."):
        @method
        def first(self) -> None: ...

    assert freeze(IFar, tmp_path).parent.parent == tmp_path
    assert check(IFar, tmp_path) == []
    with pytest.raises(ParamValueError, match="gives no name for a folder"):
        freeze(IDots, tmp_path)


def test_only_interfaces_are_frozen(tmp_path: Path) -> None:
    with pytest.raises(ParamTypeError, match="expected a class that declares an interface"):
        freeze(Many, tmp_path)
