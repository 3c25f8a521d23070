"""lazy.py: names come when they are used, and nothing else does."""

from __future__ import annotations

import sys
from types import ModuleType

import pytest

from binderkit import ability, samgr
from binderkit.lazy import lazy_names


@pytest.fixture
def package(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    made = ModuleType("tests.a_package")
    monkeypatch.setitem(sys.modules, made.__name__, made)
    made.__getattr__, made.__dir__, made.__all__ = lazy_names(made.__name__, {"json": ("dumps",), "tests.none": ("x",)})  # type: ignore[attr-defined, method-assign]
    return made


def test_a_name_is_loaded_once_when_it_is_used(package: ModuleType) -> None:
    import json

    assert "dumps" not in vars(package)
    assert package.dumps is json.dumps
    assert vars(package)["dumps"] is json.dumps


def test_an_unknown_name_is_told_with_the_package(package: ModuleType) -> None:
    with pytest.raises(AttributeError, match=r"module 'tests.a_package' has no attribute 'load'"):
        package.load  # noqa: B018 - the access is the test


def test_what_there_is_is_listed_without_loading_it(package: ModuleType) -> None:
    assert {"dumps", "x"} <= set(dir(package))
    assert package.__all__ == ["dumps", "x"]
    assert "tests.none" not in sys.modules


@pytest.mark.parametrize("packed", [samgr, ability])
def test_every_public_name_can_be_loaded(packed: ModuleType) -> None:
    assert set(packed.__all__) <= set(dir(packed))
    assert all(getattr(packed, name) is not None for name in packed.__all__)
