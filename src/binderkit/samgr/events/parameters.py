"""System parameters: names with short texts that the whole device sees, and that start and stop abilities.

Owns: the parameters, their file, and who watches them. All of them are kept in one file in the runtime directory, so a
restart of the daemon loses none; whether they survive a restart of the machine depends on where that directory is.
Locks: ``_lock`` guards the parameters and the file; nothing is called while it is held.

Rules upheld: only the device's own user sets parameters; one that begins with "const." is set once; the file is there
whole or not at all, and one that cannot be read is put aside, not overwritten.

A parameter "settingswitch.NAME" set to "on" or "off" is also an event of the kind settingswitch (reference 2.6): Linux
has no such switches of its own.
"""

from __future__ import annotations

import json
import logging
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from binderkit.errors import ParamError, QuotaError, RefusedError
from binderkit.ipc.context import calling_identity
from binderkit.samgr.conditions import SWITCH_VALUES, OnDemandEvent
from binderkit.samgr.events.audience import Audience
from binderkit.samgr.events.common import Post, is_trusted
from binderkit.samgr.events.contracts import IParameters, IParameterWatcher, check_parameter
from binderkit.samgr.events.delivery import Task
from binderkit.samgr.profile_dir import write_private
from binderkit.samgr.reason import ReasonId

_log = logging.getLogger("binderkit.samgr")
FILE: Final = "parameters.json"
CONSTANT: Final = "const."
SWITCH: Final = "settingswitch."
MAX_PARAMETERS: Final = 1024
MAX_FILE: Final = 1024 * 1024


class ParameterService(IParameters):
    """The service behind system ability 0x10001.

    Args:
        file: where parameters are kept; None: nowhere.
        submit: how watchers are told on another thread; default: the driver's workers.
    """

    def __init__(self, file: Path | None = None, *, submit: Callable[[Task], object] | None = None) -> None:
        self._file = file
        self._audience: Audience[str] = Audience(submit)
        self._post: Post | None = None
        self._lock = threading.Lock()
        self._values = {} if file is None else _read(file)

    def start(self, post: Post) -> None:
        """Hand all parameters there are to ``post`` now, and every change from now on."""
        with self._lock:
            self._post = post
            values = dict(self._values)
        for name, value in values.items():
            _post_change(post, name, value)

    def close(self) -> None:
        """Drop all watchers; post nothing more."""
        self._post = None
        self._audience.close()

    def get(self, name: str, default: str = "") -> str:
        """Return a parameter; see IParameters."""
        check_parameter(name)
        return self._values.get(name, default)

    def set(self, name: str, value: str) -> None:
        """Set a parameter; see IParameters.

        Raises:
            ParamValueError: no parameter can have this name or value (401).
            RefusedError: the caller is another user, or the parameter is constant (303).
            QuotaError: there are 1024 parameters (29201).
        """
        check_parameter(name, value)
        caller = calling_identity()
        if not is_trusted(caller):
            raise RefusedError(f"uid {caller.uid} may not set {name}; only the device's own user sets parameters")
        with self._lock:
            before = self._values.get(name)
            if before == value:
                return
            self._check_change(name, before)
            values = {**self._values, name: value}
            if self._file is not None:
                write_private(self._file, json.dumps(values, indent=0, sort_keys=True).encode())
            self._values = values
            post = self._post
        self._audience.tell(lambda pattern: _covers(pattern, name), lambda target: target.on_changed(name, value))
        if post is not None:
            _post_change(post, name, value)

    def _check_change(self, name: str, before: str | None) -> None:
        if before is not None and name.startswith(CONSTANT):
            raise RefusedError(f"{name} is {before!r} for good: a parameter that begins with {CONSTANT!r} is set once")
        if before is None and len(self._values) >= MAX_PARAMETERS:
            raise QuotaError(f"there are {MAX_PARAMETERS} parameters, the most there may be")

    def list(self, prefix: str = "") -> dict[str, str]:
        """Return parameters; see IParameters."""
        return {name: value for name, value in sorted(self._values.items()) if name.startswith(prefix)}

    def watch(self, pattern: str, watcher: IParameterWatcher) -> None:
        """Add or change a watcher; see IParameters.

        Raises:
            ParamValueError: the pattern is neither a name nor the beginning of names with a * (401).
            QuotaError: the process has 256 watchers (29201).
        """
        plain = pattern.removesuffix("*").removesuffix(".")
        if plain or not pattern.endswith("*"):
            check_parameter(plain)
        self._audience.add(calling_identity(), watcher, pattern)

    def unwatch(self, watcher: IParameterWatcher) -> bool:
        """Drop a watcher; see IParameters."""
        return self._audience.remove(watcher)

    def on_dump(self, descriptor: int, arguments: Any) -> None:
        """Write all parameters, and how many watchers there are."""
        lines = [f"{name} = {value}\n" for name, value in self.list().items()]
        os.write(descriptor, "".join([*lines, f"watchers: {len(self._audience)}\n"]).encode())


def _covers(pattern: str, name: str) -> bool:
    return name.startswith(pattern[:-1]) if pattern.endswith("*") else name == pattern


def _post_change(post: Post, name: str, value: str) -> None:
    post(OnDemandEvent(ReasonId.PARAM, name, value))
    if name.startswith(SWITCH) and value in SWITCH_VALUES:
        post(OnDemandEvent(ReasonId.SETTING_SWITCH, name.removeprefix(SWITCH), value))


def _read(file: Path) -> dict[str, str]:
    """Return what is kept; a file that is damaged is put aside and told."""
    try:
        with file.open("rb") as kept:
            content = kept.read(MAX_FILE + 1)
    except FileNotFoundError:
        return {}
    try:
        values = json.loads(content)
        if not isinstance(values, dict) or len(values) > MAX_PARAMETERS:
            raise ValueError(f"expected up to {MAX_PARAMETERS} names with values")
        for name, value in values.items():
            if not isinstance(value, str):
                raise ValueError(f"the value of {name[:40]!r} is no text")
            check_parameter(name, value)
    except (ValueError, RecursionError, ParamError) as error:
        aside = file.with_suffix(".damaged")
        os.replace(file, aside)
        _log.error("the parameters in %s cannot be used and start empty; the file is %s now: %s", file, aside, error)
        return {}
    return values
