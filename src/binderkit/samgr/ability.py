"""What a system ability is called and what is known of it, and both as bytes.

Owns: the rules for ids and names (one place for client and service), and the
record that a listing shows. An ability has an id, 1 … 0xFFFFFF (reference 2.1),
and may have a name. Names are ours, for programs that do not want to manage
numbers; they never look like a number, so that one word on a command line is
either an id or a name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from binderkit import limits
from binderkit.errors import ParamTypeError, ParamValueError
from binderkit.samgr import codes

if TYPE_CHECKING:
    from binderkit.parcel import MessageSequence

AbilityKey = int | str
"""The id or the name of an ability."""

_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.:/-]{0,127}", re.ASCII)
_MAX_TEXT: Final = 128
"""Characters of capability and permission (reference 2.6)."""


@dataclass(frozen=True, slots=True)
class AbilityInfo:
    """One registered system ability.

    Attributes:
        id: 1 … 0xFFFFFF.
        name: "" when it has none.
        pid, uid: the process that registered it, as the kernel reported them to SAMgr.
        distributed: whether it may be offered to other devices.
        dump_flags: bits 1 critical, 2 high, 4 normal, 8 default: which listings show it.
        capability, permission: free texts of the service, at most 128 characters each.
    """

    id: int
    name: str
    pid: int
    uid: int
    distributed: bool = False
    dump_flags: int = codes.DUMP_FLAG_PRIORITY_DEFAULT
    capability: str = ""
    permission: str = ""

    @property
    def keys(self) -> tuple[AbilityKey, ...]:
        """All it can be asked for by."""
        return (self.id, self.name) if self.name else (self.id,)

    def write(self, sequence: MessageSequence) -> None:
        """Append the record to ``sequence``."""
        for number in (self.id, self.pid, self.dump_flags):
            sequence.write_int(number)
        sequence.write_long(self.uid)
        sequence.write_boolean(self.distributed)
        for text in (self.name, self.capability, self.permission):
            sequence.write_string(text)

    @classmethod
    def read(cls, sequence: MessageSequence) -> AbilityInfo:
        """Return the record at the read position.

        Raises:
            ParcelReadError: none is there (1900010).
        """
        ability, pid, dump_flags = (sequence.read_int() for _ in range(3))
        uid = sequence.read_long()
        distributed = sequence.read_boolean()
        name, capability, permission = (sequence.read_string() for _ in range(3))
        return cls(ability, name, pid, uid, distributed, dump_flags, capability, permission)

    def __str__(self) -> str:
        name = f" {self.name!r}" if self.name else ""
        return f"system ability {self.id}{name} (pid {self.pid}, uid {self.uid})"


def checked_id(key: object) -> int:
    """Return ``key`` if it can be the id of an ability (ParamTypeError, 401, ParamValueError, 1000, otherwise)."""
    if isinstance(key, str):
        raise ParamTypeError(f"an id (int) of a system ability is expected here, got the name {key[:140]!r}")
    found = checked_key(key)
    assert isinstance(found, int)
    return found


def checked_key(key: object) -> AbilityKey:
    """Return ``key`` if it can be the id or the name of an ability.

    Raises:
        ParamTypeError: neither int nor str (401).
        ParamValueError: an id outside 1 … 0xFFFFFF (1000), or no name (1001) (reference 2.1, 2.3).
    """
    if isinstance(key, str):
        return checked_name(key)
    if isinstance(key, bool) or not isinstance(key, int):
        raise ParamTypeError(f"a system ability is asked for by its id (int) or name (str), got {type(key).__name__}")
    if not limits.MIN_ABILITY_ID <= key <= limits.MAX_ABILITY_ID:
        raise ParamValueError(
            f"system ability id {key} is outside {limits.MIN_ABILITY_ID} … {limits.MAX_ABILITY_ID:#x}",
            code=codes.INVALID_ABILITY_ID,
        )
    return key


def checked_name(name: str) -> str:
    """Return ``name`` if it can be the name of an ability (ParamValueError with code 1001 otherwise)."""
    if not _NAME.fullmatch(name):
        raise ParamValueError(
            f"{name[:140]!r} is no name of a system ability: 1 … 128 characters of A-Z a-z 0-9 _ . : / -, "
            "the first a letter or _, for example 'com.example.photos'",
            code=codes.INVALID_INPUT,
        )
    return name


def checked_text(what: str, text: str) -> str:
    """Return ``text`` if it is at most 128 characters long (ParamValueError with code 1001 otherwise)."""
    if len(text) > _MAX_TEXT:
        raise ParamValueError(
            f"{what} has {len(text)} characters, at most {_MAX_TEXT} are allowed", code=codes.INVALID_INPUT
        )
    return text


def checked_dump_flags(flags: int) -> int:
    """Return ``flags`` if they are bits of DUMP_FLAG_PRIORITY_ALL, at least one (ParamValueError, 1001, otherwise)."""
    if not 1 <= flags <= codes.DUMP_FLAG_PRIORITY_ALL:
        raise ParamValueError(
            f"dump flags {flags} are not a combination of 1, 2, 4 and 8 (15 for all)", code=codes.INVALID_INPUT
        )
    return flags


def write_key(sequence: MessageSequence, key: AbilityKey) -> None:
    """Append an id, or 0 and a name."""
    if isinstance(key, int):
        sequence.write_int(key)
        return
    sequence.write_int(0)
    sequence.write_string(key)


def read_key(sequence: MessageSequence) -> AbilityKey:
    """Return what write_key wrote, checked.

    Raises:
        ParcelReadError: none is there (1900010).
        ParamValueError: neither an id nor a name (1000, 1001).
    """
    ability = sequence.read_int()
    return checked_key(ability) if ability else checked_name(sequence.read_string())
