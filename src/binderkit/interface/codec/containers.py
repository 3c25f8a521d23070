"""Lists, sets, maps, tuples, Optional, unions and Literal.

Owns: everything that is made of values of other types (reference 5.5): int32 count and elements; int32 0 or 1 before an
Optional; int32 number of the alternative before a union's or Literal's value. Elements of fixed size are packed in one
go.

Rules upheld: at most limits.MAX_ELEMENTS elements, on both sides; a count is checked against the bytes that are left
before anything is made; elements of a set and keys of a map are there once; the wrong element is named.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from struct import error as StructError
from struct import pack, unpack_from
from typing import Any, Final

from binderkit.interface.codec.base import Codec, Fixed, Mismatch, MismatchType, MismatchValue
from binderkit.interface.codec.plan import Plan
from binderkit.limits import MAX_ELEMENTS
from binderkit.parcel import MessageSequence
from binderkit.parcel._base import describe

__all__ = ["ListCodec", "LiteralCodec", "MapCodec", "OptionalCodec", "SetCodec", "TupleCodec", "UnionCodec", "read_tag"]

_TAGS: Final = tuple(pack("<i", number) for number in range(64))
_ABSENT, _PRESENT = _TAGS[:2]
_BOOL_MARKS: Final = {
    "i": (0, 4, (0, 1)),
    "I": (0, 4, (0, 1)),
    "q": (0, 8, (0, 1)),
    "Q": (0, 8, (0, 1)),
    "f": (2, 4, (0, 0x80)),
    "d": (6, 8, (0, 0xF0)),
}
"""By format: a byte of each element, the width of an element, and what that byte is in a packed False and True."""
_PROBES: Final = 32
"""Elements looked at one by one before looking at all of them is quicker."""


def read_count(data: MessageSequence, what: str, minimum: int) -> int:
    """Return a count after checking it.

    Args:
        minimum: fewest bytes of what is counted.

    Raises:
        ParcelReadError: end of the data, or more than can be there (1900010).
    """
    pos = data._pos
    try:
        (count,) = unpack_from("<i", data._in, pos)
    except (StructError, TypeError) as error:
        data._short(what, 4, error)
    if not 0 <= count <= MAX_ELEMENTS:
        data._malformed(what, f"a count of {count} is outside 0 … {MAX_ELEMENTS}")
    data._pos = pos = pos + 4
    if count * minimum > len(data._in) - pos:
        data._short(f"{count} elements of {what}", count * minimum)
    return count  # type: ignore[no-any-return]


def read_tag(data: MessageSequence, what: str, below: int) -> int:
    """Return an int32 that must be 0 … ``below`` - 1.

    Raises:
        ParcelReadError: it is not, or end of the data (1900010).
    """
    pos = data._pos
    try:
        (tag,) = unpack_from("<i", data._in, pos)
    except (StructError, TypeError) as error:
        data._short(what, 4, error)
    if not 0 <= tag < below:
        data._malformed(what, f"{tag} is outside 0 … {below - 1}")
    data._pos = pos + 4
    return tag  # type: ignore[no-any-return]


def _write_count(out: MessageSequence, what: str, count: int) -> None:
    if count > MAX_ELEMENTS:
        raise MismatchValue(f"{what} of at most {MAX_ELEMENTS} elements", f"{count} elements")
    target = out._writable()
    target += pack("<i", count)


class _Elements(Codec):
    """A count and that many values of one type.

    Args:
        item: the elements' codec.
        accepted: classes whose instances are taken.
        make: what a read makes of the list of elements.
        title: name of the type without its elements.
    """

    def __init__(
        self, item: Codec, accepted: tuple[type[Any], ...], make: Callable[[list[Any]], Any], title: str
    ) -> None:
        if item.minimum == 0:
            raise TypeError(f"{title} of {item.name()}: its elements take no bytes, so a count of them means nothing")
        self.item = item
        self.kinds = accepted
        self._title = title
        self._accepted = accepted
        self._make = make
        self._name = f"tuple[{item.name()}, ...]" if make is tuple else f"{title}[{item.name()}]"
        if isinstance(item, Fixed) and len(item.fmt) == 1:
            self._fixed: Fixed | None = item
        else:
            self._fixed = None

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append count and elements; see Codec."""
        if not isinstance(value, self._accepted):
            raise MismatchType.of(self.name(), value)
        elements = value if value.__class__ is list or value.__class__ is tuple else tuple(value)
        count = len(elements)
        if count > MAX_ELEMENTS:
            raise MismatchValue(f"{self.name()} of at most {MAX_ELEMENTS} elements", f"{count} elements")
        target = out._writable()
        if self._fixed is not None:
            target += self._packed(self._fixed, elements, count)
        else:
            target += pack("<i", count)
            self._write_each(out, elements)
        if len(target) > out._limit:
            out._too_big(len(target))

    def _write_each(self, out: MessageSequence, elements: Sequence[Any]) -> None:
        write = self.item.write
        at = 0
        try:
            for at, element in enumerate(elements):  # noqa: B007 - for the error
                write(out, element)
        except Mismatch as mismatch:
            mismatch.inside(self._step(at, elements))
            raise

    def _packed(self, item: Fixed, elements: Sequence[Any], count: int) -> bytes:
        fmt = item.fmt
        if item.exact is not None:
            try:
                packed = pack(f"<i{count}{fmt}", count, *elements)
            except (StructError, TypeError, OverflowError, ValueError):
                packed = b""
            if packed and (
                {*map(type, elements)} <= {bool} if item.exact is bool else not _holds_bool(packed, fmt, elements)
            ):
                return packed
        words = []
        try:
            for element in elements:
                words.append(item.to_word(element))
        except Mismatch as mismatch:
            mismatch.inside(self._step(len(words), elements))
            raise
        return pack(f"<i{count}{fmt}", count, *words)

    def read(self, data: MessageSequence) -> Any:
        """Return the elements; see Codec."""
        count = read_count(data, self._name, self.item.minimum)
        if self._fixed is None:
            read = self.item.read
            return self._made(data, [read(data) for _ in range(count)])
        item = self._fixed
        words = unpack_from(f"<{count}{item.fmt}", data._in, data._pos)
        convert = item.from_word
        try:
            values = list(words) if convert is None else [convert(word) for word in words]
        except ValueError as error:
            data._malformed(self.name(), str(error))
        data._pos += count * item.minimum
        return self._made(data, values)

    def _made(self, data: MessageSequence, values: list[Any]) -> Any:
        return values if self._make is list else self._make(values)

    def _step(self, at: int, elements: Sequence[Any]) -> str:
        return f"[{at}]"

    def name(self) -> str:
        """Return e.g. "list[str]" or "tuple[str, ...]"."""
        return self._name

    def describe(self, types: dict[str, Any]) -> Any:
        """Return the type as data; see Codec."""
        return {self._title: self.item.describe(types)}

    def parts(self) -> tuple[Codec, ...]:
        """Return the elements' codec."""
        return (self.item,)


class ListCodec(_Elements):
    """list[T], tuple[T, ...] or Sequence[T]."""

    def __init__(self, item: Codec, accepted: tuple[type[Any], ...] = (list,), make: Any = list) -> None:
        super().__init__(item, accepted, make, "list")

    def describe(self, types: dict[str, Any]) -> Any:
        """Return the type as data: what a receiver makes of it does not show on the wire."""
        return {"list": self.item.describe(types)}


class SetCodec(_Elements):
    """set[T] or frozenset[T]."""

    def __init__(self, item: Codec, accepted: tuple[type[Any], ...], make: Any) -> None:
        super().__init__(item, accepted, make, "set")

    def _made(self, data: MessageSequence, values: list[Any]) -> Any:
        try:
            made = self._make(values)
        except TypeError as error:
            data._malformed(self.name(), str(error))
        if len(made) != len(values):
            data._malformed(self.name(), "an element is there twice")
        return made

    def _step(self, at: int, elements: Sequence[Any]) -> str:
        return f"{{{describe(elements[at])}}}"


class MapCodec(Codec):
    """dict[K, V]: int32 count, then key and value of each."""

    kinds = (dict,)

    def __init__(self, key: Codec, value: Codec, accepted: tuple[type[Any], ...]) -> None:
        if key.minimum == 0:
            raise TypeError(f"a map with keys {key.name()}: they take no bytes")
        self.key = key
        self.value = value
        self._accepted = accepted
        self._name = f"dict[{key.name()}, {value.name()}]"

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append a map; see Codec."""
        if not isinstance(value, self._accepted):
            raise MismatchType.of(self.name(), value)
        items = tuple(value.items())
        _write_count(out, self.name(), len(items))
        write_key, write_value = self.key.write, self.value.write
        key = writing = None
        try:
            for key, element in items:
                writing = write_key
                write_key(out, key)
                writing = write_value
                write_value(out, element)
        except Mismatch as mismatch:
            mismatch.inside(f"[{key!r}]" if writing is write_value else f" key {describe(key)}")
            raise
        if len(out._out) > out._limit:
            out._too_big(len(out._out))

    def read(self, data: MessageSequence) -> dict[Any, Any]:
        """Return a dict; see Codec."""
        count = read_count(data, self._name, self.key.minimum + self.value.minimum)
        read_key, read_value = self.key.read, self.value.read
        try:
            made = {read_key(data): read_value(data) for _ in range(count)}
        except TypeError as error:  # a key without a hash
            data._malformed(self.name(), str(error))
        if len(made) != count:
            data._malformed(self.name(), "a key is there twice")
        return made

    def name(self) -> str:
        """Return e.g. "dict[str, int64]"."""
        return self._name

    def describe(self, types: dict[str, Any]) -> Any:
        """Return the type as data; see Codec."""
        return {"map": [self.key.describe(types), self.value.describe(types)]}

    def parts(self) -> tuple[Codec, ...]:
        """Return the codecs of keys and values."""
        return (self.key, self.value)


class TupleCodec(Codec):
    """tuple[A, B]: its elements one after the other."""

    kinds = (tuple,)

    def __init__(self, items: Sequence[Codec]) -> None:
        self.plan = Plan(items, [f"[{at}]" for at in range(len(items))])
        self.minimum = self.plan.minimum

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append a tuple; see Codec."""
        if not isinstance(value, tuple):
            raise MismatchType.of(self.name(), value)
        if len(value) != len(self.plan.codecs):
            raise MismatchValue(self.name(), f"{len(value)} elements")
        self.plan.write(out, value)

    def read(self, data: MessageSequence) -> tuple[Any, ...]:
        """Return a tuple; see Codec."""
        values = self.plan.read(data, len(data._readable()))
        if len(values) < len(self.plan.codecs):
            data._short(self.name(), self.minimum)
        return tuple(values)

    def name(self) -> str:
        """Return e.g. "tuple[str, int64]"."""
        return f"tuple[{', '.join(codec.name() for codec in self.plan.codecs) or '()'}]"

    def describe(self, types: dict[str, Any]) -> Any:
        """Return the type as data; see Codec."""
        return {"tuple": [codec.describe(types) for codec in self.plan.codecs]}

    def parts(self) -> tuple[Codec, ...]:
        """Return the elements' codecs."""
        return self.plan.codecs


class OptionalCodec(Codec):
    """T | None: int32 0, or 1 and the value."""

    def __init__(self, item: Codec) -> None:
        self.item = item
        self.kinds = (*item.kinds, type(None)) if item.kinds else ()
        self._write = item.write
        self._read = item.read
        self._name = f"{item.name()} | None"

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append a value or None; see Codec."""
        target = out._writable()
        if value is not None:
            target += _PRESENT
            self._write(out, value)
            return
        target += _ABSENT
        if len(target) > out._limit:
            out._too_big(len(target))

    def read(self, data: MessageSequence) -> Any:
        """Return a value or None; see Codec."""
        return self._read(data) if read_tag(data, self._name, 2) else None

    def name(self) -> str:
        """Return e.g. "str | None"."""
        return self._name

    def describe(self, types: dict[str, Any]) -> Any:
        """Return the type as data; see Codec."""
        return {"optional": self.item.describe(types)}

    def parts(self) -> tuple[Codec, ...]:
        """Return the codec of what is not None."""
        return (self.item,)


class UnionCodec(Codec):
    """A | B: int32 number of the alternative in the order of the hint, then the value.

    The alternative is that of the value's class, or of its nearest base class; where several alternatives share one
    (two sorts of list) the first that takes the value.
    """

    def __init__(self, items: Sequence[Codec]) -> None:
        if len(items) > len(_TAGS):
            raise TypeError(f"a union of {len(items)} types; at most {len(_TAGS)}")
        self.items = tuple(items)
        self.minimum = 4 + min(item.minimum for item in items)
        self.kinds = tuple(kind for item in items for kind in item.kinds) if all(item.kinds for item in items) else ()
        self._name = " | ".join(item.name() for item in items)
        self._chosen: dict[type, list[int]] = {}
        for at, item in enumerate(items):
            for kind in item.kinds:
                self._chosen.setdefault(kind, []).append(at)

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append tag and value; see Codec."""
        target = out._writable()
        start = len(target)
        failures: list[Mismatch] = []
        for at in self._chosen.get(value.__class__) or self._choose(value.__class__):
            target += _TAGS[at]
            try:
                self.items[at].write(out, value)
            except Mismatch as mismatch:
                failures.append(mismatch)
                out._truncate(start)
            else:
                return
        if len(failures) == 1:
            raise failures[0]
        raise MismatchType.of(self.name(), value)

    def _choose(self, kind: type) -> Sequence[int]:
        for base in kind.__mro__[:-1]:
            if base in self._chosen:
                return self._chosen[base]
        return range(len(self.items))

    def read(self, data: MessageSequence) -> Any:
        """Return the value; see Codec."""
        return self.items[read_tag(data, self._name, len(self.items))].read(data)

    def name(self) -> str:
        """Return e.g. "int64 | str"."""
        return self._name

    def describe(self, types: dict[str, Any]) -> Any:
        """Return the type as data; see Codec."""
        return {"union": [item.describe(types) for item in self.items]}

    def parts(self) -> tuple[Codec, ...]:
        """Return the alternatives' codecs."""
        return self.items


class LiteralCodec(Codec):
    """Literal[…]: int32 number of the value in the order of the hint."""

    def __init__(self, values: Sequence[Any]) -> None:
        self.values = tuple(values)
        self._name = f"Literal[{', '.join(map(repr, self.values))}]"
        self._numbers = {(value.__class__, value): at for at, value in enumerate(self.values)}

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append a number; see Codec."""
        try:
            number = self._numbers[value.__class__, value]
        except (KeyError, TypeError):  # TypeError: it has no hash
            raise MismatchValue.of(self.name(), value) from None
        out.write_int(number)

    def read(self, data: MessageSequence) -> Any:
        """Return the value; see Codec."""
        return self.values[read_tag(data, self._name, len(self.values))]

    def name(self) -> str:
        """Return e.g. "Literal['a', 'b']"."""
        return self._name

    def describe(self, types: dict[str, Any]) -> Any:
        """Return the type as data; see Codec."""
        return {"literal": [repr(value) for value in self.values]}


def _holds_bool(packed: bytes, fmt: str, elements: Sequence[Any]) -> bool:
    """Return whether an element is a bool, looking only at those that could be while they are few.

    Args:
        packed: int32 count and the packed elements.
    """
    column, width, marks = _BOOL_MARKS[fmt]
    bytes_of_each = packed[4 + column :: width]
    for mark in marks:
        at = bytes_of_each.find(mark)
        for _ in range(_PROBES):
            if at < 0:
                break
            if isinstance(elements[at], bool):
                return True
            at = bytes_of_each.find(mark, at + 1)
        else:
            return bool in {*map(type, elements)}
    return False
