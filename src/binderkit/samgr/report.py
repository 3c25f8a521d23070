"""What ``binderkit dump 0`` shows of SAMgr, as text. Pure.

Owns: the options of SAMgr's dump (the part of reference 2.8 that exists) and its layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from binderkit.errors import ParamError
from binderkit.samgr.ability import AbilityInfo, AbilityKey, checked_key

if TYPE_CHECKING:
    from collections.abc import Iterable

HELP: Final = """\
options of SAMgr's dump:
  (none)       everything
  -h           this text
  -l           the registered system abilities
  -sa ID|NAME  one system ability
  -p PID       the system abilities of a process
  --listener   who listens to or waits for what
"""


def describe(
    arguments: Sequence[str],
    abilities: Sequence[AbilityInfo],
    subscriptions: Sequence[tuple[AbilityKey, int]],
    waiting: Mapping[AbilityKey, int],
) -> str:
    """Return the text for these arguments; HELP with a remark when they make no sense."""
    match list(arguments):
        case []:
            return _abilities(abilities) + _listeners(subscriptions, waiting)
        case ["-l"]:
            return _abilities(abilities)
        case ["--listener"]:
            return _listeners(subscriptions, waiting)
        case ["-h"]:
            return HELP
        case ["-p", pid]:
            return _abilities([info for info in abilities if str(info.pid) == pid])
        case ["-sa", word]:
            return _one(abilities, word)
        case _:
            return f"unknown arguments: {' '.join(arguments)}\n{HELP}"


def key_of(word: str) -> AbilityKey:
    """Return the id (decimal or 0x…) or the name that ``word`` is.

    Raises:
        ParamValueError: it is neither (1000, 1001).
    """
    try:
        return checked_key(int(word, 0))
    except ParamError:
        raise
    except ValueError:
        return checked_key(word)


def _one(abilities: Iterable[AbilityInfo], word: str) -> str:
    try:
        key = key_of(word)
    except ParamError as error:
        return f"{error}\n"
    found = [info for info in abilities if key in info.keys]
    return _details(found[0]) if found else f"no system ability {key!r} is registered\n"


def _details(info: AbilityInfo) -> str:
    rows = {
        "id": f"{info.id} ({info.id:#x})",
        "name": info.name or "-",
        "pid": info.pid,
        "uid": info.uid,
        "distributed": "yes" if info.distributed else "no",
        "dump flags": info.dump_flags,
        "capability": info.capability or "-",
        "permission": info.permission or "-",
    }
    return "".join(f"{name + ':':<13}{value}\n" for name, value in rows.items())


def _abilities(abilities: Sequence[AbilityInfo]) -> str:
    lines = [f"{'id':>8}  {'pid':>8}  {'uid':>6}  name"]
    lines += [f"{info.id:>8}  {info.pid:>8}  {info.uid:>6}  {info.name or '-'}" for info in abilities]
    return f"system abilities: {len(abilities)}\n" + "\n".join(lines) + "\n"


def _listeners(subscriptions: Sequence[tuple[AbilityKey, int]], waiting: Mapping[AbilityKey, int]) -> str:
    lines = [f"subscriptions: {len(subscriptions)}"]
    lines += [f"  {key!r} of pid {pid}" for key, pid in subscriptions]
    lines += [f"waiting calls: {sum(waiting.values())}"]
    lines += [f"  {count} for {key!r}" for key, count in waiting.items()]
    return "\n".join(lines) + "\n"
