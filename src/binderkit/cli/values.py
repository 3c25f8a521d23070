"""Words of a command line to values in a MessageSequence and back; bytes as a hexdump. Pure.

Owns: the type names of ``binderkit call``, the ones of Android's ``service call``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Final

from binderkit.errors import ParamValueError

if TYPE_CHECKING:
    from binderkit.parcel import MessageSequence

KINDS: Final = ("i32", "i64", "f32", "f64", "bool", "s16", "fd")
REPLY_KINDS: Final = (*KINDS, "obj")
_FALSE_TRUE: Final = {"0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
_UNPRINTABLE: Final = "."


def write_values(sequence: MessageSequence, words: Iterable[str]) -> None:
    """Append ``KIND VALUE`` pairs to ``sequence``.

    Args:
        words: e.g. ["i32", "5", "s16", "text", "fd", "/etc/hostname"]; numbers decimal or 0x…

    Raises:
        ParamValueError: an unknown kind, a value that is none of its kind or out of range, or a kind
            without a value (401).
        OSError: the file of an ``fd`` cannot be opened.
    """
    left = iter(words)
    for kind in left:
        if kind not in KINDS:
            raise ParamValueError(f"{kind!r} is no type; write pairs of a type and a value, types: {' '.join(KINDS)}")
        word = next(left, None)
        if word is None:
            raise ParamValueError(f"{kind!r} at the end has no value after it")
        try:
            _WRITERS[kind](sequence, word)
        except ValueError as error:
            raise ParamValueError(f"{word!r} is no {kind}: {error}") from None


def read_values(sequence: MessageSequence, kinds: Iterable[str]) -> Iterator[tuple[str, str]]:
    """Yield (kind, text) for each of ``kinds`` read from ``sequence``; a descriptor is closed again.

    Raises:
        ParamValueError: an unknown kind (401).
        ParcelReadError, InvalidObjectError: the sequence holds something else (1900010, 1900008).
    """
    for kind in kinds:
        if kind not in REPLY_KINDS:
            raise ParamValueError(f"{kind!r} is no type of a reply; types: {' '.join(REPLY_KINDS)}")
        yield kind, _READERS[kind](sequence)


def hexdump(data: bytes) -> Iterator[str]:
    """Yield lines of 16 bytes: offset, bytes, and the printable ASCII among them."""
    for start in range(0, len(data), 16):
        row = data[start : start + 16]
        left, right = row[:8].hex(" "), row[8:].hex(" ")
        text = "".join(chr(byte) if 32 <= byte < 127 else _UNPRINTABLE for byte in row)
        yield f"{start:08x}  {left:<23}  {right:<23}  |{text}|"


def _write_bool(sequence: MessageSequence, word: str) -> None:
    value = _FALSE_TRUE.get(word.lower())
    if value is None:
        raise ValueError("write true or false")
    sequence.write_boolean(value)


def _write_file(sequence: MessageSequence, path: str) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        sequence.write_file_descriptor(descriptor)
    finally:
        os.close(descriptor)


def _read_file(sequence: MessageSequence) -> str:
    descriptor = sequence.read_file_descriptor()
    try:
        return os.readlink(f"/proc/self/fd/{descriptor}")
    finally:
        os.close(descriptor)


_WRITERS: Final[dict[str, Callable[[MessageSequence, str], None]]] = {
    "i32": lambda sequence, word: sequence.write_int(int(word, 0)),
    "i64": lambda sequence, word: sequence.write_long(int(word, 0)),
    "f32": lambda sequence, word: sequence.write_float(float(word)),
    "f64": lambda sequence, word: sequence.write_double(float(word)),
    "bool": _write_bool,
    "s16": lambda sequence, word: sequence.write_string(word),
    "fd": _write_file,
}
_READERS: Final[dict[str, Callable[[MessageSequence], str]]] = {
    "i32": lambda sequence: str(sequence.read_int()),
    "i64": lambda sequence: str(sequence.read_long()),
    "f32": lambda sequence: repr(sequence.read_float()),
    "f64": lambda sequence: repr(sequence.read_double()),
    "bool": lambda sequence: str(sequence.read_boolean()).lower(),
    "s16": lambda sequence: repr(sequence.read_string()),
    "fd": _read_file,
    "obj": lambda sequence: repr(sequence.read_remote_object()),
}
