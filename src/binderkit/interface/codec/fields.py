"""What fields a class has: dataclasses, NamedTuples and msgspec.Structs, generic or not.

Owns: resolving the hints of a class and putting a generic class's arguments in their place. msgspec is never imported
unless a class of it is there.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias, TypeVar, get_args, get_origin, get_type_hints

__all__ = ["Described", "described", "is_struct"]

Described: TypeAlias = list[tuple[str, Any, bool, bool]]
"""Name, hint, whether there is a default, and whether the constructor takes it by its name only."""


def is_struct(cls: type) -> bool:
    """Return whether a class is one that ``described`` can describe."""
    return dataclasses.is_dataclass(cls) or _is_named_tuple(cls) or _is_msgspec(cls)


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields") and hasattr(cls, "_field_defaults")


def _is_msgspec(cls: type) -> bool:
    return hasattr(cls, "__struct_fields__") and hasattr(cls, "__struct_config__")


def described(cls: type, arguments: tuple[Any, ...]) -> Described:
    """Return the fields of a class in their order.

    Args:
        arguments: what stands in brackets behind a generic class.

    Raises:
        TypeError: a hint names what cannot be found, or the class cannot be made from its fields.
    """
    try:
        hints = get_type_hints(cls, localns={cls.__name__: cls}, include_extras=True)
    except NameError as error:
        raise TypeError(
            f"{cls.__qualname__}: {error} in a hint; define it in the module, before its first use"
        ) from None
    hints = _with_arguments(cls, arguments, hints)
    if _is_named_tuple(cls):
        named: Any = cls
        return [(name, hints[name], name in named._field_defaults, False) for name in named._fields]
    return _dataclass_fields(cls, hints) if dataclasses.is_dataclass(cls) else _msgspec_fields(cls, hints)


def _dataclass_fields(cls: Any, hints: dict[str, Any]) -> Described:
    for name, hint in hints.items():
        if isinstance(hint, dataclasses.InitVar):
            raise TypeError(f"{cls.__qualname__}.{name}: an InitVar is not kept, so it cannot be sent; make it a field")
    missing = dataclasses.MISSING
    return [
        (
            field.name,
            hints[field.name],
            field.default is not missing or field.default_factory is not missing,
            field.kw_only is True,
        )
        for field in dataclasses.fields(cls)
        if field.init
    ]


def _msgspec_fields(cls: Any, hints: dict[str, Any]) -> Described:
    from msgspec.structs import fields

    return [(field.name, hints[field.name], not field.required, True) for field in fields(cls)]


# --- generic classes ------------------------------------------------------------------------------------------


def _with_arguments(cls: type, arguments: tuple[Any, ...], hints: dict[str, Any]) -> dict[str, Any]:
    """Put types in place of type variables; each hint speaks of the variables of the class that it stands in."""
    bindings: dict[type, dict[Any, Any]] = {}
    _bind(cls, dict(zip(getattr(cls, "__parameters__", ()), arguments, strict=False)), bindings)
    resolved = {}
    for name, hint in hints.items():
        owner = next((base for base in cls.__mro__ if name in getattr(base, "__annotations__", ())), cls)
        resolved[name] = _substituted(hint, bindings.get(owner, {}))
    return resolved


def _bind(cls: type, binding: dict[Any, Any], bindings: dict[type, dict[Any, Any]]) -> None:
    bindings[cls] = binding
    for base in getattr(cls, "__orig_bases__", ()):
        origin = get_origin(base)
        parameters = getattr(origin, "__parameters__", ())
        if isinstance(origin, type) and parameters:
            inner = (_substituted(item, binding) for item in get_args(base))
            _bind(origin, dict(zip(parameters, inner, strict=False)), bindings)


def _substituted(hint: Any, binding: dict[Any, Any]) -> Any:
    if isinstance(hint, TypeVar):
        return binding.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if isinstance(hint, type) or not parameters:
        return hint
    return hint[tuple(binding.get(parameter, parameter) for parameter in parameters)]
