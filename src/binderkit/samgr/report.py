"""What ``binderkit dump 0`` shows of SAMgr, as text. Pure.

Owns: the options of SAMgr's dump (the part of reference 2.8 that exists) and its layout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from binderkit.errors import ParamError
from binderkit.samgr.ability import AbilityInfo, AbilityKey, checked_key
from binderkit.samgr.processes import AbilityStatus, ProcessInfo
from binderkit.samgr.states import AbilityState

HELP: Final = """\
options of SAMgr's dump:
  (none)        everything
  -h            this text
  -l            the system abilities, those that do not run included, with their states
  -sa ID|NAME   one system ability
  -p PID|NAME   a process and its system abilities
  -sm STATE     the system abilities in a state: NOT_LOADED, LOADING, LOADED, UNLOADABLE, UNLOADING
  --processes   the processes with their states
  --listener    who listens to or waits for what; -l the same, -sa ID|NAME or -p PID only those
"""


@dataclass(frozen=True, slots=True)
class View:
    """What is to be shown.

    Attributes:
        registered: the abilities that run. statuses: all abilities. processes: all processes.
        subscriptions: (key, pid) of each. waiting: how many calls wait for an ability that has no profile.
    """

    registered: Sequence[AbilityInfo] = ()
    statuses: Sequence[AbilityStatus] = ()
    processes: Sequence[ProcessInfo] = ()
    subscriptions: Sequence[tuple[AbilityKey, int]] = ()
    waiting: Mapping[AbilityKey, int] = field(default_factory=dict)


def describe(arguments: Sequence[str], view: View) -> str:
    """Return the text for these arguments; HELP with a remark when they make no sense."""
    match list(arguments):
        case []:
            return _abilities(view.statuses) + _processes(view.processes) + _listeners(view.subscriptions, view.waiting)
        case ["-l"]:
            return _abilities(view.statuses)
        case ["--listener"] | ["--listener", "-l"]:
            return _listeners(view.subscriptions, view.waiting)
        case ["--listener", "-sa", word]:
            return _listeners_of(view, word)
        case ["--listener", "-p", pid]:
            return _listeners([row for row in view.subscriptions if str(row[1]) == pid], {})
        case ["--processes"]:
            return _processes(view.processes)
        case ["-h"]:
            return HELP
        case ["-p", word]:
            processes = [one for one in view.processes if word in (one.name, str(one.pid))]
            statuses = [one for one in view.statuses if word in (one.process, str(one.pid))]
            return (_processes(processes) if processes else "") + _abilities(statuses)
        case ["-sm", word] if word in AbilityState.__members__:
            return _abilities([one for one in view.statuses if one.state.name == word])
        case ["-sa", word]:
            return _one(view, word)
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


def _one(view: View, word: str) -> str:
    try:
        key = key_of(word)
    except ParamError as error:
        return f"{error}\n"
    infos = [info for info in view.registered if key in info.keys]
    found = [one for one in view.statuses if key in (one.id, one.name) or (infos and one.id == infos[0].id)]
    if not found and not infos:
        return f"no system ability {key!r} is registered\n"
    return (_status(found[0]) if found else "") + (_details(infos[0]) if infos else "")


def _rows(rows: Mapping[str, object]) -> str:
    return "".join(f"{name + ':':<13}{value}\n" for name, value in rows.items())


def _status(one: AbilityStatus) -> str:
    return _rows(
        {
            "state": one.state.name,
            "process": one.process or "-",
            "on demand": "yes" if one.on_demand else "no",
            "reason": one.reason.name,
            "waiting": one.waiting,
        }
    )


def _details(info: AbilityInfo) -> str:
    return _rows(
        {
            "id": f"{info.id} ({info.id:#x})",
            "name": info.name or "-",
            "pid": info.pid,
            "uid": info.uid,
            "distributed": "yes" if info.distributed else "no",
            "dump flags": info.dump_flags,
            "capability": info.capability or "-",
            "permission": info.permission or "-",
        }
    )


def _abilities(statuses: Sequence[AbilityStatus]) -> str:
    lines = [f"{'id':>8}  {'pid':>8}  {'state':<10}  {'process':<20}  name"]
    lines += [
        f"{one.id:>8}  {one.pid or '-':>8}  {one.state.name:<10}  {one.process or '-':<20}  {one.name or '-'}"
        for one in statuses
    ]
    return f"system abilities: {len(statuses)}\n" + "\n".join(lines) + "\n"


def _processes(processes: Sequence[ProcessInfo]) -> str:
    lines = [f"{'pid':>8}  {'uid':>6}  {'state':<11}  {'abilities':>9}  name"]
    lines += [
        f"{one.pid or '-':>8}  {one.uid:>6}  {one.state.name:<11}  {len(one.abilities):>9}  {one.name}"
        for one in processes
    ]
    return f"processes: {len(processes)}\n" + "\n".join(lines) + "\n"


def _listeners_of(view: View, word: str) -> str:
    try:
        key = key_of(word)
    except ParamError as error:
        return f"{error}\n"
    keys = {key} | {name for one in view.statuses for name in (one.id, one.name) if key in (one.id, one.name) and name}
    rows = [row for row in view.subscriptions if row[0] in keys]
    return _listeners(rows, {known: count for known, count in view.waiting.items() if known in keys})


def _listeners(subscriptions: Sequence[tuple[AbilityKey, int]], waiting: Mapping[AbilityKey, int]) -> str:
    lines = [f"subscriptions: {len(subscriptions)}"]
    lines += [f"  {repr(key) if key else 'processes'} of pid {pid}" for key, pid in subscriptions]
    lines += [f"waiting calls: {sum(waiting.values())}"]
    lines += [f"  {count} for {key!r}" for key, count in waiting.items()]
    return "\n".join(lines) + "\n"
