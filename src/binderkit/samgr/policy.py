"""Who may do what with system abilities: by the uid the kernel vouches for.

Owns: the policy file and its rules. Pure apart from reading the file.

Without rules only SAMgr's own user and root may connect at all. A rule lets
other users in, for some abilities and some actions:

    [[allow]]
    uid = 1001                          # or [1001, 1002], or "*" for everybody
    ids = ["0x1000-0x1fff", 4700]       # or one of them; or "*"
    names = "com.example.*"             # or several; * and ? as in the shell
    actions = ["add", "get", "list"]

Before the rules may stand ``android = 30``: SAMgr on a binder device answers Android's programs, too, as that API level
has it. For them the rules hold as for all others.

Rules upheld: what no rule allows is refused; who registers must be allowed
every identifier the ability gets (or a name would open the way to a foreign
id); a running ability is replaced or removed only by its own user, SAMgr's
user or root (reference 2.4 has SELinux labels for this; a uid is what every Linux has).
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from binderkit import limits
from binderkit.errors import ServiceError
from binderkit.samgr.ability import AbilityKey

if TYPE_CHECKING:
    from binderkit.ipc.context import Caller
    from binderkit.samgr.ability import AbilityInfo

ADD: Final = "add"
GET: Final = "get"
LIST: Final = "list"
ACTIONS: Final = (ADD, GET, LIST)
FILE_NAME: Final = "policy.toml"
MAX_FILE: Final = 1024 * 1024
"""Bytes of a policy file."""
_FIELDS: Final = ("uid", "ids", "names", "actions")


@dataclass(frozen=True, slots=True)
class Rule:
    """One [[allow]]: ``uids`` None means everybody."""

    uids: frozenset[int] | None
    ids: tuple[tuple[int, int], ...]
    names: tuple[str, ...]
    actions: frozenset[str]

    def covers(self, uid: int, action: str, key: AbilityKey) -> bool:
        """Whether the rule allows ``uid`` this action on this id or name."""
        if action not in self.actions or (self.uids is not None and uid not in self.uids):
            return False
        if isinstance(key, int):
            return any(first <= key <= last for first, last in self.ids)
        return any(fnmatchcase(key, pattern) for pattern in self.names)


class Policy:
    """The rules of one SAMgr.

    Args:
        rules: what is allowed to other users.
        owner: uid of SAMgr; it and root may do everything.
        source: where the rules come from, for the texts of refusals.
        android: the API level of the Android whose programs SAMgr answers, too; None: none.
    """

    def __init__(
        self,
        rules: Iterable[Rule] = (),
        *,
        owner: int | None = None,
        source: str = "no policy file",
        android: int | None = None,
    ) -> None:
        self.android = android
        self._rules = tuple(rules)
        self._trusted = frozenset({0, os.geteuid() if owner is None else owner})
        self._source = source

    @classmethod
    def load(cls, path: Path, *, owner: int | None = None) -> Policy:
        """Return the policy of a TOML file.

        Raises:
            ServiceError: the file cannot be read or understood; the text names file, rule and reason (1001).
        """
        try:
            with path.open("rb") as file:
                text = file.read(MAX_FILE + 1)
            if len(text) > MAX_FILE:
                raise ValueError(f"it is larger than {MAX_FILE} bytes")
            document = tomllib.loads(text.decode())
            unknown = set(document) - {"allow", "android"}
            if unknown:
                raise ValueError(f"unknown entries {sorted(unknown)}; a policy has [[allow]] tables and 'android'")
            rules = document.get("allow", [])
            if not isinstance(rules, list):
                raise ValueError("'allow' is no array of tables; write [[allow]] with two brackets")
            return cls(
                [_rule(number, table) for number, table in enumerate(rules, 1)],
                owner=owner,
                source=str(path),
                android=_api_level(document.get("android")),
            )
        except (OSError, ValueError) as error:  # TOML and UTF-8 errors are ValueErrors
            raise ServiceError(f"policy file {path}: {error}") from error

    def admission(self, caller: Caller) -> str | None:
        """Return why ``caller`` may not connect at all, None if it may."""
        uid = caller.uid
        if uid in self._trusted or any(rule.uids is None or uid in rule.uids for rule in self._rules):
            return None
        return f"uid {uid} may not use this SAMgr ({self._source} has no rule for it)"

    def is_trusted(self, caller: Caller) -> bool:
        """Whether ``caller`` is SAMgr's own user or root, who may do everything (OpenHarmony: native tokens)."""
        return caller.uid in self._trusted and not caller.device_id

    def may_add(self, caller: Caller, info: AbilityInfo, rival: AbilityInfo | None) -> str | None:
        """Return why ``caller`` may not register ``info`` in place of ``rival``, None if it may.

        An ``info.id`` of 0 means that SAMgr gives one; then the name alone decides.
        """
        keys: list[AbilityKey] = [key for key in (info.id, info.name) if key]
        for key in keys:
            reason = self._refusal(caller, ADD, [key])
            if reason is not None:
                return reason
        return None if rival is None else self._foreign(caller, rival)

    def may_remove(self, caller: Caller, info: AbilityInfo) -> str | None:
        """Return why ``caller`` may not remove this ability, None if it may."""
        return self._foreign(caller, info)

    def may_get(self, caller: Caller, keys: Iterable[AbilityKey]) -> str | None:
        """Return why ``caller`` may not have, wait for or watch an ability with one of ``keys``, None if it may."""
        return self._refusal(caller, GET, keys)

    def may_list(self, caller: Caller, info: AbilityInfo) -> bool:
        """Whether ``caller`` sees this ability in listings."""
        return self._refusal(caller, LIST, info.keys) is None

    def _foreign(self, caller: Caller, info: AbilityInfo) -> str | None:
        if caller.uid in self._trusted or caller.uid == info.uid:
            return None
        return f"{info} belongs to another user; uid {caller.uid} may neither replace nor remove it"

    def _refusal(self, caller: Caller, action: str, keys: Iterable[AbilityKey]) -> str | None:
        if caller.uid in self._trusted:
            return None
        keys = tuple(keys)
        if any(rule.covers(caller.uid, action, key) for rule in self._rules for key in keys):
            return None
        what = " / ".join(repr(key) for key in keys)
        return f"uid {caller.uid} may not {action} system ability {what} ({self._source} has no rule that allows it)"


def _api_level(value: Any) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"android = {value!r} is no API level; write the number of an Android version, for example 30")
    return value


def _rule(number: int, table: Any) -> Rule:
    try:
        if not isinstance(table, dict):
            raise ValueError("it is no table; write [[allow]] with two brackets")
        unknown = set(table) - set(_FIELDS)
        if unknown:
            raise ValueError(f"unknown entries {sorted(unknown)}; there are {', '.join(_FIELDS)}")
        if "uid" not in table:
            raise ValueError("'uid' is missing: a number, several in brackets, or \"*\" for everybody")
        if "ids" not in table and "names" not in table:
            raise ValueError("it has neither 'ids' nor 'names', so it would allow nothing")
        return Rule(
            uids=_uids(table["uid"]),
            ids=tuple(_id_range(item) for item in _items(table.get("ids", []))),
            names=tuple(_pattern(item) for item in _items(table.get("names", []))),
            actions=_actions(table.get("actions", [GET, LIST])),
        )
    except ValueError as error:
        raise ValueError(f"rule {number}: {error}") from None


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _uids(value: Any) -> frozenset[int] | None:
    if value == "*":
        return None
    uids = _items(value)
    for uid in uids:
        if isinstance(uid, bool) or not isinstance(uid, int) or uid < 0:
            raise ValueError(f"uid {uid!r} is no user number")
    return frozenset(uids)


def _id_range(item: Any) -> tuple[int, int]:
    if item == "*":
        return limits.MIN_ABILITY_ID, limits.MAX_ABILITY_ID
    try:
        if isinstance(item, str):
            first, dash, last = item.partition("-")
            low, high = int(first, 0), int(last if dash else first, 0)
        elif isinstance(item, int) and not isinstance(item, bool):
            low = high = item
        else:
            raise ValueError
    except ValueError:
        raise ValueError(f'ids {item!r} is neither an id nor a range such as "0x1000-0x1fff"') from None
    if not limits.MIN_ABILITY_ID <= low <= high <= limits.MAX_ABILITY_ID:
        raise ValueError(f"ids {item!r} is not within 1 … {limits.MAX_ABILITY_ID:#x}, the smaller number first")
    return low, high


def _pattern(item: Any) -> str:
    if not isinstance(item, str) or not item:
        raise ValueError(f'names {item!r} is no pattern such as "com.example.*"')
    return item


def _actions(value: Any) -> frozenset[str]:
    actions = _items(value)
    for action in actions:
        if action not in ACTIONS:
            raise ValueError(f"action {action!r} is unknown; there are {', '.join(ACTIONS)}")
    return frozenset(actions)
