"""Types that only IDL has: C unions and rawdata.

Owns: how the two look in Python. Modules written by ``to_python`` derive from them. Both travel exactly as the C++ code
of OpenHarmony's tool writes them (reference 5.5), which the general types of contracts cannot do: those carry a tag.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any, Final, Generic, TypeVar, cast, overload

from binderkit.errors import ParamTypeError, ParamValueError
from binderkit.interface.codec import UInt32, UInt64, packed

__all__ = ["RawData", "RawUnion", "UnionMember"]

T = TypeVar("T")
_BYTES: Final = 8
"""A union of numbers is as long as the longest, and aligned to 8 (reference 5.5)."""


@packed
@dataclass
class RawUnion:
    """A C union of numbers: 8 bytes that its members read and write, each in its own way (reference 5.5).

    Nothing on the wire says which member was set; sender and receiver must agree by other means.

    Attributes:
        bits: the 8 bytes, as a little-endian number.
    """

    bits: UInt64 = 0


class UnionMember(Generic[T]):
    """A member of a RawUnion: ``level = UnionMember("<i", int)``.

    Reading it decodes the union's first bytes, assigning overwrites them and leaves the others, as in C.

    Args:
        form: struct's format of the value, little-endian, at most 8 bytes. kind: type of the value.
    """

    def __init__(self, form: str, kind: type[T]) -> None:
        self.form = form
        self.kind: Any = kind
        self._struct = struct.Struct(form)
        self._name = ""

    def __set_name__(self, owner: type, name: str) -> None:
        self._name = f"{owner.__name__}.{name}"

    @overload
    def __get__(self, instance: None, owner: type) -> UnionMember[T]: ...
    @overload
    def __get__(self, instance: RawUnion, owner: type) -> T: ...
    def __get__(self, instance: RawUnion | None, owner: type) -> UnionMember[T] | T:
        if instance is None:
            return self
        (value,) = self._struct.unpack_from(instance.bits.to_bytes(_BYTES, "little"))
        return cast(T, self.kind(value))

    def __set__(self, instance: RawUnion, value: T) -> None:
        """Set the member.

        Raises:
            ParamTypeError, ParamValueError: ``value`` is of another type or out of range (401).
        """
        if not isinstance(value, self.kind) or (isinstance(value, bool) and self.kind is not bool):
            raise ParamTypeError(f"{self._name} takes {self.kind.__name__}, got {value!r}")
        data = bytearray(instance.bits.to_bytes(_BYTES, "little"))
        try:
            self._struct.pack_into(data, 0, value)
        except (struct.error, OverflowError) as error:
            raise ParamValueError(f"{self._name}: {value!r} does not fit its {self._struct.size} bytes") from error
        instance.bits = int.from_bytes(data, "little")


@packed
@dataclass
class RawData:
    """rawdata: a size and that many bytes, above 32 KiB through shared memory (reference 1.4, 5.5).

    Attributes:
        size: number of bytes. data: the bytes; make one by ``of`` and both agree.
    """

    size: UInt32
    data: bytes

    def __post_init__(self) -> None:
        if self.size != len(self.data):
            raise ParamValueError(
                f"{type(self).__name__}: size is {self.size}, but there are {len(self.data)} bytes; use of()"
            )

    @classmethod
    def of(cls: type[R], data: bytes) -> R:
        """Return the rawdata that holds ``data``, at most 128 MiB."""
        return cls(len(data), data)


R = TypeVar("R", bound=RawData)
