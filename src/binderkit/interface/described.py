"""A contract's description (Contract.describe) that was checked: what tools may rely on when another process sent it.

Owns: the shape of a description and its limits. compare.py, show.py and dynamic.py work on the result only.

Rules upheld: nothing of a description is imported, evaluated or used as a name before it was checked here; numbers of
things and depth of nesting are limited; a text that is shown holds no control characters (they could command a
terminal).
"""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Final, NoReturn, TypeVar

from binderkit import limits
from binderkit.errors import CommunicationError
from binderkit.interface import codes

__all__ = [
    "Description",
    "EnumType",
    "FieldPart",
    "MethodPart",
    "ParameterPart",
    "PropertyPart",
    "RaisesPart",
    "StructType",
    "TypeRef",
    "printable",
    "read_description",
]

T = TypeVar("T")

SCALARS: Final = frozenset(
    "None bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 char float float32 str bytes bytearray memoryview "
    "datetime date time timedelta uuid decimal path fd file ashmem remote ndarray".split()
)
DTYPES: Final = frozenset(
    "bool_ bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 longdouble complex64 "
    "complex128 number integer signedinteger unsignedinteger inexact floating complexfloating generic".split()
)
ONE_INNER: Final = frozenset(("list", "set", "optional"))
SEVERAL_INNER: Final = frozenset(("tuple", "union"))
NAMED: Final = frozenset(("struct", "enum", "interface", "parcelable"))
ENUM_FORMS: Final[dict[str, type[Any]]] = {"int32": int, "int64": int, "str": str, "float": float, "bytes": str}


@dataclass(frozen=True)
class TypeRef:
    """A type where it is used.

    Attributes:
        form: a word of SCALARS, "list", "set", "optional", "map", "tuple", "union", "literal", "struct", "enum",
            "interface" or "parcelable".
        inner: the types it is made of.
        name: of a struct, an enum, an interface (its descriptor) or a parcelable; of an ndarray its element's type.
        words: the values of a literal, each as Python would show it.
    """

    form: str
    inner: tuple[TypeRef, ...] = ()
    name: str = ""
    words: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Return it as in a hint, e.g. "list[Size] | None"."""
        if self.form == "optional":
            return f"{self.inner[0]} | None"
        if self.form == "union":
            return " | ".join(map(str, self.inner))
        if self.form == "literal":
            return f"Literal[{', '.join(self.words)}]"
        if self.form == "map":
            return f"dict[{self.inner[0]}, {self.inner[1]}]"
        if self.inner or self.form == "tuple":
            return f"{self.form}[{', '.join(map(str, self.inner))}]"
        if self.form == "ndarray":
            return f"ndarray[{self.name}]" if self.name else "ndarray"
        return self.name or self.form


@dataclass(frozen=True)
class FieldPart:
    """A field of a struct; ``optional``: it has a default."""

    name: str
    type: TypeRef
    optional: bool


@dataclass(frozen=True)
class StructType:
    """A class with fields; ``packed``: it travels without a head, so that nothing can be appended."""

    name: str
    packed: bool
    fields: tuple[FieldPart, ...]


@dataclass(frozen=True)
class EnumType:
    """An enum; ``form``: what its values travel as."""

    name: str
    form: str
    flag: bool
    members: dict[str, int | str | float]


@dataclass(frozen=True)
class ParameterPart:
    """A parameter of a method; ``optional``: it has a default."""

    name: str
    type: TypeRef
    optional: bool
    keyword_only: bool


@dataclass(frozen=True)
class RaisesPart:
    """A declared exception and how its fields travel."""

    name: str
    fields: TypeRef


@dataclass(frozen=True)
class MethodPart:
    """A method; ``result`` is None for nothing."""

    name: str
    code: int
    oneway: bool
    idempotent: bool
    parameters: tuple[ParameterPart, ...]
    result: TypeRef | None
    stream: bool
    raises: tuple[RaisesPart, ...]
    doc: str


@dataclass(frozen=True)
class PropertyPart:
    """A property; ``setter`` is 0 if it can only be read."""

    name: str
    getter: int
    setter: int
    type: TypeRef


@dataclass(frozen=True)
class Description:
    """An interface: what Contract.describe says."""

    descriptor: str
    version: int
    name: str
    doc: str
    extends: tuple[str, ...]
    methods: dict[str, MethodPart]
    properties: dict[str, PropertyPart]
    structs: dict[str, StructType]
    enums: dict[str, EnumType]


def read_description(told: object) -> Description:
    """Return a description after checking all of it.

    Args:
        told: what JSON gave for it.

    Raises:
        CommunicationError: it is none; the text says where and why (1900007).
    """
    return _Reader().description(told)


def printable(text: str, *, lines: bool = False) -> str:
    """Return ``text`` with everything that is not printable as an escape (``\\x1b``); ``lines``: line ends stay."""
    return "".join(
        one if one.isprintable() or (lines and one == "\n") else one.encode("unicode_escape").decode() for one in text
    )


def is_name(text: str) -> bool:
    """Return whether ``text`` can name a method, a parameter, a field or a member in Python and means itself there."""
    return (
        text.isidentifier()
        and not keyword.iskeyword(text)
        and not text.startswith("__")
        and unicodedata.normalize("NFKC", text) == text
    )


class _Reader:
    """Reads one description. Every function takes where it is, for the error."""

    def __init__(self) -> None:
        self._references: list[tuple[str, TypeRef]] = []

    def description(self, told: object) -> Description:
        where = "the description"
        methods = self._by_name(self._items(told, "methods", where, limits.MAX_DESCRIBED_METHODS), self._method)
        properties = self._by_name(self._items(told, "properties", where, limits.MAX_DESCRIBED_METHODS), self._property)
        structs, enums = self._types(self._get(told, "types", dict, where))
        made = Description(
            descriptor=self._text(told, "descriptor", where, limits.MAX_STRING_UNITS - 1),
            version=self._whole(told, "version", where, 1, (1 << 31) - 1),
            name=self._name(told, where),
            doc=self._text(told, "doc", where, limits.MAX_DESCRIBED_TEXT),
            extends=tuple(
                self._is(one, str, f"{where}, extends")
                for one in self._items(told, "extends", where, limits.MAX_DESCRIBED_METHODS)
            ),
            methods=methods,
            properties=properties,
            structs=structs,
            enums=enums,
        )
        self._check_references(made)
        self._check_codes(made)
        return made

    # --- parts ------------------------------------------------------------------------------------------------

    def _method(self, told: object) -> MethodPart:
        name = self._name(told, "a method")
        where = f"the method {name}"
        parameters = self._by_name(
            self._items(told, "parameters", where, limits.MAX_DESCRIBED_PARAMETERS),
            lambda one: self._parameter(one, where),
        )
        self._check_order(tuple(parameters.values()), where)
        result = self._get(told, "result", object, where)
        return MethodPart(
            name=name,
            code=self._whole(told, "code", where, 1, codes.LAST_METHOD),
            oneway=self._get(told, "oneway", bool, where),
            idempotent=self._get(told, "idempotent", bool, where),
            parameters=tuple(parameters.values()),
            result=None if result is None else self._type(result, f"{where}, its result"),
            stream=self._get(told, "stream", bool, where),
            raises=tuple(
                self._raises(one, where) for one in self._items(told, "raises", where, limits.MAX_DESCRIBED_PARAMETERS)
            ),
            doc=self._text(told, "doc", where, limits.MAX_DESCRIBED_TEXT),
        )

    def _parameter(self, told: object, method: str) -> ParameterPart:
        name = self._name(told, f"a parameter of {method}")
        where = f"{method}({name})"
        return ParameterPart(
            name=name,
            type=self._type(self._get(told, "type", object, where), where),
            optional=self._get(told, "optional", bool, where),
            keyword_only=self._get(told, "keyword_only", bool, where),
        )

    def _check_order(self, parameters: tuple[ParameterPart, ...], where: str) -> None:
        ranks = [2 if one.keyword_only else int(one.optional) for one in parameters]
        if ranks != sorted(ranks):
            _fail(where, "a parameter without a default, or one that is not keyword-only, comes too late")

    def _raises(self, told: object, method: str) -> RaisesPart:
        where = f"{method}, what it raises"
        return RaisesPart(self._name(told, where), self._type(self._get(told, "fields", object, where), where))

    def _property(self, told: object) -> PropertyPart:
        name = self._name(told, "a property")
        where = f"the property {name}"
        return PropertyPart(
            name=name,
            getter=self._whole(told, "get", where, 1, codes.LAST_METHOD),
            setter=self._whole(told, "set", where, 0, codes.LAST_METHOD),
            type=self._type(self._get(told, "type", object, where), where),
        )

    # --- types ------------------------------------------------------------------------------------------------

    def _types(self, told: dict[Any, Any]) -> tuple[dict[str, StructType], dict[str, EnumType]]:
        if len(told) > limits.MAX_DESCRIBED_TYPES:
            _fail("types", f"{len(told)} of them; at most {limits.MAX_DESCRIBED_TYPES}")
        structs: dict[str, StructType] = {}
        enums: dict[str, EnumType] = {}
        for name, definition in told.items():
            where = f"the type {printable(name[:80])}"
            if not 0 < len(name) <= limits.MAX_DESCRIBED_WORD or not name.isprintable():
                _fail(where, "not a name")
            self._is(definition, dict, where)
            if "enum" in definition:
                enums[name] = self._enum(name, definition, where)
            else:
                structs[name] = self._struct(name, definition, where)
        return structs, enums

    def _struct(self, name: str, told: object, where: str) -> StructType:
        def field(one: object) -> FieldPart:
            known = self._name(one, f"a field of {where}")
            inside = f"{where}, its field {known}"
            return FieldPart(
                name=known,
                type=self._type(self._get(one, "type", object, inside), inside),
                optional=self._get(one, "optional", bool, inside),
            )

        fields = self._by_name(self._items(told, "fields", where, limits.MAX_DESCRIBED_FIELDS), field)
        return StructType(name, self._get(told, "packed", bool, where), tuple(fields.values()))

    def _enum(self, name: str, told: object, where: str) -> EnumType:
        form = self._text(told, "enum", where, limits.MAX_DESCRIBED_WORD)
        kind = ENUM_FORMS.get(form)
        if kind is None:
            _fail(where, f"its values travel as {form[:80]!r}; known are {', '.join(ENUM_FORMS)}")
        members = self._get(told, "members", dict, where)
        if not 0 < len(members) <= limits.MAX_DESCRIBED_MEMBERS:
            _fail(where, f"{len(members)} members; 1 … {limits.MAX_DESCRIBED_MEMBERS} are possible")
        for member, value in members.items():
            if not is_name(member) or member == "mro" or member.startswith("_"):
                _fail(where, f"{member[:80]!r} is no name of a member")
            if type(value) is not kind or (kind is int and not -(1 << 63) <= value < 1 << 63):
                _fail(where, f"the value of {member} is no {form}")
        return EnumType(name, form, self._get(told, "flag", bool, where), dict(members))

    def _type(self, told: object, where: str, depth: int = 0) -> TypeRef:
        if depth > limits.MAX_DESCRIBED_NESTING:
            _fail(where, f"types nested more than {limits.MAX_DESCRIBED_NESTING} levels deep")
        if isinstance(told, str):
            return self._scalar(told, where)
        if not isinstance(told, dict) or len(told) != 1:
            _fail(where, "not a type")
        ((form, inner),) = told.items()
        if form in ONE_INNER:
            return TypeRef(form, (self._type(inner, where, depth + 1),))
        if form in SEVERAL_INNER or form == "map":
            items = self._is(inner, list, where)
            if (
                len(items) > limits.MAX_DESCRIBED_PARAMETERS
                or (form == "map" and len(items) != 2)
                or (form == "union" and not items)
            ):
                _fail(where, f"a {form} of {len(items)} types")
            return TypeRef(form, tuple(self._type(item, where, depth + 1) for item in items))
        if form == "literal":
            words = self._is(inner, list, where)
            if not 0 < len(words) <= limits.MAX_DESCRIBED_PARAMETERS:
                _fail(where, f"a literal of {len(words)} values")
            return TypeRef(
                form, words=tuple(printable(self._is(word, str, where)[: limits.MAX_DESCRIBED_WORD]) for word in words)
            )
        if form not in NAMED:
            _fail(where, f"{str(form)[:80]!r} is no type this version of binderkit knows")
        reference = TypeRef(form, name=self._is(inner, str, where)[: limits.MAX_STRING_UNITS])
        self._references.append((where, reference))
        return reference

    def _scalar(self, told: str, where: str) -> TypeRef:
        if told in SCALARS:
            return TypeRef(told)
        if told.startswith("ndarray[") and told[8:-1] in DTYPES and told.endswith("]"):
            return TypeRef("ndarray", name=told[8:-1])
        _fail(where, f"{told[:80]!r} is no type this version of binderkit knows")

    # --- across parts -------------------------------------------------------------------------------------------

    def _check_references(self, made: Description) -> None:
        for where, reference in self._references:
            if reference.form == "struct" and reference.name not in made.structs:
                _fail(where, f"there is no struct {reference.name[:80]!r}")
            if reference.form == "enum" and reference.name not in made.enums:
                _fail(where, f"there is no enum {reference.name[:80]!r}")

    def _check_codes(self, made: Description) -> None:
        used: set[int] = set()
        for name, code in codes_of(made):
            if code in used or (name in made.properties and name in made.methods):
                _fail(name, "its code or its name is there twice")
            used.add(code)

    # --- JSON -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _is(value: object, kind: type[T], where: str) -> T:
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            _fail(where, f"expected {kind.__name__}, got {type(value).__name__}")
        return value

    def _get(self, told: object, key: str, kind: type[T], where: str) -> T:
        known: dict[str, Any] = self._is(told, dict, where)
        if key not in known:
            _fail(where, f"{key!r} is missing")
        return self._is(known[key], kind, f"{where}, {key}")

    def _text(self, told: object, key: str, where: str, longest: int) -> str:
        text = self._get(told, key, str, where)
        if len(text) > longest:
            _fail(where, f"{key!r} has {len(text)} characters; at most {longest}")
        return text

    def _whole(self, told: object, key: str, where: str, low: int, high: int) -> int:
        number = self._get(told, key, int, where)
        if not low <= number <= high:
            _fail(where, f"{key!r} is {number}; {low} … {high} is possible")
        return number

    def _items(self, told: object, key: str, where: str, most: int) -> list[Any]:
        items: list[Any] = self._get(told, key, list, where)
        if len(items) > most:
            _fail(where, f"{len(items)} {key}; at most {most}")
        return items

    def _name(self, told: object, where: str) -> str:
        name = self._text(told, "name", where, limits.MAX_DESCRIBED_WORD)
        if not is_name(name):
            _fail(where, f"{name!r} is no name")
        return name

    @staticmethod
    def _by_name(items: list[Any], read: Callable[[object], Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for item in items:
            one = read(item)
            if one.name in made:
                _fail(one.name, "the name is there twice")
            made[one.name] = one
        return made


def codes_of(description: Description) -> Iterator[tuple[str, int]]:
    """Yield the name of each method and property with each of its transaction codes."""
    for method in description.methods.values():
        yield method.name, method.code
    for prop in description.properties.values():
        yield prop.name, prop.getter
        if prop.setter:
            yield prop.name, prop.setter


def _fail(where: str, why: str) -> NoReturn:
    raise CommunicationError(f"this is no description of an interface: {where}: {why}")
