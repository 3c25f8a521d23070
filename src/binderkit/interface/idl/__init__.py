"""OpenHarmony's IDL, SA mode: read it, write it as Python, write a contract as IDL.

    document = parse_file("IFoo.idl")
    text = to_python(document)
    idl = from_python(IFoo)

The public names, loaded when first used: a module that ``to_python`` wrote needs only ``layouts`` of this package, and
no lark.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from binderkit.errors import IdlError as IdlError
    from binderkit.interface.idl.load import parse_all as parse_all
    from binderkit.interface.idl.load import parse_file as parse_file
    from binderkit.interface.idl.load import parse_string as parse_string
    from binderkit.interface.idl.names import module_name as module_name
    from binderkit.interface.idl.syntax import Document as Document
    from binderkit.interface.idl.write_idl import from_python as from_python
    from binderkit.interface.idl.write_python import to_python as to_python

_HOMES = {
    "Document": ".syntax",
    "IdlError": "binderkit.errors",
    "from_python": ".write_idl",
    "module_name": ".names",
    "parse_all": ".load",
    "parse_file": ".load",
    "parse_string": ".load",
    "to_python": ".write_python",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    """Load a public name on first use."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: Any = getattr(import_module(_HOMES[name], __name__), name)
    globals()[name] = value
    return value
