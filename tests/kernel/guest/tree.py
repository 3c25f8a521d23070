"""What goes into the guest beside its system: Python packages of this interpreter, this source tree, the command.

Owns: which files those are. The packages change seldom and are kept packed; the tree is packed anew each time.
"""

from __future__ import annotations

import hashlib
import shlex
import shutil
import stat
import sys
import tempfile
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path
from typing import BinaryIO

from packaging.requirements import Requirement

from tests.kernel.guest import archive
from tests.kernel.guest.errors import GuestError
from tests.kernel.guest.image import Image

ROOT = Path(__file__).parents[3]
PACKED = ("src", "tests", "examples", "pyproject.toml")
"""What of the source tree the tests need."""
NOT_PACKED = shutil.ignore_patterns("__pycache__", "*.pyc")
PLACE = "/binderkit"
"""Where the source tree is in the guest, and the folder that the command starts in."""
SITE = "/site"
PACKAGES = ("pytest", "pytest-timeout", "hypothesis", "coverage", "msgspec")
"""What the tests need; with what these need. One that this interpreter has not is left out."""
INIT = Path(__file__).with_name("init.sh")


def closure(names: Iterable[str]) -> list[Distribution]:
    """Return installed packages and all they need, in order of their names; what is not installed is left out."""
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        try:
            package = distribution(waiting.pop())
        except PackageNotFoundError:
            continue  # what a test misses it says itself, by name
        if package.name in found:
            continue
        found[package.name] = package
        needs = map(Requirement, package.requires or ())
        waiting += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return [found[name] for name in sorted(found, key=str.lower)]


def fits(package: Distribution, python: str) -> bool:
    """Tell whether a package installed here works in the guest: pure Python, or compiled for the same version."""
    pure = "root-is-purelib: true" in (package.read_text("WHEEL") or "").lower()
    return pure or f"{sys.version_info.major}.{sys.version_info.minor}" == python


def site(image: Image) -> Path:
    """Return the archive of the Python packages; make it if these versions have not been packed yet.

    The caller holds the cache's lock.
    """
    chosen = [package for package in closure(PACKAGES) if fits(package, image.python)]
    lines = "\n".join(f"{package.name}={package.version}" for package in chosen)
    packed = image.folder / f"site-{hashlib.sha256(lines.encode()).hexdigest()[:16]}.cpio"
    if packed.exists():
        return packed
    for package in closure(PACKAGES):
        if package not in chosen and not fits(package, image.python):
            print(
                f"guest: {package.name} is left out: it is compiled for another Python than the guest's {image.python}"
            )
    with tempfile.TemporaryDirectory(dir=image.folder) as name:
        folder = Path(name, "site")
        for package in chosen:
            _copy(package, folder)
        image.compile(folder, SITE)
        part = Path(name, "site.cpio")
        with open(part, "wb") as target:
            archive.write(archive.entries_of(folder, SITE), target)
        part.rename(packed)
    return packed


def _copy(package: Distribution, folder: Path) -> None:
    for file in package.files or ():
        if ".." in file.parts or file.suffix == ".pyc":
            continue  # programs in bin/, which the guest starts by `python3 -m`
        target = folder.joinpath(*file.parts)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(str(file.locate()), target)


def write_tree(image: Image, command: str, time_limit: float, target: BinaryIO) -> None:
    """Write the archive of the source tree, of the guest's start and of the command.

    Args:
        image: whose Python compiles it.
        command: lines of a shell script.
        time_limit: seconds that it may take.
        target: where the archive goes.

    Raises:
        GuestError: a part of the source tree is missing.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for part in PACKED:
            _copy_part(ROOT / part, folder / part)
        image.compile(folder, PLACE)
        entries = archive.entries_of(folder, PLACE)
    script = stat.S_IFREG | 0o755
    entries += [
        ("init", script, INIT.read_bytes()),
        ("guest.conf", script, f"TIME_LIMIT={time_limit:.0f}\n".encode()),
        ("command.sh", script, f"{command}\n".encode()),
    ]
    archive.write(entries, target)


def _copy_part(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=NOT_PACKED)
    elif source.is_file():
        shutil.copyfile(source, target)
    else:
        raise GuestError(f"the source tree has no {source.name} ({source})")


def shell_line(words: Iterable[str]) -> str:
    """Return a command as a line of a shell script."""
    return shlex.join(words)
