"""From a profile's entry to an object: "module:Class", "file.py:Class" or "file.py".

Owns: finding and making what a profile names. Only profiles, files of this device, get here; never a name that came
over a connection.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import threading
import zlib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from binderkit.errors import ServiceError
from binderkit.ipc.remote import IRemoteBroker, IRemoteObject
from binderkit.samgr import codes
from binderkit.samgr.system_ability import PublishedObject, SystemAbility

Maker = Callable[[], object]
_loading = threading.RLock()
"""Held while a file is executed: abilities start on threads of their own, and two may share a file."""


def load_entry(entry: str, directory: Path) -> Maker:
    """Return what makes the ability.

    Args:
        entry: "module:Class", "path/file.py:Class", or "path/file.py" with one SystemAbility in it.
        directory: where a relative path starts.

    Raises:
        ServiceError: there is no such module, class or file, or it fails when it is imported (1001).
    """
    place, _, attribute = entry.partition(":")
    try:
        module = _from_file(directory / place) if place.endswith(".py") else importlib.import_module(place)
    except (Exception, SystemExit) as error:
        raise ServiceError(
            f"the entry {entry!r} cannot be imported: {type(error).__name__}: {error}", code=codes.INVALID_INPUT
        ) from error
    found: Any = module
    if not attribute:
        return _only_ability(module, entry)
    for part in attribute.split("."):
        found = getattr(found, part, None)
    if not callable(found):
        raise ServiceError(
            f"the entry {entry!r} names no class: {module.__name__} has "
            f"{'nothing' if found is None else type(found).__name__} called {attribute!r}",
            code=codes.INVALID_INPUT,
        )
    return found  # type: ignore[no-any-return]


def make_ability(entry: str, maker: Maker) -> SystemAbility:
    """Return a new ability; an entry that makes a plain remote object becomes an ability that publishes it.

    Raises:
        ServiceError: it makes something else (1022). Whatever the class itself raises.
    """
    made = maker()
    if isinstance(made, SystemAbility):
        return made
    if isinstance(made, (IRemoteObject, IRemoteBroker)):
        return PublishedObject(made)
    raise ServiceError(
        f"the entry {entry!r} made {made!r}; a SystemAbility or a remote object was expected",
        code=codes.ABILITY_OBJECT_NULL,
    )


def _from_file(path: Path) -> ModuleType:
    path = path.resolve()
    # Under a name of its own: a file called json.py must not become everybody's json.
    name = f"binderkit_entry_{path.stem}_{zlib.crc32(bytes(path)):x}"
    with _loading:
        known = sys.modules.get(name)
        if known is None:
            known = _executed(name, path)
        return known


def _executed(name: str, path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _only_ability(module: ModuleType, entry: str) -> Maker:
    found = [
        value
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, SystemAbility) and value.__module__ == module.__name__
    ]
    if len(found) != 1:
        names = ", ".join(kind.__name__ for kind in found) or "none"
        raise ServiceError(
            f"the entry {entry!r} names no class, and the file defines {len(found)} system abilities ({names}); "
            f"write '{entry}:Class'",
            code=codes.INVALID_INPUT,
        )
    return found[0]
