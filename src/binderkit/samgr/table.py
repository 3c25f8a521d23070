"""The abilities that are registered: pure, no locks, no calls.

Owns: which object stands behind an id or a name. Rules upheld: at most 1000
abilities (reference 2.1); adding an existing id replaces it; a name belongs to
one ability; an ability without an id of its own gets one that was not used lately.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from binderkit import limits
from binderkit.errors import ServiceError
from binderkit.samgr import codes
from binderkit.samgr.ability import AbilityInfo, AbilityKey

if TYPE_CHECKING:
    from binderkit.ipc.proxy import DeathRecipient
    from binderkit.ipc.remote import IRemoteObject

FIRST_GIVEN_ID: Final = 0x00F00000
"""Ids from here to 0xFFFFFF are given to abilities that are registered by name only."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A registered ability: what is known of it, its object, and what tells us of the object's death."""

    info: AbilityInfo
    remote: IRemoteObject
    recipient: DeathRecipient | None = None


class AbilityTable:
    """Entries by id and by name."""

    def __init__(self) -> None:
        self._by_id: dict[int, Entry] = {}
        self._id_of: dict[str, int] = {}
        self._next_given = FIRST_GIVEN_ID

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Entry]:
        """Entries in the order of their ids."""
        return iter([self._by_id[ability] for ability in sorted(self._by_id)])

    def find(self, key: AbilityKey) -> Entry | None:
        """Return the entry with this id or name, None when there is none."""
        ability = self._id_of.get(key) if isinstance(key, str) else key
        return None if ability is None else self._by_id.get(ability)

    def rivals(self, info: AbilityInfo) -> Entry | None:
        """Return the entry that ``add(info)`` would replace, None when there is none.

        Raises:
            ServiceError: the name belongs to another ability (1001), or the table is full (1011).
        """
        by_name = self.find(info.name) if info.name else None
        if not info.id:
            old = by_name
        else:
            old = self._by_id.get(info.id)
            if by_name is not None and by_name is not old:
                raise ServiceError(
                    f"the name {info.name!r} belongs to {by_name.info}; remove that one first or use another name",
                    code=codes.INVALID_INPUT,
                )
        if old is None and len(self._by_id) >= limits.MAX_ABILITIES:
            raise ServiceError(
                f"{len(self._by_id)} system abilities are registered, the limit is {limits.MAX_ABILITIES}",
                code=codes.ABILITY_LIMIT,
            )
        return old

    def add(self, entry: Entry) -> tuple[Entry, Entry | None]:
        """Register ``entry``; id 0 means that one is given. Return it as registered, and the one it replaced.

        Raises:
            ServiceError: as ``rivals``; nothing is changed then.
        """
        old = self.rivals(entry.info)
        if not entry.info.id:
            entry = replace(entry, info=replace(entry.info, id=old.info.id if old is not None else self._give_id()))
        if old is not None:
            self._drop(old)
        self._by_id[entry.info.id] = entry
        if entry.info.name:
            self._id_of[entry.info.name] = entry.info.id
        return entry, old

    def discard(self, entry: Entry) -> bool:
        """Take exactly this entry out, not one that replaced it; return whether it was there."""
        if self._by_id.get(entry.info.id) is not entry:
            return False
        self._drop(entry)
        return True

    def by_recipient(self, recipient: DeathRecipient) -> Entry | None:
        """Return the entry that ``recipient`` watches, None when it is gone or replaced."""
        return next((entry for entry in self._by_id.values() if entry.recipient is recipient), None)

    def page(self, after: int, flags: int) -> Iterator[Entry]:
        """Yield the entries with an id above ``after`` and one of the bits of ``flags``, by id."""
        for entry in self:
            if entry.info.id > after and entry.info.dump_flags & flags:
                yield entry

    def _drop(self, entry: Entry) -> None:
        del self._by_id[entry.info.id]
        if entry.info.name:
            del self._id_of[entry.info.name]

    def _give_id(self) -> int:
        # A running number, so that an id somebody still remembers does not soon mean another service.
        while True:
            ability = self._next_given
            self._next_given = ability + 1 if ability < limits.MAX_ABILITY_ID else FIRST_GIVEN_ID
            if ability not in self._by_id:
                return ability
