"""What a profile's file looks like: OpenHarmony's JSON, and our TOML (reference 2.6).

Owns: the structure of both formats, with their units, and their translation into the model of profile.py. Imported
only when a file is read, because it needs msgspec. Both formats have the same fields, except:

    JSON (OpenHarmony's)                            TOML (ours)
    systemability[]                                 [[ability]]
    · name: the id; service-name: a name            · id, name
    · libpath: "module:Class" or a .py file         · entry
    · depend-time-out: milliseconds                 · depend-timeout: seconds
    · stop-on-demand.recycle-delaytime: ms          · stop-on-demand.recycle-delay: seconds
    · stop-on-demand.longtimeunused-unload: minutes · stop-on-demand.long-unused: seconds
    · module-update, cache-common-event, multi-instance (see below)

Both may have our additions: command, user, environment, limits, permissions, remote-abilities, and permission and
remote-access of an ability. A profile with remote-abilities may do without abilities of its own.

Rules upheld: every mistake that the structure allows is told at once, by its field; nothing is clamped or ignored
silently.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from binderkit import limits
from binderkit.errors import ParamValueError
from binderkit.samgr.ability import checked_name
from binderkit.samgr.conditions import KINDS, MAX_RULES, Condition, EventRule, LoadPriority, rule_problems
from binderkit.samgr.documents import TOML, Mistakes, converted, read_document, texts
from binderkit.samgr.profile import (
    DEFAULT_DEPEND_TIMEOUT,
    DEFAULT_DUMP_LEVEL,
    DEFAULT_RECYCLE_DELAY,
    MAX_RECYCLE_DELAY,
    AbilityProfile,
    BootPhase,
    OnDemandEvents,
    Profile,
    RecycleStrategy,
    ResourceLimits,
    StopEvents,
)
from binderkit.samgr.profile_checks import (
    MAX_TEXT,
    dependency_cycles,
    entry_problem,
    is_permission,
    is_process_name,
    remote_access_problem,
    shown_key,
)
from binderkit.samgr.reason import ReasonId

MAX_FILE: Final = 50 * limits.KIB
"""Bytes of a profile (reference 2.6)."""
MAX_LONG_TEXT: Final = 4096
"""Characters of an argument of the command, and of an environment variable (own choice)."""
MAX_EXTENSIONS: Final = 100
"""(reference 2.6)"""
MAX_PROCESS_ABILITIES: Final = 100
"""Abilities of one process (own choice)."""
LONG_UNUSED_RANGE: Final = (60.0, 7200.0)
"""1 to 120 minutes (reference 2.6)."""
_LONG_TEXTS: Final = ("command", "environment")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_PHASES: Final = {
    "BootStartPhase": BootPhase.BOOT_START,
    "CoreStartPhase": BootPhase.CORE_START,
    "OthersStartPhase": BootPhase.OTHERS_START,
    "": BootPhase.OTHERS_START,
}
_PRIORITIES: Final = {
    "HighPriority": LoadPriority.HIGH,
    "MediumPriority": LoadPriority.MEDIUM,
    "LowPriority": LoadPriority.LOW,
    "low": LoadPriority.LOW,
}

AbilityId = Annotated[int, Meta(ge=limits.MIN_ABILITY_ID, le=limits.MAX_ABILITY_ID)]
Text = Annotated[str, Meta(min_length=1)]
Count = Annotated[int, Meta(ge=1, le=2**40)]


class _Table(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    """A table of a file; its fields are written with dashes."""


class _Condition(_Table, frozen=True, kw_only=True):
    event_id: Text = field(name="eventId")
    name: Text
    value: str = ""
    extra_messages: dict[str, str] = {}


class _Event(_Table, frozen=True, kw_only=True):
    name: Text
    value: str = ""
    persistence: bool = False
    enable_once: bool = False
    load_priority: Literal["HighPriority", "MediumPriority", "LowPriority", "low"] = "MediumPriority"
    conditions: list[_Condition] = []
    extra_messages: dict[str, str] = {}


class _Events(_Table, frozen=True, kw_only=True):
    allow_update: bool = False
    deviceonline: list[_Event] = []
    settingswitch: list[_Event] = []
    param: list[_Event] = []
    commonevent: list[_Event] = []
    timedevent: list[_Event] = []


class _Stop(_Events, frozen=True, kw_only=True):
    unreferenced_unload: bool = False


class _JsonStop(_Stop, frozen=True, kw_only=True):
    recycle_delaytime: int = int(DEFAULT_RECYCLE_DELAY * 1000)
    longtimeunused_unload: int | None = None


class _TomlStop(_Stop, frozen=True, kw_only=True):
    recycle_delay: float = DEFAULT_RECYCLE_DELAY
    long_unused: float | None = None


class _Ability(_Table, frozen=True, kw_only=True):
    run_on_create: bool = True
    auto_restart: bool = False
    distributed: bool = False
    depend: list[AbilityId] = []
    dump_level: Annotated[int, Meta(ge=0, le=15)] = DEFAULT_DUMP_LEVEL
    bootphase: Literal["BootStartPhase", "CoreStartPhase", "OthersStartPhase", ""] = ""
    start_on_demand: _Events = _Events()
    recycle_strategy: Literal["immediately", "low-memory"] = "immediately"
    extension: Annotated[list[Text], Meta(max_length=MAX_EXTENSIONS)] = []
    permission: str = ""
    remote_access: list[Text] = []


class _JsonAbility(_Ability, frozen=True, kw_only=True):
    name: AbilityId
    service_name: str = ""
    libpath: Text
    depend_time_out: int = 0
    stop_on_demand: _JsonStop = _JsonStop()
    module_update: bool = False
    cache_common_event: bool = False
    multi_instance: bool = False


class _TomlAbility(_Ability, frozen=True, kw_only=True):
    id: AbilityId
    name: str = ""
    entry: Text
    depend_timeout: float = DEFAULT_DEPEND_TIMEOUT
    stop_on_demand: _TomlStop = _TomlStop()


class _Limits(_Table, frozen=True, kw_only=True):
    memory_mb: Count | None = None
    open_files: Count | None = None
    processes: Count | None = None
    cpu_seconds: Count | None = None
    nice: Annotated[int, Meta(ge=-20, le=19)] | None = None


class _Process(_Table, frozen=True, kw_only=True):
    process: Text
    command: list[Text] = []
    user: Text | None = None
    environment: dict[str, str] = {}
    limits: _Limits = _Limits()
    permissions: list[Text] = []
    remote_abilities: Annotated[list[AbilityId | Text], Meta(max_length=limits.MAX_ABILITIES)] = []


class _JsonProcess(_Process, frozen=True, kw_only=True):
    systemability: list[_JsonAbility] = []


class _TomlProcess(_Process, frozen=True, kw_only=True):
    ability: list[_TomlAbility] = []


class _Trust(_Table, frozen=True, kw_only=True):
    process: Text
    allow: list[AbilityId]


def read_profile(path: Path, folder: Path | None = None) -> Profile:
    """Return the profile of a file; see profile.load_profile.

    Args:
        folder: what entries that name a file are relative to; default: the profile's own.
    """
    path = path.absolute()
    folder = folder or path.parent
    mistakes = Mistakes(path)
    document = read_document(path, MAX_FILE, mistakes)
    if path.suffix == TOML:
        toml = converted(document, _TomlProcess, mistakes)
        _check_texts(document, mistakes)
        return _profile(path, toml, [_toml_ability(folder, one) for one in toml.ability], "ability", mistakes)
    jsons = converted(document, _JsonProcess, mistakes)
    _check_texts(document, mistakes)
    for number, one in enumerate(jsons.systemability):
        if one.multi_instance:
            mistakes.add(
                f"systemability[{number}].multi-instance",
                "one instance per user does not exist on Linux; leave it out, or run one device per user",
            )
    return _profile(path, jsons, [_json_ability(folder, one) for one in jsons.systemability], "systemability", mistakes)


def read_trust(path: Path) -> tuple[str, frozenset[int]]:
    """Return process and ids of a trust file: {"process": "photos", "allow": [4097]}; JSON or TOML.

    Raises:
        ProfileError: it cannot be read, or has mistakes (1002).
    """
    mistakes = Mistakes(path)
    trust = converted(read_document(path, MAX_FILE, mistakes), _Trust, mistakes)
    return trust.process, frozenset(trust.allow)


def _check_texts(document: dict[str, object], mistakes: Mistakes) -> None:
    for place, text in texts(document):
        most = MAX_LONG_TEXT if place.startswith(_LONG_TEXTS) else MAX_TEXT
        if len(text) > most:
            mistakes.add(place, f"a text of {len(text)} characters; allowed are {most}")
        elif not text.isprintable():
            mistakes.add(place, f"{text[:40]!r} has control characters, which would spoil logs and unit files")


def _profile(path: Path, raw: _Process, abilities: list[AbilityProfile], table: str, mistakes: Mistakes) -> Profile:
    _check_process(raw, mistakes)
    if abilities or not raw.remote_abilities:
        _check_abilities(abilities, table, mistakes)
    mistakes.check()
    sizes = raw.limits
    return Profile(
        process=raw.process,
        path=path,
        abilities=tuple(abilities),
        command=tuple(raw.command),
        user=raw.user,
        environment=dict(raw.environment),
        limits=ResourceLimits(sizes.memory_mb, sizes.open_files, sizes.processes, sizes.cpu_seconds, sizes.nice),
        permissions=tuple(raw.permissions),
        remote_abilities=tuple(dict.fromkeys(raw.remote_abilities)),
    )


def _check_process(raw: _Process, mistakes: Mistakes) -> None:
    if not is_process_name(raw.process):
        mistakes.add(
            "process", f"{raw.process!r} is no name; allowed are letters, digits, _ . - (a letter, digit or _ first)"
        )
    for name in raw.environment:
        if not _VARIABLE.fullmatch(name):
            mistakes.add(f"environment.{name}", "variables have letters, digits and _, and do not begin with a digit")
        elif name.startswith("BINDERKIT_"):
            mistakes.add(f"environment.{name}", "variables named BINDERKIT_… are set by whoever starts the process")
    for number, name in enumerate(raw.permissions):
        if not is_permission(name):
            mistakes.add(f"permissions[{number}]", f"{name!r} is no permission; they are like 'ohos.permission.CAMERA'")
    for number, key in enumerate(raw.remote_abilities):
        if isinstance(key, str):
            try:
                checked_name(key)
            except ParamValueError as error:
                mistakes.add(f"remote-abilities[{number}]", str(error.args[0]))


def _check_abilities(abilities: list[AbilityProfile], table: str, mistakes: Mistakes) -> None:
    if not 0 < len(abilities) <= MAX_PROCESS_ABILITIES:
        mistakes.add(table, f"{len(abilities)} abilities, expected 1 to {MAX_PROCESS_ABILITIES}")
    seen: dict[int | str, int] = {}
    for number, ability in enumerate(abilities):
        place = f"{table}[{number}]"
        for key in (ability.id, ability.name):
            if key and seen.setdefault(key, number) != number:
                mistakes.add(place, f"{shown_key(key)} is also {table}[{seen[key]}]; every id and name is there once")
        for part, reason in _ability_problems(ability, table):
            mistakes.add(f"{place}.{part}", reason)
    for cycle in dependency_cycles(abilities):
        mistakes.add(table, f"{cycle} wait for each other for ever; take one 'depend' away")


def _ability_problems(ability: AbilityProfile, table: str) -> Iterable[tuple[str, str]]:
    ours = table == "ability"
    problem = entry_problem(ability.entry)
    if problem:
        yield "entry" if ours else "libpath", problem
    if ability.name and ability.name.isdigit():
        yield (
            "name" if ours else "service-name",
            f"{ability.name!r} would be taken for an id; names are like 'com.example.photos'",
        )
    if ability.id in ability.depend:
        yield "depend", f"the ability {shown_key(ability.id)} depends on itself"
    if len(set(ability.depend)) != len(ability.depend):
        yield "depend", "an id is there twice"
    if not 0 < ability.depend_timeout <= DEFAULT_DEPEND_TIMEOUT:
        span = f"above 0 to {DEFAULT_DEPEND_TIMEOUT:g} seconds" if ours else "0 (default) to 60000 milliseconds"
        yield "depend-timeout" if ours else "depend-time-out", f"expected {span}"
    if ability.permission and not is_permission(ability.permission):
        yield "permission", f"{ability.permission!r} is no permission; they are like 'ohos.permission.CAMERA'"
    problem = remote_access_problem(ability)
    if problem:
        yield "remote-access", problem
    yield from _stop_problems(ability.stop_on_demand, ours)
    for name, events in (("start-on-demand", ability.start_on_demand), ("stop-on-demand", ability.stop_on_demand)):
        yield from ((f"{name}.{part}", reason) for part, reason in _event_problems(events))


def _stop_problems(stop: StopEvents, ours: bool) -> Iterable[tuple[str, str]]:
    if not 0 <= stop.recycle_delay <= MAX_RECYCLE_DELAY:
        name, span = (
            ("recycle-delay", "0 to 300 seconds") if ours else ("recycle-delaytime", "0 to 300000 milliseconds")
        )
        yield f"stop-on-demand.{name}", f"expected {span}"
    low, high = LONG_UNUSED_RANGE
    if stop.long_unused is not None and not low <= stop.long_unused <= high:
        name, span = ("long-unused", "60 to 7200 seconds") if ours else ("longtimeunused-unload", "1 to 120 minutes")
        yield f"stop-on-demand.{name}", f"expected {span}"


def _event_problems(events: OnDemandEvents) -> Iterable[tuple[str, str]]:
    if len(events.events) > MAX_RULES:
        yield "", f"{len(events.events)} events, allowed are {MAX_RULES}"
        return
    names = {number: name for name, number in KINDS.items()}
    counts: dict[ReasonId, int] = {}
    for rule in events.events:
        at = counts[rule.id] = counts.get(rule.id, -1) + 1
        for part, reason in rule_problems(rule):
            yield f"{names[rule.id]}[{at}].{part}", reason


# --- tables -> model ---------------------------------------------------------------------------


def _json_ability(folder: Path, raw: _JsonAbility) -> AbilityProfile:
    stop = raw.stop_on_demand
    unused = stop.longtimeunused_unload
    return _ability(
        raw,
        id=raw.name,
        name=raw.service_name,
        entry=_absolute(folder, raw.libpath),
        depend_timeout=raw.depend_time_out / 1000 if raw.depend_time_out else DEFAULT_DEPEND_TIMEOUT,
        stop=_stop(stop, stop.recycle_delaytime / 1000, None if unused is None else unused * 60.0),
    )


def _toml_ability(folder: Path, raw: _TomlAbility) -> AbilityProfile:
    stop = raw.stop_on_demand
    return _ability(
        raw,
        id=raw.id,
        name=raw.name,
        entry=_absolute(folder, raw.entry),
        depend_timeout=raw.depend_timeout,
        stop=_stop(stop, stop.recycle_delay, stop.long_unused),
    )


def _ability(
    raw: _Ability, *, id: int, name: str, entry: str, depend_timeout: float, stop: StopEvents
) -> AbilityProfile:
    return AbilityProfile(
        id=id,
        entry=entry,
        name=name,
        run_on_create=raw.run_on_create,
        auto_restart=raw.auto_restart,
        distributed=raw.distributed,
        depend=tuple(raw.depend),
        depend_timeout=depend_timeout,
        dump_level=raw.dump_level,
        boot_phase=_PHASES[raw.bootphase],
        start_on_demand=OnDemandEvents(raw.start_on_demand.allow_update, _rules(raw.start_on_demand)),
        stop_on_demand=stop,
        recycle_strategy=RecycleStrategy(raw.recycle_strategy),
        extensions=tuple(dict.fromkeys(raw.extension)),
        permission=raw.permission,
        remote_access=tuple(dict.fromkeys(raw.remote_access)),
    )


def _stop(raw: _Stop, recycle_delay: float, long_unused: float | None) -> StopEvents:
    return StopEvents(
        allow_update=raw.allow_update,
        events=_rules(raw),
        unreferenced_unload=raw.unreferenced_unload,
        recycle_delay=recycle_delay,
        long_unused=long_unused,
    )


def _rules(raw: _Events) -> tuple[EventRule, ...]:
    return tuple(_rule(kind, event) for name, kind in KINDS.items() for event in getattr(raw, name))


def _rule(kind: ReasonId, raw: _Event) -> EventRule:
    return EventRule(
        id=kind,
        name=raw.name,
        value=raw.value,
        persistence=raw.persistence,
        enable_once=raw.enable_once,
        load_priority=_PRIORITIES[raw.load_priority],
        conditions=tuple(_condition(one) for one in raw.conditions),
        extra=dict(raw.extra_messages),
    )


def _condition(raw: _Condition) -> Condition:
    # An unknown kind becomes one that no condition can have, which the rule's check then refuses by its field.
    kind = KINDS.get(raw.event_id, ReasonId.INTERFACE_CALL)
    return Condition(kind, raw.name, raw.value, dict(raw.extra_messages))


def _absolute(folder: Path, entry: str) -> str:
    """Return an entry whose file, if it names one, is found from everywhere."""
    file, colon, name = entry.partition(":")
    return f"{folder / file}{colon}{name}" if file.endswith(".py") else entry
