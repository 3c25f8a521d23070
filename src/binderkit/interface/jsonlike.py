"""JSON-like values for the types of a description: how a person, or a program without the classes, writes them.

Owns: for each described type its codec, and both ways between its values and JSON's (dict, list, str, numbers, bool,
None).

    bytes        "base64:…", "hex:…" or "@FILE" (read here); comes back as "base64:…"
    struct       an object; fields with defaults may be left out at the end
    enum         a member's name; flags "A|B"
    set, tuple   a list
    map          an object if its keys are str, int or enum, else a list of pairs
    datetime, date, time, uuid, decimal, path   their usual text; timedelta: seconds
    ndarray      {"dtype": "<f4", "shape": [2, 2], "data": "base64:…"}, or a list of (lists of) numbers to send
    fd, file     "@FILE" (opened for reading); comes back as a text that says what it was, and is closed

"@FILE" reads files of this process: whoever passes on strings of strangers must not let them through.

Rules upheld: no class, and no code, is made from received names: a received struct is a Record, whose class is made
without compiling anything; codecs are made for one description and go away with it; a description cannot make a few
bytes expand to many values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any

from binderkit import limits
from binderkit.errors import CommunicationError, ParamTypeError
from binderkit.interface.codec import Codec, Mismatch, MismatchType, MismatchValue, packed
from binderkit.interface.codec.base import Reference
from binderkit.interface.codec.containers import ListCodec, MapCodec, OptionalCodec, SetCodec, TupleCodec, UnionCodec
from binderkit.interface.codec.structs import Field, StructCodec
from binderkit.interface.described import Description, StructType, TypeRef, printable
from binderkit.interface.jsonlike_leaves import (
    Kind,
    Word,
    enum_kind,
    literal_kind,
    ndarray_kind,
    remote_kind,
    scalar_kind,
)
from binderkit.parcel import MessageSequence

__all__ = ["Kinds"]


class Record:
    """A received struct: its fields are its attributes; those that were left out are not there."""

    field_names: tuple[str, ...] = ()

    def __init__(self, *values: Any) -> None:
        self.__dict__.update(zip(type(self).field_names, values, strict=False))


class _RecordCodec(StructCodec):
    """A struct that may leave out fields at its end: the other side has their defaults."""

    _shorter: dict[int, StructCodec]

    def write(self, out: MessageSequence, value: Any) -> None:
        """Append a record; see Codec."""
        count = len(vars(value))
        if count == len(self.fields):
            super().write(out, value)
            return
        known = self.__dict__.setdefault("_shorter", {})
        if count not in known:
            known[count] = StructCodec(self.cls, self.name(), self.cls)
            known[count].complete(self.fields[:count])
        known[count].write(out, value)


class Kinds:
    """The types of one description, made when they are first asked for."""

    def __init__(self, description: Description) -> None:
        self._description = description
        self._structs: dict[str, Kind] = {}
        self._enums: dict[str, Kind] = {}

    def kind(self, ref: TypeRef) -> Kind:
        """Return a type.

        Raises:
            ParamTypeError: values of it cannot be given without its class (401).
            CommunicationError: a type that no contract can have (1900007).
        """
        try:
            return self._kind(ref)
        except ParamTypeError:
            raise
        except (TypeError, ValueError) as error:
            raise CommunicationError(
                f"the described type {printable(str(ref)[:200])} cannot be used: {error}"
            ) from error

    def _kind(self, ref: TypeRef) -> Kind:
        match ref.form:
            case "struct":
                return self._structs.get(ref.name) or self._struct(self._description.structs[ref.name])
            case "enum":
                known = self._enums.get(ref.name)
                if known is None:
                    known = self._enums[ref.name] = enum_kind(self._description.enums[ref.name])
                return known
            case "list":
                return _list(self._kind(ref.inner[0]))
            case "set":
                return _set(self._kind(ref.inner[0]))
            case "optional":
                return _optional(self._kind(ref.inner[0]))
            case "map":
                return _map(ref.inner[0], self._kind(ref.inner[0]), self._kind(ref.inner[1]))
            case "tuple":
                return _tuple([self._kind(one) for one in ref.inner])
            case "union":
                return _union([self._kind(one) for one in ref.inner])
            case "literal":
                return literal_kind(ref.words)
            case "interface":
                return remote_kind(f"remote object {printable(ref.name[:200])}")
            case "ndarray":
                return ndarray_kind(ref.name)
            case "parcelable":
                raise ParamTypeError(
                    f"{printable(ref.name[:200])} is a Parcelable: only its class knows what it writes; call this "
                    "method with a proxy of the contract"
                )
            case form:
                return scalar_kind(form)

    def _struct(self, known: StructType) -> Kind:
        cls = type("Record", (Record,), {"field_names": tuple(one.name for one in known.fields)})
        codec = _RecordCodec(packed(cls) if known.packed else cls, known.name, cls)
        within = Reference(codec.minimum, known.name)
        within.target = codec
        kinds: dict[str, Kind] = {}
        required = max((at for at, one in enumerate(known.fields, 1) if known.packed or not one.optional), default=0)

        def take(given: Any, stack: ExitStack) -> Any:
            return cls(*_fields(known, kinds, required, given, stack))

        def give(value: Any, stack: ExitStack) -> Any:
            return {name: kinds[name].give(one, stack) for name, one in vars(value).items()}

        self._structs[known.name] = Kind(within, take, give)  # where it occurs within itself
        try:
            for one in known.fields:
                kinds[one.name] = self._kind(one.type)
        except BaseException:
            del self._structs[known.name]
            raise
        codec.complete([Field(one.name, kinds[one.name].codec, one.optional) for one in known.fields])
        if known.packed:
            _check_size(f"the struct {known.name}", codec, kinds.values())
        else:
            _check_empty(f"the struct {known.name}", kinds.values())
        self._structs[known.name] = Kind(codec, take, give)
        return self._structs[known.name]


def _fields(known: StructType, kinds: dict[str, Kind], required: int, given: Any, stack: ExitStack) -> list[Any]:
    """Return the values of a struct's fields, as many as were given."""
    if not isinstance(given, dict):
        raise MismatchType.of(f"{known.name}, an object with {_listed(kinds)}", given)
    for name in given:
        if name not in kinds:
            raise MismatchValue(f"{known.name} with {_listed(kinds)} only", f"a field {name!r:.80}")
    count = max((at for at, one in enumerate(known.fields, 1) if one.name in given), default=0)
    values = []
    for one in known.fields[: max(count, required)]:
        if one.name not in given:
            why = " (only the service knows its default, so nothing after it could be given)" if one.optional else ""
            raise MismatchValue(f"{known.name} with the field {one.name!r}{why}", f"one with {_listed(given)}")
        values.append(_step(kinds[one.name], given[one.name], f".{one.name}", stack))
    return values


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names) or "no fields"


def _step(kind: Kind, given: Any, step: str, stack: ExitStack) -> Any:
    try:
        return kind.take(given, stack)
    except Mismatch as mismatch:
        mismatch.inside(step)
        raise


def _check_size(what: str, codec: Codec, parts: Iterable[Kind]) -> None:
    parts = list(parts)
    if parts and codec.minimum == 0:
        raise ValueError(f"{what} has parts and takes no bytes")
    _check_empty(what, parts)


def _check_empty(what: str, parts: Iterable[Kind]) -> None:
    empty = sum(kind.codec.minimum == 0 for kind in parts)
    if empty > limits.MAX_EMPTY_PARTS:
        raise ValueError(f"{what} has {empty} parts that take no bytes; at most {limits.MAX_EMPTY_PARTS}")


# --- containers -------------------------------------------------------------------------------------------------


def _take_each(item: Kind, given: Any, what: str, stack: ExitStack) -> list[Any]:
    if not isinstance(given, (list, tuple)):
        raise MismatchType.of(f"{what} (a list)", given)
    return [_step(item, one, f"[{at}]", stack) for at, one in enumerate(given)]


def _give_each(item: Kind) -> Callable[[Any, ExitStack], Any]:
    return lambda value, stack: [item.give(one, stack) for one in value]


def _list(item: Kind) -> Kind:
    codec = ListCodec(item.codec)
    return Kind(codec, lambda given, stack: _take_each(item, given, codec.name(), stack), _give_each(item))


def _set(item: Kind) -> Kind:
    codec = SetCodec(item.codec, (set, frozenset), set)

    def take(given: Any, stack: ExitStack) -> Any:
        try:
            return set(_take_each(item, given, codec.name(), stack))
        except TypeError as error:
            if isinstance(error, Mismatch):
                raise
            raise MismatchType(codec.name(), f"elements that cannot be in a set: {error}") from None

    return Kind(codec, take, _give_each(item))


def _optional(item: Kind) -> Kind:
    return Kind(
        OptionalCodec(item.codec),
        lambda given, stack: None if given is None else item.take(given, stack),
        lambda value, stack: None if value is None else item.give(value, stack),
    )


def _tuple(items: list[Kind]) -> Kind:
    codec = TupleCodec([item.codec for item in items])
    _check_size("a tuple", codec, items)

    def take(given: Any, stack: ExitStack) -> Any:
        if not isinstance(given, (list, tuple)) or len(given) != len(items):
            raise MismatchType.of(f"{codec.name()} (a list of {len(items)})", given)
        return tuple(
            _step(item, one, f"[{at}]", stack) for at, (item, one) in enumerate(zip(items, given, strict=True))
        )

    def give(value: Any, stack: ExitStack) -> Any:
        return [item.give(one, stack) for item, one in zip(items, value, strict=True)]

    return Kind(codec, take, give)


def _union(items: list[Kind]) -> Kind:
    if any(item.codec.owns_descriptor and not item.codec.kinds for item in items):
        raise ParamTypeError("a descriptor or file in a union can only be told apart by a proxy of the contract")
    codec = UnionCodec([item.codec for item in items])
    # A whole number is an int first, and a float only if there is no int.
    ordered = sorted(items, key=lambda item: item.codec.name() in ("float", "float32"))
    gives = [
        (item.codec.kinds or (object,), item.give) for item in sorted(items, key=lambda item: not item.codec.kinds)
    ]

    def take(given: Any, stack: ExitStack) -> Any:
        for item in ordered:
            try:
                return item.take(given, stack)
            except Mismatch:
                continue  # the next alternative may take it; if none does, all are named
        raise MismatchType.of(codec.name(), given)

    def give(value: Any, stack: ExitStack) -> Any:
        for kinds, one in gives:
            if isinstance(value, kinds) and not (isinstance(value, bool) and bool not in kinds):
                return one(value, stack)
        return str(value)

    return Kind(codec, take, give)


def _map(key_ref: TypeRef, key: Kind, item: Kind) -> Kind:
    codec = MapCodec(key.codec, item.codec, (dict,))
    texts = key_ref.form in ("str", "enum") or key_ref.form.startswith(("int", "uint"))

    def pairs(given: Any) -> Iterable[tuple[Any, Any]]:
        if isinstance(given, dict):
            return [
                (Word(one) if isinstance(one, str) and key_ref.form != "str" else one, two)
                for one, two in given.items()
            ]
        if isinstance(given, list) and all(isinstance(pair, (list, tuple)) and len(pair) == 2 for pair in given):
            return [tuple(pair) for pair in given]
        raise MismatchType.of(f"{codec.name()} (an object, or a list of pairs)", given)

    def take(given: Any, stack: ExitStack) -> Any:
        made: dict[Any, Any] = {}
        for one, two in pairs(given):
            try:
                made[key.value(one, stack)] = _step(item, two, f"[{one!r:.80}]", stack)
            except TypeError as error:
                if isinstance(error, Mismatch):
                    raise
                raise MismatchType(codec.name(), f"a key that cannot be in a map: {error}") from None
        return made

    def give(value: Any, stack: ExitStack) -> Any:
        given = [(key.give(one, stack), item.give(two, stack)) for one, two in value.items()]
        return {str(one): two for one, two in given} if texts else [[one, two] for one, two in given]

    return Kind(codec, take, give)
