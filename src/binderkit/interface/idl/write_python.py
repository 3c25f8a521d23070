"""IDL to Python: a checked document becomes a module of contracts, dataclasses and enums.

Owns: what each declaration looks like. The text is laid out as ``ruff format`` would; nothing has to be edited but
sequenceables, of which IDL does not say what they hold.

Results: the reply has the out and inout parameters in order, then the return value (reference 5.6); so has the tuple
that the method returns. Names of methods, parameters and members become snake_case: none of them travels.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from binderkit.interface.idl.load import forward_file
from binderkit.interface.idl.names import free_name, to_snake
from binderkit.interface.idl.python_types import FORMATS, INTERFACE, RESERVED, Types, class_name, is_frozen
from binderkit.interface.idl.scope import is_remote_object
from binderkit.interface.idl.syntax import (
    Basic,
    Declaration,
    Directive,
    Document,
    Enum,
    External,
    Field,
    Import,
    Interface,
    Method,
    Struct,
    Union,
)
from binderkit.interface.idl.writing import Imports, comment, docstring, import_lines, signature
from binderkit.ipc.remote import RemoteObject

__all__ = ["to_python"]

_STANDARD: Final = frozenset({"dataclasses", "enum"})
_LAYOUTS: Final = "binderkit.interface.idl.layouts"
_METHODS_OF_OBJECTS: Final = frozenset(name for name in dir(RemoteObject) if not name.startswith("__")) | {
    "as_object",
    "as_",
}
_MEMBERS_OF_ENUMS: Final = frozenset(dir(int)) | {"mro", "name", "value"}
_IND: Final = "    "


def to_python(document: Document, *, classes: Mapping[str, str] | None = None) -> str:
    """Return the Python module for a checked IDL document (of ``parse_file``).

    Args:
        document: imports become relative imports of the modules that are written for the imported files; these are
            called as ``module_name`` says, e.g. i_foo_bar.py for IFooBar.idl.
        classes: for sequenceable and rawdata types, and interfaces declared elsewhere: the Python class by the IDL
            name, e.g. {"OHOS.AAFwk.Want": "myapp.want:Want"}. A sequenceable without one becomes a class whose two
            methods are to be written.

    Returns:
        The module's text, formatted. It imports as it is; its interface has the codes and layout of the IDL.

    Raises:
        IdlError: the document has something Python cannot express: a CString, two types of the same name, a folder
            whose name is no identifier (401).
        ValueError: an entry of ``classes`` is not "package.module:Class".
    """
    return _Writer(document, classes or {}).text()


class _Writer:
    def __init__(self, document: Document, classes: Mapping[str, str]) -> None:
        self._document = document
        self._imports = Imports()
        self._types = Types(document, self._imports, classes)
        self._at_end: list[str] = []

    def text(self) -> str:
        self._check_names()
        blocks = [block for item in self._document.items if (block := self._item(item))]
        body = "\n\n\n".join("\n".join(block) for block in blocks)
        head = comment(self._document.licence, "")
        if head:
            head.append("")
        head += docstring(self._title(), "")
        head += ["", "from __future__ import annotations", "", *self._imports.lines(_STANDARD)]
        text = "\n".join(head)
        if body:
            text += f"\n\n{body}\n"
        if self._at_end:
            text += "\n\n" if body else "\n"
            text += "# At the end, because that file may need this one.\n" + "\n".join(sorted(self._at_end)) + "\n"
        return text.rstrip("\n") + "\n"

    def _title(self) -> str:
        name = self._document.path.name if self._document.path is not None else self._document.source.name
        interface = self._document.interface
        what = f"The contract {interface.name}" if interface is not None else "Types of contracts"
        return f"{what}. Written from {name} by `binderkit idl to-python`: change that file, not this one."

    def _check_names(self) -> None:
        seen: dict[str, Declaration] = {}
        for declaration in self._document.declarations:
            name = class_name(declaration)
            before = seen.setdefault(name, declaration)
            if before is not declaration and before.name != declaration.name:
                raise self._document.source.error(
                    declaration.span,
                    f"{before.name} and {declaration.name} are both {name} in Python; rename one of them",
                )

    def _item(self, item: Directive | Import | Declaration) -> list[str]:
        if isinstance(item, (Directive, Import)):
            return []
        if isinstance(item, External):
            return self._external(item)
        if isinstance(item, Enum):
            return self._enum(item)
        if isinstance(item, Struct):
            return self._struct(item)
        if isinstance(item, Union):
            return self._union(item)
        return self._interface(item)

    # --- types defined elsewhere --------------------------------------------------------------

    def _external(self, external: External) -> list[str]:
        name = class_name(external)
        if self._types.home(external) is not None:
            self._types.declared(external)
            return []
        if external.kind == "interface":
            return self._forward(external, name)
        if is_remote_object(external) or self._types.given_class(external) is not None:
            return []
        if external.kind == "rawdata":
            self._imports.use(_LAYOUTS, "RawData")
            self._use_dataclass()
            text = external.comment or f"rawdata {external.qualified}: make one by {name}.of(data)."
            return ["@packed", "@dataclass", f"class {name}(RawData):", *docstring(text, _IND)]
        self._imports.use("binderkit", "MessageSequence")
        self._imports.use("binderkit", "Parcelable")
        text = external.comment or (
            f"Sequenceable {external.qualified}. "
            "IDL does not say what it holds: write its two methods, or use a class of yours."
        )
        lines = [f"class {name}(Parcelable):", *docstring(text, _IND)]
        for method in ("marshalling", "unmarshalling"):
            lines += ["", f"{_IND}def {method}(self, sequence: MessageSequence) -> bool:"]
            lines.append(f'{_IND * 2}raise NotImplementedError("{name}.{method} is not written yet")')
        return lines

    def _forward(self, external: External, name: str) -> list[str]:
        """Import an interface from the file beside this one that defines it; else only its descriptor is known."""
        own = self._document.interface
        if own is not None and own.name == external.name:
            return []
        given = self._types.given_class(external)
        if given is not None:
            module, _, original = given.partition(":")
            self._import_at_end(module, original if original == name else f"{original} as {name}")
            return []
        path = forward_file(self._document, external)
        if path is not None:
            self._import_at_end(self._types.relative_module(path, external), name)
            return []
        self._imports.use(INTERFACE, "Interface")
        package = self._document.directive("package")
        descriptor = external.qualified
        if "." not in descriptor and package:
            descriptor = f"{package}.{descriptor}"
        text = external.comment or "Declared elsewhere; its methods are not known here."
        return [f'class {name}(Interface, descriptor="{descriptor}"):', *docstring(text, _IND)]

    def _import_at_end(self, module: str, name: str) -> None:
        self._at_end += import_lines(module, [name], "  # noqa: E402")

    # --- types --------------------------------------------------------------------------------

    def _enum(self, enum: Enum) -> list[str]:
        self._imports.use("enum", "IntEnum")
        lines = [f"class {class_name(enum)}(IntEnum):", *docstring(enum.comment, _IND)]
        if enum.comment:
            lines.append("")
        taken: set[str] = set()
        for member in enum.members:
            name = free_name(member.name, taken | _MEMBERS_OF_ENUMS)
            taken.add(name)
            lines += [*comment(member.comment, _IND), f"{_IND}{name} = {member.value}"]
        return lines

    def _struct(self, struct: Struct) -> list[str]:
        self._use_dataclass()
        base = struct.base.target if struct.base is not None else None
        bases = f"({self._types.declared(base)})" if base is not None else ""
        decorator = "@dataclass(frozen=True)" if is_frozen(struct) else "@dataclass"
        lines = ["@packed", decorator, f"class {class_name(struct)}{bases}:", *docstring(struct.comment, _IND)]
        if struct.comment:
            lines.append("")
        names = self._field_names(struct)
        for member in struct.fields:
            lines += comment(member.comment, _IND)
            lines.append(f"{_IND}{names[member.name]}: {self._types.hint(member.type)}")
        return lines

    def _field_names(self, struct: Struct) -> dict[str, str]:
        """Return the Python names of a struct's members, inherited ones included."""
        base = None if struct.base is None else struct.base.target
        names = self._field_names(base) if isinstance(base, Struct) else {}
        for member in struct.fields:
            names[member.name] = free_name(to_snake(member.name), {*names.values(), *self._taken()})
        return names

    def _union(self, union: Union) -> list[str]:
        self._use_dataclass()
        self._imports.use(_LAYOUTS, "RawUnion")
        self._imports.use(_LAYOUTS, "UnionMember")
        lines = ["@packed", "@dataclass", f"class {class_name(union)}(RawUnion):", *docstring(union.comment, _IND)]
        if union.comment:
            lines.append("")
        taken = {"bits", *self._taken()}
        for member in union.fields:
            name = free_name(to_snake(member.name), taken)
            taken.add(name)
            lines += [*comment(member.comment, _IND), f"{_IND}{name} = UnionMember({self._member_type(member)})"]
        return lines

    def _member_type(self, member: Field) -> str:
        kind = member.type
        if isinstance(kind, Basic):
            value = {"boolean": "bool", "float": "float", "double": "float"}.get(kind.name, "int")
            return f'"{FORMATS[kind.name]}", {value}'
        return f'"{FORMATS["int"]}", {self._types.hint(kind)}'

    def _use_dataclass(self) -> None:
        self._imports.use("dataclasses", "dataclass")
        self._imports.use(INTERFACE, "packed")

    def _taken(self) -> set[str]:
        """Return names that a member of a class would hide from the hints beside it."""
        return {*RESERVED, *(class_name(declaration) for declaration in self._document.declarations)}

    # --- the interface ------------------------------------------------------------------------

    def _interface(self, interface: Interface) -> list[str]:
        if interface.extends is not None and interface.extends.target is not None:
            base = self._types.declared(interface.extends.target)
        else:
            base = self._imports.use(INTERFACE, "Interface")
        options = [f"{item.name} {item.value}" for item in self._document.items if isinstance(item, Directive)]
        options = [option for option in options if not option.startswith(("package ", "interface_token "))]
        options += [str(attribute) for attribute in interface.attributes if attribute.name != "oneway"]
        name = class_name(interface)
        lines = [
            *_without_meaning(options, ""),
            f'class {name}({base}, descriptor="{interface.descriptor}"):',
            *docstring(interface.comment or f"{interface.descriptor}.", _IND),
        ]
        taken = self._taken() | _METHODS_OF_OBJECTS
        for method in interface.methods:
            python_name = self._method_name(method, taken)
            taken.add(python_name)
            lines += ["", *self._method(method, python_name)]
        return lines

    def _method_name(self, method: Method, taken: set[str]) -> str:
        """Return the name; a second one of the same name in IDL is told apart by its parameters' types."""
        name = to_snake(method.name)
        if name in taken and name not in RESERVED and name not in _METHODS_OF_OBJECTS:
            types = "_".join(
                "".join(c if c.isalnum() else " " for c in str(one.type)).strip() for one in method.parameters
            )
            name = to_snake(f"{name}_{'_'.join(types.split())}")
        return free_name(name, taken)

    def _method(self, method: Method, name: str) -> list[str]:
        names: set[str] = {"self"}
        parameters, results, described = ["self"], [], []
        for parameter in method.parameters:
            python_name = free_name(to_snake(parameter.name), names)
            names.add(python_name)
            hint = self._types.hint(parameter.type)
            if parameter.direction != "out":
                parameters.append(f"{python_name}: {hint}")
            if parameter.direction != "in":
                results.append(hint)
                described.append(python_name)
        if method.result is not None:
            results.append(self._types.hint(method.result))
            described.append("the result")
        text = method.comment
        if described and described != ["the result"]:
            text += f"{chr(10) * 2 if text else ''}Returns: {', '.join(described)}."
        documentation = docstring(text, _IND * 2)
        ending = ":" if documentation else ": ..."
        lines = self._decorators(method) + signature(name, parameters, results, ending, _IND)
        return [*lines, *documentation]

    def _decorators(self, method: Method) -> list[str]:
        others = [str(one) for one in method.attributes if one.name not in ("oneway", "ipccode")]
        lines = [*_without_meaning(others, _IND), f"{_IND}@{self._imports.use(INTERFACE, 'method')}"]
        if method.oneway:
            lines.append(f"{_IND}@{self._imports.use(INTERFACE, 'oneway')}")
        if method.attribute("ipccode") is not None:
            lines.append(f"{_IND}@{self._imports.use(INTERFACE, 'transaction_code')}({method.code})")
        return lines


def _without_meaning(options: list[str], indent: str) -> list[str]:
    return comment(f"In the IDL, without meaning here: {', '.join(options)}.", indent) if options else []
