"""Want: which ability somebody wants, and what is said to it (reference 3.1, 3.5).

Owns: ``Want`` and ``ElementName``; both travel in typed calls. Pure.

Rules upheld: a Want that exists can be sent: sizes are checked when it is made, so an error comes where the mistake is,
not as a connection that times out; a received one is checked the same way.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, TypeAlias

from binderkit.errors import ParamTypeError, ParamValueError, TooBigError
from binderkit.limits import KIB, MAX_STRING_UNITS

MAX_NAME: Final = 255
"""Characters of a bundle's, module's, ability's or device's name, and of an action (own choice)."""
MAX_PARAMETERS: Final = 1024
MAX_PARAMETER_BYTES: Final = 100 * KIB
"""Bytes of all parameters together (reference 3.5)."""

Value: TypeAlias = str | int | float | bool


@dataclass(frozen=True)
class ElementName:
    """Where an ability is (reference 3.1).

    Attributes:
        bundle_name, ability_name: which one. module_name: "" when the bundle has only one.
        device_id: "" for this device.
    """

    bundle_name: str
    ability_name: str
    module_name: str = ""
    device_id: str = ""

    def __str__(self) -> str:
        """Return device/bundle/module/ability without the parts that are empty."""
        return "/".join(
            part for part in (self.device_id, self.bundle_name, self.module_name, self.ability_name) if part
        )


@dataclass(frozen=True)
class Want:
    """Which ability is wanted, and what it is told.

    Args:
        bundle_name, ability_name: which one; names of at most 255 characters.
        module_name: "" for any module of the bundle. device_id: "" for this device.
        action: what it shall do, a name that both sides know.
        parameters: up to 1024 texts, numbers (of 64 bits) and booleans, together at most 100 KB.
        flags: 0 … 2^31-1; their meaning is up to the ability.

    Raises:
        ParamTypeError, ParamValueError: one of them is no such thing (401).
        TooBigError: the parameters are too large; use Ashmem or a call after connecting (1900009).
    """

    bundle_name: str
    ability_name: str
    module_name: str = ""
    device_id: str = ""
    action: str = ""
    parameters: dict[str, Value] = field(default_factory=dict)
    flags: int = 0

    def __post_init__(self) -> None:
        for name in ("bundle_name", "ability_name", "module_name", "device_id", "action"):
            _check_name(name, getattr(self, name), may_be_empty=name not in ("bundle_name", "ability_name"))
        if isinstance(self.flags, bool) or not isinstance(self.flags, int):
            raise ParamTypeError(f"a Want's flags are a number, got {type(self.flags).__name__}")
        if not 0 <= self.flags < 2**31:
            raise ParamValueError(f"a Want's flags are 0 … 2^31-1, got {self.flags}")
        _check_parameters(self.parameters)

    @property
    def element(self) -> ElementName:
        """Return where the wanted ability is."""
        return ElementName(self.bundle_name, self.ability_name, self.module_name, self.device_id)


def _check_name(what: str, value: object, *, may_be_empty: bool) -> None:
    if not isinstance(value, str):
        raise ParamTypeError(f"a Want's {what} is a string, got {type(value).__name__}")
    if not (value or may_be_empty):
        raise ParamValueError(
            f"a Want needs a {what}, e.g. bundle_name='com.example.photos', ability_name='Thumbnails'"
        )
    if len(value) > MAX_NAME or not value.isprintable():
        raise ParamValueError(
            f"a Want's {what} has at most {MAX_NAME} characters and none that cannot be printed, got {value[:40]!r}"
        )


def _check_parameters(parameters: object) -> None:
    if not isinstance(parameters, dict):
        raise ParamTypeError(f"a Want's parameters are a dict, got {type(parameters).__name__}")
    if len(parameters) > MAX_PARAMETERS:
        raise ParamValueError(f"a Want has at most {MAX_PARAMETERS} parameters, got {len(parameters)}")
    size = 0
    for key, value in parameters.items():
        if not isinstance(key, str) or not key:
            raise ParamTypeError(f"the name of a Want's parameter is a text, got {key!r}")
        if not isinstance(value, (str, int, float)):
            raise ParamTypeError(
                f"the parameter {key!r} of a Want is a {type(value).__name__}; allowed are str, int, float and bool"
            )
        if isinstance(value, int) and not -(2**63) <= value < 2**63:
            raise ParamValueError(f"the parameter {key!r} of a Want does not fit in 64 bits")
        for text in (key, value) if isinstance(value, str) else (key,):
            bytes_of_text = len(text.encode("utf-16-le", "surrogatepass"))
            if bytes_of_text >= 2 * MAX_STRING_UNITS:
                raise TooBigError(
                    f"the parameter {key[:40]!r} of a Want has a text of {len(text)} characters; each must be shorter "
                    f"than {MAX_STRING_UNITS}: send it in a call after connecting"
                )
            size += bytes_of_text
        size += 16
    if size > MAX_PARAMETER_BYTES:
        raise TooBigError(
            f"the parameters of a Want take {size} bytes, allowed are {MAX_PARAMETER_BYTES}; connect first and send "
            "large data in a call, or as Ashmem"
        )
