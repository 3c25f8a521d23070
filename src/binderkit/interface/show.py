"""A description as the Python one would write for it: what an object of another process can do, for people to read.

Owns: the layout of that text. It is for reading, and is valid Python, but not for running: defaults are only known to
the service, and show as ``...``.

Rules upheld: whatever the description says, nothing in it can leave a string or a comment, or command a terminal.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterable
from typing import Any, Final

from binderkit.interface.described import (
    Description,
    EnumType,
    MethodPart,
    PropertyPart,
    StructType,
    TypeRef,
    printable,
    read_description,
)

__all__ = ["as_python"]

_HINTS: Final = {
    "int8": "Int8",
    "int16": "Int16",
    "int32": "Int32",
    "int64": "int",
    "uint8": "UInt8",
    "uint16": "UInt16",
    "uint32": "UInt32",
    "uint64": "UInt64",
    "char": "Char",
    "float32": "Float32",
    "uuid": "UUID",
    "decimal": "Decimal",
    "path": "Path",
    "fd": "Fd",
    "file": "BinaryIO",
    "ashmem": "Ashmem",
    "remote": "IRemoteObject",
    "optional": "Optional",
    "map": "dict",
    "literal": "Literal",
}
_INDENT: Final = "    "
_WIDTH: Final = 120


def as_python(description: dict[str, Any]) -> str:
    """Return readable Python for a description (Contract.describe), also one that another process sent.

    Raises:
        CommunicationError: it is no description (1900007).
    """
    return _Text(read_description(description)).text()


class _Text:
    """Writes one description; ``_names`` are its types' names, fit for Python and different from each other."""

    def __init__(self, description: Description) -> None:
        self._description = description
        self._names: dict[str, str] = {}
        taken = {description.name}
        for name in (*description.structs, *description.enums):
            self._names[name] = _unique(_identifier(name), taken)

    def text(self) -> str:
        """Return all of it."""
        known = self._description
        errors = {one.fields.name for method in known.methods.values() for one in method.raises}
        plain = {one.name for method in known.methods.values() for one in method.raises if one.fields.form != "struct"}
        blocks = [
            *(self._enum(kind) for kind in known.enums.values()),
            *(self._struct(kind, error=kind.name in errors) for kind in known.structs.values()),
            *([f"class {name}(Exception): ..."] for name in sorted(plain - set(self._names.values()))),
            self._interface(),
        ]
        return "\n\n\n".join("\n".join(block) for block in blocks) + "\n"

    def _enum(self, kind: EnumType) -> list[str]:
        base = "Flag" if kind.flag else "IntEnum" if kind.form in ("int32", "int64") else "Enum"
        members = [f"{_INDENT}{name} = {value!r}" for name, value in kind.members.items()]
        return [f"class {self._names[kind.name]}({base}):", *members]

    def _struct(self, kind: StructType, *, error: bool) -> list[str]:
        fields = [
            f"{_INDENT}{one.name}: {self._hint(one.type)}{' = ...' if one.optional else ''}" for one in kind.fields
        ]
        base = "(Exception)" if error else ""
        head = ["@packed"] if kind.packed else []
        return [*head, "@dataclass", f"class {self._names[kind.name]}{base}:", *(fields or [f"{_INDENT}..."])]

    def _interface(self) -> list[str]:
        known = self._description
        lines = [f"class {known.name}(Interface, descriptor={known.descriptor!r}, version={known.version}):"]
        lines += _doc(known.doc, _INDENT)
        if known.extends:
            lines += ["", f"{_INDENT}# It also has the methods of {', '.join(map(printable, known.extends))}."]
        members: list[tuple[int, list[str]]] = [
            *((one.getter, self._property(one)) for one in known.properties.values()),
            *((one.code, self._method(one)) for one in known.methods.values()),
        ]
        for _, member in sorted(members, key=lambda pair: pair[0]):
            lines += ["", *member]
        if len(lines) == 1:
            lines.append(f"{_INDENT}...")
        return lines

    def _property(self, prop: PropertyPart) -> list[str]:
        more = "" if prop.setter else ", readonly=True"
        codes = f"{prop.getter}, {prop.setter}" if prop.setter else f"{prop.getter}"
        return [f"{_INDENT}{prop.name} = Property({self._hint(prop.type)}{more})  # code {codes}"]

    def _method(self, method: MethodPart) -> list[str]:
        marks = [f"@transaction_code({method.code})"]
        if method.oneway:
            marks.append("@oneway")
        if method.idempotent:
            marks.append("@idempotent")
        if method.raises:
            marks.append(f"@raises({', '.join(self._raised(one.name, one.fields) for one in method.raises)})")
        result = "None" if method.result is None else self._hint(method.result)
        if method.stream:
            result = f"Iterator[{result}]"
        parameters = list(self._parameters(method))
        head = [f"{_INDENT}def {method.name}({', '.join(parameters)}) -> {result}:"]
        if len(head[0]) + 4 > _WIDTH:
            inner = [f"{_INDENT * 2}{one}," for one in parameters]
            head = [f"{_INDENT}def {method.name}(", *inner, f"{_INDENT}) -> {result}:"]
        doc = _doc(method.doc, _INDENT * 2)
        if not doc:
            head[-1] += " ..."
        return [*(f"{_INDENT}{line}" for line in ("@method", *marks)), *head, *doc]

    def _raised(self, name: str, fields: TypeRef) -> str:
        return self._names[fields.name] if fields.form == "struct" else name

    def _parameters(self, method: MethodPart) -> Iterable[str]:
        yield _unique("self", {one.name for one in method.parameters})
        starred = False
        for one in method.parameters:
            if one.keyword_only and not starred:
                yield "*"
                starred = True
            yield f"{one.name}: {self._hint(one.type)}{' = ...' if one.optional else ''}"

    def _hint(self, kind: TypeRef) -> str:
        form = kind.form
        if form == "optional":
            return f"{self._hint(kind.inner[0])} | None"
        if form == "union":
            return " | ".join(map(self._hint, kind.inner))
        if form == "literal":
            return f"Literal[{', '.join(map(_literal, kind.words))}]"
        if form in ("struct", "enum"):
            return self._names[kind.name]
        if form in ("interface", "parcelable"):
            return _unique(_identifier(kind.name.rpartition(".")[2]), set())
        if form == "ndarray":
            return f"NDArray[numpy.{kind.name}]" if kind.name else "numpy.ndarray"
        name = _HINTS.get(form, form)
        if form == "tuple" and not kind.inner:
            return "tuple[()]"
        return f"{name}[{', '.join(map(self._hint, kind.inner))}]" if kind.inner else name


def _literal(word: str) -> str:
    """Return a literal's value as Python: numbers, simple strings and names as they are, all else as a string."""
    plain = re.fullmatch(r"-?[0-9]{1,20}|True|False|None|[b]?'[^'\\]*'|\"[^\"\\]*\"", word)
    if plain and not re.fullmatch(r"-?0[0-9]+", word):
        return word
    return repr(word)


def _identifier(name: str) -> str:
    """Return what is left of a type's name ("Box[int64]") in an identifier ("Box_int64")."""
    made = re.sub(r"\W+", "_", name, flags=re.ASCII).strip("_") or "Type"
    return f"_{made}" if made[0].isdigit() or made in ("None", "True", "False") else made[:100]


def _unique(name: str, taken: set[str]) -> str:
    number, made = 1, f"{name}_" if keyword.iskeyword(name) else name
    while made in taken:
        number += 1
        made = f"{name}_{number}"
    taken.add(made)
    return made


def _doc(doc: str, indent: str) -> list[str]:
    """Return a docstring's lines; nothing in the text can end it or command a terminal."""
    if not doc.strip():
        return []
    lines = printable(doc.strip().replace("\\", "\\\\").replace('"""', "'''"), lines=True).splitlines()
    if lines[-1].endswith('"'):
        lines[-1] += " "
    body = [f"{indent}{line}".rstrip() if line.strip() else "" for line in lines]
    body[0] = f'{indent}"""{lines[0]}'
    if len(lines) == 1:
        return [f'{body[0]}"""']
    return [*body, f'{indent}"""']
