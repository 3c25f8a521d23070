"""Which names an IDL file knows, and what they stand for.

Owns: looking types up. A type is declared, or imported, before it is used (reference 5.4); it is called by its own name
or with its package in front.
"""

from __future__ import annotations

from binderkit.interface.idl.syntax import (
    Array,
    Basic,
    Container,
    Declaration,
    Document,
    Enum,
    External,
    Interface,
    Named,
    Pointer,
    Source,
    Span,
    Struct,
    Type,
    Union,
)

__all__ = ["Scope", "a_kind", "hashable", "is_remote_object", "kind_of"]


def kind_of(declaration: Declaration) -> str:
    """Return the IDL word for a declaration: "enum", "struct", "union", "interface", "sequenceable" or "rawdata"."""
    if isinstance(declaration, External):
        return declaration.kind
    return {Enum: "enum", Struct: "struct", Union: "union", Interface: "interface"}[type(declaration)]


def a_kind(word: str) -> str:
    """Return an IDL word with its article."""
    return f"an {word}" if word in ("enum", "interface") else f"a {word}"


def is_remote_object(declaration: Declaration | None) -> bool:
    """Whether it is ``sequenceable OHOS.IRemoteObject`` (reference 5.5)."""
    return (
        isinstance(declaration, External) and declaration.kind == "sequenceable" and declaration.name == "IRemoteObject"
    )


def hashable(kind: Type) -> bool:
    """Whether values of the type can be elements of a set and keys of a map in Python."""
    if isinstance(kind, Basic):
        return True
    if isinstance(kind, Pointer):
        return hashable(kind.target)
    if isinstance(kind, (Array, Container)):
        return False
    target = kind.target
    if isinstance(target, Struct):
        base = target.base is None or hashable(target.base)
        return base and all(hashable(member.type) for member in target.fields)
    return (
        isinstance(target, (Enum, Interface))
        or is_remote_object(target)
        or (isinstance(target, External) and target.kind == "interface")
    )


class Scope:
    """The names of one file, growing as it is read."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._known: dict[str, tuple[Declaration, Source]] = {}

    def declare(self, declaration: Declaration, package: str, source: Source, where: Span) -> None:
        """Make a declaration known.

        Args:
            package: of the file that declares it. source: that file. where: the declaration, or its import, in ours.

        Raises:
            IdlError: something else has the name already (401).
        """
        for name in {declaration.name, _qualified(declaration, package)}:
            before = self._known.get(name)
            if before is None or _completes(declaration, before[0]):
                self._known[name] = (declaration, source)
            elif not (_completes(before[0], declaration) or _same(before[0], declaration)):
                there = before[0].span
                raise self._source.error(
                    where, f"{name!r} is declared already, in {before[1].name} line {there.line}; rename one of them"
                )

    def resolve(self, named: Named) -> Declaration:
        """Return what a name stands for, and note it on the name.

        Raises:
            IdlError: nothing has the name, or it is of another kind than the word in front says (401).
        """
        known = self._known.get(named.name)
        if known is None:
            raise self._source.error(
                named.span, f"{named.name!r} is not declared before it is used; declare, import or correct it"
            )
        declaration = known[0]
        if named.kind and named.kind != kind_of(declaration):
            raise self._source.error(
                named.span, f"{named.name!r} is {a_kind(kind_of(declaration))}, not {a_kind(named.kind)}"
            )
        named.target = declaration
        return declaration

    def bring_in(self, document: Document, where: Span) -> None:
        """Make known what an imported file declares, without what that file imports itself."""
        for declaration in document.declarations:
            self.declare(declaration, document.directive("package"), document.source, where)


def _qualified(declaration: Declaration, package: str) -> str:
    if isinstance(declaration, External):
        return declaration.qualified
    if isinstance(declaration, Interface) and declaration.qualifier:
        package = declaration.qualifier
    return f"{package}.{declaration.name}" if package else declaration.name


def _completes(one: Declaration, other: Declaration) -> bool:
    """Whether ``one`` is the interface that ``other`` only announces."""
    return isinstance(one, Interface) and isinstance(other, External) and other.kind == "interface"


def _same(one: Declaration, other: Declaration) -> bool:
    """Whether two files name the same external type, or one file came in on two ways."""
    if one is other:
        return True
    if isinstance(one, External) and isinstance(other, External):
        return one.kind == other.kind and one.qualified == other.qualified
    return False
