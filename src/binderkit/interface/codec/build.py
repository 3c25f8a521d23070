"""From a hint to its codec.

Owns: which hints can travel, and the codecs made so far: one for each hint and process. Everything that takes a look at
classes and hints happens here, once per type; nothing of it is left for a call.

Rules upheld: a hint that cannot travel is a TypeError that names it and says what to use; two hints that compare equal
but differ on the wire (``int | str`` and ``str | int``) have codecs of their own. (typing.List, Optional and the like
keep the first of such two for good: write ``list[int | str]``, not ``List[Union[int, str]]``.)
"""

from __future__ import annotations

import collections.abc
import inspect
import sys
import types
from enum import Enum
from typing import IO, Annotated, Any, BinaryIO, Final, Literal, NewType, TypeVar, Union, get_args, get_origin

from binderkit.interface.codec.base import Codec, Reference
from binderkit.interface.codec.buffers import BufferCodec
from binderkit.interface.codec.containers import (
    ListCodec,
    LiteralCodec,
    MapCodec,
    OptionalCodec,
    SetCodec,
    TupleCodec,
    UnionCodec,
)
from binderkit.interface.codec.enums import enum_codec
from binderkit.interface.codec.fields import Described, described, is_struct
from binderkit.interface.codec.objects import (
    AshmemCodec,
    Fd,
    FdCodec,
    FileCodec,
    InterfaceCodec,
    OwnedFdCodec,
    ParcelableCodec,
    RemoteCodec,
)
from binderkit.interface.codec.scalars import (
    BoolCodec,
    FloatCodec,
    FloatSize,
    IntCodec,
    IntSize,
    NoneCodec,
    StrCodec,
)
from binderkit.interface.codec.structs import Field, StructCodec, is_packed
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import IRemoteObject, RemoteObject
from binderkit.memory.ashmem import Ashmem
from binderkit.parcel.objects import OwnedFd

__all__ = ["codec_for"]

_known: Final[dict[Any, Codec]] = {}
_SIZES: Final = (IntSize, FloatSize)
_STREAMS: Final = (
    collections.abc.Iterator,
    collections.abc.AsyncIterator,
    collections.abc.Generator,
    collections.abc.AsyncGenerator,
    collections.abc.Iterable,
    collections.abc.AsyncIterable,
)
_TIMES_MODULES: Final = frozenset({"datetime", "decimal", "pathlib", "uuid"})
"""Where the types of times.py are from; in some versions of Python from a module inside."""
_ADVICE: Final[dict[Any, str]] = {
    Any: "say which type it is; a union (int | str) allows several",
    object: "say which type it is; a union (int | str) allows several",
    list: "say what it holds: list[int]",
    dict: "say what it holds: dict[str, int]",
    set: "say what it holds: set[int]",
    frozenset: "say what it holds: frozenset[int]",
    tuple: "say what it holds: tuple[int, str] or tuple[int, ...]",
    complex: "use a tuple[float, float]",
}


def codec_for(hint: Any) -> Codec:
    """Return the codec of a hint whose names are resolved (typing.get_type_hints with include_extras=True).

    Raises:
        TypeError: values of that type cannot travel; the text names the type and what to use instead.
    """
    key = hint_key(hint)
    try:
        known = _known.get(key)
    except TypeError:
        raise TypeError(f"{hint!r} is no type that can travel") from None
    if known is not None:
        return known
    builder = _Builder()
    try:
        made = builder.codec(hint)
    except RecursionError:
        raise TypeError(f"{hint!r} has no end: each of its levels is of another type") from None
    # Another thread may have made the same ones: whichever come first stay. Nothing unfinished is ever seen.
    for each, codec in builder.made.items():
        _known.setdefault(each, codec)
    return _known.get(key, made)


def hint_key(hint: Any) -> Any:
    """Return what tells a hint from all that differ on the wire; typing's own equality ignores a union's order."""
    arguments = get_args(hint)
    if not arguments:
        return hint
    origin = get_origin(hint)
    if origin is Annotated:
        sizes = tuple(item for item in hint.__metadata__ if isinstance(item, _SIZES))
        return (Annotated, hint_key(arguments[0]), sizes)
    if origin is Literal:
        return (Literal, tuple((item.__class__, item) for item in arguments))
    if origin is types.UnionType:
        origin = Union
    return (origin, tuple(map(hint_key, arguments)))


class _Builder:
    """Makes the codecs one hint needs. ``made`` are those that are finished as soon as the outermost is."""

    def __init__(self) -> None:
        self.made: dict[Any, Codec] = {}
        self._open: dict[Any, list[Reference]] = {}

    def codec(self, hint: Any) -> Codec:
        """Return the codec of ``hint``; TypeError if there is none."""
        key = hint_key(hint)
        try:
            known = _known.get(key) or self.made.get(key)
            references = self._open.get(key)
        except TypeError:
            raise TypeError(f"{hint!r} is no type that can travel") from None
        if known is not None:
            return known
        if references is not None:
            references.append(Reference(4 if _is_packed_struct(hint) else 8, _title(hint)))
            return references[-1]
        made = self.made[key] = self._make(hint, key)
        return made

    def _make(self, hint: Any, key: Any) -> Codec:
        if hint is None or hint is type(None):
            return NoneCodec()
        if hint is Fd:
            return FdCodec()
        if isinstance(hint, NewType):
            return self.codec(hint.__supertype__)
        if type(hint).__name__ == "TypeAliasType":  # "type X = …"; the class is new in Python 3.12
            return self._recursive(key, lambda: self.codec(hint.__value__))
        if isinstance(hint, TypeVar):
            raise TypeError(f"{hint!r} stands for no type here: give the generic class its parameters, as in Box[int]")
        origin = get_origin(hint)
        if origin is not None:
            return self._generic(hint, origin, get_args(hint), key)
        if isinstance(hint, type):
            return self._class(hint, key)
        raise _unsupported(hint)

    def _recursive(self, key: Any, make: Any) -> Codec:
        references = self._open[key] = []
        codec: Codec = make()
        for reference in references:
            reference.target = codec
        del self._open[key]
        return codec

    # --- hints with arguments -------------------------------------------------------------------------------

    def _generic(self, hint: Any, origin: Any, arguments: tuple[Any, ...], key: Any) -> Codec:
        if origin is Annotated:
            return self._annotated(hint)
        if origin is Union or origin is types.UnionType:
            return self._union(arguments)
        if origin is Literal:
            return LiteralCodec(arguments)
        if origin is tuple:
            return self._tuple(arguments)
        if origin in (list, collections.abc.Sequence):
            return ListCodec(self.codec(arguments[0]), (list,) if origin is list else (list, tuple))
        if origin in (set, frozenset, collections.abc.Set):
            accepted = (set, frozenset) if origin is collections.abc.Set else (origin,)
            return SetCodec(self.codec(arguments[0]), accepted, set if origin is set else frozenset)
        if origin in (dict, collections.abc.Mapping):
            accepted = (dict,) if origin is dict else (collections.abc.Mapping,)
            return MapCodec(self.codec(arguments[0]), self.codec(arguments[1]), accepted)
        if origin is IO and arguments == (bytes,):
            return FileCodec()
        if _is_ndarray(origin):
            return _ndarray_codec(arguments)
        if isinstance(origin, type) and is_struct(origin):
            return self._struct(origin, arguments, key)
        raise _unsupported(hint)

    def _annotated(self, hint: Any) -> Codec:
        inner = hint.__origin__
        sizes = [item for item in hint.__metadata__ if isinstance(item, _SIZES)]
        if not sizes:
            return self.codec(inner)
        size = sizes[-1]
        if isinstance(size, IntSize) and inner is int:
            return IntCodec(size)
        if isinstance(size, FloatSize) and inner is float:
            return FloatCodec(size)
        raise TypeError(f"{hint!r}: {size!r} does not go with {inner!r}")

    def _union(self, arguments: tuple[Any, ...]) -> Codec:
        present = [item for item in arguments if item is not type(None)]
        codecs = [self.codec(item) for item in present]
        codec = codecs[0] if len(codecs) == 1 else UnionCodec(codecs)
        return codec if len(present) == len(arguments) else OptionalCodec(codec)

    def _tuple(self, arguments: tuple[Any, ...]) -> Codec:
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return ListCodec(self.codec(arguments[0]), (tuple,), tuple)
        return TupleCodec([self.codec(item) for item in arguments])

    # --- classes ----------------------------------------------------------------------------------------------

    def _class(self, hint: type, key: Any) -> Codec:
        make = _SIMPLE.get(hint)
        if make is not None:
            codec: Codec = make()
            return codec
        if hint.__module__.partition(".")[0] in _TIMES_MODULES:
            timed = _times_codec(hint)
            if timed is not None:
                return timed
        if hint in _ADVICE or hint in _STREAMS:
            raise _unsupported(hint)
        if _is_ndarray(hint):
            return _ndarray_codec(())
        if _is_interface(hint):
            return _interface_codec(hint)
        if callable(getattr(hint, "marshalling", None)) and callable(getattr(hint, "unmarshalling", None)):
            return _parcelable_codec(hint)
        if issubclass(hint, Enum):
            return enum_codec(hint)
        if is_struct(hint):
            return self._struct(hint, (), key)
        raise _unsupported(hint)

    def _struct(self, cls: type, arguments: tuple[Any, ...], key: Any) -> Codec:
        codec = StructCodec(cls, _class_title(cls), key)

        def make() -> Codec:
            shape: Described = described(cls, arguments)
            if arguments:
                codec._title = f"{_class_title(cls)}[{', '.join(self.codec(item).name() for item in arguments)}]"
            codec.complete([self._field(cls, *field) for field in shape])
            return codec

        return self._recursive(key, make)

    def _field(self, cls: type, name: str, hint: Any, optional: bool, keyword: bool) -> Field:
        try:
            return Field(name, self.codec(hint), optional, keyword)
        except TypeError as error:
            raise TypeError(f"{_class_title(cls)}.{name}: {error}") from None


def _class_title(cls: type) -> str:
    return cls.__qualname__.rpartition("<locals>.")[2]


def _title(hint: Any) -> str:
    return _class_title(hint) if isinstance(hint, type) else str(hint)


def _is_packed_struct(hint: Any) -> bool:
    cls = get_origin(hint) or hint
    return isinstance(cls, type) and is_packed(cls)


def _is_ndarray(hint: Any) -> bool:
    numpy = sys.modules.get("numpy")  # a hint can only name what is imported
    return numpy is not None and hint is numpy.ndarray


def _ndarray_codec(arguments: tuple[Any, ...]) -> Codec:
    from binderkit.interface.codec.ndarray import NdarrayCodec

    inner = get_args(arguments[1]) if len(arguments) == 2 else ()
    scalar = inner[0] if inner and inner[0] is not Any and isinstance(inner[0], type) else None
    return NdarrayCodec(scalar)


def _times_codec(hint: type) -> Codec | None:
    # Here: datetime, decimal and uuid (with platform) take a tenth of the import of interfaces, and few contracts name
    # them.
    from binderkit.interface.codec.times import times_codec

    return times_codec(hint)


def _parcelable_codec(hint: type) -> Codec:
    try:
        inspect.signature(hint).bind()
    except (TypeError, ValueError):
        raise TypeError(
            f"{hint.__qualname__}: a received Parcelable is made without arguments and fills itself; give its "
            "constructor defaults"
        ) from None
    return ParcelableCodec(hint)


def _is_interface(hint: type) -> bool:
    contract = sys.modules.get("binderkit.interface.contract")
    return contract is not None and issubclass(hint, contract.Interface)


def _interface_codec(hint: type) -> Codec:
    if "__contract__" not in vars(hint):
        raise TypeError(f"{hint.__qualname__} declares no interface; name the interface it implements")
    return InterfaceCodec(hint)


def _unsupported(hint: Any) -> TypeError:
    name = getattr(hint, "__qualname__", None) if isinstance(hint, type) else None
    shown = name or repr(hint)
    origin = get_origin(hint) or hint
    if origin in _STREAMS:
        return TypeError(f"{shown} is allowed as the result of a method only; use list[…] here")
    if isinstance(hint, type) and issubclass(hint, IRemoteObject):
        return TypeError(f"{shown} cannot travel as itself; use IRemoteObject, or a class that declares its interface")
    advice = _ADVICE.get(origin) or (
        "use bool, int, float, str, bytes, containers of them, an Enum, a dataclass, a Parcelable or an interface"
    )
    return TypeError(f"{shown} cannot travel: {advice}")


_SIMPLE: Final[dict[Any, Any]] = {
    bool: BoolCodec,
    int: lambda: IntCodec(IntSize(64, True)),
    float: lambda: FloatCodec(FloatSize(64)),
    str: StrCodec,
    bytes: lambda: BufferCodec(bytes),
    bytearray: lambda: BufferCodec(bytearray),
    memoryview: lambda: BufferCodec(memoryview),
    Ashmem: AshmemCodec,
    BinaryIO: FileCodec,
    OwnedFd: OwnedFdCodec,
    IRemoteObject: RemoteCodec,
    RemoteObject: RemoteCodec,
    RemoteProxy: RemoteCodec,
}
if sys.version_info >= (3, 12):
    _SIMPLE[collections.abc.Buffer] = lambda: BufferCodec(memoryview)
