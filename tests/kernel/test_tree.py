"""tests/kernel/guest/tree.py: which packages and files go along."""

from __future__ import annotations

import io
import subprocess
import sys
from importlib.metadata import distribution
from pathlib import Path

import pytest

from tests.kernel.guest import image, tree
from tests.kernel.guest.errors import GuestError
from tests.kernel.test_archive import parsed

HERE = f"{sys.version_info.major}.{sys.version_info.minor}"


def test_packages_come_with_what_they_need_and_without_what_is_not_installed() -> None:
    names = [package.name.lower() for package in tree.closure(["pytest-timeout", "no-such-package"])]
    assert {"pytest", "pluggy", "iniconfig", "packaging", "pygments", "pytest-timeout"} <= set(names)
    assert "colorama" not in names  # only on other systems
    assert names == sorted(names)


def test_a_compiled_package_fits_only_its_own_python() -> None:
    pure, compiled = distribution("pytest"), distribution("msgspec")
    assert tree.fits(pure, "3.99")
    assert tree.fits(compiled, HERE)
    assert not tree.fits(compiled, "3.99")


def test_a_package_is_copied_whole_without_its_programs(tmp_path: Path) -> None:
    tree._copy(distribution("pytest"), tmp_path)
    assert (tmp_path / "pytest/__init__.py").is_file()
    assert (tmp_path / "_pytest/pytester.py").is_file()
    assert not list(tmp_path.rglob("*.pyc"))
    assert {path.name for path in tmp_path.iterdir()} >= {"pytest", "_pytest"}
    assert not (tmp_path.parent / "bin").exists()


def test_a_folder_is_copied_without_compiled_files(tmp_path: Path) -> None:
    (tmp_path / "from/__pycache__").mkdir(parents=True)
    (tmp_path / "from/__pycache__/a.pyc").touch()
    (tmp_path / "from/a.py").touch()
    tree._copy_part(tmp_path / "from", tmp_path / "to")
    assert [path.name for path in (tmp_path / "to").iterdir()] == ["a.py"]


def test_everything_that_is_packed_exists() -> None:
    assert all((tree.ROOT / part).exists() for part in tree.PACKED)


def test_the_tree_goes_along_with_the_start_and_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    compiled: list[str] = []
    monkeypatch.setattr(image, "compile_with", lambda root, python, folder, place: compiled.append(place))
    target = io.BytesIO()
    tree.write_tree(image.Image(tmp_path, "3.11", "key"), "echo 'a b' | cat", 12.0, target)
    files = {name: content for name, _, content in parsed(target.getvalue())}
    assert files["command.sh"] == b"echo 'a b' | cat\n"
    assert files["guest.conf"] == b"TIME_LIMIT=12\n"
    assert files["init"] == tree.INIT.read_bytes()
    assert files["binderkit/pyproject.toml"] == (tree.ROOT / "pyproject.toml").read_bytes()
    assert "binderkit/src/binderkit/__init__.py" in files
    assert not any(name.endswith(".pyc") for name in files)
    assert compiled == ["/binderkit"]


def test_the_start_of_the_guest_is_a_shell_script() -> None:
    subprocess.run(["sh", "-n", tree.INIT], check=True)


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    with pytest.raises(GuestError, match="has no nothing"):
        tree._copy_part(tmp_path / "nothing", tmp_path / "to")
