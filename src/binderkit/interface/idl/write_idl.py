"""Python to IDL: a contract becomes the text of an IDL file.

Owns: which hints IDL can express, and what stands for them. The way back (``parse_file``, ``to_python``) gives a
contract with the same descriptor, codes and layout. What IDL has no word for is refused, naming method and type: a
client generated from a text that says less would talk past the service.
"""

from __future__ import annotations

import inspect
import re
import types
from dataclasses import MISSING as NO_DEFAULT
from dataclasses import fields, is_dataclass
from enum import IntEnum
from typing import Any, Final, Union, cast, get_args, get_origin, get_type_hints

from binderkit.errors import IdlError
from binderkit.interface import codec as codecs
from binderkit.interface.codec.structs import is_packed
from binderkit.interface.contract import MISSING, Contract, Interface, Method
from binderkit.interface.idl.layouts import RawData, RawUnion, UnionMember
from binderkit.interface.idl.names import KEYWORDS, to_camel
from binderkit.interface.idl.python_types import FORMATS
from binderkit.interface.idl.writing import WIDTH
from binderkit.ipc.remote import IRemoteObject
from binderkit.parcel.parcelable import Parcelable

__all__ = ["from_python"]

_SIZED: Final[tuple[tuple[Any, str], ...]] = (
    (codecs.Int8, "byte"),
    (codecs.Int16, "short"),
    (codecs.Int32, "int"),
    (codecs.Int64, "long"),
    (codecs.UInt8, "unsigned char"),
    (codecs.UInt16, "unsigned short"),
    (codecs.UInt32, "unsigned int"),
    (codecs.UInt64, "unsigned long"),
    (codecs.Char, "char"),
    (codecs.Float32, "float"),
    (codecs.Fd, "FileDescriptor"),
    (bool, "boolean"),
    (int, "long"),
    (float, "double"),
    (str, "String"),
)
_CONTAINERS: Final = {list: "List", set: "Set", dict: "Map"}
_MEMBERS: Final = {form: name for name, form in reversed(FORMATS.items())}
"""Members of unions by their format; of char and byte, which look the same, it is byte."""
_RETURNS: Final = re.compile(r"(?:^|\n)Returns: (\w+(?:, [\w ]+)*)\.$")
_QUALIFIED: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*")


def from_python(interface: type[Interface]) -> str:
    """Return the IDL file for a contract, to be saved as ``<last part of the descriptor>.idl``.

    Methods, structs (``@packed`` dataclasses), IntEnums, interfaces, Parcelables and the types of reference 5.5 can be
    said in IDL. Defaults of parameters cannot; they become comments, since the layout does not depend on them.

    Raises:
        IdlError: the contract has what IDL cannot say: properties, streams, declared exceptions, other types; the text
            names the method and the type. Or it is no contract (401).
    """
    contract = getattr(interface, "__dict__", {}).get("__contract__")
    if not isinstance(contract, Contract):
        raise IdlError(f"{interface!r} declares no contract; give the class that has descriptor=…")
    return _IdlWriter(contract).text()


class _IdlWriter:
    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        self._where = contract.descriptor
        self._blocks: list[str] = []
        self._outside: dict[str, str] = {}
        self._named: dict[str, Any] = {}

    def text(self) -> str:
        contract = self._contract
        if not _QUALIFIED.fullmatch(contract.descriptor) or any(
            part in KEYWORDS for part in contract.descriptor.split(".")
        ):
            raise IdlError(
                f"descriptor {contract.descriptor!r} is no IDL name; IDL takes letters, digits and _ between dots"
            )
        if contract.properties:
            name = next(iter(contract.properties))
            raise IdlError(
                f"{self._where}.{name} is a property; IDL has none, write a method that gets and one that sets it"
            )
        package, _, name = contract.descriptor.rpartition(".")
        self._named[name] = contract.interface
        extends = self._extends()
        methods = self._methods()
        lines = [f"package {package};", ""] if package else []
        if self._outside:
            lines += [*self._outside.values(), ""]
        for block in self._blocks:
            lines += [block, ""]
        doc = contract.interface.__doc__
        if doc == f"{contract.descriptor}.":
            doc = None  # what to_python writes for an interface without a comment
        lines += [*_comment(doc, ""), f"interface {name}{extends} {{"]
        return "\n".join([*lines, *methods, "}", ""])

    def _extends(self) -> str:
        bases = self._contract.interface.__bases__
        declared = [base.__dict__["__contract__"] for base in bases if "__contract__" in base.__dict__]
        if not declared:
            return ""
        if len(declared) > 1:
            raise IdlError(f"{self._where} extends {len(declared)} interfaces; in IDL it can extend one")
        base = cast(Contract, declared[0])
        name = base.descriptor.rpartition(".")[2]
        self._outside[name] = f"import {name};"
        self._named[name] = base.interface
        return f" extends {name}"

    # --- methods ------------------------------------------------------------------------------

    def _methods(self) -> list[str]:
        lines: list[str] = []
        following = 1
        for method in self._contract.methods.values():
            lines += [*self._method(method, method.code != following)]
            following = method.code + 1
        return lines

    def _method(self, method: Method, numbered: bool) -> list[str]:
        where = f"{self._contract.interface.__name__}.{method.name}"
        if method.raises:
            raise IdlError(
                f"{where} declares {method.raises[0][0].__name__}; IDL has no exceptions, return a code instead"
            )
        if method.stream:
            raise IdlError(f"{where} returns a stream; IDL has none, take a callback interface instead")
        parameters: list[str] = []
        names: set[str] = set()
        defaults: list[str] = []
        for parameter in method.parameters:
            name = _unused(_idl_name(parameter.name), names)
            parameters.append(f"[in] {self._type(parameter.hint, f'{where}({parameter.name})')} {name}")
            if parameter.default is not MISSING:
                defaults.append(f"{name} = {parameter.default!r}")
        outs, result = self._results(method.result_hint, where)
        doc, out_names = _out_names(method.doc, len(outs))
        parameters += [
            f"[out] {kind} {_unused(_idl_name(name), names)}" for kind, name in zip(outs, out_names, strict=True)
        ]
        attributes = ["oneway"] if method.oneway else []
        attributes += [f"ipccode {method.code}"] if numbered else []
        opening = f"[{', '.join(attributes)}] " if attributes else ""
        comment = doc + (f"\n\nDefaults: {', '.join(defaults)}." if defaults else "")
        head = f"    {opening}{result} {_idl_name(method.name)}"
        line = f"{head}({', '.join(parameters)});"
        if len(line) > WIDTH:
            line = f"{head}(\n        " + ",\n        ".join(parameters) + ");"
        return [*_comment(comment, "    "), line]

    def _results(self, hint: Any, where: str) -> tuple[list[str], str]:
        """Return the types of the out parameters and of the return value: those of a tuple in order (reference 5.6)."""
        where = f"{where}, its result"
        if hint is None or hint is type(None):
            return [], "void"
        parts = get_args(hint)
        if get_origin(hint) is tuple and parts[-1] is not Ellipsis:
            kinds = [self._type(part, where) for part in parts]
            return kinds[:-1], kinds[-1]
        return [], self._type(hint, where)

    # --- types --------------------------------------------------------------------------------

    def _type(self, hint: Any, where: str) -> str:
        for known, name in _SIZED:
            if hint is known or (known is not int and hint == known):
                return name
        origin, arguments = get_origin(hint), get_args(hint)
        if origin in _CONTAINERS:
            return f"{_CONTAINERS[origin]}<{', '.join(self._type(argument, where) for argument in arguments)}>"
        if origin in (Union, types.UnionType):
            return self._optional(hint, arguments, where)
        if isinstance(hint, type):
            kind = self._class(hint, where)
            if kind is not None:
                return kind
        raise IdlError(f"{where}: IDL cannot say {_shown(hint)}{_advice(hint)}")

    def _optional(self, hint: Any, arguments: tuple[Any, ...], where: str) -> str:
        others = [argument for argument in arguments if argument is not type(None)]
        if len(others) != 1 or len(arguments) != 2:
            raise IdlError(
                f"{where}: IDL cannot say {_shown(hint)}; its unions carry no tag, only T | None can be said"
            )
        kind = self._type(others[0], where)
        if isinstance(others[0], type) and issubclass(others[0], (Interface, IRemoteObject)):
            raise IdlError(f"{where}: IDL cannot say {_shown(hint)}; its pointers do not stand around remote objects")
        return f"null_sharedptr<{kind}>"

    def _class(self, kind: type, where: str) -> str | None:
        """Return the name of a class after seeing to its declaration; None if there is no word for it."""
        if kind is IRemoteObject:
            self._outside["IRemoteObject"] = "sequenceable OHOS.IRemoteObject;"
            return "IRemoteObject"
        if issubclass(kind, Interface):
            return self._forward(kind, where)
        if issubclass(kind, IntEnum):
            self._declare(kind, where)
            return kind.__name__
        if issubclass(kind, RawUnion):
            self._declare(kind, where)
            return kind.__name__
        if issubclass(kind, RawData):
            return self._external("rawdata", kind, where)
        if is_dataclass(kind) and is_packed(kind):
            self._declare(kind, where)
            return kind.__name__
        if _is_parcelable(kind):
            return self._external("sequenceable", kind, where)
        return None

    def _forward(self, kind: type[Interface], where: str) -> str:
        contract = kind.__dict__.get("__contract__")
        if contract is None:
            raise IdlError(f"{where}: {kind.__name__} implements an interface; write the class that declares it")
        name = str(contract.descriptor.rpartition(".")[2])
        if self._claim(name, kind, where):
            self._outside[name] = f"interface {contract.descriptor};"
        return name

    def _external(self, word: str, kind: type, where: str) -> str:
        if self._claim(kind.__name__, kind, where):
            self._outside[kind.__name__] = f"{word} {kind.__name__};"
        return kind.__name__

    def _claim(self, name: str, kind: Any, where: str) -> bool:
        """Note that a name stands for a class; return whether that is new."""
        if name in KEYWORDS:
            raise IdlError(f"{where}: {name!r} is a keyword of IDL; rename the class")
        before = self._named.setdefault(name, None)
        if before is not None and before is not kind:
            raise IdlError(f"{where}: two different classes are called {name}; rename one of them")
        self._named[name] = kind
        return before is None

    def _declare(self, kind: type, where: str) -> None:
        if not self._claim(kind.__name__, kind, where):
            return
        if issubclass(kind, IntEnum):
            block = self._enum(kind, where)
        elif issubclass(kind, RawUnion):
            block = self._union(kind, where)
        else:
            block = self._struct(kind, where)
        # What it uses has been declared while its fields were written.
        self._blocks.append("\n".join(block))

    def _enum(self, kind: type[IntEnum], where: str) -> list[str]:
        lines = [*_comment(kind.__doc__, ""), f"enum {kind.__name__} {{"]
        members = kind.__members__
        for name, member in members.items():
            if not -(2**31) <= member.value < 2**31:
                raise IdlError(
                    f"{where}: {kind.__name__}.{name} = {member.value} does not fit the int32 of an IDL enum"
                )
            if name in KEYWORDS:
                raise IdlError(f"{where}: {kind.__name__}.{name} is a keyword of IDL; rename the member")
        lines += [f"    {name} = {member.value}," for name, member in members.items()]
        return [*lines, "};"]

    def _struct(self, kind: type, where: str) -> list[str]:
        base = next((base for base in kind.__bases__ if is_dataclass(base)), None)
        inherited: set[str] = set()
        extends = ""
        if base is not None:
            extends = f" : {self._type(base, where)}"
            inherited = {field.name for field in fields(base)}
        hints = get_type_hints(kind, include_extras=True)
        lines = [*_comment(_own_doc(kind), ""), f"struct {kind.__name__}{extends} {{"]
        for field in fields(kind):
            if field.name in inherited:
                continue
            inside = f"{where}, {kind.__name__}.{field.name}"
            if field.default is not NO_DEFAULT or field.default_factory is not NO_DEFAULT:
                raise IdlError(f"{inside} has a default; IDL has none, and its structs cannot grow")
            lines.append(f"    {self._type(hints[field.name], inside)} {_idl_name(field.name)};")
        return [*lines, "};"]

    def _union(self, kind: type, where: str) -> list[str]:
        lines = [*_comment(_own_doc(kind), ""), f"union {kind.__name__} {{"]
        for name, member in vars(kind).items():
            if isinstance(member, UnionMember):
                word = _MEMBERS.get(member.form, "")
                if issubclass(member.kind, IntEnum):
                    word = self._type(member.kind, f"{where}, {kind.__name__}.{name}")
                lines.append(f"    {word} {_idl_name(name)};")
        return [*lines, "};"]


def _is_parcelable(kind: type) -> bool:
    return (
        all(callable(getattr(kind, name, None)) for name in ("marshalling", "unmarshalling")) and kind is not Parcelable
    )


def _own_doc(kind: type) -> str | None:
    """Return a class's docstring, without the signature that dataclass puts there."""
    doc = kind.__dict__.get("__doc__")
    return None if doc is None or doc.startswith(f"{kind.__name__}(") else doc


def _out_names(doc: str, count: int) -> tuple[str, list[str]]:
    """Return a docstring and names for out parameters: those of the line that ``to_python`` put at its end."""
    match = _RETURNS.search(doc)
    names = match[1].split(", ")[:-1] if match is not None else []
    if match is None or len(names) != count:
        return doc, [f"out{number}" for number in range(1, count + 1)]
    return doc[: match.start()].rstrip(), names


def _idl_name(name: str) -> str:
    camel = to_camel(name)
    return f"{camel}_" if camel in KEYWORDS else camel


def _unused(name: str, names: set[str]) -> str:
    while name in names:
        name += "_"
    names.add(name)
    return name


def _comment(text: str | None, indent: str) -> list[str]:
    lines = inspect.cleandoc(text or "").replace("*/", "* /").splitlines()
    if not lines:
        return []
    return [f"{indent}/*", *(f"{indent} * {line}".rstrip() for line in lines), f"{indent} */"]


def _shown(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


def _advice(hint: Any) -> str:
    if hint in (bytes, bytearray, memoryview):
        return "; use list[UInt8], or a class derived from binderkit.interface.idl.layouts.RawData"
    if isinstance(hint, type) and is_dataclass(hint):
        return "; structs of IDL have no length in front, decorate it with @packed"
    return ""
