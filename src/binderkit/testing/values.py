"""Random values for the hints a contract may use.

Owns: ``Values``. Small values and limits come up often, because that is where mistakes are. What a hint means is
decided by its codec alone: for sized numbers it is asked what it is, so that the sizes are written down in one place.
"""

from __future__ import annotations

import datetime
import sys
import types
import uuid
from collections import abc
from collections.abc import Callable, Hashable
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum, Flag
from functools import reduce
from operator import or_
from pathlib import PurePath
from random import Random
from typing import (
    IO,
    Annotated,
    Any,
    BinaryIO,
    Final,
    Literal,
    TypeVar,
    Union,
    cast,
    get_args,
    get_origin,
    get_type_hints,
)

from binderkit.interface.codec import Fd, codec_for
from binderkit.interface.contract import Interface
from binderkit.interface.proxy import proxy
from binderkit.ipc.remote import IRemoteObject
from binderkit.memory.ashmem import Ashmem
from binderkit.parcel.parcelable import Parcelable
from binderkit.testing.messages import Things

__all__ = ["NoValueError", "Values"]

DEEPEST: Final = 4
"""Levels of containers and structs after which empty ones are chosen."""
_TEXTS: Final = ("", "a", "hello", "äöü ✓", "\ud800", "\0", "x" * 300)
_INTEGERS: Final = {
    f"{sign}int{bits}": (0 if sign else -(1 << bits - 1), (1 << (bits if sign else bits - 1)) - 1)
    for sign in ("", "u")
    for bits in (8, 16, 32, 64)
} | {"char": (0, 255)}
"""What a codec of integers calls itself -> smallest and largest value."""


class NoValueError(Exception):
    """No value of this hint can be made up."""


class Values:
    """Makes values; descriptors and objects in them belong to ``things``."""

    def __init__(self, rng: Random, things: Things) -> None:
        self._rng = rng
        self._things = things
        self._hints: dict[type, dict[str, Any] | None] = {}
        self._simple: dict[Any, Callable[[], Any]] = {
            bool: lambda: rng.random() < 0.5,
            int: lambda: self._integer(*_INTEGERS["int64"]),
            float: self._float,
            str: lambda: rng.choice(_TEXTS),
            bytes: self._bytes,
            bytearray: lambda: bytearray(self._bytes()),
            memoryview: lambda: memoryview(self._bytes()),
            None: lambda: None,
            type(None): lambda: None,
            datetime.datetime: lambda: datetime.datetime(rng.randint(1, 9999), 2, 28, rng.randrange(24), 59),
            datetime.date: lambda: datetime.date(rng.randint(1, 9999), 12, rng.randint(1, 31)),
            datetime.time: lambda: datetime.time(rng.randrange(24), rng.randrange(60)),
            datetime.timedelta: lambda: datetime.timedelta(microseconds=rng.randint(-(10**15), 10**15)),
            uuid.UUID: lambda: uuid.UUID(int=rng.getrandbits(128)),
            Decimal: lambda: Decimal(rng.randint(-(10**9), 10**9)) / 100,
            Fd: things.descriptor.fileno,
            BinaryIO: lambda: things.file,
            IO: lambda: things.file,
            Ashmem: lambda: things.ashmem,
        }
        buffer = getattr(abc, "Buffer", None)
        if buffer is not None:
            self._simple[buffer] = self._bytes

    def of(self, hint: Any, depth: int = 0) -> Any:
        """Return a value of ``hint``.

        Raises:
            NoValueError: it holds a type of which no value can be made up.
        """
        origin = get_origin(hint)
        if origin is Annotated:
            return self._annotated(hint, depth)
        if origin in (Union, types.UnionType):
            return self._one_of(get_args(hint), depth)
        if origin is Literal:
            return self._rng.choice(get_args(hint))
        plain = hint if origin is None else origin
        # Not every hint can be hashed (Annotated with a list, say); those here can.
        simple = self._simple.get(plain) if isinstance(plain, Hashable) else None
        if simple is not None:
            return simple()
        if origin is not None and not is_dataclass(origin):
            return self._container(origin, get_args(hint), depth)
        if not isinstance(plain, type):
            return self._named(hint, depth)
        return self._instance(plain, get_args(hint), depth)

    # --- numbers, bytes -------------------------------------------------------------------------------

    def _integer(self, low: int, high: int) -> int:
        rng = self._rng
        if rng.random() < 0.3:
            return rng.choice((low, high, low + 1, high - 1))
        if rng.random() < 0.3:
            return rng.randint(low, high)
        return min(high, max(low, rng.randint(-10, 1000)))

    def _float(self) -> float:
        return self._rng.choice((0.0, -0.0, 1.5, -1e30, float("inf"), float("nan"), self._rng.random()))

    def _bytes(self) -> bytes:
        rng = self._rng
        size = rng.choice((0, 1, 3, 4, 17, 200)) if rng.random() < 0.95 else 32_769
        return rng.randbytes(size)

    def _annotated(self, hint: Any, depth: int) -> Any:
        kind = codec_for(hint).describe({})
        if isinstance(kind, str) and kind in _INTEGERS:
            return self._integer(*_INTEGERS[kind])
        return self.of(get_args(hint)[0], depth)

    # --- containers -----------------------------------------------------------------------------------

    def _one_of(self, choices: tuple[Any, ...], depth: int) -> Any:
        if depth >= DEEPEST and type(None) in choices:
            return None
        return self.of(self._rng.choice(choices), depth + 1)

    def _container(self, origin: Any, arguments: tuple[Any, ...], depth: int) -> Any:
        if getattr(origin, "__module__", "") == "numpy":
            return self._array(get_args(arguments[-1]))
        if origin is tuple and not (len(arguments) == 2 and arguments[1] is Ellipsis):
            return tuple(self.of(argument, depth + 1) for argument in arguments)
        count = 0 if depth >= DEEPEST else self._rng.choice((0, 1, 2, 3, 20))
        if origin in (dict, abc.Mapping, abc.MutableMapping):
            return {self.of(arguments[0], depth + 1): self.of(arguments[1], depth + 1) for _ in range(count)}
        items = [self.of(arguments[0], depth + 1) for _ in range(count)]
        if origin in (list, abc.Sequence, abc.Iterable, abc.Collection, abc.MutableSequence):
            return items
        if origin in (set, frozenset, tuple):
            return origin(items)
        raise NoValueError(f"no value of {origin!r} can be made up")

    def _array(self, declared: tuple[Any, ...]) -> Any:
        """Return an array; ``declared`` is the class of its numbers, if its hint says one."""
        numpy = sys.modules["numpy"]  # a hint of numpy's came in, so it is there
        known = declared and isinstance(declared[0], type) and issubclass(declared[0], numpy.generic)
        kind = numpy.dtype(declared[0] if known else self._rng.choice(("<i4", "<f8", "|u1")))
        return numpy.frombuffer(self._rng.randbytes(kind.itemsize * self._rng.choice((0, 1, 16))), dtype=kind)

    # --- classes --------------------------------------------------------------------------------------

    def _named(self, hint: Any, depth: int) -> Any:
        """A NewType or another alias of something."""
        below = getattr(hint, "__supertype__", None) or getattr(hint, "__value__", None)
        if below is None:
            raise NoValueError(f"no value of {hint!r} can be made up")
        return self.of(below, depth)

    def _instance(self, kind: type, arguments: tuple[Any, ...], depth: int) -> Any:
        if issubclass(kind, Enum):
            return self._member(kind)
        if issubclass(kind, Interface):
            return proxy(kind, self._things.remote)
        if issubclass(kind, IRemoteObject):
            return self._things.remote
        if issubclass(kind, PurePath):
            return kind(self._rng.choice(("/", "a/b", "x.txt")))
        if issubclass(kind, Parcelable):
            return self._built(kind, {})
        if kind.__module__ == "numpy":
            return self._array(())
        if kind not in self._hints:
            self._hints[kind] = _field_hints(kind)
        names = self._hints[kind]
        if names is None:
            raise NoValueError(f"no value of {kind!r} can be made up")
        bound = dict(zip(getattr(kind, "__parameters__", ()), arguments, strict=False))
        return self._built(kind, {name: self.of(_substituted(hint, bound), depth + 1) for name, hint in names.items()})

    def _member(self, kind: type[Enum]) -> Enum:
        members = list(kind)
        if issubclass(kind, Flag):
            chosen = [member for member in members if self._rng.random() < 0.5]
            return cast(Enum, reduce(or_, chosen, kind(0)))
        return self._rng.choice(members)

    def _built(self, kind: type, values: dict[str, Any]) -> Any:
        try:
            return kind(**values)
        except Exception as error:  # the user's class refuses these values, as it may
            raise NoValueError(f"{kind.__name__} refuses made-up values: {error}") from error


def _field_hints(kind: type) -> dict[str, Any] | None:
    """Return name and hint of what a struct's constructor takes, None for other classes."""
    if is_dataclass(kind):
        hints = get_type_hints(kind, include_extras=True)
        return {field.name: hints[field.name] for field in fields(kind) if field.init}
    if hasattr(kind, "_fields") and issubclass(kind, tuple):
        return get_type_hints(kind, include_extras=True)
    if hasattr(kind, "__struct_fields__"):
        hints = get_type_hints(kind, include_extras=True)
        return {name: hints[name] for name in kind.__struct_fields__}
    return None


def _substituted(hint: Any, bound: dict[Any, Any]) -> Any:
    """Put the arguments of a generic class into the hint of one of its fields."""
    if isinstance(hint, TypeVar):
        return bound.get(hint, hint)
    parameters = getattr(hint, "__parameters__", ())
    if not parameters or isinstance(hint, type):
        return hint
    return hint[tuple(bound.get(parameter, parameter) for parameter in parameters)]
