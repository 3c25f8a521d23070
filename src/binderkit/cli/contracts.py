"""The commands about contracts: freeze and compare them, show one that runs, call a method by its name.

Owns: what ``binderkit interface``, ``binderkit show`` and ``binderkit call ID METHOD`` print, and loading MODULE:NAME.
What they do stands in interface/. Rule upheld: text from other processes is shown without control characters.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.console import Console
from rich.markup import escape

from binderkit.errors import InterfaceMismatchError, IpcError, ParamError
from binderkit.ipc.remote import IRemoteObject

if TYPE_CHECKING:
    from binderkit.interface.compare import Change
    from binderkit.interface.contract import Contract
    from binderkit.interface.dynamic import Described

interface_commands = typer.Typer(
    help="Keep frozen copies of contracts, and say what a change would break.\n\nA contract is named MODULE:CLASS; the "
    "current directory is searched for the module too. The interfaces it extends are looked at with it.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)

Classes = Annotated[list[str], typer.Argument(metavar="MODULE:CLASS", help="e.g. photos.contract:IPhoto")]
Folder = Annotated[
    Path, typer.Option("--folder", "-f", metavar="DIR", help="Where the frozen copies are; keep it with the source.")
]
_STYLES: Final = {"breaks": "bold red", "warns": "yellow", "ok": "green"}
_FOLDER: Final = Path("contracts")


@interface_commands.command(epilog="Example: binderkit interface freeze photos.contract:IPhoto --folder contracts")
def freeze(classes: Classes, folder: Folder = _FOLDER) -> None:
    """Write DIR/DESCRIPTOR/VERSION.json of each contract; a frozen version never changes."""
    from binderkit.interface import freeze as frozen

    for contract in _contracts(classes):
        print(frozen.freeze(contract.interface, folder))


@interface_commands.command(epilog="Example: binderkit interface check photos.contract:IPhoto photos.contract:IAlbum")
def check(classes: Classes, folder: Folder = _FOLDER) -> None:
    """Compare each contract with its newest frozen copy; the exit code is 1 if old and new do not go together."""
    from binderkit.interface import freeze as frozen

    failed = False
    for contract in _contracts(classes):
        try:
            changes = frozen.check(contract.interface, folder)
        except ParamError as error:
            print(f"binderkit: {error.args[0]}", file=sys.stderr)
            failed = True
            continue
        _tell(contract, changes)
        failed |= any(change.severity == "breaks" for change in changes)
    if failed:
        raise typer.Exit(1)


def _tell(contract: Contract, changes: list[Change]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    title = escape(f"{contract.descriptor} version {contract.version}")
    if not changes:
        console.print(f"[bold]{title}[/]: as it was frozen")
        return
    console.print(f"[bold]{title}[/], compared with its newest frozen copy:")
    for change in changes:
        style = _STYLES[change.severity]
        console.print(f"  [{style}]{change.severity:6}[/]  [bold]{escape(change.where)}[/]: {escape(change.words)}")


def _contracts(words: list[str]) -> list[Contract]:
    """Return the contracts of the classes, and of the interfaces they extend, each once."""
    found: dict[str, Contract] = {}
    for word in words:
        contract = loaded(word)
        for one in (contract, *contract.bases):
            found.setdefault(one.descriptor, one)
    return list(found.values())


def loaded(word: str) -> Contract:
    """Return the contract that MODULE:CLASS declares.

    Raises:
        typer.BadParameter: there is no such class, or it declares no contract.
    """
    from binderkit.child import load
    from binderkit.interface.contract import contract_of

    module, separator, name = word.partition(":")
    if not (module and separator and name) or module.endswith(".py"):
        raise typer.BadParameter(f"{word!r} names no class; write MODULE:CLASS, e.g. photos.contract:IPhoto")
    here = os.getcwd()
    if here not in sys.path:
        sys.path.insert(0, here)  # as "python -m" does
    try:
        contract = contract_of(load(word))
        contract.describe()
    except (ImportError, AttributeError, ParamError, TypeError) as error:
        text = error.args[0] if isinstance(error, ParamError) else error
        raise typer.BadParameter(f"{word!r}: {text}") from error
    return contract


# --- objects that run -------------------------------------------------------------------------------------------


def show(remote: IRemoteObject, *, as_json: bool, timeout: float) -> None:
    """Print the interfaces an object implements, as Python or as JSON.

    Raises:
        InterfaceMismatchError: it has no typed interface (1). CommunicationError: its answer makes no sense (1900007).
    """
    from binderkit.interface.meta import describe
    from binderkit.interface.show import as_python

    described = describe(remote, timeout=timeout)
    if as_json:
        print(json.dumps(described, indent=2))
        return
    print_source("\n\n".join(as_python(one) for one in described), "python")


def print_source(text: str, language: str) -> None:
    """Print source text; in a terminal with colours (``language``: a lexer of Pygments)."""
    console = Console()
    if not console.is_terminal:
        print(text, end="")
        return
    from rich.syntax import Syntax  # takes its time, and few commands need it

    console.print(Syntax(text, language, background_color="default", word_wrap=True))


def call_by_name(remote: IRemoteObject, name: str, words: list[str], timeout: float) -> None:
    """Call a method, or read or set a property, and print its result as JSON; a stream's items one a line.

    Args:
        words: NAME=VALUE each; VALUE is JSON, or text where that does not fit.

    Raises:
        UnknownMethodError: there is no such method (305). ParamError: an argument does not fit (401).
        What the call raises.
    """
    from binderkit.interface.dynamic import call, find

    described, method = find(_interfaces(remote, name, timeout), name)
    arguments = dict(_arguments(words))
    known = described.method(method, arguments)
    result = call(remote, described, method, arguments, timeout=timeout)
    if known.stream:
        for item in result:
            print(_shown(item, None), flush=True)
    elif known.result is not None:
        print(_shown(result, 2))
    elif known.oneway:
        print("sent one-way; there is no reply")


def _interfaces(remote: IRemoteObject, name: str, timeout: float) -> list[Described]:
    from binderkit.interface.dynamic import Described
    from binderkit.interface.meta import describe

    try:
        return [Described.from_json(one) for one in describe(remote, timeout=timeout)]
    except InterfaceMismatchError as error:
        raise typer.BadParameter(
            f"{name!r} is no transaction code, and the object does not tell its methods' names: write a number such as "
            f"1 or 0x10 ({error.args[0]})"
        ) from None


def _arguments(words: list[str]) -> Iterator[tuple[str, object]]:
    from binderkit.interface.dynamic import Word

    seen: set[str] = set()
    for word in words:
        name, separator, value = word.partition("=")
        if not separator or not name.isidentifier():
            raise typer.BadParameter(f"{word!r} is no argument of a method; write NAME=VALUE, e.g. width=80")
        if name in seen:
            raise typer.BadParameter(f"the argument {name!r} is there twice")
        seen.add(name)
        yield name, Word(value)


def _shown(value: Any, indent: int | None) -> str:
    """Return JSON in which everything that is not printable is an escape."""
    text = json.dumps(value, indent=indent, ensure_ascii=False)
    return "".join(one if one.isprintable() or one == "\n" else json.dumps(one)[1:-1] for one in text)


def complete_ability(incomplete: str) -> list[str]:
    """Return the names of registered abilities that begin with ``incomplete``, for the shell's completion."""
    from binderkit.cli import target

    try:
        abilities = target.manager().list_system_abilities()
    except (IpcError, OSError):
        return []  # the shell waits for words; an error cannot be told here, and the command itself will tell it
    return [info.name for info in abilities if info.name and info.name.startswith(incomplete)]
