"""The commands about OpenHarmony's IDL: an IDL file as typed Python modules, a contract as an IDL file.

Owns: which files ``binderkit idl`` writes, where they lie, and what it tells. What stands in them is interface/idl's.
Rules upheld: all texts are made before the first file is written, and a file of other content is never overwritten
unless --force says so.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from binderkit.cli import contracts
from binderkit.errors import ParamValueError

if TYPE_CHECKING:
    from binderkit.interface.contract import Contract
    from binderkit.interface.idl import Document

idl_commands = typer.Typer(
    help="Contracts in OpenHarmony's IDL: read them as Python, write them from Python.\n\nReading needs the package "
    "lark: pip install 'binderkit\\[idl]'.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
_STDOUT: Final = "-"


def complete_idl(incomplete: str) -> list[str]:
    """Return the IDL files, and the folders that may hold some, whose path begins so, for the shell's completion."""
    folder, slash, start = incomplete.rpartition("/")
    try:
        found = sorted(Path(folder + slash or ".").iterdir())
    except OSError:
        return []  # no such folder: there is nothing to propose
    return [
        f"{folder}{slash}{one.name}{'/' if one.is_dir() else ''}"
        for one in found
        if one.name.startswith(start) and not one.name.startswith(".") and (one.is_dir() or one.suffix == ".idl")
    ]


Force = Annotated[bool, typer.Option("--force", help="Overwrite files that are there with other content.")]


@idl_commands.command(
    "to-python",
    epilog="Examples: binderkit idl to-python IPhoto.idl · binderkit idl to-python idl/IPhoto.idl -o photos/contracts "
    "--class OHOS.AAFwk.Want=photos.want:Want",
)
def to_python(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.idl", help="The IDL file (SA mode).", autocompletion=complete_idl)
    ],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="DIR|-",
            help="A folder of a package of yours, for the module and those of all files it imports, laid out as the "
            "IDL files are. '-': print this file's module only.",
        ),
    ] = _STDOUT,
    classes: Annotated[
        list[str] | None,
        typer.Option(
            "--class",
            metavar="NAME=MODULE:CLASS",
            help="Your class for a sequenceable, rawdata or interface that the IDL only names; may be repeated.",
        ),
    ] = None,
    force: Force = False,
) -> None:
    """Write an IDL file as a typed Python module: its interface, structs, enums and unions.

    Names become snake_case; descriptor, codes and layout stay what the IDL says.
    """
    from binderkit.interface.idl import parse_all

    documents = parse_all(file)
    given = _given_classes(classes or [], documents)
    if output == _STDOUT:
        contracts.print_source(_python(documents[0], given), "python")
        if len(documents) > 1:
            _note(f"{file} needs {_names(documents[1:])} too; -o DIR writes all modules")
        return
    folder = Path(output)
    if folder.suffix == ".py" or folder.is_file():
        raise typer.BadParameter(f"-o takes a folder, for the module's name comes from the IDL file; got {output!r}")
    places = _places(documents)
    _write({folder / place: _python(document, given) for place, document in places.items()}, force=force)


@idl_commands.command(
    "from-python",
    epilog="Examples: binderkit idl from-python photos.contract:IPhoto · "
    "binderkit idl from-python photos.contract:IPhoto -o idl/IPhoto.idl",
)
def from_python(
    contract: Annotated[str, typer.Argument(metavar="MODULE:CLASS", help="e.g. photos.contract:IPhoto")],
    output: Annotated[
        str,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE|-",
            help="The IDL file, called as the interface, or a folder that is there; '-': print it.",
        ),
    ] = _STDOUT,
    force: Force = False,
) -> None:
    """Write a contract as an IDL file, for clients and services that OpenHarmony's own tool generates.

    What IDL has no word for (properties, streams, declared exceptions, structs that can grow) is refused by name.
    """
    from binderkit.interface.idl import from_python as idl_text

    found = contracts.loaded(contract)
    text = idl_text(found.interface)
    if output == _STDOUT:
        contracts.print_source(text, "c")
    else:
        _write({_idl_path(output, found): text}, force=force)
    if found.bases:
        names = ", ".join(base.descriptor.rpartition(".")[2] for base in found.bases)
        _note(f"{found.descriptor} extends {names}; its file must lie beside this one, so write it too")


def _idl_path(output: str, contract: Contract) -> Path:
    name = f"{contract.descriptor.rpartition('.')[2]}.idl"
    path = Path(output)
    if path.is_dir():
        return path / name
    if path.name != name:
        raise typer.BadParameter(
            f"the file of {contract.descriptor} is called as the interface, {name}; got {path.name!r}"
        )
    return path


def _given_classes(words: list[str], documents: list[Document]) -> dict[str, str]:
    """Return the classes of --class by their IDL names; each must be for something the files only name."""
    from binderkit.interface.idl.scope import is_remote_object
    from binderkit.interface.idl.syntax import External

    outside = {
        one.qualified: one
        for document in documents
        for one in document.declarations
        if isinstance(one, External) and not is_remote_object(one)
    }
    names = {*outside, *(one.name for one in outside.values())}
    given: dict[str, str] = {}
    for word in words:
        name, separator, target = word.partition("=")
        if not (name and separator and target):
            raise typer.BadParameter(f"--class {word!r}: write NAME=MODULE:CLASS, e.g. OHOS.AAFwk.Want=app.want:Want")
        if name in given:
            raise typer.BadParameter(f"--class {name} is given twice")
        if name not in names:
            possible = ", ".join(sorted(outside)) or "there is none"
            raise typer.BadParameter(
                f"--class {name}: no sequenceable, rawdata or interface declared elsewhere is called so ({possible})"
            )
        given[name] = target
    return given


def _python(document: Document, classes: Mapping[str, str]) -> str:
    from binderkit.interface.idl import to_python as module_text

    try:
        return module_text(document, classes=classes)
    except ValueError as error:
        raise typer.BadParameter(f"--class: {error}") from error


def _places(documents: list[Document]) -> dict[Path, Document]:
    """Return where each module lies below the output folder, which stands for the folder all IDL files are in.

    Raises:
        ParamValueError: a folder between them cannot be a package, or two files become one module (401).
    """
    from binderkit.interface.idl import module_name

    files = {document.path: document for document in documents if document.path is not None}
    top = Path(os.path.commonpath([path.parent for path in files]))
    places: dict[Path, Document] = {}
    for path, document in files.items():
        inside = path.parent.relative_to(top)
        for part in inside.parts:
            if not part.isidentifier():
                raise ParamValueError(
                    f"{document.source.name} lies in the folder {part!r}, which cannot be a Python package; rename it"
                )
        place = inside / f"{module_name(path.stem)}.py"
        if place in places:
            raise ParamValueError(
                f"{places[place].source.name} and {document.source.name} would both become {place}; rename one of them"
            )
        places[place] = document
    return places


def _write(texts: Mapping[Path, str], *, force: bool) -> None:
    """Write files, saying which; none at all if one would lose what it holds.

    Raises:
        ParamValueError: a file is there with other content, and it is not to be overwritten (401).
        OSError: a file cannot be written.
    """
    same = {path for path, text in texts.items() if path.is_file() and path.read_bytes() == text.encode()}
    lost = [str(path) for path in texts if path not in same and path.exists()]
    if lost and not force:
        raise ParamValueError(
            f"nothing was written: with other content there is already {', '.join(lost)}; --force overwrites"
        )
    for path, text in texts.items():
        if path in same:
            print(f"{path} is up to date")
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
        print(f"{path} written")


def _names(documents: Iterable[Document]) -> str:
    return ", ".join(document.source.name for document in documents)


def _note(text: str) -> None:
    print(f"binderkit: {text}", file=sys.stderr)
