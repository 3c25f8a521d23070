"""How IDL's types are called in Python, and what their names become (reference 5.5).

Owns: the table of types, the names a generated module may not give to its own, and which declaration is imported from
where. check.py has refused everything that is not in the table.
"""

from __future__ import annotations

import builtins
import keyword
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from binderkit.interface.idl.names import module_name
from binderkit.interface.idl.scope import hashable, is_remote_object, kind_of
from binderkit.interface.idl.syntax import (
    Array,
    Basic,
    Container,
    Declaration,
    Document,
    External,
    Named,
    Pointer,
    Struct,
    Type,
)
from binderkit.interface.idl.writing import Imports

__all__ = ["FORMATS", "INTERFACE", "RESERVED", "Types", "class_name", "is_frozen"]

INTERFACE: Final = "binderkit.interface"
CODEC: Final = "binderkit.interface.codec"
_OF_IDL: Final = {
    "byte": "Int8",
    "short": "Int16",
    "int": "Int32",
    "char": "Char",
    "unsigned char": "UInt8",
    "unsigned short": "UInt16",
    "unsigned int": "UInt32",
    "unsigned long": "UInt64",
    "float": "Float32",
    "FileDescriptor": "Fd",
    "FileDescriptorSan": "Fd",
}
_BUILTIN: Final = {
    "boolean": "bool",
    "long": "int",
    "double": "float",
    "String": "str",
    "String16": "str",
    "U16string": "str",
}
_CONTAINERS: Final = {"List": "list", "Set": "set", "Map": "dict", "OrderedMap": "dict"}
FORMATS: Final = {
    "boolean": "<?",
    "byte": "<b",
    "short": "<h",
    "int": "<i",
    "long": "<q",
    "char": "<b",
    "unsigned char": "<B",
    "unsigned short": "<H",
    "unsigned int": "<I",
    "unsigned long": "<Q",
    "float": "<f",
    "double": "<d",
}
"""struct's formats of what a union may hold, as C has it in memory."""
RESERVED: Final = frozenset(
    {*_OF_IDL.values(), *_BUILTIN.values(), *_CONTAINERS.values(), "tuple", "bytes", "type", "property"}
    | {"Interface", "IntEnum", "IRemoteObject", "MessageSequence", "NotImplementedError", "Parcelable", "RawData"}
    | {"RawUnion", "UnionMember", "annotations", "dataclass", "method", "oneway", "packed", "transaction_code"}
)
"""What a generated module uses itself."""
_GIVEN: Final = re.compile(r"\.*[A-Za-z_]\w*(\.[A-Za-z_]\w*)*:[A-Za-z_]\w*")
_BUILTIN_NAMES: Final = frozenset(dir(builtins))


def class_name(declaration: Declaration) -> str:
    """Return what a declared type is called in Python: its own name, with ``_`` behind it where that is taken."""
    name = declaration.name
    taken = keyword.iskeyword(name) or name in RESERVED or name in _BUILTIN_NAMES or name.startswith("__")
    return f"{name.lstrip('_') or 'Name'}_" if taken else name


class Types:
    """Hints for the types of one document; what they need is added to ``imports``.

    Args:
        classes: which Python class ("package.module:Class") stands for an external type, by its name or full name.
    """

    def __init__(self, document: Document, imports: Imports, classes: Mapping[str, str]) -> None:
        self._document = document
        self._imports = imports
        self._classes = classes
        imported = [
            (declaration, item.document)
            for item in document.imports
            if item.document is not None
            for declaration in item.document.declarations
        ]
        self._homes = {id(declaration): home for declaration, home in imported}
        # An external type that an imported file declares as well is one class, and that file's module has it.
        self._homes_by_name = {declaration.name: home for declaration, home in imported}

    def hint(self, kind: Type) -> str:
        """Return the hint for a type."""
        if isinstance(kind, Basic):
            if kind.name in _BUILTIN:
                return _BUILTIN[kind.name]
            if kind.name == "CString":
                raise self._document.source.error(
                    kind.span,
                    "a CString travels without its length, which no contract does; make it a String on both sides",
                )
            name = _OF_IDL[kind.name]
            return self._imports.use(CODEC if name in ("Char", "Fd") else INTERFACE, name)
        if isinstance(kind, Array):
            return f"list[{self.hint(kind.element)}]"
        if isinstance(kind, Container):
            return f"{_CONTAINERS[kind.name]}[{', '.join(self.hint(argument) for argument in kind.arguments)}]"
        if isinstance(kind, Pointer):
            target = self.hint(kind.target)
            return f"{target} | None" if kind.name.startswith("null_") else target
        assert kind.target is not None  # check.py resolved every name
        return self.declared(kind.target)

    def declared(self, declaration: Declaration) -> str:
        """Return the name of a declared type, importing it if it is not of this document."""
        if is_remote_object(declaration):
            return self._imports.use("binderkit", "IRemoteObject")
        name = class_name(declaration)
        given = self.given_class(declaration)
        if given is not None:
            module, _, original = given.partition(":")
            if kind_of(declaration) != "interface":  # those are imported at the end
                self._imports.use(module, original if original == name else f"{original} as {name}")
            return name
        home = self.home(declaration)
        if home is not None:
            assert home.path is not None  # only files are imported
            self._imports.use(self.relative_module(home.path, declaration), name)
        return name

    def home(self, declaration: Declaration) -> Document | None:
        """Return the imported document that has a declaration, or None if it is of this document."""
        if isinstance(declaration, External):
            return self._homes_by_name.get(declaration.name)
        return self._homes.get(id(declaration))

    def given_class(self, declaration: Declaration) -> str | None:
        """Return "package.module:Class" if the caller said what an external type is."""
        if not isinstance(declaration, External):
            return None
        given = self._classes.get(declaration.qualified, self._classes.get(declaration.name))
        if given is not None and not _GIVEN.fullmatch(given):
            raise ValueError(f"the class for {declaration.qualified} is given as {given!r}; write package.module:Class")
        return given

    def relative_module(self, path: Path, declaration: Declaration) -> str:
        """Return the module for an IDL file as seen from this one: ``..callback.i_callback``."""
        assert self._document.path is not None
        parts = os.path.relpath(path.parent, self._document.path.parent).split(os.sep)
        folders = [part for part in parts if part not in (".", "..")]
        for part in (*folders, module_name(path.stem)):
            if not part.isidentifier() or keyword.iskeyword(part):
                raise self._document.source.error(
                    declaration.span,
                    f"{part!r} in the path of {path.name} cannot be the name of a Python package; rename it",
                )
        return "." * (1 + parts.count("..")) + ".".join((*folders, module_name(path.stem)))


def is_frozen(struct: Struct) -> bool:
    """Whether a struct becomes a frozen dataclass: it, or its base, can be an element of a set and the key of a map.

    It is decided by the struct alone, not by its use, because the module that uses it may be another one.
    """
    base = None if struct.base is None else struct.base.target
    if isinstance(base, Struct) and is_frozen(base):
        return True
    return hashable(Named(struct.name, "struct", struct.span, struct))
