"""What names, entries and dependencies of profiles and manifests may be.

Owns: the checks that both kinds of files, and directories of them, share. Pure; needs nothing beside the standard
library, unlike profile_json.py, so that a device without profiles runs without the validator.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from binderkit import limits
from binderkit.samgr.profile import TRUSTED, AbilityProfile

MAX_TEXT: Final = 128
"""Characters of a text in a profile (reference 2.6)."""
MAX_DEVICES: Final = limits.MAX_CIRCLE_DEVICES
"""Devices that one ability names."""
_UDID: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_PROCESS: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", re.ASCII)
_CLASS: Final = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*")


def is_process_name(name: str) -> bool:
    """Whether a process can have this name; it names files and units too."""
    return len(name) <= MAX_TEXT and _PROCESS.fullmatch(name) is not None


def is_permission(name: str) -> bool:
    """Whether this can be the name of a permission: words joined by dots."""
    return len(name) <= MAX_TEXT and name.isascii() and _CLASS.fullmatch(name) is not None


def remote_access_problem(ability: AbilityProfile) -> str | None:
    """Return what is wrong with the devices an ability is given to, None for UDIDs, or "trusted" alone."""
    listed = ability.remote_access
    if listed and not ability.distributed:
        return "other devices get distributed abilities only: set 'distributed' to true, or take this out"
    if len(listed) > MAX_DEVICES:
        return f"{len(listed)} devices, allowed are {MAX_DEVICES}; 'trusted' stands for all that this device trusts"
    if listed == (TRUSTED,):
        return None
    for one in listed:
        if not _UDID.fullmatch(one):
            return f"{one[:80]!r} is neither a UDID (64 digits 0-9 a-f, 'binderkit device list') nor 'trusted' alone"
    return None


def entry_problem(entry: str) -> str | None:
    """Return what is wrong with an entry, None for "module:Class", "file.py:Class" and "file.py"."""
    module, colon, name = entry.partition(":")
    if module.endswith(".so") or ".so." in module:
        return f"{entry!r} is a native library, which Python cannot host; write the class as 'module:Class'"
    if module.endswith(".py"):
        return None if not colon or _CLASS.fullmatch(name) else f"{name!r} is no class; write 'file.py:Class'"
    if _CLASS.fullmatch(module) and _CLASS.fullmatch(name):
        return None
    return f"{entry!r} names no class; write 'module:Class', 'file.py:Class', or 'file.py' with one ability in it"


def dependency_cycles(abilities: Iterable[AbilityProfile]) -> list[str]:
    """Return the abilities that depend on each other in a circle, one text per circle; not those of one alone."""
    depends = {ability.id: [one for one in ability.depend if one != ability.id] for ability in abilities}
    found: list[str] = []
    done: set[int] = set()
    for start in depends:
        path: list[int] = []
        iterators = [iter([start])]
        while iterators:  # depth first without recursion: a chain may be as long as there are abilities
            step = next(iterators[-1], None)
            if step is None:
                iterators.pop()
                if path:
                    done.add(path.pop())
            elif step in path:
                found.append(" → ".join(shown_key(one) for one in (*path[path.index(step) :], step)))
            elif step in depends and step not in done:
                path.append(step)
                iterators.append(iter(depends[step]))
    return found


def shown_key(key: int | str) -> str:
    return f"{key} ({key:#x})" if isinstance(key, int) else repr(key)
