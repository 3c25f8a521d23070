"""Fixtures with a device that has an ability manager and a bundle."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from binderkit import process
from tests.ability.device import device_process, wait_until_no_host_runs

BUNDLE = Path(__file__).parent / "test.bundle"


@contextmanager
def _directory_with_bundle() -> Iterator[Path]:
    """A runtime directory with the tests' bundle, named by BINDERKIT_RUNTIME_DIR."""
    root = str(Path(__file__).parent.parent.parent)
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory(prefix="bk-") as name:
        path = Path(name)
        patch.setenv("BINDERKIT_RUNTIME_DIR", name)
        patch.setenv("BINDERKIT_NO_AUTOSTART", "1")
        patch.setenv("PYTHONPATH", os.pathsep.join([root, os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep))
        patch.setenv("PYTHONDONTWRITEBYTECODE", "1")
        (path / "bundles").mkdir(mode=0o700)
        shutil.copytree(BUNDLE, path / "bundles" / BUNDLE.name, ignore=shutil.ignore_patterns("__pycache__"))
        (path / "bundles" / BUNDLE.name).chmod(0o700)
        yield path


@pytest.fixture(scope="module")
def shared_directory() -> Iterator[Path]:
    """The runtime directory of a device that the tests of a module share, because starting one takes long."""
    with _directory_with_bundle() as path, device_process():
        yield path


@pytest.fixture
def directory(shared_directory: Path) -> Iterator[Path]:
    """The runtime directory of a running device without any ability process; our driver is closed at the end."""
    process.shutdown()
    (shared_directory / "journal").unlink(missing_ok=True)
    try:
        yield shared_directory
    finally:
        process.shutdown()
        wait_until_no_host_runs(shared_directory)


@pytest.fixture
def installed() -> Iterator[Path]:
    """A runtime directory of one's own, with the bundle, no device yet; our driver is closed at the end."""
    process.shutdown()
    with _directory_with_bundle() as path:
        try:
            yield path
        finally:
            process.shutdown()


@pytest.fixture
def device(installed: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running device of one's own, in ``installed``."""
    with device_process() as running:
        yield running


@pytest.fixture
def hasty(installed: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A running device of one's own with shorter time limits, in ``installed``."""
    with device_process(unit=0.4) as running:
        yield running
