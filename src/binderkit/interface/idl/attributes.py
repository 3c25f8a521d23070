"""What may stand in the brackets in front of an interface or a method (reference 5.4).

Owns: the attributes' names and values. What they mean for numbering and direction is check.py's.
"""

from __future__ import annotations

import re
from typing import Final

from binderkit import limits
from binderkit.interface.idl.parse import number_of
from binderkit.interface.idl.syntax import Attribute, Interface, Method, Source

__all__ = ["check_interface_attributes", "check_method_attributes"]

_INTERFACE: Final = ("oneway", "callback", "full", "lite", "mini")
_METHOD: Final = (
    "oneway",
    "cacheable",
    "ipccode",
    "ipcincapacity",
    "ipcoutcapacity",
    "customMsgOption",
    "macrodef",
    "macrondef",
    "freezecontrol",
)
_OPTION: Final = re.compile(r"(flags|waitTime)=.+", re.DOTALL)
_MACRO: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def check_interface_attributes(source: Source, interface: Interface) -> None:
    """Check the attributes of an interface.

    Raises:
        IdlError: one that interfaces do not have, one twice, or one with a value (401).
    """
    _check_names(source, interface.attributes, _INTERFACE, f"interface {interface.name}")
    for attribute in interface.attributes:
        _check_bare(source, attribute)


def check_method_attributes(source: Source, method: Method) -> None:
    """Check the attributes of a method.

    Raises:
        IdlError: one that methods do not have, one twice, or one whose value is missing or wrong (401).
    """
    _check_names(source, method.attributes, _METHOD, f"method {method.name}")
    for attribute in method.attributes:
        if attribute.name == "oneway":
            _check_bare(source, attribute)
        elif attribute.name == "cacheable":
            _check_number(source, attribute, "milliseconds a reply is kept, 0 for ever", 0, limits.MAX_IDL_CACHE_TIME)
        elif attribute.name == "ipccode":
            _check_code(source, attribute)
        elif attribute.name in ("ipcincapacity", "ipcoutcapacity"):
            _check_number(source, attribute, "KB the parcel may take", 1, limits.MAX_IDL_CAPACITY)
        elif attribute.name == "customMsgOption":
            _check_options(source, attribute)
        elif attribute.name in ("macrodef", "macrondef") and not _MACRO.fullmatch(attribute.value):
            raise source.error(
                attribute.span, f"{attribute.name} takes the name of a macro, e.g. [{attribute.name} DEVICE]"
            )


def _check_names(source: Source, attributes: list[Attribute], allowed: tuple[str, ...], what: str) -> None:
    seen: set[str] = set()
    for attribute in attributes:
        if attribute.name not in allowed:
            raise source.error(
                attribute.span, f"{what} cannot be {attribute.name!r}; possible are {', '.join(allowed)}"
            )
        if attribute.name in seen:
            raise source.error(attribute.span, f"{what} is {attribute.name!r} already; say it once")
        seen.add(attribute.name)


def _check_bare(source: Source, attribute: Attribute) -> None:
    if attribute.value:
        raise source.error(attribute.span, f"{attribute.name} takes no value, got {attribute.value!r}")


def _check_number(source: Source, attribute: Attribute, meaning: str, lowest: int, highest: int) -> None:
    if not (attribute.value.isdecimal() and lowest <= int(attribute.value) <= highest):
        given = attribute.value or "nothing"
        raise source.error(
            attribute.span, f"{attribute.name} takes a decimal number {lowest} … {highest} ({meaning}), got {given}"
        )


def _check_code(source: Source, attribute: Attribute) -> None:
    value = number_of(attribute.value)
    decimal_or_hex = attribute.value.isdecimal() or attribute.value[:2].lower() == "0x"
    if value is None or not decimal_or_hex or value > limits.MAX_TRANSACTION_ID:
        raise source.error(
            attribute.span,
            f"ipccode takes a decimal or 0x number 1 … 0xFFFFFF, got {attribute.value or 'nothing'}",
        )


def _check_options(source: Source, attribute: Attribute) -> None:
    given = [option.partition("=")[0] for option in attribute.value.split(" and ")]
    correct = all(_OPTION.fullmatch(option) for option in attribute.value.split(" and "))
    if not correct or "flags" not in given or len(given) != len(set(given)):
        raise source.error(
            attribute.span, f"customMsgOption takes flags=… or flags=… and waitTime=…, got {attribute.value!r}"
        )
