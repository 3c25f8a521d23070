"""JSON-like values for types that are not made of others: scalars, enums, literals, files, arrays.

Owns: what a type of a description is once it is made (Kind), and the kinds without parts; jsonlike.py has the others,
and the table of all forms.

Rules upheld: the values of a literal are never evaluated: the text of one that is not simple stands for itself.
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal, InvalidOperation
from enum import Enum, Flag, IntEnum
from pathlib import Path
from typing import Any, BinaryIO, Final
from uuid import UUID

from binderkit.errors import ParamTypeError
from binderkit.interface.codec import Codec, Fd, Mismatch, MismatchType, MismatchValue, codec_for
from binderkit.interface.codec import scalars as sizes
from binderkit.interface.codec.containers import LiteralCodec
from binderkit.interface.codec.enums import enum_codec
from binderkit.interface.described import EnumType, printable
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import IRemoteObject, RemoteObject
from binderkit.memory.ashmem import Ashmem

__all__ = ["Kind", "Word", "enum_kind", "literal_kind", "ndarray_kind", "remote_kind", "scalar_kind"]

_BYTES_FORM: Final = 'bytes as "base64:…", "hex:…" or "@FILE"'


class Word(str):
    """A value as a word of a command line: JSON if that fits the type, else the text itself."""


@dataclass(frozen=True)
class Kind:
    """A described type.

    Attributes:
        codec: how its values travel.
        take: makes a value of a JSON-like one; files it opens are closed by the stack. Raises Mismatch.
        give: makes a JSON-like one of a value; what has to be closed is left to the stack.
    """

    codec: Codec
    take: Callable[[Any, ExitStack], Any]
    give: Callable[[Any, ExitStack], Any]

    def value(self, given: object, stack: ExitStack) -> Any:
        """Return the value for what was given.

        Raises:
            Mismatch: it does not fit.
        """
        try:
            return self._of_word(given, stack) if isinstance(given, Word) else self.take(given, stack)
        except RecursionError:
            raise MismatchValue("values nested less deeply", "too many levels") from None

    def _of_word(self, word: Word, stack: ExitStack) -> Any:
        text = str(word)
        try:
            parsed = json.loads(text)
        except ValueError:
            return self.take(text, stack)
        try:
            return self.take(parsed, stack)
        except Mismatch as mismatch:
            try:
                return self.take(text, stack)
            except Mismatch:
                raise mismatch from None


def literal_kind(words: tuple[str, ...]) -> Kind:
    """Return a literal, from its values as a description shows them."""
    values = [_label(word) for word in words]
    codec = LiteralCodec(values)

    def take(given: Any, stack: ExitStack) -> Any:
        if not any(given.__class__ is value.__class__ and given == value for value in values):
            raise MismatchValue.of(codec.name(), given)
        return given

    return Kind(codec, take, lambda value, stack: value)


def _label(word: str) -> Any:
    """Return what stands for a literal's value here: the value if it is simple, else its text. Nothing is evaluated."""
    simple: dict[str, Any] = {"True": True, "False": False, "None": None}
    if word in simple:
        return simple[word]
    if len(word) <= 20 and word.removeprefix("-").isdecimal():
        return int(word)
    if len(word) > 1 and word[0] == word[-1] and word[0] in "'\"" and "\\" not in word:
        return word[1:-1]
    return word


def enum_kind(known: EnumType) -> Kind:
    """Return an enum: its members by name."""
    base: Any = Flag if known.flag else IntEnum if known.form in ("int32", "int64") else Enum
    cls: Any = base("Member", known.members)
    codec = enum_codec(cls)
    names = ", ".join(list(known.members)[:20]) + (", …" if len(known.members) > 20 else "")

    def take(given: Any, stack: ExitStack) -> Any:
        parts = str(given).split("|") if known.flag and isinstance(given, str) else [given]
        if known.flag and given == "":
            return cls(0)
        made = None
        for part in parts:
            name = part.strip() if isinstance(part, str) else ""
            if name not in known.members:
                raise MismatchValue.of(f"{printable(known.name[:80])}, one of {names}", given)
            made = cls[name] if made is None else made | cls[name]
        return made

    def give(value: Any, stack: ExitStack) -> Any:
        return value.name or ("" if value.value == 0 else str(value.value))

    return Kind(codec, take, give)


# --- scalars --------------------------------------------------------------------------------------------------


def _as_it_is(value: Any, stack: ExitStack) -> Any:
    return value


def scalar_kind(form: str) -> Kind:
    """Return a kind by its form, one of described.SCALARS but no ndarray."""
    if form in ("fd", "file"):
        return _file(form)
    if form == "remote":
        return remote_kind("remote object")
    if form == "ashmem":
        return _ashmem()
    hint, take, give = _SCALARS[form]
    codec = codec_for(hint)

    def taken(given: Any, stack: ExitStack) -> Any:
        try:
            return take(given)
        except (ValueError, TypeError, OverflowError, InvalidOperation) as error:
            if isinstance(error, Mismatch):
                raise
            expected = _EXPECTED.get(form, codec.name())
            raise MismatchType.of(expected, given) from None

    return Kind(codec, taken, lambda value, stack: give(value))


def _only(*kinds: type[Any]) -> Callable[[Any], Any]:
    def take(given: Any) -> Any:
        if not isinstance(given, kinds) or (isinstance(given, bool) and bool not in kinds):
            raise TypeError
        return given

    return take


def _text_of(kind: Any, make: Callable[[str], Any]) -> Callable[[Any], Any]:
    def take(given: Any) -> Any:
        return make(given) if isinstance(given, str) else _only(kind)(given)

    return take


def _take_bytes(given: Any) -> Any:
    if isinstance(given, (bytes, bytearray, memoryview)):
        return given
    text = _only(str)(given)
    if text.startswith("base64:"):
        return base64.b64decode(text[7:], validate=True)
    if text.startswith("hex:"):
        return bytes.fromhex(text[4:])
    if text.startswith("@"):
        return Path(text[1:]).read_bytes()
    raise ValueError


def _give_bytes(value: Any) -> str:
    return "base64:" + base64.b64encode(value).decode("ascii")


def _seconds(given: Any) -> timedelta:
    return given if isinstance(given, timedelta) else timedelta(seconds=_only(int, float)(given))


def _decimal(given: Any) -> Decimal:
    return Decimal(_only(str, int, Decimal)(given))


_INTS: Final = {
    "int8": sizes.Int8,
    "int16": sizes.Int16,
    "int32": sizes.Int32,
    "int64": int,
    "uint8": sizes.UInt8,
    "uint16": sizes.UInt16,
    "uint32": sizes.UInt32,
    "uint64": sizes.UInt64,
    "char": sizes.Char,
}


def _same(value: Any) -> Any:
    return value


_SCALARS: Final[dict[str, tuple[Any, Callable[[Any], Any], Callable[[Any], Any]]]] = {
    **{form: (hint, _only(int), _same) for form, hint in _INTS.items()},
    "None": (None, _only(type(None)), _same),
    "bool": (bool, _only(bool), _same),
    "float": (float, _only(int, float), _same),
    "float32": (sizes.Float32, _only(int, float), _same),
    "str": (str, _only(str), _same),
    "bytes": (bytes, _take_bytes, _give_bytes),
    "bytearray": (bytearray, _take_bytes, _give_bytes),
    "memoryview": (memoryview, _take_bytes, _give_bytes),
    "datetime": (datetime, _text_of(datetime, datetime.fromisoformat), datetime.isoformat),
    "date": (date, _text_of(date, date.fromisoformat), date.isoformat),
    "time": (time, _text_of(time, time.fromisoformat), time.isoformat),
    "timedelta": (timedelta, _seconds, timedelta.total_seconds),
    "uuid": (UUID, _text_of(UUID, UUID), str),
    "decimal": (Decimal, _decimal, str),
    "path": (Path, _text_of(Path, Path), str),
}
_EXPECTED: Final = {
    **dict.fromkeys(("bytes", "bytearray", "memoryview"), _BYTES_FORM),
    "datetime": "datetime as 2026-01-31T12:00:00",
    "date": "date as 2026-01-31",
    "time": "time as 12:00:00",
    "timedelta": "timedelta (seconds)",
    "decimal": "decimal as a string",
}


# --- what is more than bytes ------------------------------------------------------------------------------------


def _file(form: str) -> Kind:
    codec = codec_for(Fd if form == "fd" else BinaryIO)

    def take(given: Any, stack: ExitStack) -> Any:
        if isinstance(given, str) and given.startswith("@"):
            file = stack.enter_context(open(given[1:], "rb", buffering=0))
            return file.fileno() if form == "fd" else file
        if isinstance(given, str) or given is None:
            raise MismatchType.of(f'{form} as "@FILE"', given)
        return given

    def give(value: Any, stack: ExitStack) -> Any:
        if form == "fd":
            stack.callback(os.close, value)
            return f"fd of {_opened(value)}"
        stack.callback(value.close)
        return f"file {_opened(value.fileno())}"

    return Kind(codec, take, give)


def _opened(number: int) -> str:
    return printable(os.readlink(f"/proc/self/fd/{number}"))


def _ashmem() -> Kind:
    codec = codec_for(Ashmem)

    def take(given: Any, stack: ExitStack) -> Any:
        if not isinstance(given, Ashmem):
            raise MismatchType.of("an Ashmem object (there is no text for one)", given)
        return given

    def give(value: Ashmem, stack: ExitStack) -> Any:
        stack.callback(value.close_ashmem)
        return f"ashmem of {value.get_ashmem_size()} bytes"

    return Kind(codec, take, give)


def remote_kind(title: str) -> Kind:
    """Return a remote object; comes back as ``<title>``."""

    def take(given: Any, stack: ExitStack) -> Any:
        remote = given.as_object() if hasattr(given, "as_object") else given
        if not isinstance(remote, (RemoteProxy, RemoteObject)):
            raise MismatchType.of(f"a {title} (there is no text for one)", given)
        return remote

    return Kind(codec_for(IRemoteObject), take, lambda value, stack: f"<{title}>")


def ndarray_kind(name: str) -> Kind:
    """Return numpy's arrays; ``name``: one of described.DTYPES, or "" for any.

    Raises:
        ParamTypeError: numpy is not installed (401).
    """
    try:
        import numpy
        from numpy.typing import NDArray
    except ModuleNotFoundError:
        raise ParamTypeError(
            "this method uses arrays of numpy, which is not installed here: pip install numpy"
        ) from None
    scalar = getattr(numpy, name, None) if name else None  # a name of described.DTYPES
    codec = codec_for(numpy.ndarray if scalar is None else NDArray[scalar])  # type: ignore[valid-type]

    def take(given: Any, stack: ExitStack) -> Any:
        try:
            return _array(numpy, scalar, given)
        except (ValueError, TypeError, KeyError) as error:
            if isinstance(error, Mismatch):
                raise
            expected = f'{codec.name()} as a list, or {{"dtype": "<f4", "shape": [2], "data": "base64:…"}}'
            raise MismatchType.of(expected, given) from error

    def give(value: Any, stack: ExitStack) -> Any:
        return {"dtype": value.dtype.str, "shape": list(value.shape), "data": _give_bytes(value.tobytes())}

    return Kind(codec, take, give)


def _array(numpy: Any, scalar: Any, given: Any) -> Any:
    if isinstance(given, numpy.ndarray):
        return given
    if isinstance(given, dict):
        raw = _take_bytes(given["data"])
        return numpy.frombuffer(raw, dtype=numpy.dtype(given["dtype"])).reshape(given["shape"])
    concrete = scalar is not None and not scalar.__subclasses__()  # numpy.floating has no arrays of its own
    return numpy.asarray(_only(list)(given), dtype=scalar if concrete else None)
