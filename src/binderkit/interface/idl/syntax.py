"""What an IDL file says, as objects (reference 5.3).

Owns: the tree that parse.py builds, check.py completes and to_python.py reads. Every part knows its place in its file,
so that a rule that is found broken late still names line and column. Fields that check.py fills are marked so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from binderkit.errors import IdlError

__all__ = [
    "Array",
    "Attribute",
    "Basic",
    "Binary",
    "Container",
    "Declaration",
    "Directive",
    "Document",
    "Enum",
    "EnumMember",
    "Expression",
    "External",
    "Field",
    "Import",
    "Interface",
    "Item",
    "Method",
    "Named",
    "Number",
    "Parameter",
    "Pointer",
    "Reference",
    "Source",
    "Span",
    "Struct",
    "Type",
    "Unary",
    "Union",
]


@dataclass(frozen=True, slots=True)
class Span:
    """A place in a file: offsets of its first and behind its last character; line and column count from 1."""

    start: int
    end: int
    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Source:
    """A file's text and how the file is called in errors."""

    name: str
    text: str

    def error(self, where: Span, reason: str) -> IdlError:
        """Return the error that shows ``where``."""
        return self.error_at(where.line, where.column, reason)

    def error_at(self, line: int, column: int, reason: str) -> IdlError:
        """Return the error for a line and column, both counted from 1."""
        lines = self.text.split("\n")
        text = lines[line - 1] if line <= len(lines) else ""
        return IdlError(reason, file=self.name, line=line, column=column, text=text.rstrip("\r"))


# --- types ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Basic:
    """A type the language has itself; ``name`` as written, with one space after ``unsigned``."""

    name: str
    span: Span

    def __str__(self) -> str:
        return self.name


@dataclass(slots=True)
class Named:
    """A type by its name; ``kind`` is the word in front of it ("enum", "struct", …) or "".

    ``target`` is filled by check.py.
    """

    name: str
    kind: str
    span: Span
    target: Declaration | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.name


@dataclass(frozen=True, slots=True)
class Array:
    """T[]."""

    element: Type
    span: Span

    def __str__(self) -> str:
        return f"{self.element}[]"


@dataclass(frozen=True, slots=True)
class Container:
    """List<T>, Set<T>, Map<K, V>, OrderedMap<K, V>, SharedMemQueue<T>."""

    name: str
    arguments: tuple[Type, ...]
    span: Span

    def __str__(self) -> str:
        return f"{self.name}<{', '.join(str(argument) for argument in self.arguments)}>"


@dataclass(frozen=True, slots=True)
class Pointer:
    """sharedptr<T> and its like; those whose name starts with null_ may be null."""

    name: str
    target: Type
    span: Span

    def __str__(self) -> str:
        return f"{self.name}<{self.target}>"


Type: TypeAlias = Basic | Named | Array | Container | Pointer


# --- expressions ----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Number:
    """An integer."""

    value: int
    span: Span


@dataclass(frozen=True, slots=True)
class Reference:
    """An earlier member of the enum."""

    name: str
    span: Span


@dataclass(frozen=True, slots=True)
class Unary:
    """+, - or ~."""

    operator: str
    operand: Expression
    span: Span


@dataclass(frozen=True, slots=True)
class Binary:
    """Two operands and what is between them."""

    operator: str
    left: Expression
    right: Expression
    span: Span


Expression: TypeAlias = Number | Reference | Unary | Binary


# --- declarations ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Attribute:
    """One entry of ``[...]``: its name, and what follows as written ("" if nothing does)."""

    name: str
    value: str
    span: Span

    def __str__(self) -> str:
        return f"{self.name} {self.value}" if self.value else self.name


@dataclass(frozen=True, slots=True)
class Directive:
    """package, interface_token, or one of the options (whose value is on or off)."""

    name: str
    value: str
    span: Span


@dataclass(slots=True)
class Import:
    """import PATH. ``document`` and ``path`` (of the file) are filled when the file is read."""

    written: str
    span: Span
    path: Path | None = None
    document: Document | None = None


@dataclass(frozen=True, slots=True)
class External:
    """A type that is defined elsewhere: ``kind`` is sequenceable, rawdata or interface (a forward declaration).

    Attributes:
        qualified: its full name, e.g. "OHOS.AAFwk.Want". include: the path in front of double dots, or "".
    """

    kind: str
    qualified: str
    include: str
    span: Span
    comment: str = ""

    @property
    def name(self) -> str:
        """The last part of its name."""
        return self.qualified.rpartition(".")[2]


@dataclass(slots=True)
class EnumMember:
    """A member of an enum; ``value`` is filled by check.py."""

    name: str
    expression: Expression | None
    span: Span
    comment: str
    value: int = 0


@dataclass(slots=True)
class Enum:
    """An enum; ``base`` is the type after the colon."""

    name: str
    base: Type | None
    members: list[EnumMember]
    attributes: list[Attribute]
    span: Span
    comment: str


@dataclass(frozen=True, slots=True)
class Field:
    """A member of a struct or union."""

    name: str
    type: Type
    span: Span
    comment: str


@dataclass(slots=True)
class Struct:
    """A struct; ``base`` is the struct after the colon."""

    name: str
    base: Named | None
    fields: list[Field]
    attributes: list[Attribute]
    span: Span
    comment: str


@dataclass(slots=True)
class Union:
    """A C union: its members share the same 8 bytes."""

    name: str
    fields: list[Field]
    attributes: list[Attribute]
    span: Span
    comment: str


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter; ``direction`` is "in", "out" or "inout"."""

    direction: str
    type: Type
    name: str
    span: Span


@dataclass(slots=True)
class Method:
    """A method. ``result`` is None for void. ``code`` is filled by check.py."""

    name: str
    result: Type | None
    parameters: list[Parameter]
    attributes: list[Attribute]
    span: Span
    comment: str
    code: int = 0
    oneway: bool = False

    def attribute(self, name: str) -> Attribute | None:
        """Return the attribute of that name, if it has it."""
        return next((attribute for attribute in self.attributes if attribute.name == name), None)


@dataclass(slots=True)
class Interface:
    """The interface a file defines. ``qualifier`` is what its own name has in front, "" if nothing.

    ``descriptor`` and ``base`` (what it extends) are filled by check.py.
    """

    name: str
    qualifier: str
    extends: Named | None
    methods: list[Method]
    attributes: list[Attribute]
    span: Span
    comment: str
    descriptor: str = ""


Declaration: TypeAlias = Interface | Enum | Struct | Union | External
Item: TypeAlias = Directive | Import | Declaration


@dataclass(slots=True)
class Document:
    """A whole file.

    Attributes:
        source: its text. path: the file; None if it was parsed from text.
        licence: the leading block comment, without its marks. items: everything else in order.
    """

    source: Source
    path: Path | None
    licence: str
    items: list[Item] = field(default_factory=list)

    @property
    def interface(self) -> Interface | None:
        """The interface the file defines, or None: a file of types."""
        return next((item for item in self.items if isinstance(item, Interface)), None)

    @property
    def imports(self) -> list[Import]:
        """The files it imports."""
        return [item for item in self.items if isinstance(item, Import)]

    def directive(self, name: str) -> str:
        """Return the value of a directive, "" if the file does not have it."""
        return next((item.value for item in self.items if isinstance(item, Directive) and item.name == name), "")

    @property
    def declarations(self) -> list[Declaration]:
        """What the file declares, in order."""
        return [item for item in self.items if not isinstance(item, (Directive, Import))]
