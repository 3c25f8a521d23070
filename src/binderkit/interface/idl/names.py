"""Names: IDL's keywords, and how a name of one language is written in the other.

Owns: camelCase ↔ snake_case, and what a Python name may not be at its place. No name but the descriptor travels, so
they are free to follow the language's custom.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Container
from typing import Final

__all__ = ["KEYWORDS", "free_name", "module_name", "to_camel", "to_snake"]

KEYWORDS: Final = frozenset(
    """void boolean byte short int long float double char unsigned String String16 U16string CString FileDescriptor
    FileDescriptorSan Ashmem NativeBuffer Pointer List Set Map OrderedMap SharedMemQueue sharedptr uniqueptr sptr
    null_sharedptr null_uniqueptr null_sptr enum struct union package interface_token support_delegator
    option_stub_hooks option_parcel_hooks option_macro_hilog option_using_hooks sequenceable rawdata import interface
    extends oneway customMsgOption callback freezecontrol full lite mini cacheable ipccode ipcincapacity ipcoutcapacity
    macrodef macrondef in out inout""".split()
)
"""Words that cannot be names in IDL (reference 5.2)."""


def to_snake(name: str) -> str:
    """Return a camelCase or PascalCase name in snake_case: ``getHTTPProxy2`` becomes ``get_http_proxy2``."""
    parted = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return re.sub(r"([A-Z])([A-Z][a-z])", r"\1_\2", parted).lower()


def to_camel(name: str) -> str:
    """Return a snake_case name in camelCase, or as it is where that is a keyword or does not lead back."""
    first, *others = name.split("_")
    camel = first + "".join(part[:1].upper() + part[1:] for part in others)
    if camel in KEYWORDS or to_snake(camel) != name:
        return name
    return camel


def module_name(stem: str) -> str:
    """Return the name of the Python module for an IDL file: ``IFooBar`` becomes ``i_foo_bar`` (reference 5.7, TS)."""
    parted = re.sub(r"^I([A-Z][a-z])", r"I_\1", stem)
    name = to_snake(parted).replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


def free_name(wanted: str, taken: Container[str]) -> str:
    """Return ``wanted``, or the nearest name that is no Python keyword, not private and not in ``taken``."""
    name = wanted.lstrip("_") or "name"
    if name[0].isdigit():
        name = f"n{name}"
    candidate, number = name, 1
    while keyword.iskeyword(candidate) or candidate in taken:
        candidate = f"{name}_" if number == 1 else f"{name}_{number}"
        number += 1
    return candidate
