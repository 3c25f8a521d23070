"""Bundles: which abilities an application offers (reference 3.4).

Owns: what a bundle's manifest may look like, and the directory where a device's bundles are. A bundle is a folder with
``bundle.toml``, or with OpenHarmony's ``module.json`` or ``module.json5`` (and ``app.json``/``app.json5`` beside it
where the bundle's name is not in the module's file), and with the code its entries name.

Rules upheld: as for profiles: a bundle with a mistake is left out and told; a folder or manifest that others could
have written is not used; a bundle is installed whole or not at all. OpenHarmony's files have many fields that mean
nothing here, so unknown ones of theirs are passed over; unknown ones of ours are mistakes.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from binderkit import limits
from binderkit.errors import ParamValueError, ProfileError
from binderkit.samgr.documents import Mistakes, validator
from binderkit.samgr.profile_checks import entry_problem, is_permission, is_process_name
from binderkit.samgr.profile_dir import check_private, device_folder

VARIABLE: Final = "BINDERKIT_BUNDLES"
FOLDER: Final = "bundles"
SERVICE: Final = "service"
"""The type of abilities that can be started and connected to."""
FILE: Final = "bundle.toml"
MODULE_FILES: Final = ("module.json", "module.json5")
APP_FILES: Final = ("app.json", "app.json5")
MAX_FILE: Final = 1 * limits.MIB
"""Bytes of a manifest (own choice; OpenHarmony's describe pages and forms too)."""
MAX_ABILITIES: Final = 256
MAX_BUNDLE_FILES: Final = 10_000
MAX_BUNDLE_BYTES: Final = 512 * limits.MIB
"""What a bundle may have (own choices: a folder given by mistake is refused instead of copied for minutes)."""


@dataclass(frozen=True)
class AbilityManifest:
    """One ability of a bundle.

    Attributes:
        name: its name in the bundle. type: "service"; others are known but cannot be connected to.
        exported: whether other applications may use it. permissions: what they need for it.
        entry: its class as "module:Class" or "/path/file.py:Class"; "" when it is no service.
        process: the process it runs in; abilities of a bundle with the same name share one.
    """

    name: str
    type: str
    exported: bool
    permissions: tuple[str, ...]
    entry: str
    process: str


@dataclass(frozen=True)
class Bundle:
    """An application and its abilities.

    Attributes:
        name: e.g. "com.example.photos". version: text. module: its module's name. abilities: at least one.
        request_permissions: what its token asks for. path: its folder; entries are imported with it on sys.path.
    """

    name: str
    version: str
    module: str
    abilities: tuple[AbilityManifest, ...]
    request_permissions: tuple[str, ...]
    path: Path

    def ability(self, name: str) -> AbilityManifest | None:
        """Return the ability with this name, None when there is none."""
        return next((ability for ability in self.abilities if ability.name == name), None)


def load_bundle(path: str | Path) -> Bundle:
    """Return the bundle of a folder, or of its manifest file.

    Raises:
        ProfileError: there is no manifest, or it has mistakes; names file, field, why, and what is allowed (1002).
        ServiceError: the package msgspec, which checks manifests, is not installed (1001).
    """
    validator()
    from binderkit.ability.manifest_files import read_bundle

    return read_bundle(_manifest_file(Path(path)))


def _manifest_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [path / name for name in (FILE, *MODULE_FILES) if (path / name).is_file()]
    if not found:
        raise ProfileError(f"{path}: there is no manifest; expected one of {', '.join((FILE, *MODULE_FILES))}")
    if len(found) > 1:
        raise ProfileError(f"{path}: several manifests ({', '.join(one.name for one in found)}); keep one of them")
    return found[0]


def check_bundle(bundle: Bundle, mistakes: Mistakes, table: str) -> None:
    """Note what is wrong with a bundle beyond its structure; raises ProfileError if anything is (1002)."""
    if not is_process_name(bundle.name) or "." not in bundle.name:
        mistakes.add("name", f"{bundle.name!r} is no bundle's name; they are like 'com.example.photos'")
    if not 0 < len(bundle.abilities) <= MAX_ABILITIES:
        mistakes.add(table, f"{len(bundle.abilities)} abilities, expected 1 to {MAX_ABILITIES}")
    for number, permission in enumerate(bundle.request_permissions):
        if not is_permission(permission):
            mistakes.add(
                f"request-permissions[{number}]",
                f"{permission!r} is no permission; they are like 'ohos.permission.CAMERA'",
            )
    names: set[str] = set()
    for number, ability in enumerate(bundle.abilities):
        if ability.name in names:
            mistakes.add(f"{table}[{number}].name", f"another ability is called {ability.name!r} too")
        names.add(ability.name)
        _check_ability(ability, f"{table}[{number}]", mistakes)
    mistakes.check()


def _check_ability(ability: AbilityManifest, place: str, mistakes: Mistakes) -> None:
    if not ability.name.isidentifier():
        mistakes.add(f"{place}.name", f"{ability.name!r} is no name of an ability; use letters, digits and _")
    problem = entry_problem(ability.entry) if ability.type == SERVICE else None
    if problem:
        mistakes.add(f"{place}.entry", problem)
    if not is_process_name(ability.process):
        mistakes.add(f"{place}.process", f"{ability.process!r} is no name; allowed are letters, digits, _ . -")
    for permission in ability.permissions:
        if not is_permission(permission):
            mistakes.add(f"{place}.permissions", f"{permission!r} is no permission")


def default_directory() -> Path:
    """Return $BINDERKIT_BUNDLES, else ``bundles`` in the runtime directory.

    Raises:
        RefusedError: the runtime directory is unsafe (303).
    """
    return device_folder(VARIABLE, FOLDER)


class BundleDirectory:
    """A device's bundles, a folder each.

    Args:
        path: where they are; it need not be there. Default: ``default_directory()``.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = (path or default_directory()).absolute()

    def load(self) -> dict[str, Bundle]:
        """Return all bundles, by name.

        Raises:
            ProfileError: with every mistake of every bundle (1002).
        """
        bundles, problems = self.scan()
        if problems:
            raise ProfileError(*problems)
        return bundles

    def scan(self) -> tuple[dict[str, Bundle], tuple[str, ...]]:
        """Return the bundles without mistakes, by name, and the mistakes of the others."""
        bundles: dict[str, Bundle] = {}
        problems: list[str] = []
        for path in self._folders(problems):
            try:
                bundle = self._checked(path)
            except ProfileError as error:
                problems.extend(error.problems)
                continue
            other = bundles.setdefault(bundle.name, bundle)
            if other is not bundle:
                problems.append(f"{path}: name: {bundle.name!r} is also the bundle in {other.path}")
        return bundles, tuple(problems)

    def find(self, bundle: str, ability: str) -> tuple[Bundle, AbilityManifest] | None:
        """Return a bundle and its ability; None when it is not installed, not usable, or has no such ability.

        Its folder is looked at anew, so what was installed a moment ago is found.
        """
        found = self._installed(bundle)
        manifest = None if found is None else found.ability(ability)
        return None if found is None or manifest is None else (found, manifest)

    def _installed(self, name: str) -> Bundle | None:
        if is_process_name(name) and (self.path / name).is_dir():
            try:
                bundle = self._checked(self.path / name)
            except ProfileError:
                return None  # load and scan tell why
            if bundle.name == name:
                return bundle
        return self.scan()[0].get(name)

    def install(self, source: Path) -> Bundle:
        """Check a bundle and copy it here, a folder with everything in it or a manifest alone; replaces an earlier one.

        Raises:
            ProfileError: it has mistakes, or contains links, devices, or too much; nothing is changed (1002).
            OSError: it cannot be copied.
        """
        bundle = load_bundle(source)
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=".new-", dir=self.path))
        try:
            if source.is_dir():
                _copy_tree(source, temporary)
            else:
                shutil.copyfile(source, temporary / source.name)
            load_bundle(temporary)  # what was copied is what was checked
            self._replace(temporary, self.path / bundle.name)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return load_bundle(self.path / bundle.name)

    def _replace(self, new: Path, target: Path) -> None:
        """Put a folder in the place of another; for a moment there is none."""
        old = new.with_name(f"{new.name}.old")
        if target.exists():
            target.rename(old)
        try:
            new.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)

    def remove(self, name: str) -> None:
        """Remove a bundle with its files.

        Raises:
            ParamValueError: there is none (401).
        """
        path = self.path / name
        if not is_process_name(name) or not path.is_dir():  # never "..", whose removal would be a disaster
            raise ParamValueError(f"no bundle {name!r} is installed in {self.path}")
        shutil.rmtree(path)

    def _folders(self, problems: list[str]) -> list[Path]:
        try:
            check_private(self.path)
            names = sorted(os.listdir(self.path))
        except FileNotFoundError:
            return []
        except NotADirectoryError:
            problems.append(f"{self.path}: it is no directory")
            return []
        except ProfileError as error:
            problems.extend(error.problems)
            return []
        return [self.path / name for name in names if not name.startswith(".") and (self.path / name).is_dir()]

    def _checked(self, path: Path) -> Bundle:
        check_private(path)
        check_private(_manifest_file(path))
        return load_bundle(path)


def _copy_tree(source: Path, target: Path) -> None:
    count = size = 0
    for folder, names, files in os.walk(source):
        for name in [*names, *files]:
            facts = os.lstat(os.path.join(folder, name))
            if not (stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)):
                raise ProfileError(f"{folder}/{name}: a bundle has plain files and folders only, no links or devices")
            count += 1
            size += facts.st_size
        if count > MAX_BUNDLE_FILES or size > MAX_BUNDLE_BYTES:
            raise ProfileError(
                f"{source}: a bundle has at most {MAX_BUNDLE_FILES} files and {MAX_BUNDLE_BYTES} bytes; "
                "is this the right folder?"
            )
    ignore = shutil.ignore_patterns("__pycache__", ".git")
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=ignore, symlinks=True)
    for folder, _, files in os.walk(target):
        os.chmod(folder, 0o700)
        for name in files:
            os.chmod(os.path.join(folder, name), 0o600)
