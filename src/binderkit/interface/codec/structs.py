"""Structs: dataclasses, NamedTuples and msgspec.Structs.

Owns: their wire form. A struct is a Parcelable's marker (int32 1), int32 bytes of what follows, and its fields in
order, so that fields with defaults can be appended: an older receiver skips what it does not know, a newer one uses its
defaults for what is missing. A class marked ``@packed`` is the struct of OpenHarmony's IDL: only the fields (reference
5.5).

Rules upheld: a struct's fields stay within its bytes; the class is known from the hint, never from the wire; what its
constructor refuses is a malformed message.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import attrgetter
from struct import Struct
from struct import error as StructError
from typing import Any, Final, TypeVar

from binderkit.interface.codec.base import Codec, MismatchType
from binderkit.interface.codec.plan import Plan
from binderkit.parcel import MessageSequence

__all__ = ["Field", "StructCodec", "is_packed", "packed"]

T = TypeVar("T")

_PACKED: Final = "__binderkit_packed__"
_HEAD: Final = Struct("<ii")
_unpack_head: Final = _HEAD.unpack_from
_pack_head: Final = _HEAD.pack
_PRESENT: Final = 1


def packed(cls: type[T]) -> type[T]:
    """Class decorator: the struct travels as its fields alone, as a struct of OpenHarmony's IDL does (reference 5.5).

    Its fields can then never change.
    """
    setattr(cls, _PACKED, True)
    return cls


def is_packed(cls: type[Any]) -> bool:
    """Return whether the class itself, and not a base of it, is marked ``@packed``."""
    return _PACKED in vars(cls)


@dataclass(frozen=True, slots=True)
class Field:
    """A field: name, codec, whether it may be missing, and whether the constructor takes it by its name only."""

    name: str
    codec: Codec
    optional: bool
    keyword: bool = False


class StructCodec(Codec):
    """A class with fields. Made in two steps, so that it can refer to itself: ``complete`` is the second.

    Args:
        cls: the class. title: its name, with its parameters if it is generic. key: what tells it from all others.
    """

    fields: tuple[Field, ...]
    plan: Plan

    def __init__(self, cls: type[Any], title: str, key: object) -> None:
        self.cls: Any = cls
        self.packed = is_packed(cls)
        self.kinds = (cls,)
        self.minimum = 4 if self.packed else 8
        self._title = title
        self._key = key

    def complete(self, fields: Sequence[Field]) -> None:
        """Set the fields."""
        self.fields = tuple(fields)
        self.plan = Plan([field.codec for field in fields], [f".{field.name}" for field in fields])
        if self.packed:
            self.minimum = self.plan.minimum
        self._get = _getter([field.name for field in fields])
        self._required = max((at for at, field in enumerate(fields, 1) if not field.optional), default=0)
        self._make: Callable[[list[Any]], Any] = self._make_by_position
        if any(field.keyword for field in fields):
            self._make = self._make_by_name

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append a struct; see Codec."""
        if value.__class__ is not self.cls and not isinstance(value, self.cls):
            raise MismatchType.of(self._title, value)
        try:
            values = self._get(value)
        except AttributeError as error:
            raise MismatchType(self._title, f"one that is incomplete: {error}") from None
        if self.packed:
            self.plan.write(out, values)
            return
        target = out._writable()
        start = len(target)
        size = self.plan.size
        if size is not None:
            target += _pack_head(_PRESENT, size)
            self.plan.write(out, values)
        else:
            target += _pack_head(_PRESENT, 0)
            self.plan.write(out, values)
            _HEAD.pack_into(target, start, _PRESENT, len(target) - start - 8)
        if len(target) > out._limit:
            out._too_big(len(target))

    def read(self, data: MessageSequence) -> Any:
        """Return a struct; see Codec."""
        if self.packed:
            return self._read_packed(data)
        pos = data._pos
        try:
            marker, size = _unpack_head(data._in, pos)
        except (StructError, TypeError) as error:
            data._short(self._title, 8, error)
        data._pos = pos = pos + 8
        end = pos + size
        if marker != _PRESENT or size < 0 or end > len(data._in):
            data._malformed(self._title, f"marker {marker}, size {size}, {len(data._in) - pos} bytes are left")
        values = self.plan.read(data, end)
        if data._pos > end:
            data._malformed(self._title, f"its fields end {data._pos - end} bytes after its {size} bytes")
        if len(values) < self._required:
            data._malformed(self._title, f"its {size} bytes end before the field {self.fields[len(values)].name!r}")
        data._pos = end
        return self._made(data, values)

    def _read_packed(self, data: MessageSequence) -> Any:
        values = self.plan.read(data, len(data._readable()))
        if len(values) < len(self.fields):
            data._short(self._title, self.minimum)
        return self._made(data, values)

    def _made(self, data: MessageSequence, values: list[Any]) -> Any:
        try:
            return self._make(values)
        except Exception as error:
            data._malformed(self._title, f"its constructor raised {error!r}")

    def _make_by_position(self, values: list[Any]) -> Any:
        return self.cls(*values)

    def _make_by_name(self, values: list[Any]) -> Any:
        return self.cls(**{field.name: value for field, value in zip(self.fields, values, strict=False)})

    def name(self) -> str:
        """Return the class's name, e.g. "Size" or "Box[int64]"."""
        return self._title

    def describe(self, types: dict[str, Any]) -> Any:
        """Return ``{"struct": name}``; see Codec."""
        name, number = self._title, 1
        while name in types:
            known = types[name]
            if isinstance(known, _Definition) and known.key == self._key:
                return {"struct": name}
            number += 1
            name = f"{self._title}#{number}"
        definition = types[name] = _Definition(self._key)
        definition["packed"] = self.packed
        definition["fields"] = [
            {"name": field.name, "type": field.codec.describe(types), "optional": field.optional}
            for field in self.fields
        ]
        return {"struct": name}

    def parts(self) -> tuple[Codec, ...]:
        """Return the fields' codecs."""
        return self.plan.codecs


class _Definition(dict[str, Any]):
    """What a description says of a struct, and which struct that is: two classes can have the same name."""

    def __init__(self, key: object) -> None:
        super().__init__()
        self.key = key


def _getter(names: Sequence[str]) -> Callable[[Any], tuple[Any, ...]]:
    """Return what takes the fields out of a value, in one call to C."""
    if len(names) > 1:
        return attrgetter(*names)
    if not names:
        return lambda value: ()
    get = attrgetter(names[0])
    return lambda value: (get(value),)
