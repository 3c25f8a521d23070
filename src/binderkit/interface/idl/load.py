"""Reading IDL files with all they import.

Owns: where an import's path and a forward declaration lead, and that files do not import each other in a circle. A file
that comes in on two ways is read once, so its types are the same ones.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from binderkit.errors import IdlError
from binderkit.interface.idl.check import check
from binderkit.interface.idl.parse import parse_text
from binderkit.interface.idl.syntax import Document, External, Import

__all__ = ["forward_file", "parse_all", "parse_file", "parse_string"]


def parse_file(path: Path | str) -> Document:
    """Read an IDL file and what it imports, check all rules (reference 5.2–5.4), and return it.

    Args:
        path: the file, ending in .idl; an interface's file is called as the interface.

    Returns:
        The checked document; ``to_python`` writes it as Python.

    Raises:
        IdlError: the language is broken somewhere, or a file cannot be read; the text shows file, line, column and
            the line (401).
        ModuleNotFoundError: lark is missing: ``pip install "binderkit[idl]"``.
    """
    return _Loader().load(Path(path), shown=str(path))


def parse_all(path: Path | str) -> list[Document]:
    """Read an IDL file and every file whose module the module of this one needs.

    These are the imported ones and those of interfaces that are only declared (``interface IPeer;``) but whose file
    lies beside; all that these need in turn too.

    Returns:
        The file's document first, the others after it, each once.

    Raises:
        As ``parse_file``.
    """
    found: dict[Path | None, Document] = {}
    waiting = [parse_file(path)]
    while waiting:
        document = waiting.pop(0)
        if document.path in found:
            continue
        found[document.path] = document
        waiting += [item.document for item in document.imports if item.document is not None]
        for declaration in document.declarations:
            ahead = forward_file(document, declaration) if isinstance(declaration, External) else None
            if ahead is not None and ahead.resolve() not in found:
                shown = os.path.relpath(ahead, document.path.parent) if document.path is not None else str(ahead)
                waiting.append(_Loader().load(ahead, shown=str(Path(document.source.name).parent / shown)))
    return list(found.values())


def forward_file(document: Document, external: External) -> Path | None:
    """Return the file that defines an interface a document only declares, None if there is none beside it."""
    if external.kind != "interface" or document.path is None:
        return None
    place = external.include.replace(".", "/") or external.name
    path = document.path.parent / f"{place}.idl"
    return path if path.is_file() else None


def parse_string(text: str, name: str = "<idl>") -> Document:
    """Check IDL given as text and return it. It cannot import; any name of its interface is fine.

    Raises:
        As ``parse_file``.
    """
    document = parse_text(text, name)
    check(document)
    return document


class _Loader:
    def __init__(self) -> None:
        self._read: dict[Path, Document] = {}
        self._under_way: list[Path] = []

    def load(self, path: Path, shown: str) -> Document:
        if path.suffix != ".idl":
            raise IdlError("an IDL file's name ends in .idl", file=shown)
        path = path.resolve()
        if path in self._read:
            return self._read[path]
        try:
            text = path.read_text("utf-8-sig")
        except OSError as error:
            raise IdlError(f"the file cannot be read: {error.strerror}", file=shown) from error
        except UnicodeDecodeError as error:
            raise IdlError(f"byte {error.start} is no UTF-8; save the file as UTF-8", file=shown) from error
        document = parse_text(text.replace("\r\n", "\n"), shown, path)
        self._under_way.append(path)
        for item in document.imports:
            self._load_import(document, item)
        self._under_way.pop()
        check(document)
        self._read[path] = document
        return document

    def _load_import(self, document: Document, item: Import) -> None:
        assert document.path is not None  # load() gave it one
        error = document.source.error
        match = re.fullmatch(r"((?:\.\.?/)*)([\w-]+(?:[./][\w-]+)*)", item.written)
        if match is None or item.written.endswith(".idl"):
            raise error(
                item.span, f"{item.written!r} is no import path; write it like ../callback/ICallback, without .idl"
            )
        wanted = f"{match[1]}{match[2].replace('.', '/')}.idl"
        path = (document.path.parent / wanted).resolve()
        if path in self._under_way:
            circle = " → ".join(one.name for one in (*self._under_way[self._under_way.index(path) :], path))
            raise error(item.span, f"files import each other in a circle: {circle}; use 'interface X;' in one of them")
        if not path.is_file():
            raise error(item.span, f"there is no file {wanted} beside {document.source.name}")
        item.path = path
        item.document = self.load(path, shown=str(Path(document.source.name).parent / wanted))
