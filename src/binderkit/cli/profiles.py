"""The commands about profiles and bundles: check, install, list and remove them; units for systemd.

Owns: what ``binderkit profiles``, ``binderkit bundles`` and ``binderkit systemd`` print and write. What they do stands
in samgr/profile_dir.py, ability/manifest.py and samgr/systemd.py.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from binderkit.cli.tables import print_table
from binderkit.errors import ParamValueError, ProfileError

if TYPE_CHECKING:
    from binderkit.ability.manifest import Bundle
    from binderkit.samgr import SystemAbilityManagerClient
    from binderkit.samgr.profile import Profile

profile_commands = typer.Typer(
    help="Profiles: which system abilities live in which process, and when they run.\n\nA profile is a TOML file, or "
    "OpenHarmony's JSON. Installed ones are in $BINDERKIT_PROFILES, else in profiles/ of the runtime directory. "
    "Needs the package msgspec: pip install 'binderkit\\[services]'.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
bundle_commands = typer.Typer(
    help="Bundles: which abilities an application offers.\n\nA bundle is a folder with bundle.toml, or with "
    "OpenHarmony's module.json, and its code. Installed ones are in $BINDERKIT_BUNDLES, else in "
    "bundles/ of the runtime directory.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
_STDOUT: Final = "-"

Files = Annotated[list[Path] | None, typer.Argument(metavar="[FILE|DIR]...", help="Default: what is installed.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print a JSON array instead of a table.")]


def _report(problems: Iterable[str]) -> int:
    """Print mistakes, one a line; return how many."""
    count = 0
    for problem in problems:
        print("".join(one if one.isprintable() else "\ufffd" for one in problem), file=sys.stderr)
        count += 1
    return count


# --- profiles ---------------------------------------------------------------------------------------------------


@profile_commands.command("check", epilog="Examples: binderkit profiles check photos.toml · binderkit profiles check")
def check_profiles(files: Files = None) -> None:
    """Say everything that is wrong with profiles; the exit code is 1 if anything is.

    A folder is checked as a whole: an id that two files have, and what trust files forbid.
    """
    from binderkit.samgr.profile import load_profile
    from binderkit.samgr.profile_dir import ProfileDirectory

    good: list[Profile] = []
    bad = 0
    installed = ProfileDirectory().path
    for path in files or [installed]:
        if path == installed or path.is_dir():
            scan = ProfileDirectory(path).scan()
            good.extend(scan.profiles.values())
            bad += _report(scan.problems)
            continue
        try:
            good.append(load_profile(path))
        except ProfileError as error:
            bad += _report(error.problems)
    for profile in good:
        print(f"{profile.path}: process {profile.process!r} with {_counted(len(profile.abilities))}")
    if bad:
        raise typer.Exit(1)
    if not good:
        print("no profiles")


def _counted(number: int) -> str:
    return "1 ability" if number == 1 else f"{number} abilities"


@profile_commands.command("list", epilog="Example: binderkit profiles list --json")
def list_profiles(as_json: AsJson = False) -> None:
    """List the installed profiles, an ability a line; mistakes go to the error output."""
    from binderkit.samgr.profile_dir import ProfileDirectory

    scan = ProfileDirectory().scan()
    rows = [
        {
            "process": profile.process,
            "id": ability.id,
            "name": ability.name,
            "entry": ability.entry,
            "start": "with its process" if ability.run_on_create else "on demand",
            "file": str(profile.path),
        }
        for profile in scan.profiles.values()
        for ability in profile.abilities
    ]
    _print_rows(rows, ("process", "id", "name", "entry", "start"), as_json)
    if _report(scan.problems):
        raise typer.Exit(1)


def _print_rows(rows: list[dict[str, Any]], columns: tuple[str, ...], as_json: bool) -> None:
    if as_json:
        print(json.dumps(rows, indent=2))
        return
    table = Table(*columns, box=None, header_style="bold", pad_edge=False)
    for row in rows:
        table.add_row(*(escape(str(row[column])) or "-" for column in columns))
    print_table(table)


@profile_commands.command("install", epilog="Example: binderkit profiles install photos.toml")
def install_profiles(files: Annotated[list[Path], typer.Argument(metavar="FILE...")]) -> None:
    """Check profiles and copy them to where the device's daemon finds them; replaces those of the same processes."""
    from binderkit.samgr.profile_dir import ProfileDirectory

    directory = ProfileDirectory()
    try:
        _each(files, lambda file: print(f"{directory.install(file).path} installed"))
    finally:
        _tell_daemon()


@profile_commands.command("remove", epilog="Example: binderkit profiles remove photos")
def remove_profiles(processes: Annotated[list[str], typer.Argument(metavar="PROCESS...")]) -> None:
    """Remove the profiles of processes."""
    from binderkit.samgr.profile_dir import ProfileDirectory

    directory = ProfileDirectory()
    for process in processes:
        directory.remove(process)
        print(f"the profile of {process} removed")
    _tell_daemon()


@profile_commands.command("reload", epilog="Example: binderkit profiles reload")
def reload_profiles() -> None:
    """Have the daemon that runs read its profiles again, and say what changed; 'install' and 'remove' do so, too.

    New profiles count at once, and what runs on create is started. A process that runs keeps its profile until it ends.
    If anything is wrong in any profile nothing is changed, and the exit code is 1.
    """
    from binderkit.cli import target

    _reload(target.manager())


def _tell_daemon() -> None:
    """Do the same if a daemon runs; when none does, the next one reads what is there then."""
    from binderkit.cli import target
    from binderkit.errors import NoServiceManagerError

    try:
        manager = target.manager()
    except NoServiceManagerError:
        return
    _reload(manager)


def _reload(manager: SystemAbilityManagerClient) -> None:
    from binderkit.errors import ServiceError, UnknownTransactionError
    from binderkit.ipc.proxy import RemoteProxy
    from binderkit.samgr import codes

    remote = manager.as_object()
    pid = remote.owner.pid if isinstance(remote, RemoteProxy) else os.getpid()  # as the kernel knows it
    try:
        changes = manager.reload_profiles()
    except UnknownTransactionError:
        raise ParamValueError(f"the SAMgr that runs (pid {pid}) reads no profiles; restart it as a daemon") from None
    except ServiceError as error:
        if error.code != codes.PROFILE_MISSING:
            raise
        _report(str(error.args[0]).splitlines())
        print(f"the daemon (pid {pid}) goes on with the profiles it has", file=sys.stderr)
        raise typer.Exit(1) from None
    for word, names in (("new", changes.added), ("changed", changes.changed), ("removed", changes.removed)):
        for name in names:
            later = " when the process that runs has ended" if name in changes.later else ""
            print(f"{name}: {word}{later}")
    print(f"the daemon (pid {pid}) has read its profiles")


def _each(files: Iterable[Path], act: Callable[[Path], object]) -> None:
    """Do something with every file; those with mistakes are told at the end by exit code 1."""
    bad = 0
    for file in files:
        try:
            act(file)
        except ProfileError as error:
            bad += _report(error.problems)
    if bad:
        raise typer.Exit(1)


# --- bundles ----------------------------------------------------------------------------------------------------


@bundle_commands.command("check", epilog="Example: binderkit bundles check ./photos")
def check_bundles(folders: Annotated[list[Path], typer.Argument(metavar="DIR|MANIFEST...")]) -> None:
    """Say what is wrong with bundles; the exit code is 1 if anything is."""
    from binderkit.ability.manifest import load_bundle

    def tell(bundle: Bundle) -> None:
        print(f"{bundle.path}: bundle {bundle.name!r} {bundle.version} with {_counted(len(bundle.abilities))}")

    _each(folders, lambda folder: tell(load_bundle(folder)))


@bundle_commands.command("list", epilog="Example: binderkit bundles list --json")
def list_bundles(as_json: AsJson = False) -> None:
    """List the abilities of the installed bundles; mistakes go to the error output."""
    from binderkit.ability.manifest import BundleDirectory

    bundles, problems = BundleDirectory().scan()
    rows = [
        {
            "bundle": bundle.name,
            "version": bundle.version,
            "ability": ability.name,
            "type": ability.type,
            "exported": "yes" if ability.exported else "no",
            "entry": ability.entry,
        }
        for bundle in bundles.values()
        for ability in bundle.abilities
    ]
    _print_rows(rows, ("bundle", "version", "ability", "type", "exported", "entry"), as_json)
    if _report(problems):
        raise typer.Exit(1)


@bundle_commands.command("install", epilog="Example: binderkit bundles install ./photos")
def install_bundles(folders: Annotated[list[Path], typer.Argument(metavar="DIR|MANIFEST...")]) -> None:
    """Check bundles and copy them, with their code, to where the device's daemon finds them."""
    from binderkit.ability.manifest import BundleDirectory

    directory = BundleDirectory()
    _each(folders, lambda folder: print(f"{directory.install(folder).path} installed"))


@bundle_commands.command("remove", epilog="Example: binderkit bundles remove com.example.photos")
def remove_bundles(names: Annotated[list[str], typer.Argument(metavar="BUNDLE...")]) -> None:
    """Remove bundles with their files."""
    from binderkit.ability.manifest import BundleDirectory

    directory = BundleDirectory()
    for name in names:
        directory.remove(name)
        print(f"the bundle {name} removed")


# --- systemd ----------------------------------------------------------------------------------------------------


def systemd(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PROFILE]...",
            help="Profiles whose processes systemd shall run instead of the daemon; they must not be installed too.",
        ),
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR|-", help="Where to write the units; '-': print them.")
    ] = _STDOUT,
    system: Annotated[
        bool, typer.Option("--system", help="For the system's systemd instead of the user's: may run as other users.")
    ] = False,
    runtime_dir: Annotated[
        Path | None,
        typer.Option("--runtime-dir", metavar="DIR", help="The device. Default: binderkit in systemd's own."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite files that are there with other content.")] = False,
) -> None:
    """Write systemd units: a socket and a service for the device's daemon, and a service for each PROFILE.

    Installed profiles need no units: the daemon starts their processes, on demand too.
    """
    from binderkit.samgr.systemd import make_units

    units = make_units(
        _profiles(files or []),
        system=system,
        runtime_dir=None if runtime_dir is None else runtime_dir.absolute(),
        environment=_module_path(),
    )
    if output == _STDOUT:
        for name, text in units.items():
            print(f"# --- {name}\n{text}")
        return
    _write_units(Path(output), units, force)


def _profiles(paths: list[Path]) -> list[Profile]:
    """Return the profiles of files and folders.

    Raises:
        ParamValueError: one of their processes is the daemon's already: both would start it (401).
    """
    from binderkit.samgr.profile import load_profile
    from binderkit.samgr.profile_dir import ProfileDirectory

    found: list[Profile] = []
    for path in paths:
        found.extend(ProfileDirectory(path).load().values() if path.is_dir() else [load_profile(path)])
    installed = ProfileDirectory().scan().profiles if found else {}
    both = [profile.process for profile in found if profile.process in installed]
    if both:
        raise ParamValueError(
            f"the profile of {both[0]} is installed, so the daemon starts its process: leave it out here, or run "
            f"'binderkit profiles remove {both[0]}' first"
        )
    return found


def _module_path() -> dict[str, str]:
    """Return $PYTHONPATH where it is set: entries may need it."""
    path = os.environ.get("PYTHONPATH")
    return {"PYTHONPATH": path} if path else {}


def _write_units(folder: Path, units: dict[str, str], force: bool) -> None:
    others = [name for name, text in units.items() if (folder / name).exists() and (folder / name).read_text() != text]
    if others and not force:
        raise ParamValueError(f"{folder} has {', '.join(others)} with other content; --force overwrites")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in units.items():
        (folder / name).write_text(text)
        print(f"{folder / name} written")
    print(
        "now run: systemctl [--user] daemon-reload && systemctl [--user] enable --now binderkit.socket", file=sys.stderr
    )
