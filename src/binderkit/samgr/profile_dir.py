"""The profiles of a device: a directory of files, checked together.

Owns: where they are, what is installed and removed, and the rules that need more than one file. A file named
PROCESS_trust.json (or .toml) says which ids a process may host (reference 2.6); it is no profile.

Rules upheld: what others could have written is not used, because a profile names code that is run; a profile with a
mistake is left out and told, the others work; a file appears whole or not at all.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from binderkit.errors import ParamValueError, ProfileError
from binderkit.samgr.documents import SUFFIXES, validator
from binderkit.samgr.profile import Profile, load_profile
from binderkit.samgr.profile_checks import dependency_cycles, is_process_name, shown_key

VARIABLE: Final = "BINDERKIT_PROFILES"
FOLDER: Final = "profiles"
_TRUST: Final = "_trust"


def default_directory() -> Path:
    """Return $BINDERKIT_PROFILES, else ``profiles`` in the runtime directory.

    Raises:
        RefusedError: the runtime directory is unsafe (303).
    """
    return device_folder(VARIABLE, FOLDER)


def device_folder(variable: str, folder: str) -> Path:
    """Return the folder an environment variable names, else ``folder`` in the runtime directory.

    Raises:
        RefusedError: the runtime directory is unsafe (303).
    """
    named = os.environ.get(variable)
    if named:
        return Path(named)
    from binderkit.driver.runtime import runtime_dir

    return runtime_dir() / folder


@dataclass(frozen=True)
class Scan:
    """What a directory holds.

    Attributes:
        profiles: process -> profile; only those without a mistake. problems: all mistakes, one text each.
    """

    profiles: dict[str, Profile]
    problems: tuple[str, ...]


class ProfileDirectory:
    """A device's profiles.

    Args:
        path: the folder; it need not be there. Default: ``default_directory()``.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = (path or default_directory()).absolute()

    def load(self) -> dict[str, Profile]:
        """Return all profiles, by process.

        Raises:
            ProfileError: with every mistake of every file (1002).
            ServiceError: msgspec is not installed (1001).
        """
        scan = self.scan()
        if scan.problems:
            raise ProfileError(*scan.problems)
        return scan.profiles

    def scan(self) -> Scan:
        """Return the profiles without mistakes, and the mistakes of the others.

        Raises:
            ServiceError: msgspec is not installed (1001).
        """
        problems: list[str] = []
        found: list[Profile] = []
        trusted: dict[str, frozenset[int]] = {}
        for path in self._files(problems):
            try:
                check_private(path)
                if path.stem.endswith(_TRUST):
                    self._trust(path, trusted)
                else:
                    found.append(load_profile(path))
            except ProfileError as error:
                problems.extend(error.problems)
        bad = dict(_conflicts(found, trusted))
        problems.extend(bad.values())
        return Scan({profile.process: profile for profile in found if profile.path not in bad}, tuple(problems))

    def install(self, file: Path) -> Profile:
        """Check a profile together with those that are installed, and copy it here as PROCESS.toml or .json.

        An earlier profile of the same process is replaced.

        Raises:
            ProfileError: it has mistakes, or does not go together with the others; nothing is changed (1002).
            OSError: it cannot be written.
        """
        profile = load_profile(file)
        _refuse_relative(profile, file, self.path)
        others = self.scan().profiles
        others.pop(profile.process, None)
        bad = dict(_conflicts([*others.values(), profile], self._all_trusted()))
        if profile.path in bad:
            raise ProfileError(bad[profile.path])
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = self.path / f"{profile.process}{file.suffix}"
        write_private(target, file.read_bytes())
        installed = load_profile(target)
        for old in self._of(profile.process):
            if old != target:
                old.unlink()
        return installed

    def remove(self, process: str) -> None:
        """Remove the profile of a process.

        Raises:
            ParamValueError: there is none (401).
        """
        files = self._of(process)
        if not files:
            raise ParamValueError(f"no profile of a process {process!r} is installed in {self.path}")
        for file in files:
            file.unlink()

    def _of(self, process: str) -> list[Path]:
        """Return the installed files of a process; what cannot be a process's name, such as "../x", has none."""
        if not is_process_name(process):
            return []
        return [path for suffix in SUFFIXES if (path := self.path / f"{process}{suffix}").is_file()]

    def _files(self, problems: list[str]) -> list[Path]:
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
        return [self.path / name for name in names if name.endswith(SUFFIXES) and not name.startswith(".")]

    def _trust(self, path: Path, trusted: dict[str, frozenset[int]]) -> None:
        validator()
        from binderkit.samgr.profile_json import read_trust

        process, ids = read_trust(path)
        if path.stem != f"{process}{_TRUST}":
            raise ProfileError(
                f"{path}: process: it is {process!r}, but the file's name says {path.stem[: -len(_TRUST)]!r}"
            )
        trusted[process] = ids

    def _all_trusted(self) -> dict[str, frozenset[int]]:
        trusted: dict[str, frozenset[int]] = {}
        for path in self._files([]):
            if path.stem.endswith(_TRUST):
                self._trust(path, trusted)
        return trusted


def _conflicts(profiles: list[Profile], trusted: dict[str, frozenset[int]]) -> Iterator[tuple[Path, str]]:
    """Yield (file, mistake) of profiles that do not go together; of two that exclude each other, the later one."""
    processes: dict[str, Path] = {}
    abilities: dict[int | str, Profile] = {}
    for profile in profiles:
        other = processes.setdefault(profile.process, profile.path)
        if other != profile.path:
            yield profile.path, f"{profile.path}: process: {profile.process!r} has a profile already: {other}"
            continue
        reason = _ability_conflict(profile, abilities, trusted.get(profile.process))
        if reason:
            yield profile.path, f"{profile.path}: {reason}"
            continue
        for ability in profile.abilities:
            abilities[ability.id] = profile
            abilities[ability.name or ability.id] = profile
    kept = {profile.path: profile for profile in abilities.values()}
    for cycle in dependency_cycles(ability for profile in kept.values() for ability in profile.abilities):
        first = abilities[int(cycle.split(" ", 1)[0])]
        yield first.path, f"{first.path}: depend: {cycle} wait for each other for ever; take one 'depend' away"


def _ability_conflict(
    profile: Profile, abilities: dict[int | str, Profile], trusted: frozenset[int] | None
) -> str | None:
    for ability in profile.abilities:
        for key in (ability.id, ability.name):
            if key and key in abilities:
                other = abilities[key]
                return f"system ability {shown_key(key)} belongs to process {other.process!r} already ({other.path})"
        if trusted is not None and ability.id not in trusted:
            allowed = ", ".join(str(one) for one in sorted(trusted)) or "none"
            return (
                f"system ability {ability.id} is not among those that {profile.process}{_TRUST} allows this process "
                f"to host: {allowed}"
            )
    return None


def _refuse_relative(profile: Profile, file: Path, folder: Path) -> None:
    """Refuse entries in files beside the profile: the installed copy would not find them."""
    from binderkit.samgr.profile_json import read_profile

    for ability, copied in zip(profile.abilities, read_profile(file, folder).abilities, strict=True):
        if ability.entry != copied.entry:
            place = ability.entry.partition(":")[0]
            raise ProfileError(
                f"{file}: the entry of {ability.id} is a file beside the profile, which is copied without it; "
                f"write its whole path, {place!r}, or a module that can be imported"
            )


def check_private(path: Path) -> None:
    """Refuse a file or folder that somebody else could have written: what it names is run as us.

    Raises:
        ProfileError: it belongs to another user than us and root, or others may write it (1002).
        FileNotFoundError: there is none.
    """
    facts = path.stat()
    if facts.st_uid not in (os.geteuid(), 0):
        raise ProfileError(f"{path}: it belongs to uid {facts.st_uid}; only yours and root's are used")
    if facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not facts.st_mode & stat.S_ISVTX:
        raise ProfileError(f"{path}: others may write it, and it names what is run; run: chmod go-w {path}")


def write_private(path: Path, content: bytes) -> None:
    """Write a file (mode 0600) that is there whole or not at all, also after a crash."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        with open(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
