"""Files that people write: TOML and JSON, checked against a structure, with mistakes that say where and why.

Owns: reading with limits, the syntax of the three formats (TOML, JSON, JSON with comments), and turning what the
validator says into "field: what is wrong, what is allowed". Profiles and manifests use it. The validator (msgspec,
in the extra ``services``) is imported when the first file is checked, so that programs without profiles need no more
than the standard library.

Rules upheld: size is checked before parsing; nesting cannot exhaust the stack; a key given twice is a mistake, not
the last one wins.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NoReturn, TypeVar

from binderkit.errors import ProfileError, ServiceError

T = TypeVar("T")

TOML: Final = ".toml"
SUFFIXES: Final = (TOML, ".json", ".json5")
_UNKNOWN: Final = re.compile(r"Object contains unknown field `(.*)`", re.DOTALL)
_MISSING: Final = re.compile(r"Object missing required field `(.*)`", re.DOTALL)
_PLACE: Final = re.compile(r"(.*) - at `(key in )?\$\.?(.*)`", re.DOTALL)
_WORDS: Final = {
    "object": "a table",
    "array": "a list",
    "str": "a text",
    "int": "a whole number",
    "bool": "true or false",
}
_JSON5: Final = re.compile(r'"(?:\\.|[^"\\\n])*"|//[^\n]*|/\*.*?\*/|,(?=(?:\s|//[^\n]*|/\*.*?\*/)*[}\]])', re.DOTALL)


class Mistakes:
    """Collects what is wrong with one file.

    Args:
        file: its path, the first part of every text.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._found: list[str] = []

    def add(self, field: str, reason: str) -> None:
        """Note a mistake of ``field`` ("" for the file as a whole)."""
        self._found.append(f"{self._file}: {field}: {reason}" if field else f"{self._file}: {reason}")

    def fail(self, field: str, reason: str) -> NoReturn:
        """Note a mistake after which nothing else can be checked; raises ProfileError (1002)."""
        self.add(field, reason)
        raise ProfileError(*self._found)

    def check(self) -> None:
        """Raise ProfileError with everything noted, if anything was (1002)."""
        if self._found:
            raise ProfileError(*self._found)


def read_document(path: Path, max_bytes: int, mistakes: Mistakes) -> dict[str, Any]:
    """Return the table a file holds.

    Raises:
        ProfileError: unreadable, too large, or not the format its suffix says (1002).
    """
    if path.suffix not in SUFFIXES:
        mistakes.fail("", f"the suffix {path.suffix!r} is unknown; there are {', '.join(SUFFIXES)}")
    text = _text(path, max_bytes, mistakes)
    try:
        document = tomllib.loads(text) if path.suffix == TOML else _json(text, path.suffix == ".json5")
    except RecursionError:
        mistakes.fail("", "it is nested too deeply to be read")
    except ValueError as error:  # both parsers' errors are ValueErrors, and say line and column
        mistakes.fail("", f"it is no valid {path.suffix[1:].upper()}: {error}")
    if not isinstance(document, dict):
        mistakes.fail("", f"expected a table ({{…}}) at the top, got {type(document).__name__}")
    return document


def _text(path: Path, max_bytes: int, mistakes: Mistakes) -> str:
    try:
        # Not blocking, so that a FIFO of that name is found out instead of waited for.
        with open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                mistakes.fail("", "it is no regular file")
            content = file.read(max_bytes + 1)
    except OSError as error:
        mistakes.fail("", f"it cannot be read: {error.strerror}")
    if len(content) > max_bytes:
        mistakes.fail("", f"it is larger than {max_bytes} bytes, the most such a file may have")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        mistakes.fail("", f"it is no UTF-8 text: byte {error.start} is {content[error.start]:#04x}")


def _json(text: str, comments: bool) -> Any:
    if comments:
        text = _JSON5.sub(_blanked, text)
    return json.loads(text, object_pairs_hook=_table, parse_constant=_no_number)


def _blanked(found: re.Match[str]) -> str:
    """Replace a comment, or a comma before a bracket, by blanks: what is left keeps its line and column."""
    part = found[0]
    return part if part.startswith('"') else re.sub(r"[^\n]", " ", part)


def _table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    table: dict[str, Any] = {}
    for key, value in pairs:
        if key in table:
            raise ValueError(f"the field {key!r} is there twice in one object")
        table[key] = value
    return table


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number that JSON has")


def converted(document: dict[str, Any], kind: type[T], mistakes: Mistakes) -> T:
    """Return ``document`` as ``kind``, a msgspec.Struct.

    Raises:
        ProfileError: its structure is another one; names the field and what is expected (1002).
        ServiceError: msgspec is not installed (1001).
    """
    msgspec = validator()
    try:
        result: T = msgspec.convert(document, kind)
    except msgspec.ValidationError as error:
        field, reason = _explained(str(error), kind)
        mistakes.fail(field, reason)
    return result


def validator() -> Any:
    """Return the package msgspec.

    Raises:
        ServiceError: it is not installed; the text says how to (1001).
    """
    try:
        import msgspec
    except ModuleNotFoundError as error:
        if error.name != "msgspec":
            raise
        raise ServiceError(
            "checking profiles and manifests needs the package 'msgspec'; install it: pip install 'binderkit[services]'"
        ) from None
    return msgspec


def _explained(text: str, kind: type[Any]) -> tuple[str, str]:
    """Return field and reason of the validator's text."""
    placed = _PLACE.fullmatch(text)
    text, place = (placed[1], placed[3]) if placed else (text, "")
    unknown = _UNKNOWN.fullmatch(text)
    if unknown:
        names = sorted(_fields_at(kind, place))
        near = difflib.get_close_matches(unknown[1], names, 1)
        hint = f"did you mean {near[0]!r}? " if near else ""
        return _joined(place, unknown[1]), f"there is no such field; {hint}there are {', '.join(names)}"
    missing = _MISSING.fullmatch(text)
    if missing:
        return _joined(place, missing[1]), "it is missing"
    text = re.sub(r"`([^`]*)`", lambda found: _worded(found[1]), text)
    return place.replace("[...]", ".*"), text[:1].lower() + text[1:]


def _worded(types: str) -> str:
    return " or ".join(_WORDS.get(one, one) for one in types.split(" | "))


def _joined(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _fields_at(kind: type[Any], place: str) -> list[str]:
    """Return the names of the fields that a table at ``place`` has."""
    from msgspec import inspect

    def inner(info: Any, index: bool, name: str) -> Any:
        for one in getattr(info, "types", (info,)):
            if index and isinstance(one, (inspect.ListType, inspect.VarTupleType)):
                return one.item_type
            if not index and isinstance(one, inspect.StructType):
                return next(field.type for field in one.fields if field.encode_name == name)
        return info

    info: Any = inspect.type_info(kind)
    for index, name in re.findall(r"\[(\d+|\.\.\.)\]|([^.\[\]]+)", place):
        info = inner(info, bool(index), name)
    structs = [one for one in getattr(info, "types", (info,)) if isinstance(one, inspect.StructType)]
    return [field.encode_name for struct in structs for field in struct.fields]


def texts(value: Any, place: str = "") -> Iterator[tuple[str, str]]:
    """Yield (field, text) of every text in a document, keys included."""
    if isinstance(value, str):
        yield place, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield place, key
            yield from texts(part, _joined(place, key))
    elif isinstance(value, list):
        for number, part in enumerate(value):
            yield from texts(part, f"{place}[{number}]")
