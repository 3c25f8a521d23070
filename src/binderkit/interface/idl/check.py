"""The static rules of IDL in SA mode (reference 5.4), each with its own error.

Owns: everything the grammar cannot say. Walks a file once from top to bottom, because a name is declared before it is
used, and completes its tree: what names stand for, codes of methods, values of enum members, the descriptor.

What only HDI has is refused by name. Two rules are stricter than OpenHarmony's tool: an enum's values fit the int32
that carries them, and codes lie in 1 … 0xFFFFEF, the highest a contract of binderkit may use.
"""

from __future__ import annotations

from typing import Final

from binderkit import limits
from binderkit.errors import IdlError
from binderkit.interface import codes
from binderkit.interface.idl.attributes import check_interface_attributes, check_method_attributes
from binderkit.interface.idl.expressions import evaluate
from binderkit.interface.idl.parse import number_of
from binderkit.interface.idl.scope import Scope, a_kind, hashable, is_remote_object, kind_of
from binderkit.interface.idl.syntax import (
    Array,
    Attribute,
    Basic,
    Container,
    Directive,
    Document,
    Enum,
    EnumMember,
    Field,
    Import,
    Interface,
    Method,
    Named,
    Parameter,
    Pointer,
    Struct,
    Type,
    Union,
)

__all__ = ["check"]

INTEGERS: Final = {
    "byte": (-(2**7), 2**7 - 1),
    "short": (-(2**15), 2**15 - 1),
    "int": (-(2**31), 2**31 - 1),
    "long": (-(2**63), 2**63 - 1),
    "unsigned char": (0, 2**8 - 1),
    "unsigned short": (0, 2**16 - 1),
    "unsigned int": (0, 2**32 - 1),
    "unsigned long": (0, 2**64 - 1),
}
_PLAIN: Final = frozenset(INTEGERS) | {"boolean", "char", "float", "double"}
_ONLY_HDI: Final = {
    "Ashmem": "rawdata, which travels through shared memory when it is large",
    "NativeBuffer": "a sequenceable with a class of yours",
    "Pointer": "rawdata or a struct, for an address means nothing in another process",
    "SharedMemQueue": "a FileDescriptor of the shared memory",
}
"""Types of HDI mode (reference 5.4), and what serves instead."""


def check(document: Document) -> None:
    """Check a parsed file whose imports are read and checked already, and complete its tree.

    Raises:
        IdlError: a rule is broken; the text says which, where, and what to do (401).
    """
    _Checker(document).run()


class _Checker:
    def __init__(self, document: Document) -> None:
        self._document = document
        self._source = document.source
        self._scope = Scope(document.source)

    def run(self) -> None:
        self._check_directives()
        package = self._document.directive("package")
        defined: Interface | None = None
        for item in self._document.items:
            if isinstance(item, Directive):
                continue
            if isinstance(item, Import):
                self._import(item)
                continue
            if isinstance(item, Interface):
                if defined is not None:
                    raise self._source.error(
                        item.span,
                        f"a file defines one interface, and {defined.name} is it; move {item.name} to its own file",
                    )
                defined = item
                # Its own methods may take it as a parameter (a listener that is handed on).
                self._scope.declare(item, package, self._source, item.span)
                self._check_interface(item, package)
                continue
            if isinstance(item, Enum):
                self._check_enum(item)
            elif isinstance(item, Struct):
                self._check_struct(item)
            elif isinstance(item, Union):
                self._check_union(item)
            self._scope.declare(item, package, self._source, item.span)

    def _check_directives(self) -> None:
        seen: set[str] = set()
        for item in self._document.items:
            if not isinstance(item, Directive):
                continue
            if item.name in seen:
                raise self._source.error(item.span, f"{item.name} is given already; a file has it once")
            seen.add(item.name)

    def _import(self, item: Import) -> None:
        if item.document is None:
            raise self._source.error(item.span, "there is no file this text came from, so it cannot import another one")
        self._scope.bring_in(item.document, item.span)

    # --- interfaces ---------------------------------------------------------------------------

    def _check_interface(self, interface: Interface, package: str) -> None:
        path = self._document.path
        if path is not None and path.stem != interface.name:
            raise self._source.error(
                interface.span,
                f"interface {interface.name} stands in {path.name}; its file must be {interface.name}.idl",
            )
        check_interface_attributes(self._source, interface)
        qualifier = interface.qualifier or package
        name = f"{qualifier}.{interface.name}" if qualifier else interface.name
        interface.descriptor = self._document.directive("interface_token") or name
        if interface.extends is not None:
            base = self._scope.resolve(interface.extends)
            if not isinstance(base, Interface) or base is interface:
                raise self._source.error(
                    interface.extends.span, f"{interface.name} can only extend an interface it imports; import its file"
                )
        all_oneway = any(attribute.name == "oneway" for attribute in interface.attributes)
        signatures: dict[tuple[str, ...], Method] = {}
        for method in interface.methods:
            self._check_method(method, all_oneway)
            signature = (method.name, *(f"{one.direction} {one.type}" for one in method.parameters))
            if signature in signatures:
                raise self._source.error(
                    method.span,
                    f"{method.name} with these parameters stands in line {signatures[signature].span.line} already",
                )
            signatures[signature] = method
        self._number(interface)

    def _check_method(self, method: Method, all_oneway: bool) -> None:
        check_method_attributes(self._source, method)
        method.oneway = all_oneway or method.attribute("oneway") is not None
        if method.result is not None:
            self._check_type(method.result)
        names: set[str] = set()
        for parameter in method.parameters:
            if parameter.name in names:
                raise self._source.error(parameter.span, f"{method.name} has a parameter {parameter.name!r} already")
            names.add(parameter.name)
            self._check_parameter(parameter)
        if not method.oneway:
            return
        if method.result is not None:
            raise self._source.error(
                method.span, f"{method.name} is oneway, so nothing comes back; its result must be void"
            )
        for parameter in method.parameters:
            if parameter.direction != "in":
                raise self._source.error(
                    parameter.span,
                    f"{method.name} is oneway, so nothing comes back; parameter {parameter.name!r} cannot be "
                    f"{parameter.direction}",
                )

    def _check_parameter(self, parameter: Parameter) -> None:
        kind = parameter.type
        if isinstance(kind, Basic) and kind.name == "CString":
            if parameter.direction != "in":
                raise self._source.error(
                    parameter.span, f"a CString can only go in; make parameter {parameter.name!r} [in], or a String"
                )
            return
        self._check_type(kind)

    def _number(self, interface: Interface) -> None:
        """Give codes: from 1 in order of declaration, after an explicit one from there on (reference 5.4)."""
        following = limits.MIN_TRANSACTION_ID
        used: dict[int, Method] = {}
        for method in interface.methods:
            attribute = method.attribute("ipccode")
            where = method.span if attribute is None else attribute.span
            explicit = None if attribute is None else number_of(attribute.value)
            method.code = following if explicit is None else explicit
            if not limits.MIN_TRANSACTION_ID <= method.code <= codes.LAST_METHOD:
                raise self._source.error(
                    where,
                    f"{method.name} has code {method.code:#x}; codes go from 1 to {codes.LAST_METHOD:#x} "
                    "(0 is no user code, those above answer what every typed object answers)",
                )
            if method.code in used:
                raise self._source.error(
                    where, f"{used[method.code].name} and {method.name} both have code {method.code}"
                )
            used[method.code] = method
            following = method.code + 1

    # --- types --------------------------------------------------------------------------------

    def _check_enum(self, enum: Enum) -> None:
        self._check_no_attributes(enum.attributes, enum.name)
        lowest, highest = INTEGERS["int"]
        members: dict[str, int] = {}
        following = 0
        if isinstance(enum.base, Named):
            base = self._scope.resolve(enum.base)
            if not isinstance(base, Enum):
                raise self._source.error(
                    enum.base.span, f"{enum.base} is {a_kind(kind_of(base))}; an enum's base is an integer or enum"
                )
            inherited = [EnumMember(one.name, None, enum.base.span, one.comment, one.value) for one in base.members]
            members = {member.name: member.value for member in inherited}
            following = inherited[-1].value + 1
        elif enum.base is not None:
            if not isinstance(enum.base, Basic) or enum.base.name not in INTEGERS:
                raise self._source.error(
                    enum.base.span,
                    f"{enum.base} cannot be an enum's base; it is one of {', '.join(INTEGERS)}, or an enum",
                )
            lowest, highest = INTEGERS[enum.base.name]
        if not enum.members:
            raise self._source.error(enum.span, f"enum {enum.name} has no members; give it one")
        for member in enum.members:
            if member.name in members:
                raise self._source.error(member.span, f"enum {enum.name} has a member {member.name} already")
            if member.expression is not None:
                following = evaluate(member.expression, members, self._source)
            self._check_value(member, following, lowest, highest, enum)
            member.value = members[member.name] = following
            following += 1
        if isinstance(enum.base, Named):
            enum.members[:0] = inherited

    def _check_value(self, member: EnumMember, value: int, lowest: int, highest: int, enum: Enum) -> None:
        if not lowest <= value <= highest:
            raise self._source.error(
                member.span, f"{member.name} = {value} does not fit {enum.base or 'int'}, {lowest} … {highest}"
            )
        low, high = INTEGERS["int"]
        if not low <= value <= high:
            raise self._source.error(member.span, f"{member.name} = {value} does not fit the int32 an enum travels in")

    def _check_struct(self, struct: Struct) -> None:
        self._check_no_attributes(struct.attributes, struct.name)
        names: set[str] = set()
        if struct.base is not None:
            base = self._scope.resolve(struct.base)
            if not isinstance(base, Struct):
                raise self._source.error(
                    struct.base.span, f"{struct.base} is {a_kind(kind_of(base))}; a struct extends a struct"
                )
            names = {one.name for one in _all_fields(base)}
        if not struct.fields:
            raise self._source.error(struct.span, f"struct {struct.name} has no members; give it one")
        for member in struct.fields:
            self._check_field(member, names, struct.name)
            self._check_type(member.type)

    def _check_union(self, union: Union) -> None:
        self._check_no_attributes(union.attributes, union.name)
        if not union.fields:
            raise self._source.error(union.span, f"union {union.name} has no members; give it one")
        names: set[str] = set()
        for member in union.fields:
            self._check_field(member, names, union.name)
            kind = member.type
            if isinstance(kind, Named):
                plain = isinstance(self._scope.resolve(kind), Enum)
            else:
                plain = isinstance(kind, Basic) and kind.name in _PLAIN
            if not plain:
                raise self._source.error(
                    kind.span, f"a union holds plain data: integers, boolean, char, float, double and enums, not {kind}"
                )

    def _check_field(self, member: Field, names: set[str], owner: str) -> None:
        if member.name in names:
            raise self._source.error(member.span, f"{owner} has a member {member.name!r} already")
        names.add(member.name)

    def _check_no_attributes(self, attributes: list[Attribute], name: str) -> None:
        for attribute in attributes:
            raise self._source.error(attribute.span, f"{name} is a type; types take attributes only in HDI mode")

    def _check_type(self, kind: Type) -> None:
        """Check a type wherever it stands, and look its names up."""
        if isinstance(kind, Basic):
            self._check_basic(kind)
        elif isinstance(kind, Named):
            self._scope.resolve(kind)
        elif isinstance(kind, Array):
            self._check_type(kind.element)
        elif isinstance(kind, Pointer):
            self._check_pointer(kind)
        else:
            self._check_container(kind)

    def _check_basic(self, kind: Basic) -> None:
        if kind.name in _ONLY_HDI:
            raise self._only_hdi(kind)
        if kind.name == "void":
            raise self._source.error(kind.span, "void is no value; it can only be a method's result")
        if kind.name == "CString":
            raise self._source.error(kind.span, "CString can only be the type of an [in] parameter; use String")

    def _only_hdi(self, kind: Basic | Container) -> IdlError:
        return self._source.error(
            kind.span, f"{kind} exists in HDI mode only, and binderkit reads SA mode; use {_ONLY_HDI[kind.name]}"
        )

    def _check_pointer(self, kind: Pointer) -> None:
        self._check_type(kind.target)
        target = kind.target
        if isinstance(target, Pointer):
            raise self._source.error(kind.span, f"{kind} points to a pointer; one is enough")
        if not isinstance(target, Named) or target.target is None:
            return
        if is_remote_object(target.target) or kind_of(target.target) == "interface":
            raise self._source.error(
                kind.span,
                f"{kind.name} cannot stand around {target}: remote objects and interfaces are pointers already",
            )

    def _check_container(self, kind: Container) -> None:
        if kind.name in _ONLY_HDI:
            raise self._only_hdi(kind)
        for argument in kind.arguments:
            self._check_type(argument)
        if kind.name != "List" and not hashable(kind.arguments[0]):
            role = (
                "element of a Set"
                if kind.name == "Set"
                else f"key of {'an' if kind.name[0] == 'O' else 'a'} {kind.name}"
            )
            raise self._source.error(
                kind.arguments[0].span,
                f"{kind.arguments[0]} cannot be the {role}: "
                "Python needs a hash; numbers, String, enums and structs of these have one",
            )


def _all_fields(struct: Struct) -> list[Field]:
    base = struct.base.target if struct.base is not None else None
    return [*(_all_fields(base) if isinstance(base, Struct) else ()), *struct.fields]
